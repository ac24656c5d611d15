//! Signals: masks, waiting, and a handler that notes what it was told.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use crate::sys::{self, Result, sys};

/// How often [`note`] ran, and with what the last time.
pub static COUNT: AtomicI32 = AtomicI32::new(0);
pub static SIGNAL: AtomicI32 = AtomicI32::new(0);
pub static CODE: AtomicI32 = AtomicI32::new(0);
pub static SENDER: AtomicI32 = AtomicI32::new(0);
pub static VALUE: AtomicUsize = AtomicUsize::new(0);
pub static TID: AtomicI32 = AtomicI32::new(0);
pub static STACK: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0u8;
    SIGNAL.store(signal, SeqCst);
    // SAFETY: the kernel hands a handler with SA_SIGINFO a siginfo; which of its fields mean
    // something the test knows.
    unsafe {
        CODE.store((*info).si_code, SeqCst);
        SENDER.store((*info).si_pid(), SeqCst);
        VALUE.store((*info).si_value().sival_ptr as usize, SeqCst);
    }
    TID.store(sys::gettid(), SeqCst);
    STACK.store(&raw const here as usize, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

/// Installs the noting handler.
pub fn catch(signal: i32, flags: i32) {
    COUNT.store(0, SeqCst);
    sys::on_signal_with(signal, note as *const () as usize, flags | libc::SA_SIGINFO);
}

pub fn ignore(signal: i32) {
    sys::on_signal_with(signal, libc::SIG_IGN, 0);
}

pub fn set_of(signals: &[i32]) -> u64 {
    signals.iter().map(|signal| 1 << (signal - 1)).sum()
}

fn change(how: i32, signals: &[i32]) -> u64 {
    let (set, mut old) = (set_of(signals), 0u64);
    sys!(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, 8).unwrap();
    old
}

pub fn block(signals: &[i32]) {
    change(libc::SIG_BLOCK, signals);
}

pub fn unblock(signals: &[i32]) {
    change(libc::SIG_UNBLOCK, signals);
}

pub fn is_blocked(signal: i32) -> bool {
    change(libc::SIG_BLOCK, &[]) & set_of(&[signal]) != 0
}

pub fn pending() -> u64 {
    let mut set = 0u64;
    sys!(libc::SYS_rt_sigpending, &raw mut set, 8).unwrap();
    set
}

/// Takes one blocked signal of the set, waiting at most so long.
pub fn take(signals: &[i32], nanos: u64) -> Result<libc::siginfo_t> {
    let set = set_of(signals);
    let limit = sys::timespec(nanos);
    let mut info: libc::siginfo_t = sys::zeroed();
    let (set, limit) = (&raw const set, &raw const limit);
    sys!(libc::SYS_rt_sigtimedwait, set, &raw mut info, limit, 8)?;
    Ok(info)
}

/// Waits until the handler has run `count` times in all.
pub fn until_noted(count: i32) {
    while COUNT.load(SeqCst) < count {
        std::thread::yield_now();
    }
}

/// The effective capabilities as /proc/self/status shows them.
pub fn effective_capabilities() -> u64 {
    status_field("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(u64::MAX)
}

/// A field of /proc/self/status.
pub fn status_field(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let wanted = format!("{name}:");
    let line = text.lines().find(|line| line.starts_with(&wanted))?;
    Some(line[wanted.len()..].trim().to_string())
}
