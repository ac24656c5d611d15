//! Everything that one run counts: what the plugin's callbacks call.
//!
//! [`Cpu`] is a CPU's own and used by its thread alone; [`Recorder`] is shared. An access neither
//! locks nor allocates; messages do both, and come at task switches.

use crate::bell::{Decoder, Message};
use crate::cache::Line;
use crate::contended::{Contended, Touch};
use crate::geometry::{Caches, LINE_SHIFT};
use crate::hierarchy::{Core, Effect, Machine, Outcome};
use crate::known::{Entry, Found, Known};
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

/// Counts of an instruction, as they are made: one for each access ([`heat_of`] sums them up), and
/// the last two kinds of access.
pub type CodeHeat = [u64; 8];

/// Where in a [`CodeHeat`] an access counts, and lines from own and from other nodes' memory.
#[inline(always)]
fn code_field(store: bool, far: bool) -> usize {
    usize::from(store) | usize::from(far) << 1
}
const CODE_LINES: usize = 4;
/// An instruction that loads and stores, as an addition to memory does, has two kinds.
const CODE_KINDS: [usize; 2] = [6, 7];

/// The emulator's word for size and direction of an access, with what it means.
fn kind_word(access: &Access) -> u64 {
    (u64::from(access.kind) + 1) << 24 | u64::from(access.store) << 16 | access.size
}

/// Bytes, and whether it is a store.
#[inline(always)]
fn meaning(word: u64) -> (u64, bool) {
    (word & 0xffff, word & 1 << 16 != 0)
}

/// An instruction's counts in the order of [`heat`].
pub fn heat_of(code: &CodeHeat) -> Heat {
    let [near_loads, near_stores, far_loads, far_stores, near_lines, far_lines, ..] = *code;
    let far = far_loads + far_stores;
    let writes = near_stores + far_stores;
    [near_loads + near_stores + far, writes, far, near_lines + far_lines, far_lines]
}

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
pub struct Seen {
    pub who: Who,
    /// The instruction's number.
    pub code: u32,
    /// The emulator's word for size and direction: equal words mean the same.
    pub kind: u32,
    pub address: u64,
}

/// An access of which everything is known.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub who: Who,
    /// The instruction's number.
    pub code: u32,
    pub kind: u32,
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
    /// What has arrived of a path.
    path: Vec<u8>,
    blocks: u64,
    nodes: usize,
    /// By task.
    pub sums: Vec<Option<Sums>>,
    /// Dirty lines to memory: from node, to node.
    pub write_backs: Vec<u64>,
    /// By place in [`Pages`].
    pub pages: Box<[Heat]>,
    /// By instruction.
    pub codes: Box<[CodeHeat]>,
    known: Known,
    /// Accesses that ended in L1, the program's and the kernel's.
    hits: [u64; 2],
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
            path: Vec::new(),
            blocks: 0,
            nodes,
            sums: vec![Some(Sums::new(nodes))],
            write_backs: vec![0; nodes * nodes],
            pages: zeroed(recorder.pages.places()),
            codes: zeroed(MOST_CODES),
            known: Known::default(),
            hits: [0; 2],
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
            Kind::END => {
                recorder.state.store(state::OVER, Relaxed);
                self.forget();
            }
            _ => {}
        }
    }

    fn hear_kernel(&mut self, recorder: &Recorder, message: &Message) {
        let [first, second, third, fourth] = message.arguments;
        recorder.told.store(1, Relaxed);
        match message.command {
            Kind::TIME => recorder.clock.store(first, Relaxed),
            Kind::SWITCH => self.switch(recorder, first as u32, second as u32, third),
            Kind::CLONE => recorder.registry().born(first as u32, self.task),
            Kind::FORK => recorder.registry().copied(first, second),
            Kind::PATH => self.path.extend(message.arguments.iter().flat_map(|w| w.to_be_bytes())),
            Kind::MAP => {
                let mut path = std::mem::take(&mut self.path);
                path.retain(|&byte| byte != 0);
                let path = String::from_utf8_lossy(&path);
                recorder.registry().mapped(first, second, third, fourth, &path);
            }
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
        self.forget();
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

    /// Counts an access whose page and kind are known, and which, if there are caches, ends in L1:
    /// false for all others, which [`Self::access`] is for. What is known is of a task that is
    /// looked at; sampling is not for here.
    #[inline(always)]
    pub fn quick(&mut self, recorder: &Recorder, access: &Seen, modelled: bool) -> bool {
        let Some(code) = self.codes.get_mut(access.code as usize) else { return false };
        let kind = u64::from(access.kind) + 1;
        let [first, second] = CODE_KINDS.map(|at| code[at]);
        let word = if first >> 24 == kind { first } else { second };
        let (size, store) = meaning(word);
        let number = access.address >> 12;
        let Some(entry) = self.known.find(access.who, number, store) else { return false };
        if word >> 24 != kind {
            return false;
        }
        if modelled {
            let offset = entry.offset | access.address & 0xfff;
            let line = offset >> LINE_SHIFT;
            if (offset + size - 1) >> LINE_SHIFT != line
                || !self.core.hits(&recorder.machine, line, store)
            {
                return false;
            }
            self.hits[access.who as usize] += 1;
        }
        entry.count(size, store);
        code[code_field(store, entry.far)] += 1;
        true
    }

    /// Counts an access that [`Self::wants`] wanted. `ask`: where the emulator says that it went,
    /// None for what is no memory.
    pub fn access(
        &mut self,
        recorder: &Recorder,
        access: &Access,
        ask: impl FnOnce() -> Option<u64>,
    ) {
        let number = access.address >> 12;
        if self.known.find(access.who, number, access.store).is_none()
            && !self.learn(recorder, access, ask())
        {
            return;
        }
        let Some(entry) = self.known.find(access.who, number, access.store) else { return };
        entry.count(access.size, access.store);
        let place =
            Place { node: usize::from(entry.node), offset: entry.offset | access.address & 0xfff };
        let page = entry.place();
        if let Some(code) = self.codes.get_mut(access.code as usize) {
            code[code_field(access.store, entry.far)] += 1;
            let [first, second] = CODE_KINDS;
            let word = kind_word(access);
            if code[first] != word {
                (code[second], code[first]) = (code[first], word);
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

    /// Finds out where an access went: false when it is no memory.
    #[inline(never)]
    fn learn(&mut self, recorder: &Recorder, access: &Access, reported: Option<u64>) -> bool {
        let Some(place) = reported.and_then(|reported| recorder.map.find(reported)) else {
            if let Some(Some(sums)) = self.sums.get_mut(self.task) {
                *sums.all(access.who, all::ELSEWHERE) += 1;
            }
            return false;
        };
        let number = access.address >> 12;
        let page = (access.who == Who::User)
            .then(|| recorder.pages.place(Page { space: self.space, number }))
            .flatten();
        let which = (access.who, number, access.store);
        if let Some(old) = self.known.learn(self.node, which, Found { place, page }) {
            self.add_up(&old);
        }
        true
    }

    /// The guest's kernel has flushed its TLB, or another task comes.
    pub fn forget(&mut self) {
        while let Some(entry) = self.known.take() {
            self.add_up(&entry);
        }
        let hits = std::mem::take(&mut self.hits);
        if let Some(Some(sums)) = self.sums.get_mut(self.task) {
            Who::ALL.iter().zip(hits).for_each(|(&who, count)| *sums.all(who, all::L1) += count);
        }
    }

    /// Adds what was done to a page to the running task's sums and to the page's.
    fn add_up(&mut self, entry: &Entry) {
        let ([reads, writes], [read, written]) = (entry.counts, entry.bytes);
        let far = if entry.far { reads + writes } else { 0 };
        self.counted.0 += reads + writes;
        self.counted.1 += far;
        if let Some(Some(sums)) = self.sums.get_mut(self.task) {
            for (field, count) in [
                (node::READS, reads),
                (node::WRITES, writes),
                (node::READ_BYTES, read),
                (node::WRITE_BYTES, written),
            ] {
                *sums.at(entry.who, usize::from(entry.node), field) += count;
            }
        }
        if let Some(heat) = entry.place().and_then(|place| self.pages.get_mut(place)) {
            heat[heat::ACCESSES] += reads + writes;
            heat[heat::WRITES] += writes;
            heat[heat::REMOTE] += far;
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
            self.hits[access.who as usize] += 1;
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
                let remote = place.node != self.node;
                if let Some(heat) = page.and_then(|page| self.pages.get_mut(page)) {
                    heat[heat::LINES] += 1;
                    heat[heat::REMOTE_LINES] += u64::from(remote);
                }
                if let Some(heat) = self.codes.get_mut(access.code as usize) {
                    heat[CODE_LINES + usize::from(remote)] += 1;
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
