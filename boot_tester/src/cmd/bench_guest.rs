//! Running the guest's bench program under instruction counting until every operation has a result.
//!
//! A guest that crashes or hangs costs the operation it was at; the others are measured in a new
//! guest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::prepare;
use crate::build;
use crate::cleanup::WorkDir;
use crate::error::{Context, Fail, Result};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, Machine};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::image::base;
use crate::image::program::environment;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::progress::Progress;
use crate::suite::lines::Lines;
use crate::topology::Topology;

const GUEST_PATH: &str = "/usr/bin/bench";
/// Real time for a single operation, of which the longest takes two seconds on an idle host.
const LIMIT: Duration = Duration::from_secs(60);

/// Instructions for each operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub median: f64,
    /// 99th percentile of the samples.
    pub p99: f64,
    pub samples: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    Figures(Figures),
    /// The kernel does not have it: the name of the call or function.
    Missing(String),
    Failed(String),
}

/// The program, and the init that starts it.
pub struct Bench {
    program: PathBuf,
    init: PathBuf,
}

impl Bench {
    pub fn build(progress: &Progress) -> Result<Self> {
        let init = build::user("init", progress)?;
        Ok(Self { program: build::user("bench", progress)?, init })
    }

    /// All operations, in the program's order: it is a Linux program and is asked on the host.
    pub fn list(&self) -> Result<Vec<String>> {
        let output =
            Command::new(&self.program).arg("--list").output().context(self.program.display())?;
        if !output.status.success() {
            return Err(Fail::broken(format!("{} --list failed", self.program.display())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect())
    }

    /// Measures `names`; `heard` gets each operation's place and name as it begins.
    pub fn run(
        &self,
        kernel: &Choice,
        file: &Path,
        topology: &Topology,
        names: &[String],
        heard: &dyn Fn(usize, &str),
    ) -> Result<BTreeMap<String, Measured>> {
        let mut results = BTreeMap::new();
        let mut barren = false;
        loop {
            let left: Vec<&String> =
                names.iter().filter(|name| !results.contains_key(*name)).collect();
            if left.is_empty() {
                return Ok(results);
            }
            let before = results.len();
            let work = WorkDir::new()?;
            let image = work.path().join("image.cpio");
            self.image(&left, &image)?;
            let machine =
                prepare::machine(topology.clone(), kernel, file, Clock::Instructions, &[], &image);
            let mut listener = Listener::new(&mut results, heard);
            let (why, console) = boot(&machine, &mut listener)?;
            if let Some(current) = listener.current.take() {
                results.entry(current).or_insert(Measured::Failed(why));
            } else if results.len() == before && barren {
                // Twice nothing was even begun.
                return Err(Fail::broken(format!("{}: {why}; {console}", kernel.name())));
            }
            barren = results.len() == before;
        }
    }

    fn image(&self, names: &[&String], to: &Path) -> Result<()> {
        let mut tree = base::skeleton()?;
        tree.host(&self.program, Path::new(GUEST_PATH))?;
        tree.host(&self.init, Path::new("/init"))?;
        let mut args = vec!["bench".into()];
        args.extend(names.iter().map(|name| name.into()));
        let cwd = PathBuf::from("/");
        let file = RunFile {
            mode: Mode::Direct,
            // The same on every host: what lies on the stack is counted by fork and exec.
            env: environment(&[], &cwd, &[], false)?
                .into_iter()
                .filter(|(name, _)| name == "PATH" || name == "HOME")
                .collect(),
            cwd,
            winsize: None,
            timeout: 0,
            nonce: String::new(),
            placement: false,
            traffic: false,
            modules: Vec::new(),
            shares: Vec::new(),
            group: Vec::new(),
            fetch: Vec::new(),
            programs: vec![Program { path: GUEST_PATH.into(), args, name: String::new() }],
        };
        tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
        tree.write(to)
    }
}

/// One guest's life: why it ended, and the console's end.
fn boot(machine: &Machine, listener: &mut Listener) -> Result<(String, String)> {
    let mut session = Session::start(machine, None)?;
    let outcome = follow(&mut session, listener, None, Some(machine.boot_limit()))?;
    let why = match outcome {
        Outcome::Status(code) => format!("the program ended with status {code}"),
        Outcome::TimedOut { booted: true } => format!("no end within {} s", LIMIT.as_secs()),
        Outcome::TimedOut { booted: false } => "the guest did not boot".into(),
        Outcome::Crashed(why) => why,
    };
    let console = session.console.report();
    // A panic says more than that the machine was reset.
    let panic = console.lines().find(|line| line.contains("panic"));
    let panic = panic.map(|line| line.trim_start_matches([' ', '|']).to_string());
    Ok((panic.unwrap_or(why), console))
}

struct Listener<'a> {
    results: &'a mut BTreeMap<String, Measured>,
    heard: &'a dyn Fn(usize, &str),
    unread: Lines,
    current: Option<String>,
    booted: bool,
    last: Instant,
}

impl<'a> Listener<'a> {
    fn new(results: &'a mut BTreeMap<String, Measured>, heard: &'a dyn Fn(usize, &str)) -> Self {
        let (unread, last) = (Lines::default(), Instant::now());
        Self { results, heard, unread, current: None, booted: false, last }
    }

    fn take(&mut self, line: &str) {
        self.last = Instant::now();
        let Some((kind, rest)) = line.split_once(' ') else { return };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let result = match kind {
            "begin" => {
                (self.heard)(self.results.len() + 1, name);
                self.current = Some(name.into());
                return;
            }
            "result" => match figures(rest) {
                Some(figures) => Measured::Figures(figures),
                None => Measured::Failed(format!("cannot read {rest:?}")),
            },
            "missing" => Measured::Missing(rest.into()),
            "failed" => Measured::Failed(rest.into()),
            _ => return,
        };
        self.results.insert(name.into(), result);
        self.current = None;
    }
}

/// `median=332.0 p99=332.0 n=100 ...`
fn figures(text: &str) -> Option<Figures> {
    let word = |key: &str| {
        let value = text.split_whitespace().find_map(|word| word.strip_prefix(key))?;
        value.strip_prefix('=')?.parse::<f64>().ok()
    };
    Some(Figures { median: word("median")?, p99: word("p99")?, samples: word("n")? as u64 })
}

impl Sink for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) -> bool {
        for line in self.unread.feed(bytes) {
            self.take(line.trim());
        }
        true
    }

    fn err(&mut self, _bytes: &[u8]) -> bool {
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
    fn every_kind_of_line_becomes_a_result_also_when_it_comes_in_pieces() {
        let mut results = BTreeMap::new();
        let begun = std::cell::RefCell::new(Vec::new());
        let heard = |at: usize, name: &str| begun.borrow_mut().push((at, name.to_string()));
        let mut listener = Listener::new(&mut results, &heard);
        listener.out(b"begin a/b\nresult a/b median=3.5 p9");
        listener.out(b"9=4.0 n=10 min=1.0 max=9.0\r\nbegin c\nmissing c mbind\nbegin d\n");
        listener.out(b"failed d killed by signal 11\nbegin e\n");
        assert_eq!(listener.current.as_deref(), Some("e"));
        let figures = Figures { median: 3.5, p99: 4.0, samples: 10 };
        assert_eq!(results["a/b"], Measured::Figures(figures));
        assert_eq!(results["c"], Measured::Missing("mbind".into()));
        assert_eq!(results["d"], Measured::Failed("killed by signal 11".into()));
        assert_eq!(begun.borrow()[1], (2, "c".to_string()));
    }
}
