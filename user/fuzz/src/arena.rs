//! Where sequences work: one range of addresses, the same in every process on every kernel.
//!
//! Eight regions of 64 MiB, far above a static program and far below the stack and what mmap
//! chooses by itself. An address is written `@REGION+PAGE`, or `@REGION+PAGE.BYTE`.

pub const PAGE: u64 = 4096;
pub const START: u64 = 0x10_0000_0000;
pub const REGIONS: u64 = 8;
pub const REGION: u64 = 64 << 20;
pub const END: u64 = START + REGIONS * REGION;

/// The block that all workers share ([`crate::worker`]).
pub const CONTROL: u64 = 0x20_0000_0000;

pub const fn at(region: u64, page: u64) -> u64 {
    START + region * REGION + page * PAGE
}

pub fn holds(address: u64) -> bool {
    (START..END).contains(&address)
}

/// The part of `[at, at + len)` that lies in the arena, as a start and a number of pages.
pub fn clip(at: u64, len: u64) -> Option<(u64, u64)> {
    let end = at.checked_add(len)?.min(END);
    let start = (at & !(PAGE - 1)).max(START);
    (start < end).then(|| (start, (end - start).div_ceil(PAGE)))
}

/// Reads `@REGION+PAGE[.BYTE]`.
pub fn parse(text: &str) -> Option<u64> {
    let (region, rest) = text.strip_prefix('@')?.split_once('+')?;
    let (page, byte) = rest.split_once('.').unwrap_or((rest, "0"));
    let byte: u64 = byte.parse().ok()?;
    Some(at(region.parse().ok()?, page.parse().ok()?) + byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_clipped() {
        assert_eq!(parse("@1+2"), Some(at(1, 2)));
        assert_eq!(parse("@0+0.7"), Some(START + 7));
        assert_eq!(parse("1+2"), None);
        assert_eq!(clip(at(0, 1) + 1, PAGE), Some((at(0, 1), 2)));
        assert_eq!(clip(0, START), None);
        assert_eq!(clip(END - PAGE, 1 << 46), Some((END - PAGE, 1)));
    }
}
