//! The second mode: any system call with any arguments, many processes at once.
//!
//! A supervisor keeps workers going. A worker makes its calls from a seed of its own; one that has
//! come to its end, died, or waits for too long is replaced by one with the next seed. What a worker
//! leaves behind (files, segments, children) is cleared away. At the end Proxima's account of its
//! frames must be what it was: `calls N restarts R`, then `balanced` or `lost ...`. With `--fail` each
//! call is made anew for each of its allocations, which fails (on a kernel that can: the checked one), and
//! `failed N` tells how many did.

mod maker;
mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sys::{self, failed, sys};

/// Calls of one worker's life: what it has broken for itself does not last.
const LIFE: u64 = 4000;
/// A worker that makes no call for so long waits for something that will not come.
const PATIENCE: Duration = Duration::from_millis(60);
/// A killed worker that is not gone by then is a hang of the kernel.
const END: Duration = Duration::from_secs(30);
/// Bytes of /proc/proxima/frames, and of a status file, at most.
const TEXT: usize = 16384;
/// Calls of a round that is only there to compare frames before and after it, and such rounds.
const SETTLE: u64 = 20_000;
const ROUNDS: usize = 5;
const MOST: usize = 64;
/// Where the counters are: no address that calls are given, which like round ones.
const COUNTERS: u64 = 0x2b6d_c3a5_7000;

/// What a worker's place has done.
#[derive(Default)]
struct Counter {
    /// Calls made.
    made: AtomicU64,
    /// Calls in which an allocation failed.
    failed: AtomicU64,
}

/// By the worker's place.
struct Counters(&'static [Counter; MOST]);

pub fn main(args: &[&str]) -> Result<(), String> {
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| *arg == name);
        let text = at.and_then(|at| args.get(at + 1));
        text.map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name}: no number")))
    };
    let (seed, calls) = (number("--seed", 1)?, number("--calls", 100_000)?);
    let workers = (number("--processes", 12)? as usize).clamp(1, MOST);
    let failing = args.contains(&"--fail");
    if failing && !std::path::Path::new("/proc/self/fail-nth").exists() {
        return Err(
            "this kernel cannot let allocations fail: there is no /proc/self/fail-nth".into()
        );
    }
    Supervisor::new(seed, workers, failing)?.run(calls)
}

struct Supervisor {
    seed: u64,
    failing: bool,
    counters: Counters,
    workers: Vec<Worker>,
    generation: u64,
    /// Calls made in this campaign.
    made: u64,
    frames: Option<File>,
    /// Status files of this process and of init.
    own: Option<File>,
    init: Option<File>,
    /// /dev/null, as it was before anybody could remove it.
    null: Option<File>,
}

struct Worker {
    pid: i32,
    seen: u64,
    since: Instant,
}

impl Supervisor {
    fn new(seed: u64, workers: usize, failing: bool) -> Result<Self, String> {
        let bytes = size_of::<[Counter; MOST]>();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let at = sys!(libc::SYS_mmap, COUNTERS, bytes, prot, flags, -1, 0);
        if failed(at) {
            return Err("no shared memory".into());
        }
        // SAFETY: just mapped, zeroed, and never unmapped here.
        let counters = Counters(unsafe { &*(at as *const [Counter; MOST]) });
        // Orphans of workers come to us and are collected.
        sys!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let frames = File::open("/proc/proxima/frames").ok();
        let list =
            (0..workers).map(|_| Worker { pid: 0, seen: 0, since: Instant::now() }).collect();
        let own = File::open(format!("/proc/{}/status", std::process::id())).ok();
        let init = File::open("/proc/1/status").ok();
        let null = File::options().read(true).write(true).open("/dev/null").ok();
        let (generation, made) = (0, 0);
        Ok(Self {
            seed,
            failing,
            counters,
            workers: list,
            generation,
            made,
            frames,
            own,
            init,
            null,
        })
    }

    fn run(&mut self, calls: u64) -> Result<(), String> {
        // What is allocated once and kept is allocated before it is counted.
        self.campaign(calls.min(SETTLE))?;
        let mut before = self.account();
        let rounds = self.generation;
        let made = self.campaign(calls)?;
        say(&format!("calls {made} restarts {}", self.generation - rounds));
        if self.failing {
            let failed = self.counters.0.iter().map(|counter| counter.failed.load(Relaxed));
            say(&format!("failed {}", failed.sum::<u64>()));
        }
        // Caches of the kernel's grow now and then: what the calls lose, they lose every time.
        for _ in 0..ROUNDS {
            let after = self.settled(&before);
            if before == after {
                say("balanced");
                return Ok(());
            }
            say(&format!("round {}; there are {}", difference(&before, &after), processes()));
            before = after;
            self.campaign(SETTLE)?;
        }
        let after = self.settled(&before);
        let verdict = if before == after { "balanced".into() } else { "lost ".to_string() };
        say(&(verdict + &difference(&before, &after)));
        Ok(())
    }

    /// The account once it is as before, or after a while: frames on their way take a moment.
    fn settled(&self, before: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let after = self.account();
            if *before == after || Instant::now() > deadline {
                return after;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes so many calls, and leaves nothing running.
    fn campaign(&mut self, calls: u64) -> Result<u64, String> {
        self.made = 0;
        let mut told = Instant::now();
        for place in 0..self.workers.len() {
            self.start(place)?;
        }
        while self.made < calls {
            std::thread::sleep(Duration::from_millis(5));
            self.look_after()?;
            if told.elapsed() > Duration::from_secs(1) {
                told = Instant::now();
                say(&format!("made {} generation {}", self.made, self.generation));
            }
        }
        self.clear()?;
        Ok(self.made)
    }

    fn start(&mut self, place: usize) -> Result<(), String> {
        self.generation += 1;
        if self.generation.is_multiple_of(256) {
            remove_leavings();
        }
        let seed = self.seed ^ self.generation.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let pid = sys::fork(false);
        if pid == 0 {
            let null = self.null.as_ref().map_or(-1, File::as_raw_fd);
            worker::work(seed, &self.counters.0[place], null, self.failing);
        }
        if failed(pid) {
            // Memory may be short for a moment.
            std::thread::sleep(Duration::from_millis(20));
            self.workers[place].pid = 0;
            return Ok(());
        }
        let seen = self.counters.0[place].made.load(Relaxed);
        self.workers[place] = Worker { pid: pid as i32, seen, since: Instant::now() };
        Ok(())
    }

    /// Collects who has ended, ends who waits, starts anew.
    fn look_after(&mut self) -> Result<(), String> {
        loop {
            let mut status = 0i32;
            let options = libc::WNOHANG | libc::WUNTRACED | libc::__WALL;
            let pid = sys!(libc::SYS_wait4, -1, &raw mut status, options, 0);
            if pid <= 0 {
                break;
            }
            if libc::WIFSTOPPED(status) {
                sys!(libc::SYS_kill, pid, libc::SIGKILL);
                continue;
            }
            if let Some(place) = self.workers.iter().position(|w| i64::from(w.pid) == pid) {
                self.start(place)?;
            }
        }
        for place in 0..self.workers.len() {
            let made = self.counters.0[place].made.load(Relaxed);
            let worker = &mut self.workers[place];
            if worker.pid == 0 {
                self.start(place)?;
            } else if worker.seen != made {
                // Workers can reach their counters, if only by a call on all of their memory; what
                // is more than a life is not counted.
                let more = made.wrapping_sub(worker.seen);
                self.made += if more <= LIFE { more } else { 0 };
                worker.seen = made;
                worker.since = Instant::now();
            } else if worker.since.elapsed() > END {
                return Err(format!("killed, but does not end: {}", whereabouts(worker.pid)));
            } else if worker.since.elapsed() > PATIENCE {
                sys!(libc::SYS_kill, worker.pid, libc::SIGKILL);
            }
        }
        Ok(())
    }

    /// Ends everybody (a kill of -1 leaves init and the caller), and waits until they are gone.
    fn clear(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + END;
        loop {
            sys!(libc::SYS_kill, -1, libc::SIGKILL);
            let mut status = 0i32;
            let options = libc::WNOHANG | libc::WUNTRACED | libc::__WALL;
            match sys!(libc::SYS_wait4, -1, &raw mut status, options, 0) {
                0 => std::thread::sleep(Duration::from_millis(1)),
                result if failed(result) => break,
                _ => {}
            }
            if Instant::now() > deadline {
                let left: Vec<String> = self.children().into_iter().map(whereabouts).collect();
                return Err(format!("killed, but does not end: {}", left.join("; ")));
            }
        }
        self.workers.iter_mut().for_each(|worker| worker.pid = 0);
        remove_leavings();
        Ok(())
    }

    /// Processes that have not ended.
    fn children(&self) -> Vec<i32> {
        let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = list.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid > 1 && *pid != std::process::id() as i32).collect()
    }

    /// Frames by use, over all nodes, of the uses that a process's end gives back; without what
    /// this process and init have themselves.
    fn account(&self) -> BTreeMap<String, i64> {
        let mut account = BTreeMap::new();
        // What is allocated between the first look and the last would be seen by the last alone.
        let mut texts = [const { [1u8; TEXT] }; 3];
        let files = [&self.frames, &self.own, &self.init];
        let mut lengths = [0; 3];
        for ((file, text), length) in files.into_iter().zip(&mut texts).zip(&mut lengths) {
            *length = file.as_ref().and_then(|file| file.read_at(text, 0).ok()).unwrap_or(0);
        }
        let mut texts = texts
            .iter()
            .zip(lengths)
            .map(|(text, length)| std::str::from_utf8(&text[..length]).unwrap_or_default());
        let frames = texts.next().unwrap_or_default();
        if frames.is_empty() {
            return account;
        }
        for line in frames.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.chunks(2).skip(1) {
                let used = ["anon", "shared", "pagetable"].contains(&pair[0]);
                if let (true, Some(count)) = (used, pair.get(1).and_then(|n| n.parse::<i64>().ok()))
                {
                    *account.entry(pair[0].to_string()).or_default() += count;
                }
            }
        }
        for status in texts {
            *account.entry("anon".into()).or_default() -= pages_in(status, "RssAnon:");
            *account.entry("pagetable".into()).or_default() -= pages_in(status, "VmPTE:");
        }
        account
    }
}

/// A line of a process's status file that is in kB, in pages.
fn pages_in(status: &str, key: &str) -> i64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0) / 4
}

fn difference(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> String {
    let list: Vec<String> = before
        .iter()
        .filter(|(name, count)| after.get(*name) != Some(count))
        .map(|(name, count)| {
            format!("{name}: {count} then {}", after.get(name).copied().unwrap_or(0))
        })
        .collect();
    list.join(", ")
}

/// The names of all processes.
fn processes() -> String {
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = list.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_string()).collect::<Vec<_>>().join(" ")
}

/// What a process's threads are doing.
fn whereabouts(pid: i32) -> String {
    let mut text = format!("process {pid}");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks.map(|entry| entry.path()) {
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        let lines = [read("status"), read("syscall"), read("stack")].concat();
        let wanted = |line: &&str| {
            let (key, _) = line.split_once(':').unwrap_or((line, ""));
            !key.starts_with(|c: char| c.is_uppercase())
                || ["State", "Tgid", "PPid", "TracerPid", "SigPnd", "ShdPnd"].contains(&key)
        };
        let lines: Vec<&str> = lines.lines().filter(wanted).collect();
        text += &format!("\n  task {}: {}", task.display(), lines.join(" | "));
    }
    text
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

/// Files and System V objects that workers made.
fn remove_leavings() {
    for path in ["/tmp/f", "/relative", "/tmp/relative"] {
        let _ = std::fs::remove_dir_all(path);
        let _ = std::fs::remove_file(path);
    }
    let _ = std::fs::create_dir_all("/tmp/f");
    // SHM_STAT, SEM_STAT and MSG_STAT find what is at an index; IPC_RMID is 0.
    let mut room = [0u64; 64];
    for index in 0..256 {
        let to = room.as_mut_ptr();
        let id = sys!(libc::SYS_shmctl, index, 13, to);
        sys!(libc::SYS_shmctl, id, 0, 0);
        let id = sys!(libc::SYS_semctl, index, 0, 18, to);
        sys!(libc::SYS_semctl, id, 0, 0, 0);
        let id = sys!(libc::SYS_msgctl, index, 11, to);
        sys!(libc::SYS_msgctl, id, 0, 0);
    }
}
