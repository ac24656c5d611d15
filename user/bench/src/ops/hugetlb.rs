//! Huge pages of the pool: first touch, moving, unmapping; per huge page.

use std::fs;

use super::policy::{MPOL_MF_MOVE, Mode, mbind, set_policy};
use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::memory::{unmap, write};
use crate::place::machine;
use crate::sys::{Result, call, wrong};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// 16 MiB.
const PAGES: usize = 8;
const ROUNDS: usize = 12;

pub const OPS: &[Op] = &[
    op("hugetlb/fault", || alone(fault)),
    op("hugetlb/mbind_move", || alone(moving)),
    op("hugetlb/munmap", || alone(unmapping)),
];

/// Sets the pool of a node.
fn pool(node: usize, pages: usize) -> Result<()> {
    let dir = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
    let path = format!("{dir}/nr_hugepages");
    let set = fs::write(&path, pages.to_string());
    let got = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if set.is_err() || got != Some(pages) {
        return wrong("the pool has not the size that it was set to");
    }
    Ok(())
}

/// Measures with a pool on both nodes, which is empty again afterwards.
fn alone(measure: fn() -> Result<Samples>) -> Result<Samples> {
    pool(machine().from, PAGES)?;
    pool(machine().to, PAGES)?;
    set_policy(Mode::Bind, 1 << machine().from)?;
    let samples = measure();
    set_policy(Mode::Default, 0)?;
    pool(machine().from, 0)?;
    pool(machine().to, 0)?;
    samples
}

fn map() -> Result<usize> {
    let bits = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB) as usize;
    call("mmap", libc::SYS_mmap, [0, PAGES * HUGE, bits, flags, usize::MAX, 0])
}

fn touch(start: usize) {
    for page in 0..PAGES {
        write(start + page * HUGE);
    }
}

fn fault() -> Result<Samples> {
    samples(ROUNDS, PAGES, |clock| {
        let start = map()?;
        clock.start();
        touch(start);
        clock.stop();
        unmap(start, PAGES * HUGE)
    })
}

fn moving() -> Result<Samples> {
    let start = map()?;
    touch(start);
    let (mut to, mut from) = (machine().to, machine().from);
    let samples = samples(ROUNDS, PAGES, |clock| {
        clock.start();
        mbind(start, PAGES * HUGE, Mode::Bind, 1 << to, MPOL_MF_MOVE)?;
        clock.stop();
        (to, from) = (from, to);
        Ok(())
    });
    unmap(start, PAGES * HUGE)?;
    samples
}

fn unmapping() -> Result<Samples> {
    samples(ROUNDS, PAGES, |clock| {
        let start = map()?;
        touch(start);
        clock.start();
        unmap(start, PAGES * HUGE)?;
        clock.stop();
        Ok(())
    })
}
