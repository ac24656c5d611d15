//! The guest suites: small tests of what a Linux-compatible kernel does, each named by the sentence
//! that it proves. Every one passes on Linux 6.12, or says in a line why it cannot.
//!
//! `tests --list` prints the names; `tests [--filter RE] [--after NAME] [--long] [SUITE|NAME...]`
//! runs them (see [`harness`] for the lines it prints). Each test is a process of its own.

mod affinity;
mod boot;
mod cgroup;
mod child;
mod compact;
mod crowds;
mod exhaustion;
mod fault;
mod faults;
mod frames;
mod fs;
mod harness;
mod helper;
mod hugetlb;
mod memory;
mod mempolicy;
mod migrate;
mod mm;
mod net;
mod numa;
mod perf;
mod placement;
mod ptrace;
mod random;
mod replayed;
mod scarce;
mod sched;
mod signal;
mod sys;
mod task;
mod thp;
mod vdso;

use harness::Suite;

/// In the order in which they run: what the later ones stand on comes first.
const SUITES: &[Suite] = &[
    Suite { name: "boot", places: false, groups: &[boot::TESTS] },
    Suite { name: "mm", places: false, groups: mm::GROUPS },
    Suite { name: "task", places: false, groups: task::GROUPS },
    Suite { name: "ptrace", places: false, groups: ptrace::GROUPS },
    Suite { name: "fs", places: false, groups: fs::GROUPS },
    Suite { name: "net", places: false, groups: net::GROUPS },
    Suite { name: "mempolicy", places: true, groups: mempolicy::GROUPS },
    Suite { name: "migrate", places: true, groups: migrate::GROUPS },
    Suite { name: "hugetlb", places: true, groups: hugetlb::GROUPS },
    Suite { name: "thp", places: true, groups: thp::GROUPS },
    Suite { name: "compact", places: true, groups: &[compact::TESTS] },
    Suite { name: "placement", places: true, groups: &[placement::TESTS] },
    Suite { name: "replayed", places: true, groups: &[replayed::TESTS] },
    Suite { name: "affinity", places: false, groups: &[affinity::TESTS] },
    Suite { name: "cgroup", places: true, groups: cgroup::GROUPS },
    Suite { name: "sched", places: false, groups: sched::GROUPS },
    Suite { name: "perf", places: false, groups: perf::GROUPS },
    Suite { name: "pmu", places: false, groups: perf::pmu::GROUPS },
    Suite { name: "frames", places: false, groups: &[frames::TESTS] },
    Suite { name: "faults", places: false, groups: faults::GROUPS },
    Suite { name: "scarce", places: false, groups: &[scarce::TESTS, crowds::TESTS] },
    // Last: it leaves a node without a free page for a while.
    Suite { name: "exhaustion", places: true, groups: &[exhaustion::TESTS] },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == helper::FLAG) {
        helper::run(&args[1..]);
    }
    // A worker of a replayed sequence, after it executed a new program.
    if let [word, number] = &args[..]
        && word == "worker"
    {
        fuzz::worker::resume(number.parse().unwrap_or(usize::MAX));
    }
    let code = match harness::Options::parse(&args) {
        Ok(options) => harness::run(SUITES, &options),
        Err(why) => {
            eprintln!("tests: {why}");
            2
        }
    };
    std::process::exit(code);
}
