//! Anonymous memory to measure with.

use std::sync::atomic::AtomicUsize;

use crate::sys::{Result, at, call, wrong};

pub const PAGE: usize = 4096;
const READ_WRITE: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;

/// Private anonymous pages, unmapped when this value goes.
pub struct Region {
    pub start: usize,
    pub pages: usize,
}

impl Region {
    pub fn new(pages: usize) -> Result<Self> {
        let start = map(pages * PAGE)?;
        // One size of page on both kernels; where there is no other the call may be absent.
        let _ = call(
            "madvise",
            libc::SYS_madvise,
            [start, pages * PAGE, libc::MADV_NOHUGEPAGE as usize],
        );
        Ok(Self { start, pages })
    }

    /// With every page written to.
    pub fn touched(pages: usize) -> Result<Self> {
        let region = Self::new(pages)?;
        region.touch();
        Ok(region)
    }

    #[inline(always)]
    pub fn touch(&self) {
        for page in 0..self.pages {
            write(self.start + page * PAGE);
        }
    }

    pub fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// The node of each page, by move_pages(2).
    pub fn nodes(&self) -> Result<Vec<i32>> {
        let addresses: Vec<usize> = (0..self.pages).map(|n| self.start + n * PAGE).collect();
        let mut status = vec![-1_i32; self.pages];
        let args = [0, self.pages, at(addresses.as_ptr()), 0, at(status.as_mut_ptr()), 0];
        call("move_pages", libc::SYS_move_pages, args)?;
        Ok(status)
    }

    /// An error unless every page is on `node`.
    pub fn expect_on(&self, node: usize) -> Result<()> {
        if self.nodes()?.iter().any(|&own| own != node as i32) {
            return wrong("pages are not where they were sent");
        }
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = unmap(self.start, self.bytes());
    }
}

#[inline(always)]
pub fn map(bytes: usize) -> Result<usize> {
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    call("mmap", libc::SYS_mmap, [0, bytes, READ_WRITE, flags, usize::MAX, 0])
}

/// A page of words that children share; it stays for the rest of the process's life.
pub fn shared_words() -> Result<&'static [AtomicUsize]> {
    let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize;
    let start = call("mmap", libc::SYS_mmap, [0, PAGE, READ_WRITE, flags, usize::MAX, 0])?;
    // SAFETY: a mapping of this many words, zeroed and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts(start as *const AtomicUsize, PAGE / 8) })
}

#[inline(always)]
pub fn unmap(start: usize, bytes: usize) -> Result<()> {
    call("munmap", libc::SYS_munmap, [start, bytes]).map(drop)
}

#[inline(always)]
pub fn protect(start: usize, bytes: usize, writable: bool) -> Result<()> {
    let bits = if writable { READ_WRITE } else { libc::PROT_READ as usize };
    call("mprotect", libc::SYS_mprotect, [start, bytes, bits]).map(drop)
}

/// Writes a byte of a page.
#[inline(always)]
pub fn write(address: usize) {
    // SAFETY: callers name writable memory of a region that only they use.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) }
}
