//! `proxima test`: suites on topologies and kernels, several guests at a time.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regex::Regex;

use crate::error::{Context, Fail, Result, USAGE};
use crate::guest::kernel::Choice;
use crate::guest::linux;
use crate::progress::Progress;
use crate::suite::dir::DirSuite;
use crate::suite::guest_tests::GuestTests;
use crate::suite::report::{Report, table};
use crate::suite::runner::{Job, select};
use crate::suite::{Record, Suite, Verdict, junit, suite_of};
use crate::topology::{Topology, file};

/// Seconds a single test may take unless told otherwise.
pub const LIMIT: u64 = 60;
/// What a guest's init gets on top to end a test itself.
const GRACE: u64 = 15;
/// Where the project's own suites run unless told otherwise.
const TOPOLOGIES: &[&str] = &["one-node", "two-socket", "ring-4", "memoryless", "cxl"];
/// Somebody's tests: one machine with several nodes.
const DIR_TOPOLOGIES: &[&str] = &["two-socket"];

#[derive(clap::Args)]
pub struct TestOptions {
    /// Suites, or single tests as suite::name [default: all]
    #[arg(value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Topology to run on (repeat) [default: one-node, two-socket, ring-4, memoryless, cxl]
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
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the tests' names and run none
    #[arg(long)]
    pub list: bool,
    /// Run the test programs in a directory (its proxima.toml may say which and with what)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Seconds a single test may take [default: 60]
    #[arg(long, value_name = "SECONDS")]
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
    let topologies = topologies(options)?;
    match &options.dir {
        Some(dir) => {
            let suite = DirSuite::open(dir, options.timeout, &progress)?;
            let tests = select(&suite.list()?, &options.suites, filter.as_ref())?;
            let (tests, left_out): (Vec<_>, Vec<_>) =
                tests.into_iter().partition(|test| suite.skipped(test).is_none());
            let reason = |test: &str| suite.skipped(test).unwrap_or_default().to_string();
            // The guest's init ends a test that hangs; only if it cannot, the guest is ended.
            let limit = options.timeout.or(suite.timeout()).unwrap_or(LIMIT) + GRACE;
            run(options, &suite, tests, &left_out, &reason, topologies, Some(limit), progress)
        }
        None => {
            let suite = GuestTests::build(&progress)?;
            let tests = select(&suite.list()?, &options.suites, filter.as_ref())?;
            let reason = |_: &str| String::new();
            run(options, &suite, tests, &[], &reason, topologies, options.timeout, progress)
        }
    }
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

fn kernels(text: &str) -> Vec<Choice> {
    match text {
        "both" => vec![Choice::Proxima, Choice::Linux],
        other => vec![Choice::parse(other)],
    }
}

#[allow(clippy::too_many_arguments, reason = "two callers, each with its own kind of suite")]
fn run(
    options: &TestOptions,
    suite: &dyn Suite,
    tests: Vec<String>,
    left_out: &[String],
    reason: &dyn Fn(&str) -> String,
    topologies: Vec<(String, Topology)>,
    limit: Option<u64>,
    progress: Progress,
) -> Result<u8> {
    if options.list {
        progress.clear();
        for test in &tests {
            println!("{test}");
        }
        return Ok(0);
    }
    // Built or fetched before guests run beside each other.
    let kernels: Vec<(Choice, PathBuf)> = kernels(&options.kernel)
        .into_iter()
        .map(|kernel| kernel.locate(&progress).map(|file| (kernel, file)))
        .collect::<Result<_>>()?;
    progress.clear();
    if kernels.iter().any(|(kernel, _)| *kernel == Choice::Linux)
        && let Some(release) = linux::release()
    {
        println!("linux is Debian's {release}");
    }
    let limit = Duration::from_secs(limit.unwrap_or(LIMIT).max(1));
    let jobs: VecDeque<Job> = kernels
        .iter()
        .flat_map(|kernel| topologies.iter().map(move |topology| (kernel, topology)))
        .map(|((kernel, file), (name, topology))| Job {
            suite,
            kernel: kernel.clone(),
            kernel_file: file.clone(),
            topology_name: name.clone(),
            topology: topology.clone(),
            tests: tests.clone(),
            limit,
            append: options.append.clone(),
        })
        .collect();
    let report = Report::new(jobs.len() * (tests.len() + left_out.len()), options.verbose);
    announce(&report, &jobs, left_out, reason);
    run_jobs(jobs, options.jobs, &report)?;
    let (records, totals) = report.finish();
    if options.dir.is_some() || kernels.len() > 1 {
        let names: Vec<String> = kernels.iter().map(|(kernel, _)| kernel.name()).collect();
        print!("{}", table(&records, &names));
    }
    if let Some(path) = &options.junit {
        std::fs::write(path, junit::xml(&records)).context(path.display())?;
    }
    println!("{}", totals.line());
    Ok(u8::from(!totals.all_well()))
}

/// Tells the report what to expect, and at once the verdicts of tests that are left out.
fn announce(
    report: &Report,
    jobs: &VecDeque<Job>,
    left_out: &[String],
    reason: &dyn Fn(&str) -> String,
) {
    for job in jobs {
        let kernel = job.kernel.name();
        // Tests of a directory have no suite: a line for each would say everything twice.
        for test in job.tests.iter().filter(|test| test.contains("::")) {
            report.expect(suite_of(test), &job.topology_name, &kernel, 1);
        }
        for test in left_out {
            report.add(Record {
                test: test.clone(),
                kernel: kernel.clone(),
                topology: job.topology_name.clone(),
                verdict: Verdict::Skip(reason(test)),
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
