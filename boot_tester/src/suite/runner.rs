//! Running a list of tests in guests on one kernel and topology until every one has a verdict.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Reader, Record, Step, Suite, Verdict};
use crate::cleanup::WorkDir;
use crate::cmd::prepare;
use crate::error::{Fail, Result};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, Machine, quote};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::topology::Topology;

/// From init, or a test's end, to the next line.
const IDLE: Duration = Duration::from_secs(120);

/// What one guest is to do.
#[derive(Clone)]
pub struct Job<'a> {
    pub suite: &'a dyn Suite,
    pub kernel: Choice,
    pub kernel_file: PathBuf,
    /// As it was asked for: a name or a file.
    pub topology_name: String,
    pub topology: Topology,
    pub tests: Vec<String>,
    /// How long a single test may take.
    pub limit: Duration,
    pub clock: Clock,
    pub append: Vec<String>,
}

impl Job<'_> {
    /// Runs everything; `done` hears of each verdict as it is reached.
    pub fn run(&self, done: &dyn Fn(Record)) -> Result<()> {
        let mut left = self.tests.clone();
        let mut barren = 0;
        while !left.is_empty() {
            let before = left.len();
            let (outcome, current, console, chatter) = self.boot(&mut left, done)?;
            if left.is_empty() {
                break;
            }
            let why = reason(&outcome, current.is_some(), self.limit);
            let culprit = current.filter(|test| left.contains(test));
            match culprit {
                Some(test) => {
                    left.retain(|own| *own != test);
                    let text = self.explain(&why, &test, &console, &chatter);
                    done(self.record(test, Verdict::Fail(text)));
                    barren = 0;
                }
                None if left.len() < before => barren = 0,
                // Twice in a row no test was even started: the rest will not fare better.
                None if barren == 1 => {
                    for test in left.drain(..) {
                        let text = self.explain(&why, &test, &console, &chatter);
                        done(self.record(test, Verdict::Fail(text)));
                    }
                }
                None => barren += 1,
            }
        }
        Ok(())
    }

    /// One guest's life: tests that reach a verdict leave `left`.
    fn boot(
        &self,
        left: &mut Vec<String>,
        done: &dyn Fn(Record),
    ) -> Result<(Outcome, Option<String>, String, String)> {
        let work = WorkDir::new()?;
        let image = work.path().join("image.cpio");
        self.suite.image(left, &image)?;
        let machine = self.machine(&image);
        let mut session = Session::start(&machine, None)?;
        let mut watcher = Watcher {
            reader: self.suite.reader(),
            job: self,
            left,
            done,
            current: None,
            booted: false,
            last: Instant::now(),
            chatter: Vec::new(),
        };
        let outcome = follow(&mut session, &mut watcher, None, Some(machine.boot_limit()))?;
        let chatter = String::from_utf8_lossy(&watcher.chatter).into_owned();
        Ok((outcome, watcher.current, session.console.report(), chatter))
    }

    fn machine(&self, image: &Path) -> Machine {
        let topology = self.topology.clone();
        let file = &self.kernel_file;
        prepare::machine(topology, &self.kernel, file, self.clock, &self.append, image)
    }

    fn record(&self, test: String, verdict: Verdict) -> Record {
        Record {
            test,
            kernel: self.kernel.name(),
            topology: self.topology_name.clone(),
            verdict,
            millis: 0,
            parts: Vec::new(),
        }
    }

    /// A failure that the test could not report itself: why, the console's end, how to repeat it.
    fn explain(&self, why: &str, test: &str, console: &str, chatter: &str) -> String {
        let mut text = format!("{why}\n{console}");
        let last: Vec<&str> = chatter
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("@@"))
            .collect();
        if !last.is_empty() {
            text += "\nthe end of the program's output:";
            for line in &last[last.len().saturating_sub(10)..] {
                text += &format!("\n  | {line}");
            }
        }
        text + &format!("\nagain: {}", self.repeat(test))
    }

    /// The exact command that runs one test the same way.
    pub fn repeat(&self, test: &str) -> String {
        format!(
            "proxima test {} --topology {} --kernel {}",
            self.suite.repeat(test),
            quote(&self.topology_name),
            quote(&self.kernel.name())
        )
    }
}

fn reason(outcome: &Outcome, in_test: bool, limit: Duration) -> String {
    match outcome {
        Outcome::Status(code) if in_test => format!("the test program ended with status {code}"),
        Outcome::Status(code) => {
            format!("the test program ended with status {code} before this test")
        }
        Outcome::TimedOut { booted: true } if in_test => {
            format!("no verdict within {} s", limit.as_secs())
        }
        Outcome::TimedOut { booted: true } => "the test program hangs before this test".into(),
        Outcome::TimedOut { booted: false } => "the guest did not boot".into(),
        Outcome::Crashed(why) => format!("the guest crashed: {why}"),
    }
}

struct Watcher<'a> {
    reader: Box<dyn Reader>,
    job: &'a Job<'a>,
    left: &'a mut Vec<String>,
    done: &'a dyn Fn(Record),
    current: Option<String>,
    booted: bool,
    last: Instant,
    /// What the program printed since the last verdict, kept for the report of a crash.
    chatter: Vec<u8>,
}

const CHATTER: usize = 64 * 1024;

impl Sink for Watcher<'_> {
    fn out(&mut self, bytes: &[u8]) -> bool {
        self.chatter.extend_from_slice(bytes);
        let over = self.chatter.len().saturating_sub(CHATTER);
        self.chatter.drain(..over);
        for step in self.reader.feed(bytes) {
            self.last = Instant::now();
            match step {
                Step::Start(test) => self.current = Some(test),
                Step::Done { test, verdict, millis, parts } => {
                    self.chatter.clear();
                    self.current = None;
                    let before = self.left.len();
                    self.left.retain(|own| *own != test);
                    if self.left.len() < before {
                        let record = self.job.record(test, verdict);
                        (self.done)(Record { millis, parts, ..record });
                    }
                }
            }
        }
        true
    }

    fn err(&mut self, bytes: &[u8]) -> bool {
        self.chatter.extend_from_slice(bytes);
        true
    }

    fn ready(&mut self, _session: &Session, _tsc: u64) {
        self.booted = true;
        self.last = Instant::now();
    }

    fn deadline(&self) -> Option<Instant> {
        // Until init is there, the machine's own limit for booting holds.
        let limit = if self.current.is_some() { self.job.limit } else { IDLE };
        self.booted.then(|| self.last + limit)
    }
}

/// Selects tests by suite names, full names and a pattern. A word that selects nothing is refused.
pub fn select(
    all: &[String],
    words: &[String],
    filter: Option<&regex::Regex>,
) -> Result<Vec<String>> {
    let matches = |test: &str, word: &str| test == word || super::suite_of(test) == word;
    for word in words {
        if !all.iter().any(|test| matches(test, word)) {
            return Err(Fail::usage(format!("there is no suite or test {word:?} (see --list)")));
        }
    }
    let list: Vec<String> = all
        .iter()
        .filter(|test| words.is_empty() || words.iter().any(|word| matches(test, word)))
        .filter(|test| filter.is_none_or(|filter| filter.is_match(test)))
        .cloned()
        .collect();
    if list.is_empty() {
        return Err(Fail::usage("no test is selected (see --list)"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_selected_by_suite_by_name_and_by_pattern() {
        let all: Vec<String> = ["mm::brk", "mm::mmap", "numa::mbind"].map(String::from).into();
        let names = |words: &[&str], filter: Option<&str>| {
            let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            let filter = filter.map(|text| regex::Regex::new(text).unwrap());
            select(&all, &words, filter.as_ref())
        };
        assert_eq!(names(&[], None).unwrap().len(), 3);
        assert_eq!(names(&["mm"], None).unwrap(), ["mm::brk", "mm::mmap"]);
        assert_eq!(names(&["numa::mbind"], None).unwrap(), ["numa::mbind"]);
        assert_eq!(names(&[], Some("m.*p$")).unwrap(), ["mm::mmap"]);
        assert!(names(&["m"], None).is_err());
        assert!(names(&["mm"], Some("mbind")).is_err());
    }
}
