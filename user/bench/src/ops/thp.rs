//! Transparent huge pages: first touch, moving, unmapping; per huge page, or of all.

use super::policy::{MPOL_MF_MOVE, Mode, mbind, set_policy};
use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::memory::{map, unmap, write};
use crate::place::machine;
use crate::sys::{Result, call, wrong};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// 4 MiB.
const PAGES: usize = 2;
/// 128 MiB: what nodes of 256 MiB have in one piece each.
const MANY: usize = 64;
const ROUNDS: usize = 12;

pub const OPS: &[Op] = &[
    op("thp/fault", || allowed(fault)),
    op("thp/mbind_move", || allowed(moving)),
    op("thp/munmap_128m", || allowed(unmapping)),
];

/// Measures with huge pages allowed, which [`crate::place::settle`] forbids.
fn allowed(measure: fn() -> Result<Samples>) -> Result<Samples> {
    let allow = |not: usize| {
        call("prctl", libc::SYS_prctl, [libc::PR_SET_THP_DISABLE as usize, not, 0, 0, 0])
    };
    allow(0)?;
    set_policy(Mode::Bind, 1 << machine().from)?;
    let samples = measure();
    set_policy(Mode::Default, 0)?;
    allow(1)?;
    samples
}

/// Touched once each, so many huge pages have come whole: their last bytes are there.
fn expect_whole(start: usize, pages: usize) -> Result<()> {
    let last: Vec<usize> = (1..=pages).map(|page| start + page * HUGE - 4096).collect();
    let mut status = vec![-1_i32; pages];
    let (at, out) = (last.as_ptr() as usize, status.as_mut_ptr() as usize);
    call("move_pages", libc::SYS_move_pages, [0, pages, at, 0, out, 0])?;
    if status.iter().any(|node| *node < 0) {
        return wrong("no huge pages have come");
    }
    Ok(())
}

fn touch(start: usize, pages: usize) {
    for page in 0..pages {
        write(start + page * HUGE);
    }
}

/// An aligned place for so many huge pages, in a mapping of one more; both begins.
fn place(pages: usize) -> Result<(usize, usize)> {
    let begin = map((pages + 1) * HUGE)?;
    Ok((begin, begin.next_multiple_of(HUGE)))
}

fn fault() -> Result<Samples> {
    samples(ROUNDS, PAGES, |clock| {
        let (begin, start) = place(PAGES)?;
        clock.start();
        touch(start, PAGES);
        clock.stop();
        expect_whole(start, PAGES)?;
        unmap(begin, (PAGES + 1) * HUGE)
    })
}

fn moving() -> Result<Samples> {
    let (begin, start) = place(PAGES)?;
    touch(start, PAGES);
    expect_whole(start, PAGES)?;
    let (mut to, mut from) = (machine().to, machine().from);
    let samples = samples(ROUNDS, PAGES, |clock| {
        clock.start();
        mbind(start, PAGES * HUGE, Mode::Bind, 1 << to, MPOL_MF_MOVE)?;
        clock.stop();
        (to, from) = (from, to);
        Ok(())
    });
    unmap(begin, (PAGES + 1) * HUGE)?;
    samples
}

fn unmapping() -> Result<Samples> {
    samples(ROUNDS, 1, |clock| {
        let (begin, start) = place(MANY)?;
        touch(start, MANY);
        expect_whole(start, MANY)?;
        clock.start();
        unmap(begin, (MANY + 1) * HUGE)?;
        clock.stop();
        Ok(())
    })
}
