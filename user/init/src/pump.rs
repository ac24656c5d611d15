//! Copying bytes between a pipe and a port, a blocking thread for each direction.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::termios::tcdrain;

use crate::control::Sender;

/// Carries everything `from` yields to `port`; the handle gives the count once the last writer of
/// the pipe has closed it and the bytes have left the port.
pub fn to_port(mut from: impl Read + Send + 'static, mut port: File) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut total = 0;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if port.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                    total += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = tcdrain(&port);
        total
    })
}

/// Standard input on its way to the program: closed when all bytes that the host announced have
/// gone through.
#[derive(Clone)]
pub struct Stdin(Arc<Shared>);

struct Shared {
    pipe: Mutex<Option<Box<dyn Write + Send>>>,
    passed: AtomicU64,
    end: Mutex<Option<u64>>,
}

impl Stdin {
    /// Starts carrying bytes from the port to `pipe`, telling the host after each piece how many
    /// have gone, which is what keeps it from overrunning the port.
    pub fn start(mut port: File, pipe: impl Write + Send + 'static, host: Sender) -> Self {
        let stdin = Stdin(Arc::new(Shared {
            pipe: Mutex::new(Some(Box::new(pipe))),
            passed: AtomicU64::new(0),
            end: Mutex::new(None),
        }));
        let own = stdin.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(count) = port.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                own.pass(&buffer[..count]);
                if host.send(&format!("stdin {}", own.0.passed.load(Ordering::Relaxed))).is_err() {
                    break;
                }
            }
        });
        stdin
    }

    fn pass(&self, bytes: &[u8]) {
        let Ok(mut pipe) = self.0.pipe.lock() else { return };
        // A program that does not read its input to the end is no error: the rest is dropped.
        if let Some(writer) = pipe.as_mut()
            && writer.write_all(bytes).is_err()
        {
            *pipe = None;
        }
        drop(pipe);
        self.0.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.close_if_ended();
    }

    /// The host will send `total` bytes and no more.
    pub fn set_end(&self, total: u64) {
        if let Ok(mut end) = self.0.end.lock() {
            *end = Some(total);
        }
        self.close_if_ended();
    }

    fn close_if_ended(&self) {
        let ended = self.0.end.lock().is_ok_and(|end| {
            end.is_some_and(|total| self.0.passed.load(Ordering::Relaxed) >= total)
        });
        if ended && let Ok(mut pipe) = self.0.pipe.lock() {
            *pipe = None;
        }
    }
}
