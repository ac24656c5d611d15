//! `proxima run` and `proxima shell`: a program of the host on a guest, as if it ran here.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::perf::{self, Perf};
use super::prepare;
use super::record::{self, Heard};
use super::{cpuset, missing};
use crate::build;
use crate::cleanup::WorkDir;
use crate::cli::{GuestOptions, MachineOptions, RunOptions, ShellOptions};
use crate::error::{BROKEN, Context, Fail, Result, TIMEOUT, USAGE};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, Machine, QEMU, Wiring, kvm_works, shell_line};
use crate::guest::session::Session;
use crate::guest::share::{self, Share};
use crate::guest::stdin::{Feed, Way};
use crate::guest::terminal::{self, RawMode};
use crate::guest::watch::{Outcome, Sink, follow};
use crate::image::gather::Gather;
use crate::image::libs::Finder;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::image::{base, program};
use crate::output::pass_on;
use crate::progress::Progress;
use crate::traffic;

/// gdb's and QEMU's customary port.
pub const GDB_PORT: u16 = 1234;

pub fn run(options: &RunOptions) -> Result<u8> {
    let mode = match options.interactive {
        true => Mode::Tty,
        // Bytes that come when the host has them would make each run another one.
        false if options.guest.icount && options.traffic.how().is_some() => Mode::Direct,
        false => Mode::Pipe,
    };
    let counted = options.traffic.how().is_some();
    let perf = Perf::of(options);
    let (perf, later) = if counted { (None, perf) } else { (perf, None) };
    let wishes = Wishes {
        placement: options.placement,
        perf,
        traffic: options.traffic.clone(),
        silent: false,
        record: None,
    };
    let (code, run) = start(&options.machine, &options.guest, mode, &options.command, &wishes)?;
    let Some(run) = run else { return Ok(code) };
    let picture = later.map(|perf| sample_again(options, mode, perf)).transpose()?;
    if let Some(path) = &options.traffic.report {
        let mut counts = traffic::json(&run);
        if let Some(picture) = picture {
            counts["flame"] = picture.into();
        }
        std::fs::write(path, traffic::html(vec![counts])).context(path.display())?;
    }
    match options.traffic.advice {
        Some(_) => apply(options, mode, wishes, &run),
        None => Ok(code),
    }
}

/// Runs the program again to sample it, in silence; its flame graph.
fn sample_again(options: &RunOptions, mode: Mode, perf: Perf) -> Result<String> {
    eprintln!("proxima: again, to sample it without counting");
    // A file can be read twice; what else came on stdin is gone.
    let _ = rustix::fs::seek(stdin(), rustix::fs::SeekFrom::Start(0));
    let work = WorkDir::new()?;
    let (perf, path) = perf.with_picture(work.path().join("flame.svg"));
    let perf = Some(perf);
    let wishes = Wishes { perf, silent: true, ..Wishes::default() };
    start(&options.machine, &options.guest, mode, &options.command, &wishes)?;
    std::fs::read_to_string(&path).context(path.display())
}

/// Runs the program again as the best advice says, and tells what came of it.
fn apply(options: &RunOptions, mode: Mode, mut wishes: Wishes, first: &traffic::Run) -> Result<u8> {
    let Some(best) = traffic::best_command(&first.advice) else {
        eprintln!("proxima: there is no advice that numactl could express");
        return Ok(0);
    };
    let mut command: Vec<OsString> = vec!["numactl".into()];
    command.extend(best.command.iter().flatten().map(OsString::from));
    command.push("--".into());
    command.extend(options.command.iter().cloned());
    eprintln!(
        "proxima: again, with numactl {}",
        best.command.iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    );
    wishes.traffic.json = None;
    wishes.traffic.report = None;
    wishes.traffic.traffic = options.traffic.how();
    let (code, second) = start(&options.machine, &options.guest, mode, &command, &wishes)?;
    if let Some(second) = second {
        eprintln!("{}", traffic::verdict(best, &second));
    }
    Ok(code)
}

pub fn shell(options: &ShellOptions) -> Result<u8> {
    start(&options.machine, &options.guest, Mode::Tty, &[], &Wishes::default()).map(|end| end.0)
}

/// Runs a program that reads `input`, and keeps the run at `to`.
pub fn record(
    machine: &MachineOptions,
    guest: &GuestOptions,
    command: &[OsString],
    input: Vec<u8>,
    to: &Path,
) -> Result<u8> {
    let wishes = Wishes { record: Some((to.into(), input)), ..Wishes::default() };
    start(machine, guest, Mode::Direct, command, &wishes).map(|end| end.0)
}

/// What is asked for beside running the program.
#[derive(Default)]
struct Wishes {
    placement: bool,
    perf: Option<Perf>,
    traffic: traffic::Options,
    /// Whatever the program says has been said before.
    silent: bool,
    /// Where the run is to be kept, and what the program reads from stdin.
    record: Option<(PathBuf, Vec<u8>)>,
}

/// An empty `command` is a login shell.
fn start(
    machine: &MachineOptions,
    guest: &GuestOptions,
    mode: Mode,
    command: &[OsString],
    wishes: &Wishes,
) -> Result<(u8, Option<traffic::Run>)> {
    let started = Instant::now();
    if let Some(word) = command.first().filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        return Err(Fail::usage(format!(
            "{} is no option of run (see proxima run --help)",
            word.to_string_lossy()
        )));
    }
    let progress = Progress::new(machine.verbose);
    prepare::check_append(&machine.append)?;
    let topology = prepare::topology(machine)?;
    let group = cpuset::settings(guest, &topology)?;
    let mut counting = traffic::Wish::of(&wishes.traffic, &topology)?;
    let kernel = Choice::parse(&machine.kernel)?;
    if let Some(counting) = counting.as_mut().filter(|_| kernel.is_linux()) {
        // Whom its kernel works for is not known.
        counting.how.user_only = true;
    }
    let console = machine
        .console
        .as_ref()
        .map(|path| File::create(path).map_err(|e| Fail::usage(format!("{}: {e}", path.display()))))
        .transpose()?;
    let shares = share::shares(&guest.share)?;
    let work = WorkDir::new()?;
    let image = work.path().join("image.cpio");
    let file = kernel.locate(&progress)?;
    let parts = Parts {
        fetched: fetched(wishes, machine.verbose && !shares.is_empty()),
        modules: if shares.is_empty() { Vec::new() } else { kernel.modules(&progress)? },
        shares: &shares,
        group,
    };
    write_image(&image, guest, mode, command, wishes, &parts, &progress)?;
    let size = image.metadata().context(image.display())?.len();
    prepare::check_image(size, topology.memory(), kernel.is_linux())?;
    let mut append = machine.append.clone();
    let library = counting.as_ref().map(|_| build::plugin(&progress)).transpose()?;
    if counting.is_some() {
        append.push(traffic::WORD.into());
    }
    if counting.is_some() && kvm_works() {
        eprintln!("proxima: only emulation can be counted: TCG is used, not KVM");
    }
    let clock = if guest.icount { Clock::Instructions } else { Clock::Wall };
    let topology = match &counting {
        Some(counting) => topology.with_latencies(&counting.latencies.memory),
        None => topology,
    };
    let mut ready = prepare::machine(topology, &kernel, &file, clock, &append, &image);
    let counts = traffic::raw_file(work.path());
    if let (Some(counting), Some(library)) = (&counting, &library) {
        ready.plugin = Some(counting.argument(library, &ready.topology, clock, &counts));
    }
    ready.cpu.clone_from(&machine.cpu);
    ready.gdb = guest.gdb.then_some(GDB_PORT);
    ready.shares_memory = mode == Mode::Pipe;
    ready.shares.clone_from(&shares);
    if guest.dry_run {
        progress.clear();
        return dry_run(&mut ready, work).map(|code| (code, None));
    }
    progress.say("booting");
    let mut session = Session::start(&ready, console)?;
    if guest.gdb {
        progress.clear();
        eprintln!(
            "proxima: waiting for gdb: {}",
            gdb_command(&symbols_of(&ready.kernel, &kernel)?)
        );
    }
    let raw = if mode == Mode::Tty { Some(RawMode::enter()?) } else { None };
    let left = Arc::new(AtomicBool::new(false));
    if mode == Mode::Tty {
        connect_terminal(&session, left.clone())?;
    }
    let mut streams = Streams {
        progress,
        silent: wishes.silent,
        deadline: machine.timeout.map(|s| started + Duration::from_secs_f64(s)),
        started,
        placement: Vec::new(),
        files: vec![Vec::new(); parts.fetched.len()],
        held: 0,
        fault: None,
        heard: wishes.record.as_ref().map(|_| Heard::default()),
    };
    let feed = |session: &Session| feed_stdin(session);
    let feeder: Option<&dyn Fn(&Session) -> Feed> =
        if mode == Mode::Pipe { Some(&feed) } else { None };
    // With a debugger attached a boot takes as long as the person does.
    let boot = (!guest.gdb).then(|| ready.boot_limit());
    let outcome = follow(&mut session, &mut streams, feeder, boot)?;
    drop(raw);
    if let Some(error) = streams.fault {
        return Err(Fail::broken(error));
    }
    if let (Some((path, _)), Some(mut heard)) = (&wishes.record, streams.heard.take()) {
        keep_record(path, &ready, command, &mut heard, &outcome, &session)?;
    }
    if left.load(Ordering::SeqCst) {
        eprintln!("\nproxima: left the guest");
        return Ok((0, None));
    }
    for line in &streams.placement {
        eprintln!("{line}");
    }
    if parts.fetched.last().is_some_and(|path| path == Path::new(share::COUNTS)) {
        let counts = streams.files.pop().unwrap_or_default();
        share::told(&String::from_utf8_lossy(&counts)).iter().for_each(|line| eprintln!("{line}"));
    }
    // The record of what was missing is the last file of the others, before it the address space.
    let record = streams.files.pop().unwrap_or_default();
    let space = if counting.is_some() {
        streams.files.split_off(streams.files.len() - 2)
    } else {
        Vec::new()
    };
    if !guest.quiet && !wishes.silent {
        let record = String::from_utf8_lossy(&record);
        missing::lines(&record, worth_bringing).iter().for_each(|line| eprintln!("{line}"));
    }
    if let Some(perf) = &wishes.perf {
        perf.keep(&streams.files)?;
    }
    let mut counted = None;
    if let (Some(counting), Outcome::Status(_)) = (&counting, &outcome) {
        let text = std::fs::read_to_string(&counts).context("the traffic plugin's counts")?;
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        let symbols = build::symbols(&ready.kernel)?;
        let run = traffic::join(&traffic::Parts {
            program: &words.join(" "),
            topology: &ready.topology,
            wish: counting,
            raw: &text,
            files: &space,
            kernel: (!kernel.is_linux()).then_some(&symbols),
        })?;
        if let Some(path) = &wishes.traffic.json {
            let text = format!("{}\n", traffic::json(&run));
            std::fs::write(path, text).context(path.display())?;
        }
        traffic::lines(&run).iter().for_each(|line| eprintln!("{line}"));
        counted = Some(run);
    }
    Ok((report(&outcome, &session, machine), counted))
}

/// Keeps a run that has ended by itself: where one was ended depends on the host.
fn keep_record(
    path: &Path,
    machine: &Machine,
    command: &[OsString],
    heard: &mut Heard,
    outcome: &Outcome,
    session: &Session,
) -> Result<()> {
    if matches!(outcome, Outcome::TimedOut { .. }) {
        eprintln!("proxima: no record is kept of a run that did not end by itself");
        return Ok(());
    }
    heard.finish(outcome, &session.console.tail());
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    record::keep(path, machine, &words.join(" "), heard)?;
    eprintln!("proxima: recorded in {0}: proxima replay {0}", path.display());
    Ok(())
}

/// True if QEMU did not start because of the words for its CPU, in which it says so.
fn of_cpu(why: &str) -> bool {
    why.starts_with("QEMU: ") && (why.contains("CPU model") || why.contains("-cpu."))
}

/// Whether a person can be told to bring a path: this machine has it, for everybody to read.
fn worth_bringing(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// What of an image depends on the kernel and on the machine.
struct Parts<'a> {
    /// The guest's files that come back at the end.
    fetched: Vec<PathBuf>,
    /// Kernel modules on this machine.
    modules: Vec<PathBuf>,
    shares: &'a [Share],
    /// Files of the program's control group and what is written to them.
    group: Vec<(String, String)>,
}

/// The guest's files that come back at the end.
fn fetched(wishes: &Wishes, count_shared: bool) -> Vec<PathBuf> {
    let mut files = wishes.perf.as_ref().map_or(Vec::new(), Perf::files);
    if wishes.traffic.how().is_some() {
        files.extend(traffic::GUEST_FILES.map(PathBuf::from));
    }
    files.push(missing::FILE.into());
    if count_shared {
        files.push(share::COUNTS.into());
    }
    files
}

/// The exit code, with the console's end below whatever went wrong.
fn report(outcome: &Outcome, session: &Session, machine: &MachineOptions) -> u8 {
    let (code, message) = match outcome {
        Outcome::Status(code) => return *code,
        Outcome::TimedOut { booted: true } => {
            (TIMEOUT, format!("no end after {} s", machine.timeout.unwrap_or_default()))
        }
        Outcome::TimedOut { booted: false } => {
            (TIMEOUT, "the guest did not boot in time".to_string())
        }
        Outcome::Crashed(why) if let Some(cpu) = machine.cpu.as_ref().filter(|_| of_cpu(why)) => {
            eprintln!("proxima: --cpu {cpu}: {why} (what there is: {QEMU} -cpu help)");
            return USAGE;
        }
        Outcome::Crashed(why) if why.contains("fsdev") => {
            eprintln!("proxima: --share: {why} (this QEMU has no VirtFS; bring files: --with)");
            return BROKEN;
        }
        Outcome::Crashed(why) => (BROKEN, format!("the guest crashed: {why}")),
    };
    eprintln!("proxima: {message}; {}", session.console.report());
    code
}

fn write_image(
    image: &Path,
    guest: &GuestOptions,
    mode: Mode,
    command: &[OsString],
    wishes: &Wishes,
    parts: &Parts<'_>,
    progress: &Progress,
) -> Result<()> {
    let cwd = std::env::current_dir().context("current directory")?;
    let library_path = guest_library_path(&guest.env);
    let mut finder = Finder::new(library_path.as_deref());
    let mut tree = base::skeleton()?;
    let mut path_dirs = Vec::new();
    let mut program = match command.split_first() {
        Some((name, _)) => {
            let path = program::find(name).or_else(|fail| applet(name, fail))?;
            if path.is_file() {
                program::add(&mut tree, &mut finder, &path)?;
            }
            if !guest.no_gather {
                let mut gather = Gather::new(&mut tree, &mut finder, &cwd);
                gather.command(&path, command)?;
                for path in &gather.brought {
                    progress.say(&format!("brought along: {}", path.display()));
                }
                path_dirs = gather.path_dirs;
            }
            Program { path, args: command.to_vec(), name: String::new() }
        }
        None => Program { path: "/bin/sh".into(), args: vec!["-sh".into()], name: String::new() },
    };
    for extra in &guest.with {
        let path = program::add_extra(&mut tree, &mut finder, extra, parts.shares)?;
        if !guest.no_gather && path.is_file() {
            Gather::new(&mut tree, &mut finder, &cwd).extra(&path)?;
        }
    }
    if let Some(perf) = &wishes.perf {
        tree.host(&build::user("perf", progress)?, Path::new(perf::GUEST))?;
        perf.wrap(&mut program);
    }
    let init = build::user("init", progress)?;
    progress.say("making the image");
    let busybox = base::finish(&mut tree, &init)?;
    if !busybox && !tree.has(&program.path) {
        return Err(Fail::broken(format!(
            "{}: there is no busybox here (package busybox-static)",
            program.path.display()
        )));
    }
    // A shell by itself starts at home; a program where the person stands.
    let cwd = if command.is_empty() { PathBuf::from("/root") } else { cwd };
    tree.directory(&cwd, 0o755)?;
    for share in parts.shares {
        // What was gathered below it is there anyway.
        tree.remove(&share.dir);
        tree.directory(&share.dir, 0o755)?;
        if let Some(asked) = share.asked.as_deref().filter(|asked| !tree.has(asked)) {
            tree.link(asked, &share.dir)?;
        }
    }
    let mut modules = Vec::new();
    for (number, module) in parts.modules.iter().enumerate() {
        let own = Path::new(runfile::MODULES).join(format!("{number}.ko"));
        tree.host(module, &own)?;
        modules.push(own);
    }
    let file = RunFile {
        mode,
        env: program::environment(&guest.env, &cwd, &path_dirs, mode == Mode::Tty)?,
        cwd,
        winsize: terminal::size().filter(|_| mode == Mode::Tty),
        timeout: 0,
        nonce: String::new(),
        placement: wishes.placement,
        traffic: wishes.traffic.how().is_some(),
        modules,
        shares: parts.shares.iter().map(|own| (own.tag.clone(), own.dir.clone())).collect(),
        group: parts.group.clone(),
        fetch: parts.fetched.clone(),
        programs: vec![program],
    };
    tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
    if let Some((_, input)) = &wishes.record {
        tree.bytes(Path::new(runfile::STDIN), 0o600, input.clone())?;
    }
    tree.write(image)
}

/// A name that the host does not have may be one of busybox's commands.
fn applet(name: &OsString, fail: Fail) -> Result<PathBuf> {
    let mut tree = base::skeleton()?;
    if name.is_empty() || name.to_string_lossy().contains('/') || !base::add_busybox(&mut tree)? {
        return Err(fail);
    }
    ["/bin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| tree.has(path))
        .ok_or(fail)
}

/// LD_LIBRARY_PATH as the program will see it.
fn guest_library_path(asked: &[OsString]) -> Option<String> {
    asked
        .iter()
        .filter_map(|item| item.to_str()?.strip_prefix("LD_LIBRARY_PATH=").map(str::to_string))
        .next_back()
        .or_else(program::library_path)
}

fn dry_run(machine: &mut Machine, work: WorkDir) -> Result<u8> {
    let dir = work.keep();
    let wiring = Wiring::Files {
        console: dir.join("console"),
        err: dir.join("stderr"),
        control: dir.join("status"),
    };
    println!("{}", shell_line(QEMU, &machine.args(&wiring)));
    Ok(0)
}

/// The file with the symbols of a kernel, or the kernel itself.
fn symbols_of(kernel: &Path, choice: &Choice) -> Result<PathBuf> {
    let symbols = build::symbols(kernel)?;
    let own = matches!(choice, Choice::Proxima | Choice::Checked);
    Ok(if own && symbols.exists() { symbols } else { kernel.into() })
}

/// How a debugger comes to a guest that waits for it.
pub fn gdb_command(symbols: &Path) -> String {
    format!("gdb {} -ex 'target remote 127.0.0.1:{GDB_PORT}'", symbols.display())
}

fn feed_stdin(session: &Session) -> Feed {
    match (session.input.try_clone(), session.control.try_clone()) {
        (Ok(port), Ok(control)) => {
            let way = session.shared.clone().map_or(Way::Port(port), Way::Shared);
            Feed::start(stdin(), way, control)
        }
        _ => Feed::default(),
    }
}

fn connect_terminal(session: &Session, left: Arc<AtomicBool>) -> Result<()> {
    let port = session.input.try_clone().context("socket")?;
    let pid = session.pid();
    terminal::send_keys(port, left, move || {
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let control = session.control.try_clone().context("socket")?;
    terminal::follow_size(move |rows, columns| {
        let _ = (&control).write_all(format!("winsize {rows} {columns}\n").as_bytes());
    });
    Ok(())
}

/// The tool's own standard streams as the program's.
struct Streams {
    progress: Progress,
    silent: bool,
    deadline: Option<Instant>,
    started: Instant,
    /// Shown after the program's own words.
    placement: Vec<String>,
    /// What the guest hands back.
    files: Vec<Vec<u8>>,
    /// Bytes of both that have come.
    held: usize,
    /// Why the guest had to be ended, where that is a fault.
    fault: Option<String>,
    /// With a record: what it is to be compared by.
    heard: Option<Heard>,
}

/// What a guest may hand back at most: recordings, tables, counts. All of it is held in memory.
const MOST_HELD: usize = 1 << 30;

impl Streams {
    fn pass_on(&mut self, name: &str, to: impl AsFd, bytes: &[u8]) -> bool {
        if self.silent {
            return true;
        }
        let Err(error) = pass_on(to, bytes, self.deadline) else { return true };
        // That nobody reads on is no fault: the guest ends as a writer to a pipe would.
        let fault = !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::TimedOut);
        self.fault = fault.then(|| format!("{name}: {error}"));
        false
    }

    /// Whether so many bytes more may be held.
    fn holds(&mut self, bytes: usize) -> bool {
        self.held += bytes;
        if self.held > MOST_HELD {
            let limit = crate::size::show(MOST_HELD as u64);
            self.fault = Some(format!("the guest handed back more than {limit} of files and rows"));
        }
        self.held <= MOST_HELD
    }
}

impl Sink for Streams {
    fn out(&mut self, bytes: &[u8]) -> bool {
        self.heard.iter_mut().for_each(|heard| heard.out.add(bytes));
        self.pass_on("standard output", stdout(), bytes)
    }

    fn err(&mut self, bytes: &[u8]) -> bool {
        self.heard.iter_mut().for_each(|heard| heard.err.add(bytes));
        self.pass_on("standard error", stderr(), bytes)
    }

    fn suspects_kernel(&self) -> bool {
        false
    }

    fn ready(&mut self, _session: &Session, tsc: u64) {
        self.heard.iter_mut().for_each(|heard| heard.ready = tsc);
        self.progress.say(&format!(
            "init runs after {:.2} s (time-stamp counter {tsc})",
            self.started.elapsed().as_secs_f64()
        ));
        self.progress.clear();
    }

    fn clock(&mut self, tsc: u64) {
        self.heard.iter_mut().for_each(|heard| heard.end = tsc);
    }

    fn placement(&mut self, line: &str) -> bool {
        // A row takes more than its letters.
        let held = self.holds(line.len() + size_of::<String>());
        if held {
            self.placement.push(line.to_string());
        }
        held
    }

    fn file(&mut self, number: usize, bytes: &[u8]) -> bool {
        let held = self.holds(bytes.len());
        if let Some(file) = self.files.get_mut(number).filter(|_| held) {
            file.extend_from_slice(bytes);
        }
        held
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_hands_back_is_bounded() {
        let mut streams = Streams {
            progress: Progress::new(false),
            silent: false,
            deadline: None,
            started: Instant::now(),
            placement: Vec::new(),
            files: vec![Vec::new()],
            held: 0,
            fault: None,
            heard: None,
        };
        assert!(streams.file(0, b"ab") && streams.file(7, b"c") && streams.placement("row"));
        assert_eq!((&streams.files[0][..], streams.placement.len()), (&b"ab"[..], 1));
        streams.held = MOST_HELD - 10;
        assert!(!streams.placement("row"));
        assert!(!streams.file(0, b"d"));
        assert_eq!((&streams.files[0][..], streams.placement.len()), (&b"ab"[..], 1));
        assert_eq!(
            streams.fault.as_deref(),
            Some("the guest handed back more than 1G of files and rows")
        );
    }

    #[test]
    fn a_cpu_that_qemu_does_not_know_is_told_from_a_crash() {
        assert!(of_cpu("QEMU: unable to find CPU model 'nosuch'"));
        assert!(of_cpu("QEMU: Property 'max-x86_64-cpu.nosuch' not found"));
        assert!(!of_cpu("QEMU: cannot set up guest memory 'm0': Cannot allocate memory"));
        assert!(!of_cpu("the machine was reset or powered off without a status"));
    }
}
