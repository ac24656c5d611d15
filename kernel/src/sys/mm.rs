//! /sys/kernel/mm: the weights of weighted interleaving, the pool of huge pages, and transparent ones.

use crate::machine;
use crate::proc::put;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use fs::pseudo::{Dir, PseudoFs, Text};
use numa::NodeId;
use vm::env::weights;

/// The directory.
pub fn fill(_fs: &Arc<PseudoFs>, dir: &Dir) {
    let table = dir.dir("mempolicy").dir("weighted_interleave");
    for node in machine().nodes().iter() {
        let show = move |out: &mut Text| {
            put!(out, "{}\n", weights().get(node));
            Ok(())
        };
        table.attribute(&format!("node{node}"), 0o644, show, move |data| set_weight(node, data));
    }
    crate::hugetlb::fill_all(&dir.dir("hugepages").dir("hugepages-2048kB"));
    super::transparent::fill(&dir.dir("transparent_hugepage"));
}

/// Sets a weight of 1 to 255; an empty line or 0 brings the default back, which is 1. A write of
/// nothing at all changes nothing.
fn set_weight(node: NodeId, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let weight = if text.is_empty() { 0 } else { parse(text)? };
    weights().set(node, weight);
    Ok(())
}

/// As Linux reads numbers of this kind: decimal, hexadecimal after 0x, octal after 0; a plus sign.
fn parse(text: &str) -> Result<u8> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let parsed = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        u8::from_str_radix(hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        u8::from_str_radix(&text[1..], 8)
    } else {
        text.parse()
    };
    // A second sign is no number.
    parsed.ok().filter(|_| !text.starts_with('+')).ok_or(Errno::EINVAL)
}
