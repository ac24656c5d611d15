//! Real-time classes against a model: lists by priority, as sched(7) describes them.

use crate::common::{Cpu, MS, fair, fifo, round_robin};
use proptest::prelude::*;
use sched::{Class, Handle, Params, RR_SLICE};
use std::collections::VecDeque;

/// For each priority the tasks in order, the running one at its head.
struct Model {
    lists: [VecDeque<usize>; 100],
}

impl Model {
    fn new() -> Self {
        Self { lists: std::array::from_fn(|_| VecDeque::new()) }
    }

    fn head(&self) -> Option<usize> {
        self.lists.iter().rev().find_map(|list| list.front().copied())
    }

    fn drop(&mut self, id: usize) {
        self.lists.iter_mut().for_each(|list| list.retain(|task| *task != id));
    }

    fn rotate(&mut self, id: usize) {
        for list in &mut self.lists {
            if list.contains(&id) {
                list.retain(|task| *task != id);
                list.push_back(id);
            }
        }
    }
}

fn priority(params: &Params) -> u8 {
    params.class.rt_priority().unwrap()
}

fn some_params() -> impl Strategy<Value = Params> {
    (any::<bool>(), prop_oneof![1u8..5, 1u8..=99])
        .prop_map(|(fifo_, p)| if fifo_ { fifo(p) } else { round_robin(p) })
}

#[derive(Clone, Debug)]
enum Step {
    Spawn(Params),
    Sleep,
    Wake(usize),
    Yield,
    Change(usize, Params),
    Leave(usize),
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        some_params().prop_map(Step::Spawn),
        Just(Step::Sleep),
        any::<usize>().prop_map(Step::Wake),
        Just(Step::Yield),
        (any::<usize>(), some_params()).prop_map(|(id, params)| Step::Change(id, params)),
        any::<usize>().prop_map(Step::Leave),
        (1u64..30).prop_map(Step::Run),
    ]
}

proptest! {
    #[test]
    fn order_is_exactly_that_of_the_lists(steps in proptest::collection::vec(step(), 1..200)) {
        let mut cpu = Cpu::new();
        let mut model = Model::new();
        let mut params: Vec<Params> = vec![];
        let mut turn_used: Vec<u64> = vec![];
        for step in steps {
            let pick = |n: usize| (!params.is_empty()).then(|| n % params.len());
            match step {
                Step::Spawn(new) => {
                    let id = cpu.spawn(new);
                    params.push(new);
                    turn_used.push(0);
                    model.lists[usize::from(priority(&new))].push_back(id);
                }
                Step::Sleep => {
                    if cpu.current().is_some() {
                        model.drop(cpu.sleep());
                    }
                }
                Step::Wake(n) => {
                    if let Some(id) = pick(n).filter(|id| cpu.asleep[*id].is_some()) {
                        let preempts = cpu.wake(id);
                        model.lists[usize::from(priority(&params[id]))].push_back(id);
                        prop_assert_eq!(preempts, model.head() == Some(id));
                    }
                }
                Step::Yield => {
                    if let Some(id) = cpu.current() {
                        cpu.queue.yield_current(cpu.now);
                        model.rotate(id);
                        cpu.reschedule();
                    }
                }
                Step::Change(n, new) => {
                    if let Some(id) = pick(n).filter(|id| cpu.asleep[*id].is_none()) {
                        let task = cpu.tasks[id].clone();
                        let resched = cpu.queue.set_params(&task, new, cpu.now).unwrap();
                        let (old, p) = (priority(&params[id]), priority(&new));
                        if old != p {
                            model.drop(id);
                            let list = &mut model.lists[usize::from(p)];
                            if p < old { list.push_front(id) } else { list.push_back(id) }
                        }
                        params[id] = new;
                        prop_assert_eq!(resched, model.head() != cpu.current());
                        if resched {
                            cpu.reschedule();
                        }
                    }
                }
                Step::Leave(n) => {
                    if let Some(id) = pick(n) {
                        let waits = cpu.asleep[id].is_none() && cpu.current() != Some(id);
                        let task = cpu.tasks[id].clone();
                        let gone = cpu.queue.remove(&task, cpu.now);
                        prop_assert_eq!(gone.is_some(), waits);
                        if let Some((_, entity)) = gone {
                            prop_assert_eq!(task.queue_link().queue(), None);
                            cpu.asleep[id] = Some(entity);
                            model.drop(id);
                        }
                    }
                }
                Step::Run(milliseconds) => {
                    // In small steps, so that the model's turns end when the queue's do.
                    for _ in 0..milliseconds {
                        let Some(id) = cpu.current() else { break };
                        cpu.run_until(cpu.now + MS);
                        if matches!(params[id].class, Class::RoundRobin { .. }) {
                            turn_used[id] += MS;
                            if turn_used[id] == RR_SLICE {
                                turn_used[id] = 0;
                                model.rotate(id);
                            }
                        }
                        prop_assert_eq!(cpu.current(), model.head());
                    }
                }
            }
            prop_assert_eq!(cpu.current(), model.head());
            let ready: usize = model.lists.iter().map(VecDeque::len).sum();
            prop_assert_eq!(cpu.queue.len(), ready);
        }
    }
}

#[test]
fn fair_tasks_wait_for_all_real_time_ones() {
    let mut cpu = Cpu::new();
    let normal = cpu.spawn(fair(-20));
    let low = cpu.spawn(fifo(1));
    let high = cpu.spawn(round_robin(99));
    for expected in [high, low, normal] {
        assert_eq!(cpu.current(), Some(expected));
        assert!(cpu.tasks[expected].queue_link().is_running());
        cpu.sleep();
    }
    assert_eq!(cpu.current(), None);
    assert!(!cpu.queue.tick(cpu.now));
}

#[test]
fn the_highest_priority_is_stolen_first_and_the_running_task_never() {
    let mut cpu = Cpu::new();
    for params in [fifo(9), fair(0), fifo(3), fair(5), fifo(7)] {
        cpu.spawn(params);
    }
    let mut steal = |may: fn(usize) -> bool| {
        let stolen = cpu.queue.steal(0, |task, _| may(task.id()));
        stolen.map(|(task, _)| task.id())
    };
    assert_eq!(steal(|id| id == 2), Some(2));
    assert_eq!(steal(|id| id == 0), None);
    assert_eq!(steal(|_| true), Some(4));
    assert_eq!(steal(|_| true), Some(3), "the lighter one would wait longest");
    assert_eq!(steal(|_| true), Some(1));
    assert_eq!(steal(|_| true), None);
    assert_eq!(cpu.current(), Some(0));
}

#[test]
fn a_task_may_change_its_class_while_it_runs_or_waits() {
    let mut cpu = Cpu::new();
    let (a, b) = (cpu.spawn(fair(0)), cpu.spawn(fair(0)));
    let set = |cpu: &mut Cpu, id: usize, params| {
        let task = cpu.tasks[id].clone();
        let resched = cpu.queue.set_params(&task, params, cpu.now).unwrap();
        if resched {
            cpu.reschedule();
        }
        assert_eq!(cpu.queue.len(), 2);
        cpu.current().unwrap()
    };
    assert_eq!(set(&mut cpu, b, fifo(10)), b);
    assert_eq!(set(&mut cpu, a, fifo(20)), a);
    assert_eq!(set(&mut cpu, a, fair(0)), b);
    cpu.run_until(100 * MS);
    set(&mut cpu, b, fair(0));
    cpu.run_until(cpu.now + 1000 * MS);
    let before = cpu.ran();
    cpu.run_until(cpu.now + 1000 * MS);
    let after = cpu.ran();
    assert!((after[a] - before[a]).abs_diff(500 * MS) < 10 * MS);
}
