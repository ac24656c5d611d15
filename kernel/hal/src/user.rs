//! User memory: every access of the kernel to it goes through the copies here.
//!
//! A copy may fault, and the fault handler may sleep (it allocates, waits for a page under
//! migration, kills nobody): callers hold no spinlock. A bad address ends the copy with
//! [`Errno::EFAULT`]; nothing is ever read or written outside the user half.

use crate::{VirtAddr, room};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::mem::{MaybeUninit, size_of};

/// One past the last user address (47-bit half, less one guard page, as Linux's TASK_SIZE).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

/// Types that are plain bytes.
///
/// # Safety
/// Every bit pattern is valid and the type holds no padding and no pointers of the kernel.
pub unsafe trait Pod: Copy + 'static {}

macro_rules! pod {
    ($($t:ty),* $(,)?) => {
        // SAFETY: integers, or repr(C) structures of integers without padding.
        $(unsafe impl Pod for $t {})*
    };
}
pod!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize);
pod!(abi::uapi::Timespec, abi::uapi::Timeval, abi::uapi::Iovec);
// SAFETY: an array of plain bytes has no padding beyond its elements'.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// The bytes of a plain value.
pub fn as_bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` has no padding, so all bytes are initialized.
    unsafe { core::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// The bytes of a slice of plain values.
pub fn slice_bytes<T: Pod>(values: &[T]) -> &[u8] {
    // SAFETY: as `as_bytes`, for each element; arrays have no gaps.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A plain value from bytes (length must match).
pub fn from_bytes<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length matches, unaligned read, every bit pattern is valid.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// True when `len` bytes at `addr` lie in the user half.
#[inline]
pub fn range_ok(addr: VirtAddr, len: usize) -> bool {
    match addr.raw().checked_add(len as u64) {
        Some(end) => end <= USER_END,
        None => false,
    }
}

/// Copies `dst.len()` bytes from user memory. EFAULT when any byte is unreadable.
#[inline]
pub fn copy_from(dst: &mut [u8], src: VirtAddr) -> Result<()> {
    if !range_ok(src, dst.len()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the source is checked to be in the user half, the destination is a live slice.
    let left = unsafe { raw_copy(dst.as_mut_ptr(), src.raw() as *const u8, dst.len()) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to user memory. EFAULT when any byte is unwritable (a prefix may have been written).
#[inline]
pub fn copy_to(dst: VirtAddr, src: &[u8]) -> Result<()> {
    if copy_to_partial(dst, src) == src.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to user memory as far as it goes; bytes copied.
#[inline]
pub fn copy_to_partial(dst: VirtAddr, src: &[u8]) -> usize {
    if !range_ok(dst, src.len()) {
        return 0;
    }
    // SAFETY: the destination is checked to be in the user half, the source is a live slice.
    src.len() - unsafe { raw_copy(dst.raw() as *mut u8, src.as_ptr(), src.len()) }
}

/// Copies from user memory as far as it goes; bytes copied.
#[inline]
pub fn copy_from_partial(dst: &mut [u8], src: VirtAddr) -> usize {
    if !range_ok(src, dst.len()) {
        return 0;
    }
    // SAFETY: as `copy_from`.
    dst.len() - unsafe { raw_copy(dst.as_mut_ptr(), src.raw() as *const u8, dst.len()) }
}

/// Reads one plain value.
#[inline]
pub fn read<T: Pod>(src: VirtAddr) -> Result<T> {
    if !range_ok(src, size_of::<T>()) {
        return Err(Errno::EFAULT);
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: source checked; destination is `size_of::<T>()` writable bytes; a full copy
    // initializes the value, and every bit pattern is valid.
    unsafe {
        if raw_copy(value.as_mut_ptr().cast(), src.raw() as *const u8, size_of::<T>()) != 0 {
            return Err(Errno::EFAULT);
        }
        Ok(value.assume_init())
    }
}

/// Writes one plain value.
#[inline]
pub fn write<T: Pod>(dst: VirtAddr, value: &T) -> Result<()> {
    if let Ok(word) = <[u8; 4]>::try_from(as_bytes(value)) {
        return write_u32(dst, u32::from_ne_bytes(word));
    }
    copy_to(dst, as_bytes(value))
}

/// Writes one word: what many calls answer with.
#[inline]
fn write_u32(dst: VirtAddr, value: u32) -> Result<()> {
    if !range_ok(dst, 4) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the destination is checked to be in the user half.
    let stored = unsafe { store_u32(dst.raw() as *mut u32, value) };
    if stored { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads `count` plain values.
pub fn read_vec<T: Pod>(src: VirtAddr, count: usize) -> Result<Vec<T>> {
    let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
    if !range_ok(src, bytes) {
        return Err(Errno::EFAULT);
    }
    let mut values = Vec::<T>::new();
    room::exact(&mut values, count)?;
    // SAFETY: capacity reserved; a full copy initializes all `count` elements.
    unsafe {
        if raw_copy(values.as_mut_ptr().cast(), src.raw() as *const u8, bytes) != 0 {
            return Err(Errno::EFAULT);
        }
        values.set_len(count);
    }
    Ok(values)
}

/// Reads a NUL-terminated string of at most `max` bytes (the NUL not counted or returned).
/// EFAULT for a bad address, ENAMETOOLONG when no NUL comes in time.
pub fn read_cstr(src: VirtAddr, max: usize) -> Result<Vec<u8>> {
    read_string(src, max, false)
}

/// As [`read_cstr`], one of any number of strings. ENOMEM.
pub fn read_one_of_many(src: VirtAddr, max: usize) -> Result<Vec<u8>> {
    read_string(src, max, true)
}

fn read_string(src: VirtAddr, max: usize, many: bool) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = src;
    loop {
        // Never cross a page in one step: the next page may be unmapped past the NUL.
        let in_page = abi::PAGE_SIZE - at.page_offset();
        let step = in_page.min(128);
        let mut chunk = [0u8; 128];
        let got = copy_from_partial(&mut chunk[..step], at);
        if got == 0 {
            return Err(Errno::EFAULT);
        }
        if let Some(end) = chunk[..got].iter().position(|&b| b == 0) {
            room::add(&mut out, &chunk[..end], many)?;
            return if out.len() > max { Err(Errno::ENAMETOOLONG) } else { Ok(out) };
        }
        if got < step {
            return Err(Errno::EFAULT);
        }
        room::add(&mut out, &chunk[..got], many)?;
        if out.len() > max {
            return Err(Errno::ENAMETOOLONG);
        }
        at = at + got as u64;
    }
}

/// Where the data of a read goes.
pub trait Sink {
    /// Bytes that still fit.
    fn room(&self) -> usize;
    /// Takes up to `room()` bytes of `data`; how many it took. EFAULT when it could take none.
    fn put(&mut self, data: &[u8]) -> Result<usize>;
    /// Puts all of `data` or fails.
    fn put_all(&mut self, data: &[u8]) -> Result<()> {
        if self.put(data)? == data.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// Where the data of a write comes from.
pub trait Source {
    /// Bytes that are left.
    fn left(&self) -> usize;
    /// Fills up to `buf.len()` bytes; how many. EFAULT when it could give none.
    fn get(&mut self, buf: &mut [u8]) -> Result<usize>;
}

/// Bytes that one call moves at most, over all ranges (Linux's MAX_RW_COUNT: INT_MAX, whole pages).
pub const MAX_RW: usize = 0x7fff_f000;

/// User memory described by one or more ranges; both a [`Sink`] and a [`Source`].
pub struct UserIo {
    parts: UserParts,
    left: usize,
}

enum UserParts {
    One(VirtAddr),
    Many(Vec<abi::uapi::Iovec>, usize, usize),
}

impl UserIo {
    /// One range. EFAULT when it leaves the user half.
    pub fn new(addr: VirtAddr, len: usize) -> Result<Self> {
        if !range_ok(addr, len) {
            return Err(Errno::EFAULT);
        }
        Ok(Self { parts: UserParts::One(addr), left: len })
    }

    /// `count` iovecs at `iov` (readv(2)): EINVAL above 1024 or when the lengths overflow, EFAULT
    /// for a range outside the user half. What lies beyond [`MAX_RW`] is left out.
    pub fn from_iovecs(iov: VirtAddr, count: usize) -> Result<Self> {
        if count > 1024 {
            return Err(Errno::EINVAL);
        }
        let parts: Vec<abi::uapi::Iovec> = read_vec(iov, count)?;
        let mut left = 0usize;
        for part in &parts {
            if part.len > isize::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            if !range_ok(VirtAddr::new(part.base), part.len as usize) {
                return Err(Errno::EFAULT);
            }
            left = left.checked_add(part.len as usize).ok_or(Errno::EINVAL)?;
        }
        if left > isize::MAX as usize {
            return Err(Errno::EINVAL);
        }
        Ok(Self { parts: UserParts::Many(parts, 0, 0), left: left.min(MAX_RW) })
    }

    /// Takes the next range as data of its own; None at the end.
    pub fn next_range(&mut self) -> Option<Self> {
        let (addr, run) = self.head();
        let len = run.min(self.left);
        if len == 0 {
            return None;
        }
        self.advance(len);
        Some(Self { parts: UserParts::One(addr), left: len })
    }

    /// The next contiguous range: address and length (0 at the end).
    fn head(&mut self) -> (VirtAddr, usize) {
        match &mut self.parts {
            UserParts::One(addr) => (*addr, self.left),
            UserParts::Many(parts, index, done) => {
                while let Some(part) = parts.get(*index) {
                    let rest = part.len as usize - *done;
                    if rest > 0 {
                        return (VirtAddr::new(part.base + *done as u64), rest);
                    }
                    *index += 1;
                    *done = 0;
                }
                (VirtAddr::new(0), 0)
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.left -= bytes;
        match &mut self.parts {
            UserParts::One(addr) => *addr = *addr + bytes as u64,
            UserParts::Many(_, _, done) => *done += bytes,
        }
    }

    /// Moves through the ranges: `copy(user address, offset, length)` returns bytes done.
    fn transfer(
        &mut self,
        len: usize,
        mut copy: impl FnMut(VirtAddr, usize, usize) -> usize,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len && self.left > 0 {
            let (addr, run) = self.head();
            let step = run.min(len - done).min(self.left);
            let did = copy(addr, done, step);
            self.advance(did);
            done += did;
            if did < step {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }
}

impl Sink for UserIo {
    fn room(&self) -> usize {
        self.left
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        self.transfer(data.len(), |addr, at, n| copy_to_partial(addr, &data[at..at + n]))
    }
}

impl Source for UserIo {
    fn left(&self) -> usize {
        self.left
    }
    fn get(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.transfer(buf.len(), |addr, at, n| copy_from_partial(&mut buf[at..at + n], addr))
    }
}

/// Kernel memory as a [`Sink`].
pub struct KernelSink<'a> {
    buf: &'a mut [u8],
    done: usize,
}

impl<'a> KernelSink<'a> {
    /// Fills `buf` from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, done: 0 }
    }
}

impl Sink for KernelSink<'_> {
    fn room(&self) -> usize {
        self.buf.len() - self.done
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.room());
        self.buf[self.done..self.done + n].copy_from_slice(&data[..n]);
        self.done += n;
        Ok(n)
    }
}

/// Kernel memory as a [`Source`].
pub struct KernelSource<'a>(pub &'a [u8]);

impl Source for KernelSource<'_> {
    fn left(&self) -> usize {
        self.0.len()
    }
    fn get(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[cfg(target_os = "none")]
use crate::x86::usercopy::{raw_copy, store_u32};

/// Host: "user" memory is the test's own memory.
///
/// # Safety
/// Both ranges are valid for `len` bytes.
#[cfg(not(target_os = "none"))]
unsafe fn raw_copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy(src, dst, len) };
    0
}

/// Stands in for the x86 store: memory is the process's own.
///
/// # Safety
/// The address is valid.
#[cfg(not(target_os = "none"))]
unsafe fn store_u32(addr: *mut u32, value: u32) -> bool {
    // SAFETY: the caller's promise; user words need no alignment.
    unsafe { addr.write_unaligned(value) };
    true
}
