//! What the coordinator and all workers share: the operations at hand, whose turn it is, the lines
//! that were left, and who lives.
//!
//! The block lies at [`arena::CONTROL`] in all of them; a worker that executes a new program finds
//! it again through a descriptor that stays open.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

use crate::ops::{Op, WORKERS};
use crate::sys::{failed, sys};
use crate::{arena, pool};

/// The block's descriptor, above those that sequences use.
const CONTROL_FD: i32 = 700;
/// Objects are descriptors from here on.
pub const OBJECT_FD: u64 = 600;
/// A System V object's id stands in [`Shared::segments`].
pub const OBJECTS: usize = 4;
/// Operations that the block holds at a time: a sequence of the generator's.
pub const BATCH: usize = 64;
/// A line's longest text.
const LINE: usize = 3 << 10;

pub struct Slot {
    /// 1 when it is this worker's turn; the futex that it sleeps on.
    pub go: AtomicU32,
    /// 1 once it waits for its turn for the first time.
    pub ready: AtomicU32,
    /// The thread's id while it lives; the kernel clears it at the end of a thread.
    pub alive: AtomicU32,
    /// The process that the worker is, or is a thread of; 0 when there is no such worker.
    pub process: AtomicI32,
    pub home: AtomicU32,
}

/// What all may use at any time.
pub struct Shared {
    pub slots: [Slot; WORKERS],
    /// Ids of System V segments plus one, by object.
    pub segments: [AtomicI32; OBJECTS],
    /// Set once the sequence has forked: pages may be shared (see `settle` in execute.rs).
    pub forked: AtomicU32,
    /// Set once the sequence has set the pool of huge pages: it is told after each operation.
    pub pooled: AtomicU32,
    /// How many operations there are, and which is at hand.
    pub count: AtomicU32,
    pub at: AtomicU32,
}

/// What belongs to whoever has the turn.
pub struct Desk {
    ops: [Op; BATCH],
    /// Where each line ends in `text`.
    ends: [u32; BATCH],
    text: [u8; BATCH * LINE],
}

#[repr(C)]
struct Block {
    shared: Shared,
    desk: Desk,
}

pub fn shared() -> &'static Shared {
    // SAFETY: mapped by every process of the fuzzer before it gets here, and never unmapped; atomics
    // only.
    unsafe { &(*(arena::CONTROL as *const Block)).shared }
}

pub fn slot(number: usize) -> &'static Slot {
    &shared().slots[number]
}

/// The desk, for as long as `use_it` takes.
fn at_desk<T>(use_it: impl FnOnce(&mut Desk) -> T) -> T {
    // SAFETY: mapped as for `shared`. One worker or the coordinator has the turn at a time, and only
    // who has it comes here; the turn is handed over with release and acquire.
    use_it(unsafe { &mut (*(arena::CONTROL as *mut Block)).desk })
}

/// The operation at hand; None after the last one.
pub fn current() -> Option<Op> {
    let at = shared().at.load(SeqCst) as usize;
    (at < shared().count.load(SeqCst) as usize).then(|| at_desk(|desk| desk.ops[at]))
}

/// Lays down the next operations, at most [`BATCH`].
pub fn lay(ops: &[Op]) {
    at_desk(|desk| desk.ops[..ops.len()].copy_from_slice(ops));
    shared().at.store(0, SeqCst);
    shared().count.store(ops.len() as u32, SeqCst);
}

/// The line of the operation at hand: `write` says how much of the room it took. Then the next
/// operation is at hand.
pub fn answer(write: impl FnOnce(&mut [u8]) -> usize) {
    let at = shared().at.load(SeqCst) as usize;
    at_desk(|desk| {
        let start = at.checked_sub(1).map_or(0, |last| desk.ends[last] as usize);
        desk.ends[at] = (start + write(&mut desk.text[start..start + LINE])) as u32;
    });
    shared().at.store(at as u32 + 1, SeqCst);
}

/// The line of the `at`th operation, once it is carried out.
pub fn line(at: usize) -> String {
    at_desk(|desk| {
        let start = at.checked_sub(1).map_or(0, |last| desk.ends[last] as usize);
        String::from_utf8_lossy(&desk.text[start..desk.ends[at] as usize]).into_owned()
    })
}

/// Maps the block from its descriptor; false when that is not to be had.
pub fn attach() -> bool {
    let bytes = size_of::<Block>();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let at = sys!(libc::SYS_mmap, arena::CONTROL, bytes, prot, flags, CONTROL_FD, 0);
    at == arena::CONTROL as i64
}

/// Makes the block and maps it, in the coordinator.
pub fn create() -> bool {
    let fd = sys!(libc::SYS_memfd_create, c"fuzz".as_ptr(), 0);
    if failed(fd) || failed(sys!(libc::SYS_ftruncate, fd, size_of::<Block>())) {
        return false;
    }
    let kept = sys!(libc::SYS_dup2, fd, CONTROL_FD);
    sys!(libc::SYS_close, fd);
    kept == i64::from(CONTROL_FD) && attach()
}

/// Nothing of the arena and no object is left over from an earlier sequence.
pub fn clear() {
    for segment in &shared().segments {
        let id = segment.swap(0, SeqCst);
        if id > 0 {
            sys!(libc::SYS_shmctl, id - 1, libc::IPC_RMID, 0);
        }
    }
    shared().forked.store(0, SeqCst);
    if shared().pooled.swap(0, SeqCst) != 0 {
        pool::empty();
    }
    shared().count.store(0, SeqCst);
    for slot in &shared().slots {
        for word in [&slot.go, &slot.ready, &slot.alive, &slot.home] {
            word.store(0, SeqCst);
        }
        slot.process.store(0, SeqCst);
    }
}
