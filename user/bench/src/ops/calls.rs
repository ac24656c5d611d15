//! Entering and leaving the kernel, and not entering it.

use std::mem::transmute;

use super::{Op, op};
use crate::clock::{Samples, batched};
use crate::sys::{Result, at, call, wrong};
use crate::vdso;

const ROUNDS: usize = 100;
const BATCH: usize = 100;

pub const OPS: &[Op] = &[
    op("call/null", null),
    op("call/getcpu", getcpu),
    op("vdso/getcpu", vdso_getcpu),
    op("call/clock_gettime", clock_gettime),
    op("vdso/clock_gettime", vdso_clock_gettime),
];

/// getppid: a call that does nothing.
fn null() -> Result<Samples> {
    batched(ROUNDS, BATCH, || call("getppid", libc::SYS_getppid, []).map(drop))
}

fn getcpu() -> Result<Samples> {
    let (mut cpu, mut node) = (0_u32, 0_u32);
    let args = [at(&raw mut cpu), at(&raw mut node), 0];
    batched(ROUNDS, BATCH, || call("getcpu", libc::SYS_getcpu, args).map(drop))
}

fn vdso_getcpu() -> Result<Samples> {
    type GetCpu = unsafe extern "C" fn(*mut u32, *mut u32, usize) -> i32;
    // SAFETY: the function's signature, as getcpu(2) gives it.
    let function: GetCpu = unsafe { transmute(vdso::function("__vdso_getcpu")?) };
    let (mut cpu, mut node) = (0, 0);
    batched(ROUNDS, BATCH, || {
        // SAFETY: writes two words of this frame.
        if unsafe { function(&mut cpu, &mut node, 0) } == 0 { Ok(()) } else { wrong("vdso getcpu") }
    })
}

fn clock_gettime() -> Result<Samples> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [libc::CLOCK_MONOTONIC as usize, at(&raw mut time)];
    batched(ROUNDS, BATCH, || call("clock_gettime", libc::SYS_clock_gettime, args).map(drop))
}

fn vdso_clock_gettime() -> Result<Samples> {
    type ClockGetTime = unsafe extern "C" fn(i32, *mut libc::timespec) -> i32;
    // SAFETY: the function's signature, as clock_gettime(2) gives it.
    let function: ClockGetTime = unsafe { transmute(vdso::function("__vdso_clock_gettime")?) };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    batched(ROUNDS, BATCH, || {
        // SAFETY: writes a timespec of this frame.
        let result = unsafe { function(libc::CLOCK_MONOTONIC, &mut time) };
        if result == 0 { Ok(()) } else { wrong("vdso clock_gettime") }
    })
}
