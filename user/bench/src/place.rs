//! Which CPUs and nodes are measured on, pinning to them, and threads that run beside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle};

use crate::sys::{Error, Result, at, call};

/// Two CPUs of different nodes, and two nodes that are neither the first nor that of `home`: pages
/// are moved between those, and nothing else of the process lies there.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub home: usize,
    pub away: usize,
    /// A CPU of one more node.
    pub third: usize,
    pub from: usize,
    pub to: usize,
    /// All nodes with memory, as a mask.
    pub nodes: u64,
}

/// The machine as /sys tells it; without that, as `ring-4` is.
///
/// The first CPU is avoided: on Linux it has more than its share of the housekeeping.
pub fn machine() -> Machine {
    let cpus: Vec<usize> = (0..64).map_while(first_cpu).collect();
    match cpus.len() {
        0 => Machine { home: 2, away: 4, third: 6, from: 2, to: 3, nodes: 0xf },
        n => Machine {
            home: cpus[1 % n],
            away: cpus[2 % n],
            third: cpus[3 % n],
            from: 2 % n,
            to: 3 % n,
            nodes: u64::MAX >> (64 - n),
        },
    }
}

/// The first CPU of a node.
fn first_cpu(node: usize) -> Option<usize> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let list = std::fs::read_to_string(path).ok()?;
    list.trim().split(['-', ',']).next()?.parse().ok()
}

/// Binds the calling thread to a CPU; it runs there when this returns.
#[inline(always)]
pub fn pin(cpu: usize) -> Result<()> {
    let mut mask = [0_u64; 4];
    mask[cpu / 64 % 4] = 1 << (cpu % 64);
    call("sched_setaffinity", libc::SYS_sched_setaffinity, [0, 32, at(&raw const mask)]).map(drop)
}

/// All CPUs that are online, of the first 64.
pub fn cpus() -> Vec<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let number = |text: &str| text.parse::<usize>().ok();
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(number(first)?..=number(last)?)
        })
        .flatten()
        .filter(|cpu| *cpu < 64)
        .collect()
}

/// Lets a task (0: the calling one) run on any of these CPUs.
pub fn release(task: usize, cpus: &[usize]) -> Result<()> {
    let mask = cpus.iter().fold(0_u64, |mask, cpu| mask | 1 << cpu);
    let args = [task, 8, at(&raw const mask)];
    call("sched_setaffinity", libc::SYS_sched_setaffinity, args).map(drop)
}

/// Lets what a kernel puts off until after boot happen before anything is measured, and keeps pages
/// at 4 KiB.
pub fn settle() {
    let _ = call("prctl", libc::SYS_prctl, [libc::PR_SET_THP_DISABLE as usize, 1, 0, 0, 0]);
    // The clock is the guest's, and jumps while all CPUs are idle: this costs the host little.
    let half = libc::timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    let _ = call("nanosleep", libc::SYS_nanosleep, [at(&raw const half), 0]);
}

/// A thread on a CPU of its own or of the caller.
pub fn thread(
    cpu: usize,
    body: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let run = move || pin(cpu).and_then(|()| body());
    Builder::new().spawn(run).map_err(|error| Error {
        what: "clone",
        errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}

/// Another thread of the process, busy on another node's CPU until this value goes.
pub struct Spinner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Spinner {
    pub fn start() -> Result<Self> {
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopped, started) = (stop.clone(), running.clone());
        let thread = thread(machine().away, move || {
            started.store(true, SeqCst);
            while !stopped.load(SeqCst) {
                std::hint::spin_loop();
            }
            Ok(())
        })?;
        while !running.load(SeqCst) && !thread.is_finished() {
            std::hint::spin_loop();
        }
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
