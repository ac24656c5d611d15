//! Init's part in counting memory traffic: it tells the emulator's plugin where each node's memory
//! is, and when the program begins and ends (abi's `doorbell` says how).
//!
//! The same on every kernel: pages are bound to nodes by mbind(2), and /proc/self/pagemap says
//! where they are.

use std::arch::asm;
use std::ffi::{c_int, c_long, c_void};
use std::fs;
use std::os::unix::fs::FileExt;

use abi::doorbell::{Kind, send};

const PAGE: usize = 4096;
/// System calls and their words.
const MBIND: c_long = 237;
const SCHED_SETAFFINITY: c_long = 203;
const SCHED_GETAFFINITY: c_long = 204;
const GETCPU: c_long = 309;
const BIND: c_long = 2;
const READ_WRITE: c_int = 3;
const PRIVATE_ANONYMOUS: c_int = 0x22;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mmap(
        at: *mut c_void,
        len: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        off: i64,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}

/// Rings once, at an address that can be read.
macro_rules! load {
    ($kind:expr, $address:expr) => {{
        // SAFETY: the caller's address points at a mapped byte.
        unsafe {
            asm!(
                ".byte 0x0f, 0xb6, 0x81",
                ".long {displacement}",
                displacement = const $kind.displacement(),
                in("rcx") ($address).wrapping_sub($kind.displacement() as u64),
                out("eax") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }};
}

#[repr(align(4096))]
struct Bell([u8; PAGE]);

static BELL: Bell = Bell([0; PAGE]);

fn ring(command: Kind, arguments: &[u64]) {
    send(command, arguments, &mut |kind, value| {
        let address = BELL.0.as_ptr() as u64 + u64::from(value & 0xfff);
        match kind {
            Kind::PIECE => load!(Kind::PIECE, address),
            Kind::ARGUMENT => load!(Kind::ARGUMENT, address),
            Kind::LEARN => load!(Kind::LEARN, address),
            Kind::START => load!(Kind::START, address),
            Kind::END => load!(Kind::END, address),
            _ => {}
        }
    });
}

/// The calling process begins to be measured.
pub fn start() {
    ring(Kind::START, &[]);
}

/// Nothing is measured any more.
pub fn end() {
    ring(Kind::END, &[]);
}

/// Shows the plugin a page of every node that has memory.
pub fn learn() -> Result<(), String> {
    let nodes = fs::read_to_string("/sys/devices/system/node/has_memory")
        .map_err(|e| format!("has_memory: {e}"))?;
    stay_on_this_cpu(|| list(&nodes).into_iter().try_for_each(learn_node))
}

/// `0-1,3` as numbers.
fn list(text: &str) -> Vec<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u64>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn learn_node(node: u64) -> Result<(), String> {
    let failed = |what: &str| format!("{what} node {node}: {}", std::io::Error::last_os_error());
    // SAFETY: a new mapping of its own.
    let page = unsafe { mmap(std::ptr::null_mut(), PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0) };
    if page as isize == -1 {
        return Err(failed("mmap for"));
    }
    let mask = [1u64 << node, 0];
    // SAFETY: the range is the mapping's; the mask has the words that are named.
    if unsafe { syscall(MBIND, page, PAGE, BIND, mask.as_ptr(), 65 as c_long, 0 as c_long) } < 0 {
        return Err(failed("mbind to"));
    }
    // SAFETY: a byte of the mapping.
    unsafe { page.cast::<u8>().write_volatile(1) };
    let address = physical(page as u64)?;
    ring(Kind::LEARN, &[address, node]);
    load!(Kind::TOUCH, page as u64);
    // SAFETY: the mapping, which nobody uses any more.
    unsafe { munmap(page, PAGE) };
    Ok(())
}

/// Where a page of this process is in the machine's memory (Linux's pagemap.rst).
fn physical(address: u64) -> Result<u64, String> {
    let mut word = [0; 8];
    fs::File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut word, address / PAGE as u64 * 8))
        .map_err(|e| format!("pagemap: {e}"))?;
    let word = u64::from_ne_bytes(word);
    let frame = word & ((1 << 55) - 1);
    if word >> 63 == 0 || frame == 0 {
        return Err("pagemap does not say where a page is".into());
    }
    Ok(frame * PAGE as u64)
}

/// A message must not be broken off by a move to another CPU.
fn stay_on_this_cpu<T>(work: impl FnOnce() -> T) -> T {
    let (mut old, mut here) = ([0u64; 16], 0u32);
    let size = size_of_val(&old);
    // SAFETY: the calls write within the two variables.
    unsafe {
        syscall(SCHED_GETAFFINITY, 0 as c_long, size, old.as_mut_ptr());
        syscall(GETCPU, &mut here, std::ptr::null_mut::<u32>(), 0 as c_long);
    }
    let mut mask = [0u64; 16];
    mask[here as usize / 64] = 1 << (here % 64);
    let set = |mask: &[u64; 16]| {
        // SAFETY: reads the mask.
        unsafe { syscall(SCHED_SETAFFINITY, 0 as c_long, size, mask.as_ptr()) };
    };
    set(&mask);
    let result = work();
    set(&old);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_nodes_are_read() {
        assert_eq!(list("0-1,3\n"), [0, 1, 3]);
        assert_eq!(list(""), [0u64; 0]);
    }
}
