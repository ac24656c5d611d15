//! The system calls that std does not have: anonymous memory by the page, and where each page is.

use std::io::Error;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

pub const PAGE: usize = 4096;

/// Private anonymous memory, whole pages, unmapped when dropped.
pub struct Region {
    start: *mut u8,
    pages: usize,
}

// SAFETY: the memory is only reached through atomics (`word`), and stays mapped as long as a
// reference to the region lives.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub fn map(pages: usize) -> Result<Self, String> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(format!("mmap: {}", Error::last_os_error()));
        }
        // Huge pages would make one page of 512, and this is about single ones.
        // SAFETY: advice about the mapping just made; a kernel without it refuses, which is fine.
        unsafe { libc::madvise(start, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start: start.cast(), pages })
    }

    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Writes 1 to every page, which is what places it.
    pub fn touch(&self) {
        for page in 0..self.pages {
            self.word(page).store(1, Ordering::Relaxed);
        }
    }

    /// The first word of a page.
    pub fn word(&self, page: usize) -> &AtomicU64 {
        assert!(page < self.pages);
        // SAFETY: inside the mapping, aligned to a page, and only ever used as an atomic.
        unsafe { AtomicU64::from_ptr(self.start.add(page * PAGE).cast()) }
    }

    /// The node of every page, or a negative errno (move_pages(2) without targets).
    pub fn nodes(&self) -> Result<Vec<i32>, String> {
        let addresses: Vec<*mut u8> =
            (0..self.pages).map(|page| self.start.wrapping_add(page * PAGE)).collect();
        let mut status = vec![0i32; self.pages];
        // SAFETY: both arrays have `pages` entries; without a nodes array nothing is moved.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                self.pages,
                addresses.as_ptr(),
                ptr::null::<i32>(),
                status.as_mut_ptr(),
                0,
            )
        };
        if result < 0 {
            return Err(format!("move_pages: {}", Error::last_os_error()));
        }
        Ok(status)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made, and no reference into it is left.
        unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
    }
}
