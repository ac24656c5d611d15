//! Copying bytes between a pipe and the host, a blocking thread for each direction.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::termios::tcdrain;

use crate::control::Sender;
use crate::shared::{Outbox, PIECE, Shared};

/// Where a stream of the program's leaves the guest.
pub enum Outlet {
    Port(File),
    /// The shared memory, and the stream's name.
    Shared(Outbox, &'static str),
}

impl Outlet {
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Port(port) => port.write_all(bytes).map_err(|e| format!("serial port: {e}")),
            Self::Shared(outbox, name) => outbox.send(name, bytes),
        }
    }

    /// Waits until everything has left.
    pub fn drain(&self) {
        if let Self::Port(port) = self {
            let _ = tcdrain(port);
        }
    }
}

/// Carries everything `from` yields to the host; the handle gives the count once the last writer of
/// the pipe has closed it and the bytes have left the guest.
pub fn to_host(mut from: impl Read + Send + 'static, mut outlet: Outlet) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut total = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if outlet.send(&buffer[..count]).is_err() {
                        break;
                    }
                    total += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        outlet.drain();
        total
    })
}

/// Where standard input comes from.
pub enum Inlet {
    Port(File),
    Shared(Arc<Shared>),
}

/// What the host has said of standard input.
#[derive(Default)]
struct Told {
    /// Bytes that it has put into the shared memory.
    put: u64,
    /// Bytes that there will be.
    end: Option<u64>,
    /// Bytes that have gone on to the program.
    passed: u64,
}

/// Standard input on its way to the program: closed when all bytes that the host announced have
/// gone through.
#[derive(Clone)]
pub struct Stdin(Arc<(Mutex<Told>, Condvar, Mutex<Option<Pipe>>)>);

type Pipe = Box<dyn Write + Send>;

impl Stdin {
    /// Starts carrying bytes to `pipe`, telling the host after each piece how many have gone, which
    /// is its leave to send more.
    pub fn start(inlet: Inlet, pipe: impl Write + Send + 'static, host: Sender) -> Self {
        let pipe: Pipe = Box::new(pipe);
        let stdin = Stdin(Arc::new((Mutex::default(), Condvar::new(), Mutex::new(Some(pipe)))));
        let own = stdin.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            while let Some(count) = own.next(&inlet, &mut buffer) {
                own.pass(&buffer[..count]);
                let passed = own.told(|told| {
                    told.passed += count as u64;
                    told.passed
                });
                own.close_if_ended();
                if host.send(&format!("stdin {passed}")).is_err() {
                    break;
                }
            }
        });
        stdin
    }

    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the next bytes; None when there will be none.
    fn next(&self, inlet: &Inlet, buffer: &mut [u8]) -> Option<usize> {
        let shared = match inlet {
            Inlet::Port(port) => {
                return { port }.read(buffer).ok().filter(|count| *count > 0);
            }
            Inlet::Shared(shared) => shared,
        };
        let (lock, changed, _) = &*self.0;
        let none = |told: &mut Told| told.put == told.passed;
        let told = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let told = changed.wait_while(told, none).unwrap_or_else(PoisonError::into_inner);
        let (at, there) = (told.passed, (told.put - told.passed) as usize);
        drop(told);
        let want = there.min(buffer.len());
        shared.read(at, &mut buffer[..want]).ok()
    }

    fn pass(&self, bytes: &[u8]) {
        let mut pipe = self.0.2.lock().unwrap_or_else(PoisonError::into_inner);
        // A program that does not read its input to the end is no error: the rest is dropped.
        if pipe.as_mut().is_some_and(|writer| writer.write_all(bytes).is_err()) {
            *pipe = None;
        }
    }

    /// The host has put `total` bytes into the shared memory so far.
    pub fn put(&self, total: u64) {
        self.told(|told| told.put = total);
        self.0.1.notify_all();
    }

    /// The host will send `total` bytes and no more.
    pub fn set_end(&self, total: u64) {
        self.told(|told| told.end = Some(total));
        self.close_if_ended();
    }

    fn close_if_ended(&self) {
        if self.told(|told| told.end.is_some_and(|end| told.passed >= end)) {
            *self.0.2.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
