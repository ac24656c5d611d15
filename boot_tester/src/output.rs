//! Standard output and standard error that may be closed or full: `print!` and its kin of the standard
//! library panic there, these end the tool in order (and stand in front of those in every module).

use std::fmt;
use std::io::{self, ErrorKind, Write, stderr, stdout};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, write};

use crate::cleanup;
use crate::error::BROKEN;

/// What a shell says of a program that SIGPIPE ended: whoever read the output has gone.
pub const NO_READER: u8 = 128 + 13;

macro_rules! print {
    ($($words:tt)*) => { $crate::output::print(format_args!($($words)*)) };
}

macro_rules! println {
    () => { $crate::output::print(format_args!("\n")) };
    ($($words:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($words)*)))
    };
}

macro_rules! eprint {
    ($($words:tt)*) => { $crate::output::eprint(format_args!($($words)*)) };
}

macro_rules! eprintln {
    ($($words:tt)*) => {
        $crate::output::eprint(format_args!("{}\n", format_args!($($words)*)))
    };
}

/// Writes to standard output; ends the tool where that is impossible.
pub fn print(words: fmt::Arguments) {
    let mut out = stdout().lock();
    let Err(error) = out.write_fmt(words).and_then(|()| out.flush()) else { return };
    let code = match error.kind() {
        ErrorKind::BrokenPipe => NO_READER,
        _ => {
            eprintln!("proxima: standard output: {error}");
            BROKEN
        }
    };
    cleanup::leave(code.into())
}

/// Writes to standard error; nobody is left to hear of its failure.
pub fn eprint(words: fmt::Arguments) {
    let _ = stderr().lock().write_fmt(words);
}

/// What a pipe takes without blocking when it is ready (PIPE_BUF).
const PIPE_TAKES: usize = 4096;

/// Writes `bytes` to where it may be that nobody reads: `TimedOut` when that lasts until `deadline`.
pub fn pass_on(to: impl AsFd, mut bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut piece = bytes;
        if deadline.is_some() {
            wait_for_room(to.as_fd(), deadline)?;
            piece = &bytes[..bytes.len().min(PIPE_TAKES)];
        }
        match write(&to, piece) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(to.as_fd(), deadline)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for_room(to: impl AsFd, deadline: Option<Instant>) -> io::Result<()> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| left.try_into().ok());
    match poll(&mut [PollFd::new(&to, PollFlags::OUT)], left.as_ref()) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    #[test]
    fn what_nobody_reads_is_waited_for_until_the_deadline() {
        let (mut from, to) = io::pipe().unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = pass_on(&to, &[7; 1 << 20], Some(deadline)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
        drop(to);
        let mut read = Vec::new();
        from.read_to_end(&mut read).unwrap();
        assert!(!read.is_empty() && read.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn all_bytes_go_to_who_reads_late_also_without_blocking() {
        for deadline in [None, Some(Instant::now() + Duration::from_secs(600))] {
            let (mut from, to) = io::pipe().unwrap();
            rustix::fs::fcntl_setfl(&to, rustix::fs::OFlags::NONBLOCK).unwrap();
            let bytes: Vec<u8> = (0..1 << 20).map(|n| (n / 7) as u8).collect();
            let reader = std::thread::spawn(move || {
                let mut read = Vec::new();
                from.read_to_end(&mut read).map(|_| read)
            });
            pass_on(&to, &bytes, deadline).unwrap();
            drop(to);
            assert!(reader.join().unwrap().unwrap() == bytes);
        }
    }

    #[test]
    fn nobody_left_to_read_is_no_timeout() {
        let (from, to) = io::pipe().unwrap();
        drop(from);
        let error = pass_on(&to, b"x", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
