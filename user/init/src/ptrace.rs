//! The little of ptrace(2) that [`crate::observe`] needs on Linux.

use std::ffi::{c_int, c_long};

/// PTRACE_EVENT_EXIT and PTRACE_EVENT_STOP.
pub const EVENT_EXIT: u32 = 6;
pub const EVENT_STOP: u32 = 128;

const CONT: c_int = 7;
const SEIZE: c_int = 0x4206;
const LISTEN: c_int = 0x4208;
const TRACE_EXIT: c_long = 1 << EVENT_EXIT;

unsafe extern "C" {
    fn ptrace(request: c_int, ...) -> c_long;
}

fn call(request: c_int, pid: u32, data: c_long) -> Result<(), String> {
    // SAFETY: these requests read and write no memory of ours; a wrong process is an error.
    let result = unsafe { ptrace(request, pid as c_int, std::ptr::null_mut::<u8>(), data) };
    if result < 0 {
        return Err(format!("ptrace: {}", std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Watches a process; it stops at its end.
pub fn seize(pid: u32) -> Result<(), String> {
    call(SEIZE, pid, TRACE_EXIT)
}

/// Lets a stopped process go on, with a signal or (0) none.
pub fn go_on(pid: u32, signal: i32) -> Result<(), String> {
    call(CONT, pid, signal.into())
}

/// Leaves a process stopped until a SIGCONT.
pub fn listen(pid: u32) -> Result<(), String> {
    call(LISTEN, pid, 0)
}

/// True for SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
pub fn stops(signal: i32) -> bool {
    (19..=22).contains(&signal)
}
