//! A dead process's memory, kept until it is reaped, for whoever wants to see where its pages lay
//! in the end (/proc/PID/keep_memory).

use alloc::sync::Arc;
use alloc::vec::Vec;
use numa::policy::Policy;
use sync::SpinLock;
use vm::Mm;

/// The address space as the last thread left it, with that thread's policy.
pub struct KeptMemory {
    pub mm: Arc<Mm>,
    pub policy: Option<Policy>,
}

impl KeptMemory {
    /// Counts as one more user of `mm`, so that its pages stay.
    pub fn new(mm: &Arc<Mm>, policy: Option<Policy>) -> Self {
        mm.join();
        Self { mm: mm.clone(), policy }
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        self.mm.quit();
    }
}

/// Of reaped processes: reaping holds a lock under which memory cannot be freed.
static DISCARDED: SpinLock<Vec<KeptMemory>> = SpinLock::new(Vec::new());

/// Hands memory over for [`free_discarded`].
pub fn discard(kept: KeptMemory) {
    DISCARDED.lock().push(kept);
}

/// Frees what was handed over. May sleep.
pub fn free_discarded() {
    let discarded = core::mem::take(&mut *DISCARDED.lock());
    drop(discarded);
}
