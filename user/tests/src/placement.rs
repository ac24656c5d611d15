//! Every page where its policy wants it: memory in pieces of random size, touched by threads on all
//! nodes, by children, after moves and splits, compared page by page with a model.
//!
//! The model is written from the manual pages and the observed kernel, not from any kernel's text.

use crate::child::{affinity, on_cpu, pin, run};
use crate::harness::{Test, long, tests};
use crate::memory::*;
use crate::numa::*;
use crate::random::Random;

pub const TESTS: &[Test] = tests![
    every_page_under_default_is_where_the_model_says,
    every_page_under_local_is_where_the_model_says,
    every_page_under_preferred_is_where_the_model_says,
    every_page_under_bind_is_where_the_model_says,
    every_page_under_interleave_is_where_the_model_says,
    every_page_under_preferred_many_is_where_the_model_says,
    every_page_under_weighted_interleave_is_where_the_model_says,
    threads_on_all_cpus_fill_one_range_by_its_policy,
];

/// Pages that a policy's campaign touches.
fn budget() -> usize {
    if long() { (256 << 20) / PAGE } else { (16 << 20) / PAGE }
}

#[derive(Clone, Debug)]
struct Policy {
    mode: i32,
    nodes: Vec<usize>,
}

impl Policy {
    /// Nodes on which a page may be: `local` is the toucher's node, `index` the page's number in
    /// the round of its mapping.
    fn allowed(&self, local: usize, index: usize) -> Vec<usize> {
        match self.mode {
            DEFAULT | LOCAL => home_of(local),
            PREFERRED => vec![self.nodes[0]],
            BIND | PREFERRED_MANY => nearest(local, &self.nodes),
            // All weights are 1 here.
            _ => vec![self.nodes[index % self.nodes.len()]],
        }
    }
}

/// A mapping under test.
struct Piece {
    at: usize,
    pages: usize,
    /// The page number from which interleaving counts.
    round: usize,
    /// Whether anything was ever written.
    written: bool,
    /// The toucher's node for each page that is there.
    touched: Vec<Option<usize>>,
}

impl Piece {
    fn new(pages: usize) -> Self {
        let at = map_alone(pages);
        Self { at, pages, round: at / PAGE, written: false, touched: vec![None; pages] }
    }

    fn address(&self, page: usize) -> usize {
        self.at + page * PAGE
    }

    /// Touches some pages from a CPU.
    fn touch(&mut self, random: &mut Random, cpu: usize) {
        let node = node_of_cpu(cpu);
        let first = random.below(self.pages);
        let count = 1 + random.below(self.pages - first);
        let at = self.address(first);
        if random.below(2) == 0 {
            on_cpu(cpu, || touch(at, count));
        } else {
            pin(cpu);
            touch(at, count);
        }
        self.written = true;
        for page in first..first + count {
            self.touched[page].get_or_insert(node);
        }
    }

    /// Moves the mapping, perhaps growing it.
    fn relocate(&mut self, random: &mut Random) {
        let pages = self.pages + random.below(16);
        let to = map_alone(pages);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        mremap(self.at, self.pages, pages, flags, to).unwrap();
        // A mapping in which nothing was ever written counts from its new place.
        if !self.written {
            self.round = to / PAGE;
        }
        (self.at, self.pages) = (to, pages);
        self.touched.resize(pages, None);
    }

    /// Changes rights of a part and changes them back: the mapping is split and merged.
    fn split(&self, random: &mut Random) {
        let first = random.below(self.pages);
        let count = 1 + random.below(self.pages - first);
        mprotect(self.address(first), count, libc::PROT_NONE).unwrap();
        mprotect(self.address(first), count, RW).unwrap();
    }

    /// Drops some pages.
    fn drop_some(&mut self, random: &mut Random) {
        let first = random.below(self.pages);
        let count = 1 + random.below((self.pages - first).min(8));
        madvise(self.address(first), count, libc::MADV_DONTNEED).unwrap();
        self.touched[first..first + count].fill(None);
    }

    fn check(&self, policy: &Policy) {
        let found = nodes_at(self.at, self.pages);
        for (page, local) in self.touched.iter().enumerate() {
            let Some(local) = local else {
                assert!(found[page] < 0, "page {page} is there untouched");
                continue;
            };
            let allowed = policy.allowed(*local, self.round + page);
            assert!(
                allowed.iter().any(|node| *node as i32 == found[page]),
                "page {page} of {} under {policy:?}, touched from node {local}, is on {}, not {allowed:?}",
                self.pages,
                found[page]
            );
        }
    }
}

/// One policy's campaign, of the task or of ranges.
fn campaign(policy: &Policy, of_task: bool, seed: u64) {
    let mut random = Random::new(seed);
    let cpus = affinity(0);
    if of_task {
        set_mempolicy(policy.mode, &policy.nodes).unwrap();
    }
    let mut left = budget() as isize;
    while left > 0 {
        let size = 1 << random.below(9);
        let pages = 1 + random.below(size);
        let mut piece = Piece::new(pages);
        if !of_task {
            mbind(piece.at, pages, policy.mode, &policy.nodes, 0).unwrap();
        }
        for _ in 0..1 + random.below(4) {
            match random.below(6) {
                0 => piece.relocate(&mut random),
                1 => piece.split(&mut random),
                2 => piece.drop_some(&mut random),
                3 => run(|| {
                    // What is not there yet the child places for itself; the parent's stays.
                    let mut mine = Piece {
                        touched: piece.touched.clone(),
                        ..Piece { touched: vec![], ..piece }
                    };
                    let cpu = random.of(&cpus);
                    pin(cpu);
                    let node = node_of_cpu(cpu);
                    for page in 0..mine.pages {
                        if mine.touched[page].is_none() {
                            put(mine.address(page), 1);
                            mine.touched[page] = Some(node);
                        }
                    }
                    mine.check(policy);
                }),
                _ => {
                    let cpu = random.of(&cpus);
                    piece.touch(&mut random, cpu);
                }
            }
        }
        let cpu = random.of(&cpus);
        piece.touch(&mut random, cpu);
        piece.check(policy);
        left -= piece.pages as isize;
        munmap(piece.at - PAGE, piece.pages + 2).unwrap();
    }
}

/// A policy over one node, some and all nodes; of ranges and of the task.
fn campaigns(mode: i32) {
    let all = nodes();
    let choices: Vec<Vec<usize>> = match mode {
        DEFAULT | LOCAL => vec![vec![]],
        _ if all.len() == 1 => vec![all.clone()],
        _ => vec![all.clone(), all[all.len() / 2..].to_vec()],
    };
    for (seed, nodes) in choices.into_iter().enumerate() {
        let policy = Policy { mode, nodes };
        campaign(&policy, false, seed as u64);
        run(|| campaign(&policy, true, seed as u64 + 100));
    }
}

fn every_page_under_default_is_where_the_model_says() {
    campaigns(DEFAULT);
}

fn every_page_under_local_is_where_the_model_says() {
    campaigns(LOCAL);
}

fn every_page_under_preferred_is_where_the_model_says() {
    campaigns(PREFERRED);
}

fn every_page_under_bind_is_where_the_model_says() {
    campaigns(BIND);
}

fn every_page_under_interleave_is_where_the_model_says() {
    campaigns(INTERLEAVE);
}

fn every_page_under_preferred_many_is_where_the_model_says() {
    campaigns(PREFERRED_MANY);
}

fn every_page_under_weighted_interleave_is_where_the_model_says() {
    campaigns(WEIGHTED);
}

fn threads_on_all_cpus_fill_one_range_by_its_policy() {
    let all = nodes();
    let cpus = affinity(0);
    let policy = Policy { mode: INTERLEAVE, nodes: all.clone() };
    let pages = budget().min(64 * cpus.len());
    let at = map_alone(pages);
    mbind(at, pages, INTERLEAVE, &all, 0).unwrap();
    std::thread::scope(|scope| {
        for (i, cpu) in cpus.iter().enumerate() {
            let step = cpus.len();
            scope.spawn(move || {
                pin(*cpu);
                // All touch all, each in another order.
                for page in (i..pages).step_by(step).chain(0..pages) {
                    put(at + page * PAGE, 1);
                }
            });
        }
    });
    for (page, node) in nodes_at(at, pages).into_iter().enumerate() {
        let allowed = policy.allowed(0, at / PAGE + page);
        assert_eq!(allowed, [node as usize], "page {page}");
    }
}
