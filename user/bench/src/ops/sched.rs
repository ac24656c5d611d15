//! Where a thread runs, and giving way to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::{Op, op};
use crate::clock::{Samples, batched, samples, samples_by};
use crate::place::{machine, pin, thread};
use crate::sys::{Result, call};

pub const OPS: &[Op] = &[
    op("sched/setaffinity_same", same),
    op("sched/setaffinity_move", moving),
    op("sched/yield_two_threads", yielding),
];

fn same() -> Result<Samples> {
    let home = machine().home;
    batched(100, 20, || pin(home))
}

/// To another node's CPU and back, per move.
fn moving() -> Result<Samples> {
    let machine = machine();
    samples(100, 2, |clock| {
        clock.start();
        pin(machine.away)?;
        pin(machine.home)?;
        clock.stop();
        Ok(())
    })
}

/// Per call of either of two threads on one CPU, whether it switches or not.
fn yielding() -> Result<Samples> {
    const BATCH: usize = 100;
    let (stop, others) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counter) = (stop.clone(), others.clone());
    let peer = thread(machine().home, move || {
        while !stopped.load(SeqCst) {
            counter.fetch_add(1, SeqCst);
            call("sched_yield", libc::SYS_sched_yield, [])?;
        }
        Ok(())
    })?;
    let result = samples_by(100, |clock| {
        let before = others.load(SeqCst);
        clock.start();
        for _ in 0..BATCH {
            call("sched_yield", libc::SYS_sched_yield, [])?;
        }
        clock.stop();
        Ok(BATCH + others.load(SeqCst) - before)
    });
    stop.store(true, SeqCst);
    let _ = peer.join();
    result
}
