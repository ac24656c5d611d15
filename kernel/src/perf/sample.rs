//! Samples: registers, callchains, stacks, and their way into the buffer.
//!
//! Everything here runs with interrupts off under a context's lock, often in an interrupt: user
//! memory that is not present is not read.

use super::context::{self, Inner};
use super::event::{Event, Reading, single};
use super::slot::Slot;
use super::{notify, sideband};
use crate::task::Task;
use ::perf::attr::{Attr, flag, format, sample};
use ::perf::counter::Pace;
use ::perf::record::{self, Sample, Side, misc};
use ::perf::ring::Outcome;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use hal::VirtAddr;
use hal::preempt::PreemptGuard;
use hal::trap::TrapFrame;
use numa::MAX_CPUS;
use sync::IrqLock;

/// What an event is about.
pub enum Regs {
    /// These registers: user or kernel.
    Frame(TrapFrame),
    /// The kernel code that called the hook.
    Caller { frame_pointer: u64 },
}

impl Regs {
    /// From a trap's registers, or the caller's frame.
    #[inline(always)]
    pub fn of(frame: Option<&TrapFrame>) -> Self {
        match frame {
            Some(frame) => Self::Frame(*frame),
            None => Self::Caller { frame_pointer: hal::trap::frame_pointer() },
        }
    }

    /// Of what this CPU was about when an interrupt came; without one, of this code's caller.
    #[inline(always)]
    pub fn here() -> Self {
        if hal::percpu::in_interrupt() { Self::Frame(interrupted()) } else { Self::of(None) }
    }

    fn user(&self) -> bool {
        matches!(self, Self::Frame(frame) if frame.from_user())
    }

    /// The attribute does not want events in this mode.
    pub fn excluded(&self, attr: &Attr) -> bool {
        attr.has(if self.user() { flag::EXCLUDE_USER } else { flag::EXCLUDE_KERNEL })
    }
}

/// What only some events know.
#[derive(Default)]
pub struct Extra<'a> {
    pub addr: u64,
    /// PERF_SAMPLE_RAW, with its own length first.
    pub raw: &'a [u8],
    /// 0 for none.
    pub data_src: u64,
}

static INTERRUPTED: [IrqLock<Option<TrapFrame>>; MAX_CPUS] =
    [const { IrqLock::new(None) }; MAX_CPUS];

/// See [`super::interrupted`].
#[cold]
pub fn remember(frame: &TrapFrame) {
    *INTERRUPTED[hal::percpu::cpu().index()].lock() = Some(*frame);
}

/// The registers of what the present interrupt interrupted.
pub fn interrupted() -> TrapFrame {
    INTERRUPTED[hal::percpu::cpu().index()].lock().unwrap_or_default()
}

/// Return addresses that a chain may hold (kernel and user together, with their marks).
const CHAIN: usize = 127 + 8;

/// A callchain.
struct Chain {
    entries: [u64; CHAIN],
    len: usize,
    frames: usize,
    most: usize,
}

impl Chain {
    fn push(&mut self, value: u64) -> bool {
        let fits = self.len < CHAIN;
        if fits {
            self.entries[self.len] = value;
            self.len += 1;
        }
        fits
    }

    fn frame(&mut self, ip: u64) -> bool {
        self.frames += 1;
        self.frames <= self.most && self.push(ip)
    }

    fn kernel(&mut self, regs: &Regs) {
        let mut at = match regs {
            Regs::Frame(frame) if frame.from_user() => return,
            Regs::Frame(frame) => {
                self.push(record::CONTEXT_KERNEL);
                self.frame(frame.rip);
                frame.rbp
            }
            Regs::Caller { frame_pointer } => {
                self.push(record::CONTEXT_KERNEL);
                *frame_pointer
            }
        };
        while let Some((next, ip)) = hal::trap::read_frame(VirtAddr::new(at)) {
            if ip < hal::phys::DIRECT_MAP || !self.frame(ip) || next <= at {
                break;
            }
            at = next;
        }
    }

    fn user(&mut self, frame: &TrapFrame) {
        self.push(record::CONTEXT_USER);
        if !self.frame(frame.rip) {
            return;
        }
        let mut at = frame.rbp;
        while at.is_multiple_of(8) && at >= vm::map::MIN_ADDR {
            let Ok([next, ip]) = hal::user::read::<[u64; 2]>(VirtAddr::new(at)) else { break };
            if ip == 0 || ip >= hal::user::USER_END || !self.frame(ip) || next <= at {
                break;
            }
            at = next;
        }
    }
}

/// The kernel address that a caller's frame returns to.
fn caller(frame_pointer: u64) -> u64 {
    hal::trap::read_frame(VirtAddr::new(frame_pointer)).map_or(0, |(_, ip)| ip)
}

/// The registers with which `task` last entered the kernel, if it has user registers at all.
pub fn user_registers(task: &Task, regs: &Regs) -> Option<TrapFrame> {
    match regs {
        Regs::Frame(frame) if frame.from_user() => Some(*frame),
        _ if task.kernel_thread || task.pid() == 0 => None,
        _ => Some(hal::switch::user_frame(task.stack_top())).filter(TrapFrame::from_user),
    }
}

/// The registers of a mask, in the order of their numbers (asm/perf_regs.h).
#[inline(never)]
fn registers(frame: &TrapFrame, mask: u64) -> Vec<u64> {
    let f = frame;
    let all = [
        f.rax, f.rbx, f.rcx, f.rdx, f.rsi, f.rdi, f.rbp, f.rsp, f.rip, f.rflags, f.cs, f.ss, 0, 0,
        0, 0, f.r8, f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15,
    ];
    (0..all.len()).filter(|i| mask & 1 << i != 0).map(|i| all[i]).collect()
}

/// A software event that takes samples happened `n` times.
pub fn soft(inner: &mut Inner, at: usize, n: u64, task: &Task, regs: &Regs, extra: &Extra<'_>) {
    let slot = &mut inner.slots[at];
    let attr = slot.event.attr;
    let freq = attr.has(flag::FREQ);
    // As Linux: whoever wants the period in each sample and names it himself gets them all.
    let (times, period) = if attr.samples(sample::PERIOD) && !freq {
        (1, n)
    } else {
        let times = slot.period.add(n);
        (times, slot.period.last)
    };
    for _ in 0..times {
        let now = hal::time::now();
        let slot = &mut inner.slots[at];
        let pace = slot.throttle.sample(now, super::settings::max_rate());
        if freq {
            let passed = now.saturating_sub(core::mem::replace(&mut slot.adapted, now));
            // What happened long ago says nothing of the rate now.
            if passed > 0 && passed < 2 * ::perf::counter::WINDOW {
                slot.period.adapt(slot.event.rate.load(Relaxed), period, passed);
            }
        }
        if pace == Pace::Skip {
            return;
        }
        pace_record(inner, at, pace, task, now);
        if !overflow(inner, at, period, task, regs, extra) {
            context::stop(inner, at, now);
            return;
        }
    }
}

/// Says that sampling was stopped for a while, or goes on.
pub fn pace_record(inner: &Inner, at: usize, pace: Pace, task: &Task, time: u64) {
    let event = &inner.slots[at].event;
    let stopped = match pace {
        Pace::Stop => true,
        Pace::Resume => false,
        _ => return,
    };
    let side = Side::Throttle { stopped, time, id: event.public_id(), stream_id: event.id };
    sideband::emit(event, task, &side);
}

/// A period ran out: writes the sample and tells readers. False when the event is to be disabled.
pub fn overflow(
    inner: &mut Inner,
    at: usize,
    period: u64,
    task: &Task,
    regs: &Regs,
    extra: &Extra<'_>,
) -> bool {
    let event = inner.slots[at].event.clone();
    let root = event.parent.clone().unwrap_or_else(|| event.clone());
    if event.attr.samples(sample::READ) {
        inner.touch(hal::time::now());
    }
    write(inner, at, &event, period, task, regs, extra);
    let limited = root.limit.load(Relaxed) > 0 && root.limit.fetch_sub(1, Relaxed) == 1;
    if limited {
        notify::signal(&root, notify::HUP);
    } else if event.output().is_none() {
        notify::signal(&root, notify::IN);
    }
    !limited
}

fn write(
    inner: &Inner,
    at: usize,
    event: &Arc<Event>,
    period: u64,
    task: &Task,
    regs: &Regs,
    extra: &Extra<'_>,
) {
    let Some(buffer) = event.output() else { return };
    let attr = &event.attr;
    let _stay = PreemptGuard::new();
    let has = |bits| attr.sample_type & bits != 0;
    let user = if has(sample::CALLCHAIN | sample::REGS_USER | sample::STACK_USER) {
        user_registers(task, regs)
    } else {
        None
    };
    let most = if attr.sample_max_stack == 0 { 127 } else { usize::from(attr.sample_max_stack) };
    let mut chain = Chain { entries: [0; CHAIN], len: 0, frames: 0, most };
    if has(sample::CALLCHAIN) {
        if !attr.has(flag::EXCLUDE_CALLCHAIN_KERNEL) {
            chain.kernel(regs);
        }
        if !attr.has(flag::EXCLUDE_CALLCHAIN_USER)
            && let Some(user) = &user
        {
            chain.user(user);
        }
    }
    let ip = match regs {
        Regs::Frame(frame) => frame.rip,
        Regs::Caller { frame_pointer } => caller(*frame_pointer),
    };
    let regs_user = match &user {
        Some(frame) if has(sample::REGS_USER) => (2, registers(frame, attr.sample_regs_user)),
        _ => (0, Vec::new()),
    };
    let regs_intr = match regs {
        Regs::Frame(frame) if has(sample::REGS_INTR) => {
            (2, registers(frame, attr.sample_regs_intr))
        }
        _ if has(sample::REGS_INTR) => (2, registers(&TrapFrame::default(), attr.sample_regs_intr)),
        _ => (0, Vec::new()),
    };
    let words = if has(sample::READ) { reading(inner, at) } else { Vec::new() };
    let phys = if has(sample::PHYS_ADDR | sample::DATA_PAGE_SIZE) {
        physical(task, extra.addr)
    } else {
        0
    };
    let mut parts = Sample {
        ids: sideband::ids(event, task),
        ip,
        addr: extra.addr,
        period,
        read: &words,
        callchain: &chain.entries[..chain.len],
        raw: extra.raw,
        regs_user: (regs_user.0, &regs_user.1),
        stack: (0, 0),
        weight: 0,
        data_src: if extra.data_src == 0 { NO_DATA_SRC } else { extra.data_src },
        regs_intr: (regs_intr.0, &regs_intr.1),
        phys_addr: phys,
        data_page_size: if phys == 0 { 0 } else { vm::PAGE },
        code_page_size: vm::PAGE,
    };
    let stack_at = user.as_ref().map_or(0, |frame| frame.rsp);
    if has(sample::STACK_USER) && user.is_some() {
        let room = hal::user::USER_END.saturating_sub(stack_at) & !7;
        let left = record::MAX_SIZE.saturating_sub(parts.size(attr) + 8);
        let most = u64::from(attr.sample_stack_user).min(room).min(left) & !7;
        parts.stack = (most, readable(stack_at, most));
    }
    let misc = if regs.user() { misc::USER } else { misc::KERNEL };
    let size = parts.size(attr);
    if size > record::MAX_SIZE {
        return;
    }
    let outcome = buffer.write(event, task, size, |slot| {
        let (room, there) = parts.stack;
        parts.put(attr, misc, slot, |out| copy_stack(stack_at, room, there, out));
    });
    match outcome {
        Outcome::Written { wake } => {
            let by_number = !attr.has(flag::WATERMARK) && buffer.count_sample(attr.wakeup);
            if wake || by_number {
                notify::wake(event, &buffer);
            }
        }
        Outcome::Lost => {
            event.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Nothing is known of where the data was (PERF_MEM_NA).
const NO_DATA_SRC: u64 = 1 | 1 << 5 | 1 << 19 | 1 << 24 | 1 << 26;

/// How much of the user stack is there to be read.
#[inline(never)]
fn readable(at: u64, most: u64) -> u64 {
    let mut there = 0;
    let mut chunk = [0u8; 256];
    while there < most {
        let step = (most - there).min(chunk.len() as u64) as usize;
        let got = hal::user::copy_from_partial(&mut chunk[..step], VirtAddr::new(at + there));
        there += got as u64 & !7;
        if got < step {
            break;
        }
    }
    there
}

#[inline(never)]
fn copy_stack(at: u64, room: u64, there: u64, out: &mut (impl record::Out + ?Sized)) {
    let mut done = 0;
    let mut chunk = [0u8; 256];
    while done < room {
        let step = (room - done).min(chunk.len() as u64) as usize;
        chunk.fill(0);
        if done < there {
            let wanted = (there - done).min(step as u64) as usize;
            // Bytes that went away since they were counted read as zeroes.
            let _ = hal::user::copy_from_partial(&mut chunk[..wanted], VirtAddr::new(at + done));
        }
        out.put(&chunk[..step]);
        done += step as u64;
    }
}

/// The physical address behind a user address of `task`; 0 when there is none.
fn physical(task: &Task, addr: u64) -> u64 {
    if addr == 0 || addr >= hal::user::USER_END {
        return 0;
    }
    let mm = task.switching_mm();
    let Some(mm) = mm.as_ref() else { return 0 };
    match vm::table::find(mm.root(), addr).map(|(_, pte)| (vm::table::state(pte), pte)) {
        Some((vm::table::State::Page(_) | vm::table::State::Special(_), pte)) => {
            vm::table::part(pte, addr).addr().raw() + addr % vm::PAGE
        }
        _ => 0,
    }
}

/// What PERF_SAMPLE_READ holds, with the context locked: living inherited events are not in it.
fn reading(inner: &Inner, at: usize) -> Vec<u64> {
    let slot = &inner.slots[at];
    let event = &slot.event;
    let one = |slot: &Slot| {
        let folded = slot.event.folded();
        let (enabled, running) = slot.times.totals();
        Reading {
            value: slot.event.count.load(Relaxed).wrapping_add(folded.value),
            enabled: enabled + folded.enabled,
            running: running + folded.running,
            lost: slot.event.lost.load(Relaxed) + folded.lost,
        }
    };
    if event.attr.read_format & format::GROUP == 0 {
        return single(event, &one(slot));
    }
    let leader = event.leader_id();
    let mut members: Vec<_> =
        inner.slots.iter().filter(|s| s.event.leader_id() == leader).collect();
    // The leader first. Not by a stable sort, which has a scratch buffer of 4 KiB on the stack.
    if let Some(at) = members.iter().position(|s| s.event.id == leader) {
        members[..=at].rotate_right(1);
    }
    let form = event.attr.read_format;
    let first = members.first().map(|s| one(s)).unwrap_or_default();
    let mut out = alloc::vec![members.len() as u64];
    if form & format::ENABLED != 0 {
        out.push(first.enabled);
    }
    if form & format::RUNNING != 0 {
        out.push(first.running);
    }
    for member in members {
        let reading = one(member);
        out.push(reading.value);
        if form & format::ID != 0 {
            out.push(member.event.public_id());
        }
        if form & format::LOST != 0 {
            out.push(reading.lost);
        }
    }
    out
}
