//! perf_event_open(2).

use super::context::{self, Context};
use super::event::{Event, Source};
use super::file::{PerfFile, read_attr};
use super::{hw, settings};
use crate::syscalls::Ctx;
use crate::task::{TaskRef, table};
use ::perf::attr::{Attr, flag, sample};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use hal::VirtAddr;
use numa::{CpuId, MAX_CPUS};

const FD_NO_GROUP: u64 = 1;
const FD_OUTPUT: u64 = 2;
const PID_CGROUP: u64 = 4;
const FD_CLOEXEC: u64 = 8;

crate::syscalls! {
    298 perf_event_open(attr: VirtAddr, pid: i32, cpu: i32, group_fd: i32, flags: u64) => open;
}

fn open(
    c: &mut Ctx<'_>,
    attr: VirtAddr,
    pid: i32,
    cpu: i32,
    group_fd: i32,
    flags: u64,
) -> Result<i32> {
    if flags & !(FD_NO_GROUP | FD_OUTPUT | PID_CGROUP | FD_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = read_attr(attr)?;
    if !attr.has(flag::EXCLUDE_KERNEL) {
        settings::allow(1)?;
    }
    if attr.has(flag::NAMESPACES) && !settings::privileged() {
        return Err(Errno::EACCES);
    }
    attr.check_rate(settings::max_rate())?;
    if attr.samples(sample::PHYS_ADDR) {
        settings::allow(1)?;
    }
    if flags & PID_CGROUP != 0 {
        // Control groups have no directories to name; Linux looks at the arguments first.
        return Err(if pid == -1 || cpu == -1 { Errno::EINVAL } else { Errno::EBADF });
    }
    let group_file = match group_fd {
        -1 => None,
        fd => Some(c.file(fd)?),
    };
    let group = match &group_file {
        None => None,
        Some(file) => Some(file.ops_as::<PerfFile>().ok_or(Errno::EBADF)?),
    };
    let leader = group.map(|g| g.event.clone()).filter(|_| flags & FD_NO_GROUP == 0);
    let task = match pid {
        -1 => None,
        0 => Some(c.task.handle()),
        pid => Some(table::task(pid).ok_or(Errno::ESRCH)?),
    };
    if let (Some(_), Some(leader)) = (&task, &leader)
        && leader.attr.has(flag::INHERIT) != attr.has(flag::INHERIT)
    {
        return Err(Errno::EINVAL);
    }
    let cpu = which_cpu(cpu, task.is_none())?;
    if attr.has(flag::SIGTRAP) {
        // Synchronous signals are not there.
        return Err(Errno::EINVAL);
    }
    let source = source(&attr)?;
    let stack_limit = attr.sample_max_stack > settings::MAX_STACK;
    if attr.samples(sample::CALLCHAIN) && stack_limit {
        return Err(Errno::EOVERFLOW);
    }
    if attr.has(flag::USE_CLOCKID) && !matches!(attr.clockid, 0 | 1 | 4 | 7 | 11) {
        return Err(Errno::EINVAL);
    }
    if let Some(cpu) = cpu
        && !crate::boot::cpus::online().contains(cpu)
    {
        return Err(Errno::ENODEV);
    }
    let context = match &task {
        None => {
            settings::allow(0)?;
            context::of_cpu(cpu.ok_or(Errno::EINVAL)?)
        }
        Some(task) => {
            if !settings::privileged() {
                crate::access::check_task(task, crate::access::Mode::ReadReal)
                    .map_err(|_| Errno::EACCES)?;
            }
            context_of(task)?
        }
    };
    if let Some(leader) = &leader {
        check_group(&attr, cpu, leader, &context)?;
        let own = [source].into_iter();
        let all = own.chain(leader.members()?.into_iter().map(|event| event.source));
        hw::check_group(all.filter_map(Source::code))?;
    }
    Event::ready(leader.as_ref())?;
    context.room_for_one()?;
    let event = Event::new(attr, source, cpu, leader, None);
    let ops = PerfFile::new(event.clone());
    if flags & FD_OUTPUT != 0
        && let Some(group) = group
    {
        // The event is in no context yet: it goes to one of the same target by construction.
        event.set_output(Some(group.event.output().ok_or(Errno::EINVAL)?));
    }
    let file = fs::anon::file(ops, "[perf_event]", fs::oflag::O_RDWR)?;
    event.install(&context);
    c.install(file, flags & FD_CLOEXEC != 0)
}

/// EINVAL for a CPU that cannot be, and for none without a task.
fn which_cpu(cpu: i32, without_task: bool) -> Result<Option<CpuId>> {
    match usize::try_from(cpu) {
        Ok(cpu) if cpu < possible() => Ok(Some(CpuId::new(cpu as u16))),
        Err(_) if cpu == -1 && !without_task => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

/// One past the highest CPU that there is.
fn possible() -> usize {
    crate::boot::cpus::online().iter().map(|cpu| cpu.index() + 1).max().unwrap_or(1).min(MAX_CPUS)
}

fn source(attr: &Attr) -> Result<Source> {
    let source = Source::of(attr)?;
    // Nothing here records branches.
    if attr.samples(sample::BRANCH_STACK) {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(source)
}

/// The context of a task that has not ended: ESRCH.
fn context_of(task: &TaskRef) -> Result<Arc<Context>> {
    if task.state() == crate::task::State::Dead || task.process.zombie.load(Relaxed) {
        return Err(Errno::ESRCH);
    }
    task.perf.context_or_new(task)
}

/// EINVAL when the event cannot be in the group that `leader` leads.
fn check_group(
    attr: &Attr,
    cpu: Option<CpuId>,
    leader: &Event,
    context: &Arc<Context>,
) -> Result<()> {
    let same_context = leader.context().is_some_and(|c| Arc::ptr_eq(&c, context));
    let clocks = (leader.attr.has(flag::USE_CLOCKID), leader.attr.clockid);
    if leader.leader.is_some()
        || leader.cpu != cpu
        || !same_context
        || clocks != (attr.has(flag::USE_CLOCKID), attr.clockid)
        || attr.has(flag::PINNED)
        || attr.has(flag::EXCLUSIVE)
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
