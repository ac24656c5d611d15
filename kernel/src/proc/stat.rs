//! Processor time and other totals since boot: stat, uptime, schedstat.

use super::put;
use crate::interrupts::{self, LINES};
use crate::sched::accounts::{self, Times};
use crate::task::{State, table};
use abi::Result;
use core::sync::atomic::{AtomicU64, Ordering};
use fs::pseudo::Text;
use numa::CpuId;

fn cpus() -> impl Iterator<Item = CpuId> {
    crate::boot::cpus::online().iter()
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn ticks(cycles: u64) -> u64 {
    super::pid::ticks(cycles)
}

/// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice. Time in interrupts
/// counts for whom they interrupted.
fn line(out: &mut Text, times: &Times) {
    let [user, nice, system, idle] = [times.user, times.nice, times.system, times.idle].map(ticks);
    put!(out, " {user} {nice} {system} {idle} 0 0 0 0 0 0\n");
}

/// Sums over CPUs.
fn total() -> Times {
    cpus().map(accounts::of_cpu).fold(Times::default(), |sum, t| Times {
        user: sum.user + t.user,
        nice: sum.nice + t.nice,
        system: sum.system + t.system,
        idle: sum.idle + t.idle,
    })
}

/// Interrupts of one CPU, of all kinds.
fn interrupts_of(cpu: CpuId) -> u64 {
    let c = interrupts::counts(cpu);
    let lines: u64 = c.lines.iter().map(get).sum();
    lines + get(&c.timer) + get(&c.flush) + get(&c.reschedule) + get(&c.call)
}

/// Context switches of all CPUs.
fn switches() -> u64 {
    cpus().filter_map(crate::sched::cpu).map(|cpu| get(&cpu.switches)).sum()
}

/// Tasks in uninterruptible sleep.
fn blocked() -> usize {
    table::processes()
        .map(|p| {
            let place = p.place.lock();
            place.threads.iter().filter(|t| t.state() == State::Uninterruptible).count()
        })
        .sum()
}

/// /proc/stat.
pub fn show(out: &mut Text) -> Result<()> {
    out.bytes(b"cpu ");
    line(out, &total());
    for cpu in cpus() {
        put!(out, "cpu{cpu}");
        line(out, &accounts::of_cpu(cpu));
    }
    let all: u64 = cpus().map(interrupts_of).sum();
    put!(out, "intr {all}");
    for irq in 0..LINES {
        let count: u64 = cpus().map(|cpu| get(&interrupts::counts(cpu).lines[irq])).sum();
        put!(out, " {count}");
    }
    put!(out, "\nctxt {}\n", switches());
    put!(out, "btime {}\n", hal::time::wall_base() / 1_000_000_000);
    put!(out, "processes {}\n", table::FORKS.load(Ordering::Relaxed));
    put!(out, "procs_running {}\nprocs_blocked {}\n", crate::sched::running().max(1), blocked());
    // There are no deferred interrupts: the counts of Linux's ten kinds, and their sum.
    out.bytes(b"softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(())
}

/// /proc/uptime: seconds since boot, and seconds idle summed over CPUs.
pub fn uptime(out: &mut Text) -> Result<()> {
    let centis = hal::time::now() / 10_000_000;
    let idle = ticks(total().idle);
    put!(out, "{}.{:02} {}.{:02}\n", centis / 100, centis % 100, idle / 100, idle % 100);
    Ok(())
}

/// /proc/schedstat: of each CPU, nanoseconds of tasks running and waiting and how many were put
/// on it. Linux's counters of yields, wake-ups and domain balancing have no like here.
pub fn schedstat(out: &mut Text) -> Result<()> {
    put!(out, "version 16\ntimestamp {}\n", hal::time::now() / 4_000_000);
    for cpu in cpus() {
        let times = accounts::of_cpu(cpu);
        let hz = u128::from(hal::time::tsc_hz().max(1));
        let busy = u128::from(times.user + times.nice + times.system) * 1_000_000_000 / hz;
        let switches = crate::sched::cpu(cpu).map_or(0, |c| get(&c.switches));
        put!(out, "cpu{cpu} 0 0 {switches} 0 0 0 {busy} 0 {switches}\n");
    }
    Ok(())
}
