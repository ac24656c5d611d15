//! The control channel: one line, one message.
//!
//! To the host: `ready TSC` before the program starts (with ` shared` where stdio goes by shared memory,
//! see [`crate::shared`]), `placement LINE` for each line of the table that the run file may ask for,
//! `file N HEX` with pieces of the N-th file that it wants back, `stdin N` (N bytes of stdin have been
//! consumed, which is the host's leave to send more), `clock TSC` when the program has ended, and at the end
//! `exit N` or `signal N`, followed in pipe mode by ` out BYTES err BYTES`, so that a lost byte is noticed.
//! From the host: `eof N` (stdin ends after N bytes), `winsize ROWS COLUMNS`.
//!
//! With shared memory also `out N`, `err N` and `piece FILE N`: the next N bytes there are of stdout, of
//! stderr, of a file; and from the host `taken N` (it has consumed so many of all these bytes) and
//! `in N` (so many bytes of stdin are there).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::termios::tcdrain;

use crate::shared::Outbox;

pub enum Message {
    Eof(u64),
    In(u64),
    Taken(u64),
    Winsize { rows: u16, columns: u16 },
}

pub struct Control {
    reader: Option<BufReader<File>>,
    writer: Sender,
}

/// The writing half; clones share one lock, so that lines never mix.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<File>>);

impl Sender {
    pub fn send(&self, line: &str) -> Result<(), String> {
        let mut port = self.0.lock().map_err(|_| "control channel poisoned".to_string())?;
        port.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("control channel: {e}"))
    }
}

impl Control {
    pub fn new(port: File) -> Result<Self, String> {
        let second = port.try_clone().map_err(|e| format!("control channel: {e}"))?;
        Ok(Self {
            reader: Some(BufReader::new(second)),
            writer: Sender(Arc::new(Mutex::new(port))),
        })
    }

    pub fn sender(&self) -> Sender {
        self.writer.clone()
    }

    /// Sends a line and waits until it has left the port.
    pub fn send(&mut self, line: &str) -> Result<(), String> {
        self.writer.send(line)?;
        let port = self.writer.0.lock().map_err(|_| "control channel poisoned".to_string())?;
        tcdrain(&*port).map_err(|e| format!("control channel: {e}"))
    }

    /// Sends a file, if it is there, as the `number`-th of those that the host wants.
    pub fn send_file(
        &mut self,
        number: usize,
        path: &Path,
        outbox: Option<&Outbox>,
    ) -> Result<(), String> {
        /// Bytes a line.
        const PIECE: usize = 2048;
        // What the program did not write the host misses by itself.
        let Ok(bytes) = std::fs::read(path) else { return Ok(()) };
        if let Some(outbox) = outbox {
            return outbox.send(&format!("piece {number}"), &bytes);
        }
        for piece in bytes.chunks(PIECE) {
            let mut line = format!("file {number} ");
            for byte in piece {
                let _ = write!(line, "{byte:02x}");
            }
            self.writer.send(&line)?;
        }
        Ok(())
    }

    /// Starts the thread that hands over the host's messages. It lives as long as the machine.
    pub fn listen(&mut self, mut handle: impl FnMut(Message) + Send + 'static) {
        let Some(reader) = self.reader.take() else { return };
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if let Some(message) = parse(&line) {
                    handle(message);
                }
            }
        });
    }
}

fn parse(line: &str) -> Option<Message> {
    let mut words = line.split_whitespace();
    match words.next()? {
        "eof" => Some(Message::Eof(words.next()?.parse().ok()?)),
        "in" => Some(Message::In(words.next()?.parse().ok()?)),
        "taken" => Some(Message::Taken(words.next()?.parse().ok()?)),
        "winsize" => Some(Message::Winsize {
            rows: words.next()?.parse().ok()?,
            columns: words.next()?.parse().ok()?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_host_are_understood_and_others_ignored() {
        assert!(matches!(parse("eof 12"), Some(Message::Eof(12))));
        assert!(matches!(parse("in 5"), Some(Message::In(5))));
        assert!(matches!(parse("taken 7"), Some(Message::Taken(7))));
        let size = parse("winsize 24 80");
        assert!(matches!(size, Some(Message::Winsize { rows: 24, columns: 80 })));
        assert!(parse("eof").is_none());
        assert!(parse("winsize 24").is_none());
        assert!(parse("reboot now").is_none());
    }
}
