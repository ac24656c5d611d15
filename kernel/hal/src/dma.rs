//! Memory that devices read and write.

use crate::{Pfn, PhysAddr, phys};
use abi::PAGE_SIZE;

/// Frames in a row that a device may use. They stay its own: nobody knows when a device is done.
pub struct Block {
    first: Pfn,
    frames: u64,
}

impl Block {
    /// `frames` frames from `first` on, filled with zeroes.
    ///
    /// # Safety
    /// They are memory that nothing else uses, now or later.
    pub unsafe fn new(first: Pfn, frames: u64) -> Self {
        phys::zero_frames(first, frames);
        Self { first, frames }
    }

    /// Where a device finds it.
    pub fn address(&self) -> PhysAddr {
        self.first.addr()
    }

    /// Bytes that it holds.
    #[allow(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.frames as usize * PAGE_SIZE
    }

    /// What a device wrote. Reading meanwhile gives old bytes, new ones, or some of each.
    pub fn bytes(&self) -> &[u8] {
        phys::range(self.address(), self.len())
    }

    /// The bytes, for a device to read.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the frames are this value's alone, which is borrowed for as long.
        unsafe { core::slice::from_raw_parts_mut(phys::ptr::<u8>(self.address()), self.len()) }
    }

    /// The kernel's pointer to the `offset`th byte. None behind the end.
    #[cfg(target_os = "none")]
    pub(crate) fn at<T>(&self, offset: u64) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>() as u64)?;
        let inside = end <= self.len() as u64;
        inside.then(|| phys::ptr(PhysAddr::new(self.address().raw() + offset)))
    }
}
