//! An event: what it counts, its counts, and its inherited copies.

use super::buffer::Buffer;
use super::context::Context;
use super::slot::Slot;
use super::{EVENTS, SIDE, sideband, tally};
use crate::chain::{Chained, Link};
use crate::task::{Task, TaskRef, current};
use ::perf::attr::{Attr, flag, format, kind, software};
use ::perf::counter::State;
use ::perf::record::Side;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};
use frames::fallible::{Grow, TryMap, TryVec, ready_arc};
use fs::fasync::Fasync;
use numa::CpuId;
use sync::{IrqLock, WaitQueue};

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Time on a CPU: of the task, or of the wall.
    Clock,
    /// A software event by its number.
    Soft(u64),
    /// An event of the `numa` PMU.
    Numa(usize),
    /// A counter of the hardware, by the PMU's own code.
    Hardware(u64),
    /// Nothing: it is there for its records.
    Nothing,
}

impl Source {
    /// The unit's code of an event of the hardware.
    pub fn code(self) -> Option<u64> {
        match self {
            Self::Hardware(code) => Some(code),
            _ => None,
        }
    }

    /// What an attribute names: ENOENT when nobody counts that.
    pub fn of(attr: &Attr) -> Result<Self> {
        match attr.kind {
            kind::SOFTWARE => match attr.config {
                software::CPU_CLOCK | software::TASK_CLOCK => Ok(Self::Clock),
                software::DUMMY => Ok(Self::Nothing),
                n if n < software::MAX => Ok(Self::Soft(n)),
                _ => Err(Errno::ENOENT),
            },
            super::numa::TYPE => super::numa::event(attr).map(Self::Numa),
            kind::HARDWARE | kind::HW_CACHE | kind::RAW => {
                super::hw::code(attr).map(Self::Hardware)
            }
            _ => Err(Errno::ENOENT),
        }
    }
}

/// What read(2) gives of one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    pub value: u64,
    pub enabled: u64,
    pub running: u64,
    pub lost: u64,
}

/// An event.
pub struct Event {
    pub id: u64,
    pub attr: Attr,
    pub source: Source,
    pub cpu: Option<CpuId>,
    /// Of the group, when it is not the leader itself.
    pub leader: Option<Arc<Event>>,
    /// The members of the group that it leads, without those that were inherited.
    siblings: IrqLock<Vec<Weak<Event>>>,
    /// The event that it was inherited from (never itself inherited).
    pub parent: Option<Arc<Event>>,
    /// Frequency or period in force (PERF_EVENT_IOC_PERIOD).
    pub rate: AtomicU64,
    pub count: AtomicU64,
    pub lost: AtomicU64,
    context: IrqLock<Option<Arc<Context>>>,
    output: IrqLock<Option<Arc<Buffer>>>,
    /// The events that were inherited from it, by their ids.
    children: IrqLock<BTreeMap<u64, Weak<Event>>>,
    /// Counts of inherited events that are gone, or of its own when its task is.
    folded: IrqLock<Reading>,
    /// PERF_EVENT_IOC_REFRESH: overflows until it is disabled; 0 for no limit.
    pub limit: AtomicI64,
    /// Its task has ended.
    pub hup: AtomicBool,
    /// What a signal is about: 0 nothing, else POLL_IN or POLL_HUP.
    pub pending: AtomicI32,
    /// It is in the chain of those whose readers are to be told, or of those whose owners are.
    pub queued: AtomicBool,
    pub telling: AtomicBool,
    links: [Link<Event>; 2],
    pub waiters: Arc<WaitQueue>,
    /// Who wants signals of it.
    pub fasync: Fasync,
}

/// The chain of events whose readers are to be told.
pub struct Pending;
/// The chain of events whose owners get a signal.
pub struct Telling;

impl Chained<Pending> for Event {
    fn link(&self) -> &Link<Self> {
        &self.links[0]
    }
}

impl Chained<Telling> for Event {
    fn link(&self) -> &Link<Self> {
        &self.links[1]
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Flags of events that want records beside samples.
const SIDE_FLAGS: u64 =
    flag::MMAP | flag::MMAP2 | flag::MMAP_DATA | flag::COMM | flag::TASK | flag::CONTEXT_SWITCH;

impl Event {
    /// An event that is in no context yet.
    pub fn new(
        attr: Attr,
        source: Source,
        cpu: Option<CpuId>,
        leader: Option<Arc<Event>>,
        parent: Option<Arc<Event>>,
    ) -> Arc<Self> {
        EVENTS.fetch_add(1, Relaxed);
        tally(&source, 1);
        if attr.flags & SIDE_FLAGS != 0 {
            SIDE.fetch_add(1, Relaxed);
        }
        let event = Arc::new(Self {
            id: next_id(),
            attr,
            source,
            cpu,
            leader,
            siblings: IrqLock::new(Vec::new()),
            parent,
            rate: AtomicU64::new(attr.sample_period),
            count: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            context: IrqLock::new(None),
            output: IrqLock::new(None),
            children: IrqLock::new(BTreeMap::new()),
            folded: IrqLock::new(Reading::default()),
            limit: AtomicI64::new(0),
            hup: AtomicBool::new(false),
            pending: AtomicI32::new(0),
            queued: AtomicBool::new(false),
            telling: AtomicBool::new(false),
            links: [const { IrqLock::new(None) }; 2],
            waiters: Arc::new(WaitQueue::new()),
            fasync: Fasync::default(),
        });
        if let (Some(leader), None) = (&event.leader, &event.parent) {
            leader.siblings.lock().push(Arc::downgrade(&event));
        }
        event
    }

    /// Makes sure of what [`Event::new`] needs for one that `leader` leads. ENOMEM.
    pub fn ready(leader: Option<&Arc<Self>>) -> Result<()> {
        if let Some(leader) = leader {
            leader.siblings.lock().room_for(1)?;
        }
        ready_arc::<WaitQueue>()?;
        ready_arc::<Self>()
    }

    /// The id that its samples carry.
    pub fn public_id(&self) -> u64 {
        self.parent.as_ref().map_or(self.id, |p| p.id)
    }

    /// The group's leader.
    pub fn leader_id(&self) -> u64 {
        self.leader.as_ref().map_or(self.id, |l| l.id)
    }

    /// Where it is, until its task ends.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.context.lock().clone()
    }

    /// Puts it in a context, which has room for it: it counts if it is enabled.
    pub fn install(self: &Arc<Self>, context: &Arc<Context>) {
        self.join(context);
        context.add(self);
    }

    /// Notes the context that it is entered in.
    pub fn join(&self, context: &Arc<Context>) {
        *self.context.lock() = Some(context.clone());
    }

    /// Its buffer: an inherited event's is that of the event it came from.
    pub fn output(&self) -> Option<Arc<Buffer>> {
        self.parent.as_ref().map_or(&self.output, |p| &p.output).lock().clone()
    }

    /// Gives it a buffer, or takes it away.
    pub fn set_output(&self, buffer: Option<Arc<Buffer>>) {
        let old = core::mem::replace(&mut *self.output.lock(), buffer);
        drop(old);
    }

    /// Takes away the buffer if it is this one.
    pub fn drop_output(&self, buffer: &Arc<Buffer>) {
        let mut output = self.output.lock();
        let old = match &*output {
            Some(there) if Arc::ptr_eq(there, buffer) => output.take(),
            _ => None,
        };
        drop(output);
        drop(old);
    }

    /// Calls `f` for it and the events that were inherited from it and live.
    pub fn each_of_family(self: &Arc<Self>, f: impl Fn(&Arc<Event>)) {
        f(self);
        let mut after = self.id;
        loop {
            let children = self.children.lock();
            // A copy is younger than what it was made of.
            let mut living = children.range(after + 1..).filter_map(|(_, child)| child.upgrade());
            let next = living.next();
            drop(children);
            let Some(child) = next else { break };
            after = child.id;
            f(&child);
        }
    }

    /// True when an event that was inherited from it lives.
    fn has_children(&self) -> bool {
        self.children.lock().values().any(|child| child.strong_count() > 0)
    }

    /// What inherited events that are gone have counted.
    pub fn folded(&self) -> Reading {
        *self.folded.lock()
    }

    fn own(&self) -> Reading {
        // Not with the lock held: another CPU may have to be asked.
        let context = self.context();
        let (enabled, running) = context.map_or((0, 0), |context| context.times_of(self.id));
        let value = self.count.load(Relaxed);
        Reading { value, enabled, running, lost: self.lost.load(Relaxed) }
    }

    /// What it and those inherited from it have counted. ENOMEM.
    pub fn read(&self) -> Result<Reading> {
        let mut sum = self.own();
        // Children that end meanwhile are either still here or folded in: they fold under the
        // list's lock.
        let (folded, living) = {
            let children = self.children.lock();
            let mut living = Vec::new();
            if !children.is_empty() {
                living = Vec::with_room(children.len())?;
                living.extend(children.values().filter_map(Weak::upgrade));
            }
            (*self.folded.lock(), living)
        };
        for part in living.iter().map(|child| child.own()).chain([folded]) {
            sum.value = sum.value.wrapping_add(part.value);
            sum.enabled += part.enabled;
            sum.running += part.running;
            sum.lost += part.lost;
        }
        Ok(sum)
    }

    /// The words of read(2): of the group when the format says so. ENOMEM.
    pub fn words(self: &Arc<Self>) -> Result<Vec<u64>> {
        let form = self.attr.read_format;
        let has = |bit| form & bit != 0;
        let entry = |event: &Event, reading: &Reading, out: &mut Vec<u64>| {
            out.push(reading.value);
            if has(format::ID) {
                out.push(event.public_id());
            }
            if has(format::LOST) {
                out.push(reading.lost);
            }
        };
        let own = self.read()?;
        if !has(format::GROUP) {
            return Ok(single(self, &own));
        }
        let members = self.members()?;
        let mut out = Vec::with_room(3 + 3 * members.len())?;
        out.push(members.len() as u64);
        if has(format::ENABLED) {
            out.push(own.enabled);
        }
        if has(format::RUNNING) {
            out.push(own.running);
        }
        for member in &members {
            entry(member, &member.read()?, &mut out);
        }
        Ok(out)
    }

    /// The group that it leads, itself first; of a member only the member. ENOMEM.
    pub fn members(self: &Arc<Self>) -> Result<Vec<Arc<Event>>> {
        // Also when their task, and with it their context, is gone.
        let mut siblings = self.siblings.lock();
        siblings.retain(|event| event.strong_count() > 0);
        let mut members = Vec::with_room(1 + siblings.len())?;
        members.push(self.clone());
        members.extend(siblings.iter().filter_map(Weak::upgrade));
        Ok(members)
    }

    /// Closes it: it leaves its context, its inherited copies theirs.
    pub fn close(self: &Arc<Self>) {
        let children = core::mem::take(&mut *self.children.lock());
        for child in children.values().filter_map(Weak::upgrade) {
            child.leave();
        }
        self.leave();
        self.set_output(None);
    }

    /// Leaves its context, if it still is in one.
    pub fn leave(&self) -> Option<Slot> {
        let context = self.forget_context()?;
        context.remove(self.id)
    }

    /// Forgets its context, which is over.
    pub fn forget_context(&self) -> Option<Arc<Context>> {
        self.context.lock().take()
    }
}

/// The words of read(2) for one event.
pub fn single(event: &Event, reading: &Reading) -> Vec<u64> {
    let parts = [
        (0, reading.value),
        (format::ENABLED, reading.enabled),
        (format::RUNNING, reading.running),
        (format::ID, event.public_id()),
        (format::LOST, reading.lost),
    ];
    let form = event.attr.read_format;
    parts.iter().filter(|(bit, _)| *bit == 0 || form & bit != 0).map(|(_, word)| *word).collect()
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(root) = &self.parent {
            root.children.lock().remove(&self.id);
        }
        EVENTS.fetch_sub(1, Relaxed);
        tally(&self.source, -1);
        if self.attr.flags & SIDE_FLAGS != 0 {
            SIDE.fetch_sub(1, Relaxed);
        }
    }
}

/// Gives `child`, which has not run yet, copies of the running task's events that are inherited;
/// `thread`: it is one of the same process. ENOMEM, with none given.
pub fn inherit(child: &TaskRef, thread: bool) -> Result<()> {
    let Some(context) = current().perf.context() else { return Ok(()) };
    let wanted = context.events_that(|event| {
        event.attr.has(flag::INHERIT) && (thread || !event.attr.has(flag::INHERIT_THREAD))
    })?;
    if wanted.is_empty() {
        return Ok(());
    }
    let target = child.perf.context_or_new(child)?;
    // By the id of what they were made of: leaders are asked for.
    let mut copies: BTreeMap<u64, Arc<Event>> = BTreeMap::new();
    for (event, state) in wanted {
        let root = event.parent.as_ref().unwrap_or(&event);
        let leader = event.leader.as_ref().and_then(|leader| copies.get(&leader.id).cloned());
        let mut attr = event.attr;
        // A copy begins as the original is now.
        attr.flags &= !flag::DISABLED;
        if state <= State::Off {
            attr.flags |= flag::DISABLED;
        }
        Event::ready(None)?;
        let copy = Event::new(attr, event.source, event.cpu, leader, Some(root.clone()));
        copy.rate.store(event.rate.load(Relaxed), Relaxed);
        root.children.lock().try_insert_in(copy.id, Arc::downgrade(&copy))?;
        copies.try_insert_in(event.id, copy)?;
    }
    target.add_all(&copies)
}

/// The events of a child that never ran go.
pub fn abandon(child: &TaskRef) {
    let Some(context) = child.perf.take() else { return };
    for slot in context.end() {
        slot.event.forget_context();
    }
}

/// The running task's context is over: what was counted goes to where it is read.
pub fn task_ends(task: &Task, context: &Arc<Context>) {
    for slot in context.end() {
        let event = &slot.event;
        let (enabled, running) = slot.times.totals();
        let lost = event.lost.load(Relaxed);
        let value = event.count.load(Relaxed);
        let reading = Reading { value, enabled, running, lost };
        match &event.parent {
            Some(root) => {
                if event.attr.has(flag::INHERIT_STAT) {
                    let words = single(event, &reading);
                    let (pid, tid) = (task.pid() as u32, task.tid() as u32);
                    let values = Side::Read { pid, tid, values: &words };
                    sideband::emit(event, task, &values);
                }
                let mut children = root.children.lock();
                // A closed root has forgotten its children.
                if children.remove(&event.id).is_some() {
                    let mut folded = root.folded.lock();
                    folded.value = folded.value.wrapping_add(reading.value);
                    folded.enabled += reading.enabled;
                    folded.running += reading.running;
                    folded.lost += reading.lost;
                }
                drop(children);
                event.forget_context();
            }
            None => {
                {
                    let mut folded = event.folded.lock();
                    folded.enabled += reading.enabled;
                    folded.running += reading.running;
                }
                event.forget_context();
            }
        }
        let root = event.parent.as_ref().unwrap_or(event);
        // The last copy's end is the end of what can happen.
        if root.context().is_none() && !root.has_children() {
            root.hup.store(true, Relaxed);
            root.waiters.wake_all();
            if let Some(buffer) = root.output() {
                buffer.waiters.wake_all();
            }
        }
    }
}

/// exec: events that wait for it begin; those that must not outlive it go.
pub fn enable_on_exec(context: &Arc<Context>) {
    while let Some(event) = context.first_that(|event| event.attr.has(flag::REMOVE_ON_EXEC)) {
        if event.leave().is_none() {
            break;
        }
    }
    context.enable_on_exec();
}
