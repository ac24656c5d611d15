//! `proxima fuzz --syscalls`: any call with any arguments, many processes at once, on one kernel.
//! No panic, no hang, no lost frame.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use super::fuzz_guest::{Fuzzer, Kernel};
use super::prepare;
use crate::cleanup::WorkDir;
use crate::error::{Context, Result};
use crate::guest::machine::{Clock, quote};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::progress::Progress;
use crate::suite::lines::Lines;
use crate::topology::Topology;

/// The guest's supervisor says something every second.
const LIMIT: Duration = Duration::from_secs(90);

/// What one guest does.
pub struct How<'a> {
    pub seed: u64,
    pub calls: u64,
    /// An allocation of each call fails.
    pub fail_allocations: bool,
    /// Where the guest's console is kept.
    pub console: Option<&'a Path>,
}

/// What came of one guest.
pub struct Verdict {
    pub calls: u64,
    /// Calls in which an allocation failed.
    pub failed: u64,
    /// Why it is no success: a sentence, the console's end, and how to repeat it.
    pub failure: Option<String>,
}

/// Makes calls on one machine.
pub fn run(
    fuzzer: &Fuzzer,
    kernel: &Kernel,
    (name, topology): (&str, &Topology),
    how: &How,
    progress: &Progress,
) -> Result<Verdict> {
    let work = WorkDir::new()?;
    let image = work.path().join("image.cpio");
    let (seed, calls) = (how.seed.to_string(), how.calls.to_string());
    let mut words: Vec<_> =
        ["fuzz", "calls", "--seed", &seed, "--calls", &calls].map(String::from).into();
    if how.fail_allocations {
        words.push("--fail".into());
    }
    fuzzer.image("", &words, &image)?;
    let machine =
        prepare::machine(topology.clone(), &kernel.choice, &kernel.file, Clock::Wall, &[], &image);
    let file = how.console.map(|path| File::create(path).context(path.display())).transpose()?;
    let mut session = Session::start(&machine, file)?;
    let mut listener = Listener::new(name, how.calls, progress);
    let outcome = follow(&mut session, &mut listener, None, Some(machine.boot_limit()))?;
    let why = match outcome {
        Outcome::Status(0) if listener.balanced => None,
        Outcome::Status(0) => Some(listener.last_line.clone()),
        Outcome::Status(code) => {
            Some(format!("the fuzz program ended with status {code}: {}", listener.errors))
        }
        Outcome::TimedOut { booted: true } => Some(format!("silent for {} s", LIMIT.as_secs())),
        Outcome::TimedOut { booted: false } => Some("the guest did not boot".into()),
        Outcome::Crashed(why) => Some(why),
    };
    let failure = why.map(|why| {
        let console = session.console.report();
        let kernel = quote(&kernel.choice.name());
        let more = if how.fail_allocations { " --fail-allocations" } else { "" };
        format!(
            "{name}: {why} (after {} calls)\n{console}\nagain: proxima fuzz --syscalls --topology \
             {} --seed {seed} --ops {calls} --kernel {kernel}{more}",
            listener.made,
            quote(name)
        )
    });
    Ok(Verdict { calls: listener.made, failed: listener.failed, failure })
}

struct Listener<'a> {
    name: &'a str,
    of: u64,
    progress: &'a Progress,
    unread: Lines,
    made: u64,
    failed: u64,
    balanced: bool,
    last_line: String,
    errors: String,
    booted: bool,
    last: Instant,
    told: Instant,
}

impl<'a> Listener<'a> {
    fn new(name: &'a str, of: u64, progress: &'a Progress) -> Self {
        Self {
            name,
            of,
            progress,
            unread: Lines::default(),
            made: 0,
            failed: 0,
            balanced: false,
            last_line: String::new(),
            errors: String::new(),
            booted: false,
            last: Instant::now(),
            told: Instant::now(),
        }
    }

    fn take(&mut self, line: &str) {
        self.last = Instant::now();
        let mut words = line.split(' ');
        match words.next() {
            Some("made" | "calls") => {
                // Rounds that only settle the account count from zero.
                let made = words.next().and_then(|word| word.parse().ok());
                self.made = made.unwrap_or(0).max(self.made);
                let text = format!("{}: {} of {} calls", self.name, self.made, self.of);
                if std::io::stderr().is_terminal() {
                    self.progress.say(&text);
                } else if self.told.elapsed() > Duration::from_secs(30) {
                    self.told = Instant::now();
                    println!("{text}");
                }
            }
            Some("failed") => {
                self.failed = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            }
            Some("round") => self.progress.clear_for(|| println!("{}: {line}", self.name)),
            Some("balanced") => self.balanced = true,
            _ => {}
        }
        self.last_line = line.into();
    }
}

impl Sink for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) -> bool {
        for line in self.unread.feed(bytes) {
            self.take(line.trim());
        }
        true
    }

    fn err(&mut self, bytes: &[u8]) -> bool {
        self.errors.push_str(&String::from_utf8_lossy(bytes));
        true
    }

    fn ready(&mut self, _session: &Session, _tsc: u64) {
        self.booted = true;
        self.last = Instant::now();
    }

    fn deadline(&self) -> Option<Instant> {
        self.booted.then(|| self.last + LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisors_lines_are_counted_and_its_verdict_is_kept() {
        let progress = Progress::new(false);
        let mut listener = Listener::new("ring-4", 100, &progress);
        listener.out(b"made 40 generation 3\ncalls 10");
        listener.out(b"2 restarts 5\nfailed 7\nlost node 0 anon: 3 then 4\n");
        assert_eq!((listener.made, listener.failed, listener.balanced), (102, 7, false));
        assert_eq!(listener.last_line, "lost node 0 anon: 3 then 4");
        listener.out(b"balanced\n");
        assert!(listener.balanced);
    }
}
