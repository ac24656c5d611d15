//! Mapping, first touch under each policy, copy on write, protection, unmapping.

use super::policy::{self, Mode, set_policy};
use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::memory::{PAGE, Region, map, protect, unmap, write};
use crate::place::{Spinner, machine};
use crate::sys::{Result, close, exit, fork, pipe, read_byte, wait};

/// 4 MiB.
const FAULT_PAGES: usize = 1024;
const FAULT_ROUNDS: usize = 16;
/// 64 KiB.
const SMALL: usize = 16 * PAGE;

pub const OPS: &[Op] = &[
    op("mm/mmap_munmap", || mapping(false)),
    op("mm/mmap_touch_munmap", || mapping(true)),
    op("mm/fault_default", || faults(Mode::Default, 0)),
    op("mm/fault_preferred", || faults(Mode::Preferred, 1 << machine().to)),
    op("mm/fault_bind", || faults(Mode::Bind, 1 << machine().to)),
    op("mm/fault_interleave", || faults(Mode::Interleave, machine().nodes)),
    op("mm/fault_local", || faults(Mode::Local, 0)),
    op("mm/fault_preferred_many", || {
        faults(Mode::PreferredMany, 1 << machine().from | 1 << machine().to)
    }),
    op("mm/fault_weighted_interleave", || faults(Mode::WeightedInterleave, machine().nodes)),
    op("mm/cow_page", cow),
    op("mm/mprotect_flip", || flip(false)),
    op("mm/mprotect_flip_threaded", || flip(true)),
    op("mm/munmap_256", unmapping),
];

fn mapping(touch: bool) -> Result<Samples> {
    samples(200, 1, |clock| {
        clock.start();
        let start = map(SMALL)?;
        if touch {
            write(start);
        }
        unmap(start, SMALL)?;
        clock.stop();
        Ok(())
    })
}

/// Per page, page tables included.
fn faults(mode: Mode, nodes: u64) -> Result<Samples> {
    set_policy(mode, nodes)?;
    let samples = samples(FAULT_ROUNDS, FAULT_PAGES, |clock| {
        let region = Region::new(FAULT_PAGES)?;
        clock.start();
        region.touch();
        clock.stop();
        if mode == Mode::Bind { region.expect_on(machine().to) } else { Ok(()) }
    });
    policy::set_policy(Mode::Default, 0)?;
    samples
}

/// Per page, in the parent, with the child alive.
fn cow() -> Result<Samples> {
    let region = Region::touched(FAULT_PAGES)?;
    samples(FAULT_ROUNDS, FAULT_PAGES, |clock| {
        let hold = pipe()?;
        let child = fork()?;
        if child == 0 {
            let _ = close(hold[1]);
            let _ = read_byte(hold[0]);
            exit(0)
        }
        clock.start();
        region.touch();
        clock.stop();
        close(hold[0])?;
        close(hold[1])?;
        wait(child)
    })
}

/// 16 pages in use made read-only and writable again, per call.
fn flip(threaded: bool) -> Result<Samples> {
    let region = Region::touched(16)?;
    let _beside = threaded.then(Spinner::start).transpose()?;
    samples(200, 2, |clock| {
        clock.start();
        protect(region.start, region.bytes(), false)?;
        protect(region.start, region.bytes(), true)?;
        clock.stop();
        region.touch();
        Ok(())
    })
}

/// Of 1 MiB, every page of which was written to; per call.
fn unmapping() -> Result<Samples> {
    samples(60, 1, |clock| {
        let start = map(256 * PAGE)?;
        for page in 0..256 {
            write(start + page * PAGE);
        }
        clock.start();
        unmap(start, 256 * PAGE)?;
        clock.stop();
        Ok(())
    })
}
