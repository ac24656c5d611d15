//! The tool's standard input on its way to the program: a thread that never has more under way than
//! the guest's serial driver can hold, because a UART has no way to say "wait".

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Half of what Linux's tty layer buffers before it drops (N_TTY_BUF_SIZE, 4096).
const WINDOW: u64 = 2048;

/// Handed the guest's reports of what it has consumed.
#[derive(Clone, Default)]
pub struct Feed(Arc<(Mutex<u64>, Condvar)>);

impl Feed {
    /// Starts sending `from`; at its end init is told how much there was.
    pub fn start(
        mut from: impl Read + Send + 'static,
        mut port: UnixStream,
        control: UnixStream,
    ) -> Self {
        let feed = Self::default();
        let own = feed.clone();
        thread::spawn(move || {
            let mut sent = 0;
            let mut buffer = [0; WINDOW as usize / 2];
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                own.wait_for_room(sent, count as u64);
                if port.write_all(&buffer[..count]).is_err() {
                    return;
                }
                sent += count as u64;
            }
            let _ = (&control).write_all(format!("eof {sent}\n").as_bytes());
        });
        feed
    }

    /// The guest has consumed `total` bytes so far.
    pub fn consumed(&self, total: u64) {
        let (lock, changed) = &*self.0;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = total;
        changed.notify_all();
    }

    fn wait_for_room(&self, sent: u64, more: u64) {
        let (lock, changed) = &*self.0;
        let consumed = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |consumed: &mut u64| sent + more > *consumed + WINDOW;
        drop(changed.wait_while(consumed, full));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_window_is_under_way_and_the_end_is_announced() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let (control_host, mut control) = UnixStream::pair().unwrap();
        let data: Vec<u8> = (0..WINDOW * 4).map(|n| n as u8).collect();
        let feed = Feed::start(std::io::Cursor::new(data.clone()), host, control_host);
        let mut got = vec![0; WINDOW as usize];
        guest.read_exact(&mut got).unwrap();
        guest.set_nonblocking(true).unwrap();
        assert!(guest.read(&mut [0]).is_err(), "more came than the guest made room for");
        guest.set_nonblocking(false).unwrap();
        feed.consumed(WINDOW);
        let mut rest = vec![0; WINDOW as usize];
        guest.read_exact(&mut rest).unwrap();
        got.extend(&rest);
        feed.consumed(WINDOW * 4);
        let mut last = Vec::new();
        guest.read_to_end(&mut last).unwrap();
        got.extend(last);
        assert_eq!(got, data);
        let mut line = String::new();
        control.read_to_string(&mut line).unwrap();
        assert_eq!(line, format!("eof {}\n", WINDOW * 4));
    }
}
