//! Memory is out: the kernel above makes room, or the reserve helps.
//!
//! An allocation of the heap that finds nothing asks the kernel above to make room, which it does
//! by ending a process, if the running task may sleep. Otherwise the allocation takes from the part
//! of the reserve that nothing else may use, and the kernel above is told, so that it makes room
//! before the task goes back to user mode: what a task takes so is bounded by one system call.

use sync::Once;

/// The kernel above.
pub trait Relief: Sync {
    /// Makes room for `bytes` more, or waits until others have; `tries` is how often this
    /// allocation has asked. False when the caller must not wait, or in vain.
    fn make_room(&self, bytes: usize, tries: u32) -> bool;
    /// The running task has used the reserve.
    fn emergency_used(&self);
    /// Makes every CPU forget passing translations of the kernel's half. False when the caller
    /// must not wait for them.
    fn flush_all_cpus(&self) -> bool;
}

static RELIEF: Once<&'static dyn Relief> = Once::new();

/// Registers the kernel above, once, when there are tasks.
pub fn register(relief: &'static dyn Relief) {
    RELIEF.get_or_init(|| relief);
}

pub(crate) fn make_room(bytes: usize, tries: u32) -> bool {
    RELIEF.get().is_some_and(|relief| relief.make_room(bytes, tries))
}

pub(crate) fn note_emergency() {
    if let Some(relief) = RELIEF.get() {
        relief.emergency_used();
    }
}

#[cfg(target_os = "none")]
pub(crate) fn flush_all_cpus() -> bool {
    RELIEF.get().is_some_and(|relief| relief.flush_all_cpus())
}
