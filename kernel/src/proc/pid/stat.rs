//! /proc/PID/stat and statm: what ps(1) and top(1) read.

use super::scheduling::{nice, policy, priority};
use super::{Who, who::name_bytes};
use crate::access::{self, Mode};
use crate::task::process::Use;
use crate::task::{Process, TaskRef, usage_of_task};
use abi::Result;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use sched::{Class, Params};
use vm::vma::VmaFlags;
use vm::{Mm, PAGE};

/// Clock ticks per second, as sysconf(_SC_CLK_TCK) says.
pub const TICKS: u64 = 100;

/// Cycles of the time-stamp counter in clock ticks.
pub fn ticks(cycles: u64) -> u64 {
    let hz = u128::from(hal::time::tsc_hz().max(1));
    (u128::from(cycles) * u128::from(TICKS) / hz) as u64
}

/// Use of the thread, or of all threads of the process, dead ones included.
pub fn usage(who: &Who, process: &Process, task: Option<&TaskRef>) -> Use {
    if who.is_thread() {
        return task.map(|task| usage_of_task(task)).unwrap_or_default();
    }
    let mut sum = *process.dead_threads.lock();
    for thread in process.threads() {
        sum.add(&usage_of_task(&thread));
    }
    sum
}

/// The letter and what it means.
pub fn state(who: &Who, task: Option<&TaskRef>) -> (char, &'static str) {
    // A first thread that ended before the others is a zombie, whoever speaks for the process.
    let letter = match task {
        Some(task) if who.is_thread() || task.tid() == task.pid() => task.state().letter(),
        _ => 'Z',
    };
    let word = match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        _ => "zombie",
    };
    (letter, word)
}

/// Controlling terminal and its foreground group: 0 and -1 without one.
fn terminal(process: &Process) -> (u64, i64) {
    let sid = process.place.lock().sid;
    match fs::tty::controlling(sid as u32) {
        Some(tty) => (tty.device().encode(), i64::from(tty.foreground())),
        None => (0, -1),
    }
}

/// Signals as one word each: only the first 31 fit, as on Linux.
fn signal_words(process: &Process, task: Option<&TaskRef>) -> [u64; 4] {
    const FIRST: u64 = 0x7fff_ffff;
    let (caught, ignored) = process.signals.caught_and_ignored();
    let (pending, blocked) =
        task.map_or((0, 0), |task| (task.signals.pending.set(), task.signals.blocked()));
    [pending, blocked, ignored, caught].map(|set| set & FIRST)
}

/// Fields are numbered as in proc(5).
struct Fields(Vec<String>);

impl Fields {
    fn push(&mut self, value: impl ToString) {
        self.0.push(value.to_string());
    }
    fn zeroes(&mut self, count: usize) {
        for _ in 0..count {
            self.push(0);
        }
    }
}

fn memory_fields(mm: Option<&Arc<Mm>>, process: &Process, open: bool, out: &mut Fields) {
    let layout = mm.map(|mm| mm.layout.lock().clone()).unwrap_or_default();
    let (size, rss) = mm.map_or((0, 0), |mm| {
        let (anon, shared) = mm.rss();
        (mm.total.load(Ordering::Relaxed).max(0) as u64 * PAGE, anon + shared)
    });
    out.push(size); // 23
    out.push(rss);
    out.push(process.soft_limit(crate::task::process::limit::RSS));
    // Who may not look into the process learns no addresses.
    let hidden = u64::from(mm.is_some());
    out.push(if open { layout.code.0 } else { hidden });
    out.push(if open { layout.code.1 } else { hidden });
    out.push(if open { layout.stack_start } else { 0 });
}

/// /proc/PID/stat.
pub fn show(who: &Who, out: &mut Text) -> Result<()> {
    let (process, task) = who.living()?;
    let task = task.as_ref();
    let mm = who.mm()?;
    let open = access::may(&process, Mode::ReadFs);
    let used = usage(who, &process, task);
    let reaped = if who.is_thread() { Use::default() } else { *process.reaped_children.lock() };
    let params = task.map_or_else(
        || Params::new(Class::default(), crate::sched::default_slice()),
        |task| crate::sched::stats_of(task).1,
    );
    let (ppid, pgid, sid, threads, has_execed) = {
        let place = process.place.lock();
        let ppid = place.parent.upgrade().map_or(0, |p| p.pid);
        (ppid, place.pgid, place.sid, place.threads.len(), place.has_execed)
    };
    let (tty, foreground) = terminal(&process);
    let start = task.map_or(process.start_time, |task| task.start_time);
    let layout =
        mm.as_ref().filter(|_| open).map(|mm| mm.layout.lock().clone()).unwrap_or_default();
    let cpu = task.map(|t| t.last_cpu()).or_else(|| process.remains.lock().as_ref().map(|r| r.cpu));

    let mut f = Fields(Vec::with_capacity(52));
    f.push(who.id());
    let comm = who.comm()?;
    f.push(alloc::format!("({})", String::from_utf8_lossy(name_bytes(&comm))));
    f.push(state(who, task).0);
    f.push(ppid);
    f.push(pgid);
    f.push(sid);
    f.push(tty);
    f.push(foreground);
    f.push(if has_execed { 0 } else { 0x40 }); // PF_FORKNOEXEC
    f.push(used.minor);
    f.push(reaped.minor);
    f.push(used.major);
    f.push(reaped.major);
    f.push(ticks(used.user));
    f.push(ticks(used.system));
    f.push(ticks(reaped.user));
    f.push(ticks(reaped.system));
    f.push(priority(&params));
    f.push(nice(&params));
    f.push(threads);
    f.push(0);
    f.push(start / (1_000_000_000 / TICKS));
    memory_fields(mm.as_ref(), &process, open, &mut f);
    f.zeroes(2); // Stack and instruction pointer: Linux shows them of dying threads only.
    for word in signal_words(&process, task) {
        f.push(word);
    }
    f.push(u32::from(state(who, task).0 != 'R')); // 35
    f.zeroes(2);
    f.push(process.exit_signal.load(Ordering::Relaxed));
    f.push(cpu.map_or(0, |cpu| cpu.index()));
    f.push(params.class.rt_priority().unwrap_or(0));
    f.push(policy(&params));
    f.zeroes(3);
    for word in [layout.data.0, layout.data.1, layout.brk_start] {
        f.push(word);
    }
    for (start, end) in [layout.args, layout.env] {
        f.push(start);
        f.push(end);
    }
    f.push(if open { process.exit_status.load(Ordering::Relaxed) } else { 0 });
    out.bytes(f.0.join(" ").as_bytes());
    out.bytes(b"\n");
    Ok(())
}

/// Pages by what they are for.
#[derive(Default)]
pub struct Sizes {
    /// Of the program's code.
    pub text: u64,
    /// Private and writable, without stacks.
    pub data: u64,
    pub stack: u64,
    /// Executable and not the program's own.
    pub library: u64,
}

impl Sizes {
    /// Counts the areas of `mm`.
    pub fn of(mm: &Mm) -> Self {
        let mut sizes = Self::default();
        let mut code = 0;
        // The closure cannot fail.
        let _ = mm.for_each_area(|vma| {
            let f = vma.flags;
            if f.contains(VmaFlags::GROWS_DOWN) {
                sizes.stack += vma.pages();
            } else if f.contains(VmaFlags::WRITE) && !f.contains(VmaFlags::SHARED) {
                sizes.data += vma.pages();
            } else if f.contains(VmaFlags::EXEC) && !f.contains(VmaFlags::WRITE) {
                code += vma.pages();
            }
            Ok(())
        });
        let (start, end) = mm.layout.lock().code;
        sizes.text = (end.next_multiple_of(PAGE) - start / PAGE * PAGE) / PAGE;
        sizes.text = sizes.text.min(code);
        sizes.library = code - sizes.text;
        sizes
    }
}

/// /proc/PID/statm, in pages: size, resident, shared, text, 0, data and stack, 0.
pub fn statm(who: &Who, out: &mut Text) -> Result<()> {
    let line = match who.mm()? {
        None => [0; 7],
        Some(mm) => {
            let sizes = Sizes::of(&mm);
            let (anon, shared) = mm.rss();
            let total = mm.total.load(Ordering::Relaxed).max(0) as u64;
            let data = sizes.data + sizes.stack;
            [total, anon + shared, shared, sizes.text, 0, data, 0]
        }
    };
    let words: Vec<String> = line.iter().map(u64::to_string).collect();
    out.bytes(words.join(" ").as_bytes());
    out.bytes(b"\n");
    Ok(())
}
