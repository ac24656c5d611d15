//! Mount options of tmpfs.

use super::MEMORY;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering::Relaxed;
use vm::transparent::shared::Huge;

/// Parsed options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Limit in pages; `u64::MAX` is none.
    pub pages: u64,
    /// A limit was given.
    pub sized: bool,
    /// Limit of inodes; `u64::MAX` is none.
    pub inodes: u64,
    /// Permission bits of the root.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Which pages are huge, and whether that was said.
    pub huge: Huge,
    pub chosen: bool,
    /// Of hugetlbfs: its share of the pool.
    pub share: Option<u64>,
    /// As /proc/mounts shows them, with a leading comma.
    pub text: String,
}

impl Options {
    /// No limits.
    pub fn unlimited() -> Self {
        Self {
            pages: u64::MAX,
            sized: false,
            inodes: u64::MAX,
            mode: 0o1777,
            uid: 0,
            gid: 0,
            huge: Huge::Never,
            chosen: false,
            share: None,
            text: String::new(),
        }
    }

    /// EINVAL for an unknown option or a bad value.
    pub fn parse(options: &str) -> Result<Self> {
        let half = MEMORY.load(Relaxed) / 2 / PAGE_SIZE as u64;
        let mut out = Self { pages: half, inodes: half, ..Self::unlimited() };
        for word in options.split(',').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "size" => {
                    out.pages = match value.strip_suffix('%') {
                        Some(percent) => {
                            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
                            let memory = MEMORY.load(Relaxed);
                            memory.saturating_mul(percent) / 100 / PAGE_SIZE as u64
                        }
                        None => number(value)?.div_ceil(PAGE_SIZE as u64),
                    };
                    out.sized = true;
                }
                "nr_blocks" => {
                    out.pages = number(value)?;
                    out.sized = true;
                }
                "nr_inodes" => out.inodes = number(value)?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    out.mode = mode & 0o7777;
                }
                "uid" => out.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => out.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                "huge" => {
                    out.huge = match value {
                        "never" => Huge::Never,
                        "always" => Huge::Always,
                        "within_size" => Huge::WithinSize,
                        "advise" => Huge::Advise,
                        _ => return Err(Errno::EINVAL),
                    };
                    out.chosen = true;
                }
                // There is no swap anyway, and inode numbers are 64 bits wide.
                "noswap" | "inode64" | "inode32" if value.is_empty() => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        // 0 means no limit.
        if out.sized {
            if out.pages == 0 {
                out.pages = u64::MAX;
            } else {
                out.text = format!(",size={}k", out.pages * (PAGE_SIZE as u64 / 1024));
            }
        }
        if out.inodes == 0 {
            out.inodes = u64::MAX;
        }
        if out.mode != 0o1777 {
            out.text.push_str(&format!(",mode={:o}", out.mode));
        }
        out.text.push_str(match out.huge {
            Huge::Always => ",huge=always",
            Huge::WithinSize => ",huge=within_size",
            Huge::Advise => ",huge=advise",
            _ => "",
        });
        Ok(out)
    }
}

/// A number with an optional K, M, G, T suffix (powers of 1024).
pub(super) fn number(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let value: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    value.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes_and_percents() {
        let o = Options::parse("size=16k,mode=700,uid=5").expect("valid");
        assert_eq!((o.pages, o.mode, o.uid), (4, 0o700, 5));
        assert_eq!(o.text, ",size=16k,mode=700");
        assert_eq!(Options::parse("size=5000").map(|o| o.pages), Ok(2));
        assert_eq!(Options::parse("nr_inodes=0").map(|o| o.inodes), Ok(u64::MAX));
        assert!(Options::parse("size=100%").is_ok_and(|o| o.pages > 0));
        for bad in
            ["size=", "size=x", "bogus", "size=99999999999999999999", "mode=9", "size=9999999999T"]
        {
            assert_eq!(Options::parse(bad), Err(Errno::EINVAL), "{bad}");
        }
    }
}
