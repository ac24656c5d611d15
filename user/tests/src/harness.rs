//! Runs tests, each in a forked child with a time limit, so that a crash is one failed test.
//!
//! For each: `start suite::name`, then one of `ok suite::name 12ms`, `FAIL suite::name: reason`,
//! `skip suite::name: reason`. A test fails by panicking (assert!) in any of its threads or child
//! processes, and is skipped by [`skip!`]; either is told to the harness through a pipe.

use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Instant;

use regex_lite::Regex;

use crate::sys::{self, Errno, sys};

/// The host gives a test 60 seconds; this one speaks first.
const LIMIT: u32 = 50;
const LONG_LIMIT: u32 = 600;
/// Where a test's reports go: far above the descriptors that tests count on.
const REPORT_FD: i32 = 900;

pub struct Test {
    pub name: &'static str,
    pub run: fn(),
}

pub struct Suite {
    pub name: &'static str,
    /// Its tests put pages on every node, so every node must have room for some.
    pub places: bool,
    pub groups: &'static [&'static [Test]],
}

/// A list of tests from the functions' names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$($crate::harness::Test { name: stringify!($name), run: $name }),*]
    };
}
pub(crate) use tests;

/// Ends the running test with a reason why it cannot be run here.
macro_rules! skip {
    ($($arg:tt)*) => { $crate::harness::skip_with(&format!($($arg)*)) };
}
pub(crate) use skip;

/// Whether this is Proxima.
pub fn on_proxima() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().ends_with("proxima")
}

/// Skips on other kernels what only Proxima does; `why` says what they do instead.
pub fn on_proxima_only(why: &str) {
    if !on_proxima() {
        skip_with(why);
    }
}

/// Skips on Proxima what it does not have: there the call answers ENOSYS, or the rule is not kept.
pub fn not_on_proxima(what: &str) {
    if on_proxima() {
        skip_with(&format!("Proxima has no {what}"));
    }
}

/// Skips on Linux a test of what only Proxima's guests have.
pub fn not_on_linux(what: &str) {
    if !std::path::Path::new("/proc/proxima").exists() {
        skip_with(&format!("Linux has no {what}"));
    }
}

static LONG: AtomicBool = AtomicBool::new(false);

/// True if the campaigns that take minutes are asked for.
pub fn long() -> bool {
    LONG.load(Relaxed)
}

#[derive(Default)]
pub struct Options {
    list: bool,
    filter: Option<Regex>,
    after: Option<String>,
    words: Vec<String>,
}

impl Options {
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--list" => options.list = true,
                "--long" => LONG.store(true, Relaxed),
                "--after" => options.after = Some(value()?.clone()),
                "--filter" => {
                    let filter = Regex::new(value()?).map_err(|e| format!("--filter: {e}"))?;
                    options.filter = Some(filter);
                }
                word if word.starts_with('-') => return Err(format!("unknown option {word}")),
                word => options.words.push(word.into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, suite: &str, name: &str) -> bool {
        let named =
            self.words.is_empty() || self.words.iter().any(|word| word == suite || word == name);
        named && self.filter.as_ref().is_none_or(|filter| filter.is_match(name))
    }
}

/// Runs what is asked for; the exit code.
///
/// Two tests of one name are refused: the host counts by name, and one would hide the other.
pub fn run(suites: &[Suite], options: &Options) -> i32 {
    let mut chosen = Vec::new();
    let mut names = HashSet::new();
    for suite in suites {
        for test in suite.groups.iter().copied().flatten() {
            let name = format!("{}::{}", suite.name, test.name);
            if !names.insert((suite.name, test.name)) {
                eprintln!("tests: {name} is there twice: rename one");
                return 2;
            }
            if options.wants(suite.name, &name) {
                chosen.push((name, suite.places, test));
            }
        }
    }
    if let Some(after) = &options.after {
        let Some(at) = chosen.iter().position(|(name, ..)| name == after) else {
            eprintln!("tests: --after {after}: there is no such test");
            return 2;
        };
        chosen.drain(..=at);
    }
    if options.list {
        for (name, ..) in &chosen {
            println!("{name}");
        }
        return 0;
    }
    if chosen.is_empty() {
        eprintln!("tests: no test is selected (see --list)");
        return 2;
    }
    steady_the_machine();
    let cramped = crate::numa::cramped();
    let mut failed = 0;
    for (name, places, test) in chosen {
        say(&format!("start {name}"));
        if places && let Some(node) = cramped {
            say(&format!("skip {name}: node {node} has no room, the kernel takes it all"));
            continue;
        }
        let begin = Instant::now();
        let outcome = run_one(test);
        let outcome = match (outcome, stack_in_danger()) {
            (Outcome::Pass | Outcome::Skip(_), Some(why)) => Outcome::Fail(why),
            (outcome, _) => outcome,
        };
        let millis = begin.elapsed().as_millis();
        match outcome {
            Outcome::Pass => say(&format!("ok {name} {millis}ms")),
            Outcome::Skip(why) => say(&format!("skip {name}: {why}")),
            Outcome::Fail(why) => {
                failed += 1;
                say(&format!("FAIL {name}: {why}"));
            }
        }
    }
    i32::from(failed > 0)
}

/// One page is to be one page, and stay where the tests put it.
fn steady_the_machine() {
    // Kernels without these have nothing to switch off.
    let _ = sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    let _ = std::fs::write("/proc/sys/kernel/numa_balancing", "0");
}

/// On Proxima: a kernel stack of which more than three quarters were in use at once, and more than
/// when this was last asked. An interrupt at the wrong moment must not be what fills it.
fn stack_in_danger() -> Option<String> {
    static TOLD: AtomicI32 = AtomicI32::new(0);
    let text = std::fs::read_to_string("/proc/proxima/stacks").ok()?;
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<i32>().ok());
    let (size, deepest) = (numbers.next()?, numbers.next()?);
    let danger = deepest > size / 4 * 3 && deepest > TOLD.fetch_max(deepest, Relaxed);
    danger.then(|| format!("{deepest} of {size} bytes of a kernel stack were in use"))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

enum Outcome {
    Pass,
    Fail(String),
    Skip(String),
}

static RUNNING: AtomicI32 = AtomicI32::new(0);

extern "C" fn time_is_up(_: i32) {
    let pid = RUNNING.swap(-1, Relaxed);
    if pid > 0 {
        let _ = sys!(libc::SYS_kill, -pid, libc::SIGKILL);
        let _ = sys!(libc::SYS_kill, pid, libc::SIGKILL);
    }
}

fn run_one(test: &Test) -> Outcome {
    let (reader, writer) = match sys::pipe() {
        Ok(ends) => ends,
        Err(error) => return Outcome::Fail(format!("the harness has no pipe: {error}")),
    };
    let pid = match sys::fork() {
        Ok(0) => {
            let _ = sys!(libc::SYS_close, reader);
            in_the_child(test, writer)
        }
        Ok(pid) => pid,
        Err(error) => return Outcome::Fail(format!("the harness cannot fork: {error}")),
    };
    let _ = sys!(libc::SYS_close, writer);
    let _ = sys!(libc::SYS_setpgid, pid, pid);
    RUNNING.store(pid, Relaxed);
    sys::on_signal(libc::SIGALRM, time_is_up);
    let limit = if long() { LONG_LIMIT } else { LIMIT };
    let _ = sys!(libc::SYS_alarm, limit);
    let status = loop {
        match sys::wait_for(pid) {
            Err(Errno(libc::EINTR)) => {}
            other => break other,
        }
    };
    let _ = sys!(libc::SYS_alarm, 0);
    let timed_out = RUNNING.swap(0, Relaxed) < 0;
    // Whatever the test left behind in its process group.
    let _ = sys!(libc::SYS_kill, -pid, libc::SIGKILL);
    while sys!(libc::SYS_wait4, -1, 0, libc::WNOHANG, 0).is_ok_and(|pid| pid > 0) {}
    let _ = sys!(libc::SYS_fcntl, reader, libc::F_SETFL, libc::O_NONBLOCK);
    let mut text = vec![0u8; 4096];
    let length = sys::read(reader, &mut text).unwrap_or(0);
    let _ = sys!(libc::SYS_close, reader);
    let text = String::from_utf8_lossy(&text[..length]).replace('\n', " ");
    if timed_out {
        return Outcome::Fail(format!("no end within {limit} s {text}"));
    }
    verdict(status, text.split('\0').next().unwrap_or(""))
}

fn verdict(status: Result<i32, Errno>, text: &str) -> Outcome {
    if let Some(why) = text.strip_prefix("F") {
        return Outcome::Fail(why.into());
    }
    match status {
        Err(error) => Outcome::Fail(format!("the harness cannot wait: {error}")),
        Ok(status) if libc::WIFSIGNALED(status) => {
            Outcome::Fail(format!("killed by signal {}", libc::WTERMSIG(status)))
        }
        Ok(0) => match text.strip_prefix("S") {
            Some(why) => Outcome::Skip(why.into()),
            None => Outcome::Pass,
        },
        Ok(status) => Outcome::Fail(format!("exit status {}", libc::WEXITSTATUS(status))),
    }
}

fn in_the_child(test: &Test, writer: i32) -> ! {
    let _ = sys!(libc::SYS_setpgid, 0, 0);
    let _ = sys!(libc::SYS_dup3, writer, REPORT_FD, libc::O_CLOEXEC);
    let _ = sys!(libc::SYS_close, writer);
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}: ", l.file(), l.line()));
        let payload = info.payload();
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(payload.downcast_ref::<&str>().copied())
            .unwrap_or("panic");
        report(&format!("F{}{text}", place.unwrap_or_default()));
        sys::exit_group(101)
    }));
    (test.run)();
    sys::exit_group(0)
}

/// One write, so that reports of several processes do not mix; the first one counts.
fn report(text: &str) {
    let mut text: String = text.chars().take(1000).collect();
    text.push('\0');
    let _ = sys::write(REPORT_FD, text.as_bytes());
}

pub fn skip_with(reason: &str) -> ! {
    report(&format!("S{reason}"));
    sys::exit_group(0)
}
