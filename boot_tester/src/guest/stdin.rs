//! The tool's standard input on its way to the program: a thread that never has more under way than
//! the guest has room for.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::shared::Shared;

/// Half of what Linux's tty layer buffers before it drops (N_TTY_BUF_SIZE, 4096): a UART has no way
/// to say "wait".
const WINDOW: u64 = 2048;
/// As much as a pipe holds.
const PIECE: usize = 64 * 1024;
/// Pieces under way in shared memory: each is a line on a serial port.
const PIECES: usize = 32;

/// How bytes get to the guest.
pub enum Way {
    Port(UnixStream),
    Shared(Shared),
}

impl Way {
    /// Bytes that may be under way.
    fn window(&self) -> u64 {
        match self {
            Self::Port(_) => WINDOW,
            Self::Shared(_) => Shared::room(),
        }
    }

    fn piece(&self) -> usize {
        match self {
            Self::Port(_) => WINDOW as usize / 2,
            Self::Shared(_) => PIECE,
        }
    }

    /// Sends `bytes`, which follow `sent` others.
    fn send(&mut self, sent: u64, bytes: &[u8], mut control: &UnixStream) -> io::Result<()> {
        match self {
            Self::Port(port) => port.write_all(bytes),
            Self::Shared(shared) => {
                shared.put(sent, bytes)?;
                control.write_all(format!("in {}\n", sent + bytes.len() as u64).as_bytes())
            }
        }
    }
}

/// What is under way.
#[derive(Default)]
struct UnderWay {
    consumed: u64,
    /// Where each piece ends that has not been consumed.
    pieces: VecDeque<u64>,
}

/// Handed the guest's reports of what it has consumed.
#[derive(Clone, Default)]
pub struct Feed(Arc<(Mutex<UnderWay>, Condvar)>);

impl Feed {
    /// Starts sending `from`; at its end init is told how much there was.
    pub fn start(
        mut from: impl Read + Send + 'static,
        mut way: Way,
        mut control: UnixStream,
    ) -> Self {
        let feed = Self::default();
        let own = feed.clone();
        thread::spawn(move || {
            let mut sent = 0;
            let mut buffer = vec![0; way.piece()];
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                own.wait_for_room(sent + count as u64, way.window());
                if way.send(sent, &buffer[..count], &control).is_err() {
                    return;
                }
                sent += count as u64;
            }
            let _ = control.write_all(format!("eof {sent}\n").as_bytes());
        });
        feed
    }

    /// The guest has consumed `total` bytes so far.
    pub fn consumed(&self, total: u64) {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        state.consumed = total;
        while state.pieces.front().is_some_and(|&end| end <= total) {
            state.pieces.pop_front();
        }
        changed.notify_all();
    }

    /// Waits until a piece that ends at `end` may go.
    fn wait_for_room(&self, end: u64, window: u64) {
        let (lock, changed) = &*self.0;
        let state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |state: &mut UnderWay| {
            end > state.consumed.saturating_add(window) || state.pieces.len() == PIECES
        };
        let mut state = changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.pieces.push_back(end);
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
        let feed = Feed::start(io::Cursor::new(data.clone()), Way::Port(host), control_host);
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

    #[test]
    fn a_guest_that_claims_to_have_consumed_more_than_there_was_stops_nothing() {
        let feed = Feed::default();
        feed.consumed(u64::MAX);
        feed.wait_for_room(5, WINDOW);
        feed.consumed(5);
        feed.wait_for_room(5 + WINDOW, WINDOW);
    }

    #[test]
    fn pieces_in_shared_memory_are_announced_and_few() {
        use std::io::{BufRead, BufReader};
        let (control_host, control) = UnixStream::pair().unwrap();
        let mut lines = BufReader::new(control.try_clone().unwrap()).lines();
        let shared = Shared::new().unwrap();
        /// Gives a byte at a time.
        struct Slow(u32);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer[0] = b'x';
                self.0 -= u32::from(self.0 > 0);
                Ok(usize::from(self.0 > 0))
            }
        }
        let feed = Feed::start(Slow(PIECES as u32 + 3), Way::Shared(shared), control_host);
        for total in 1..=PIECES {
            assert_eq!(lines.next().unwrap().unwrap(), format!("in {total}"));
        }
        control.set_nonblocking(true).unwrap();
        assert!(lines.next().unwrap().is_err(), "more lines than the port can hold");
        control.set_nonblocking(false).unwrap();
        feed.consumed(2);
        for total in 1..=2 {
            assert_eq!(lines.next().unwrap().unwrap(), format!("in {}", PIECES + total));
        }
        assert_eq!(lines.next().unwrap().unwrap(), format!("eof {}", PIECES + 2));
    }
}
