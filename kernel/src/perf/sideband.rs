//! Records beside samples: names, mappings, beginnings and ends of tasks, switches.

use super::event::Event;
use super::{context, notify};
use crate::task::{Task, TaskRef, current};
use ::perf::attr::flag;
use ::perf::record::{Ids, Map, Side};
use ::perf::ring::Outcome;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::percpu;
use vm::vma::{Label, Vma, VmaFlags};

/// The clock of an event's records.
fn clock(event: &Event) -> u64 {
    let now = hal::time::now();
    match event.attr.clockid {
        // CLOCK_REALTIME and CLOCK_TAI, when it was asked for a clock at all.
        0 | 11 if event.attr.has(flag::USE_CLOCKID) => hal::time::wall_base() + now,
        _ => now,
    }
}

/// Who, when and where.
pub fn ids(event: &Event, task: &Task) -> Ids {
    Ids {
        pid: task.pid() as u32,
        tid: task.tid() as u32,
        time: clock(event),
        id: event.public_id(),
        stream_id: event.id,
        cpu: percpu::cpu().index() as u32,
    }
}

/// Writes a record into the buffer of one event.
pub fn emit(event: &Arc<Event>, task: &Task, side: &Side<'_>) {
    let Some(buffer) = event.output() else { return };
    let size = side.size(&event.attr);
    if size > ::perf::record::MAX_SIZE {
        return;
    }
    let ids = ids(event, task);
    let outcome = buffer.write(event, task, size, |slot| side.put(&event.attr, &ids, slot));
    if let Outcome::Written { wake: true } = outcome {
        notify::wake(event, &buffer);
    }
}

/// Writes a record for every event of the running task and of this CPU that has one of `flags`.
fn broadcast(task: &Task, flags: u64, side: &Side<'_>) {
    let _irq = hal::irq::IrqOff::new();
    let cpu = context::of_cpu(percpu::cpu());
    for context in [current().perf.context(), Some(cpu)].into_iter().flatten() {
        context.for_records(&mut |event| {
            if event.attr.flags & flags != 0 {
                emit(event, task, side);
            }
        });
    }
}

/// A task has a new name; `exec`: and a new program.
pub fn comm(task: &Task, exec: bool) {
    let name = task.name();
    let (pid, tid) = (task.pid() as u32, task.tid() as u32);
    broadcast(task, flag::COMM, &Side::Comm { pid, tid, name: name.as_bytes(), exec });
}

/// A task begins (its parent is the running task), or the running task ends.
pub fn task(about: &TaskRef, exit: bool) {
    let me = current();
    let (ppid, ptid) = if exit {
        let ppid = about.process.ppid();
        (ppid as u32, ppid as u32)
    } else {
        (me.pid() as u32, me.tid() as u32)
    };
    let (pid, tid) = (about.pid() as u32, about.tid() as u32);
    let side = Side::Task { exit, pid, ppid, tid, ptid, time: hal::time::now() };
    let flags = flag::TASK | flag::COMM | flag::MMAP | flag::MMAP2 | flag::MMAP_DATA;
    broadcast(&me, flags, &side);
}

/// `task` leaves this CPU to `other`, or comes after it.
pub fn switch(task: &Task, other: &Task, out: bool, preempted: bool) {
    let pair = (other.pid() as u32, other.tid() as u32);
    let one = |event: &Arc<Event>, wide: bool| {
        if event.attr.has(flag::CONTEXT_SWITCH) {
            let other = wide.then_some(pair);
            emit(event, task, &Side::Switch { out, preempted, other });
        }
    };
    if let Some(context) = task.perf.context() {
        context.for_records(&mut |event| one(event, false));
    }
    context::of_cpu(percpu::cpu()).for_records(&mut |event| one(event, true));
}

/// What a record tells of an area.
struct Area {
    start: u64,
    len: u64,
    offset: u64,
    name: String,
    dev: u64,
    inode: u64,
    exec: bool,
    prot: u32,
    shared: bool,
}

impl Area {
    fn of(vma: &Vma) -> Self {
        let (name, (dev, inode)) = match vma.file() {
            Some(file) => (file.path().unwrap_or_default(), file.id()),
            None => (String::from(label(vma)), (0, 0)),
        };
        let offset = if vma.object().is_some() { vma.pgoff * vm::PAGE } else { 0 };
        Self {
            start: vma.start,
            len: vma.len(),
            offset,
            name,
            dev,
            inode,
            exec: vma.flags.contains(VmaFlags::EXEC),
            prot: vma.flags.prot().bits(),
            shared: vma.shared(),
        }
    }
}

fn label(vma: &Vma) -> &'static str {
    match vma.label {
        Label::Heap => "[heap]",
        Label::Stack => "[stack]",
        Label::Vdso => "[vdso]",
        Label::Vvar => "[vvar]",
        Label::None => "//anon",
    }
}

fn map_record(area: &Area) {
    let task = current();
    // Linux's encoding of device numbers: 12 bits of major at 8, minor around it.
    let major = (area.dev >> 8 & 0xfff) as u32;
    let minor = (area.dev & 0xff | area.dev >> 12 & !0xff) as u32;
    let side = Side::Map(Map {
        pid: task.pid() as u32,
        tid: task.tid() as u32,
        start: area.start,
        len: area.len,
        offset: area.offset,
        name: area.name.as_bytes(),
        dev: (major, minor),
        inode: area.inode,
        generation: 0,
        prot: area.prot,
        flags: if area.shared { 1 } else { 2 },
        data: !area.exec,
    });
    let flags = if area.exec { flag::MMAP | flag::MMAP2 } else { flag::MMAP_DATA };
    broadcast(&task, flags, &side);
}

/// The area at `addr` of the running task is new.
pub fn mapped(addr: u64) {
    let task = current();
    let Some(mm) = task.mm().map(|mm| mm.clone()) else { return };
    let area = mm.vmas.read().find(addr).map(Area::of);
    if let Some(area) = area {
        map_record(&area);
    }
}

/// All areas of the running task, after an exec.
pub fn whole_map() {
    let task = current();
    let Some(mm) = task.mm().map(|mm| mm.clone()) else { return };
    let areas: Vec<Area> = mm.vmas.read().iter().map(Area::of).collect();
    areas.iter().for_each(map_record);
}
