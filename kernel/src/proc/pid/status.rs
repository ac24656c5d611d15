//! /proc/PID/status.

use super::attributes::kib;
use super::stat::{Sizes, state};
use super::{Who, creds_of, who::name_bytes};
use crate::proc::put;
use crate::signal::user::queued_by;
use crate::task::process::limit;
use crate::task::{Process, TaskRef};
use abi::Result;
use core::sync::atomic::{AtomicI64, Ordering};
use fs::pseudo::Text;
use numa::{CpuMask, NodeMask};
use vm::Mm;

/// Width of node masks in bits: Debian's kernel is built for 1024 nodes, and libnuma takes the
/// width for the size of the masks that it passes.
pub const NODE_BITS: usize = 1024;

/// The file.
pub fn show(who: &Who, out: &mut Text) -> Result<()> {
    let (process, task) = who.living()?;
    let task = task.as_ref();
    identity(who, &process, task, out)?;
    if let Some(mm) = who.mm()? {
        memory(&mm, out);
    }
    put!(out, "Threads:\t{}\n", process.place.lock().threads.len());
    signals(&process, task, out);
    capabilities(&process, task, out);
    placement(task, out);
    out.bytes(b"x86_Thread_features:\t\nx86_Thread_features_locked:\t\n");
    Ok(())
}

fn identity(who: &Who, process: &Process, task: Option<&TaskRef>, out: &mut Text) -> Result<()> {
    let comm = who.comm()?;
    out.bytes(b"Name:\t");
    for &byte in name_bytes(&comm) {
        match byte {
            b'\n' => out.bytes(b"\\n"),
            b'\\' => out.bytes(b"\\\\"),
            _ => out.bytes(&[byte]),
        }
    }
    out.bytes(b"\n");
    if let Some(task) = task {
        let context = task.fs.lock().clone();
        put!(out, "Umask:\t{:04o}\n", context.view().umask);
    }
    let (letter, word) = state(who, task);
    put!(out, "State:\t{letter} ({word})\n");
    let (ppid, pgid, sid) = {
        let place = process.place.lock();
        (place.parent.upgrade().map_or(0, |p| p.pid), place.pgid, place.sid)
    };
    put!(out, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\n", process.pid, who.id());
    let tracer = task.map_or(0, |task| task.trace.tracer_tid());
    put!(out, "PPid:\t{ppid}\nTracerPid:\t{tracer}\n");
    if let Some(creds) = task.map(|t| t.credentials()).or_else(|| creds_of(process)) {
        put!(out, "Uid:\t{}\t{}\t{}\t{}\n", creds.uid, creds.euid, creds.suid, creds.fsuid);
        put!(out, "Gid:\t{}\t{}\t{}\t{}\n", creds.gid, creds.egid, creds.sgid, creds.fsgid);
        let capacity = task.map_or(0, |task| task.files.lock().clone().capacity());
        put!(out, "FDSize:\t{capacity}\nGroups:\t");
        for group in creds.groups() {
            put!(out, "{group} ");
        }
        if creds.groups().is_empty() {
            out.bytes(b" ");
        }
        out.bytes(b"\n");
    }
    put!(out, "NStgid:\t{}\nNSpid:\t{}\n", process.pid, who.id());
    put!(out, "NSpgid:\t{pgid}\nNSsid:\t{sid}\nKthread:\t0\n");
    Ok(())
}

fn memory(mm: &Mm, out: &mut Text) {
    mm.note_peak();
    let get = |c: &AtomicI64| kib(c.load(Ordering::Relaxed).max(0) as u64);
    let (anon, shared) = mm.rss();
    let sizes = Sizes::of(mm);
    for (name, value) in [
        ("VmPeak", get(&mm.peak_total)),
        ("VmSize", get(&mm.total)),
        ("VmLck", get(&mm.locked)),
        ("VmPin", 0),
        ("VmHWM", get(&mm.peak_rss)),
        ("VmRSS", kib(anon + shared)),
        ("RssAnon", kib(anon)),
        // Files live in memory here: their pages are shared memory, as tmpfs's are on Linux.
        ("RssFile", 0),
        ("RssShmem", kib(shared)),
        ("VmData", kib(sizes.data)),
        ("VmStk", kib(sizes.stack)),
        ("VmExe", kib(sizes.text)),
        ("VmLib", kib(sizes.library)),
        ("VmPTE", get(&mm.tables)),
        ("VmSwap", 0),
        ("HugetlbPages", kib(mm.huge_pages())),
    ] {
        put!(out, "{name}:\t{value:>8} kB\n");
    }
    let huge = u8::from(!mm.no_huge_pages.load(Ordering::Relaxed));
    put!(out, "CoreDumping:\t0\nTHP_enabled:\t{huge}\nuntag_mask:\t0xffffffffffffffff\n");
}

fn signals(process: &Process, task: Option<&TaskRef>, out: &mut Text) {
    let uid = process.uid.load(Ordering::Relaxed);
    put!(out, "SigQ:\t{}/{}\n", queued_by(uid), process.soft_limit(limit::SIGPENDING));
    let (caught, ignored) = process.signals.caught_and_ignored();
    let (pending, blocked) =
        task.map_or((0, 0), |task| (task.signals.pending.set(), task.signals.blocked()));
    for (name, set) in [
        ("SigPnd", pending),
        ("ShdPnd", process.signals.pending.set()),
        ("SigBlk", blocked),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        put!(out, "{name}:\t{set:016x}\n");
    }
}

fn capabilities(process: &Process, task: Option<&TaskRef>, out: &mut Text) {
    let Some(creds) = task.map(|t| t.credentials()).or_else(|| creds_of(process)) else { return };
    for (name, set) in [
        ("CapInh", creds.cap_inheritable),
        ("CapPrm", creds.cap_permitted),
        ("CapEff", creds.cap_effective),
        ("CapBnd", creds.cap_bounding),
        ("CapAmb", creds.cap_ambient),
    ] {
        put!(out, "{name}:\t{set:016x}\n");
    }
    put!(out, "NoNewPrivs:\t{}\n", u32::from(creds.no_new_privs));
    out.bytes(b"Seccomp:\t0\nSeccomp_filters:\t0\n");
    // Whether the processor guesses across privileges is not looked into.
    out.bytes(b"Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunknown\n");
}

fn placement(task: Option<&TaskRef>, out: &mut Text) {
    let cpus = task.map_or(CpuMask::EMPTY, |task| *task.affinity.lock());
    let nodes = task.map_or(NodeMask::EMPTY, |task| task.numa.lock().allowed);
    let counts = task.map_or((0, 0), |task| {
        let counters = &task.counters;
        (counters.voluntary.load(Ordering::Relaxed), counters.involuntary.load(Ordering::Relaxed))
    });
    put!(out, "Cpus_allowed:\t{}\n", cpus.hex(crate::machine().cpu_ids()));
    put!(out, "Cpus_allowed_list:\t{cpus}\n");
    put!(out, "Mems_allowed:\t{}\n", nodes.hex(NODE_BITS));
    put!(out, "Mems_allowed_list:\t{nodes}\n");
    put!(
        out,
        "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
        counts.0,
        counts.1
    );
}
