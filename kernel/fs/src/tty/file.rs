//! Terminals as files: /dev/ttyS*, /dev/console, /dev/tty, and the slave side of a pty.

use super::job::{self, SIGTTIN, SIGTTOU};
use super::termios::{TOSTOP, VMIN, VTIME};
use super::{EXPANSION, Tty, pty};
use crate::creds::Cap;
use crate::dev::{CharDevice, register_char};
use crate::fasync::Fasync;
use crate::file::{File, FileOps, Seek};
use crate::inode::OpenArgs;
use crate::oflag;
use crate::poll::{PollMask, PollTable};
use crate::stat::DevId;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use hal::user::{Sink, Source};
use sync::{SpinLock, WaitError, hooks};

/// One opening of a terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
}

impl TtyFile {
    /// Opens `tty`. EBUSY while it is in exclusive use, EIO after a hang-up.
    pub fn open(tty: Arc<Tty>, args: &OpenArgs<'_>, may_control: bool) -> Result<Arc<dyn FileOps>> {
        tty.check_alive()?;
        if tty.exclusive.load(Relaxed) && !args.creds.has(Cap::SysAdmin) {
            return Err(Errno::EBUSY);
        }
        tty.opens.fetch_add(1, Relaxed);
        tty.driver.opened();
        let reads = args.flags & oflag::O_ACCMODE != oflag::O_WRONLY;
        if may_control && reads && args.flags & oflag::O_NOCTTY == 0 {
            job::acquire_on_open(&tty);
        }
        Ok(Arc::new(Self { tty }))
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        if self.tty.opens.fetch_sub(1, Relaxed) == 1 {
            self.tty.exclusive.store(false, Relaxed);
            self.tty.driver.closed();
        }
    }
}

impl Tty {
    /// Waits until `enough` bytes (or a line) are there; Ok(false) when the time is over or the
    /// line was hung up.
    fn wait_input(&self, enough: usize, deadline: Option<u64>) -> Result<bool> {
        let ready = || {
            if self.hung_up.load(Acquire) {
                return Some(false);
            }
            let termios = self.termios();
            let discipline = self.discipline.lock();
            let there = if termios.canonical() {
                discipline.has_line()
            } else {
                discipline.available(&termios) >= enough
            };
            there.then_some(true)
        };
        match self.readable.wait_interruptible(deadline, ready) {
            Ok(there) => Ok(there),
            Err(WaitError::TimedOut) => Ok(false),
            Err(WaitError::Interrupted) => Err(Errno::ERESTARTSYS),
        }
    }

    /// Moves what is available to the reader; bytes. In canonical mode at most a line.
    fn hand_over(&self, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        loop {
            let termios = self.termios();
            let mut chunk = [0; 256];
            let want = dst.room().min(chunk.len());
            let n = self.discipline.lock().peek(&termios, &mut chunk[..want]);
            if n > 0 {
                match dst.put(&chunk[..n]) {
                    Ok(put) if put == n => {}
                    Ok(put) => {
                        self.discipline.lock().consume(put);
                        return Ok(done + put);
                    }
                    Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
                }
            }
            let line_ended = self.discipline.lock().consume(n);
            done += n;
            if n == 0 || dst.room() == 0 || (line_ended && termios.canonical()) {
                break;
            }
        }
        // Room for what waits in front of the discipline.
        self.process_input();
        Ok(done)
    }

    /// read(2).
    pub(super) fn read(&self, dst: &mut dyn Sink, nonblocking: bool) -> Result<usize> {
        job::check(self, SIGTTIN)?;
        if dst.room() == 0 || self.hung_up.load(Acquire) {
            return Ok(0);
        }
        let termios = self.termios();
        if termios.canonical() {
            if nonblocking && !self.discipline.lock().has_line() {
                return Err(Errno::EAGAIN);
            }
            loop {
                if !self.wait_input(1, None)? {
                    return Ok(0);
                }
                let _reading = self.reading.lock();
                if self.termios().canonical() && !self.discipline.lock().has_line() {
                    continue;
                }
                return self.hand_over(dst);
            }
        }
        let available = self.discipline.lock().available(&termios);
        let (min, tenths) = (termios.cc[VMIN] as usize, termios.cc[VTIME] as u64);
        let time = tenths * 100_000_000;
        if nonblocking {
            if available == 0 {
                return Err(Errno::EAGAIN);
            }
        } else if min == 0 {
            if time > 0 {
                self.wait_input(1, Some(hooks::now() + time))?;
            }
        } else {
            let want = min.min(dst.room());
            self.wait_input(1, None)?;
            if time == 0 {
                self.wait_input(want, None)?;
            } else {
                // The clock starts anew with each byte.
                loop {
                    let have = self.discipline.lock().available(&self.termios());
                    if have >= want || !self.wait_input(have + 1, Some(hooks::now() + time))? {
                        break;
                    }
                }
            }
        }
        let _reading = self.reading.lock();
        self.hand_over(dst)
    }

    /// Waits for room at the driver; EAGAIN when it may not.
    fn wait_room(&self, need: usize, nonblocking: bool) -> Result<()> {
        let ready = || {
            if self.hung_up.load(Acquire) {
                return Some(Err(Errno::EIO));
            }
            let open = !self.stopped.load(Acquire) && self.driver.room() >= need;
            open.then_some(Ok(()))
        };
        match ready() {
            Some(outcome) => outcome,
            None if nonblocking => Err(Errno::EAGAIN),
            None => self.writable.wait_interruptible(None, ready)?,
        }
    }

    /// write(2).
    pub(super) fn write(&self, src: &mut dyn Source, nonblocking: bool) -> Result<usize> {
        if self.termios().local(TOSTOP) {
            job::check(self, SIGTTOU)?;
        }
        self.check_alive()?;
        let _writing = self.writing.lock();
        let mut done = 0;
        while src.left() > 0 {
            let termios = self.termios();
            if let Err(error) = self.wait_room(EXPANSION, nonblocking) {
                self.fasync.want_space();
                return if done > 0 { Ok(done) } else { Err(error) };
            }
            let mut chunk = [0; 512];
            let most = (self.driver.room() / EXPANSION).clamp(1, chunk.len());
            let want = src.left().min(most);
            let n = match src.get(&mut chunk[..want]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            let mut out = Vec::with_capacity(n + 32);
            for &byte in &chunk[..n] {
                self.cook(byte, &termios, &mut out);
            }
            self.driver.write(&out);
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }
}

impl FileOps for TtyFile {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        self.tty.read(dst, file.nonblocking())
    }
    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.tty.write(src, file.nonblocking())
    }
    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            table.watch(&self.tty.readable);
            table.watch(&self.tty.writable);
        }
        self.tty.readiness() & (interest | PollMask::ALWAYS)
    }
    fn pollable(&self) -> bool {
        true
    }
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [Some(&self.tty.fasync), None]
    }
    fn default_owner(&self) -> Option<u32> {
        Some(self.tty.foreground())
    }
    fn ioctl(&self, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        self.tty.ioctl(file, cmd, arg)
    }
}

static CONSOLE: SpinLock<Option<Arc<Tty>>> = SpinLock::new(None);

/// Chooses the terminal behind /dev/console.
pub fn set_console(tty: Arc<Tty>) {
    let old = CONSOLE.lock().replace(tty);
    drop(old);
}

/// /dev/tty (5:0), /dev/console (5:1), /dev/ptmx (5:2).
struct Special;

impl CharDevice for Special {
    fn open(&self, rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        match rdev.minor {
            0 => {
                let tty = job::controlling(job::current().session).ok_or(Errno::ENXIO)?;
                TtyFile::open(tty, args, false)
            }
            1 => {
                let tty = CONSOLE.lock().clone().ok_or(Errno::ENODEV)?;
                TtyFile::open(tty, args, false)
            }
            2 => pty::open_master(args),
            _ => Err(Errno::ENXIO),
        }
    }
}

/// Terminals of one major number by their minors.
struct Lines(Vec<Arc<Tty>>);

impl CharDevice for Lines {
    fn open(&self, rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        let tty = self.0.iter().find(|tty| tty.device() == rdev).ok_or(Errno::ENXIO)?;
        TtyFile::open(tty.clone(), args, true)
    }
}

/// Registers /dev/tty, console, ptmx, pts/*, and the given lines (whose minors must be
/// consecutive).
pub fn register_char_devices(lines: Vec<Arc<Tty>>) {
    register_char(DevId::new(5, 0), 3, Arc::new(Special));
    pty::register();
    if let Some(first) = lines.iter().map(|tty| tty.device()).min() {
        register_char(first, lines.len() as u32, Arc::new(Lines(lines)));
    }
}
