//! Memory is out: what is forgotten for it, which process is ended, and who waits meanwhile.
//!
//! Files of the host that nobody has open go first. The victim is the process with the highest `oom_score`, as on Linux: its memory and page tables,
//! moved by oom_score_adj. One is ended at a time; whoever wants memory waits until there is some,
//! or until it is clear that this victim frees none (it may wait for a lock that the asker holds).

use crate::interrupts::call_on;
use crate::signal::attention::{KILL, MEMORY};
use crate::task::{Process, Task, current, table};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use frames::relief::Relief;
use sync::WaitQueue;

/// Waits of one allocation for room before it takes from the reserve.
const TRIES: u32 = 40;
/// Nanoseconds of one wait.
const WAIT: u64 = 25_000_000;
/// Nanoseconds after which a victim that has not ended is no reason to spare others.
const PATIENCE: u64 = 500_000_000;

/// The task that looks for a victim: it takes what it needs for that from the reserve.
static SEARCHING: AtomicI32 = AtomicI32::new(0);
/// The last victim, and when it was told to end.
static VICTIM: AtomicI32 = AtomicI32::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);
/// Who waits for room sleeps here; its deadline wakes it.
static ROOM: WaitQueue = WaitQueue::new();
/// Processes ended for want of memory (`oom_kill` of /proc/vmstat).
pub static KILLS: AtomicU64 = AtomicU64::new(0);

/// What `frames` asks for when the heap finds no memory.
pub struct Killer;

impl Relief for Killer {
    fn make_room(&self, bytes: usize, tries: u32) -> bool {
        may_wait() && tries < TRIES && make_room(bytes)
    }

    fn emergency_used(&self) {
        if hal::percpu::current() != 0 {
            current().signals.ask(MEMORY);
        }
    }

    fn flush_all_cpus(&self) -> bool {
        let may = may_wait();
        if may {
            call_on(crate::boot::cpus::online(), |_| hal::paging::flush_all(), 0);
        }
        may
    }
}

/// Forgets what can be had again, else ends a process if none is on its way out, and waits a moment
/// for room. False when there is
/// nobody to end, or the running task itself is to end.
pub fn make_room(bytes: usize) -> bool {
    let pages = bytes as u64 / 4096;
    // What the machine could hardly hold is nobody's fault but the asker's.
    if pages > crate::proc::memory::managed_frames() / 2 {
        return false;
    }
    let task = current();
    if dying(&task) || SEARCHING.load(Ordering::Acquire) == task.tid() {
        return false;
    }
    let mut found = true;
    if SEARCHING.compare_exchange(0, task.tid(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        found = has_room(pages) || fs::p9::shrink(&|| has_room(pages)) || end_somebody();
        SEARCHING.store(0, Ordering::Release);
    }
    if !found || dying(&task) {
        return false;
    }
    let deadline = hal::time::now() + WAIT;
    let ready = || has_room(pages).then_some(());
    // Room or no room: the allocation finds out.
    let _outcome =
        crate::signal::killable(&task, || ROOM.wait_interruptible(Some(deadline), ready));
    true
}

/// Before user mode: the running task's call has used the reserve, which is filled up again.
pub fn refill_reserve() {
    current().signals.attention.fetch_and(!MEMORY, Ordering::SeqCst);
    let mut tries = 0;
    while !has_room(0) && tries < TRIES && make_room(0) {
        tries += 1;
    }
}

/// A node has `pages` more for users.
pub fn has_room(pages: u64) -> bool {
    let nodes = vm::env::machine().nodes();
    nodes.iter().filter_map(frames::node).any(|node| node.has_room(pages))
}

/// The running task may sleep here.
fn may_wait() -> bool {
    hal::irq::enabled()
        && hal::percpu::preempt_state().0 == 0
        && hal::percpu::current() != 0
        && current().tid() != 0
}

fn dying(task: &Task) -> bool {
    task.signals.attention.load(Ordering::SeqCst) & KILL != 0
        || task.process.exiting.load(Ordering::Acquire)
}

/// Ends the process with the highest score, unless the last victim is still on its way out. False
/// when there is none.
pub fn end_somebody() -> bool {
    let now = hal::time::now();
    let last = VICTIM.load(Ordering::Relaxed);
    let pending = last != 0
        && table::process(last).is_some_and(|process| process.mm.lock().is_some())
        && now < TOLD.load(Ordering::Relaxed) + PATIENCE;
    if pending {
        return true;
    }
    let Some(victim) = worst() else { return false };
    log::error!("Out of memory: Killed process {}", victim.pid);
    VICTIM.store(victim.pid, Ordering::Relaxed);
    TOLD.store(now, Ordering::Relaxed);
    KILLS.fetch_add(1, Ordering::Relaxed);
    crate::signal::send_kernel(&victim, 9);
    true
}

/// The process with the highest score that has memory and is not about to end.
fn worst() -> Option<Arc<Process>> {
    let mut best: Option<(i64, Arc<Process>)> = None;
    let mut next = table::next_process(2);
    while let Some(process) = next {
        next = table::next_process(process.pid + 1);
        if process.exiting.load(Ordering::Acquire) || process.zombie.load(Ordering::Acquire) {
            continue;
        }
        let Some(points) = points(&process) else { continue };
        if best.as_ref().is_none_or(|(most, _)| points > *most) {
            best = Some((points, process));
        }
    }
    best.map(|(_, process)| process)
}

/// Pages of a process's memory, moved by its oom_score_adj. None without memory, or if it is never
/// to be ended.
fn points(process: &Process) -> Option<i64> {
    let adjust = i64::from(process.oom_score_adj.load(Ordering::Relaxed));
    let mm = process.mm.lock().clone().filter(|_| adjust != -1000)?;
    let (anon, shared) = mm.rss();
    let used = (anon + shared) as i64 + mm.tables.load(Ordering::Relaxed);
    Some(used + adjust * crate::proc::memory::managed_frames() as i64 / 1000)
}
