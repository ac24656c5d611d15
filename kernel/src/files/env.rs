//! What the file layer asks of the kernel: clock, entropy, who is calling.

use crate::task::current;
use crate::task::process::limit;
use core::sync::atomic::Ordering;
use fs::Cap;
use fs::env::{Env, Ucred};

/// Registered once at boot.
pub struct Environment;

impl Env for Environment {
    fn realtime(&self) -> i64 {
        (hal::time::wall_base() + hal::time::now()) as i64
    }
    fn entropy(&self, out: &mut [u8]) {
        crate::random::fill(out);
    }
    fn ucred(&self) -> Ucred {
        let task = current();
        let creds = task.credentials();
        Ucred { pid: task.pid() as u32, uid: creds.euid, gid: creds.egid }
    }
    fn file_size_limit(&self) -> u64 {
        current().process.soft_limit(limit::FSIZE)
    }
    fn capable(&self, cap: Cap) -> bool {
        crate::creds::capable(cap)
    }
    fn in_group(&self, gid: u32) -> bool {
        current().credentials().fs.in_group(gid)
    }
    fn flight_limit(&self) -> (u32, u64) {
        let task = current();
        let creds = task.credentials();
        let beyond = creds.has(Cap::SysResource as u32) || creds.has(Cap::SysAdmin as u32);
        let limit = if beyond { u64::MAX } else { task.process.soft_limit(limit::NOFILE) };
        (creds.uid, limit)
    }
    fn credentials_id(&self) -> u64 {
        current().creds_id.load(Ordering::Relaxed)
    }
    fn is_process(&self, pid: u32) -> bool {
        i32::try_from(pid).is_ok_and(|pid| crate::task::table::task(pid).is_some())
    }
    fn broken_pipe(&self) {
        crate::signal::pipe();
    }
    fn log(&self, priority: u32, line: &[u8]) {
        crate::console::user_message(priority, line);
    }
}
