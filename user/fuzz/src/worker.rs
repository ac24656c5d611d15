//! Workers: processes and threads that wait for an operation in shared memory, carry it out and
//! leave its line there.
//!
//! The block lies at [`arena::CONTROL`] in all of them; a worker that executes a new program finds
//! it again through a descriptor that stays open.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

use crate::arena;
use crate::ops::{Kind, Op, WORKERS};
use crate::sys::{self, failed, sys};
use crate::trace::Line;
use crate::{execute, probe};

/// The block's descriptor, above those that sequences use.
pub const CONTROL_FD: i32 = 700;
/// Objects are descriptors from here on.
pub const OBJECT_FD: u64 = 600;
/// A System V object's id stands in [`Control::segments`].
pub const OBJECTS: usize = 4;
pub const LINE: usize = 3 << 10;

pub const IDLE: u32 = 0;
pub const GO: u32 = 1;
pub const DONE: u32 = 2;

#[repr(C)]
pub struct Slot {
    pub state: AtomicU32,
    /// The thread's id while it lives; the kernel clears it at the end of a thread.
    pub alive: AtomicU32,
    pub home: AtomicU32,
    /// What the operation made: a process id.
    pub made: AtomicI32,
    pub op: Op,
    pub length: u32,
    pub line: [u8; LINE],
}

#[repr(C)]
pub struct Control {
    pub slots: [Slot; WORKERS],
    /// Ids of System V segments plus one, by object.
    pub segments: [AtomicI32; OBJECTS],
    /// Kinds of the objects plus one.
    pub kinds: [AtomicU32; OBJECTS],
    /// Set once the sequence has forked: pages may be shared, and Linux must have them off its
    /// per-CPU lists before it can tell (see `settle` in execute.rs).
    pub forked: AtomicU32,
}

/// The shared block. One worker or the coordinator uses a slot's plain fields at a time: the
/// state word hands them over.
pub fn control() -> *mut Control {
    arena::CONTROL as *mut Control
}

/// The block's atomics, which all may use at any time.
pub fn shared() -> &'static Control {
    // SAFETY: mapped by every process of the fuzzer before it gets here, and never unmapped. The
    // plain fields are reached through `control` only by their owner of the moment.
    unsafe { &*control() }
}

pub fn slot(number: usize) -> &'static Slot {
    &shared().slots[number]
}

/// Maps the block from its descriptor; false when that is not to be had.
pub fn attach() -> bool {
    let bytes = size_of::<Control>();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let at = sys!(libc::SYS_mmap, arena::CONTROL, bytes, prot, flags, CONTROL_FD, 0);
    at == arena::CONTROL as i64
}

/// Makes the block and maps it, in the coordinator.
pub fn create() -> bool {
    let fd = sys!(libc::SYS_memfd_create, c"fuzz".as_ptr(), 0);
    if failed(fd) || failed(sys!(libc::SYS_ftruncate, fd, size_of::<Control>())) {
        return false;
    }
    let kept = sys!(libc::SYS_dup2, fd, CONTROL_FD);
    sys!(libc::SYS_close, fd);
    kept == i64::from(CONTROL_FD) && attach()
}

/// Carries out operations for ever.
pub fn serve(number: usize) -> ! {
    let own = slot(number);
    own.alive.store(sys!(libc::SYS_gettid) as u32, SeqCst);
    loop {
        while own.state.load(SeqCst) != GO {
            sys::futex_wait(&own.state, own.state.load(SeqCst) & !GO, 1000);
        }
        // SAFETY: the state says GO: operation and line are this worker's until it says DONE.
        let (op, buffer) = unsafe {
            let slot = &raw mut (*control()).slots[number];
            ((*slot).op, &mut (*slot).line)
        };
        let mut line = Line::new(buffer);
        execute::run(number, &op, &mut line);
        finish(number, line.len());
    }
}

/// Hands the line over.
fn finish(number: usize, length: usize) {
    let own = slot(number);
    // SAFETY: as in `serve`.
    unsafe { (*control()).slots[number].length = length as u32 };
    own.state.store(DONE, SeqCst);
    sys::futex_wake(&own.state);
}

/// The new program's beginning, after [`Kind::Exec`].
pub fn resume(number: usize) -> ! {
    if number >= WORKERS || !attach() {
        sys::exit_group(96);
    }
    probe::install();
    if slot(number).state.load(SeqCst) == GO {
        // SAFETY: as in `serve`; the operation is the exec that led here.
        let (op, buffer) = unsafe {
            let slot = &raw mut (*control()).slots[number];
            ((*slot).op, &mut (*slot).line)
        };
        let mut line = Line::new(buffer);
        if op.kind == Kind::Exec {
            line.put(format_args!("ok"));
            crate::observe::own(&mut line);
        }
        finish(number, line.len());
    }
    serve(number)
}
