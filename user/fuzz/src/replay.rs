//! The coordinator: starts the first worker, hands each operation to the worker it names, waits for
//! it, and collects the lines.
//!
//! A worker that an operation names but that does not live (it was never made, or has ended) makes
//! the line `-`: any part of a sequence is a sequence again, which is what shrinking needs.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::execute;
use crate::ops::{Kind, Op, WORKERS};
use crate::probe;
use crate::sys::{self, failed, sys};
use crate::worker::{self, DONE, GO, IDLE, control, slot};

/// No operation takes this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Prepares the machine and this process; once, before the first sequence.
pub fn prepare() -> Result<(), String> {
    // One page is one page and stays where it was put.
    sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    let _ = std::fs::write("/proc/sys/kernel/numa_balancing", "0");
    if !worker::create() {
        return Err("cannot make the block that workers share".into());
    }
    let result = sys::pin(0, 0);
    if failed(result) {
        return Err(format!("cannot use CPU 0: {}", crate::trace::Errno(result)));
    }
    probe::install();
    Ok(())
}

/// Carries out a sequence; `heard` gets each operation's line as it comes.
pub fn run(ops: &[Op], heard: &mut dyn FnMut(usize, &str)) {
    let mut crew = Crew::start();
    for (at, op) in ops.iter().enumerate() {
        let (going_on, line) = crew.step(op);
        heard(at, line.as_deref().unwrap_or("-"));
        if !going_on {
            break;
        }
    }
    crew.end();
}

/// Which process each worker belongs to.
struct Crew {
    processes: [Option<i32>; WORKERS],
}

impl Crew {
    fn start() -> Self {
        execute::clean();
        let pid = sys::fork(false);
        if pid == 0 {
            worker::serve(0);
        }
        let mut processes = [None; WORKERS];
        processes[0] = (!failed(pid)).then_some(pid as i32);
        Self { processes }
    }

    /// False: nothing more can be expected of this sequence.
    fn step(&mut self, op: &Op) -> (bool, Option<String>) {
        let number = op.worker as usize;
        let Some(pid) = self.processes[number] else { return (true, None) };
        if let Kind::Fork | Kind::Clone = op.kind {
            let new = op.args[0] as usize % WORKERS;
            if self.processes[new].is_some() {
                return (true, None);
            }
            slot(new).state.store(IDLE, SeqCst);
            slot(new).home.store(slot(number).home.load(SeqCst), SeqCst);
        }
        let own = slot(number);
        // SAFETY: the worker is idle: its slot is the coordinator's until the state says GO.
        unsafe { (*control()).slots[number].op = *op };
        own.state.store(GO, SeqCst);
        sys::futex_wake(&own.state);
        let end = self.wait(number, pid);
        let line = match end {
            End::Done => {
                // SAFETY: the state says DONE: the slot is the coordinator's again.
                let bytes = unsafe {
                    let slot = &raw const (*control()).slots[number];
                    let line = &(*slot).line;
                    line[..(*slot).length as usize].to_vec()
                };
                own.state.store(IDLE, SeqCst);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            End::Ended(status) => {
                self.forget(pid);
                match (op.kind, status) {
                    (Kind::Exit, 0) => "ok".into(),
                    (_, status) if libc::WIFSIGNALED(status) => {
                        format!("killed by signal {}", libc::WTERMSIG(status))
                    }
                    (_, status) => format!("ended with {}", libc::WEXITSTATUS(status)),
                }
            }
            End::Hung => return (false, Some("does not end".into())),
        };
        self.note(op, number, pid, &line);
        (true, Some(line))
    }

    /// Keeps track of who lives after an operation.
    fn note(&mut self, op: &Op, number: usize, pid: i32, line: &str) {
        let made = slot(number).made.swap(0, SeqCst);
        let new = op.args[0] as usize % WORKERS;
        match op.kind {
            Kind::Fork if made > 0 => {
                self.processes[new] = Some(made);
                until_alive(new);
            }
            Kind::Clone if made > 0 => {
                self.processes[new] = Some(pid);
                until_alive(new);
            }
            Kind::Exec if line.starts_with("ok") => {
                // The other threads of the process are gone; this one has the process's id now.
                for (other, process) in self.processes.iter_mut().enumerate() {
                    if other != number && *process == Some(pid) {
                        *process = None;
                        slot(other).alive.store(0, SeqCst);
                    }
                }
                slot(number).alive.store(pid as u32, SeqCst);
            }
            _ => {}
        }
    }

    fn forget(&mut self, pid: i32) {
        for (number, process) in self.processes.iter_mut().enumerate() {
            if *process == Some(pid) {
                *process = None;
                slot(number).alive.store(0, SeqCst);
            }
        }
    }

    fn wait(&self, number: usize, pid: i32) -> End {
        let own = slot(number);
        let begin = Instant::now();
        loop {
            if own.state.load(SeqCst) == DONE {
                return End::Done;
            }
            sys::futex_wait(&own.state, GO, 20);
            if own.state.load(SeqCst) == DONE {
                return End::Done;
            }
            let mut status = 0i32;
            if sys!(libc::SYS_wait4, pid, &raw mut status, libc::WNOHANG, 0) == i64::from(pid) {
                return End::Ended(status);
            }
            if begin.elapsed() > LIMIT {
                return End::Hung;
            }
        }
    }

    fn end(&mut self) {
        for pid in self.processes.iter().flatten() {
            sys!(libc::SYS_kill, *pid, libc::SIGKILL);
        }
        while sys!(libc::SYS_wait4, -1, 0, 0, 0) > 0 {}
        execute::clean();
    }
}

enum End {
    Done,
    /// The worker's process ended, with this status.
    Ended(i32),
    Hung,
}

/// The new worker has come so far that operations may name it.
fn until_alive(number: usize) {
    let begin = Instant::now();
    while slot(number).alive.load(SeqCst) == 0 && begin.elapsed() < LIMIT {
        sys::futex_wait(&slot(number).alive, 0, 1);
    }
}

/// Splits a file of sequences: `seq NAME` begins one, operations follow a line each.
pub fn parse(text: &str) -> Result<Vec<(String, Vec<Op>)>, String> {
    let mut all: Vec<(String, Vec<Op>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix("seq ") {
            Some(name) => all.push((name.to_string(), Vec::new())),
            None => match all.last_mut() {
                Some((_, ops)) => ops.push(Op::parse(line)?),
                None => return Err(format!("{line:?} stands before the first seq line")),
            },
        }
    }
    Ok(all)
}
