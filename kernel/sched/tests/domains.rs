//! Placement and balancing on made-up machines, and on a whole simulated one.

use numa::{CpuId, CpuMask, Distances, Machine, NodeId, NodeMask};
use proptest::prelude::*;
use sched::{
    Class, Dequeue, Domains, Enqueue, Entity, Handle, Loads, Params, Pull, QueueLink, RunQueue,
    Wish,
};
use std::sync::Arc;

fn cpu(n: usize) -> CpuId {
    CpuId::new(n as u16)
}

fn node(n: usize) -> NodeId {
    NodeId::new(n as u16)
}

fn cpus(list: &str) -> CpuMask {
    CpuMask::parse_list(list).unwrap()
}

/// Domains of nodes with as many CPUs each as `per_node` says, with these distances.
fn domains(per_node: &[usize], distance: impl Fn(usize, usize) -> u8) -> Domains {
    let mut distances = Distances::flat();
    for (from, to) in (0..per_node.len()).flat_map(|a| (0..per_node.len()).map(move |b| (a, b))) {
        distances.set(node(from), node(to), distance(from, to));
    }
    let owner = per_node.iter().enumerate().flat_map(|(n, count)| vec![n; *count]);
    let list = owner.enumerate().map(|(c, n)| (cpu(c), node(n)));
    let memory = NodeMask::first_n(per_node.len());
    let machine = Machine::new(memory, list, NodeMask::EMPTY, &distances).unwrap();
    Domains::new(Box::leak(Box::new(machine)))
}

/// Four nodes of two CPUs in a ring.
fn ring() -> Domains {
    domains(&[2; 4], |from, to| [10, 20, 30, 20][(4 + to - from) % 4])
}

/// Loads as a table: one entry a CPU, its load and its priority.
struct Table(Vec<(u64, u8)>);

impl Table {
    fn idle(cpus: usize) -> Self {
        Self(vec![(0, 0); cpus])
    }

    fn busy(cpus: usize) -> Self {
        Self(vec![(1024, 0); cpus])
    }

    fn with(mut self, cpu: usize, load: u64) -> Self {
        self.0[cpu].0 = load;
        self
    }

    fn those(&self, wanted: impl Fn(u64) -> bool) -> CpuMask {
        (0..self.0.len()).filter(|n| wanted(self.0[*n].0)).map(cpu).collect()
    }
}

impl Loads for Table {
    fn is_idle(&self, cpu: CpuId) -> bool {
        self.load(cpu) == 0
    }
    fn idle(&self) -> CpuMask {
        self.those(|load| load == 0)
    }
    fn overloaded(&self) -> CpuMask {
        self.those(|load| load > 1024)
    }
    fn load(&self, cpu: CpuId) -> u64 {
        self.0[cpu.index()].0
    }
    fn running_priority(&self, cpu: CpuId) -> u8 {
        self.0[cpu.index()].1
    }
}

fn wish(allowed: &str, last: usize) -> Wish {
    Wish { allowed: cpus(allowed), last: cpu(last), preferred: None, weight: 1024, priority: 0 }
}

#[test]
fn a_waking_task_goes_back_while_its_cpu_idles() {
    let domains = ring();
    let wake = |loads: &Table, wish| domains.for_wakeup(loads, &wish, None);
    assert_eq!(wake(&Table::idle(8), wish("0-7", 5)), cpu(5));
    let loads = Table::idle(8).with(5, 1024);
    assert_eq!(wake(&loads, wish("0-7", 5)), cpu(4), "the other of its node");
    let loads = loads.with(4, 1024);
    assert_eq!(wake(&loads, wish("0-7", 5)), cpu(6), "the next node is one hop away");
    assert_eq!(wake(&loads, wish("0-1,5", 5)), cpu(0), "two hops are better than waiting");
    assert_eq!(wake(&Table::busy(8), wish("0-7", 5)), cpu(5));
    assert_eq!(wake(&Table::busy(8), wish("0-3", 5)), cpu(2), "moved to one hop");
    assert_eq!(wake(&Table::busy(8).with(2, 2048), wish("0-3", 5)), cpu(3));
}

#[test]
fn a_waking_task_is_drawn_to_its_memory() {
    let domains = ring();
    let drawn = Wish { preferred: Some(node(3)), ..wish("0-7", 0) };
    let wake = |loads: &Table, leaving| domains.for_wakeup(loads, &drawn, leaving);
    assert_eq!(wake(&Table::idle(8), None), cpu(6));
    assert_eq!(wake(&Table::idle(8).with(6, 1), None), cpu(7));
    let full = Table::idle(8).with(6, 1).with(7, 1);
    assert_eq!(wake(&full, None), cpu(0), "as near as any other, and it ran there");
    assert_eq!(wake(&Table::busy(8), None), cpu(0));
    assert_eq!(wake(&Table::idle(8), Some(cpu(7))), cpu(7), "its waker leaves that one");
    assert_eq!(wake(&Table::idle(8), Some(cpu(2))), cpu(6), "its waker is far from its memory");
}

#[test]
fn memory_without_cpus_draws_to_the_nearest_cpus() {
    let domains = domains(&[2, 0, 2], |a, b| {
        if a == b {
            10
        } else if b == 1 && a == 2 {
            15
        } else {
            30
        }
    });
    assert_eq!(domains.near(node(1)), [node(2), node(0)]);
    let drawn = Wish { preferred: Some(node(1)), ..wish("0-3", 0) };
    assert_eq!(domains.for_wakeup(&Table::idle(4), &drawn, None), cpu(2));
}

#[test]
fn a_running_task_is_drawn_home_to_an_idle_cpu_that_is_nearer() {
    let domains = ring();
    let drawn = Wish { preferred: Some(node(3)), ..wish("0-7", 2) };
    let off_preferred = |here, list| domains.is_off_preferred(node(here), node(3), &cpus(list));
    assert!(off_preferred(1, "0-7") && !off_preferred(3, "0-7"));
    assert!(off_preferred(1, "0-5"), "one hop instead of two");
    assert!(!off_preferred(0, "0-5"), "it may run nowhere nearer");
    let busy = Table::busy(8);
    assert_eq!(domains.for_home(&busy, &drawn), None, "not to wait there");
    assert_eq!(domains.for_home(&Table::idle(8).with(2, 1024), &drawn), Some(cpu(6)));
    let bound = Wish { allowed: cpus("2-3"), ..drawn };
    assert_eq!(domains.for_home(&Table::idle(8).with(2, 1024), &bound), None);
    let far = Table::idle(8).with(2, 1).with(6, 1).with(7, 1);
    assert_eq!(domains.for_home(&far, &drawn), Some(cpu(0)), "one hop instead of two");
    let there = Wish { last: cpu(7), ..drawn };
    assert_eq!(domains.for_home(&Table::idle(8).with(7, 1024), &there), None);
    assert_eq!(domains.for_home(&Table::idle(8), &wish("0-7", 2)), None, "nothing draws it");
}

#[test]
fn a_sleeper_stays_where_it_is_as_near_to_its_memory_as_elsewhere() {
    let domains = ring();
    // Both CPUs of its preferred are busy, and nodes 0 and 2 are one hop away.
    let loads = Table::idle(8).with(2, 1).with(3, 1);
    let drawn = Wish { preferred: Some(node(1)), ..wish("0-7", 5) };
    assert_eq!(domains.for_wakeup(&loads, &drawn, None), cpu(5));
}

#[test]
fn a_program_begins_elsewhere_when_others_wait_for_its_cpu() {
    let domains = ring();
    let exec = |loads: &Table, wish| domains.for_exec(loads, &wish);
    assert!(!exec(&Table::idle(8).with(2, 1024), wish("0-7", 2)), "it is alone");
    assert!(exec(&Table::idle(8).with(2, 2048), wish("0-7", 2)));
    assert!(!exec(&Table::idle(8).with(2, 2048), wish("2", 2)), "it may not");
    let real_time = Wish { priority: 5, ..wish("0-7", 2) };
    assert!(!exec(&Table::idle(8).with(2, 2048), real_time), "it runs at once where it is");
    let even = Table::busy(8);
    assert!(!exec(&even.with(2, 2048), wish("0-7", 2)), "it would be one of two elsewhere, too");
    let uneven = Table::busy(8).with(2, 3072);
    assert!(exec(&uneven, wish("0-7", 2)));
}

#[test]
fn new_tasks_spread_nearest_first() {
    let domains = ring();
    let mut loads = Table::idle(8).with(2, 1024);
    let mut order = vec![];
    for _ in 0..7 {
        let at = domains.for_new(&loads, &wish("0-7", 2));
        order.push(at.index());
        loads = loads.with(at.index(), 1024);
    }
    assert_eq!(order, [3, 4, 5, 0, 1, 6, 7]);
    // With one task everywhere a second costs the same everywhere but for the way.
    assert_eq!(domains.for_new(&loads, &wish("0-7", 2)), cpu(2));
    let loads = loads.with(2, 2048).with(3, 2048);
    assert_eq!(domains.for_new(&loads, &wish("0-7", 2)), cpu(4));
    assert_eq!(domains.for_new(&loads, &wish("6", 2)), cpu(6));
}

#[test]
fn real_time_tasks_find_the_least_urgent_cpu() {
    let domains = domains(&[2, 2], |a, b| if a == b { 10 } else { 20 });
    let mut loads = Table::busy(4);
    for (n, priority) in [(0, 50), (1, 40), (2, 30), (3, 0)] {
        loads.0[n].1 = priority;
    }
    let urgent = |priority, last| Wish { priority, ..wish("0-3", last) };
    let wake = |wish| domains.for_wakeup(&loads, &wish, Some(cpu(1)));
    assert_eq!(wake(urgent(60, 0)), cpu(0), "it preempts where it was");
    assert_eq!(wake(urgent(45, 0)), cpu(3), "a fair task gives way first");
    assert_eq!(wake(Wish { allowed: cpus("0-2"), ..urgent(35, 0) }), cpu(2));
    assert_eq!(wake(Wish { allowed: cpus("0-2"), ..urgent(10, 0) }), cpu(0));
    assert_eq!(wake(Wish { allowed: cpus("1-2"), ..urgent(10, 0) }), cpu(2));
}

#[test]
fn idle_cpus_ask_the_nearest_first() {
    let domains = ring();
    let loads = Table::busy(8).with(0, 4096).with(3, 4096).with(4, 4096).with(7, 4096);
    let victims: Vec<_> = domains.victims(&loads, cpu(2)).map(CpuId::index).collect();
    assert_eq!(victims, [3, 4, 0, 7]);
    assert_eq!(domains.victims(&Table::busy(8), cpu(2)).count(), 0);
}

#[test]
fn balancing_waits_for_a_difference_that_is_worth_the_way() {
    let domains = ring();
    let own = Table::busy(8).with(0, 10_000);
    let pull = |loads: &Table| domains.balance(loads, cpu(0)).next();
    let at = |n: usize, load: u64| Table(own.0.clone()).with(n, load);
    assert_eq!(pull(&at(1, 11_200)), None);
    assert_eq!(pull(&at(1, 11_300)), Some(Pull { from: cpu(1), gap: 1300 }));
    assert_eq!(pull(&at(2, 12_500)), None);
    assert_eq!(pull(&at(2, 12_600)), Some(Pull { from: cpu(2), gap: 2600 }));
    assert_eq!(pull(&at(4, 13_700)), None);
    assert_eq!(pull(&at(4, 13_800)), Some(Pull { from: cpu(4), gap: 3800 }));
    let two = at(1, 11_300).with(4, 50_000);
    assert_eq!(pull(&two).map(|pull| pull.from), Some(cpu(1)), "nearest first");
    assert!(Pull { from: cpu(1), gap: 1300 }.improves(1024));
    assert!(!Pull { from: cpu(1), gap: 1024 }.improves(1024), "it would only change places");
}

proptest! {
    #[test]
    fn proposals_are_allowed_and_no_idle_cpu_is_nearer(
        per_node in proptest::collection::vec(0usize..5, 1..12),
        way in any::<u64>(),
        loads in proptest::collection::vec((prop_oneof![Just(0u64), 1u64..9000], 0u8..100), 48),
        allowed in any::<u64>(),
        last in any::<usize>(),
        preferred in proptest::option::of(any::<usize>()),
        priority in prop_oneof![Just(0u8), 0u8..100],
    ) {
        let total: usize = per_node.iter().sum();
        prop_assume!(total > 0);
        let domains = domains(&per_node, |a, b| {
            if a == b { 10 } else { 11 + (way >> ((a * 7 + b * 13) % 60)) as u8 % 8 * 10 }
        });
        let machine = domains.machine();
        let last = cpu(last % total);
        let all = CpuMask::first_n(total);
        let some = CpuMask::from_words(&[allowed]) & all;
        let allowed = if some.is_empty() { all } else { some };
        let preferred = preferred.map(|preferred| node(preferred % per_node.len()));
        let wish = Wish { allowed, last, preferred, weight: 1024, priority };
        let loads = Table(loads[..total].to_vec());
        // Its memory draws it if that brings it nearer; else it stays about where it is.
        let draws = |preferred: &NodeId| {
            let far = |cpu: CpuId| machine.distance(machine.node_of(cpu), *preferred);
            allowed.iter().any(|cpu| far(cpu) < far(last))
        };
        let center = preferred.filter(draws).unwrap_or(machine.node_of(last));
        let way = |cpu: CpuId| machine.distance(machine.node_of(cpu), center);
        let nearest_idle = (loads.idle() & allowed).iter().map(way).min();
        for chosen in [domains.for_wakeup(&loads, &wish, None), domains.for_new(&loads, &wish)] {
            prop_assert!(allowed.contains(chosen));
            if let Some(nearest) = nearest_idle {
                prop_assert!(loads.is_idle(chosen));
                prop_assert_eq!(way(chosen), nearest);
            } else if priority > 0 {
                let least = allowed.iter().map(|c| loads.running_priority(c)).min().unwrap();
                let there = loads.running_priority(chosen);
                prop_assert!(there < priority || least >= priority || chosen == last);
            }
        }
        for thief in all {
            let victims: Vec<_> = domains.victims(&loads, thief).collect();
            let expected = loads.overloaded().without(thief);
            prop_assert_eq!(victims.iter().copied().collect::<CpuMask>(), expected);
            prop_assert_eq!(victims.len(), expected.count());
            for pull in domains.balance(&loads, thief) {
                prop_assert!(expected.contains(pull.from));
                prop_assert_eq!(loads.load(pull.from), loads.load(thief) + pull.gap);
            }
        }
    }
}

/// A task in the simulation: its CPUs, its queue link.
struct Task {
    allowed: CpuMask,
    queue_link: QueueLink,
}

#[derive(Clone)]
struct Ref(Arc<Task>);

impl Handle for Ref {
    fn queue_link(&self) -> &QueueLink {
        &self.0.queue_link
    }
}

/// All CPUs of a machine, each with its queue, under one clock.
struct World {
    domains: Domains,
    queues: Vec<RunQueue<Ref>>,
    tasks: Vec<Ref>,
    now: u64,
}

impl Loads for World {
    fn is_idle(&self, cpu: CpuId) -> bool {
        self.queues[cpu.index()].is_empty()
    }
    fn idle(&self) -> CpuMask {
        self.domains.machine().cpus().iter().filter(|cpu| self.is_idle(*cpu)).collect()
    }
    fn overloaded(&self) -> CpuMask {
        let waits = |cpu: &CpuId| self.queues[cpu.index()].waiting() > 0;
        self.domains.machine().cpus().iter().filter(waits).collect()
    }
    fn load(&self, cpu: CpuId) -> u64 {
        self.queues[cpu.index()].load()
    }
    fn running_priority(&self, cpu: CpuId) -> u8 {
        let params = self.queues[cpu.index()].current_params();
        params.and_then(|params| params.class.rt_priority()).unwrap_or(0)
    }
}

impl World {
    fn new(domains: Domains) -> Self {
        let queues = domains.machine().cpus().iter().map(RunQueue::new).collect();
        Self { domains, queues, tasks: vec![], now: 0 }
    }

    fn put(&mut self, at: CpuId, task: Ref, entity: Entity<Ref>, why: Enqueue) {
        if self.queues[at.index()].enqueue(task, entity, why, self.now) {
            let _ = self.queues[at.index()].pick_next(self.now);
        }
    }

    /// Starts a task on exactly this CPU, as if nobody had cared where.
    fn start_at(&mut self, at: usize, allowed: CpuMask) {
        let task = Ref(Arc::new(Task { allowed, queue_link: QueueLink::new() }));
        self.tasks.push(task.clone());
        let entity = Entity::new(Params::new(Class::default(), 3_000_000));
        self.put(cpu(at), task, entity, Enqueue::New);
    }

    fn steal(&mut self, thief: CpuId, victim: CpuId, may: impl Fn(&Params) -> bool) -> bool {
        let stolen = self.queues[victim.index()]
            .steal(self.now, |task, params| task.0.allowed.contains(thief) && may(params));
        let Some((task, entity)) = stolen else { return false };
        self.put(thief, task, entity, Enqueue::Move);
        true
    }

    /// A tick on every CPU: idle ones steal, every fourth balances.
    fn tick(&mut self) {
        self.now += 1_000_000;
        for thief in self.domains.machine().cpus() {
            let queue = &mut self.queues[thief.index()];
            if queue.tick(self.now) {
                let _ = queue.pick_next(self.now);
            }
            if self.is_idle(thief) {
                let victims: Vec<_> = self.domains.victims(self, thief).collect();
                victims.into_iter().any(|victim| self.steal(thief, victim, |_| true));
            } else if (self.now / 1_000_000 + thief.index() as u64).is_multiple_of(4) {
                let pulls: Vec<_> = self.domains.balance(self, thief).collect();
                pulls.into_iter().any(|pull| {
                    self.steal(thief, pull.from, |params| pull.improves(params.weight()))
                });
            }
        }
    }

    fn counts(&self) -> Vec<usize> {
        self.queues.iter().map(RunQueue::len).collect()
    }
}

#[test]
fn as_many_tasks_as_cpus_end_one_on_each() {
    let mut world = World::new(ring());
    (0..8).for_each(|_| world.start_at(0, CpuMask::full()));
    for _ in 0..10 {
        world.tick();
    }
    assert_eq!(world.counts(), [1; 8]);
    // And they stay: nothing is gained by moving any more.
    let before: Vec<_> = world.tasks.iter().map(|task| task.queue_link().queue()).collect();
    (0..100).for_each(|_| world.tick());
    let after: Vec<_> = world.tasks.iter().map(|task| task.queue_link().queue()).collect();
    assert_eq!(before, after);
}

#[test]
fn three_tasks_a_cpu_end_three_on_each() {
    let mut world = World::new(ring());
    (0..24).for_each(|n| world.start_at(n % 2, CpuMask::full()));
    (0..50).for_each(|_| world.tick());
    assert_eq!(world.counts(), [3; 8]);
}

#[test]
fn tasks_bound_to_two_cpus_use_both_and_no_third() {
    let mut world = World::new(ring());
    (0..6).for_each(|_| world.start_at(3, cpus("3,6")));
    for _ in 0..50 {
        world.tick();
        for task in &world.tasks {
            assert!(task.0.allowed.contains(task.queue_link().queue().unwrap()));
        }
    }
    assert_eq!(world.counts(), [0, 0, 0, 3, 0, 0, 3, 0]);
}

#[test]
fn a_task_forced_from_its_cpu_takes_its_share_along() {
    let mut world = World::new(ring());
    (0..2).for_each(|_| world.start_at(0, cpus("0")));
    world.tick();
    let running = world.queues[0].current().cloned().unwrap();
    let (task, entity) = world.queues[0].dequeue_current(Dequeue::Move, world.now).unwrap();
    assert!(Arc::ptr_eq(&task.0, &running.0));
    let wish = Wish { allowed: cpus("4"), ..wish("4", 0) };
    let at = world.domains.for_forced_migration(&world, &wish);
    assert_eq!(at, cpu(4));
    world.put(at, task, entity, Enqueue::Move);
    assert_eq!(running.queue_link().queue(), Some(cpu(4)));
    assert_eq!(world.queues[4].stats(&running).unwrap().0.ran, 1_000_000);
    assert!(world.queues[0].pick_next(world.now).is_some());
}
