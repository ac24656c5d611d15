//! Small files of a process: one value each.

use super::where_it_is;
use super::{Who, who::name_bytes};
use crate::access::{self, Mode};
use crate::proc::put;
use crate::task::current;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use vm::PAGE;

/// A number as a program writes it: white space around it, perhaps a sign.
fn number(data: &[u8]) -> Result<i64> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

/// The name.
pub fn comm(who: &Who, out: &mut Text) -> Result<()> {
    out.bytes(name_bytes(&who.comm()?));
    out.bytes(b"\n");
    Ok(())
}

/// Renames a thread; only threads of the same process may.
pub fn set_comm(who: &Who, data: &[u8]) -> Result<()> {
    let task = who.task()?;
    if !core::ptr::eq(&*task.process, &*current().process) {
        return Err(Errno::EINVAL);
    }
    task.set_name(data);
    crate::perf::on_rename(&task);
    crate::traffic::renamed(&task);
    Ok(())
}

/// What it read and wrote: bytes, calls, and bytes of devices, of which there are none.
pub fn io(who: &Who, out: &mut Text) -> Result<()> {
    let (process, task) = who.living()?;
    access::check(&process, Mode::ReadFs)?;
    let used = match task {
        Some(task) if who.is_thread() => crate::task::usage_of_task(&task),
        _ => crate::task::usage_of_process(&process),
    };
    for (name, value) in ["rchar", "wchar", "syscr", "syscw"].into_iter().zip(used.io) {
        put!(out, "{name}: {value}\n");
    }
    out.bytes(b"read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
    Ok(())
}

/// The execution domain: always Linux's own.
pub fn personality(who: &Who, out: &mut Text) -> Result<()> {
    where_it_is::check(who)?;
    put!(out, "{:08x}\n", 0);
    Ok(())
}

/// The control group of a task, or the one in which it ended.
fn group_of(who: &Who) -> Result<cgroup::Id> {
    let (process, task) = who.living()?;
    let at_end = || process.cgroup_at_end.load(Ordering::Relaxed);
    Ok(task.map_or_else(at_end, |task| task.cgroup.load(Ordering::Relaxed)))
}

/// The group whose cpuset counts for it.
pub fn cpuset(who: &Who, out: &mut Text) -> Result<()> {
    let group = group_of(who)?;
    let owner = crate::cgroup::groups().cpuset_group(group);
    crate::cgroup::path_of(owner, out)?;
    out.bytes(b"\n");
    Ok(())
}

/// The control group, in the one hierarchy that there is; nothing before that was mounted.
pub fn cgroup(who: &Who, out: &mut Text) -> Result<()> {
    let group = group_of(who)?;
    if crate::cgroup::is_visible() {
        out.bytes(b"0::");
        crate::cgroup::path_of(group, out)?;
        out.bytes(b"\n");
    }
    Ok(())
}

/// No login was recorded: -1, as an unsigned number and without a newline.
pub fn no_login(_: &Who, out: &mut Text) -> Result<()> {
    put!(out, "{}", u32::MAX);
    Ok(())
}

/// What a core file would hold; there are none, so it cannot be changed.
pub fn coredump_filter(who: &Who, out: &mut Text) -> Result<()> {
    who.find()?;
    put!(out, "{:08x}\n", 0x33);
    Ok(())
}

/// The one user namespace maps every id to itself.
pub fn id_map(_: &Who, out: &mut Text) -> Result<()> {
    put!(out, "{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX);
    Ok(())
}

/// setgroups(2) is allowed in the user namespace.
pub fn setgroups(_: &Who, out: &mut Text) -> Result<()> {
    out.bytes(b"allow\n");
    Ok(())
}

/// How deserving the process is of being killed when memory is out: its share of memory in
/// thousandths, moved by oom_score_adj, in Linux's scale (two thirds of 1000 to 2000).
pub fn oom_score(who: &Who, out: &mut Text) -> Result<()> {
    let process = who.find()?;
    let total: i64 = crate::proc::memory::managed_frames().max(1) as i64;
    let adjust = i64::from(process.oom_score_adj.load(Ordering::Relaxed));
    let used = who.mm()?.map_or(0, |mm| {
        let (anon, shared) = mm.rss();
        (anon + shared) as i64 + mm.tables.load(Ordering::Relaxed)
    });
    let points = used + adjust * total / 1000;
    let score = if adjust == -1000 { 0 } else { ((1000 + points * 1000 / total) * 2 / 3).max(0) };
    put!(out, "{score}\n");
    Ok(())
}

/// -1000 (never) to 1000.
pub fn oom_score_adj(who: &Who, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", who.find()?.oom_score_adj.load(Ordering::Relaxed));
    Ok(())
}

/// EINVAL out of range; EACCES for lowering without CAP_SYS_RESOURCE.
pub fn set_oom_score_adj(who: &Who, data: &[u8]) -> Result<()> {
    let value = number(data)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let process = who.find()?;
    let old = i64::from(process.oom_score_adj.load(Ordering::Relaxed));
    if value < old && !crate::creds::capable(fs::Cap::SysResource) {
        return Err(Errno::EACCES);
    }
    process.oom_score_adj.store(value as i32, Ordering::Relaxed);
    Ok(())
}

/// Whether numa_maps and numa_pages go on showing the process's memory until it is reaped.
pub fn keep_memory(who: &Who, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", u8::from(who.find()?.keep_memory.load(Ordering::Relaxed)));
    Ok(())
}

/// EINVAL for anything but 0 and 1.
pub fn set_keep_memory(who: &Who, data: &[u8]) -> Result<()> {
    let keep = match number(data)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    who.find()?.keep_memory.store(keep, Ordering::Relaxed);
    Ok(())
}

/// EPERM unless it is the running task's own, or it may change others' scheduling.
fn check_slack(who: &Who) -> Result<()> {
    let own = core::ptr::eq(&*who.find()?, &*current().process);
    if own || crate::creds::has(crate::creds::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// How late timers may fire, in nanoseconds.
pub fn timerslack(who: &Who, out: &mut Text) -> Result<()> {
    check_slack(who)?;
    let (process, task) = who.living()?;
    let left = || process.remains.lock().as_ref().map_or(0, |remains| remains.timer_slack);
    put!(out, "{}\n", task.map_or_else(left, |task| task.timer_slack.load(Ordering::Relaxed)));
    Ok(())
}

/// 0 brings the default back.
pub fn set_timerslack(who: &Who, data: &[u8]) -> Result<()> {
    check_slack(who)?;
    let value = u64::try_from(number(data)?).map_err(|_| Errno::EINVAL)?;
    let task = who.task()?;
    let default = task.default_timer_slack.load(Ordering::Relaxed);
    task.timer_slack.store(if value == 0 { default } else { value }, Ordering::Relaxed);
    Ok(())
}

/// Kilobytes in `pages`.
pub const fn kib(pages: u64) -> u64 {
    pages * (PAGE / 1024)
}
