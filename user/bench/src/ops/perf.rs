//! Counters of perf_event_open(2).

use super::{Op, op};
use crate::clock::{Samples, batched, samples};
use crate::sys::{Result, at, call, close, wrong};

pub const OPS: &[Op] = &[op("perf/open_close", open_close), op("perf/read", read)];

/// Page faults of this thread, counted in software: both kernels have that without a PMU.
fn open() -> Result<usize> {
    const SOFTWARE: u64 = 1;
    const PAGE_FAULTS: u64 = 2;
    // struct perf_event_attr: u32 type, u32 size, u64 config, and zeroes.
    let mut attr = [0_u64; 16];
    attr[0] = SOFTWARE | (size_of_val(&attr) as u64) << 32;
    attr[1] = PAGE_FAULTS;
    let args = [at(&raw const attr), 0, usize::MAX, usize::MAX, 0];
    call("perf_event_open", libc::SYS_perf_event_open, args)
}

fn open_close() -> Result<Samples> {
    samples(100, 1, |clock| {
        clock.start();
        close(open()?)?;
        clock.stop();
        Ok(())
    })
}

fn read() -> Result<Samples> {
    let counter = open()?;
    let mut count = 0_u64;
    let args = [counter, at(&raw mut count), 8];
    batched(100, 20, || match call("read", libc::SYS_read, args)? {
        8 => Ok(()),
        _ => wrong("a counter's read is not 8 bytes"),
    })
}
