//! Fault injection: the Nth allocation of a task fails (Linux's Documentation/fault-injection), in
//! the checked kernel.
//!
//! A task's number is set through its file fail-nth. Each object, block or frame that the task asks
//! for in a system call or page fault counts; interrupts do not. What is refused so, and where, is
//! told by /proc/proxima/faults, with the bytes that calls took without being ready for a refusal:
//! those that the reserve must be able to give.

use crate::task::{Task, current};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use frames::faults::{Faults, Want};
use hal::VirtAddr;
use sync::IrqLock;

/// A task's part.
#[derive(Default)]
pub struct TaskFaults {
    /// How many allocations there are to the one that fails; 0: none.
    pub nth: AtomicU32,
    /// Bytes that the heap was asked to have ready in this call and that were not taken yet.
    ready: AtomicU64,
    /// Bytes that this call took without asking.
    certain: AtomicU64,
    /// An allocation of this call or page fault has failed on request.
    failed: AtomicBool,
}

impl TaskFaults {
    /// True if an allocation has failed on request since this was asked.
    pub fn take_failed(&self) -> bool {
        self.failed.swap(false, Relaxed)
    }

    /// A system call begins.
    pub fn begin(&self) {
        self.failed.store(false, Relaxed);
        self.ready.store(0, Relaxed);
        self.certain.store(0, Relaxed);
    }

    /// System call `number` ends.
    pub fn end(&self, number: u64) {
        if let Some(most) = MOST.get(number as usize) {
            most.fetch_max(self.certain.load(Relaxed), Relaxed);
        }
    }

    fn was_ready(&self, bytes: u64) -> bool {
        self.ready.fetch_update(Relaxed, Relaxed, |ready| ready.checked_sub(bytes)).is_ok()
    }

    /// True for the Nth.
    fn counts_down(&self) -> bool {
        // Only the task itself counts; others set.
        let nth = self.nth.load(Relaxed);
        nth > 0 && self.nth.compare_exchange(nth, nth - 1, Relaxed, Relaxed).is_ok() && nth == 1
    }
}

/// The most bytes that a system call took without asking, by its number.
static MOST: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
/// Certain allocations are noted even if none fails.
pub static TRACING: AtomicBool = AtomicBool::new(false);

/// Return addresses that tell places apart, from the innermost on.
const DEPTH: usize = 8;
const SITES: usize = 2048;

/// How a refusal ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The caller was told.
    #[default]
    Refused,
    /// The reserve gave the object.
    Reserve,
    /// A frame was refused.
    Frame,
}

/// A place where an allocation failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    pub chain: [u64; DEPTH],
    pub kind: Kind,
    /// Largest number of bytes, and how often.
    pub bytes: u64,
    pub times: u64,
}

struct Table {
    sites: [Site; SITES],
    used: usize,
    /// Refusals for which there was no place left.
    lost: u64,
}

static TABLE: IrqLock<Table> = IrqLock::new(Table {
    sites: [Site { chain: [0; DEPTH], kind: Kind::Refused, bytes: 0, times: 0 }; SITES],
    used: 0,
    lost: 0,
});

/// What `frames` asks in the checked kernel.
pub struct Injector;

impl Faults for Injector {
    fn should_fail(&self, want: Want) -> bool {
        if hal::percpu::current() == 0 || hal::percpu::in_interrupt() {
            return false;
        }
        decide(&current(), want)
    }
}

#[inline(never)]
fn decide(task: &Task, want: Want) -> bool {
    let faults = &task.faults;
    if task.kernel_thread || task.tid() == 0 {
        return false;
    }
    let (kind, bytes) = match want {
        Want::Fallible(bytes) => (Kind::Refused, bytes as u64),
        Want::Frame => (Kind::Frame, 4096),
        Want::Certain(bytes) => {
            if faults.was_ready(bytes as u64) {
                return false;
            }
            faults.certain.fetch_add(bytes as u64, Relaxed);
            (Kind::Reserve, bytes as u64)
        }
    };
    let fails = faults.counts_down();
    if fails {
        faults.failed.store(true, Relaxed);
    }
    if fails || kind == Kind::Reserve && TRACING.load(Relaxed) {
        note(kind, bytes);
    }
    if !fails && matches!(want, Want::Fallible(_)) {
        faults.ready.fetch_add(bytes, Relaxed);
    }
    fails
}

/// The return addresses of the callers, without those of this module.
fn chain() -> [u64; DEPTH] {
    let mut chain = [0; DEPTH];
    let mut rbp = hal::trap::frame_pointer();
    let mut at = 0;
    // The first ones lead out of here.
    for step in 0..DEPTH + OWN {
        let Some((next, ret)) = hal::trap::read_frame(VirtAddr::new(rbp)) else { break };
        if step >= OWN && at < DEPTH {
            chain[at] = ret;
            at += 1;
        }
        if next <= rbp {
            break;
        }
        rbp = next;
    }
    chain
}

/// Frames between an allocator and [`chain`].
const OWN: usize = 2;

#[inline(never)]
fn note(kind: Kind, bytes: u64) {
    let chain = chain();
    let mut table = TABLE.lock();
    let used = table.used;
    let known = table.sites[..used].iter_mut().find(|s| s.chain == chain && s.kind == kind);
    if let Some(site) = known {
        site.times += 1;
        site.bytes = site.bytes.max(bytes);
    } else if used < SITES {
        table.sites[used] = Site { chain, kind, bytes, times: 1 };
        table.used += 1;
    } else {
        table.lost += 1;
    }
}

/// Site number `at`, in the order in which they were found.
pub fn site(at: usize) -> Option<Site> {
    let table = TABLE.lock();
    table.sites[..table.used].get(at).copied()
}

/// Refusals that were not noted for want of room.
pub fn lost() -> u64 {
    TABLE.lock().lost
}

/// The most bytes that each system call took without asking, with its number.
pub fn most() -> impl Iterator<Item = (usize, u64)> {
    MOST.iter().map(|most| most.load(Relaxed)).enumerate().filter(|(_, bytes)| *bytes > 0)
}

/// Forgets all.
pub fn reset() {
    let mut table = TABLE.lock();
    table.used = 0;
    table.lost = 0;
    drop(table);
    MOST.iter().for_each(|most| most.store(0, Relaxed));
}
