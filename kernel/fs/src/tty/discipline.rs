//! The line discipline's input side: editing, echo, signals; pure but for what it reports in
//! [`Effects`].

use super::termios::*;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that may wait for the reader, the line being typed included.
const CAPACITY: usize = 4096;

/// A character that is switched off.
const DISABLED: u8 = 0;

const SIGINT: u32 = 2;
const SIGQUIT: u32 = 3;
const SIGTSTP: u32 = 20;

/// What input leads to.
#[derive(Default)]
pub(super) struct Effects {
    /// To be shown (output processing still to come).
    pub echo: Vec<u8>,
    /// For the foreground process group.
    pub signals: Vec<u32>,
    /// Output stops (true) or goes on.
    pub flow: Option<bool>,
    /// Lines that were finished, or 1 for bytes of raw mode: what a reader can look at.
    pub lines: usize,
    /// A signal character discards pending output too.
    pub flush_output: bool,
}

/// Input between the driver and the reader.
#[derive(Default)]
pub(super) struct Discipline {
    /// What may be read (in canonical mode, whole lines).
    done: VecDeque<u8>,
    /// Ends of lines in `done`, counted from the beginning of time; an end of file has no byte.
    ends: VecDeque<u64>,
    /// Bytes that were read, since the beginning of time.
    taken: u64,
    /// The line being typed.
    line: Vec<u8>,
    /// Output column at the line's start.
    line_column: u32,
    /// The next character is taken as it is (^V).
    literal: bool,
    /// Between the backslash and the slash of ECHOPRT.
    erasing: bool,
    /// Output is stopped by the user.
    stopped: bool,
}

impl Discipline {
    fn free(&self) -> usize {
        CAPACITY.saturating_sub(self.done.len() + self.line.len())
    }

    /// A byte would be taken now.
    pub(super) fn accepts(&self, termios: &Termios) -> bool {
        // One place stays free, but for the end of a line.
        self.free() > 1 || (termios.canonical() && self.ends.is_empty())
    }

    /// Handles bytes; how many. In raw mode it takes no more than fit; in canonical mode what does
    /// not fit in a line is dropped with a bell, and bytes are refused only while a full buffer of
    /// finished lines waits for the reader.
    pub(super) fn receive(
        &mut self,
        data: &[u8],
        termios: &Termios,
        column: u32,
        effects: &mut Effects,
    ) -> usize {
        let mut column = column;
        for (index, &byte) in data.iter().enumerate() {
            let blocked = !self.accepts(termios);
            let signals = termios.local(ISIG) && is_signal(byte, termios);
            let starts = termios.iflag & IXON != 0 && byte == termios.cc[VSTART];
            if blocked && !signals && !starts {
                return index;
            }
            if self.line.is_empty() {
                self.line_column = column;
            }
            let before = effects.echo.len();
            self.byte(byte, termios, effects);
            for &shown in &effects.echo[before..] {
                match shown {
                    b'\n' | b'\r' => column = 0,
                    0x08 => column = column.saturating_sub(1),
                    b'\t' => column += 8 - column % 8,
                    _ => column += u32::from(!shown.is_ascii_control()),
                }
            }
        }
        data.len()
    }

    fn byte(&mut self, byte: u8, termios: &Termios, effects: &mut Effects) {
        let mut byte = byte;
        if termios.iflag & ISTRIP != 0 {
            byte &= 0x7f;
        }
        if termios.iflag & IUCLC != 0 && termios.local(IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if termios.local(EXTPROC) {
            self.store(byte, effects);
            return;
        }
        if self.literal {
            self.literal = false;
            self.insert(byte, termios, effects, true);
            return;
        }
        if termios.iflag & IXON != 0 {
            let cc = &termios.cc;
            if byte == cc[VSTOP] && cc[VSTOP] != DISABLED && byte != cc[VSTART] {
                self.stopped = true;
                effects.flow = Some(true);
                return;
            }
            if byte == cc[VSTART] && cc[VSTART] != DISABLED {
                self.stopped = false;
                effects.flow = Some(false);
                return;
            }
            if self.stopped && termios.iflag & IXANY != 0 {
                self.stopped = false;
                effects.flow = Some(false);
            }
        }
        if termios.local(ISIG)
            && let Some(signal) = signal_of(byte, termios)
        {
            self.signal(byte, signal, termios, effects);
            return;
        }
        match byte {
            b'\r' if termios.iflag & IGNCR != 0 => return,
            b'\r' if termios.iflag & ICRNL != 0 => byte = b'\n',
            b'\n' if termios.iflag & INLCR != 0 => byte = b'\r',
            _ => {}
        }
        if termios.canonical() && self.edit(byte, termios, effects) {
            return;
        }
        self.insert(byte, termios, effects, false);
    }

    fn signal(&mut self, byte: u8, signal: u32, termios: &Termios, effects: &mut Effects) {
        if !termios.local(NOFLSH) {
            self.flush();
            effects.flush_output = true;
        }
        if self.stopped && termios.iflag & IXON != 0 {
            self.stopped = false;
            effects.flow = Some(false);
        }
        if termios.local(ECHO) {
            self.echo(byte, termios, effects);
        }
        effects.signals.push(signal);
    }

    /// Editing characters of canonical mode; true when the byte was one.
    fn edit(&mut self, byte: u8, termios: &Termios, effects: &mut Effects) -> bool {
        let cc = &termios.cc;
        let is = |index: usize| cc[index] != DISABLED && byte == cc[index];
        if is(VERASE) || is(VKILL) || (is(VWERASE) && termios.local(IEXTEN)) {
            if is(VERASE) {
                self.erase_one(termios, effects);
            } else if is(VKILL) {
                self.kill(byte, termios, effects);
            } else {
                self.erase_word(termios, effects);
            }
            return true;
        }
        self.end_erase(effects);
        if is(VLNEXT) && termios.local(IEXTEN) {
            self.literal = true;
            if termios.local(ECHO) && termios.local(ECHOCTL) {
                effects.echo.extend_from_slice(b"^\x08");
            }
            return true;
        }
        if is(VREPRINT) && termios.local(IEXTEN) && termios.local(ECHO) {
            self.echo(byte, termios, effects);
            effects.echo.push(b'\n');
            for index in 0..self.line.len() {
                self.echo(self.line[index], termios, effects);
            }
            return true;
        }
        if byte == b'\n' {
            if termios.local(ECHO) || termios.local(ECHONL) {
                effects.echo.push(b'\n');
            }
            self.line.push(b'\n');
            self.finish_line(effects);
            return true;
        }
        if is(VEOF) {
            self.finish_line(effects);
            return true;
        }
        if is(VEOL) || (is(VEOL2) && termios.local(IEXTEN)) {
            if termios.local(ECHO) {
                self.echo(byte, termios, effects);
            }
            self.line.push(byte);
            self.finish_line(effects);
            return true;
        }
        false
    }

    fn finish_line(&mut self, effects: &mut Effects) {
        self.done.extend(self.line.drain(..));
        self.ends.push_back(self.taken + self.done.len() as u64);
        effects.lines += 1;
    }

    fn insert(&mut self, byte: u8, termios: &Termios, effects: &mut Effects, literal: bool) {
        if termios.canonical() {
            // One place is kept for the line's end.
            if self.free() <= 1 {
                if termios.iflag & IMAXBEL != 0 {
                    effects.echo.push(0x07);
                }
                return;
            }
            self.line.push(byte);
        } else {
            self.store(byte, effects);
        }
        if termios.local(ECHO) {
            if byte == b'\n' && !literal {
                effects.echo.push(b'\n');
            } else {
                self.echo(byte, termios, effects);
            }
        }
    }

    fn store(&mut self, byte: u8, effects: &mut Effects) {
        self.done.push_back(byte);
        effects.lines = 1;
    }

    /// Shows a character; control characters as ^X.
    fn echo(&self, byte: u8, termios: &Termios, effects: &mut Effects) {
        if byte.is_ascii_control() && byte != b'\t' && termios.local(ECHOCTL) {
            effects.echo.extend_from_slice(&[b'^', byte ^ 0x40]);
        } else {
            effects.echo.push(byte);
        }
    }

    fn end_erase(&mut self, effects: &mut Effects) {
        if core::mem::take(&mut self.erasing) {
            effects.echo.push(b'/');
        }
    }

    /// Removes the last character of the line and its picture.
    fn erase_one(&mut self, termios: &Termios, effects: &mut Effects) {
        // Continuation bytes go with the byte that starts the character; without one they stay.
        let inside = |byte: &u8| termios.iflag & IUTF8 != 0 && byte & 0xc0 == 0x80;
        let Some(start) = self.line.iter().rposition(|byte| !inside(byte)) else { return };
        let byte = self.line[start];
        self.line.truncate(start);
        if !termios.local(ECHO) {
            return;
        }
        if termios.local(ECHOPRT) {
            if !core::mem::replace(&mut self.erasing, true) {
                effects.echo.push(b'\\');
            }
            self.echo(byte, termios, effects);
        } else if !termios.local(ECHOE) {
            self.echo(termios.cc[VERASE], termios, effects);
        } else if byte == b'\t' {
            // Back to where the tab began.
            let width = 8 - self.width(termios) % 8;
            effects.echo.extend(core::iter::repeat_n(0x08, width as usize));
        } else {
            let control = byte.is_ascii_control();
            let cells = match (control, termios.local(ECHOCTL)) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 0,
            };
            for _ in 0..cells {
                effects.echo.extend_from_slice(b"\x08 \x08");
            }
        }
    }

    /// The column after what is left of the line.
    fn width(&self, termios: &Termios) -> u32 {
        self.line.iter().fold(self.line_column, |column, &byte| match byte {
            b'\t' => column + 8 - column % 8,
            _ if byte.is_ascii_control() => column + if termios.local(ECHOCTL) { 2 } else { 0 },
            _ if termios.iflag & IUTF8 != 0 && byte & 0xc0 == 0x80 => column,
            _ => column + 1,
        })
    }

    fn erase_word(&mut self, termios: &Termios, effects: &mut Effects) {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let mut seen = false;
        while let Some(&byte) = self.line.last() {
            if seen && !word(byte) {
                break;
            }
            seen |= word(byte);
            let before = self.line.len();
            self.erase_one(termios, effects);
            if self.line.len() == before {
                break;
            }
        }
    }

    fn kill(&mut self, byte: u8, termios: &Termios, effects: &mut Effects) {
        if termios.local(ECHO)
            && termios.local(ECHOE)
            && termios.local(ECHOK)
            && termios.local(ECHOKE)
        {
            let mut before = usize::MAX;
            while self.line.len() < before {
                before = self.line.len();
                self.erase_one(termios, effects);
            }
            return;
        }
        self.line.clear();
        if termios.local(ECHO) {
            self.end_erase(effects);
            self.echo(byte, termios, effects);
            if termios.local(ECHOK) {
                effects.echo.push(b'\n');
            }
        }
    }

    /// Bytes that a read can take now: in canonical mode those of the first line.
    pub(super) fn available(&self, termios: &Termios) -> usize {
        if !termios.canonical() {
            return self.done.len();
        }
        self.ends.front().map_or(0, |&end| (end - self.taken) as usize)
    }

    /// The next line is an end of file.
    pub(super) fn at_eof(&self) -> bool {
        self.ends.front() == Some(&self.taken)
    }

    /// A canonical read has something: a line, or the end of file.
    pub(super) fn has_line(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Bytes that FIONREAD tells.
    pub(super) fn queued(&self, termios: &Termios) -> usize {
        if termios.canonical() && self.ends.is_empty() { 0 } else { self.done.len() }
    }

    /// Copies the next bytes of what [`Discipline::available`] counted.
    pub(super) fn peek(&self, termios: &Termios, out: &mut [u8]) -> usize {
        let n = self.available(termios).min(out.len());
        for (slot, &byte) in out.iter_mut().zip(self.done.iter()).take(n) {
            *slot = byte;
        }
        n
    }

    /// Takes `n` bytes out; true when that ended a line.
    pub(super) fn consume(&mut self, n: usize) -> bool {
        self.done.drain(..n);
        self.taken += n as u64;
        let ended = self.at_eof();
        if ended {
            self.ends.pop_front();
        }
        ended
    }

    /// Drops all input.
    pub(super) fn flush(&mut self) {
        self.taken += self.done.len() as u64;
        self.done.clear();
        self.ends.clear();
        self.line.clear();
        self.literal = false;
        self.erasing = false;
    }

    /// Canonical mode was switched: what is there becomes readable in the new mode.
    pub(super) fn mode_changed(&mut self, old: &Termios, new: &Termios) {
        if old.canonical() == new.canonical() {
            return;
        }
        self.done.extend(self.line.drain(..));
        self.ends.clear();
        if new.canonical() && !self.done.is_empty() {
            self.ends.push_back(self.taken + self.done.len() as u64);
        }
        self.literal = false;
        self.erasing = false;
    }
}

fn signal_of(byte: u8, termios: &Termios) -> Option<u32> {
    let cc = &termios.cc;
    [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)]
        .into_iter()
        .find(|&(index, _)| cc[index] != DISABLED && cc[index] == byte)
        .map(|(_, signal)| signal)
}

fn is_signal(byte: u8, termios: &Termios) -> bool {
    signal_of(byte, termios).is_some()
}
