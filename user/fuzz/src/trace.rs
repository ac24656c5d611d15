//! The line that an operation leaves, put together without a heap.

use std::fmt::{self, Write};

use crate::sys::failed;

/// Text in a buffer of fixed size; what does not fit is cut off.
pub struct Line<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Line<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds text; it cannot fail.
    pub fn put(&mut self, text: fmt::Arguments<'_>) {
        let _ = self.write_fmt(text);
    }

    /// A call's result: an errno's name, or `ok`.
    pub fn outcome(&mut self, result: i64) {
        if failed(result) {
            self.put(format_args!("{}", Errno(result)));
        } else {
            self.put(format_args!("ok"));
        }
    }

    /// A call's result where the number counts.
    pub fn value(&mut self, result: i64) {
        if failed(result) {
            self.put(format_args!("{}", Errno(result)));
        } else {
            self.put(format_args!("{result}"));
        }
    }

    /// `1x4,0x2`: each value with the number of times it follows itself.
    pub fn runs(&mut self, list: &[i32]) {
        let mut rest = list;
        let mut first = true;
        while let Some(&value) = rest.first() {
            let count = rest.iter().take_while(|own| **own == value).count();
            let comma = if first { "" } else { "," };
            match count {
                1 => self.put(format_args!("{comma}{value}")),
                _ => self.put(format_args!("{comma}{value}x{count}")),
            }
            first = false;
            rest = &rest[count..];
        }
    }
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.buffer.len() - self.length;
        let taken = text.len().min(room);
        self.buffer[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// Minus an errno, by its name.
pub struct Errno(pub i64);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match -self.0 as i32 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EIO => "EIO",
            libc::E2BIG => "E2BIG",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::EINVAL => "EINVAL",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::ENOSYS => "ENOSYS",
            other => return write!(f, "E{other}"),
        };
        f.write_str(name)
    }
}

/// FNV-1a, 64 bits: what lines are compared by.
pub fn digest(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_results_and_runs_and_are_cut_at_their_end() {
        let mut buffer = [0; 24];
        let mut line = Line::new(&mut buffer);
        line.outcome(-22);
        line.put(format_args!(" "));
        line.runs(&[1, 1, -2, 3, 3, 3]);
        line.put(format_args!(" and much more than fits"));
        assert_eq!(line.len(), 24);
        assert_eq!(&buffer, b"EINVAL 1x2,-2,3x3 and mu");
    }
}
