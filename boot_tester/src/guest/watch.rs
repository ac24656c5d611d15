//! Following a guest to its end: what the program printed goes to the caller as it comes, and the
//! end is judged once.

use std::time::{Duration, Instant};

use super::session::{Event, Session, describe_end};
use super::stdin::Feed;
use crate::error::Result;
use crate::output::NO_READER;

/// From init's last word to the machine's end.
const POWER_OFF: Duration = Duration::from_secs(20);

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program's exit code, or 128 plus the signal that killed it.
    Status(u8),
    TimedOut {
        booted: bool,
    },
    /// Kernel panic, reset, or QEMU's own failure: a sentence.
    Crashed(String),
}

/// What happens to output; false ends the guest.
pub trait Sink {
    fn out(&mut self, bytes: &[u8]) -> bool;
    fn err(&mut self, bytes: &[u8]) -> bool;
    /// Init is there and about to start the program; `tsc` is the time-stamp counter at its entry.
    fn ready(&mut self, _session: &Session, _tsc: u64) {}
    /// The time-stamp counter when the program had ended.
    fn clock(&mut self, _tsc: u64) {}
    /// A line of the table of pages that the run file asked for.
    fn placement(&mut self, _line: &str) -> bool {
        true
    }
    /// A piece of the `number`-th file that the run file wants back.
    fn file(&mut self, _number: usize, _bytes: &[u8]) -> bool {
        true
    }
    /// When the guest has to end: asked before every wait, so that it may move.
    fn deadline(&self) -> Option<Instant> {
        None
    }
    /// Whether a guest that is late shall tell where it stands, by a panic on its console: not
    /// where the program itself may well be what takes so long.
    fn suspects_kernel(&self) -> bool {
        true
    }
}

/// What init has said so far.
#[derive(Default)]
struct Said {
    ready: bool,
    status: Option<u8>,
    counts: Option<(u64, u64)>,
}

/// Runs the guest to its end; init must have been heard of within `boot`, if given.
pub fn follow(
    session: &mut Session,
    sink: &mut dyn Sink,
    feed: Option<&dyn Fn(&Session) -> Feed>,
    boot: Option<Duration>,
) -> Result<Outcome> {
    let start = Instant::now();
    let mut said = Said::default();
    let mut seen = (0, 0);
    let mut stdin = None;
    let mut closing = None;
    loop {
        let booted_by = boot.filter(|_| !said.ready).map(|limit| start + limit);
        let until = [sink.deadline(), booted_by, closing].into_iter().flatten().min();
        let Some(event) = session.next(until) else {
            if !said.ready || sink.suspects_kernel() {
                session.kill_asking();
            } else {
                session.kill();
            }
            return Ok(match said.status {
                // The status counts; that the machine stays on is the kernel's fault.
                Some(_) if closing.is_some() => {
                    Outcome::Crashed("the program ended, but the guest did not power off".into())
                }
                _ => Outcome::TimedOut { booted: said.ready },
            });
        };
        let wanted = match event {
            Event::Out(bytes) => {
                seen.0 += bytes.len() as u64;
                sink.out(&bytes)
            }
            Event::Err(bytes) => {
                seen.1 += bytes.len() as u64;
                sink.err(&bytes)
            }
            Event::File(number, bytes) => sink.file(number, &bytes),
            Event::Control(line) => {
                let wanted = hear(&line, &mut said, stdin.as_ref(), session, sink);
                if said.ready && stdin.is_none() {
                    stdin = feed.map(|start| start(session));
                }
                if said.status.is_some() && closing.is_none() {
                    closing = Some(Instant::now() + POWER_OFF);
                }
                wanted
            }
            Event::Closed => return finish(session, &said, seen),
        };
        if !wanted {
            session.kill();
            let late = sink.deadline().is_some_and(|deadline| deadline <= Instant::now());
            return Ok(match late {
                true => Outcome::TimedOut { booted: said.ready },
                false => Outcome::Status(NO_READER),
            });
        }
    }
}

/// Takes a line of the control channel; false ends the guest.
fn hear(
    line: &str,
    said: &mut Said,
    stdin: Option<&Feed>,
    session: &mut Session,
    sink: &mut dyn Sink,
) -> bool {
    if let Some(row) = line.strip_prefix("placement ") {
        return sink.placement(row);
    }
    if let Some((number, bytes)) = line.strip_prefix("file ").and_then(piece) {
        return sink.file(number, &bytes);
    }
    let mut words = line.split_whitespace();
    let first = words.next();
    let number = words.next().and_then(|word| word.parse::<u64>().ok());
    match (first, number) {
        (Some("ready"), tsc) => {
            said.ready = true;
            if words.next() != Some("shared") {
                // The guest's kernel does not give it.
                session.shared = None;
            }
            sink.ready(session, tsc.unwrap_or(0));
        }
        (Some("clock"), Some(tsc)) => sink.clock(tsc),
        (Some("stdin"), Some(total)) => {
            if let Some(feed) = stdin {
                feed.consumed(total);
            }
        }
        (Some(kind @ ("exit" | "signal")), Some(number)) => {
            let Some(code) = status(kind, number) else { return true };
            said.status = Some(code);
            let rest: Vec<&str> = words.collect();
            if let ["out", out, "err", err] = rest[..] {
                said.counts = out.parse().ok().zip(err.parse().ok());
            }
        }
        _ => {}
    }
    true
}

/// The exit code of a program that ended so; None for what no kernel reports.
fn status(kind: &str, number: u64) -> Option<u8> {
    let base = if kind == "signal" { 128 } else { 0 };
    u8::try_from(number.checked_add(base)?).ok()
}

/// `N HEX`: a piece of a file.
fn piece(text: &str) -> Option<(usize, Vec<u8>)> {
    let (number, hex) = text.split_once(' ')?;
    let digit = |byte: u8| (byte as char).to_digit(16);
    let bytes = hex.as_bytes().chunks_exact(2);
    let bytes = bytes.map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8));
    Some((number.parse().ok()?, bytes.collect::<Option<_>>()?))
}

fn finish(session: &mut Session, said: &Said, seen: (u64, u64)) -> Result<Outcome> {
    let (status, stderr) = session.wait()?;
    let Some(code) = said.status else {
        return Ok(Outcome::Crashed(describe_end(status, &stderr)));
    };
    if said.counts.is_some_and(|counts| counts != seen) {
        return Ok(Outcome::Crashed(format!(
            "the guest lost output: it wrote {:?} bytes, {seen:?} arrived",
            said.counts.unwrap_or_default()
        )));
    }
    Ok(Outcome::Status(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_program_can_end_with_is_a_status() {
        assert_eq!(status("exit", 255), Some(255));
        assert_eq!(status("signal", 9), Some(137));
        for (kind, number) in
            [("exit", 256), ("signal", 128), ("exit", u64::MAX), ("signal", u64::MAX)]
        {
            assert_eq!(status(kind, number), None, "{kind} {number}");
        }
    }
}
