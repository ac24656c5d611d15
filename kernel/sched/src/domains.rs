//! Which CPU a task goes to, and where an idle one finds work: by distance between nodes.
//!
//! A domain is a node's CPUs; around it lie the other nodes, nearest first. Near means that the
//! CPU has a short way to the memory of the node in question. Nothing here changes a queue: the
//! answers are proposals, made from loads that other CPUs are changing meanwhile, and the caller
//! checks what must hold (affinity) under the queue's lock.

use alloc::vec::Vec;
use numa::{CpuId, CpuMask, Machine, NodeId};

/// What the decisions know of the run queues: hints, read without locks.
pub trait Loads {
    /// Whether `cpu` has nothing to run.
    fn is_idle(&self, cpu: CpuId) -> bool;

    /// The CPUs that have nothing to run.
    fn idle(&self) -> CpuMask;

    /// The CPUs on which tasks wait.
    fn overloaded(&self) -> CpuMask;

    /// The weights of the ready tasks of `cpu` (see [`crate::RunQueue::load`]).
    fn load(&self, cpu: CpuId) -> u64;

    /// The real-time priority of what runs on `cpu`; 0 for a fair task or none.
    fn running_priority(&self, cpu: CpuId) -> u8;
}

/// A task that needs a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Where it may run: at least one CPU that is there.
    pub allowed: CpuMask,
    /// Where it ran last; for a new task, where its maker runs.
    pub last: CpuId,
    /// The node to which its memory draws it; `None` for wherever it ran last.
    pub preferred: Option<NodeId>,
    /// Its weight as load.
    pub weight: u64,
    /// Its real-time priority; 0 for a fair task.
    pub priority: u8,
}

/// The loads without one task of a weight that runs on a CPU.
struct Without<'a, L> {
    loads: &'a L,
    cpu: CpuId,
    weight: u64,
}

impl<L: Loads> Loads for Without<'_, L> {
    fn is_idle(&self, cpu: CpuId) -> bool {
        self.loads.is_idle(cpu)
    }
    fn idle(&self) -> CpuMask {
        self.loads.idle()
    }
    fn overloaded(&self) -> CpuMask {
        self.loads.overloaded()
    }
    fn load(&self, cpu: CpuId) -> u64 {
        let load = self.loads.load(cpu);
        if cpu == self.cpu { load.saturating_sub(self.weight) } else { load }
    }
    fn running_priority(&self, cpu: CpuId) -> u8 {
        self.loads.running_priority(cpu)
    }
}

/// A proposal to even out load between two CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The CPU with too much.
    pub from: CpuId,
    /// By how much its load is above the other's.
    pub gap: u64,
}

impl Pull {
    /// Whether moving a task of this weight leaves the two closer than they were. One as heavy as
    /// the gap would only change their places.
    #[must_use]
    pub const fn improves(&self, weight: u64) -> bool {
        weight < self.gap
    }
}

/// By how much (in percent) a load must exceed another, `distance` away, before it is worth
/// moving: 112 within a node, 125 at the usual distance of 20, more beyond.
const fn threshold(distance: u8) -> u64 {
    100 + 5 * distance as u64 / 4
}

/// The machine's CPUs by nearness.
#[derive(Debug)]
pub struct Domains {
    machine: &'static Machine,
    /// For each node, the nodes with CPUs, those with the shortest way to it first.
    near: Vec<Vec<NodeId>>,
}

impl Domains {
    /// The domains of `machine`, built once.
    #[must_use]
    pub fn new(machine: &'static Machine) -> Self {
        let order = |to: usize| {
            let Some(to) = NodeId::try_new(to) else { return Vec::new() };
            let mut nodes: Vec<_> = machine.cpu_nodes().iter().collect();
            // Among equals those above come first, so that not all look to the lowest.
            nodes.sort_unstable_by_key(|from| (machine.distance(*from, to), *from < to, *from));
            nodes
        };
        Self { machine, near: (0..machine.node_ids()).map(order).collect() }
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &'static Machine {
        self.machine
    }

    /// The nodes with CPUs, those with the shortest way to `node` first.
    #[must_use]
    pub fn near(&self, node: NodeId) -> &[NodeId] {
        self.near.get(node.index()).map_or(&[], Vec::as_slice)
    }

    /// Where a waking task runs: where it ran last, when that CPU idles and is on the node of the
    /// task's memory; else on the idle CPU that is nearest; else where it ran last, if it may.
    ///
    /// `leaving` is the waker's CPU, when the waker is about to sleep and nobody else waits there:
    /// then the task may as well run in its place.
    #[must_use]
    pub fn for_wakeup(&self, loads: &impl Loads, wish: &Wish, leaving: Option<CpuId>) -> CpuId {
        let last_node = self.machine.node_of(wish.last);
        let center = self.center(wish);
        let may_stay = wish.allowed.contains(wish.last);
        if may_stay && last_node == center && loads.is_idle(wish.last) {
            return wish.last;
        }
        if let Some(cpu) = leaving
            && wish.allowed.contains(cpu)
            && self.machine.node_of(cpu) == center
            && wish.priority == 0
        {
            return cpu;
        }
        if let Some(cpu) = self.nearest(loads.idle() & wish.allowed, center, wish.last) {
            // As near to its memory as where it was, which idles, too: no reason to move.
            let far = |cpu| self.machine.distance(self.machine.node_of(cpu), center);
            let stay = may_stay && loads.is_idle(wish.last) && far(wish.last) <= far(cpu);
            return if stay { wish.last } else { cpu };
        }
        if wish.priority > 0 {
            return self.for_real_time(loads, wish, center);
        }
        if may_stay { wish.last } else { self.least_loaded(loads, wish, center) }
    }

    /// Where a new task starts: on the nearest idle CPU, else where there is the least load for the
    /// distance.
    #[must_use]
    pub fn for_new(&self, loads: &impl Loads, wish: &Wish) -> CpuId {
        let center = self.center(wish);
        if let Some(cpu) = self.nearest(loads.idle() & wish.allowed, center, wish.last) {
            return cpu;
        }
        if wish.priority > 0 {
            return self.for_real_time(loads, wish, center);
        }
        self.least_loaded(loads, wish, center)
    }

    /// Whether a running task should go elsewhere as it begins anew with execve(2), when it leaves
    /// its memory behind: others wait for its CPU, and there is a better one. A real-time task has
    /// its CPU already.
    #[must_use]
    pub fn for_exec(&self, loads: &impl Loads, wish: &Wish) -> bool {
        let own = loads.load(wish.last);
        if own <= wish.weight || wish.priority > 0 {
            return false;
        }
        let center = self.machine.node_of(wish.last);
        let without = Without { loads, cpu: wish.last, weight: wish.weight };
        self.nearest(loads.idle() & wish.allowed, center, wish.last).is_some()
            || self.least_loaded(&without, wish, center) != wish.last
    }

    /// Whether a task of node `here` could be nearer to its memory, which lies on `preferred`.
    #[must_use]
    pub fn is_off_preferred(&self, here: NodeId, preferred: NodeId, allowed: &CpuMask) -> bool {
        let far = |from| self.machine.distance(from, preferred);
        let nearer = self.near(preferred).iter().take_while(|node| far(**node) < far(here));
        here != preferred
            && nearer.into_iter().any(|node| !(*allowed & self.machine.cpus_of(*node)).is_empty())
    }

    /// The node from which nearness counts: that of its memory, if this may draw it anywhere.
    fn center(&self, wish: &Wish) -> NodeId {
        let here = self.machine.node_of(wish.last);
        wish.preferred
            .filter(|preferred| self.is_off_preferred(here, *preferred, &wish.allowed))
            .unwrap_or(here)
    }

    /// The idle CPU to which a running task's memory draws it: one nearer to that than where it is.
    #[must_use]
    pub fn for_home(&self, loads: &impl Loads, wish: &Wish) -> Option<CpuId> {
        let preferred = wish.preferred?;
        let far = |cpu| self.machine.distance(self.machine.node_of(cpu), preferred);
        self.nearest(loads.idle() & wish.allowed, preferred, wish.last)
            .filter(|cpu| far(*cpu) < far(wish.last))
    }

    /// Where a task goes that may no longer run where it is.
    #[must_use]
    pub fn for_forced_migration(&self, loads: &impl Loads, wish: &Wish) -> CpuId {
        self.for_new(loads, wish)
    }

    /// The CPUs on which tasks wait, in the order in which idle `cpu` asks them for one.
    pub fn victims(&self, loads: &impl Loads, cpu: CpuId) -> impl Iterator<Item = CpuId> + '_ {
        let busy = loads.overloaded().without(cpu);
        let nodes = self.near(self.machine.node_of(cpu)).iter();
        nodes.flat_map(move |node| circle(busy & self.machine.cpus_of(*node), cpu))
    }

    /// From whom `cpu` should take load: of each domain, nearest first, the CPUs that have enough
    /// more to be worth the way, the most loaded first. The caller goes on to the next when there
    /// is no task that may be moved and whose moving [improves](Pull::improves) matters.
    pub fn balance<'a>(
        &'a self,
        loads: &'a impl Loads,
        cpu: CpuId,
    ) -> impl Iterator<Item = Pull> + 'a {
        let busy = loads.overloaded().without(cpu);
        let own = loads.load(cpu);
        let here = self.machine.node_of(cpu);
        let nodes = if busy.is_empty() { &[] } else { self.near(here) };
        nodes.iter().flat_map(move |node| {
            let least = threshold(self.machine.distance(here, *node));
            let mut those = busy & self.machine.cpus_of(*node);
            // Loads change meanwhile: each is asked of the ones that are left.
            core::iter::from_fn(move || {
                let (load, from) = circle(those, cpu)
                    .map(|from| (loads.load(from), from))
                    .reduce(|most, next| if next.0 > most.0 { next } else { most })?;
                those = those.without(from);
                let worth = load * 100 > own * least && load > own;
                worth.then(|| Pull { from, gap: load - own })
            })
        })
    }

    /// The CPUs of `wanted` that idle, in the order in which `cpu`, on which tasks wait that may go
    /// to `wanted`, offers them one.
    pub fn idle_helpers(
        &self,
        loads: &impl Loads,
        cpu: CpuId,
        wanted: &CpuMask,
    ) -> impl Iterator<Item = CpuId> + '_ {
        let idle = loads.idle().without(cpu) & *wanted;
        let nodes = if idle.is_empty() { &[] } else { self.near(self.machine.node_of(cpu)) };
        nodes.iter().flat_map(move |node| circle(idle & self.machine.cpus_of(*node), cpu))
    }

    /// The CPUs that have so much less than `load`, which `cpu` has, that a task is worth the way,
    /// nearest first; with the difference.
    pub fn helpers<'a>(
        &'a self,
        loads: &'a impl Loads,
        cpu: CpuId,
        load: u64,
    ) -> impl Iterator<Item = (CpuId, u64)> + 'a {
        let here = self.machine.node_of(cpu);
        self.near(here).iter().flat_map(move |node| {
            let least = threshold(self.machine.distance(*node, here));
            circle(self.machine.cpus_of(*node).without(cpu), cpu).filter_map(move |to| {
                let own = loads.load(to);
                let worth = load > own && load * 100 > own * least;
                worth.then(|| (to, load - own))
            })
        })
    }

    /// The CPU of `cpus` that is nearest to node `center`: `last` itself if it is among those of
    /// the nearest node, else the next after it.
    fn nearest(&self, cpus: CpuMask, center: NodeId, last: CpuId) -> Option<CpuId> {
        if cpus.is_empty() {
            return None;
        }
        self.near(center).iter().find_map(|node| {
            let here = cpus & self.machine.cpus_of(*node);
            if here.contains(last) { Some(last) } else { here.next_in_circle(last) }
        })
    }

    /// The allowed CPU with the least load, farther ones counting as more loaded.
    fn least_loaded(&self, loads: &impl Loads, wish: &Wish, center: NodeId) -> CpuId {
        let cost = |cpu| {
            let distance = self.machine.distance(self.machine.node_of(cpu), center);
            (loads.load(cpu) + wish.weight).saturating_mul(threshold(distance))
        };
        self.allowed(wish, center).min_by_key(|cpu| cost(*cpu)).unwrap_or(wish.last)
    }

    /// The nearest allowed CPU among those that run the least urgent task; the last one, when the
    /// task would preempt nothing elsewhere either.
    fn for_real_time(&self, loads: &impl Loads, wish: &Wish, center: NodeId) -> CpuId {
        let stay = wish.allowed.contains(wish.last);
        if stay && loads.running_priority(wish.last) < wish.priority {
            return wish.last;
        }
        let least = self.allowed(wish, center).min_by_key(|cpu| loads.running_priority(*cpu));
        match least {
            Some(cpu) if !stay || loads.running_priority(cpu) < wish.priority => cpu,
            _ => wish.last,
        }
    }

    /// The CPUs where the task may run, nearest first.
    fn allowed(&self, wish: &Wish, center: NodeId) -> impl Iterator<Item = CpuId> + '_ {
        let (allowed, last) = (wish.allowed, wish.last);
        let nodes = self.near(center).iter();
        nodes.flat_map(move |node| from(allowed & self.machine.cpus_of(*node), last))
    }
}

/// The members of `cpus`, beginning with the first after `start` and ending with `start` itself.
fn circle(cpus: CpuMask, start: CpuId) -> impl Iterator<Item = CpuId> {
    let upto = CpuMask::first_n(start.index() + 1);
    (cpus - upto).into_iter().chain(cpus & upto)
}

/// The members of `cpus`, beginning with `start` or the first after it.
fn from(cpus: CpuMask, start: CpuId) -> impl Iterator<Item = CpuId> {
    let below = CpuMask::first_n(start.index());
    (cpus - below).into_iter().chain(cpus & below)
}
