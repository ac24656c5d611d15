//! Memory sizes as people write them: `512M`, `2G`, `64k`; a bare number is MiB, as for QEMU.

/// Bytes, or what is wrong with the text.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no memory size: write 512M or 2G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = text[digits.len()..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "k" => 10,
        "" | "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// The shortest exact form in K, M or G.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse("2G"), Ok(2 << 30));
        assert_eq!(parse("512"), Ok(512 << 20));
        assert_eq!(parse("64KiB"), Ok(64 << 10));
        assert_eq!(parse("1mb"), Ok(1 << 20));
        for wrong in ["", "G", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_shown_size_reads_back_as_itself() {
        for bytes in [4096, 1 << 20, 3 << 29, 7 << 30] {
            assert_eq!(parse(&show(bytes)), Ok(bytes));
        }
    }
}
