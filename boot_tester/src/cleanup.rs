//! Leaving no traces when the tool is interrupted or ends early: temporary directories go, the terminal comes back.
//! (Guests end by themselves: they die with their starting thread, see guest/session.rs.)

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
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

/// A directory that goes when this value does, or when the tool is interrupted; where the tool could do
/// neither (SIGKILL, a host that went down), with the next one that somebody makes.
pub struct WorkDir {
    dir: tempfile::TempDir,
    /// The directory, locked (flock(2)) for as long as the tool lives: that tells it from one that was
    /// left behind, also where processes do not see each other.
    _lock: Option<File>,
}

const PREFIX: &str = "proxima-work-";
/// What a directory holds that is to stay.
const KEPT: &str = "kept";
/// Younger directories may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

impl WorkDir {
    pub fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir(), YOUNG));
        let dir =
            tempfile::Builder::new().prefix(PREFIX).tempdir().context("temporary directory")?;
        pending().dirs.push(dir.path().into());
        let lock = File::open(dir.path()).ok();
        let lock = lock.filter(|dir| flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        Ok(Self { dir, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory in place for good.
    pub fn keep(self) -> PathBuf {
        let path = self.dir.path().to_path_buf();
        // Without this it goes with a later run.
        let _ = File::create(path.join(KEPT));
        pending().dirs.retain(|dir| *dir != path);
        self.dir.keep()
    }
}

/// Removes the directories of tools that are gone.
fn sweep(temp: &Path, young: Duration) {
    let Ok(entries) = std::fs::read_dir(temp) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) || path.join(KEPT).exists() {
            continue;
        }
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        let old = age.is_ok_and(|age| age.is_ok_and(|age| age >= young));
        // Another user's can be neither locked nor removed, or at least not removed.
        let locked = |dir: File| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok();
        if old && File::open(&path).is_ok_and(locked) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_tool_left_goes_and_what_lives_or_is_kept_stays() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = temp.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let dead = make("proxima-work-dead");
        let alive = make("proxima-work-alive");
        let kept = make("proxima-work-kept");
        let other = make("proxima-other");
        std::fs::write(dead.join("image.cpio"), "x").unwrap();
        std::fs::write(kept.join(KEPT), "").unwrap();
        let lock = File::open(&alive).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        sweep(temp.path(), YOUNG);
        assert!(dead.exists());
        sweep(temp.path(), Duration::ZERO);
        assert!(!dead.exists() && alive.exists() && kept.exists() && other.exists());
    }

    #[test]
    fn a_directory_of_this_tool_is_locked_and_goes_with_its_value() {
        let work = WorkDir::new().unwrap();
        let path = work.path().to_path_buf();
        let other = File::open(&path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(work);
        assert!(!path.exists());
    }
}
