//! Terminals: line discipline, job control, serial lines and pseudo terminals.
//!
//! A driver pushes input bytes by [`Tty::receive`], from interrupt context or not; they are
//! handled later in task context by [`Tty::process_input`], which [`TtyHooks::defer`] arranges.
//! Sessions' controlling terminals are kept here; the kernel tells when a session ends.

mod control;
mod discipline;
mod file;
mod ioctl;
mod job;
mod packet;
mod pty;
mod termios;

pub use file::{TtyFile, register_char_devices, set_console};
pub use job::{Job, TtyHooks, controlling, register_hooks, session_ended};
pub use pty::{devpts, open_peer as open_pty_peer};
pub use termios::Termios;

use crate::fasync::{Band, Fasync};
use crate::poll::PollMask;
use crate::stat::DevId;
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use discipline::{Discipline, Effects};
use frames::fallible::{Grow, arc, ready_arc};
use sync::{IrqLock, Mutex, SpinLock, WaitQueue};

/// Bytes that may wait between the interrupt and the line discipline; more are lost.
const RAW_RING: usize = 8192;
/// Bytes that may wait in front of the line discipline where the sender can wait: with what the
/// discipline holds as many as Linux takes in one large write.
const AHEAD: usize = 7681;
/// A tab is the longest that one byte can become.
const EXPANSION: usize = 8;
/// Bytes handed to the line discipline at a time (and put back when it is full).
const CHUNK: usize = 64;

/// The hardware side of a terminal.
pub trait TtyDriver: Send + Sync {
    /// Takes bytes to send; how many. Fewer than given only when `room` said so.
    fn write(&self, data: &[u8]) -> usize;
    /// Bytes that can be taken now.
    fn room(&self) -> usize {
        usize::MAX
    }
    /// The line settings changed (speed, character size).
    fn configure(&self, _termios: &Termios) {}
    /// The reader made room for input again.
    fn unthrottle(&self) {}
    /// Waits until everything is sent.
    fn drain(&self) {}
    /// Drops what is not sent yet.
    fn flush_output(&self) {}
    /// The terminal was opened.
    fn opened(&self) {}
    /// The last opening of the terminal was closed.
    fn closed(&self) {}
    /// Tells packet mode (ioctl_tty(2), TIOCPKT) of the bits `news`, of which `old` are undone.
    fn tell(&self, _news: u8, _old: u8) {}
    /// True for a pseudo terminal.
    fn is_pty(&self) -> bool {
        false
    }
}

/// Rows, columns, and pixels: `struct winsize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

/// A terminal.
pub struct Tty {
    me: Weak<Tty>,
    device: DevId,
    name: String,
    driver: Arc<dyn TtyDriver>,
    termios: SpinLock<Termios>,
    /// Set where a setting may not be changed (TIOCSLCKTRMIOS).
    locks: SpinLock<Termios>,
    window: SpinLock<WindowSize>,
    raw: IrqLock<VecDeque<u8>>,
    /// One at a time hands received bytes on: they keep their order.
    feeding: Mutex<()>,
    discipline: SpinLock<Discipline>,
    /// One reader and one writer at a time.
    reading: Mutex<()>,
    writing: Mutex<()>,
    /// Output column, for tabs and erasing.
    column: AtomicU32,
    /// Session and foreground process group; 0 for none.
    session: AtomicU32,
    foreground: AtomicU32,
    /// Output is stopped (^S).
    stopped: AtomicBool,
    hung_up: AtomicBool,
    exclusive: AtomicBool,
    opens: AtomicU32,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    fasync: Fasync,
}

impl Tty {
    /// A terminal on `driver`. `name` is that under /dev ("ttyS0").
    /// ENOMEM.
    pub fn new(device: DevId, name: String, driver: Arc<dyn TtyDriver>) -> Result<Arc<Self>> {
        let mut termios = Termios::default();
        if driver.is_pty() {
            termios.cflag &= !termios::HUPCL;
        }
        let mut raw = VecDeque::new();
        raw.room_for(RAW_RING + CHUNK)?;
        let (readable, writable) = (arc(WaitQueue::new())?, arc(WaitQueue::new())?);
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            device,
            name,
            driver,
            termios: SpinLock::new(termios),
            locks: SpinLock::new(Termios::unlocked()),
            window: SpinLock::new(WindowSize::default()),
            raw: IrqLock::new(raw),
            feeding: Mutex::new(()),
            discipline: SpinLock::new(Discipline::default()),
            reading: Mutex::new(()),
            writing: Mutex::new(()),
            column: AtomicU32::new(0),
            session: AtomicU32::new(0),
            foreground: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            exclusive: AtomicBool::new(false),
            opens: AtomicU32::new(0),
            readable,
            writable,
            fasync: Fasync::default(),
        }))
    }

    /// The device number.
    pub fn device(&self) -> DevId {
        self.device
    }
    /// The name under /dev.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The present settings.
    pub fn termios(&self) -> Termios {
        *self.termios.lock()
    }
    /// Foreground process group; 0 for none.
    pub fn foreground(&self) -> u32 {
        self.foreground.load(Relaxed)
    }
    /// Session; 0 for none.
    pub fn session(&self) -> u32 {
        self.session.load(Relaxed)
    }
    /// Sets the size without a signal (at boot).
    pub fn set_window(&self, size: WindowSize) {
        *self.window.lock() = size;
    }

    /// Bytes that [`Tty::receive`] takes now.
    pub fn input_room(&self) -> usize {
        // What process_input put back may stand above the limit.
        RAW_RING.saturating_sub(self.raw.lock().len())
    }

    /// Input from the driver. Callable in interrupt context: only stores the bytes and asks for
    /// [`Tty::process_input`] to be called. Bytes beyond the ring's capacity are lost.
    pub fn receive(&self, data: &[u8]) {
        {
            let mut raw = self.raw.lock();
            // What process_input put back may stand above the limit.
            let room = RAW_RING.saturating_sub(raw.len());
            raw.extend(&data[..data.len().min(room)]);
        }
        if let Some(me) = self.me.upgrade() {
            match job::hooks() {
                Some(hooks) => hooks.defer(&me),
                None => me.process_input(),
            }
        }
    }

    /// Hands received bytes to the line discipline, and tells the driver of the room that this
    /// made. Task context.
    pub fn process_input(&self) {
        self.feed();
        self.driver.unthrottle();
    }

    fn feed(&self) {
        let _feeding = self.feeding.lock();
        loop {
            let mut chunk = [0; CHUNK];
            let mut len = 0;
            {
                let mut raw = self.raw.lock();
                while len < chunk.len() {
                    let Some(byte) = raw.pop_front() else { break };
                    chunk[len] = byte;
                    len += 1;
                }
            }
            if len == 0 {
                return;
            }
            let taken = self.input(&chunk[..len]);
            if taken < len {
                // The reader is behind: the rest waits for it.
                let mut raw = self.raw.lock();
                for &byte in chunk[taken..len].iter().rev() {
                    raw.push_front(byte);
                }
                return;
            }
        }
    }

    /// Input from a sender that can wait: how many bytes were taken. Task context.
    fn push(&self, data: &[u8]) -> usize {
        let _feeding = self.feeding.lock();
        let none_waits = self.raw.lock().is_empty();
        let taken = if none_waits { self.input(data) } else { 0 };
        let mut raw = self.raw.lock();
        let more = (data.len() - taken).min(AHEAD.saturating_sub(raw.len()));
        raw.extend(&data[taken..taken + more]);
        taken + more
    }

    /// Hands bytes to the line discipline; how many it took (fewer when the reader is behind).
    /// Task context.
    pub fn input(&self, data: &[u8]) -> usize {
        if self.hung_up.load(Acquire) {
            return data.len();
        }
        let termios = self.termios();
        let mut effects = Effects::default();
        let taken = {
            let mut discipline = self.discipline.lock();
            let column = self.column.load(Relaxed);
            discipline.receive(data, &termios, column, &mut effects)
        };
        self.apply(&termios, effects);
        taken
    }

    fn apply(&self, termios: &Termios, effects: Effects) {
        if let Some(stop) = effects.flow {
            self.set_stopped(stop);
        }
        for signal in effects.signals {
            self.signal_foreground(signal);
        }
        if effects.flush_output {
            self.driver.flush_output();
            self.driver.tell(packet::FLUSH_READ | packet::FLUSH_WRITE, 0);
        }
        if !effects.echo.is_empty() {
            let mut out = Vec::with_capacity(effects.echo.len());
            for &byte in &effects.echo {
                self.cook(byte, termios, &mut out);
            }
            // Echo that finds no room is dropped, as on Linux.
            self.driver.write(&out);
        }
        for _ in 0..effects.lines {
            self.fasync.kill(Band::In);
        }
        if effects.lines > 0 {
            self.readable.wake_one();
        }
    }

    fn set_stopped(&self, stop: bool) {
        if self.stopped.swap(stop, AcqRel) != stop {
            let (news, old) = packet::flow(stop);
            self.driver.tell(news, old);
        }
        if !stop {
            self.wake_writers();
        }
    }

    /// There may be room for output.
    fn wake_writers(&self) {
        self.writable.wake_all();
        self.fasync.space();
    }

    fn signal_foreground(&self, signal: u32) {
        let group = self.foreground();
        if group != 0
            && let Some(hooks) = job::hooks()
        {
            hooks.signal_group(group, signal);
        }
    }

    /// Output processing of one byte.
    fn cook(&self, byte: u8, termios: &Termios, out: &mut Vec<u8>) {
        use termios::{OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TAB3};
        if termios.oflag & OPOST == 0 {
            out.push(byte);
            return;
        }
        let column = self.column.load(Relaxed);
        let mut next = column;
        match byte {
            b'\n' => {
                if termios.oflag & ONLRET != 0 {
                    next = 0;
                }
                if termios.oflag & ONLCR != 0 {
                    out.push(b'\r');
                    next = 0;
                }
                out.push(b'\n');
            }
            b'\r' if termios.oflag & ONOCR != 0 && column == 0 => {}
            b'\r' if termios.oflag & OCRNL != 0 => {
                out.push(b'\n');
                if termios.oflag & ONLRET != 0 {
                    next = 0;
                }
            }
            b'\r' => {
                out.push(b'\r');
                next = 0;
            }
            b'\t' => {
                let spaces = 8 - column % 8;
                next = column + spaces;
                if termios.oflag & TAB3 == TAB3 {
                    out.extend(core::iter::repeat_n(b' ', spaces as usize));
                } else {
                    out.push(b'\t');
                }
            }
            0x08 => {
                out.push(byte);
                next = column.saturating_sub(1);
            }
            _ => {
                let shown =
                    if termios.oflag & OLCUC != 0 { byte.to_ascii_uppercase() } else { byte };
                out.push(shown);
                // Continuation bytes of UTF-8 take no column of their own.
                if !byte.is_ascii_control() && byte & 0xc0 != 0x80 {
                    next = column + 1;
                }
            }
        }
        self.column.store(next, Relaxed);
    }

    /// Changes the settings; the discipline keeps what was typed.
    fn set_termios(&self, mut new: Termios) {
        let locks = *self.locks.lock();
        let old = {
            let mut termios = self.termios.lock();
            new.keep_locked(&termios, &locks);
            core::mem::replace(&mut *termios, new)
        };
        let (news, undone) = packet::settings(&old, &new);
        self.driver.tell(news, undone);
        self.discipline.lock().mode_changed(&old, &new);
        if new.iflag & termios::IXON == 0 {
            self.set_stopped(false);
        }
        self.driver.configure(&new);
        self.readable.wake_all();
    }

    /// The line is gone (modem hang-up, pty master closed, vhangup): readers see the end of file,
    /// writers EIO; the session's leader gets SIGHUP, its foreground group SIGHUP and SIGCONT.
    pub fn hang_up(&self) {
        if self.hung_up.swap(true, Release) {
            return;
        }
        job::detach_session(self);
        self.readable.wake_all();
        self.writable.wake_all();
    }

    /// What poll(2) tells.
    fn readiness(&self) -> PollMask {
        let mut ready = PollMask::empty();
        if self.hung_up.load(Acquire) {
            return PollMask::READABLE | PollMask::WRITABLE | PollMask::HUP | PollMask::ERR;
        }
        if self.discipline.lock().available(&self.termios()) > 0 || self.discipline.lock().at_eof()
        {
            ready |= PollMask::READABLE;
        }
        if self.driver.room() >= EXPANSION && !self.stopped.load(Acquire) {
            ready |= PollMask::WRITABLE;
        }
        ready
    }

    /// Input would be taken now.
    fn accepts_input(&self) -> bool {
        let waiting = self.raw.lock().len();
        self.hung_up.load(Acquire)
            || waiting < AHEAD
            || waiting == 0 && self.discipline.lock().accepts(&self.termios())
    }

    fn check_alive(&self) -> Result<()> {
        if self.hung_up.load(Acquire) { Err(Errno::EIO) } else { Ok(()) }
    }
}
