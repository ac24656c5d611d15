//! What the scheduler counted for a thread.

use super::{Who, who::name_bytes};
use crate::proc::put;
use abi::Result;
use alloc::string::String;
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use sched::{Class, FairKind, Params};

/// Number of the policy, as sched_getscheduler(2) gives it.
pub fn policy(params: &Params) -> u32 {
    match params.class {
        Class::Fair { kind: FairKind::Normal, .. } => 0,
        Class::Fifo { .. } => 1,
        Class::RoundRobin { .. } => 2,
        Class::Fair { kind: FairKind::Batch, .. } => 3,
        Class::Fair { kind: FairKind::Idle, .. } => 5,
    }
}

/// Nice value; 0 for real-time threads.
pub fn nice(params: &Params) -> i32 {
    match params.class {
        Class::Fair { nice, .. } => nice.value(),
        _ => 0,
    }
}

/// Priority as /proc/PID/stat shows it: 20 for nice 0; below -1 for real-time threads.
pub fn priority(params: &Params) -> i32 {
    match params.class.rt_priority() {
        Some(priority) => -1 - i32::from(priority),
        None => 20 + nice(params),
    }
}

/// Nanoseconds on a CPU, nanoseconds waiting for one, times put on one.
pub fn schedstat(who: &Who, out: &mut Text) -> Result<()> {
    let (_, task) = who.living()?;
    let stats = task.map(|task| crate::sched::stats_of(&task).0).unwrap_or_default();
    put!(out, "{} {} {}\n", stats.ran, stats.waited, stats.picked);
    Ok(())
}

/// The values of Linux's file of this name that exist here.
pub fn sched(who: &Who, out: &mut Text) -> Result<()> {
    let task = who.task()?;
    let (stats, params) = crate::sched::stats_of(&task);
    let comm = who.comm()?;
    let name = String::from_utf8_lossy(name_bytes(&comm));
    let threads = task.process.place.lock().threads.len();
    put!(out, "{name} ({}, #threads: {threads})\n", task.tid());
    put!(out, "{:-<67}\n", "");
    let mut ns = |name: &str, ns: u64| {
        put!(out, "{name:<45}:{:>14}.{:06}\n", ns / 1_000_000, ns % 1_000_000);
    };
    ns("se.exec_start", hal::time::now());
    ns("se.sum_exec_runtime", stats.ran);
    let counters = &task.counters;
    let get = |c: &core::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    let (voluntary, involuntary) = (get(&counters.voluntary), get(&counters.involuntary));
    // Linux keeps weights with ten more bits than nice values have.
    for (name, value) in [
        ("se.nr_migrations", get(&counters.migrations)),
        ("nr_switches", voluntary + involuntary),
        ("nr_voluntary_switches", voluntary),
        ("nr_involuntary_switches", involuntary),
        ("se.load.weight", params.weight() << 10),
        ("policy", u64::from(policy(&params))),
        ("prio", (100 + priority(&params)).max(0) as u64),
        ("se.slice", params.slice),
    ] {
        put!(out, "{name:<45}:{value:>21}\n");
    }
    let node = crate::machine().node_of(task.last_cpu());
    put!(out, "current_node={node}, numa_group_id=0\n");
    Ok(())
}
