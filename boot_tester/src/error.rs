//! How the tool itself fails: one line for the person, one exit code for the script.
//!
//! Codes follow the habits of timeout(1), env(1) and container runtimes: 2 for a wrong request, 124 for a
//! time limit, 125 for a failure of the tool or the guest kernel, so that they are told apart from
//! the program's own status.

use std::fmt;

pub const USAGE: u8 = 2;
pub const TIMEOUT: u8 = 124;
pub const BROKEN: u8 = 125;

/// A failure: `message` is complete as it stands, without a final full stop.
#[derive(Debug)]
pub struct Fail {
    pub code: u8,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Fail>;

impl Fail {
    /// The request cannot be met as it was made.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// The tool, the build, QEMU or the guest kernel failed.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { code: BROKEN, message: message.into() }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Attaches what was being done to an I/O error.
pub trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Fail::broken(format!("{what}: {error}")))
    }
}
