//! `proxima record` and `proxima replay`: a run with everything that it depends on in one file, and the same
//! run again, to the instruction, here or on another machine with the same QEMU.
//!
//! Under `-icount` nothing of a run depends on the host: instructions are the clock, the CPUs take turns by
//! their number, chance has a fixed seed, and nothing comes from outside; what the program reads from its
//! stdin is a file of the image. A replay is compared with what was recorded: its output, how it ended, and
//! the instructions up to the program's start and to its end. (QEMU's own record and replay would also take
//! what comes from outside, but refuses machines of more than one CPU, up to 10.0 at least.)

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Read, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run;
use crate::cleanup::WorkDir;
use crate::cli::{GuestOptions, MachineOptions};
use crate::error::{BROKEN, Context, Fail, Result};
use crate::guest::machine::{Clock, Machine, qemu_version};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::output::pass_on;
use crate::parts::{self, Effort};
use crate::paths;
use crate::progress::Progress;
use crate::topology::Topology;

/// What a record begins with, inside its compression.
const MAGIC: &str = "proxima record 1\n";
/// Bytes beyond which no description of a run goes, and no file that is kept.
const MOST_TEXT: u64 = 1 << 20;
const MOST_FILE: u64 = 4 << 30;
/// Bytes of input beyond which none is kept: it lies in the guest's memory.
const MOST_INPUT: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct RecordOptions {
    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub guest: GuestOptions,
    /// Where to keep it
    #[arg(long, short, value_name = "FILE", default_value = "proxima.rec", value_parser = paths::output())]
    pub output: PathBuf,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

#[derive(clap::Args)]
pub struct ReplayOptions {
    /// What `proxima record` has kept
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Stop before the first instruction and wait for gdb
    #[arg(long)]
    pub gdb: bool,
    /// Write the kernel's console to a file
    #[arg(long, value_name = "FILE", value_parser = paths::output())]
    pub console: Option<PathBuf>,
    /// Show what is done and how long it takes
    #[arg(long, short)]
    pub verbose: bool,
}

/// Bytes that went by: how many, and their FNV-1a hash.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    bytes: u64,
    hash: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Stream {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// All by which two runs are told apart.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub out: Stream,
    pub err: Stream,
    /// The kernel's console.
    console: Stream,
    /// Instructions up to init's entry, and to the program's end: init's time-stamp counter.
    pub ready: u64,
    pub end: u64,
    outcome: String,
}

impl Heard {
    /// Adds how a guest ended.
    pub fn finish(&mut self, outcome: &Outcome, console: &[String]) {
        self.console.add(console.join("\n").as_bytes());
        self.outcome = match outcome {
            Outcome::Status(code) => format!("status {code}"),
            Outcome::TimedOut { .. } => "out of time".into(),
            Outcome::Crashed(why) => format!("crashed: {why}"),
        };
    }

    /// The first thing that differs.
    fn difference(&self, other: &Self) -> Option<String> {
        let told = |what: &str, recorded: &dyn std::fmt::Debug, here: &dyn std::fmt::Debug| {
            Some(format!("{what}: {recorded:?} when it was recorded, {here:?} now"))
        };
        if self.ready != other.ready {
            return told("instructions to the program's start", &self.ready, &other.ready);
        }
        if self.outcome != other.outcome {
            return told("the end", &self.outcome, &other.outcome);
        }
        for (what, own, theirs) in [
            ("stdout", self.out, other.out),
            ("stderr", self.err, other.err),
            ("the console", self.console, other.console),
        ] {
            if own != theirs {
                return told(&format!("bytes of {what}"), &own.bytes, &theirs.bytes);
            }
        }
        if self.end != other.end {
            return told("instructions to the program's end", &self.end, &other.end);
        }
        None
    }
}

/// The machine and what came of it; kernel and image follow in the file.
#[derive(Serialize, Deserialize)]
struct Header {
    proxima: String,
    qemu: String,
    program: String,
    topology: Topology,
    cmdline: String,
    cpu: Option<String>,
    heard: Heard,
    /// Bytes of kernel and image.
    sizes: [u64; 2],
}

/// Runs a program and keeps the run. Its exit code is the program's.
pub fn record(options: &RecordOptions) -> Result<u8> {
    let guest = &options.guest;
    let refused = [
        (
            !guest.share.is_empty(),
            "--share: what the guest reads there is no part of a record; bring the files: --with",
        ),
        (guest.gdb, "--gdb: record first, then: proxima replay --gdb FILE"),
        (guest.dry_run, "--dry-run: there would be nothing to record"),
    ];
    if let Some((_, why)) = refused.iter().find(|(is, _)| *is) {
        return Err(Fail::usage(*why));
    }
    let guest = GuestOptions { icount: true, ..guest.clone() };
    let input = input()?;
    run::record(&options.machine, &guest, &options.command, input, &options.output)
}

/// All that is on stdin; nothing of a terminal.
fn input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    if !stdin().is_terminal() {
        stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut input).context("standard input")?;
    }
    if input.len() as u64 > MOST_INPUT {
        let most = crate::size::show(MOST_INPUT);
        return Err(Fail::usage(format!("standard input: a record keeps no more than {most}")));
    }
    Ok(input)
}

/// Writes the record of a run that has ended.
pub fn keep(path: &Path, machine: &Machine, program: &str, heard: &Heard) -> Result<()> {
    let read = |path: &Path| fs::read(path).context(path.display());
    let files = [read(&machine.kernel)?, read(&machine.image)?];
    let header = Header {
        proxima: env!("CARGO_PKG_VERSION").into(),
        qemu: qemu_version()?,
        program: program.into(),
        topology: machine.topology.clone(),
        cmdline: machine.cmdline.clone(),
        cpu: machine.cpu.clone(),
        heard: heard.clone(),
        sizes: [0, 1].map(|which| files[which].len() as u64),
    };
    let mut bytes = MAGIC.as_bytes().to_vec();
    serde_json::to_writer(&mut bytes, &header).context("JSON")?;
    bytes.push(b'\n');
    files.iter().for_each(|file| bytes.extend_from_slice(file));
    let packed = parts::pack(&bytes, Effort::Little).context(path.display())?;
    fs::write(path, packed).context(path.display())
}

/// Reads a record; kernel and image go to `dir`.
fn open(path: &Path, dir: &Path) -> Result<(Header, [PathBuf; 2])> {
    let wrong = |why: &dyn std::fmt::Display| {
        Fail::usage(format!("{}: not a record of proxima: {why}", path.display()))
    };
    let file = File::open(path).map_err(|e| Fail::usage(format!("{}: {e}", path.display())))?;
    let mut reader = BufReader::new(parts::reader(BufReader::new(file)));
    let mut line = || {
        let mut text = String::new();
        io::BufRead::read_line(&mut (&mut reader).take(MOST_TEXT), &mut text).map(|_| text)
    };
    let magic = line().map_err(|e| wrong(&e))?;
    if magic != MAGIC {
        return Err(wrong(&"it begins with something else"));
    }
    let text = line().map_err(|e| wrong(&e))?;
    let header: Header = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
    header.topology.check().map_err(|why| wrong(&why))?;
    let names = ["kernel", "image"].map(|name| dir.join(name));
    for (name, size) in names.iter().zip(header.sizes) {
        let mut to = File::create(name).context(name.display())?;
        let copied = io::copy(&mut (&mut reader).take(size.min(MOST_FILE)), &mut to);
        if copied.map_err(|e| wrong(&e))? != size {
            return Err(wrong(&"it is cut short"));
        }
    }
    Ok((header, names))
}

/// Runs what was recorded again. The exit code is the recorded one; 1 where the run is not the same.
pub fn replay(options: &ReplayOptions) -> Result<u8> {
    let progress = Progress::new(options.verbose);
    let work = WorkDir::new()?;
    progress.say("unpacking the record");
    let (header, [kernel, image]) = open(&options.file, work.path())?;
    let here = qemu_version()?;
    if here != header.qemu {
        return Err(Fail::broken(format!(
            "{} was recorded by QEMU {}, and here is QEMU {here}: another version runs otherwise",
            options.file.display(),
            header.qemu
        )));
    }
    let console = options
        .console
        .as_ref()
        .map(|path| File::create(path).context(path.display()))
        .transpose()?;
    let machine = Machine {
        topology: header.topology,
        kernel,
        image,
        cmdline: header.cmdline,
        clock: Clock::Instructions,
        cpu: header.cpu,
        plugin: None,
        gdb: options.gdb.then_some(run::GDB_PORT),
        shares_memory: false,
        shares: Vec::new(),
    };
    progress.say(&format!("replaying {}", header.program));
    let mut session = Session::start(&machine, console)?;
    if options.gdb {
        progress.clear();
        let command = run::gdb_command(&symbols(&machine.kernel, &progress));
        eprintln!("proxima: waiting for gdb: {command}");
    }
    let mut again = Again { progress, heard: Heard::default(), fault: None };
    let boot = (!options.gdb).then(|| machine.boot_limit());
    let outcome = follow(&mut session, &mut again, None, boot)?;
    if let Some(fault) = again.fault {
        return Err(Fail::broken(fault));
    }
    again.heard.finish(&outcome, &session.console.tail());
    if let Some(difference) = header.heard.difference(&again.heard) {
        eprintln!("proxima: this is not the recorded run: {difference}");
        return Ok(1);
    }
    if options.verbose {
        let Heard { ready, end, .. } = again.heard;
        eprintln!("proxima: the same run: {ready} instructions to the start, {end} to the end");
    }
    Ok(match outcome {
        Outcome::Status(code) => code,
        Outcome::Crashed(why) => {
            eprintln!("proxima: the guest crashed: {why}; {}", session.console.report());
            BROKEN
        }
        Outcome::TimedOut { .. } => BROKEN,
    })
}

/// The kernel with its symbols, where the recorded one is the tool's own.
fn symbols(recorded: &Path, progress: &Progress) -> PathBuf {
    let own = crate::build::kernel(progress).ok();
    let same = |own: &PathBuf| fs::read(own).ok() == fs::read(recorded).ok();
    own.filter(same)
        .and_then(|own| crate::build::symbols(&own).ok())
        .unwrap_or_else(|| recorded.into())
}

/// The replay's streams.
struct Again {
    progress: Progress,
    heard: Heard,
    fault: Option<String>,
}

impl Again {
    fn pass_on(&mut self, name: &str, to: impl AsFd, bytes: &[u8]) -> bool {
        let Err(error) = pass_on(to, bytes, None) else { return true };
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.fault = Some(format!("{name}: {error}"));
        }
        false
    }
}

impl Sink for Again {
    fn out(&mut self, bytes: &[u8]) -> bool {
        self.heard.out.add(bytes);
        self.pass_on("standard output", stdout(), bytes)
    }

    fn err(&mut self, bytes: &[u8]) -> bool {
        self.heard.err.add(bytes);
        self.pass_on("standard error", stderr(), bytes)
    }

    fn ready(&mut self, _session: &Session, tsc: u64) {
        self.heard.ready = tsc;
        self.progress.clear();
    }

    fn clock(&mut self, tsc: u64) {
        self.heard.end = tsc;
    }

    fn suspects_kernel(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Heard {
        let mut heard = Heard { ready: 5, end: 9, ..Heard::default() };
        heard.out.add(b"hello\n");
        heard.finish(&Outcome::Status(3), &["booted".into()]);
        heard
    }

    #[test]
    fn a_run_that_differs_anywhere_is_told() {
        assert_eq!(heard().difference(&heard()), None);
        type Change = fn(&mut Heard);
        let changes: [(Change, &str); 5] = [
            (|h| h.ready += 1, "to the program's start: 5 when it was recorded, 6 now"),
            (|h| h.end += 1, "to the program's end: 9 when it was recorded, 10 now"),
            (|h| h.out.add(b"!"), "bytes of stdout: 6 when it was recorded, 7 now"),
            (|h| h.err.add(b"!"), "bytes of stderr"),
            (|h| h.outcome = "status 4".into(), "the end: \"status 3\" when"),
        ];
        for (change, word) in changes {
            let mut other = heard();
            change(&mut other);
            let told = heard().difference(&other).unwrap();
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn a_hash_is_of_all_bytes_whatever_the_pieces() {
        let (mut one, mut two) = (Stream::default(), Stream::default());
        one.add(b"ab");
        two.add(b"a");
        two.add(b"b");
        assert_eq!(one, two);
        // FNV-1a's own test value.
        let mut known = Stream::default();
        known.add(b"foobar");
        assert_eq!(known.hash, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_record_comes_back_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["k", "i"] {
            fs::write(at(name), name.repeat(1000)).unwrap();
        }
        let machine = Machine {
            topology: Topology::even(2, 4, 1 << 30).unwrap(),
            kernel: at("k"),
            image: at("i"),
            cmdline: "quiet".into(),
            clock: Clock::Instructions,
            cpu: None,
            plugin: None,
            gdb: None,
            shares_memory: false,
            shares: Vec::new(),
        };
        // Needs a QEMU, for its version.
        if qemu_version().is_err() {
            return;
        }
        keep(&at("rec"), &machine, "true", &heard()).unwrap();
        let (header, files) = open(&at("rec"), dir.path()).unwrap();
        assert_eq!(header.topology, machine.topology);
        assert_eq!(header.heard, heard());
        assert_eq!(fs::read_to_string(&files[1]).unwrap(), "i".repeat(1000));
        let whole = fs::read(at("rec")).unwrap();
        fs::write(at("cut"), &whole[..whole.len() / 2]).unwrap();
        for bad in [at("cut"), at("k"), at("absent"), dir.path().into()] {
            assert_eq!(open(&bad, dir.path()).err().map(|fail| fail.code), Some(2), "{bad:?}");
        }
    }
}
