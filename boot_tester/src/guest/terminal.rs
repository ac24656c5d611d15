//! The person's terminal while a guest has it: raw mode, restored however the tool ends, and the
//! keys that leave (Ctrl-A x, as in QEMU and screen).

use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use crate::cleanup;
use crate::error::{Context, Fail, Result};

const CTRL_A: u8 = 1;

/// The terminal in raw mode, until this value goes or the tool is interrupted.
pub struct RawMode(());

impl RawMode {
    pub fn enter() -> Result<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(Fail::usage("--interactive needs a terminal on stdin and stdout"));
        }
        let mut raw = tcgetattr(stdin()).context("terminal")?;
        cleanup::keep_terminal(Some(raw.clone()));
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("terminal")?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        cleanup::restore_terminal();
    }
}

/// Rows and columns of the terminal.
pub fn size() -> Option<(u16, u16)> {
    tcgetwinsize(stdout()).ok().map(|size| (size.ws_row, size.ws_col)).filter(|s| *s != (0, 0))
}

/// Sends keys to the guest; when the person asks to leave, `left` is set and `leave` called.
pub fn send_keys(
    mut port: UnixStream,
    left: Arc<AtomicBool>,
    leave: impl FnOnce() + Send + 'static,
) {
    thread::spawn(move || {
        let mut escape = false;
        let mut buffer = [0; 512];
        while let Ok(count) = stdin().read(&mut buffer) {
            if count == 0 {
                break;
            }
            let (bytes, quit) = filter(&buffer[..count], &mut escape);
            if quit {
                left.store(true, Ordering::SeqCst);
                leave();
                return;
            }
            if port.write_all(&bytes).is_err() {
                return;
            }
        }
    });
}

/// Calls `tell` with the new size whenever the window changes.
pub fn follow_size(tell: impl Fn(u16, u16) + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGWINCH]) else { return };
    thread::spawn(move || {
        for _ in signals.forever() {
            if let Some((rows, columns)) = size() {
                tell(rows, columns);
            }
        }
    });
}

/// Takes the escape sequences out: Ctrl-A x leaves, Ctrl-A Ctrl-A is one Ctrl-A.
fn filter(input: &[u8], escape: &mut bool) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(input.len());
    for &byte in input {
        if *escape {
            *escape = false;
            match byte {
                b'x' | b'X' => return (out, true),
                CTRL_A => out.push(CTRL_A),
                other => out.extend([CTRL_A, other]),
            }
        } else if byte == CTRL_A {
            *escape = true;
        } else {
            out.push(byte);
        }
    }
    (out, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_a_x_leaves_and_a_doubled_control_a_passes() {
        let mut escape = false;
        assert_eq!(filter(b"ab\x01\x01c", &mut escape), (b"ab\x01c".to_vec(), false));
        assert_eq!(filter(b"\x01", &mut escape), (vec![], false));
        assert_eq!(filter(b"x", &mut escape), (vec![], true));
        assert_eq!(filter(b"\x01q", &mut escape), (b"\x01q".to_vec(), false));
    }
}
