//! Everything that one run counts: what the plugin's callbacks call.
//!
//! [`Cpu`] is a CPU's own and used by its thread alone; [`Recorder`] is shared. An access neither
//! locks nor allocates; messages do both, and come at task switches.

use crate::bell::{Decoder, Message};
use crate::cache::Line;
use crate::contended::{Contended, Touch};
use crate::geometry::{Caches, LINE_SHIFT};
use crate::hierarchy::{Core, Effect, Machine, Outcome};
use crate::pages::{Page, Pages};
use crate::ram::{Map, Place};
use crate::registry::Registry;
use crate::sums::{Sums, Who, all, node};
use crate::zeroed::zeroed;
use abi::doorbell::Kind;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Instructions that are told apart; what comes later counts for number 0.
pub const MOST_CODES: usize = 1 << 20;
/// Stretches of time that a CPU remembers.
const MOST_SPANS: usize = 1 << 16;
/// Accesses in a block of time, for sampling.
const BLOCK_SHIFT: u32 = 16;

/// What the host tool asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Bytes of each node.
    pub memory: Vec<u64>,
    /// The node of each CPU.
    pub node_of: Vec<usize>,
    pub distances: Vec<Vec<u32>>,
    /// None: accesses are counted, caches are not modelled.
    pub caches: Option<Caches>,
    /// One of so many blocks of time is looked at.
    pub sample: u64,
    /// The kernel's accesses are left out, also of the caches.
    pub user_only: bool,
}

/// Who is looked at.
mod state {
    /// Nobody.
    pub const OFF: u8 = 0;
    /// Tasks that the kernel tells.
    pub const TOLD: u8 = 1;
    /// All user code: the kernel tells nothing.
    pub const UNTOLD: u8 = 2;
    /// It is over.
    pub const OVER: u8 = 3;
}

pub struct Recorder {
    pub wish: Wish,
    pub machine: Machine,
    pub map: Map,
    pub pages: Pages,
    registry: Mutex<Registry>,
    state: AtomicU8,
    /// The kernel has rung: it tells which task runs.
    pub told: AtomicU8,
    /// The guest's clock at the last switch, ns.
    pub clock: AtomicU64,
    problems: Mutex<Vec<String>>,
}

/// Counts of a page or of an instruction: [`heat`].
pub type Heat = [u64; heat::FIELDS];

pub mod heat {
    pub const ACCESSES: usize = 0;
    pub const WRITES: usize = 1;
    /// Accesses to another node's memory.
    pub const REMOTE: usize = 2;
    /// Lines that came from memory, and those from another node's.
    pub const LINES: usize = 3;
    pub const REMOTE_LINES: usize = 4;
    pub const FIELDS: usize = 5;
}

/// A task's time on a CPU, in the guest's ns, with what it did then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub task: usize,
    pub begin: u64,
    pub end: u64,
    pub accesses: u64,
    pub remote: u64,
}

impl Recorder {
    pub fn new(wish: Wish) -> Self {
        let total: u64 = wish.memory.iter().sum();
        // Without a model the directory is never looked at, and costs nothing.
        let caches = wish.caches.unwrap_or(Caches {
            l1: crate::geometry::Geometry::NONE,
            l2: crate::geometry::Geometry::NONE,
            l3: crate::geometry::Geometry::NONE,
        });
        Self {
            machine: Machine::new(total, &wish.node_of, &wish.distances, caches),
            map: Map::new(&wish.memory),
            pages: Pages::new(total / 4096),
            registry: Mutex::default(),
            state: AtomicU8::new(state::OFF),
            told: AtomicU8::new(0),
            clock: AtomicU64::new(0),
            problems: Mutex::default(),
            wish,
        }
    }

    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn problem(&self, what: String) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < 16 {
            problems.push(what);
        }
    }

    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a program was begun to be measured, and whether that has ended.
    pub fn progress(&self) -> (bool, bool) {
        let state = self.state.load(Relaxed);
        (state != state::OFF, state == state::OVER)
    }

    /// The address space that code translated on `cpu` belongs to.
    pub fn is_told(&self) -> bool {
        self.told.load(Relaxed) != 0
    }
}

/// An access as the emulator reports it.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub who: Who,
    /// The instruction's number.
    pub code: u32,
    pub address: u64,
    pub size: u64,
    pub store: bool,
}

pub struct Cpu {
    pub number: usize,
    pub node: usize,
    core: Core,
    measured: bool,
    task: usize,
    pub space: u32,
    since: u64,
    counted: (u64, u64),
    user: Decoder,
    kernel: Decoder,
    learning: Option<(usize, u64)>,
    blocks: u64,
    nodes: usize,
    /// By task.
    pub sums: Vec<Option<Sums>>,
    /// Dirty lines to memory: from node, to node.
    pub write_backs: Vec<u64>,
    /// By place in [`Pages`].
    pub pages: Box<[Heat]>,
    /// By instruction.
    pub codes: Box<[Heat]>,
    pub spans: Vec<Span>,
    pub contended: Contended,
}

impl Cpu {
    pub fn new(recorder: &Recorder, number: usize) -> Self {
        let nodes = recorder.wish.memory.len();
        Self {
            number,
            node: recorder.wish.node_of.get(number).copied().unwrap_or(0),
            core: Core::new(&recorder.machine, number),
            measured: false,
            task: 0,
            space: 0,
            since: 0,
            counted: (0, 0),
            user: Decoder::default(),
            kernel: Decoder::default(),
            learning: None,
            blocks: 0,
            nodes,
            sums: vec![Some(Sums::new(nodes))],
            write_backs: vec![0; nodes * nodes],
            pages: zeroed(recorder.pages.places()),
            codes: zeroed(MOST_CODES),
            spans: Vec::new(),
            contended: Contended::default(),
        }
    }

    /// A ring of the doorbell. `reported`: where the emulator says that the page is.
    pub fn ring(
        &mut self,
        recorder: &Recorder,
        kind: Kind,
        who: Who,
        address: u64,
        reported: Option<u64>,
    ) {
        if kind == Kind::TOUCH {
            return self.touch(recorder, reported);
        }
        let decoder = match who {
            Who::User => &mut self.user,
            Who::Kernel => &mut self.kernel,
        };
        if let Some(message) = decoder.take(kind, address) {
            match who {
                Who::User => self.hear_init(recorder, &message),
                Who::Kernel => self.hear_kernel(recorder, &message),
            }
        }
    }

    fn touch(&mut self, recorder: &Recorder, reported: Option<u64>) {
        let Some((node, address)) = self.learning.take() else { return };
        let learnt = match reported {
            Some(reported) => recorder.map.learn(node, address, reported),
            None => Err(format!("the page of node {node} is no memory")),
        };
        if let Err(why) = learnt {
            recorder.problem(why);
        }
    }

    fn hear_init(&mut self, recorder: &Recorder, message: &Message) {
        let [first, second, ..] = message.arguments;
        match message.command {
            Kind::LEARN => self.learning = Some((second as usize, first)),
            Kind::START if recorder.state.load(Relaxed) == state::OFF => {
                if recorder.is_told() {
                    let mut registry = recorder.registry();
                    registry.root = Some(self.task);
                    if let Some(task) = registry.get(self.task) {
                        task.measured = true;
                    }
                    drop(registry);
                    self.measured = true;
                    self.make_sums();
                    recorder.state.store(state::TOLD, Relaxed);
                } else {
                    recorder.state.store(state::UNTOLD, Relaxed);
                }
            }
            Kind::END => recorder.state.store(state::OVER, Relaxed),
            _ => {}
        }
    }

    fn hear_kernel(&mut self, recorder: &Recorder, message: &Message) {
        let [first, second, third, _] = message.arguments;
        recorder.told.store(1, Relaxed);
        match message.command {
            Kind::TIME => recorder.clock.store(first, Relaxed),
            Kind::SWITCH => self.switch(recorder, first as u32, second as u32, third),
            Kind::CLONE => recorder.registry().born(first as u32, self.task),
            Kind::EXIT => recorder.registry().ended(self.task),
            Kind::NAME => {
                let mut bytes = second.to_be_bytes().to_vec();
                bytes.extend(third.to_be_bytes());
                bytes.retain(|&byte| byte != 0);
                let mut registry = recorder.registry();
                let task = registry.task(first as u32);
                if let Some(task) = registry.get(task) {
                    task.name = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
            _ => {}
        }
    }

    /// The CPU goes over to another task, or to another address space of the same.
    fn switch(&mut self, recorder: &Recorder, tid: u32, pid: u32, space: u64) {
        let now = recorder.clock.load(Relaxed);
        if self.measured && recorder.state.load(Relaxed) == state::TOLD {
            self.end_span(now);
        }
        let mut registry = recorder.registry();
        self.task = registry.task(tid);
        self.space = registry.space(space);
        let root = registry.root == Some(self.task);
        if root && space != 0 {
            registry.root_space = Some(self.space);
        }
        self.measured = registry.get(self.task).is_some_and(|task| {
            task.pid = pid;
            task.measured && tid != 0
        });
        drop(registry);
        if self.measured {
            self.make_sums();
        }
        self.since = now;
        self.counted = (0, 0);
    }

    /// The running task's sums on this CPU, where there are none yet.
    fn make_sums(&mut self) {
        if self.sums.len() <= self.task {
            self.sums.resize(self.task + 1, None);
        }
        self.sums[self.task].get_or_insert_with(|| Sums::new(self.nodes));
    }

    fn end_span(&mut self, now: u64) {
        let (accesses, remote) = self.counted;
        if accesses == 0 || self.spans.len() >= MOST_SPANS {
            return;
        }
        let (task, begin) = (self.task, self.since);
        self.spans.push(Span { task, begin, end: now.max(begin), accesses, remote });
    }

    /// Whether this CPU's next access is looked at.
    #[inline(always)]
    pub fn wants(&mut self, recorder: &Recorder, who: Who) -> bool {
        let wanted = match recorder.state.load(Relaxed) {
            state::TOLD => self.measured && (who == Who::User || !recorder.wish.user_only),
            state::UNTOLD => who == Who::User,
            _ => false,
        };
        if !wanted || recorder.wish.sample <= 1 {
            return wanted;
        }
        self.blocks += 1;
        (self.blocks >> BLOCK_SHIFT).is_multiple_of(recorder.wish.sample)
    }

    /// Counts an access that [`Self::wants`] wanted. `reported`: None for what is no memory.
    #[inline(always)]
    pub fn access(&mut self, recorder: &Recorder, access: &Access, reported: Option<u64>) {
        let place = reported.and_then(|reported| recorder.map.find(reported));
        let Some(Some(sums)) = self.sums.get_mut(self.task) else { return };
        let Some(place) = place else {
            *sums.all(access.who, all::ELSEWHERE) += 1;
            return;
        };
        let (count, bytes) = if access.store {
            (node::WRITES, node::WRITE_BYTES)
        } else {
            (node::READS, node::READ_BYTES)
        };
        *sums.at(access.who, place.node, count) += 1;
        *sums.at(access.who, place.node, bytes) += access.size;
        let remote = u64::from(place.node != self.node);
        self.counted.0 += 1;
        self.counted.1 += remote;
        let add = |heat: &mut Heat| {
            heat[heat::ACCESSES] += 1;
            heat[heat::WRITES] += u64::from(access.store);
            heat[heat::REMOTE] += remote;
        };
        if let Some(heat) = self.codes.get_mut(access.code as usize) {
            add(heat);
        }
        let mut page = None;
        if access.who == Who::User {
            let number = access.address >> 12;
            page = recorder.pages.place(Page { space: self.space, number });
            if let Some(heat) = page.and_then(|page| self.pages.get_mut(page)) {
                add(heat);
            }
        }
        if recorder.wish.caches.is_some() {
            let first = place.offset >> LINE_SHIFT;
            let last = (place.offset + access.size - 1) >> LINE_SHIFT;
            self.line(recorder, access, place, first, page);
            if last != first {
                self.line(recorder, access, place, last, page);
            }
        }
    }

    #[inline(always)]
    fn line(
        &mut self,
        recorder: &Recorder,
        access: &Access,
        place: Place,
        line: Line,
        page: Option<usize>,
    ) {
        if self.core.hits(&recorder.machine, line, access.store) {
            if let Some(Some(sums)) = self.sums.get_mut(self.task) {
                *sums.all(access.who, all::L1) += 1;
            }
            return;
        }
        let effect = self.core.access(&recorder.machine, line, access.store, place.node);
        self.count(recorder, access, place, line, page, &effect);
    }

    /// Counts what a line cost beyond L1.
    #[inline(never)]
    fn count(
        &mut self,
        recorder: &Recorder,
        access: &Access,
        place: Place,
        line: Line,
        page: Option<usize>,
        effect: &Effect,
    ) {
        for back in effect.write_backs.iter().flatten() {
            // Memory of one node lies in one piece.
            let home = home_of(&recorder.wish.memory, back.line);
            if let Some(count) = self.write_backs.get_mut(back.from * self.nodes + home) {
                *count += 1;
            }
        }
        let Some(Some(sums)) = self.sums.get_mut(self.task) else { return };
        let who = access.who;
        if effect.invalidates {
            *sums.all(who, all::INVALIDATIONS) += 1;
        }
        let mut contended = effect.invalidates;
        match effect.outcome {
            Outcome::L1 => *sums.all(who, all::L1) += 1,
            Outcome::L2 => *sums.all(who, all::L2) += 1,
            Outcome::L3 => *sums.all(who, all::L3) += 1,
            Outcome::Near { holder, modified } | Outcome::Far { holder, modified } => {
                contended |= modified;
                let from = recorder.machine.node_of.get(holder).copied().unwrap_or(self.node);
                let field = if modified { node::CACHE_MODIFIED } else { node::CACHE_CLEAN };
                *sums.at(who, from, field) += 1;
            }
            Outcome::Memory => {
                let field = if access.store { node::LINES_WRITE } else { node::LINES_READ };
                *sums.at(who, place.node, field) += 1;
                let remote = u64::from(place.node != self.node);
                let pages = page.and_then(|page| self.pages.get_mut(page));
                for heat in pages.into_iter().chain(self.codes.get_mut(access.code as usize)) {
                    heat[heat::LINES] += 1;
                    heat[heat::REMOTE_LINES] += remote;
                }
            }
        }
        if contended && who == Who::User {
            // An access over a line's end is its first line's.
            let address = if line == place.offset >> LINE_SHIFT {
                access.address
            } else {
                (access.address | 63) + 1
            };
            let Access { size, store, code, .. } = *access;
            self.contended.add(&Touch { line, space: self.space, address, size, store, code });
        }
    }
}

/// The node whose memory holds `line`.
fn home_of(memory: &[u64], line: Line) -> usize {
    let mut rest = line << LINE_SHIFT;
    for (node, &size) in memory.iter().enumerate() {
        match rest.checked_sub(size) {
            None => return node,
            Some(beyond) => rest = beyond,
        }
    }
    0
}
