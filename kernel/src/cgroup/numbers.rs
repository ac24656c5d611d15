//! Numbers as the files take them.

use abi::{Errno, Result};

/// A number as kstrtoint with base 0 reads it: decimal, octal after 0, hexadecimal after 0x. EINVAL,
/// ERANGE beyond 32 bits.
pub fn integer(text: &str) -> Result<i32> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.get(..2).map(str::as_bytes);
    let (digits, base) = match lower {
        Some([b'0', b'x' | b'X']) => (&digits[2..], 16),
        Some([b'0', _]) => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|b| (b as char).is_digit(base)) {
        return Err(Errno::EINVAL);
    }
    let value = i64::from_str_radix(digits, base).map_err(|_| Errno::ERANGE)?;
    let value = if negative { -value } else { value };
    i32::try_from(value).map_err(|_| Errno::ERANGE)
}

/// A limit: "max" is none. EINVAL; ERANGE for what is less than nothing.
pub fn limit(text: &str) -> Result<Option<u32>> {
    if text == "max" {
        return Ok(None);
    }
    // Linux's own largest number is no limit, too.
    let most = |n: u32| (n != i32::MAX as u32).then_some(n);
    u32::try_from(integer(text)?).map(most).map_err(|_| Errno::ERANGE)
}
