//! Crashes on request, in the checked kernel alone, to see what comes of them. The command line says
//! where: `provoke_crash=early`, before the kernel has handlers, or `provoke_crash=panic`, while the
//! next panic is told.

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
