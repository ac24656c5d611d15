//! Requests that act on a terminal's queues: flushing, draining, stopping.

use super::Tty;
use abi::{Errno, Result};

impl Tty {
    /// TCFLSH: 0 input, 1 output, 2 both; EINVAL.
    pub(super) fn flush(&self, which: u64) -> Result<()> {
        if which > 2 {
            return Err(Errno::EINVAL);
        }
        if which != 1 {
            self.raw.lock().clear();
            self.discipline.lock().flush();
            self.driver.unthrottle();
        }
        if which != 0 {
            self.driver.flush_output();
            self.writable.wake_all();
        }
        Ok(())
    }

    /// TCXONC: 0 stops output, 1 starts it; 2 and 3 send STOP and START; EINVAL.
    pub(super) fn flow(&self, action: u64) -> Result<()> {
        let cc = self.termios().cc;
        match action {
            0 | 1 => self.set_stopped(action == 0),
            2 | 3 => {
                let byte =
                    cc[if action == 2 { super::termios::VSTOP } else { super::termios::VSTART }];
                if byte != 0 {
                    self.driver.write(&[byte]);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}
