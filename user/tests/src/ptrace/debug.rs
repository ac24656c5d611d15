//! Debug registers: breakpoints and watchpoints of the CPU.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::harness::{Test, tests};
use crate::memory::{map, put, word};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_watched_word_stops_who_writes_it,
    a_breakpoint_of_the_cpu_stops_before_the_instruction,
    what_is_the_kernels_is_not_watched,
    a_watched_word_that_the_kernel_writes_harms_nobody,
    debug_registers_are_their_tasks_own,
    an_exec_forgets_them,
];

/// Place of debug register `n` in `struct user`.
const fn place(n: usize) -> usize {
    848 + 8 * n
}

fn get(pid: i32, n: usize) -> u64 {
    let mut value = 0u64;
    let at = (&raw mut value).expose_provenance();
    ptrace(PTRACE_PEEKUSER, pid, place(n), at).expect("a debug register");
    value
}

fn set(pid: i32, n: usize, value: u64) -> Result<usize> {
    ptrace(PTRACE_POKEUSER, pid, place(n), value as usize)
}

/// DR7: register 0 watches four bytes that are written.
const WRITES: u64 = 1 | 0b1101 << 16;
/// Register 0 watches an instruction.
const RUNS: u64 = 1;

fn a_watched_word_stops_who_writes_it() {
    let page = map(1);
    let pid = traced(|| {
        put(page + 8, 1);
        put(page, 2);
        let _ = std::hint::black_box(word(page).load(SeqCst));
        put(page, 3);
    });
    set(pid, 0, page as u64).expect("DR0");
    set(pid, 7, WRITES).expect("DR7");
    assert_eq!((get(pid, 0), get(pid, 7)), (page as u64, WRITES));
    for value in [2, 3] {
        go_on(PTRACE_CONT, pid, 0);
        assert_eq!(stop_of(pid), SIGTRAP);
        assert_eq!(info(pid), Ok((SIGTRAP, TRAP_HWBKPT)));
        assert_eq!(get(pid, 6) & 0xf, 1, "DR6 names it");
        set(pid, 6, 0).expect("DR6");
        let mut word = 0u64;
        ptrace(PTRACE_PEEKDATA, pid, page, (&raw mut word).expose_provenance()).expect("memory");
        assert_eq!(word as u32, value, "after the write");
    }
    set(pid, 7, 0).expect("no more");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

extern "C" fn here() -> i32 {
    std::hint::black_box(5)
}

fn a_breakpoint_of_the_cpu_stops_before_the_instruction() {
    let run: extern "C" fn() -> i32 = std::hint::black_box(here);
    let at = run as usize as u64;
    let pid = traced(|| sys::exit_group(run()));
    set(pid, 0, at).expect("DR0");
    set(pid, 7, RUNS).expect("DR7");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(regs(pid).rip, at);
    assert_eq!(info(pid), Ok((SIGTRAP, TRAP_HWBKPT)));
    set(pid, 7, 0).expect("no more");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}

fn what_is_the_kernels_is_not_watched() {
    let pid = traced(|| {});
    for bad in [0xffff_8000_0000_0000u64, 0xffff_ffff_8000_0000, 0x7fff_ffff_f000, 1 << 63] {
        fails(set(pid, 0, bad), EINVAL);
    }
    assert_eq!(get(pid, 0), 0);
    fails(set(pid, 4, 0), EIO);
    fails(set(pid, 5, 0), EIO);
    assert_eq!((get(pid, 4), get(pid, 5)), (0, 0));
    // Not aligned; ports; general detect, which is not the tracer's.
    set(pid, 0, 0x10002).expect("DR0");
    fails(set(pid, 7, WRITES), EINVAL);
    set(pid, 0, 0x10000).expect("DR0");
    fails(set(pid, 7, 1 | 0b1110 << 16), EINVAL);
    set(pid, 7, 1 << 13).expect("it is kept, and means nothing");
    assert_eq!(get(pid, 7), 1 << 13);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_watched_word_that_the_kernel_writes_harms_nobody() {
    let page = map(1);
    let (read, write) = sys::pipe().expect("a pipe");
    sys::write(write, b"abcd").expect("write");
    let pid = traced(|| {
        assert_eq!(sys!(SYS_read, read, page, 4), Ok(4));
        assert_eq!(word(page).load(SeqCst), u32::from_ne_bytes(*b"abcd"));
    });
    set(pid, 0, page as u64).expect("DR0");
    set(pid, 7, WRITES).expect("DR7");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn debug_registers_are_their_tasks_own() {
    let page = crate::memory::map_shared(1);
    let pid = traced(|| {
        let child = child(|| put(page, 1));
        assert_eq!(crate::child::join(child), 0, "a child has none");
        put(page, 2);
    });
    set(pid, 0, page as u64).expect("DR0");
    set(pid, 7, WRITES).expect("DR7");
    // This process is on the same CPUs, and writes there, too.
    for value in 0..100 {
        put(page, value);
        std::thread::yield_now();
    }
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCHLD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(word(page).load(SeqCst), 2);
    kill(pid);
}

fn an_exec_forgets_them() {
    let page = map(1);
    let pid = traced(|| {
        crate::helper::exec(&["exit", "5"]);
    });
    set_options(pid, PTRACE_O_TRACEEXEC);
    set(pid, 0, page as u64).expect("DR0");
    set(pid, 7, WRITES).expect("DR7");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXEC));
    assert_eq!((get(pid, 0), get(pid, 7)), (0, 0));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}
