//! Job control as terminals ask for it.

use super::{send, stop};
use crate::task::{current, table};
use alloc::sync::Arc;
use fs::tty::{Job, Tty, TtyHooks};

struct Hooks;

impl TtyHooks for Hooks {
    fn current(&self) -> Job {
        let process = &current().process;
        let place = process.place.lock();
        Job {
            session: place.sid as u32,
            group: place.pgid as u32,
            leader: place.sid == process.pid && process.pid != 0,
        }
    }
    fn signal_group(&self, group: u32, signal: u32) {
        send::kernel_to_group(group as i32, signal as i32);
    }
    fn signal_leader(&self, session: u32, signal: u32) {
        if let Some(leader) = table::process(session as i32) {
            send::send_kernel(&leader, signal as i32);
        }
    }
    fn is_orphaned(&self, group: u32) -> bool {
        stop::is_orphaned(group as i32)
    }
    fn ignores(&self, signal: u32) -> bool {
        super::blocks_or_ignores(&current(), signal as i32)
    }
    fn session_of(&self, group: u32) -> Option<u32> {
        let member = table::group(group as i32).next()?;
        let sid = member.place.lock().sid;
        Some(sid as u32)
    }
    fn defer(&self, tty: &Arc<Tty>) {
        crate::time::worker::push_tty(tty);
    }
}

/// Tells the terminals, once at boot.
pub fn register() {
    fs::tty::register_hooks(&Hooks);
}
