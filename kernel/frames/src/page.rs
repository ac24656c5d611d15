//! A counted reference to a frame of user data.

use crate::meta::{Frame, Kind, frame};
use core::mem::ManuallyDrop;
use hal::Pfn;

/// One reference to a frame; the frame is freed with the last one. Cloning adds a reference.
#[derive(PartialEq, Eq, Debug)]
pub struct Page(Pfn);

impl Page {
    /// Takes over the reference that an allocation came with.
    pub fn from_alloc(pfn: Pfn) -> Self {
        debug_assert!(frame(pfn).refs() >= 1);
        Self(pfn)
    }

    /// Takes over a reference that [`Page::into_raw`] left in a page-table entry.
    pub fn from_raw(pfn: Pfn) -> Self {
        Self(pfn)
    }

    /// Leaves the reference to a page-table entry.
    #[must_use = "the reference must be kept somewhere"]
    pub fn into_raw(self) -> Pfn {
        ManuallyDrop::new(self).0
    }

    /// Another reference to a frame that may be on its way out; None when it is.
    pub fn try_from_pfn(pfn: Pfn) -> Option<Self> {
        frame(pfn).try_get().then_some(Self(pfn))
    }

    /// The frame's number.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.0
    }

    /// The frame's metadata.
    #[inline]
    pub fn frame(&self) -> &'static Frame {
        frame(self.0)
    }

    /// Frames that it is made of: 1, or those of a huge page.
    #[inline]
    pub fn frames(&self) -> u64 {
        1 << self.frame().order()
    }

    /// Its bytes from `offset` on, up to the end of the frame that they lie in.
    #[inline]
    pub fn bytes_at(&self, offset: u64) -> &[u8] {
        &hal::phys::bytes(self.part(offset))[offset as usize % abi::PAGE_SIZE..]
    }

    /// As [`Page::bytes_at`], to write.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "frames are shared memory")]
    pub fn bytes_at_mut(&self, offset: u64) -> &mut [u8] {
        &mut hal::phys::bytes_mut(self.part(offset))[offset as usize % abi::PAGE_SIZE..]
    }

    /// The frame of its byte `offset`.
    #[inline]
    pub fn part(&self, offset: u64) -> Pfn {
        Pfn::new(self.0.raw() + offset / abi::PAGE_SIZE as u64)
    }

    /// Fills it with zeroes. The caller has it alone.
    pub fn zero(&self) {
        hal::phys::zero_frames(self.0, self.frames());
    }

    /// Copies the contents of `from`, which is of the same size.
    pub fn copy_from(&self, from: Pfn) {
        hal::phys::copy_frames(self.0, from, self.frames());
    }

    /// The node it is on.
    #[inline]
    pub fn node(&self) -> numa::NodeId {
        self.frame().node()
    }

    /// Its bytes (see `hal::phys::bytes`).
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        hal::phys::bytes(self.0)
    }

    /// Its bytes, to write.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "frames are shared memory")]
    pub fn bytes_mut(&self) -> &mut [u8] {
        hal::phys::bytes_mut(self.0)
    }
}

impl Clone for Page {
    #[inline]
    fn clone(&self) -> Self {
        self.frame().get();
        Self(self.0)
    }
}

impl Drop for Page {
    #[inline]
    fn drop(&mut self) {
        if self.frame().put() {
            debug_assert!(matches!(
                self.frame().kind(),
                Kind::Anon
                    | Kind::Shared
                    | Kind::SharedHuge
                    | Kind::Kernel
                    | Kind::PageTable
                    | Kind::HugeTlb
                    | Kind::AnonHuge
            ));
            crate::free_one(self.0);
        }
    }
}
