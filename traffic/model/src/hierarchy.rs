//! One access through the caches: where it ended, and what had to be written back for it.
//!
//! Caches are neither inclusive nor exclusive: a fill goes into all levels, a dirty line that must
//! go moves down. Reading a line that another CPU has modified makes that CPU's copy clean: on the
//! same node the shared cache takes the data, from another node memory does too. A clean line is
//! given by whichever is nearer: the cache that holds it, or memory.

use crate::cache::{Line, Private, Shared, Way};
use crate::directory::{Directory, Entry, State};
use crate::geometry::Caches;

/// Where an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    L1,
    L2,
    L3,
    /// A cache of this node, not modified or modified: another CPU's, by its number.
    Near {
        holder: usize,
        modified: bool,
    },
    /// A cache of another node.
    Far {
        holder: usize,
        modified: bool,
    },
    /// Memory of the line's home.
    Memory,
}

/// What all CPUs share.
pub struct Machine {
    pub directory: Directory,
    /// A cache for each node.
    l3: Vec<Shared>,
    /// The node of each CPU.
    pub node_of: Vec<usize>,
    distances: Vec<Vec<u32>>,
    pub caches: Caches,
}

impl Machine {
    pub fn new(memory: u64, node_of: &[usize], distances: &[Vec<u32>], caches: Caches) -> Self {
        Self {
            directory: Directory::new(memory, node_of.len()),
            l3: distances.iter().map(|_| Shared::new(caches.l3)).collect(),
            node_of: node_of.to_vec(),
            distances: distances.to_vec(),
            caches,
        }
    }

    fn distance(&self, from: usize, to: usize) -> u32 {
        self.distances.get(from).and_then(|row| row.get(to)).copied().unwrap_or(u32::MAX)
    }
}

/// A dirty line that went to memory: whose node's cache gave it up, and which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBack {
    pub from: usize,
    pub line: Line,
}

/// What an access did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    pub outcome: Outcome,
    /// A write to a line that others had copies of.
    pub invalidates: bool,
    pub write_backs: [Option<WriteBack>; 3],
}

/// The caches of one CPU.
pub struct Core {
    cpu: usize,
    node: usize,
    l1: Private,
    l2: Private,
}

impl Core {
    pub fn new(machine: &Machine, cpu: usize) -> Self {
        Self {
            cpu,
            node: machine.node_of.get(cpu).copied().unwrap_or(0),
            l1: Private::new(machine.caches.l1),
            l2: Private::new(machine.caches.l2),
        }
    }

    /// True when the access ends in L1 without any other effect: the common case, done.
    #[inline(always)]
    pub fn hits(&mut self, machine: &Machine, line: Line, store: bool) -> bool {
        let Some(way) = self.l1.find(line) else { return false };
        let entry = machine.directory.get(line);
        if way.version() != entry.version {
            return false;
        }
        if store {
            if entry.state != State::Modified || entry.holder != self.cpu {
                return false;
            }
            if !way.is_dirty() {
                self.l1.rewrite(Way::new(line, entry.version, true));
            }
        }
        true
    }

    /// An access that [`Self::hits`] did not end. `home`: the node whose memory has the line.
    pub fn access(&mut self, machine: &Machine, line: Line, store: bool, home: usize) -> Effect {
        let mut entry = machine.directory.get(line);
        let mut backs = Backs::default();
        let outcome = self.find(machine, line, home, entry);
        let mut invalidates = false;
        if store {
            let mine = entry.holder == self.cpu;
            if !(entry.state == State::Modified && mine) {
                invalidates = match entry.state {
                    State::Shared => true,
                    State::Exclusive | State::Modified => !mine,
                    State::Memory => false,
                };
                entry = machine.directory.written(entry, self.cpu);
            }
        } else {
            entry = self.read(machine, line, entry, outcome, &mut backs);
        }
        machine.directory.set(line, entry);
        self.fill(machine, line, entry, store, outcome, &mut backs);
        Effect { outcome, invalidates, write_backs: backs.0 }
    }

    fn find(&mut self, machine: &Machine, line: Line, home: usize, entry: Entry) -> Outcome {
        let current = |way: Way| way.version() == entry.version;
        if self.l1.find(line).is_some_and(current) {
            return Outcome::L1;
        }
        if self.l2.find(line).is_some_and(current) {
            return Outcome::L2;
        }
        // What another CPU has modified is here only if it was written back to here.
        let elsewhere = entry.state == State::Modified && entry.holder != self.cpu;
        let here = |way: Way| current(way) && (way.is_dirty() || !elsewhere);
        if machine.l3[self.node].find(line).is_some_and(here) {
            return Outcome::L3;
        }
        if entry.state == State::Memory || entry.holder == self.cpu {
            return Outcome::Memory;
        }
        let holder = entry.holder;
        let node = machine.node_of.get(holder).copied().unwrap_or(self.node);
        let modified = entry.state == State::Modified;
        if node == self.node {
            Outcome::Near { holder, modified }
        } else if modified || machine.distance(self.node, node) < machine.distance(self.node, home)
        {
            Outcome::Far { holder, modified }
        } else {
            Outcome::Memory
        }
    }

    /// The entry after a read that ended at `outcome`.
    fn read(
        &self,
        machine: &Machine,
        line: Line,
        entry: Entry,
        outcome: Outcome,
        backs: &mut Backs,
    ) -> Entry {
        let mine = entry.holder == self.cpu;
        match entry.state {
            State::Memory => Entry { state: State::Exclusive, holder: self.cpu, ..entry },
            State::Exclusive if !mine => Entry { state: State::Shared, ..entry },
            State::Modified if !mine => {
                if matches!(outcome, Outcome::Far { .. }) {
                    let from = machine.node_of.get(entry.holder).copied().unwrap_or(self.node);
                    backs.add(WriteBack { from, line });
                }
                Entry { state: State::Shared, ..entry }
            }
            State::Exclusive | State::Shared | State::Modified => entry,
        }
    }

    fn fill(
        &mut self,
        machine: &Machine,
        line: Line,
        entry: Entry,
        store: bool,
        outcome: Outcome,
        backs: &mut Backs,
    ) {
        let way = Way::new(line, entry.version, store);
        if outcome == Outcome::L1 {
            self.l1.rewrite(way);
            return;
        }
        let gone = self.l1.fill(way);
        if gone.is_dirty() && self.is_latest(machine, gone) {
            self.lower(machine, gone, backs);
        }
        if self.l2.is_there() && outcome != Outcome::L2 {
            let gone = self.l2.fill(Way::new(line, entry.version, false));
            if gone.is_dirty() && self.is_latest(machine, gone) {
                self.share(machine, gone, backs);
            }
        }
        if !matches!(outcome, Outcome::L2 | Outcome::L3) {
            // What another CPU of this node had modified is nowhere else but here.
            let dirty = matches!(outcome, Outcome::Near { modified: true, .. }) && !store;
            self.share(machine, Way::new(line, entry.version, dirty), backs);
        }
    }

    /// Whether a dirty way is still this CPU's to write back.
    fn is_latest(&self, machine: &Machine, way: Way) -> bool {
        let entry = machine.directory.get(way.line());
        entry.version == way.version() && entry.state == State::Modified && entry.holder == self.cpu
    }

    /// A dirty line leaves L1.
    fn lower(&mut self, machine: &Machine, way: Way, backs: &mut Backs) {
        if !self.l2.is_there() {
            return self.share(machine, way, backs);
        }
        let gone = self.l2.fill(way);
        if gone.is_dirty() && self.is_latest(machine, gone) {
            self.share(machine, gone, backs);
        }
    }

    /// A line goes into the node's cache.
    fn share(&self, machine: &Machine, way: Way, backs: &mut Backs) {
        let gone = machine.l3[self.node].fill(way);
        if gone.is_none() {
            return;
        }
        let line = gone.line();
        let entry = machine.directory.get(line);
        if entry.version != gone.version() {
            return;
        }
        if gone.is_dirty() {
            backs.add(WriteBack { from: self.node, line });
            machine.directory.set(line, Entry { state: State::Memory, ..entry });
        } else if matches!(entry.state, State::Exclusive | State::Shared)
            && machine.node_of.get(entry.holder) == Some(&self.node)
        {
            machine.directory.set(line, Entry { state: State::Memory, ..entry });
        }
    }
}

/// At most one for the line that is read, one each for those that leave L2 and L3.
#[derive(Default)]
struct Backs([Option<WriteBack>; 3]);

impl Backs {
    fn add(&mut self, back: WriteBack) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(back);
        }
    }
}
