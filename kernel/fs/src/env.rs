//! What this crate asks of the kernel above: the clock, entropy, and who is calling.
//!
//! The kernel registers one [`Env`] at boot; on the host a stand-in with the host's clock answers.

use crate::Cap;
use sync::Once;

/// Who is on the calling end of a socket: `struct ucred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ucred {
    /// Process id.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// The kernel as seen by the file layer.
pub trait Env: Sync {
    /// Wall-clock time, nanoseconds since 1970. Coarse (tick) precision will do; must be cheap.
    fn realtime(&self) -> i64;
    /// Fills `out` from the machine's entropy source (RDSEED/RDRAND, boot seed, timing).
    fn entropy(&self, out: &mut [u8]);
    /// Process and effective ids of the running task.
    fn ucred(&self) -> Ucred;
    /// RLIMIT_FSIZE of the running task in bytes. A write that would pass it fails with EFBIG.
    fn file_size_limit(&self) -> u64 {
        u64::MAX
    }
    /// Returns whether the running task has a capability.
    fn capable(&self, _cap: Cap) -> bool {
        true
    }
    /// Returns whether the running task is in a group, with its ids for file access.
    fn in_group(&self, _gid: u32) -> bool {
        true
    }
    /// Returns the running task's real user, and how many descriptors that may have in flight:
    /// RLIMIT_NOFILE, or any number with CAP_SYS_RESOURCE or CAP_SYS_ADMIN.
    fn flight_limit(&self) -> (u32, u64) {
        (0, u64::MAX)
    }
    /// Returns what tells the running task's credentials from all others: a change of them, a fork
    /// and an exec make new ones.
    fn credentials_id(&self) -> u64 {
        0
    }
    /// Returns whether a process has this id.
    fn is_process(&self, _pid: u32) -> bool {
        true
    }
    /// A write that was begun found its reader gone: SIGPIPE for the running task, which is told
    /// how much was written all the same.
    fn broken_pipe(&self) {}
    /// A line written to /dev/kmsg: `priority` is facility * 8 + level.
    fn log(&self, priority: u32, line: &[u8]);
}

static ENV: Once<&'static dyn Env> = Once::new();

/// Registers the kernel, once, before the first file operation.
pub fn register(env: &'static dyn Env) {
    ENV.get_or_init(|| env);
}

/// The registered environment.
#[cfg(target_os = "none")]
#[inline]
pub fn env() -> &'static dyn Env {
    *ENV.get().expect("file operation before the environment is registered")
}

/// The registered environment, or the host's.
#[cfg(not(target_os = "none"))]
pub fn env() -> &'static dyn Env {
    *ENV.get_or_init(|| &host::Host)
}

/// Wall-clock time, nanoseconds since 1970.
#[inline]
pub fn now() -> i64 {
    env().realtime()
}

#[cfg(not(target_os = "none"))]
mod host {
    use super::{Env, Ucred};
    use std::time::{SystemTime, UNIX_EPOCH};

    /// The host's clock and process.
    pub(super) struct Host;

    impl Env for Host {
        fn realtime(&self) -> i64 {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
        }
        fn entropy(&self, out: &mut [u8]) {
            // Tests need distinct bytes, not secrets.
            let mut state = self.realtime() as u64 | 1;
            for byte in out {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
        }
        fn ucred(&self) -> Ucred {
            Ucred { pid: std::process::id(), uid: 0, gid: 0 }
        }
        fn log(&self, priority: u32, line: &[u8]) {
            std::eprintln!("<{priority}>{}", alloc::string::String::from_utf8_lossy(line));
        }
    }
}
