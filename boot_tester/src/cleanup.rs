//! Leaving no traces when the tool is interrupted or ends early: temporary directories go, the terminal comes back.
//! (Guests end by themselves: they die with their starting thread, see guest/session.rs.)

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Context, Result};

struct Pending {
    dirs: Vec<PathBuf>,
    terminal: Option<Termios>,
}

static PENDING: Mutex<Pending> = Mutex::new(Pending { dirs: Vec::new(), terminal: None });

fn pending() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts to wait for SIGINT, SIGTERM and SIGHUP; the tool then ends as a shell expects, with 128
/// plus the signal's number.
pub fn install() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            leave(128 + signal);
        }
    });
}

/// Ends the tool from wherever it is: what destructors would have done is done first.
pub fn leave(code: i32) -> ! {
    restore_terminal();
    for dir in pending().dirs.drain(..) {
        let _ = std::fs::remove_dir_all(dir);
    }
    std::process::exit(code)
}

/// The terminal's state to come back to; None once it is back.
pub fn keep_terminal(state: Option<Termios>) {
    pending().terminal = state;
}

pub fn restore_terminal() {
    if let Some(state) = pending().terminal.take() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &state);
    }
}

/// A directory that goes when this value does, or when the tool is interrupted.
pub struct WorkDir(tempfile::TempDir);

impl WorkDir {
    pub fn new() -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("proxima-").tempdir().context("temporary directory")?;
        pending().dirs.push(dir.path().into());
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves the directory in place for good.
    pub fn keep(self) -> PathBuf {
        let path = self.0.path().to_path_buf();
        pending().dirs.retain(|dir| *dir != path);
        // Taking the path out disarms the destructor of the inner value.
        let Self(inner) = self;
        inner.keep()
    }
}
