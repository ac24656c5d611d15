//! Futexes.

use crate::task::current;
use core::sync::atomic::Ordering;
use hal::VirtAddr;

/// A thread ends: its robust futexes are marked and its id is cleared and woken.
pub fn on_thread_exit() {
    let task = current();
    let clear = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if clear != 0 {
        let _ = hal::user::write(VirtAddr::new(clear), &0u32);
    }
}
