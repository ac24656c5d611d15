//! The second mode: any system call with any arguments, many processes at once.
//!
//! A supervisor keeps workers going. A worker makes its calls from a seed of its own; one that has
//! come to its end, died, or waits for too long is replaced by one with the next seed. What a worker
//! leaves behind (files, segments, children) is cleared away. At the end Proxima's account of its
//! frames must be what it was: `calls N restarts R`, then `balanced` or `lost ...`.

use std::arch::asm;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::arena::{self, PAGE};
use crate::call_args;
use crate::random::Random;
use crate::sys::{self, failed, sys};

/// Calls of one worker's life: what it has broken for itself does not last.
const LIFE: u64 = 4000;
/// A worker that makes no call for so long waits for something that will not come.
const PATIENCE: Duration = Duration::from_millis(60);
/// A killed worker that is not gone by then is a hang of the kernel.
const END: Duration = Duration::from_secs(30);
/// Calls of a round that is only there to compare frames before and after it, and such rounds.
const SETTLE: u64 = 20_000;
const ROUNDS: usize = 5;
/// Numbers beyond the last call, too.
const NUMBERS: u64 = 470;
const MOST: usize = 64;
const BUFFER: usize = 64 << 10;

/// Calls made by each worker's place.
struct Counters(&'static [AtomicU64; MOST]);

pub fn main(args: &[&str]) -> Result<(), String> {
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| *arg == name);
        let text = at.and_then(|at| args.get(at + 1));
        text.map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name}: no number")))
    };
    let (seed, calls) = (number("--seed", 1)?, number("--calls", 100_000)?);
    let workers = (number("--processes", 12)? as usize).clamp(1, MOST);
    Supervisor::new(seed, workers)?.run(calls)
}

struct Supervisor {
    seed: u64,
    counters: Counters,
    workers: Vec<Worker>,
    generation: u64,
    /// Calls made in this campaign.
    made: u64,
    frames: Option<File>,
    /// Status files of this process and of init.
    own: Option<File>,
    init: Option<File>,
}

struct Worker {
    pid: i32,
    seen: u64,
    since: Instant,
}

impl Supervisor {
    fn new(seed: u64, workers: usize) -> Result<Self, String> {
        let bytes = size_of::<[AtomicU64; MOST]>();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // Far from everything that calls are given: what the kernel writes at wild lengths is not
        // to be counted.
        let at = sys!(libc::SYS_mmap, arena::CONTROL, bytes, prot, flags, -1, 0);
        if failed(at) {
            return Err("no shared memory".into());
        }
        // SAFETY: just mapped, zeroed, and never unmapped here.
        let counters = Counters(unsafe { &*(at as *const [AtomicU64; MOST]) });
        // Orphans of workers come to us and are collected.
        sys!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let frames = File::open("/proc/proxima/frames").ok();
        let list =
            (0..workers).map(|_| Worker { pid: 0, seen: 0, since: Instant::now() }).collect();
        let own = File::open(format!("/proc/{}/status", std::process::id())).ok();
        let init = File::open("/proc/1/status").ok();
        Ok(Self { seed, counters, workers: list, generation: 0, made: 0, frames, own, init })
    }

    fn run(&mut self, calls: u64) -> Result<(), String> {
        // What is allocated once and kept is allocated before it is counted.
        self.campaign(calls.min(SETTLE))?;
        let mut before = self.account();
        let rounds = self.generation;
        let made = self.campaign(calls)?;
        say(&format!("calls {made} restarts {}", self.generation - rounds));
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
            work(seed, &self.counters.0[place]);
        }
        if failed(pid) {
            // Memory may be short for a moment.
            std::thread::sleep(Duration::from_millis(20));
            self.workers[place].pid = 0;
            return Ok(());
        }
        let seen = self.counters.0[place].load(Relaxed);
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
            let made = self.counters.0[place].load(Relaxed);
            let worker = &mut self.workers[place];
            if worker.pid == 0 {
                self.start(place)?;
            } else if worker.seen != made {
                // Workers can reach their counters, if only by a call on all of their memory.
                let more = made.wrapping_sub(worker.seen);
                self.made += if more < 1 << 20 { more } else { 0 };
                worker.seen = made;
                worker.since = Instant::now();
            } else if worker.since.elapsed() > END {
                return Err(format!("process {} does not end when killed", worker.pid));
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
                return Err("a process does not end when killed".into());
            }
        }
        self.workers.iter_mut().for_each(|worker| worker.pid = 0);
        remove_leavings();
        Ok(())
    }

    /// Frames by use, over all nodes, of the uses that a process's end gives back; without what
    /// this process and init have themselves.
    fn account(&self) -> BTreeMap<String, i64> {
        let mut text = vec![0; 64 << 10];
        let length = self.frames.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..length.unwrap_or(0)]).into_owned();
        let mut account = BTreeMap::new();
        if text.is_empty() {
            return account;
        }
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.chunks(2).skip(1) {
                let used = ["anon", "shared", "pagetable"].contains(&pair[0]);
                if let (true, Some(count)) = (used, pair.get(1).and_then(|n| n.parse::<i64>().ok()))
                {
                    *account.entry(pair[0].to_string()).or_default() += count;
                }
            }
        }
        for path in [&self.own, &self.init].into_iter().flatten() {
            *account.entry("anon".into()).or_default() -= pages_in(path, "RssAnon:");
            *account.entry("pagetable".into()).or_default() -= pages_in(path, "VmPTE:");
        }
        account
    }
}

/// A line of a process's status file that is in kB, in pages.
fn pages_in(status: &File, key: &str) -> i64 {
    let mut text = [0; 4096];
    let length = status.read_at(&mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0) / 4
}

fn difference(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> String {
    let list: Vec<String> = before
        .iter()
        .filter(|(name, count)| after.get(*name) != Some(count))
        .map(|(name, count)| format!("{name}: {count} then {:?}", after.get(name)))
        .collect();
    list.join(", ")
}

/// The names of all processes.
fn processes() -> String {
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = list.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_string()).collect::<Vec<_>>().join(" ")
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

/// Paths that calls are given; all that is made is below /tmp/f.
const PATHS: &[&str] =
    &["/tmp/f/a", "/tmp/f/b", "/tmp/f/c/d", "/tmp/f/c", "/tmp/f/e", "/tmp/f/long-name-of-a-file"];
const READ_PATHS: &[&str] = &[
    "/proc/self/maps",
    "/proc/self/numa_maps",
    "/proc/self/status",
    "/proc/self/fd/3",
    "/sys/devices/system/node/online",
    "/dev/null",
    "/dev/zero",
    "/tmp/f",
    "",
    ".",
    "..",
    "/",
    "/proc/meminfo",
    "relative",
];

struct Maker {
    random: Random,
    /// Junk that pointers point to.
    buffer: Box<[u64; BUFFER / 8]>,
    own: u64,
}

impl Maker {
    fn path(&mut self) -> u64 {
        let list = if self.random.chance(2, 3) { PATHS } else { READ_PATHS };
        let text = self.random.of(list);
        // Into the buffer's end, where it is ended by a zero.
        let place = self.random.below(8) as usize * 8;
        let words = &mut self.buffer[BUFFER / 8 - 128 + place..][..8];
        words.fill(0);
        for (at, byte) in text.bytes().take(60).enumerate() {
            words[at / 8] |= u64::from(byte) << (at % 8 * 8);
        }
        words.as_ptr().expose_provenance() as u64
    }

    fn pointer(&mut self) -> u64 {
        match self.random.below(24) {
            0 => 0,
            1 => self.random.word(),
            2 => 0xffff_8000_0000_0000 | self.random.below(1 << 40),
            3 => arena::at(self.random.below(4), self.random.below(20)) + PAGE - 4,
            4 => 0x0000_7fff_ffff_f000,
            5 => 1 << 47,
            _ => {
                let at = self.random.below((BUFFER / 8 - 512) as u64) as usize;
                self.buffer[at..].as_ptr().expose_provenance() as u64
            }
        }
    }

    fn length(&mut self) -> u64 {
        match self.random.below(16) {
            0 => 0,
            1..5 => self.random.below(64),
            5..8 => self.random.of(&[8, 16, 24, 32, 48, 56, 64, 128, 144]),
            8..11 => self.random.below(5000),
            11 | 12 => PAGE * self.random.below(64),
            13 => self.random.below(64 << 20),
            14 => self.random.word() >> self.random.below(64),
            _ => self.random.of(&[u64::MAX, 1 << 63, 1 << 47, u64::MAX - PAGE]),
        }
    }

    fn word(&mut self) -> u64 {
        match self.random.below(8) {
            0..3 => self.random.below(16),
            3 => 1 << self.random.below(64),
            4 => self.random.word() >> self.random.below(64),
            5 => (self.random.below(5)).wrapping_neg(),
            6 => self.random.below(4096),
            _ => self.pointer(),
        }
    }

    fn argument(&mut self, kind: u8) -> u64 {
        if kind != b'P' && self.random.chance(1, 40) {
            return self.word();
        }
        match kind {
            b'f' => match self.random.below(12) {
                0 => u64::MAX,
                1 => libc::AT_FDCWD as u64,
                2 => self.random.below(2000),
                _ => self.random.below(24),
            },
            b'p' | b'n' => self.pointer(),
            b'l' => self.length(),
            b's' => self.path(),
            b'i' => self.random.below(12),
            b'g' => match self.random.below(4) {
                0 => 0,
                1 => 1 << self.random.below(32),
                2 => 1 << self.random.below(20) | 1 << self.random.below(20),
                _ => self.random.below(64),
            },
            b'm' => arena::at(self.random.below(4), self.random.below(64)),
            // Nobody but the worker itself, or nobody at all.
            b'P' => self.random.of(&[0, self.own, self.own, 4_000_000, u64::MAX - 4_000_000]),
            b'S' => self.random.below(66),
            _ => self.word(),
        }
    }

    /// A call's number and words.
    fn call(&mut self) -> (u64, [u64; 6]) {
        loop {
            let number = self.random.below(NUMBERS);
            let out = call_args::left_out(number)
                || call_args::seldom(number) && !self.random.chance(1, 60);
            if out {
                continue;
            }
            let mut words = [0; 6];
            for (word, kind) in words.iter_mut().zip(call_args::of(number).bytes()) {
                *word = self.argument(kind);
            }
            // A child of the supervisor tells it of its end: not by a signal.
            if number == libc::SYS_clone as u64 && words[0] & libc::CLONE_PARENT as u64 != 0 {
                words[0] &= !0xff;
            }
            // mmap in the arena or wherever the kernel likes, not over the worker's own memory.
            if number == libc::SYS_mmap as u64 && !arena::holds(words[0]) {
                words[3] &= !(libc::MAP_FIXED as u64);
            }
            return (number, words);
        }
    }

    fn refill(&mut self) {
        for at in 0..self.buffer.len() {
            self.buffer[at] = match self.random.below(6) {
                0 => 0,
                1 => self.random.below(64),
                2 => self.random.word(),
                3 => self.random.below(64) << 32 | self.random.below(64),
                _ => {
                    self.buffer.as_ptr().expose_provenance() as u64
                        + self.random.below(BUFFER as u64 - 4096)
                }
            };
        }
    }
}

/// A worker's life.
fn work(seed: u64, made: &AtomicU64) -> ! {
    sys!(libc::SYS_setsid);
    sys!(libc::SYS_chdir, c"/tmp/f".as_ptr());
    let null = sys!(libc::SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR, 0);
    for fd in 0..3 {
        sys!(libc::SYS_dup2, null, fd);
    }
    let mut random = Random::new(seed);
    random.word();
    let buffer = vec![0u64; BUFFER / 8].into_boxed_slice().try_into();
    let Ok(buffer) = buffer else { sys::exit_group(1) };
    let own = sys!(libc::SYS_getpid) as u64;
    let mut maker = Maker { random, buffer, own };
    furnish(&mut maker.random);
    for call in 0..LIFE {
        if call % 256 == 0 {
            maker.refill();
        }
        let (number, words) = maker.call();
        made.fetch_add(1, Relaxed);
        one(number, words);
    }
    sys::exit_group(0)
}

/// Descriptors and memory to work on, and now and then no privilege.
fn furnish(random: &mut Random) {
    let mut pair = [0i32; 2];
    sys!(libc::SYS_pipe2, pair.as_mut_ptr(), libc::O_NONBLOCK);
    sys!(libc::SYS_socketpair, 1, 1 | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr());
    sys!(libc::SYS_eventfd2, 0, libc::EFD_NONBLOCK);
    sys!(libc::SYS_epoll_create1, 0);
    sys!(libc::SYS_timerfd_create, 1, libc::O_NONBLOCK);
    sys!(libc::SYS_memfd_create, c"calls".as_ptr(), 2);
    let flags = libc::O_RDWR | libc::O_CREAT;
    sys!(libc::SYS_openat, libc::AT_FDCWD, c"/tmp/f/a".as_ptr(), flags, 0o666);
    sys!(libc::SYS_openat, libc::AT_FDCWD, c"/tmp/f".as_ptr(), libc::O_RDONLY, 0);
    for region in 0..4 {
        let kind = if region % 2 == 0 { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
        let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        sys!(libc::SYS_mmap, arena::at(region, 0), 32 * PAGE, 3, flags, -1, 0);
    }
    if random.chance(1, 3) {
        sys!(libc::SYS_setresgid, 1000, 1000, 1000);
        sys!(libc::SYS_setresuid, 1000, 1000, 1000);
    }
}

/// The call; a child or thread that it makes ends at once, on whatever stack it was given.
fn one(number: u64, w: [u64; 6]) {
    // SAFETY: none: the worker is made to be damaged. The stack is not touched between the call and
    // the end of a child.
    unsafe {
        asm!(
            "mov r12, rax",
            "syscall",
            "test rax, rax",
            "jnz 3f",
            // clone, fork, vfork, clone3.
            "cmp r12, 56",
            "je 2f",
            "cmp r12, 57",
            "je 2f",
            "cmp r12, 58",
            "je 2f",
            "cmp r12, 435",
            "jne 3f",
            "2:",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "3:",
            inlateout("rax") number => _,
            inlateout("rdi") w[0] => _, in("rsi") w[1], in("rdx") w[2],
            in("r10") w[3], in("r8") w[4], in("r9") w[5],
            out("rcx") _, out("r11") _, out("r12") _,
            options(nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_calls_and_no_call_that_ends_the_machine() {
        let make = || {
            let buffer = vec![0; BUFFER / 8].into_boxed_slice().try_into().expect("its size");
            Maker { random: Random::new(7), buffer, own: 12345 }
        };
        let (mut first, mut second) = (make(), make());
        for _ in 0..20_000 {
            let (a, b) = (first.call(), second.call());
            // Pointers into the two buffers differ.
            assert_eq!(a.0, b.0);
            assert!(!call_args::left_out(a.0));
            if [62, 200, 129].contains(&a.0) {
                assert!([0, 12345, 4_000_000].contains(&a.1[0]) || a.1[0] > 1 << 32);
            }
        }
    }
}
