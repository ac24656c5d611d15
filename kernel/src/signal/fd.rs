//! signalfd(2): the running task's signals as its descriptors take them.

use super::pending_for;
use crate::task::current;
use alloc::sync::Arc;
use fs::signalfd::{INFO_SIZE, SignalHooks};
use sync::WaitQueue;

struct Hooks;

impl SignalHooks for Hooks {
    fn take(&self, mask: u64) -> Option<[u8; INFO_SIZE]> {
        super::deliver::take(mask).map(|info| info.as_signalfd())
    }
    fn pending(&self, mask: u64) -> bool {
        pending_for(&current()) & mask != 0
    }
    fn queue(&self) -> Arc<WaitQueue> {
        current().process.signals.arrivals.clone()
    }
}

/// Tells the file layer, once at boot.
pub fn register() {
    fs::signalfd::register(&Hooks);
}
