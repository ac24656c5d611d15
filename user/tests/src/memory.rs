//! Memory by the page: mapping it, touching it, comparing it.
//!
//! Accesses are volatile, so that each really happens; those that may fault are in [`crate::fault`].

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::sys::{Result, sys};

pub const PAGE: usize = 4096;
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
pub const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS;

pub fn mmap(at: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: usize) -> Result<usize> {
    sys!(libc::SYS_mmap, at, len, prot, flags, fd, offset)
}

/// Private anonymous pages.
#[track_caller]
pub fn map(pages: usize) -> usize {
    mmap(0, pages * PAGE, RW, PRIVATE, -1, 0).unwrap()
}

/// Shared anonymous pages.
#[track_caller]
pub fn map_shared(pages: usize) -> usize {
    mmap(0, pages * PAGE, RW, SHARED, -1, 0).unwrap()
}

/// Private pages with an unusable page on either side, so that nothing merges with them.
#[track_caller]
pub fn map_alone(pages: usize) -> usize {
    // Unusable at first, so that it has never been one with a writable neighbour either.
    let start = mmap(0, (pages + 2) * PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    mprotect(start + PAGE, pages, RW).unwrap();
    start + PAGE
}

pub fn munmap(at: usize, pages: usize) -> Result<usize> {
    sys!(libc::SYS_munmap, at, pages * PAGE)
}

pub fn mprotect(at: usize, pages: usize, prot: i32) -> Result<usize> {
    sys!(libc::SYS_mprotect, at, pages * PAGE, prot)
}

pub fn madvise(at: usize, pages: usize, advice: i32) -> Result<usize> {
    sys!(libc::SYS_madvise, at, pages * PAGE, advice)
}

pub fn mremap(at: usize, old: usize, new: usize, flags: i32, to: usize) -> Result<usize> {
    sys!(libc::SYS_mremap, at, old * PAGE, new * PAGE, flags, to)
}

/// Which pages mincore(2) calls resident.
pub fn resident(at: usize, pages: usize) -> Result<Vec<bool>> {
    let mut vector = vec![0u8; pages];
    sys!(libc::SYS_mincore, at, pages * PAGE, vector.as_mut_ptr())?;
    Ok(vector.into_iter().map(|byte| byte & 1 == 1).collect())
}

pub fn get(at: usize) -> u8 {
    // SAFETY: the caller has mapped the page; if not, this child dies of it.
    unsafe { (at as *const u8).read_volatile() }
}

pub fn put(at: usize, value: u8) {
    // SAFETY: as in `get`.
    unsafe { (at as *mut u8).write_volatile(value) }
}

pub fn get64(at: usize) -> u64 {
    // SAFETY: as in `get`; callers pass aligned addresses.
    unsafe { (at as *const u64).read_volatile() }
}

pub fn put64(at: usize, value: u64) {
    // SAFETY: as in `get`; callers pass aligned addresses.
    unsafe { (at as *mut u64).write_volatile(value) }
}

/// A word of mapped memory that several threads or processes use.
pub fn word(at: usize) -> &'static AtomicU32 {
    // SAFETY: mapped by the caller and used as an atomic only while it is.
    unsafe { AtomicU32::from_ptr(at as *mut u32) }
}

pub fn word64(at: usize) -> &'static AtomicU64 {
    // SAFETY: mapped by the caller and used as an atomic only while it is.
    unsafe { AtomicU64::from_ptr(at as *mut u64) }
}

/// Writes one byte to each page.
pub fn touch(at: usize, pages: usize) {
    for page in 0..pages {
        put(at + page * PAGE, page as u8 | 1);
    }
}

/// Reads one byte of each page.
pub fn read_each(at: usize, pages: usize) {
    for page in 0..pages {
        get(at + page * PAGE);
    }
}

/// Fills pages with words that depend on the seed and their place.
pub fn fill(at: usize, pages: usize, seed: u64) {
    for i in 0..pages * PAGE / 8 {
        put64(at + i * 8, pattern(seed, i));
    }
}

/// Asserts that the pages hold what `fill` wrote.
#[track_caller]
pub fn verify(at: usize, pages: usize, seed: u64) {
    for i in 0..pages * PAGE / 8 {
        let value = get64(at + i * 8);
        assert!(value == pattern(seed, i), "byte {:#x} of the pages is wrong: {value:#x}", i * 8);
    }
}

/// Asserts that the pages are all zero.
#[track_caller]
pub fn verify_zero(at: usize, pages: usize) {
    for i in 0..pages * PAGE / 8 {
        assert!(get64(at + i * 8) == 0, "byte {:#x} is not zero", i * 8);
    }
}

fn pattern(seed: u64, i: usize) -> u64 {
    (seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(17) | 1
}

/// A memfd of some pages.
#[track_caller]
pub fn memfd(pages: usize) -> i32 {
    memfd_with(pages, libc::MFD_CLOEXEC)
}

#[track_caller]
pub fn memfd_with(pages: usize, flags: u32) -> i32 {
    let fd = sys!(libc::SYS_memfd_create, c"tests".as_ptr(), flags).unwrap() as i32;
    sys!(libc::SYS_ftruncate, fd, pages * PAGE).unwrap();
    fd
}

#[track_caller]
pub fn map_file(fd: i32, pages: usize, flags: i32) -> usize {
    mmap(0, pages * PAGE, RW, flags, fd, 0).unwrap()
}
