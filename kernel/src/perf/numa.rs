//! The `numa` PMU: where pages come from, as events that are counted and sampled.
//!
//! A sample's address is that of the page fault (0 outside of one), its data source says whether
//! the memory is local, and PERF_SAMPLE_RAW holds four 32-bit words: the page's node, the node
//! that was wanted, the node of the CPU, and the distance between CPU and page.

use super::event::Source;
use super::{context, sample};
use crate::task::current;
use ::perf::attr::Attr;
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use numa::NodeId;
use vm::env::{PAGE_EVENTS, PageEvent};

/// Its type.
pub const TYPE: u32 = 16;

/// The events by their numbers, with names and descriptions.
pub const EVENTS: [&str; 5] =
    ["alloc_local", "alloc_remote", "alloc_fallback", "page_migrated", "migration_fault"];
const LOCAL: usize = 0;
const REMOTE: usize = 1;
const FALLBACK: usize = 2;
const MIGRATED: usize = 3;
const WAITED: usize = 4;

static OPEN: [AtomicU32; EVENTS.len()] = [const { AtomicU32::new(0) }; EVENTS.len()];

/// The event that an attribute names: EINVAL for none of them.
pub fn event(attr: &Attr) -> Result<usize> {
    let number = usize::try_from(attr.config).map_err(|_| Errno::EINVAL)?;
    if number < EVENTS.len() && attr.config1 == 0 && attr.config2 == 0 {
        Ok(number)
    } else {
        Err(Errno::EINVAL)
    }
}

/// An event was opened or closed.
pub fn tally(which: usize, add: &impl Fn(&AtomicU32)) {
    add(&OPEN[which]);
    add(&PAGE_EVENTS);
}

/// PERF_MEM_OP_STORE and a hit in local or remote memory.
fn data_source(local: bool) -> u64 {
    const STORE: u64 = 1 << 2;
    const HIT: u64 = 1 << 1;
    const LOCAL: u64 = 1 << 7;
    const REMOTE_1: u64 = 1 << 8;
    STORE | (HIT | if local { LOCAL } else { REMOTE_1 }) << 5 | 1 << 19 | 1 << 24 | 1 << 26
}

fn tell(which: usize, addr: u64, node: NodeId, wanted: NodeId) {
    if OPEN[which].load(Relaxed) == 0 {
        return;
    }
    let task = current();
    let here = vm::env::local_node();
    let distance = crate::machine().distance(here, node);
    let words: [u32; 6] = [
        20,
        node.index() as u32,
        wanted.index() as u32,
        here.index() as u32,
        u32::from(distance),
        0,
    ];
    let addr = if addr == 0 { task.perf.fault.load(Relaxed) } else { addr };
    let extra = sample::Extra {
        addr,
        raw: hal::user::as_bytes(&words),
        data_src: data_source(node == here),
    };
    context::count(&task, Source::Numa(which), 1, &sample::Regs::of(None), &extra);
}

/// What the memory layer reports.
pub fn on_page(event: PageEvent) {
    match event {
        PageEvent::Allocated { node, wanted } => {
            let local = node == vm::env::local_node();
            tell(if local { LOCAL } else { REMOTE }, 0, node, wanted);
            if node != wanted {
                tell(FALLBACK, 0, node, wanted);
            }
        }
        PageEvent::Migrated { addr, from, to } => tell(MIGRATED, addr, to, from),
        PageEvent::Waited { addr, node } => tell(WAITED, addr, node, node),
    }
}
