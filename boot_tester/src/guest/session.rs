//! A running guest: QEMU as a child process, its four serial ports and its monitor as sockets, and
//! everything that arrives on the ports or in shared memory as one stream of [`Event`]s.
//!
//! No byte is lost: the sockets block QEMU when nobody reads, and QEMU's UART then holds the guest.
//! A guest dies with the thread that started it, at the latest with the tool.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use super::console::Console;
use super::machine::{Machine, Wiring, qemu};
use super::shared::{Inbox, Shared};
use crate::error::{Context, Result};
use crate::image::program::in_path;

pub enum Event {
    /// Bytes of the program's stdout, of its stderr.
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// A piece of the N-th file that the run file wants back.
    File(usize, Vec<u8>),
    /// A line of the control channel.
    Control(String),
    /// QEMU has closed all ports: nothing more will come.
    Closed,
}

pub struct Session {
    child: Child,
    pub console: Console,
    console_thread: Option<thread::JoinHandle<()>>,
    /// Writing halves: the program's stdin, and lines for init.
    pub input: UnixStream,
    pub control: UnixStream,
    /// The memory that guest and host share, where the machine has some.
    pub shared: Option<Shared>,
    monitor: UnixStream,
    events: Receiver<Event>,
    stderr: Option<thread::JoinHandle<String>>,
}

/// What a panicking guest may take for its last words.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Bytes of a line of the control channel; what is longer is taken for several. (Init's longest lines
/// are pieces of files in hexadecimal, and rows that end with a path.)
const LONGEST_LINE: u64 = 64 * 1024;

/// Between clearing close-on-exec on a guest's sockets and its start no other guest may start, or
/// that one would hold them open.
static STARTING: Mutex<()> = Mutex::new(());

impl Session {
    /// Starts QEMU. `console_file` gets a copy of the kernel's console.
    pub fn start(machine: &Machine, console_file: Option<File>) -> Result<Self> {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..5 {
            let (host, guest) = UnixStream::pair().context("socketpair")?;
            ours.push(host);
            theirs.push(guest);
        }
        let shared = machine.shares_memory.then(Shared::new).transpose()?;
        let fd = |which: usize| theirs[which].as_raw_fd();
        let memory = shared.as_ref().map(|shared| shared.as_fd().as_raw_fd());
        let wiring =
            Wiring::Sockets { ports: [0, 1, 2, 3].map(fd), monitor: fd(4), shared: memory };
        let mut command = command()?;
        command.args(machine.args(&wiring));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = {
            let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
            let memory = shared.as_ref().map(AsFd::as_fd);
            for file in theirs.iter().map(AsFd::as_fd).chain(memory) {
                fcntl_setfd(file, FdFlags::empty()).context("fcntl")?;
            }
            let child = command.spawn().context("qemu");
            drop(theirs);
            if let Some(memory) = memory {
                fcntl_setfd(memory, FdFlags::CLOEXEC).context("fcntl")?;
            }
            child?
        };
        let stderr = child.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = pipe.read_to_string(&mut text);
                text
            })
        });
        Self::connect(child, stderr, ours, shared, console_file)
    }

    fn connect(
        child: Child,
        stderr: Option<thread::JoinHandle<String>>,
        ours: Vec<UnixStream>,
        shared: Option<Shared>,
        console_file: Option<File>,
    ) -> Result<Self> {
        let mut ports = ours.into_iter();
        let mut next = || ports.next().ok_or("missing port").context("serial ports");
        let (console_port, out, err, control) = (next()?, next()?, next()?, next()?);
        let monitor = next()?;
        let console = Console::default();
        let console_thread = console.follow(console_port, console_file);
        let input = out.try_clone().context("socket")?;
        let control_writer = control.try_clone().context("socket")?;
        // Bounded, so that a slow consumer slows the guest instead of filling memory.
        let (send, events) = mpsc::sync_channel(256);
        read_bytes(out, send.clone(), Event::Out);
        read_bytes(err, send.clone(), Event::Err);
        read_lines(control, send, shared.clone().map(Inbox::new));
        Ok(Self {
            child,
            console,
            console_thread: Some(console_thread),
            input,
            control: control_writer,
            shared,
            monitor,
            events,
            stderr,
        })
    }

    /// The next event; None when `until` has passed. All senders gone means that QEMU has closed
    /// its ports.
    pub fn next(&mut self, until: Option<Instant>) -> Option<Event> {
        let received = match until {
            Some(until) => {
                self.events.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Closed),
        }
    }

    /// QEMU's process, for those who may have to end it from another thread.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for QEMU's end; what it printed on its stderr comes along.
    pub fn wait(&mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait().context("qemu")?;
        if let Some(thread) = self.console_thread.take() {
            let _ = thread.join();
        }
        let text = self.stderr.take().and_then(|t| t.join().ok()).unwrap_or_default();
        Ok((status, text))
    }

    /// Ends a guest that does not go on, after it was asked by NMI where it stands: a kernel that
    /// still can answers with a panic on its console.
    pub fn kill_asking(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        if self.monitor.write_all(b"nmi\n").is_ok() {
            // The panic resets the machine, and with it QEMU ends.
            while !matches!(self.next(Some(end)), None | Some(Event::Closed)) {}
        }
        self.kill();
    }

    /// Ends the guest at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// QEMU, made to die with the thread that starts it where util-linux's setpriv is at hand.
fn command() -> Result<Command> {
    let qemu = qemu()?;
    Ok(match in_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
            command
        }
        None => Command::new(qemu),
    })
}

/// Why QEMU ended, when that is not by itself a clean power-off.
pub fn describe_end(status: ExitStatus, stderr: &str) -> String {
    let said = stderr.lines().next().unwrap_or("").trim();
    match (status.code(), status.signal()) {
        (Some(0), _) => "the machine was reset or powered off without a status".into(),
        (Some(code), _) if said.is_empty() => format!("QEMU ended with code {code}"),
        (Some(_), _) => format!("QEMU: {}", said.trim_start_matches("qemu-system-x86_64: ")),
        (None, signal) => format!("QEMU was killed by signal {}", signal.unwrap_or(0)),
    }
}

fn read_bytes(mut port: UnixStream, to: SyncSender<Event>, wrap: fn(Vec<u8>) -> Event) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = port.read(&mut buffer) {
            if count == 0 || to.send(wrap(buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}

fn read_lines(port: UnixStream, to: SyncSender<Event>, mut inbox: Option<Inbox>) {
    use std::io::{BufRead, BufReader};
    thread::spawn(move || {
        let mut reader = BufReader::new(&port);
        let mut line = Vec::new();
        while (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&std::mem::take(&mut line)).trim().to_string();
            let taken = inbox.as_mut().and_then(|inbox| inbox.take(&line, &port));
            if to.send(taken.unwrap_or(Event::Control(line))).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let (port, mut guest) = UnixStream::pair().unwrap();
        let (send, events) = mpsc::sync_channel(1);
        read_lines(port, send, None);
        let long = LONGEST_LINE as usize;
        let writer = thread::spawn(move || {
            guest.write_all(&vec![b'x'; long * 3 / 2]).unwrap();
            guest.write_all(b"\nready 5\n").unwrap();
        });
        let lines: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Control(line) => line,
                _ => panic!("no line"),
            })
            .collect();
        writer.join().unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [long, long / 2, 7]);
        assert_eq!(lines[2], "ready 5");
    }
}
