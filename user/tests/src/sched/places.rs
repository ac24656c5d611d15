//! Every CPU there is: those beyond 64, and those of nodes without memory.

use std::sync::atomic::Ordering::SeqCst;

use crate::child::{affinity, getcpu, join, pin, run, set_affinity, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::{map_shared, word};
use crate::numa;

pub const TESTS: &[Test] = tests![
    every_cpu_runs_a_task_that_is_bound_to_it,
    every_cpu_runs_a_child_at_the_same_time,
    a_mask_of_cpus_beyond_64_is_obeyed,
    cpus_of_a_node_without_memory_run_tasks_and_forks,
];

fn node_of(cpu: usize) -> usize {
    let nodes = numa::online();
    *nodes.iter().find(|node| numa::cpus_of(**node).contains(&cpu)).expect("a CPU's node")
}

fn every_cpu_runs_a_task_that_is_bound_to_it() {
    for cpu in affinity(0) {
        pin(cpu);
        assert_eq!(getcpu(), (cpu, node_of(cpu)));
        assert_eq!(affinity(0), [cpu]);
    }
}

fn every_cpu_runs_a_child_at_the_same_time() {
    // Not more of them than an emulator can keep busy, the last ones included.
    let all = affinity(0);
    let step = all.len().div_ceil(16);
    let cpus: Vec<usize> = all.iter().rev().step_by(step).copied().collect();
    let at = map_shared(2);
    let children: Vec<i32> = cpus
        .iter()
        .map(|cpu| {
            spawn(|| {
                pin(*cpu);
                word(at).fetch_add(1, SeqCst);
                while word(at + 4).load(SeqCst) == 0 {
                    assert_eq!(getcpu().0, *cpu);
                    super::sleep(1_000_000);
                }
            })
        })
        .collect();
    while word(at).load(SeqCst) < cpus.len() as u32 {
        super::sleep(1_000_000);
    }
    word(at + 4).store(1, SeqCst);
    for child in children {
        assert_eq!(join(child), 0);
    }
}

fn a_mask_of_cpus_beyond_64_is_obeyed() {
    let cpus = affinity(0);
    let high: Vec<usize> = cpus.iter().copied().filter(|cpu| *cpu >= 64).collect();
    if high.len() < 2 {
        skip!("needs CPUs beyond 64");
    }
    // One on either side of the words' border, then only beyond it.
    for allowed in [vec![63, high[0]], high.clone(), vec![*high.last().unwrap()]] {
        set_affinity(0, &numa::mask(&allowed)).unwrap();
        assert_eq!(affinity(0), allowed);
        run(|| {
            for _ in 0..200 {
                assert!(allowed.contains(&getcpu().0));
                std::thread::yield_now();
            }
        });
    }
}

fn cpus_of_a_node_without_memory_run_tasks_and_forks() {
    let with_memory = numa::nodes();
    let bare: Vec<usize> = numa::online()
        .into_iter()
        .filter(|node| !with_memory.contains(node))
        .flat_map(numa::cpus_of)
        .collect();
    if bare.is_empty() {
        skip!("every node with CPUs has memory");
    }
    set_affinity(0, &numa::mask(&bare)).unwrap();
    for cpu in &bare {
        pin(*cpu);
        run(|| {
            assert_eq!(getcpu(), (*cpu, node_of(*cpu)));
            let page = crate::memory::map(1);
            crate::memory::put(page, 1);
            assert!(with_memory.contains(&(numa::node_at(page) as usize)));
        });
    }
}
