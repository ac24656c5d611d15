//! The kernel's console: kept to its last part in memory, and in whole in a file when asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Enough for a panic with its backtrace on every CPU.
const KEPT: usize = 256 * 1024;
/// Lines that are shown when a run fails, and when it ended in a panic.
const TAIL_LINES: usize = 40;
const PANIC_LINES: usize = 400;

#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<VecDeque<u8>>>);

impl Console {
    /// Reads `from` to its end on a thread of its own.
    pub fn follow(
        &self,
        mut from: impl Read + Send + 'static,
        mut copy: Option<File>,
    ) -> JoinHandle<()> {
        let own = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                if let Some(file) = &mut copy {
                    let _ = file.write_all(&buffer[..count]);
                }
                own.push(&buffer[..count]);
            }
        })
    }

    fn push(&self, bytes: &[u8]) {
        let Ok(mut kept) = self.0.lock() else { return };
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }

    /// The last lines, without escape sequences and carriage returns, one string each.
    pub fn tail(&self) -> Vec<String> {
        let bytes: Vec<u8> =
            self.0.lock().map(|kept| kept.iter().copied().collect()).unwrap_or_default();
        let text = printable(&String::from_utf8_lossy(&bytes));
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.trim_end().to_string())
            .filter(|l| !l.is_empty())
            .collect();
        let last = |count: usize| lines.len().saturating_sub(count);
        let panic = lines.iter().rposition(|line| line.starts_with("Kernel panic"));
        let first =
            panic.map_or(last(TAIL_LINES), |at| at.clamp(last(PANIC_LINES), last(TAIL_LINES)));
        lines[first..].to_vec()
    }

    /// The tail as a block to print below a failure.
    pub fn report(&self) -> String {
        let tail = self.tail();
        if tail.is_empty() {
            return "the kernel printed nothing on its console".into();
        }
        let mut text = String::from("the end of the kernel's console:");
        for line in tail {
            text += "\n  | ";
            text += &line;
        }
        text
    }
}

/// Drops control characters and the firmware's terminal escapes (ESC c, ESC [ ... letter).
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next() == Some('[') {
                    while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
                    chars.next();
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_free_of_escapes_and_bounded() {
        let console = Console::default();
        console.push(b"\x1bc\x1b[?7l\x1b[2Jfirst\r\n");
        assert_eq!(console.tail(), ["first"]);
        for line in 0..100 {
            console.push(format!("line {line}\r\n").as_bytes());
        }
        let tail = console.tail();
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!(tail.last().unwrap(), "line 99");
    }

    #[test]
    fn a_panic_is_shown_from_its_first_line() {
        let console = Console::default();
        console.push(b"before\nKernel panic - not syncing: x\n");
        assert_eq!(console.tail(), ["before", "Kernel panic - not syncing: x"]);
        for line in 0..100 {
            console.push(format!("line {line}\n").as_bytes());
        }
        assert_eq!(console.tail()[0], "Kernel panic - not syncing: x");
        assert_eq!(console.tail().len(), 101);
    }

    #[test]
    fn only_the_last_part_is_kept() {
        let console = Console::default();
        console.push(&vec![b'x'; KEPT + 10]);
        assert_eq!(console.0.lock().unwrap().len(), KEPT);
    }
}
