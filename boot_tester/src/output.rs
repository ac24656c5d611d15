//! Standard output and standard error that may be closed or full: `print!` and its kin of the standard
//! library panic there, these end the tool in order (and stand in front of those in every module).

use std::fmt;
use std::io::{ErrorKind, Write, stderr, stdout};

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
