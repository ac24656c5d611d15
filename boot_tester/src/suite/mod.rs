//! Test suites: names, verdicts, and the loop that runs them in guests and lets no crash or hang
//! take the other tests along.
//!
//! A [`Suite`] says what its tests are called and what is in its image, and reads verdicts off the
//! guest's output; [`runner`] boots, watches and boots again; [`report`] counts and compares.

pub mod dir;
pub mod fuzz;
pub mod guest_tests;
pub mod host;
pub mod junit;
pub mod lines;
pub mod repeat;
pub mod report;
pub mod runner;
pub mod traffic;

use std::path::Path;

use crate::error::Result;
use crate::guest::machine::Clock;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The first line is the reason, more may follow (a console's end).
    Fail(String),
    Skip(String),
}

impl Verdict {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Fail(_) => "FAIL",
            Self::Skip(_) => "skip",
        }
    }
}

/// One test's end on one kernel and topology.
#[derive(Clone, Debug)]
pub struct Record {
    pub test: String,
    pub kernel: String,
    pub topology: String,
    pub verdict: Verdict,
    pub millis: u64,
    /// What the program said about its parts (TAP or LTP lines), to be compared between kernels.
    pub parts: Vec<(String, &'static str)>,
}

impl Record {
    /// What stands before `::`, or the whole name.
    pub fn suite(&self) -> &str {
        suite_of(&self.test)
    }
}

pub fn suite_of(test: &str) -> &str {
    test.split("::").next().unwrap_or(test)
}

/// What a reader makes of the guest's output.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Start(String),
    Done { test: String, verdict: Verdict, millis: u64, parts: Vec<(String, &'static str)> },
}

/// Turns the bytes of ttyS1 into steps.
pub trait Reader {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Step>;
}

/// What tests need to find what they are about; those that need the same share a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// A word for the kernel's command line.
    pub word: Option<&'static str>,
    pub clock: Clock,
}

impl Default for Needs {
    fn default() -> Self {
        Self { word: None, clock: Clock::Wall }
    }
}

pub trait Suite: Sync {
    /// Writes the image of a guest that runs exactly `tests`, in that order.
    fn image(&self, tests: &[String], to: &Path) -> Result<()>;
    /// What a test needs of the machine on one of our kernels.
    fn needs(&self, _test: &str) -> Needs {
        Needs::default()
    }
    fn reader(&self) -> Box<dyn Reader>;
    /// The arguments of `proxima test` that select one test again.
    fn repeat(&self, test: &str) -> String;
}
