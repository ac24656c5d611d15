//! Threads without a library: clone(2) on stacks of this program's own.
//!
//! The new thread shares its creator's thread-local storage, which is safe here because workers
//! run one at a time and use none.

use std::arch::global_asm;
use std::cell::UnsafeCell;
use std::sync::atomic::AtomicU32;

use crate::ops::WORKERS;
use crate::worker;

const STACK: usize = 64 << 10;

global_asm!(
    ".globl fuzz_clone",
    // flags, stack, place of the tid (cleared at the end)
    "fuzz_clone:",
    "mov r10, rdx",
    "xor edx, edx",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test eax, eax",
    "jnz 1f",
    "xor ebp, ebp",
    "mov rdi, [rsp]",
    "and rsp, -16",
    "call {main}",
    "ud2",
    "1:",
    "ret",
    main = sym main,
);

unsafe extern "C" {
    fn fuzz_clone(flags: u64, stack: u64, tid: u64) -> i64;
}

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK]; WORKERS]>);

// SAFETY: each stack belongs to the one thread that its number names.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK]; WORKERS]));

extern "C" fn main(slot: u64) -> ! {
    worker::serve(slot as usize)
}

/// Starts worker `slot` as a thread of this process; `alive` is set to its id, and to zero at its
/// end. The thread's id, or minus an errno.
pub fn start(slot: usize, alive: &AtomicU32) -> i64 {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    // SAFETY: the stack is the new thread's alone, and its first word is the number it reads.
    unsafe {
        let top = STACKS.0.get().cast::<u8>().add((slot + 1) * STACK - 64).cast::<u64>();
        top.write(slot as u64);
        let tid = alive.as_ptr().expose_provenance() as u64;
        fuzz_clone(flags as u64, top.expose_provenance() as u64, tid)
    }
}
