//! Programs of known memory traffic, counted: what arithmetic says must come out, within 1 %.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ::traffic::contended::is_true;
use ::traffic::geometry::named;
use ::traffic::recorder::heat;
use ::traffic::sums::{Who, node};
use regex::Regex;

use super::report::Report;
use super::{Record, Verdict};
use crate::build;
use crate::cleanup::WorkDir;
use crate::cmd::prepare;
use crate::error::{Context, Fail, Result, USAGE};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, QEMU, qemu};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::image::base;
use crate::image::program::environment;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::progress::Progress;
use crate::topology::{Topology, file};
use crate::traffic::{self, How, Run, Wish};

const GUEST_PATH: &str = "/usr/bin/traffic";
/// Words in a MiB, words in a line.
const MIB: u64 = (1 << 20) / 8;
const LINE: u64 = 8;
/// A guest's time for one program.
const LIMIT: Duration = Duration::from_secs(120);

/// What a program's arrays see: words and lines, read and written.
#[derive(Clone, Copy)]
struct Known {
    reads: u64,
    writes: u64,
    lines_read: u64,
    lines_write: u64,
}

/// A kernel over arrays of `mib` MiB, `rounds` times: what user/traffic says that it does.
fn known(kernel: &str, mib: u64, rounds: u64) -> Known {
    let words = mib * MIB;
    let (arrays, reads, writes) = match kernel {
        "read" => (1, 1, 0),
        "write" => (1, 0, 1),
        "copy" | "scale" => (2, 1, 1),
        "add" | "triad" => (3, 2, 1),
        "chase" => {
            let lines = words / LINE;
            return Known {
                reads: rounds * lines,
                writes: words + lines,
                lines_read: rounds * lines,
                lines_write: 2 * lines,
            };
        }
        // Every write of a column is a line of its own.
        _ => {
            return Known {
                reads: rounds * words,
                writes: (2 + rounds) * words,
                lines_read: rounds * words / LINE,
                lines_write: 2 * words / LINE + rounds * words,
            };
        }
    };
    Known {
        reads: rounds * reads * words,
        writes: (arrays + rounds * writes) * words,
        lines_read: rounds * reads * words / LINE,
        lines_write: (arrays + rounds * writes) * words / LINE,
    }
}

/// Kernel, CPU, its node, the memory's node, on two-socket.
const KERNELS: &[(&str, u64, usize, usize)] = &[
    ("copy", 0, 0, 0),
    ("scale", 0, 0, 1),
    ("add", 2, 1, 0),
    ("triad", 3, 1, 1),
    ("read", 1, 0, 1),
    ("write", 2, 1, 0),
    ("chase", 0, 0, 1),
    ("transpose", 2, 1, 0),
];

/// CPUs on one line; the same word or neighbours.
const TURNS: &[(u64, u64, bool)] = &[(0, 1, true), (0, 2, false), (2, 3, false), (1, 3, true)];

/// Runs everything whose name matches.
pub fn run(kernel: &Choice, filter: Option<&Regex>, report: &Report) -> Result<()> {
    let progress = Progress::new(false);
    let kit = Kit::new(kernel, &progress)?;
    progress.clear();
    let test = |name: &str, body: &dyn Fn(&Kit) -> Result<std::result::Result<(), String>>| {
        let name = format!("traffic::{name}");
        if filter.is_some_and(|filter| !filter.is_match(&name)) {
            return Ok(());
        }
        report.expect("traffic", "two-socket", &kernel.name(), 1);
        let start = Instant::now();
        let verdict = match body(&kit)? {
            Ok(()) => Verdict::Pass,
            Err(why) => Verdict::Fail(why),
        };
        let millis = start.elapsed().as_millis() as u64;
        report.add(Record {
            test: name,
            kernel: kernel.name(),
            topology: "two-socket".into(),
            verdict,
            millis,
            parts: Vec::new(),
        });
        Ok::<(), Fail>(())
    };
    for &(name, cpu, from, to) in KERNELS {
        let title = format!("{name}_from_node_{from}_to_{to}_is_what_arithmetic_says");
        test(&title, &|kit| {
            let args = [name.into(), cpu.to_string(), to.to_string(), "8".into(), "3".into()];
            Ok(judge(&kit.count(&args, Clock::Wall)?, from, to, known(name, 8, 3)))
        })?;
    }
    for &(first, second, same) in TURNS {
        let title = format!(
            "cpus_{first}_and_{second}_share_a_line_{}",
            if same { "truly" } else { "falsely" }
        );
        test(&title, &|kit| {
            let kind = if same { "true" } else { "false" };
            let args = [
                "pingpong".into(),
                first.to_string(),
                second.to_string(),
                kind.into(),
                "500".into(),
            ];
            Ok(judge_sharing(&kit.count(&args, Clock::Wall)?, [first, second], same, 500))
        })?;
    }
    test("a_qemu_without_plugins_is_refused_in_a_line", &|_| without_plugins())?;
    if kernel.is_linux() {
        let own = Kit::new(&Choice::Proxima, &progress)?;
        progress.clear();
        for &(name, cpu, from, to) in KERNELS {
            test(
                &format!("{name}_from_node_{from}_to_{to}_is_the_same_on_both_kernels"),
                &|kit| {
                    let args =
                        [name.into(), cpu.to_string(), to.to_string(), "4".into(), "3".into()];
                    let (theirs, ours) =
                        (kit.count(&args, Clock::Wall)?, own.count(&args, Clock::Wall)?);
                    Ok(same_matrix(&theirs, &ours).and_then(|()| same_functions(&theirs, &ours)))
                },
            )?;
        }
    } else {
        test("two_runs_that_count_instructions_count_the_same", &|kit| {
            let args = ["bad", "4", "1", "2"].map(String::from);
            let (one, two) =
                (kit.count(&args, Clock::Instructions)?, kit.count(&args, Clock::Instructions)?);
            Ok(if one.raw == two.raw { Ok(()) } else { Err("they differ".into()) })
        })?;
    }
    Ok(())
}

/// `run --traffic` with a QEMU whose help names no -plugin.
fn without_plugins() -> Result<std::result::Result<(), String>> {
    let work = WorkDir::new()?;
    let fake = work.path().join(QEMU);
    let text = format!("#!/bin/sh\nexec {} \"$@\" | grep -v '^-plugin'\n", qemu()?.display());
    std::fs::write(&fake, text).context(fake.display())?;
    std::fs::set_permissions(&fake, Permissions::from_mode(0o755)).context(fake.display())?;
    let path = std::env::var("PATH").unwrap_or_default();
    let own = std::env::current_exe().context("this program")?;
    let done = Command::new(own)
        .args(["run", "--traffic", "--", "true"])
        .env("PATH", format!("{}:{path}", work.path().display()))
        .output()
        .context("proxima run")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let right = done.status.code() == Some(i32::from(USAGE))
        && said.lines().count() == 1
        && said.contains("without TCG plugins: install");
    Ok(if right { Ok(()) } else { Err(format!("{}: {said}", done.status)) })
}

/// Counts of one program on two kernels differ by at most so much of all.
const KERNELS_DIFFER: f64 = 0.02;

fn close(what: &str, one: u64, other: u64, all: u64) -> std::result::Result<(), String> {
    if one.abs_diff(other) as f64 <= KERNELS_DIFFER * all as f64 {
        Ok(())
    } else {
        Err(format!("{what}: {one} on Linux, {other} on Proxima, of {all}"))
    }
}

/// The program's own accesses, lines and bytes, from each node to each.
fn same_matrix(one: &Run, other: &Run) -> std::result::Result<(), String> {
    let nodes = 0..one.topology.nodes.len();
    for (field, name) in node::NAMES.iter().enumerate().take(node::CACHE_CLEAN) {
        let cell = |run: &Run, from: usize, to: usize| run.nodes[from].get(Who::User, to, field);
        let pairs = || nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
        // Loads and stores are of one kind: where there are hardly any of the one, all are the other.
        let both = [field & !1, field | 1];
        let sum =
            |from: usize, to: usize| both.map(|field| other.nodes[from].get(Who::User, to, field));
        let all = pairs().flat_map(|(from, to)| sum(from, to)).sum();
        for (from, to) in pairs() {
            let what = format!("{name} from node {from} to {to}");
            close(&what, cell(one, from, to), cell(other, from, to), all)?;
        }
    }
    Ok(())
}

/// Accesses by function, whoever calls the files by which names.
fn same_functions(one: &Run, other: &Run) -> std::result::Result<(), String> {
    let sums = |run: &Run| {
        let own = run.functions.iter().filter(|(function, _)| function.object == GUEST_PATH);
        own.map(|(function, heat)| (function.name.clone(), heat[heat::ACCESSES]))
            .collect::<Vec<_>>()
    };
    let (one, other) = (sums(one), sums(other));
    let all = other.iter().map(|(_, count)| count).sum();
    for (name, count) in &other {
        let found = one.iter().find(|(known, _)| known == name);
        close(name, found.map_or(0, |(_, count)| *count), *count, all)?;
    }
    if all > 0 { Ok(()) } else { Err("no function of the program was counted".into()) }
}

/// `got` is `want` within 1 %, or of nothing within 1 % of `all`.
fn near(what: &str, got: u64, want: u64, all: u64) -> std::result::Result<(), String> {
    let whole = if want == 0 { all } else { want };
    if got.abs_diff(want) * 100 <= whole {
        Ok(())
    } else {
        Err(format!("{what}: {got}, arithmetic says {want}"))
    }
}

fn judge(run: &Run, from: usize, to: usize, known: Known) -> std::result::Result<(), String> {
    let sum = |field| run.nodes[from].get(Who::User, to, field);
    near("reads", sum(node::READS), known.reads, known.writes)?;
    near("writes", sum(node::WRITES), known.writes, known.reads)?;
    near("bytes read", sum(node::READ_BYTES), 8 * known.reads, 8 * (known.reads + known.writes))?;
    near(
        "bytes written",
        sum(node::WRITE_BYTES),
        8 * known.writes,
        8 * (known.reads + known.writes),
    )?;
    near(
        "lines for reads",
        sum(node::LINES_READ),
        known.lines_read,
        known.lines_read + known.lines_write,
    )?;
    near(
        "lines for writes",
        sum(node::LINES_WRITE),
        known.lines_write,
        known.lines_read + known.lines_write,
    )?;
    // What is not in the caches any more has been written back, to where it is at home.
    let nodes = run.topology.nodes.len();
    let held = run.wish.caches.map_or(0, |c| c.l1.bytes() + c.l2.bytes() + c.l3.bytes()) / 64;
    let back = run.raw.write_backs[from * nodes + to];
    let fits = back <= known.lines_write + known.lines_write / 100
        && back + held + known.lines_write / 100 >= known.lines_write;
    if fits { Ok(()) } else { Err(format!("written back: {back} of {}", known.lines_write)) }
}

fn judge_sharing(
    run: &Run,
    cpus: [u64; 2],
    same: bool,
    rounds: u64,
) -> std::result::Result<(), String> {
    let of = |parts: &std::collections::BTreeMap<usize, ::traffic::raw::Part>| {
        cpus.map(|cpu| parts.get(&(cpu as usize)).map_or(0, |part| part.writes))
    };
    let fits = |writes: [u64; 2]| writes.iter().all(|&n| near("turns", n, rounds, rounds).is_ok());
    // The line with the turn on it moves as often, or oftener: the one with the words is asked for.
    let words = if same { [1, 1] } else { [1, 1 << 8] };
    let bytes = |index: usize| words[index] * 0xff;
    let found = run.raw.lines.values().find(|parts| {
        fits(of(parts))
            && cpus.iter().enumerate().all(|(index, &cpu)| {
                parts[&(cpu as usize)].written_bytes & !(bytes(0) | bytes(1)) == 0
                    && parts[&(cpu as usize)].written_bytes & bytes(index) != 0
            })
    });
    let Some(parts) = found else {
        let all: Vec<_> =
            run.raw.lines.values().map(of).filter(|w| w.iter().all(|&n| n > 0)).collect();
        return Err(format!("no line was written {rounds} times by each: {all:?}"));
    };
    let sides = parts.iter().map(|(cpu, part)| (*cpu, (part.read_bytes, part.written_bytes)));
    if is_true(&sides.collect()) == same {
        Ok(())
    } else {
        Err(format!("judged as {} sharing", if same { "false" } else { "true" }))
    }
}

/// What every guest is made of.
struct Kit {
    kernel: Choice,
    file: PathBuf,
    program: PathBuf,
    init: PathBuf,
    library: PathBuf,
    topology: Topology,
    wish: Wish,
}

impl Kit {
    fn new(kernel: &Choice, progress: &Progress) -> Result<Self> {
        let topology = file::find("two-socket")?;
        // Of small caches little stays behind. The kernel's accesses are not known to arithmetic.
        let how = How { caches: true, sample: 1, user_only: true };
        let wish = Wish::with(how, named("small"), "small", &topology);
        Ok(Self {
            kernel: kernel.clone(),
            file: kernel.locate(progress)?,
            program: build::user("traffic", progress)?,
            init: build::user("init", progress)?,
            library: build::plugin(progress)?,
            topology,
            wish,
        })
    }

    /// Runs user/traffic with `args` in a guest of its own.
    fn count(&self, args: &[String], clock: Clock) -> Result<Run> {
        let work = WorkDir::new()?;
        let image = work.path().join("image.cpio");
        self.image(args, &image)?;
        let append = [traffic::WORD.to_string()];
        let mut machine = prepare::machine(
            self.topology.clone(),
            &self.kernel,
            &self.file,
            clock,
            &append,
            &image,
        );
        let counts = traffic::raw_file(work.path());
        machine.plugin = Some(self.wish.argument(&self.library, &self.topology, clock, &counts));
        let mut session = Session::start(&machine, None)?;
        let mut quiet = Quiet { until: Instant::now() + LIMIT, files: vec![Vec::new(); 2] };
        match follow(&mut session, &mut quiet, None, Some(machine.boot_limit()))? {
            Outcome::Status(0) => {}
            other => {
                let end = session.console.report();
                return Err(Fail::broken(format!("traffic {}: {other:?}; {end}", args.join(" "))));
            }
        }
        let text = std::fs::read_to_string(&counts).context("the traffic plugin's counts")?;
        traffic::join(&traffic::Parts {
            program: "traffic",
            topology: &self.topology,
            wish: &self.wish,
            raw: &text,
            files: &quiet.files,
            kernel: None,
        })
    }

    fn image(&self, args: &[String], to: &Path) -> Result<()> {
        let mut tree = base::skeleton()?;
        tree.host(&self.program, Path::new(GUEST_PATH))?;
        base::finish(&mut tree, &self.init)?;
        let cwd = PathBuf::from("/");
        let words = std::iter::once("traffic".into()).chain(args.iter().map(|arg| arg.into()));
        let file = RunFile {
            mode: Mode::Direct,
            env: environment(&[], &cwd, &[], false)?,
            cwd,
            winsize: None,
            timeout: 0,
            nonce: String::new(),
            placement: false,
            traffic: true,
            modules: Vec::new(),
            shares: Vec::new(),
            group: Vec::new(),
            fetch: traffic::GUEST_FILES.map(PathBuf::from).to_vec(),
            programs: vec![Program {
                path: GUEST_PATH.into(),
                args: words.collect(),
                name: String::new(),
            }],
        };
        tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
        tree.write(to)
    }
}

/// Nobody reads what the program prints.
struct Quiet {
    until: Instant,
    files: Vec<Vec<u8>>,
}

impl Sink for Quiet {
    fn out(&mut self, _bytes: &[u8]) -> bool {
        true
    }

    fn err(&mut self, _bytes: &[u8]) -> bool {
        true
    }

    fn file(&mut self, number: usize, bytes: &[u8]) -> bool {
        if let Some(file) = self.files.get_mut(number) {
            file.extend_from_slice(bytes);
        }
        true
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.until)
    }
}
