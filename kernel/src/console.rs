//! The kernel's log: a ring that /dev/kmsg and dmesg read, and the console it is printed on.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use hal::pvh::BootInfo;
use hal::serial::Uart;
use log::{Level, LevelFilter, Log, Metadata, Record};
use sync::IrqLock;

/// Bytes of log that are kept.
pub const LOG_SIZE: usize = RING;
const RING: usize = 64 * 1024;

struct Ring {
    bytes: [u8; RING],
    /// Bytes and lines ever written.
    written: u64,
    lines: u64,
}

static LOG: IrqLock<Ring> = IrqLock::new(Ring { bytes: [0; RING], written: 0, lines: 0 });
/// The serial ports' sending sides: shared with their terminals, so that nobody overruns a FIFO
/// that somebody else fills.
static LINES: [IrqLock<Uart>; 4] = [
    IrqLock::new(Uart::port(0)),
    IrqLock::new(Uart::port(1)),
    IrqLock::new(Uart::port(2)),
    IrqLock::new(Uart::port(3)),
];
static ENABLED: AtomicBool = AtomicBool::new(false);
/// Which serial port it is.
static PORT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
/// Messages of a lower number than this are printed (Linux's console_loglevel).
static PRINT_BELOW: AtomicU8 = AtomicU8::new(7);

struct Logger;

/// Linux's number of a level.
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        let severity = severity(record.level());
        let ns = hal::time::now();
        let stamp = (ns / 1_000_000_000, ns / 1000 % 1_000_000);
        {
            let mut ring = LOG.lock();
            let _ = writeln!(ring, "<{severity}>[{:5}.{:06}] {}", stamp.0, stamp.1, record.args());
        }
        if severity < PRINT_BELOW.load(Ordering::Relaxed) {
            print(format_args!("[{:5}.{:06}] {}\n", stamp.0, stamp.1, record.args()));
        }
    }
    fn flush(&self) {}
}

impl Write for Ring {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &b in s.as_bytes() {
            let at = (self.written % RING as u64) as usize;
            self.bytes[at] = b;
            self.written += 1;
            self.lines += u64::from(b == b'\n');
        }
        Ok(())
    }
}

struct Console<'a>(&'a mut Uart);

impl Write for Console<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for (i, line) in s.split('\n').enumerate() {
            if i > 0 {
                self.0.send(b"\r\n");
            }
            self.0.send(line.as_bytes());
        }
        Ok(())
    }
}

/// Opens COM1 and takes the log over.
pub fn init() {
    let uart = Uart::port(0);
    uart.init();
    ENABLED.store(true, Ordering::Relaxed);
    // Registered once, at boot: it cannot be set already.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Debug);
}

/// Obeys what the command line says of the console, of panics and of log levels.
pub fn configure(info: &BootInfo) {
    for word in info.cmdline.split_ascii_whitespace() {
        if word == "quiet" {
            PRINT_BELOW.store(4, Ordering::Relaxed);
        } else if word == "debug" {
            PRINT_BELOW.store(8, Ordering::Relaxed);
        } else if let Some(n) = word.strip_prefix("loglevel=").and_then(|n| n.parse().ok()) {
            PRINT_BELOW.store(n, Ordering::Relaxed);
        } else if let Some(n) = word.strip_prefix("panic=").and_then(|n| n.parse().ok()) {
            crate::panic::REBOOT_AFTER.store(n, Ordering::Relaxed);
        } else if word == "unknown_nmi_panic" {
            crate::panic::ON_UNKNOWN_NMI.store(true, Ordering::Relaxed);
        } else if let Some(tty) = word.strip_prefix("console=") {
            let name = tty.split(',').next().unwrap_or("");
            match name.strip_prefix("ttyS").and_then(|n| n.parse::<usize>().ok()) {
                Some(port) if port < 4 => {
                    let uart = Uart::port(port);
                    if port != 0 {
                        uart.init();
                    }
                    PORT.store(port, Ordering::Relaxed);
                }
                // Another console than a serial port: there is none, so say nothing on it.
                _ => ENABLED.store(false, Ordering::Relaxed),
            }
        }
    }
}

/// Prints on the console, whatever the level.
pub fn print(args: fmt::Arguments<'_>) {
    if ENABLED.load(Ordering::Relaxed) {
        let mut uart = line(port()).lock();
        let _ = Console(&mut uart).write_fmt(args);
    }
}

/// Prints in a panic: the lock's holder may be this CPU or stopped, so it is not waited for.
pub fn print_emergency(args: fmt::Arguments<'_>) {
    let guard = line(port()).try_lock();
    let mut uart = guard.as_deref().copied().unwrap_or(Uart::port(port()));
    let _ = Console(&mut uart).write_fmt(args);
}

/// A message that a program wrote to /dev/kmsg: `priority` is facility * 8 + severity.
pub fn user_message(priority: u32, line: &[u8]) {
    let text = alloc::string::String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    let ns = hal::time::now();
    let stamp = (ns / 1_000_000_000, ns / 1000 % 1_000_000);
    {
        let mut ring = LOG.lock();
        let _ = writeln!(ring, "<{priority}>[{:5}.{:06}] {text}", stamp.0, stamp.1);
    }
    if (priority & 7) < u32::from(PRINT_BELOW.load(Ordering::Relaxed)) {
        print(format_args!("[{:5}.{:06}] {text}\n", stamp.0, stamp.1));
    }
}

/// The sending side of a serial port.
pub fn line(port: usize) -> &'static IrqLock<Uart> {
    &LINES[port]
}

/// Bytes of log ever written: where the next message begins.
pub fn log_end() -> u64 {
    LOG.lock().written
}

/// Where the oldest whole message that is still kept begins.
pub fn log_start() -> u64 {
    let ring = LOG.lock();
    ring.first_line(ring.written.saturating_sub(RING as u64))
}

/// Adds whole messages from `from` on to `out`, at most `room` bytes (the start of one that is
/// longer than that); where the next one begins. Messages that were overwritten are skipped. A
/// message is a line: "<severity>[seconds.micros] text".
pub fn read_log(from: u64, room: usize, out: &mut alloc::vec::Vec<u8>) -> u64 {
    // Nothing may be allocated under the lock: the allocator may log.
    if out.try_reserve(room.min(RING)).is_err() {
        return from;
    }
    let ring = LOG.lock();
    let oldest = ring.written.saturating_sub(RING as u64);
    let mut at = if from < oldest { ring.first_line(oldest) } else { from };
    loop {
        let end = ring.line_end(at);
        let len = (end - at) as usize;
        let left = room.min(RING) - out.len();
        if len == 0 || len > left && !out.is_empty() {
            return at;
        }
        let take = len.min(left) as u64;
        out.extend((at..at + take).map(|i| ring.bytes[(i % RING as u64) as usize]));
        at += take;
        if take < len as u64 || take == 0 {
            return at;
        }
    }
}

/// How many messages began before `at`: the number of the one that begins there.
pub fn message_number(at: u64) -> u64 {
    let ring = LOG.lock();
    let from = at.max(ring.written.saturating_sub(RING as u64));
    let later =
        (from..ring.written).filter(|i| ring.bytes[(i % RING as u64) as usize] == b'\n').count();
    ring.lines - later as u64
}

impl Ring {
    /// One past the newline that ends the line at `at`, or the end.
    fn line_end(&self, at: u64) -> u64 {
        (at..self.written)
            .find(|i| self.bytes[(i % RING as u64) as usize] == b'\n')
            .map_or(self.written, |i| i + 1)
    }

    /// The first line that begins at `oldest` or after.
    fn first_line(&self, oldest: u64) -> u64 {
        if oldest == 0 { 0 } else { self.line_end(oldest) }
    }
}

/// Messages of a lower number than the present limit are printed; the limit.
pub fn print_level() -> u8 {
    PRINT_BELOW.load(Ordering::Relaxed)
}

/// Sets the limit below which messages are printed.
pub fn set_print_level(level: u8) {
    PRINT_BELOW.store(level, Ordering::Relaxed);
}

/// The serial port that is the console.
pub fn port() -> usize {
    PORT.load(Ordering::Relaxed)
}
