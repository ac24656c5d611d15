//! How long a write to memory waits while another thread moves that memory: 64 MiB go to another
//! node by one mbind, and a thread on another CPU writes random pages of it.
//!
//! Instruction counting gives a CPU turns as long as no timer is due, so a thread on a third CPU
//! sleeps 5 microseconds again and again: no turn is much longer than 5000 instructions. The writer gives
//! its turn away after each write, outside of what is measured: what a write takes is its own
//! instructions, and everybody's while it waits in the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::policy::{MPOL_MF_MOVE, Mode, mbind, set_policy};
use super::{Op, op};
use crate::clock::{Samples, cycles};
use crate::memory::{PAGE, Region, write};
use crate::place::{machine, thread};
use crate::sys::{Result, at, call, wrong};

/// 64 MiB.
const PAGES: usize = 16384;
const ROUNDS: usize = 5;
/// Writes that are kept of a round; there are some hundreds to thousands.
const KEPT: usize = 1 << 17;

pub const OPS: &[Op] =
    &[op("stall/mbind_64m_p999", || stalls(0.999)), op("stall/mbind_64m_longest", || stalls(1.0))];

#[derive(Default)]
struct Shared {
    /// Writing goes on; it ends when this is false.
    run: AtomicBool,
    moving: AtomicBool,
    /// Writes begun while `moving`, and all.
    writes: AtomicUsize,
    passes: AtomicUsize,
}

/// Of each round, the write that this share of all were not longer than.
fn stalls(share: f64) -> Result<Samples> {
    let machine = machine();
    set_policy(Mode::Bind, 1 << machine.from)?;
    let region = Region::touched(PAGES)?;
    set_policy(Mode::Default, 0)?;
    let shared = Arc::new(Shared::default());
    shared.run.store(true, SeqCst);
    let (pace, start) = (shared.clone(), region.start);
    let metronome = thread(machine.third, move || {
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 5_000 };
        // Linux would add 50 microseconds.
        let _ = call("prctl", libc::SYS_prctl, [libc::PR_SET_TIMERSLACK as usize, 1, 0, 0, 0]);
        while pace.run.load(SeqCst) {
            call("nanosleep", libc::SYS_nanosleep, [at(&raw const pause), 0])?;
        }
        Ok(())
    })?;
    let writing = shared.clone();
    // Handed over once, and read between rounds, when the writer keeps nothing.
    let kept = Box::leak(vec![1_u64; KEPT].into_boxed_slice());
    let list = at(kept.as_ptr());
    let writer = thread(machine.away, move || {
        write_pages(&writing, start, list);
        Ok(())
    })?;
    let result = rounds(share, &region, &shared, list);
    shared.run.store(false, SeqCst);
    let _ = (metronome.join(), writer.join());
    result
}

fn rounds(share: f64, region: &Region, shared: &Shared, list: usize) -> Result<Samples> {
    let machine = machine();
    let mut ends = (machine.from, machine.to);
    let mut found = Vec::new();
    for round in 0..=ROUNDS {
        ends = (ends.1, ends.0);
        shared.writes.store(0, SeqCst);
        shared.moving.store(true, SeqCst);
        mbind(region.start, region.bytes(), Mode::Bind, 1 << ends.0, MPOL_MF_MOVE)?;
        shared.moving.store(false, SeqCst);
        // The write under way counts: it may be the longest.
        let passes = shared.passes.load(SeqCst);
        while shared.passes.load(SeqCst) < passes + 2 {
            std::hint::spin_loop();
        }
        region.expect_on(ends.0)?;
        let count = shared.writes.load(SeqCst).min(KEPT);
        if count == 0 {
            return wrong("the writer had no turns");
        }
        // SAFETY: the writer adds to the list only for writes begun while `moving`, and the last of
        // those is over.
        let list = unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u64>(list), count)
        };
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        // The first round warms up.
        if round > 0 {
            let rank = ((count as f64 * share).ceil() as usize).clamp(1, count);
            found.push(sorted[rank - 1] as f64);
        }
    }
    Ok(Samples::new(found))
}

fn write_pages(shared: &Shared, start: usize, list: usize) {
    let mut random = 88_172_645_463_325_252_u64;
    while shared.run.load(SeqCst) {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let page = start + random as usize % PAGES * PAGE;
        let counts = shared.moving.load(SeqCst);
        let before = cycles();
        write(page);
        let taken = cycles() - before;
        if counts {
            let at = shared.writes.fetch_add(1, SeqCst);
            if at < KEPT {
                let entry = std::ptr::with_exposed_provenance_mut::<u64>(list);
                // SAFETY: within the list, which only this thread writes.
                unsafe { entry.add(at).write(taken) };
            }
        }
        shared.passes.fetch_add(1, SeqCst);
        std::hint::spin_loop();
    }
}
