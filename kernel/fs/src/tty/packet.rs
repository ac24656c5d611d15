//! What packet mode tells a pseudo terminal's master (ioctl_tty(2), TIOCPKT): pure.

use super::termios::{EXTPROC, IXON, Termios, VSTART, VSTOP};

/// The slave's input, its output, was thrown away.
pub(super) const FLUSH_READ: u8 = 0x01;
pub(super) const FLUSH_WRITE: u8 = 0x02;
/// The slave's output was stopped, goes on.
const STOP: u8 = 0x04;
const START: u8 = 0x08;
/// ^S and ^Q stop and start no longer, or do from now on.
const NO_STOP: u8 = 0x10;
const DO_STOP: u8 = 0x20;
/// Settings changed where the master processes the line (EXTPROC).
const IOCTL: u8 = 0x40;

/// The bits for output that was stopped or goes on, and those that this undoes.
pub(super) fn flow(stopped: bool) -> (u8, u8) {
    if stopped { (STOP, START) } else { (START, STOP) }
}

/// As [`flow`], for other settings.
pub(super) fn settings(old: &Termios, new: &Termios) -> (u8, u8) {
    let usual = |t: &Termios| t.iflag & IXON != 0 && (t.cc[VSTOP], t.cc[VSTART]) == (0x13, 0x11);
    let flow = match (usual(old), usual(new)) {
        (false, true) => (DO_STOP, NO_STOP),
        (true, false) => (NO_STOP, DO_STOP),
        _ => (0, 0),
    };
    let external = old.local(EXTPROC) || new.local(EXTPROC);
    (flow.0 | if external { IOCTL } else { 0 }, flow.1)
}
