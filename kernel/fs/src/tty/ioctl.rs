//! ioctl(2) on terminals.

use super::job::{self, SIGTTOU};
use super::termios::{CLOCAL, Termios};
use super::{Tty, WindowSize, packet};
use crate::file::File;
use abi::raw::ioctl as i;
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use hal::VirtAddr;
use hal::user;

const SIGWINCH: u32 = 28;
/// Setters of `struct termios2` after draining, and after flushing.
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;

/// What TCFLSH throws away, by its argument.
const FLUSHED: [u8; 3] =
    [packet::FLUSH_READ, packet::FLUSH_WRITE, packet::FLUSH_READ | packet::FLUSH_WRITE];

/// The byte of a TIOCSTI. EIO for who may not (as with dev.tty.legacy_tiocsti off).
pub(super) fn faked_input(at: VirtAddr) -> Result<u8> {
    if !crate::env::env().capable(crate::Cap::SysAdmin) {
        return Err(Errno::EIO);
    }
    user::read(at)
}

impl WindowSize {
    fn words(self) -> [u16; 4] {
        [self.rows, self.columns, self.x_pixels, self.y_pixels]
    }
}

/// What has to happen before new settings take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Drained,
    Flushed,
}

impl Tty {
    fn put_settings(&self, new: Termios, when: When) -> Result<()> {
        job::check(self, SIGTTOU)?;
        if when != When::Now {
            self.driver.drain();
        }
        if when == When::Flushed {
            self.flush(0)?;
            self.driver.tell(packet::FLUSH_READ, 0);
        }
        self.set_termios(new);
        Ok(())
    }

    /// TIOCSWINSZ: SIGWINCH to the foreground when the size is a new one.
    pub(super) fn resize(&self, size: WindowSize) {
        let old = core::mem::replace(&mut *self.window.lock(), size);
        if old != size {
            self.signal_foreground(SIGWINCH);
        }
    }

    pub(super) fn ioctl(&self, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let at = VirtAddr::new(arg);
        self.check_alive()?;
        match cmd {
            i::TCGETS => {
                let bytes = self.termios().bytes();
                user::copy_to(at, &bytes[..Termios::SIZE])?;
            }
            i::TCGETS2 => user::copy_to(at, &self.termios().bytes())?,
            i::TCSETS | i::TCSETSW | i::TCSETSF => {
                let new = Termios::from_bytes(&user::read(at)?);
                let when = match cmd {
                    i::TCSETS => When::Now,
                    i::TCSETSW => When::Drained,
                    _ => When::Flushed,
                };
                self.put_settings(new, when)?;
            }
            i::TCSETS2 | TCSETSW2 | TCSETSF2 => {
                let mut bytes = [0; Termios::SIZE2];
                user::copy_from(&mut bytes, at)?;
                let when = match cmd {
                    i::TCSETS2 => When::Now,
                    TCSETSW2 => When::Drained,
                    _ => When::Flushed,
                };
                self.put_settings(Termios::from_bytes2(&bytes), when)?;
            }
            i::TCGETA => user::copy_to(at, &self.termios().old_bytes())?,
            i::TCSETA | i::TCSETAW | i::TCSETAF => {
                let mut bytes = [0; Termios::OLD_SIZE];
                user::copy_from(&mut bytes, at)?;
                let when = match cmd {
                    i::TCSETA => When::Now,
                    i::TCSETAW => When::Drained,
                    _ => When::Flushed,
                };
                self.put_settings(self.termios().with_old_bytes(&bytes), when)?;
            }
            i::TIOCGSOFTCAR => {
                let local = self.termios().cflag & CLOCAL != 0;
                user::write(at, &i32::from(local))?;
            }
            i::TIOCSSOFTCAR => {
                let on: i32 = user::read(at)?;
                let mut new = self.termios();
                new.cflag = if on != 0 { new.cflag | CLOCAL } else { new.cflag & !CLOCAL };
                self.set_termios(new);
            }
            i::TIOCGLCKTRMIOS => {
                let bytes = self.locks.lock().bytes();
                user::copy_to(at, &bytes[..Termios::SIZE])?;
            }
            i::TIOCSLCKTRMIOS => {
                if !crate::env::env().capable(crate::Cap::SysAdmin) {
                    return Err(Errno::EPERM);
                }
                let locks = Termios::from_bytes(&user::read(at)?);
                *self.locks.lock() = locks;
            }
            i::TIOCGWINSZ => {
                let size = *self.window.lock();
                user::write(at, &size.words())?;
            }
            i::TIOCSWINSZ => {
                let [rows, columns, x_pixels, y_pixels] = user::read::<[u16; 4]>(at)?;
                self.resize(WindowSize { rows, columns, x_pixels, y_pixels });
            }
            i::TIOCGPGRP => {
                let session = job::current().session;
                if self.session() != session || session == 0 {
                    return Err(Errno::ENOTTY);
                }
                user::write(at, &self.foreground())?;
            }
            i::TIOCSPGRP => {
                let group: i32 = user::read(at)?;
                let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
                job::set_foreground(self, group)?;
            }
            i::TIOCGSID => {
                let session = job::current().session;
                if session == 0 || self.session() != session {
                    return Err(Errno::ENOTTY);
                }
                user::write(at, &self.session())?;
            }
            i::TIOCSCTTY => {
                let me = self.me.upgrade().ok_or(Errno::EIO)?;
                let (job, admin) =
                    (job::current(), crate::env::env().capable(crate::Cap::SysAdmin));
                // Who may only write to a terminal does not get to read from it as /dev/tty.
                if !file.readable() && !admin && self.session() != job.session {
                    return Err(Errno::EPERM);
                }
                job::acquire(&me, job, arg == 1 && admin)?;
            }
            i::TIOCNOTTY => job::give_up(self)?,
            i::FIONREAD => {
                let queued = self.discipline.lock().queued(&self.termios());
                user::write(at, &(queued as i32))?;
            }
            i::TIOCOUTQ => user::write(at, &0i32)?,
            i::TCFLSH => {
                job::check(self, SIGTTOU)?;
                self.flush(arg)?;
                self.driver.tell(FLUSHED[arg as usize % FLUSHED.len()], 0);
            }
            i::TCXONC => {
                job::check(self, SIGTTOU)?;
                self.flow(arg)?;
            }
            i::TCSBRK | i::TCSBRKP => {
                job::check(self, SIGTTOU)?;
                self.driver.drain();
            }
            i::TIOCEXCL => self.exclusive.store(true, Relaxed),
            i::TIOCNXCL => self.exclusive.store(false, Relaxed),
            i::TIOCGEXCL => user::write(at, &i32::from(self.exclusive.load(Relaxed)))?,
            i::TIOCGETD => user::write(at, &0i32)?,
            i::TIOCSETD => {
                // Only the discipline N_TTY.
                if user::read::<i32>(at)? != 0 {
                    return Err(Errno::EINVAL);
                }
            }
            i::TIOCGDEV => user::write(at, &(self.device().encode() as u32))?,
            // Pushing input is a way to attack a terminal's other users.
            i::TIOCSTI => {
                let byte = faked_input(at)?;
                self.push(&[byte]);
            }
            i::TIOCVHANGUP => self.hang_up(),
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}
