//! Memory bound to a node, and threads bound to a CPU.

use std::ptr::NonNull;

const MPOL_BIND: libc::c_long = 2;

/// Keeps the calling thread on a CPU.
pub fn pin(cpu: usize) {
    let mut mask = [0u64; 16];
    mask[cpu / 64] = 1 << (cpu % 64);
    // SAFETY: reads the mask.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()) };
    assert_eq!(result, 0, "CPU {cpu}: {}", std::io::Error::last_os_error());
}

/// Words of memory of its own, in whole pages. Every access is one instruction's.
pub struct Words {
    at: NonNull<u64>,
    len: usize,
}

// SAFETY: a range of memory; who writes it when is the programs' affair, by volatile accesses.
unsafe impl Sync for Words {}

impl Words {
    /// Untouched words, where their first user puts them.
    pub fn new(len: usize) -> Self {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len * 8, access, private, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { at: NonNull::new(at.cast()).expect("mapped at 0"), len }
    }

    /// Words on `node`, all written once.
    pub fn on(node: usize, len: usize) -> Self {
        let words = Self::new(len);
        let mask = [1u64 << node, 0];
        let at = words.at.as_ptr();
        // SAFETY: the mapping's range, and a mask of the words that are named.
        let result = unsafe {
            libc::syscall(libc::SYS_mbind, at, len * 8, MPOL_BIND, mask.as_ptr(), 65usize, 0usize)
        };
        assert_eq!(result, 0, "node {node}: {}", std::io::Error::last_os_error());
        words.each(|i| words.set(i, i as u64));
        words
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Calls `f` with each index.
    #[inline(always)]
    pub fn each(&self, f: impl FnMut(usize)) {
        (0..self.len).for_each(f);
    }

    #[inline(always)]
    pub fn get(&self, index: usize) -> u64 {
        assert!(index < self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.as_ptr().add(index).read_volatile() }
    }

    #[inline(always)]
    pub fn set(&self, index: usize, value: u64) {
        assert!(index < self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.as_ptr().add(index).write_volatile(value) }
    }
}
