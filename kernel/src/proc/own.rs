//! /proc/proxima: what only this kernel tells.
//!
//! * `frames`: where each node's memory is, to the frame. `free` and the columns after `R` add up
//!   to `managed`; `cached` is the part of `free` in the CPUs' caches.
//! * `faults`: allocations that failed on request, and where; only in the checked kernel.
//! * `latency`: how long preemption and interrupts were off, and where; in the checked kernel.
//! * `locks`: of each class of locks how often and how long it was waited for.
//! * `missing`: what programs asked for in vain: `syscall NUMBER`, `socket FAMILY`, `filesystem
//!   NAME`, `path PATH`, each with the name of who asked first.
//! * `shared`: files of shared directories of the host that were opened, and bytes of them that were
//!   fetched.
//! * `stacks`: bytes of a kernel stack, and how many of them were ever in use at once.
//! * `syscalls`: the table of system calls: number, name, arguments.
//! * `tlb`: rounds of flushing, and interrupts sent for them.
//! * `migrate_fail_every`: for tests: every Nth allocation of a migration's target fails; 0: none.

use super::put;
use crate::task::stack;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use frames::meta::{KIND_NAMES, Kind};
use fs::pseudo::{Dir, PseudoFs, Text};
use vm::migrate::FAIL_EVERY;

/// The kinds of frames in use, in the order of their columns.
const USED: [Kind; 6] =
    [Kind::Kernel, Kind::Slab, Kind::PageTable, Kind::Stack, Kind::Anon, Kind::Shared];

/// Enters the files.
pub fn add(_fs: &Arc<PseudoFs>, dir: &Dir) {
    dir.text("frames", frames_by_node);
    dir.attribute("latency", 0o644, super::latency::show, super::latency::reset);
    #[cfg(feature = "checks")]
    dir.attribute("faults", 0o644, super::faults::show, super::faults::store);
    dir.text("locks", super::contention::show);
    dir.text("stacks", stacks);
    dir.text("syscalls", syscalls);
    dir.text("tlb", tlb);
    dir.text("missing", crate::missing::show);
    dir.text("shared", shared);
    dir.attribute("migrate_fail_every", 0o644, show_fail_every, set_fail_every);
}

fn frames_by_node(out: &mut Text) -> Result<()> {
    for node in crate::machine().nodes().iter() {
        let s = frames::stats(node);
        put!(out, "node {node} present {} managed {} ", s.present, s.managed);
        put!(out, "free {} cached {} reserve {}", s.free, s.cached, s.reserve);
        for kind in USED {
            // Memory is private or shared, whatever the size of its pages.
            let huge = match kind {
                Kind::Anon => s.used[Kind::AnonHuge as usize],
                Kind::Shared => s.used[Kind::SharedHuge as usize],
                _ => 0,
            };
            put!(out, " {} {}", KIND_NAMES[kind as usize], s.used[kind as usize] + huge);
        }
        out.bytes(b"\n");
    }
    Ok(())
}

fn stacks(out: &mut Text) -> Result<()> {
    put!(out, "size {} deepest {}\n", stack::SIZE, stack::deepest());
    Ok(())
}

fn shared(out: &mut Text) -> Result<()> {
    let [files, bytes] = [&fs::p9::OPENED, &fs::p9::FETCHED].map(|n| n.load(Ordering::Relaxed));
    put!(out, "files {files}\nbytes {bytes}\n");
    Ok(())
}

fn syscalls(out: &mut Text) -> Result<()> {
    for entry in crate::syscalls::table::all() {
        put!(out, "{} {}", entry.number, entry.name);
        // The compiler breaks long lists into lines.
        entry.args.split_whitespace().for_each(|word| put!(out, " {word}"));
        out.bytes(b"\n");
    }
    Ok(())
}

fn tlb(out: &mut Text) -> Result<()> {
    let get = |c: &core::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    put!(out, "rounds {}\nipis {}\n", get(&vm::tlb::ROUNDS), get(&vm::tlb::IPIS));
    Ok(())
}

fn show_fail_every(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", FAIL_EVERY.load(Ordering::Relaxed));
    Ok(())
}

fn set_fail_every(data: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let every = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    FAIL_EVERY.store(every, Ordering::Relaxed);
    Ok(())
}
