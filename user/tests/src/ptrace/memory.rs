//! A tracee's memory.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::harness::{Test, tests};
use crate::memory::{map, map_shared, put, word};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    words_are_read_and_written,
    read_only_memory_is_written_in_a_copy_of_its_own,
    memory_that_is_not_there_is_refused,
    a_tracers_file_of_memory_reads_and_writes,
];

/// A word of the tracee.
fn peek(pid: i32, at: usize) -> Result<u64> {
    let mut value = 0u64;
    ptrace(PTRACE_PEEKDATA, pid, at, (&raw mut value).expose_provenance()).map(|_| value)
}

fn words_are_read_and_written() {
    let page = map(2);
    let told = map_shared(1);
    word(page).store(0x1122_3344, SeqCst);
    let pid = traced(|| {
        word(told).store(word(page).load(SeqCst), SeqCst);
        raise_stop();
        // Across the border of two pages.
        word(told).store(word(page + 4096).load(SeqCst), SeqCst);
    });
    assert_eq!(peek(pid, page), Ok(0x1122_3344));
    ptrace(PTRACE_POKEDATA, pid, page, 0x5566_7788).expect("POKEDATA");
    assert_eq!(word(page).load(SeqCst), 0x1122_3344, "the parent's copy is its own");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGSTOP);
    assert_eq!(word(told).load(SeqCst), 0x5566_7788);
    ptrace(PTRACE_POKETEXT, pid, page + 4092, 0x0102_0304_0000_0000).expect("POKETEXT");
    assert_eq!(peek(pid, page + 4092), Ok(0x0102_0304_0000_0000));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
    assert_eq!(word(told).load(SeqCst), 0x0102_0304);
}

extern "C" fn answer() -> i32 {
    std::hint::black_box(42)
}

fn read_only_memory_is_written_in_a_copy_of_its_own() {
    let at = answer as *const () as usize & !7;
    let pid = traced(|| {
        sys::exit_group(answer());
    });
    let before = peek(pid, at).expect("text");
    ptrace(PTRACE_POKETEXT, pid, at, !before as usize).expect("POKETEXT into text");
    assert_eq!(peek(pid, at), Ok(!before));
    // SAFETY: this program's own text.
    let own = unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() };
    assert_eq!(own, before, "the file's page is not touched");
    ptrace(PTRACE_POKETEXT, pid, at, before as usize).expect("back");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 42);
}

fn memory_that_is_not_there_is_refused() {
    let page = map(2);
    sys!(SYS_munmap, page + 4096, 4096).expect("munmap");
    let pid = traced(pause);
    for bad in [page + 4096, page + 4092, 0, 1 << 47, usize::MAX - 3, 0xffff_8000_0000_0000] {
        fails(peek(pid, bad), EIO);
        fails(ptrace(PTRACE_POKEDATA, pid, bad, 1), EIO);
    }
    fails(ptrace(PTRACE_PEEKDATA, pid, page, 8), EFAULT);
    kill(pid);
}

fn a_tracers_file_of_memory_reads_and_writes() {
    let page = map(1);
    put(page, 77);
    let pid = traced(|| sys::exit_group(word(page).load(SeqCst) as i32));
    let file = sys::open(&format!("/proc/{pid}/mem"), O_RDWR, 0).expect("mem");
    let mut bytes = [0u8; 4];
    let at = bytes.as_mut_ptr();
    assert_eq!(sys!(SYS_pread64, file, at, 4, page), Ok(4));
    assert_eq!(u32::from_ne_bytes(bytes), 77);
    bytes = 55u32.to_ne_bytes();
    assert_eq!(sys!(SYS_pwrite64, file, bytes.as_ptr(), 4, page), Ok(4));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 55);
}
