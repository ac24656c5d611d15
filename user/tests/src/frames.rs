//! Proxima's own account of its frames: every frame is somewhere, and none is lost.

use std::collections::BTreeMap;
use std::io::Read;

use crate::child::{affinity, join, pin, run, set_affinity, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::mm::shm;
use crate::numa::*;
use crate::sys::sys;

pub const TESTS: &[Test] = tests![
    every_frame_is_free_or_used_for_something,
    every_node_has_its_line,
    anonymous_frames_are_counted_on_their_node,
    memory_of_a_process_comes_back_at_its_end,
    forked_memory_comes_back,
    shared_memory_comes_back,
    memory_of_a_killed_process_comes_back,
    threads_give_everything_back,
    migration_loses_no_frame,
    sparse_mappings_give_their_page_tables_back,
    a_new_program_leaves_nothing_of_the_old,
    names_that_are_not_kept_cost_nothing,
    ready_files_that_are_taken_out_of_an_epoll_cost_nothing,
    removed_groups_give_everything_back,
];

/// What /proc/proxima/frames says of each node.
type Account = BTreeMap<u64, BTreeMap<String, u64>>;

fn account() -> Account {
    let Ok(text) = std::fs::read_to_string("/proc/proxima/frames") else {
        skip!("only Proxima tells what its frames are used for");
    };
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| word.parse::<u64>().expect("a number of frames");
            let pairs = words.chunks(2).map(|pair| (pair[0].to_string(), number(pair[1])));
            let mut fields: BTreeMap<String, u64> = pairs.collect();
            (fields.remove("node").expect("a line begins with its node"), fields)
        })
        .collect()
}

/// The uses that a workload must leave as it found them.
const USES: [&str; 3] = ["anon", "shared", "pagetable"];

/// Room for the account of the largest machine, so that reading it takes no more memory.
pub fn room() -> String {
    String::with_capacity(64 * 256)
}

/// Frames of each of [`USES`], node by node, read into `text` without memory that comes and goes;
/// None where the kernel does not tell.
pub fn uses(text: &mut String) -> Option<Vec<u64>> {
    text.clear();
    let mut file = std::fs::File::open("/proc/proxima/frames").ok()?;
    file.read_to_string(text).expect("the account of frames");
    let mut counts = Vec::with_capacity(64 * USES.len());
    for line in text.lines() {
        let after = |name: &&str| line.split_whitespace().skip_while(|w| w != name).nth(1);
        counts.extend(USES.iter().map(|name| after(name).unwrap().parse::<u64>().unwrap()));
    }
    Some(counts)
}

/// Runs a workload in rounds until one leaves every use as it was. Asking and forking touch pages
/// of our own, which settles after a few rounds; what the workload loses, it loses every time.
#[track_caller]
fn balanced(workload: impl Fn()) {
    const ROUNDS: usize = 9;
    // Our own pages stay on one node: a page that is copied after a fork goes where we run.
    let everywhere = vec![u64::MAX; 16];
    pin(affinity(0)[0]);
    let workload = || {
        set_affinity(0, &everywhere).unwrap();
        workload();
    };
    let mut text = room();
    let mut now = || match uses(&mut text) {
        Some(counts) => counts,
        None => skip!("only Proxima tells what its frames are used for"),
    };
    let mut history = Vec::with_capacity(ROUNDS + 1);
    history.push(now());
    for round in 0..ROUNDS {
        run(workload);
        history.push(now());
        if history[round] == history[round + 1] {
            return;
        }
    }
    for i in 0..history[0].len() {
        let counts: Vec<u64> = history.iter().map(|counts| counts[i]).collect();
        let (name, line) = (USES[i % USES.len()], i / USES.len());
        assert!(counts[ROUNDS - 1] == counts[ROUNDS], "{name} in line {line}: {counts:?}");
    }
}

fn every_frame_is_free_or_used_for_something() {
    for (node, fields) in account() {
        let sum: u64 = fields
            .iter()
            // Cached frames count as free, and the reserve is a part of these.
            .filter(|(name, _)| {
                !["present", "managed", "cached", "reserve"].contains(&name.as_str())
            })
            .map(|(_, count)| count)
            .sum();
        let managed = fields["managed"];
        assert!(managed <= fields["present"], "node {node}");
        assert!(sum == managed, "node {node}: {sum} frames told of {managed}: {fields:?}");
    }
}

fn every_node_has_its_line() {
    let found: Vec<usize> = account().into_keys().map(|node| node as usize).collect();
    let expected = online();
    assert!(nodes().iter().all(|node| found.contains(node)), "{found:?} of {expected:?}");
}

fn anonymous_frames_are_counted_on_their_node() {
    for node in nodes() {
        balanced(|| {
            let at = map(512);
            mbind(at, 512, BIND, &[node], 0).unwrap();
            let count = || account()[&(node as u64)]["anon"];
            let before = count();
            touch(at, 512);
            // Reading the account touches a few pages of the reader's own.
            let grown = count() - before;
            assert!((512..544).contains(&grown), "node {node}: {grown}");
            munmap(at, 512).unwrap();
        });
    }
}

fn memory_of_a_process_comes_back_at_its_end() {
    balanced(|| {
        let at = map(2048);
        mbind(at, 2048, INTERLEAVE, &nodes(), 0).unwrap();
        touch(at, 2048);
    });
}

fn forked_memory_comes_back() {
    balanced(|| {
        let at = map(512);
        fill(at, 512, 1);
        let children: Vec<i32> = (0..8).map(|n| spawn(|| fill(at, 512, n))).collect();
        for child in children {
            assert_eq!(join(child), 0);
        }
    });
}

fn shared_memory_comes_back() {
    balanced(|| {
        let at = map_shared(256);
        fill(at, 256, 1);
        let file = map_file(memfd(256), 256, libc::MAP_SHARED);
        fill(file, 256, 1);
        let id = shm::get_segment(libc::IPC_PRIVATE, 256, 0o600).unwrap();
        let segment = shm::attach(id, 0, 0).unwrap();
        shm::remove(id);
        fill(segment, 256, 1);
        run(|| fill(at, 256, 2));
    });
}

fn memory_of_a_killed_process_comes_back() {
    balanced(|| {
        let steps = crate::child::Steps::new();
        let child = spawn(|| {
            let at = map(1024);
            fill(at, 1024, 1);
            steps.reach(1);
            loop {
                fill(at, 1024, 2);
            }
        });
        steps.await_(1);
        crate::sys::kill(child, libc::SIGKILL).unwrap();
        assert_eq!(join(child), 128 + libc::SIGKILL);
    });
}

fn threads_give_everything_back() {
    balanced(|| {
        for _ in 0..4 {
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| touch(map(16), 16));
                }
            });
        }
    });
}

fn migration_loses_no_frame() {
    balanced(|| {
        let all = nodes();
        let at = map(512);
        fill(at, 512, 1);
        for round in 0..8 {
            let targets = vec![all[round % all.len()] as i32; 512];
            move_pages(0, &addresses(at, 512), Some(&targets), MOVE).unwrap();
        }
        verify(at, 512, 1);
    });
}

fn sparse_mappings_give_their_page_tables_back() {
    balanced(|| {
        // A page in every gigabyte: each needs tables of its own.
        let pages = (64 << 30) / PAGE;
        let at = mmap(0, pages * PAGE, RW, PRIVATE | libc::MAP_NORESERVE, -1, 0).unwrap();
        for gigabyte in 0..64 {
            put(at + (gigabyte << 30), 1);
        }
        munmap(at, pages).unwrap();
    });
}

fn a_new_program_leaves_nothing_of_the_old() {
    balanced(|| {
        let at = map(512);
        touch(at, 512);
        assert_eq!(crate::helper::call(&["exit", "0"]), 0);
    });
}

/// Frames of the kernel's objects.
fn slabs() -> u64 {
    account().values().map(|fields| fields["slab"]).sum()
}

/// A directory that is made anew at each look holds none of the names found in it.
fn names_that_are_not_kept_cost_nothing() {
    let look = |times| {
        for _ in 0..times {
            std::fs::metadata("/proc/sys/vm/max_map_count").unwrap();
        }
    };
    look(100);
    let before = slabs();
    look(10_000);
    let after = slabs();
    assert!(after < before + 100, "{before} frames of objects, then {after}");
}

/// Nobody asks the epoll, which has been told of each.
fn ready_files_that_are_taken_out_of_an_epoll_cost_nothing() {
    let before = slabs();
    let epoll = sys!(libc::SYS_epoll_create1, 0).unwrap();
    let file = sys!(libc::SYS_eventfd2, 1, 0).unwrap();
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    for _ in 0..50_000 {
        let at = &raw mut event;
        sys!(libc::SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, file, at).unwrap();
        sys!(libc::SYS_epoll_ctl, epoll, libc::EPOLL_CTL_DEL, file, at).unwrap();
    }
    let after = slabs();
    assert!(after < before + 100, "{before} frames of objects, then {after}");
}

/// Files of theirs that were opened go with them.
fn removed_groups_give_everything_back() {
    let look = |times| {
        for _ in 0..times {
            std::fs::create_dir("/sys/fs/cgroup/short").unwrap();
            drop(std::fs::File::open("/sys/fs/cgroup/short/cgroup.procs").unwrap());
            std::fs::remove_dir("/sys/fs/cgroup/short").unwrap();
        }
    };
    look(10);
    let before = slabs();
    look(2_000);
    let after = slabs();
    assert!(after < before + 100, "{before} frames of objects, then {after}");
}
