//! /sys/devices/system/memory: physical memory in blocks of 128 MiB, as lsmem(1) lists it.

use super::{fixed, line};
use crate::machine;
use crate::proc::put;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use fs::pseudo::{Dir, PseudoFs};
use numa::NodeId;

/// log2 of a block's frames: 128 MiB.
const BLOCK: u32 = 15;

/// The directory. Blocks that hold memory of any node are there; none can be taken off.
pub fn fill(_fs: &Arc<PseudoFs>, dir: &Dir) {
    line(dir, "block_size_bytes", |out| put!(out, "{:x}", vm::PAGE << BLOCK));
    fixed(dir, "auto_online_blocks", "online");
    for (block, node) in blocks() {
        let dir = dir.dir(&format!("memory{block}"));
        line(&dir, "phys_index", move |out| put!(out, "{block:08x}"));
        fixed(&dir, "phys_device", "0");
        fixed(&dir, "online", "1");
        fixed(&dir, "state", "online");
        fixed(&dir, "removable", "0");
        fixed(&dir, "valid_zones", "Normal");
        dir.link(&format!("node{node}"), &format!("../../node/node{node}"));
    }
}

/// Blocks with the first node that has memory there.
fn blocks() -> BTreeMap<u64, NodeId> {
    let mut found = BTreeMap::new();
    for node in machine().memory_nodes().iter() {
        let (start, end) = frames::stats(node).span;
        for block in start >> BLOCK..(end + (1 << BLOCK) - 1) >> BLOCK {
            // A node's span may have holes: a block counts when any largest block of it exists.
            let step = 1 << frames::MAX_ORDER;
            let any = (block << BLOCK..(block + 1) << BLOCK)
                .step_by(step)
                .any(|pfn| is_memory_of(pfn, node));
            if any {
                found.entry(block).or_insert(node);
            }
        }
    }
    found
}

fn is_memory_of(pfn: u64, node: NodeId) -> bool {
    let pfn = hal::Pfn::new(pfn);
    let metadata = hal::VirtAddr::new(frames::meta::address(pfn));
    let (start, end) = frames::stats(node).span;
    hal::paging::is_kernel_mapped(metadata) && (start..end).contains(&pfn.raw())
}
