//! Crashes on request, in the checked kernel alone, to see what comes of them. The command line says
//! where: `provoke_crash=early`, before the kernel has handlers; `provoke_crash=panic`, while the next
//! panic is told; `provoke_crash=stack`, by a stack that overflows where sysrq asks for a crash.

use crate::boot::cmdline;

fn is_wanted(place: &str) -> bool {
    cmdline::value("provoke_crash") == Some(place)
}

/// Before there are handlers.
pub fn early() {
    if is_wanted("early") {
        hal::trap::undefined_instruction();
    }
}

/// Inside a panic.
pub fn in_panic() {
    if is_wanted("panic") {
        hal::trap::undefined_instruction();
    }
}

/// Where sysrq asks for a crash.
pub fn on_sysrq() {
    if is_wanted("stack") {
        deeper(1);
    }
}

/// Uses up the kernel's stack.
fn deeper(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 32]);
    if depth == 0 { 0 } else { deeper(depth + 1) + room[0] }
}
