//! Running sequences of the guest's fuzz program in as many guests as it takes: one that crashes or
//! hangs costs the sequence it was at, and the others go on in a new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::prepare;
use crate::build;
use crate::cleanup::WorkDir;
use crate::error::{Context, Fail, Result};
use crate::guest::kernel::Choice;
use crate::guest::machine::Clock;
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::image::base;
use crate::image::program::environment;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::progress::Progress;
use crate::suite::lines::Lines;
use crate::topology::Topology;

const GUEST_PATH: &str = "/usr/bin/fuzz";
const GUEST_OPS: &str = "/etc/proxima/sequences";
/// A sequence takes a second at most; an operation that does not end is told after 30.
const LIMIT: Duration = Duration::from_secs(100);

/// Operations by a name, each as the guest's program writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub name: String,
    pub ops: Vec<String>,
}

/// What a sequence left on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A digest for each operation, and their lines if they were asked for.
    Lines { digests: Vec<String>, lines: Vec<String> },
    /// The guest ended with it: why, and the console's end.
    Crashed { why: String, console: String },
}

impl Trace {
    /// The same answers to the same sequence, whether lines were asked for or not.
    pub fn answers_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lines { digests, .. }, Self::Lines { digests: others, .. }) => digests == others,
            _ => false,
        }
    }
}

pub type Traces = BTreeMap<String, Trace>;

/// The program, and the init that starts it.
pub struct Fuzzer {
    pub program: PathBuf,
    pub init: PathBuf,
}

/// A kernel that is ready to boot.
#[derive(Clone)]
pub struct Kernel {
    pub choice: Choice,
    pub file: PathBuf,
}

impl Fuzzer {
    pub fn build(progress: &Progress) -> Result<Self> {
        let init = build::user("init", progress)?;
        Ok(Self { program: build::user("fuzz", progress)?, init })
    }

    /// The sequences of a seed for a machine: it is a Linux program and is asked on the host.
    pub fn generate(&self, topology: &Topology, args: &[String]) -> Result<Vec<Sequence>> {
        let mut command = Command::new(&self.program);
        command.args(["generate", "--machine", &machine(topology)]).args(args);
        let output = command.output().context(self.program.display())?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Fail::broken(format!("fuzz generate: {}", why.trim())));
        }
        parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Runs all of them; `heard` is told of each one's end.
    pub fn run(
        &self,
        kernel: &Kernel,
        topology: &Topology,
        sequences: &[Sequence],
        full: bool,
        heard: &dyn Fn(&Sequence),
    ) -> Result<Traces> {
        let mut traces = Traces::new();
        let mut barren = false;
        loop {
            let left: Vec<&Sequence> =
                sequences.iter().filter(|own| !traces.contains_key(&own.name)).collect();
            if left.is_empty() {
                return Ok(traces);
            }
            let before = traces.len();
            let work = WorkDir::new()?;
            let image = work.path().join("image.cpio");
            let mut args = vec!["fuzz".to_string(), "replay".into()];
            if full {
                args.push("--full".into());
            }
            args.push(GUEST_OPS.into());
            self.image(&text(&left), &args, &image)?;
            let mut listener = Listener::new(&left, &mut traces, heard);
            let (why, console) = boot(kernel, topology, &image, &mut listener)?;
            if let Some(name) = listener.current.take() {
                traces.insert(name, Trace::Crashed { why, console });
            } else if traces.len() == before && barren {
                return Err(Fail::broken(format!("{}: {why}; {console}", kernel.choice.name())));
            }
            barren = traces.len() == before;
        }
    }

    /// An image whose program is the fuzzer with `args`; `ops` becomes [`GUEST_OPS`].
    pub fn image(&self, ops: &str, args: &[String], to: &Path) -> Result<()> {
        let mut tree = base::skeleton()?;
        tree.host(&self.program, Path::new(GUEST_PATH))?;
        tree.host(&self.init, Path::new("/init"))?;
        tree.bytes(Path::new(GUEST_OPS), 0o644, ops.to_string())?;
        let cwd = PathBuf::from("/");
        let file = RunFile {
            mode: Mode::Direct,
            env: environment(&[], &cwd, &[], false)?,
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
            programs: vec![Program {
                path: GUEST_PATH.into(),
                args: args.iter().map(Into::into).collect(),
                name: String::new(),
            }],
        };
        tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
        tree.write(to)
    }
}

/// One guest's life: why it ended, and the console's end.
fn boot(
    kernel: &Kernel,
    topology: &Topology,
    image: &Path,
    listener: &mut Listener,
) -> Result<(String, String)> {
    let topology = topology.clone();
    let machine = prepare::machine(topology, &kernel.choice, &kernel.file, Clock::Wall, &[], image);
    let mut session = Session::start(&machine, None)?;
    let outcome = follow(&mut session, listener, None, Some(machine.boot_limit()))?;
    let why = match outcome {
        Outcome::Status(code) => format!("the fuzz program ended with status {code}"),
        Outcome::TimedOut { booted: true } => format!("no end within {} s", LIMIT.as_secs()),
        Outcome::TimedOut { booted: false } => "the guest did not boot".into(),
        Outcome::Crashed(why) => why,
    };
    let console = session.console.report();
    let panic = console.lines().find(|line| line.contains("panic"));
    let panic = panic.map(|line| line.trim_start_matches([' ', '|']).to_string());
    Ok((panic.unwrap_or(why), console))
}

struct Listener<'a> {
    sequences: BTreeMap<&'a str, &'a Sequence>,
    traces: &'a mut Traces,
    heard: &'a dyn Fn(&Sequence),
    unread: Lines,
    lines: Vec<String>,
    current: Option<String>,
    booted: bool,
    last: Instant,
}

impl<'a> Listener<'a> {
    fn new(left: &[&'a Sequence], traces: &'a mut Traces, heard: &'a dyn Fn(&Sequence)) -> Self {
        Self {
            sequences: left.iter().map(|own| (own.name.as_str(), *own)).collect(),
            traces,
            heard,
            unread: Lines::default(),
            lines: Vec::new(),
            current: None,
            booted: false,
            last: Instant::now(),
        }
    }

    fn take(&mut self, line: &str) {
        self.last = Instant::now();
        if let Some(name) = line.strip_prefix("begin ") {
            self.current = Some(name.into());
            self.lines.clear();
        } else if let Some(text) = line.strip_prefix("= ") {
            self.lines.push(text.into());
        } else if let Some(rest) = line.strip_prefix("seq ") {
            let mut words = rest.split(' ').map(String::from);
            let Some(name) = words.next() else { return };
            let lines = std::mem::take(&mut self.lines);
            let trace = Trace::Lines { digests: words.collect(), lines };
            self.current = None;
            if let Some(sequence) = self.sequences.get(name.as_str()) {
                (self.heard)(sequence);
                self.traces.insert(name, trace);
            }
        }
    }
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

/// A topology as the guest's program reads machines: `0-1/512;2-3/`.
pub fn machine(topology: &Topology) -> String {
    let nodes: Vec<String> = topology
        .nodes
        .iter()
        .map(|node| {
            let cpus: Vec<String> = node.cpus.iter().map(usize::to_string).collect();
            let memory = match node.memory >> 20 {
                0 => String::new(),
                mib => mib.to_string(),
            };
            format!("{}/{memory}", cpus.join(","))
        })
        .collect();
    nodes.join(";")
}

/// Reads what `fuzz generate` prints, and files that people write.
pub fn parse(text: &str) -> Result<Vec<Sequence>> {
    let mut all: Vec<Sequence> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix("seq ") {
            Some(name) => all.push(Sequence { name: name.into(), ops: Vec::new() }),
            None => match all.last_mut() {
                Some(sequence) => sequence.ops.push(line.into()),
                None => return Err(Fail::usage(format!("{line:?} stands before any seq line"))),
            },
        }
    }
    Ok(all)
}

pub fn text(sequences: &[&Sequence]) -> String {
    let mut text = String::new();
    for sequence in sequences {
        text += &format!("seq {}\n", sequence.name);
        sequence.ops.iter().for_each(|op| text += &format!("{op}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_survive_being_written_down() {
        let list = parse("# what\nseq 1.0\n0 exit\n0 maps\n\nseq 1.1\n0 exec\n").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].ops, ["0 exit", "0 maps"]);
        let all: Vec<&Sequence> = list.iter().collect();
        assert_eq!(parse(&text(&all)).unwrap(), list);
        assert!(parse("0 exit\n").is_err());
    }

    #[test]
    fn a_guests_lines_become_traces_also_when_they_come_in_pieces() {
        let list = parse("seq a\n0 exit\nseq b\n0 exit\n").unwrap();
        let left: Vec<&Sequence> = list.iter().collect();
        let mut traces = Traces::new();
        let count = std::cell::Cell::new(0);
        let heard = |_: &Sequence| count.set(count.get() + 1);
        let mut listener = Listener::new(&left, &mut traces, &heard);
        listener.out(b"begin a\n= ok on=1\n= -\nseq a 12");
        listener.out(b"34 beef\r\nbegin b\n= x\n");
        assert_eq!(listener.current.as_deref(), Some("b"));
        let lines = ["ok on=1", "-"].map(String::from).to_vec();
        let digests = ["1234", "beef"].map(String::from).to_vec();
        assert_eq!(traces["a"], Trace::Lines { digests, lines });
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn topologies_are_told_to_the_guest_as_nodes() {
        let topology = Topology::even(2, 4, 1 << 30).unwrap();
        assert_eq!(machine(&topology), "0,1/512;2,3/512");
    }
}
