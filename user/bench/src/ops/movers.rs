//! Moving pages between two nodes and asking where they are, per page; alone, and with another
//! thread of the process running on another node's CPU.
//!
//! Every round's effect is checked, outside the measured part.

use super::policy::{MASK_BITS, MPOL_MF_MOVE, Mode, mbind, set_policy};
use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::memory::{PAGE, Region};
use crate::place::{Spinner, machine};
use crate::sys::{Result, at, call, wrong};

/// 4 MiB.
const MANY: usize = 1024;
const ROUNDS: usize = 12;

pub const OPS: &[Op] = &[
    op("numa/mbind_move", || mbind_move(false)),
    op("numa/move_pages_query_1", || query(1)),
    op("numa/move_pages_query_64", || query(64)),
    op("numa/move_pages_query_1024", || query(1024)),
    op("numa/move_pages_move_1", || move_pages(1, false)),
    op("numa/move_pages_move_64", || move_pages(64, false)),
    op("numa/move_pages_move_1024", || move_pages(1024, false)),
    op("numa/migrate_pages", || migrate_pages(false)),
    op("numa/mbind_move_threaded", || mbind_move(true)),
    op("numa/move_pages_move_1_threaded", || move_pages(1, true)),
    op("numa/move_pages_move_64_threaded", || move_pages(64, true)),
    op("numa/move_pages_move_1024_threaded", || move_pages(1024, true)),
    op("numa/migrate_pages_threaded", || migrate_pages(true)),
];

/// Pages in use on the first of the two nodes; the task's own policy is the default again.
fn placed(pages: usize) -> Result<Region> {
    set_policy(Mode::Bind, 1 << machine().from)?;
    let region = Region::touched(pages)?;
    set_policy(Mode::Default, 0)?;
    region.expect_on(machine().from)?;
    Ok(region)
}

/// The node to go to and the one to come from, by turns.
fn turns() -> impl FnMut() -> (usize, usize) {
    let machine = machine();
    let mut ends = (machine.from, machine.to);
    move || {
        ends = (ends.1, ends.0);
        ends
    }
}

fn rounds(pages: usize) -> usize {
    if pages == MANY { ROUNDS } else { 100 }
}

fn mbind_move(threaded: bool) -> Result<Samples> {
    let region = placed(MANY)?;
    let mut turn = turns();
    let _beside = threaded.then(Spinner::start).transpose()?;
    samples(ROUNDS, MANY, |clock| {
        let (to, _) = turn();
        clock.start();
        mbind(region.start, region.bytes(), Mode::Bind, 1 << to, MPOL_MF_MOVE)?;
        clock.stop();
        region.expect_on(to)
    })
}

fn query(pages: usize) -> Result<Samples> {
    let region = placed(pages)?;
    let addresses: Vec<usize> = (0..pages).map(|n| region.start + n * PAGE).collect();
    let mut status = vec![-1_i32; pages];
    let args = [0, pages, at(addresses.as_ptr()), 0, at(status.as_mut_ptr()), 0];
    samples(rounds(pages), pages, |clock| {
        clock.start();
        call("move_pages", libc::SYS_move_pages, args)?;
        clock.stop();
        Ok(())
    })
}

fn move_pages(pages: usize, threaded: bool) -> Result<Samples> {
    let region = placed(pages)?;
    let addresses: Vec<usize> = (0..pages).map(|n| region.start + n * PAGE).collect();
    let mut nodes = vec![0_i32; pages];
    let mut status = vec![-1_i32; pages];
    let mut turn = turns();
    let _beside = threaded.then(Spinner::start).transpose()?;
    samples(rounds(pages), pages, |clock| {
        let (to, _) = turn();
        nodes.fill(to as i32);
        let flags = MPOL_MF_MOVE;
        let (from, to_list) = (at(addresses.as_ptr()), at(nodes.as_ptr()));
        let args = [0, pages, from, to_list, at(status.as_mut_ptr()), flags];
        clock.start();
        call("move_pages", libc::SYS_move_pages, args)?;
        clock.stop();
        region.expect_on(to)
    })
}

fn migrate_pages(threaded: bool) -> Result<Samples> {
    let region = placed(MANY)?;
    let mut turn = turns();
    let _beside = threaded.then(Spinner::start).transpose()?;
    samples(ROUNDS, MANY, |clock| {
        let (to, from) = turn();
        let (old, new) = (1_u64 << from, 1_u64 << to);
        let args = [0, MASK_BITS, at(&raw const old), at(&raw const new)];
        clock.start();
        let left = call("migrate_pages", libc::SYS_migrate_pages, args)?;
        clock.stop();
        if left != 0 {
            return wrong("migrate_pages left pages behind");
        }
        region.expect_on(to)
    })
}
