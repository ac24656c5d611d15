//! Saying where memory shall come from, and asking.

use super::{Op, op};
use crate::clock::{Samples, batched};
use crate::memory::{PAGE, Region};
use crate::place::machine;
use crate::sys::{Result, at, call};

/// linux/mempolicy.h
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Default = 0,
    Preferred = 1,
    Bind = 2,
    Interleave = 3,
    Local = 4,
    PreferredMany = 5,
    WeightedInterleave = 6,
}

pub const MPOL_MF_MOVE: usize = 2;
const MPOL_F_NODE_ADDR: usize = 1 | 2;
/// Bits of a nodemask of one word; the kernel uses one less than it is told.
pub const MASK_BITS: usize = 65;
const ROUNDS: usize = 100;
const BATCH: usize = 20;

pub const OPS: &[Op] = &[
    op("numa/get_mempolicy", get),
    op("numa/get_mempolicy_node", node_of),
    op("numa/set_mempolicy", set),
    op("numa/mbind_page", bind),
];

#[inline(always)]
pub fn set_policy(mode: Mode, nodes: u64) -> Result<()> {
    let (mask, bits) = if nodes == 0 { (0, 0) } else { (at(&raw const nodes), MASK_BITS) };
    call("set_mempolicy", libc::SYS_set_mempolicy, [mode as usize, mask, bits]).map(drop)
}

#[inline(always)]
pub fn mbind(start: usize, bytes: usize, mode: Mode, nodes: u64, flags: usize) -> Result<()> {
    let mask = at(&raw const nodes);
    call("mbind", libc::SYS_mbind, [start, bytes, mode as usize, mask, MASK_BITS, flags]).map(drop)
}

/// Mode and nodes of the task.
fn get() -> Result<Samples> {
    set_policy(Mode::Bind, 1 << machine().to)?;
    // Large enough for as many nodes as a kernel may be built for.
    let (mut mode, mut mask) = (0_i32, [0_u64; 16]);
    let args = [at(&raw mut mode), at(&raw mut mask), 1024, 0, 0];
    let result =
        batched(ROUNDS, BATCH, || call("get_mempolicy", libc::SYS_get_mempolicy, args).map(drop));
    set_policy(Mode::Default, 0)?;
    result
}

/// The node of a page in use.
fn node_of() -> Result<Samples> {
    let region = Region::touched(1)?;
    let mut node = 0_i32;
    let args = [at(&raw mut node), 0, 0, region.start, MPOL_F_NODE_ADDR];
    batched(ROUNDS, BATCH, || call("get_mempolicy", libc::SYS_get_mempolicy, args).map(drop))
}

/// A different policy at every call.
fn set() -> Result<Samples> {
    let machine = machine();
    let mut turn = false;
    let result = batched(ROUNDS, BATCH, || {
        turn = !turn;
        set_policy(Mode::Bind, 1 << if turn { machine.from } else { machine.to })
    });
    set_policy(Mode::Default, 0)?;
    result
}

/// The middle one of three pages, a different policy at every call, nothing moved.
fn bind() -> Result<Samples> {
    let machine = machine();
    let region = Region::touched(3)?;
    let mut turn = false;
    batched(ROUNDS, BATCH, || {
        turn = !turn;
        let nodes = 1 << if turn { machine.from } else { machine.to };
        mbind(region.start + PAGE, PAGE, Mode::Bind, nodes, 0)
    })
}
