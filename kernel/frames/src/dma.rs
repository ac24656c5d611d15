//! Frames for devices.

use crate::{Kind, Usage};
use hal::dma::Block;

/// Takes 2^`order` frames in a row from `node` for a device, for good. None without them.
#[allow(unsafe_code, reason = "says that frames are nobody else's")]
pub fn alloc(node: numa::NodeId, order: u32) -> Option<Block> {
    let first = crate::alloc(node, order, Kind::Kernel, Usage::Kernel)?;
    // SAFETY: they were just allocated, and nobody gives them back.
    Some(unsafe { Block::new(first, 1 << order) })
}
