//! `proxima test`: suites on topologies and kernels, several guests at a time.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regex::Regex;

use crate::error::{Context, Fail, Result, USAGE};
use crate::guest::kernel::Choice;
use crate::guest::machine::Clock;
use crate::paths;
use crate::progress::Progress;
use crate::suite::dir::DirSuite;
use crate::suite::guest_tests::GuestTests;
use crate::suite::report::{Report, table};
use crate::suite::runner::{Job, select};
use crate::suite::{Needs, Record, Suite, Verdict, host, junit, suite_of, traffic};
use crate::topology::{Topology, file};

/// Seconds a single test may take unless told otherwise.
pub const LIMIT: u64 = 60;
/// With --long: the test program's own limit is 600.
const LONG_LIMIT: u64 = 660;
/// What a guest's init gets on top to end a test itself.
const GRACE: u64 = 15;
/// Where the project's own suites run unless told otherwise.
const TOPOLOGIES: &[&str] = &["one-node", "two-socket", "ring-4", "memoryless", "cxl"];
/// Suites whose subject is little or no matter of the topology: where they run unless told otherwise.
const ANYWHERE: &[(&str, &[&str])] = &[
    ("mm", &["two-socket"]),
    ("task", &["two-socket"]),
    ("ptrace", &["two-socket"]),
    ("fs", &["two-socket"]),
    ("net", &["two-socket", "ring-4"]),
    ("thp", &["two-socket", "ring-4", "memoryless"]),
    ("compact", &["two-socket", "memoryless"]),
    ("placement", &["two-socket", "ring-4", "memoryless", "cxl"]),
    ("affinity", &["two-socket", "ring-4", "memoryless"]),
    ("sched", &["ring-4", "memoryless"]),
    ("perf", &["one-node", "ring-4"]),
    ("pmu", &["ring-4"]),
    ("frames", &["one-node", "ring-4"]),
    ("faults", &["two-socket"]),
    ("scarce", &["two-socket"]),
    ("exhaustion", &["two-socket", "memoryless"]),
];
/// Somebody's tests: one machine with several nodes.
const DIR_TOPOLOGIES: &[&str] = &["two-socket"];

#[derive(clap::Args)]
pub struct TestOptions {
    /// Suites, or single tests as suite::name [default: all]
    #[arg(value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Topology to run on (repeat) [default: one-node, two-socket, ring-4, memoryless, cxl; suites
    /// for which it matters little on some of them]
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub topology: Vec<String>,
    /// proxima, linux, both, or a kernel file
    #[arg(long, value_name = "KERNEL", default_value = "proxima")]
    pub kernel: String,
    /// Run only tests whose name matches
    #[arg(long, value_name = "REGEX")]
    pub filter: Option<String>,
    /// Guests at a time [default: half the CPUs]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write the verdicts as JUnit XML
    #[arg(long, value_name = "FILE", value_parser = paths::output())]
    pub junit: Option<PathBuf>,
    /// Print the tests' names and run none
    #[arg(long)]
    pub list: bool,
    /// Run the test programs in a directory (its proxima.toml may say which and with what)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Count the traffic of programs of which it is known, and run nothing else
    #[arg(long, conflicts_with_all = ["dir", "host", "host_only", "list", "topology"])]
    pub traffic: bool,
    /// Run the crates' own tests on this machine first
    #[arg(long)]
    pub host: bool,
    /// Run the crates' own tests and no guest
    #[arg(long)]
    pub host_only: bool,
    /// Also the campaigns that take minutes
    #[arg(long, conflicts_with = "dir")]
    pub long: bool,
    /// Run only every Nth test, beginning with the Ith
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<(usize, usize)>,
    /// Run every test N times, each time in a fresh guest, and tell how often each passed: one that
    /// passes only at times is flaky, and counts as failed
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(2..=1000),
        conflicts_with_all = ["traffic", "host", "host_only", "list"]
    )]
    pub repeat: Option<u32>,
    /// Seconds a single test may take [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Print a line for every test
    #[arg(long, short)]
    pub verbose: bool,
}

pub fn test(options: &TestOptions) -> Result<u8> {
    let progress = Progress::new(false);
    let filter = options
        .filter
        .as_deref()
        .map(|text| {
            Regex::new(text).map_err(|_| Fail::usage(format!("--filter {text:?} is no regex")))
        })
        .transpose()?;
    super::prepare::check_append(&options.append)?;
    let topologies = topologies(options)?;
    if options.list {
        progress.clear();
        return list(options, filter.as_ref());
    }
    let report = Report::new(options.verbose);
    if options.host || options.host_only {
        progress.clear();
        run_host(&report)?;
    }
    if options.host_only {
        return finish(options, report, &[]);
    }
    if options.traffic {
        let kernels = Choice::parse_all(&options.kernel)?;
        progress.clear();
        for kernel in &kernels {
            traffic::run(kernel, filter.as_ref(), &report)?;
        }
        return finish(options, report, &[]);
    }
    match &options.dir {
        Some(dir) => {
            let suite = DirSuite::open(dir, options.timeout, &progress)?;
            let tests = select(&suite.list()?, &options.suites, filter.as_ref())?;
            let tests = shard(tests, options.shard);
            // The guest's init ends a test that hangs; only if it cannot, the guest is ended.
            let limit = options.timeout.or(suite.timeout()).unwrap_or(LIMIT) + GRACE;
            let (tests, left_out) = tests.into_iter().partition(|t| suite.skipped(t).is_none());
            let plan = Plan { suite: &suite, tests, topologies, limit };
            let left_out: Vec<String> = left_out;
            let skips: Vec<(String, String)> = left_out
                .into_iter()
                .map(|test| (suite.skipped(&test).unwrap_or_default().to_string(), test))
                .map(|(why, test)| (test, why))
                .collect();
            run(options, plan, &skips, report, progress)
        }
        None => {
            let suite = GuestTests::build(options.long, &progress)?;
            let tests = select(&suite.list()?, &options.suites, filter.as_ref())?;
            let tests = shard(tests, options.shard);
            let limit = options.timeout.unwrap_or(if options.long { LONG_LIMIT } else { LIMIT });
            run(options, Plan { suite: &suite, tests, topologies, limit }, &[], report, progress)
        }
    }
}

/// What is to be run, once for each kernel.
struct Plan<'a> {
    suite: &'a dyn Suite,
    tests: Vec<String>,
    topologies: Vec<(String, Topology)>,
    /// Seconds a single test may take.
    limit: u64,
}

fn list(options: &TestOptions, filter: Option<&Regex>) -> Result<u8> {
    let progress = Progress::new(false);
    let all = match &options.dir {
        Some(dir) => DirSuite::open(dir, options.timeout, &progress)?.list()?,
        None => GuestTests::build(options.long, &progress)?.list()?,
    };
    progress.clear();
    for test in shard(select(&all, &options.suites, filter)?, options.shard) {
        println!("{test}");
    }
    Ok(0)
}

/// The Ith of every N tests, counted from 1.
fn shard(tests: Vec<String>, part: Option<(usize, usize)>) -> Vec<String> {
    match part {
        None => tests,
        Some((own, of)) => tests.into_iter().skip(own - 1).step_by(of).collect(),
    }
}

pub fn parse_shard(text: &str) -> std::result::Result<(usize, usize), String> {
    let wrong = || format!("{text:?} is no shard: write 1/4 to 4/4");
    let (own, of) = text.split_once('/').ok_or_else(wrong)?;
    match (own.parse(), of.parse()) {
        (Ok(own), Ok(of)) if (1..=of).contains(&own) => Ok((own, of)),
        _ => Err(wrong()),
    }
}

/// The crates' tests: a suite for each.
fn run_host(report: &Report) -> Result<()> {
    let top = paths::source().ok_or_else(|| Fail::broken("there is no source tree here"))?;
    let target = paths::target().unwrap_or_else(|| top.join("target"));
    for package in host::packages(top)? {
        report.busy(&format!("cargo test -p {}", package.name));
        let records = host::test(&package, &target)?;
        for record in &records {
            report.expect(record.suite(), &record.topology, &record.kernel, 1);
        }
        for record in records {
            report.add(record);
        }
    }
    Ok(())
}

/// Differences, the table where there is something to compare, the JUnit file, the summary line.
fn finish(options: &TestOptions, report: Report, kernels: &[String]) -> Result<u8> {
    let (records, totals) = report.finish(options.repeat.is_some());
    if options.dir.is_some() || kernels.len() > 1 {
        let guests: Vec<Record> = records.iter().filter(|r| r.kernel != "-").cloned().collect();
        print!("{}", table(&guests, kernels));
    }
    if let Some(path) = &options.junit {
        std::fs::write(path, junit::xml(&records)).context(path.display())?;
    }
    println!("{}", totals.line());
    Ok(u8::from(!totals.all_well()))
}

fn topologies(options: &TestOptions) -> Result<Vec<(String, Topology)>> {
    let default = if options.dir.is_some() { DIR_TOPOLOGIES } else { TOPOLOGIES };
    let names: Vec<String> = if options.topology.is_empty() {
        default.iter().map(|name| name.to_string()).collect()
    } else {
        options.topology.clone()
    };
    names.into_iter().map(|name| file::find(&name).map(|found| (name, found))).collect()
}

fn run(
    options: &TestOptions,
    plan: Plan,
    skips: &[(String, String)],
    report: Report,
    progress: Progress,
) -> Result<u8> {
    // Built or fetched before guests run beside each other.
    let kernels: Vec<(Choice, PathBuf)> = Choice::parse_all(&options.kernel)?
        .into_iter()
        .map(|kernel| kernel.locate(&progress).map(|file| (kernel, file)))
        .collect::<Result<_>>()?;
    progress.clear();
    for (kernel, _) in &kernels {
        if let Some(release) = kernel.release() {
            println!("{} is {release}", kernel.name());
        }
    }
    let parts = by_needs(plan.suite, &plan.tests);
    let sparing = options.topology.is_empty() && options.dir.is_none() && !options.long;
    let mut jobs: VecDeque<Job> = VecDeque::new();
    for (kernel, file) in &kernels {
        for (name, topology) in &plan.topologies {
            for (needs, tests) in &parts {
                let here = |test: &&String| !sparing || belongs(test, name);
                let tests: Vec<String> = tests.iter().filter(here).cloned().collect();
                if tests.is_empty() {
                    continue;
                }
                jobs.push_back(Job {
                    suite: plan.suite,
                    kernel: kernel.clone(),
                    kernel_file: file.clone(),
                    topology_name: name.clone(),
                    topology: topology.clone(),
                    tests,
                    limit: Duration::from_secs(plan.limit.max(1)),
                    // Linux has no such words, and its tests will say what they miss.
                    clock: if kernel.is_linux() { Clock::Wall } else { needs.clock },
                    append: append(options, needs),
                });
            }
        }
    }
    let jobs: VecDeque<Job> = (0..options.repeat.unwrap_or(1)).flat_map(|_| jobs.clone()).collect();
    announce(&report, &jobs, skips);
    run_jobs(jobs, options.jobs, &report)?;
    let names: Vec<String> = kernels.iter().map(|(kernel, _)| kernel.name()).collect();
    // With everything, and not with a part of it.
    let whole = options.suites.is_empty()
        && options.filter.is_none()
        && options.shard.is_none()
        && options.repeat.is_none()
        && options.dir.is_none();
    if whole && kernels.iter().any(|(kernel, _)| *kernel == Choice::Proxima) {
        crate::suite::fuzz::run(options.long, &report)?;
    }
    finish(options, report, &names)
}

/// The words on the kernel's command line for tests with these needs.
fn append(options: &TestOptions, needs: &Needs) -> Vec<String> {
    options.append.iter().cloned().chain(needs.word.map(String::from)).collect()
}

/// Whether a test runs on a topology that nobody asked for by name.
fn belongs(test: &str, topology: &str) -> bool {
    let suite = test.split("::").next().unwrap_or_default();
    ANYWHERE.iter().all(|(name, topologies)| *name != suite || topologies.contains(&topology))
}

/// The tests by what they need of the machine.
fn by_needs(suite: &dyn Suite, tests: &[String]) -> Vec<(Needs, Vec<String>)> {
    let mut parts: Vec<(Needs, Vec<String>)> = Vec::new();
    for test in tests {
        let needs = suite.needs(test);
        match parts.iter_mut().find(|(own, _)| *own == needs) {
            Some((_, tests)) => tests.push(test.clone()),
            None => parts.push((needs, vec![test.clone()])),
        }
    }
    parts
}

/// Tells the report what to expect, and at once the verdicts of tests that are left out.
fn announce(report: &Report, jobs: &VecDeque<Job>, skips: &[(String, String)]) {
    for job in jobs {
        let kernel = job.kernel.name();
        for test in &job.tests {
            report.expect(suite_of(test), &job.topology_name, &kernel, 1);
        }
        for (test, why) in skips {
            report.add(Record {
                test: test.clone(),
                kernel: kernel.clone(),
                topology: job.topology_name.clone(),
                verdict: Verdict::Skip(why.clone()),
                millis: 0,
                parts: Vec::new(),
            });
        }
    }
}

fn run_jobs(jobs: VecDeque<Job>, at_a_time: Option<usize>, report: &Report) -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = at_a_time.unwrap_or(cpus / 2).clamp(1, jobs.len().max(1));
    if at_a_time == Some(0) {
        return Err(Fail { code: USAGE, message: "--jobs must be at least 1".into() });
    }
    let queue = Mutex::new(jobs);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = next else { return };
                    if let Err(fail) = job.run(&|record| report.add(record)) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(fail);
                        return;
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fail) => Err(fail),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_tests_without_loss_or_overlap() {
        let all: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let mut together: Vec<String> =
            (1..=3).flat_map(|own| shard(all.clone(), Some((own, 3)))).collect();
        together.sort();
        assert_eq!(together, all);
        assert_eq!(parse_shard("2/3"), Ok((2, 3)));
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(parse_shard(wrong).is_err(), "{wrong}");
        }
    }
}
