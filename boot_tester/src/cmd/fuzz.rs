//! `proxima fuzz`: the same random sequences on Proxima and on Linux, and where they differ; with
//! `--syscalls` any call with any arguments, on Proxima alone.
//!
//! Exit code 0 without a difference, 1 with one, 2 for a wrong request. docs/fuzzing.md tells what
//! is done and what is not.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::fuzz_calls;
use super::fuzz_guest::{Fuzzer, Kernel, Sequence, Traces, machine, parse};
use super::fuzz_kept::Kept;
use super::fuzz_masks::MASKS;
use super::fuzz_report::{self as report, Difference, compare};
use super::fuzz_shrink::shrink;
use crate::error::{Fail, Result, USAGE};
use crate::guest::kernel::Choice;
use crate::guest::machine::quote;
use crate::paths;
use crate::progress::Progress;
use crate::topology::{Topology, file};

/// Where sequences run unless told otherwise: more than one node, a node without memory, one
/// without CPUs.
const TOPOLOGIES: &[&str] = &["two-socket", "ring-4", "memoryless", "cxl"];
/// Calls of one guest's life, in the second mode.
const CALLS: u64 = 1_000_000;
/// Operations of one guest's life: a start of Linux takes as long as some thousand of them.
const BOOT: usize = 40_000;

#[derive(clap::Args)]
pub struct FuzzOptions {
    /// What the sequences are made from
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Operations on each topology
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub ops: u64,
    /// Topology to run on (repeat) [default: two-socket, ring-4, memoryless, cxl]
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub topology: Vec<String>,
    /// What is compared with Linux: proxima, a kernel file, or linux itself
    #[arg(long, value_name = "KERNEL", default_value = "proxima")]
    pub kernel: String,
    /// Only this one of the seed's sequences
    #[arg(long, value_name = "I")]
    pub sequence: Option<u64>,
    /// The sequences of a file instead of a seed's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "ops", "sequence"])]
    pub replay: Option<PathBuf>,
    /// Differences that are shrunk and told in full; of others only how to repeat them
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tell: usize,
    /// Any system call with any arguments instead, on one kernel alone: no panic, no hang, no lost
    /// frame (--ops counts calls)
    #[arg(long, conflicts_with_all = ["sequence", "replay", "lines"])]
    pub syscalls: bool,
    /// With --syscalls, on the checked kernel: let an allocation of each call fail
    #[arg(long, requires = "syscalls")]
    pub fail_allocations: bool,
    /// With --syscalls: write the console of the guest that was last to a file
    #[arg(long, value_name = "FILE", requires = "syscalls", value_parser = paths::output())]
    pub console: Option<PathBuf>,
    /// Tell differences as they were found, without shrinking them
    #[arg(long)]
    pub no_shrink: bool,
    /// Keep Linux's answers, and use those kept before for the same sequences, machine and programs
    #[arg(long, conflicts_with_all = ["syscalls", "lines"])]
    pub keep: bool,
    /// Print both kernels' lines of every sequence (for few sequences)
    #[arg(long)]
    pub lines: bool,
    /// Guests at a time [default: half the CPUs]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Run only every Nth sequence, beginning with the Ith
    #[arg(long, value_name = "I/N", value_parser = super::test::parse_shard)]
    pub shard: Option<(usize, usize)>,
    /// Show what is done
    #[arg(long, short)]
    pub verbose: bool,
}

pub fn fuzz(options: &FuzzOptions) -> Result<u8> {
    let progress = Progress::new(options.verbose);
    if options.jobs == Some(0) {
        return Err(Fail { code: USAGE, message: "--jobs must be at least 1".into() });
    }
    let names: Vec<String> = match options.topology.as_slice() {
        [] => TOPOLOGIES.iter().map(|name| name.to_string()).collect(),
        some => some.to_vec(),
    };
    let topologies: Vec<(String, Topology)> = names
        .into_iter()
        .map(|name| file::find(&name).map(|found| (name, found)))
        .collect::<Result<_>>()?;
    let given = options.replay.as_deref().map(|path| {
        let text =
            paths::text(path, paths::RECORD).map_err(|e| Fail::usage(format!("{path:?}: {e}")))?;
        parse(&text)
    });
    let given = given.transpose()?;
    let fuzzer = Fuzzer::build(&progress)?;
    let locate = |choice: Choice| -> Result<Kernel> {
        Ok(Kernel { file: choice.locate(&progress)?, choice })
    };
    if options.syscalls {
        let kernel = locate(Choice::parse(&options.kernel)?)?;
        return any_calls(options, &fuzzer, &kernel, &topologies, &progress);
    }
    let campaign = Campaign {
        options,
        fuzzer: &fuzzer,
        linux: locate(Choice::LINUX)?,
        other: locate(Choice::parse(&options.kernel)?)?,
        jobs: options.jobs.unwrap_or_else(default_jobs),
        kept: options.keep.then(|| Ok(paths::cache()?.join("fuzz"))).transpose()?,
        progress: &progress,
        state: Mutex::new(State::default()),
    };
    if let Some(release) = campaign.linux.choice.release() {
        progress.clear_for(|| println!("linux is {release}"));
    }
    campaign.run(&topologies, given.as_deref())
}

/// The second mode, one guest after the other: each has many processes.
fn any_calls(
    options: &FuzzOptions,
    fuzzer: &Fuzzer,
    kernel: &Kernel,
    topologies: &[(String, Topology)],
    progress: &Progress,
) -> Result<u8> {
    let started = Instant::now();
    let (own, of) = options.shard.unwrap_or((1, 1));
    let (mut calls, mut failed, mut failures) = (0, 0, 0);
    for (name, topology) in topologies {
        let guests = options.ops.div_ceil(CALLS);
        for guest in (0..guests).skip(own - 1).step_by(of) {
            let count = (options.ops - guest * CALLS).min(CALLS);
            let seed = options.seed + guest;
            let at = (name.as_str(), topology);
            let how = fuzz_calls::How {
                seed,
                calls: count,
                fail_allocations: options.fail_allocations,
                console: options.console.as_deref(),
            };
            let verdict = fuzz_calls::run(fuzzer, kernel, at, &how, progress)?;
            calls += verdict.calls;
            failed += verdict.failed;
            if let Some(failure) = verdict.failure {
                failures += 1;
                progress.clear_for(|| println!("{failure}"));
            }
        }
    }
    progress.clear();
    let seconds = started.elapsed().as_secs_f64();
    let under = match options.fail_allocations {
        true => format!(" ({failed} with an allocation that failed)"),
        false => String::new(),
    };
    println!("{calls} calls{under}, {failures} failures in {seconds:.0} s");
    Ok(u8::from(failures > 0))
}

fn operations(sequences: &[Sequence]) -> usize {
    sequences.iter().map(|sequence| sequence.ops.len()).sum()
}

fn default_jobs() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

struct Campaign<'a> {
    options: &'a FuzzOptions,
    fuzzer: &'a Fuzzer,
    linux: Kernel,
    other: Kernel,
    jobs: usize,
    /// Where Linux's answers are kept.
    kept: Option<PathBuf>,
    progress: &'a Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    told: usize,
    differences: usize,
    /// Operations that Linux was not asked about again.
    kept: usize,
    masked: BTreeMap<&'static str, usize>,
}

/// What one guest of each kernel does.
struct Batch<'a> {
    name: &'a str,
    topology: &'a Topology,
    sequences: Vec<Sequence>,
}

impl Campaign<'_> {
    fn run(&self, topologies: &[(String, Topology)], given: Option<&[Sequence]>) -> Result<u8> {
        let started = Instant::now();
        let (mut batches, mut total) = (VecDeque::new(), 0);
        for (name, topology) in topologies {
            let sequences = match given {
                Some(list) => list.to_vec(),
                None => self.fuzzer.generate(topology, &self.request())?,
            };
            let (own, of) = self.options.shard.unwrap_or((1, 1));
            let mut sequences = sequences.into_iter().skip(own - 1).step_by(of).peekable();
            while sequences.peek().is_some() {
                let (mut part, mut ops) = (Vec::new(), 0);
                while let Some(sequence) = sequences.next_if(|_| ops < BOOT) {
                    ops += sequence.ops.len();
                    part.push(sequence);
                }
                total += ops;
                batches.push_back(Batch { name, topology, sequences: part });
            }
        }
        let queue = Mutex::new(batches);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..(self.jobs / 2).max(1) {
                scope.spawn(|| {
                    loop {
                        let next = lock(&queue).pop_front();
                        let Some(batch) = next else { return };
                        if let Err(fail) = self.batch(&batch, total) {
                            lock(&queue).clear();
                            lock(&failure).get_or_insert(fail);
                            return;
                        }
                    }
                });
            }
        });
        self.progress.clear();
        if let Some(fail) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(fail);
        }
        let state = lock(&self.state);
        for (mask, count) in &state.masked {
            println!("masked {count} times: {mask}");
        }
        if state.kept > 0 {
            println!("Linux's answers to {} operations were kept ones", state.kept);
        }
        println!(
            "{} operations, {} differences in {:.0} s",
            state.done,
            state.differences,
            started.elapsed().as_secs_f64()
        );
        Ok(u8::from(state.differences > 0))
    }

    /// What `fuzz generate` is asked for.
    fn request(&self) -> Vec<String> {
        let mut args = vec!["--seed".into(), self.options.seed.to_string()];
        match self.options.sequence {
            Some(index) => args.extend(["--sequence".into(), index.to_string()]),
            None => args.extend(["--ops".into(), self.options.ops.to_string()]),
        }
        args
    }

    fn batch(&self, batch: &Batch, total: usize) -> Result<()> {
        let (name, other) = (batch.name, self.other.choice.name());
        let full = self.options.lines;
        let dir = self.kept.as_deref().filter(|_| !full);
        let (linux, second) = self.both(batch.topology, &batch.sequences, full, dir)?;
        let mut suspects = Vec::new();
        for sequence in &batch.sequences {
            let pair = (&linux[&sequence.name], &second[&sequence.name]);
            if full {
                let text = report::both(sequence, pair.0, pair.1, &other);
                self.tell(&format!("{name}, sequence {}:\n{text}", sequence.name));
            }
            if compare(sequence, pair.0, pair.1).0.is_some() {
                suspects.push(sequence.clone());
            }
        }
        // With their lines now: masks need them.
        let mut found = Vec::new();
        let mut unsteady = Vec::new();
        if !suspects.is_empty() {
            let again = self.both(batch.topology, &suspects, true, None)?;
            for sequence in suspects {
                let name = &sequence.name;
                let (difference, masks) = compare(&sequence, &again.0[name], &again.1[name]);
                if difference.is_none() && masks.is_empty() {
                    let steady = linux[name].answers_as(&again.0[name]);
                    unsteady.push((sequence.clone(), if steady { &other } else { "linux" }));
                }
                let mut state = lock(&self.state);
                for mask in masks {
                    *state.masked.entry(mask.why).or_default() += 1;
                }
                if let Some(difference) = difference {
                    found.push((sequence, difference));
                }
            }
        }
        let ops = operations(&batch.sequences);
        let line = {
            let mut state = lock(&self.state);
            state.done += ops;
            state.differences += found.len() + unsteady.len();
            format!(
                "{name}: {} of {total} operations, {} differences",
                state.done, state.differences
            )
        };
        if std::io::stderr().is_terminal() {
            self.progress.say(&line);
        } else {
            println!("{line}");
        }
        let tell = {
            let mut state = lock(&self.state);
            let tell = self.options.tell.saturating_sub(state.told).min(found.len());
            state.told += tell;
            tell
        };
        if tell > 0 {
            self.explain(batch, &found[..tell])?;
        }
        for (sequence, kernel) in &unsteady {
            let again = self.again(batch, sequence);
            self.tell(&format!(
                "difference, once: {kernel} does otherwise the second time: {again}"
            ));
        }
        for (sequence, _) in &found[tell..] {
            self.tell(&format!("difference: {}", self.again(batch, sequence)));
        }
        Ok(())
    }

    /// Runs sequences on both kernels, at the same time where two guests are allowed; on Linux only
    /// if `kept` does not have its answers.
    fn both(
        &self,
        topology: &Topology,
        sequences: &[Sequence],
        full: bool,
        kept: Option<&Path>,
    ) -> Result<(Traces, Traces)> {
        let run = |kernel: &Kernel| -> Result<Traces> {
            let name = kernel.choice.name();
            let done = std::cell::Cell::new(0);
            let heard = |sequence: &Sequence| {
                done.set(done.get() + 1);
                let (at, of) = (done.get(), sequences.len());
                self.progress.say(&format!("{name}: {} ({at} of {of})", sequence.name));
            };
            self.fuzzer.run(kernel, topology, sequences, full, &heard)
        };
        let ask_linux = || {
            let Some(dir) = kept else { return run(&self.linux) };
            let kept = Kept::of(dir, self.fuzzer, &self.linux, topology, sequences)?;
            if let Some(traces) = kept.load(sequences) {
                lock(&self.state).kept += operations(sequences);
                return Ok(traces);
            }
            let traces = run(&self.linux)?;
            kept.store(sequences, &traces)?;
            Ok(traces)
        };
        if self.jobs < 2 {
            return Ok((ask_linux()?, run(&self.other)?));
        }
        std::thread::scope(|scope| {
            let linux = scope.spawn(ask_linux);
            let other = run(&self.other);
            let linux = linux.join().map_err(|_| Fail::broken("a fuzzing thread panicked"))?;
            Ok((linux?, other?))
        })
    }

    /// Shrinks differences and tells them.
    fn explain(&self, batch: &Batch, found: &[(Sequence, Difference)]) -> Result<()> {
        let oracle = |candidates: &[Sequence]| -> Result<Vec<Option<usize>>> {
            let (linux, other) = self.both(batch.topology, candidates, !MASKS.is_empty(), None)?;
            Ok(candidates
                .iter()
                .map(|own| Some(compare(own, &linux[&own.name], &other[&own.name]).0?.place(own)))
                .collect())
        };
        let cut = |(sequence, difference): &(Sequence, Difference)| {
            let ops = sequence.ops[..=difference.place(sequence)].to_vec();
            Sequence { name: sequence.name.clone(), ops }
        };
        let mut short: Vec<Sequence> = found.iter().map(cut).collect();
        if !self.options.no_shrink {
            short = shrink(&short, &oracle)?;
        }
        let (linux, other) = self.both(batch.topology, &short, true, None)?;
        let kernel = self.other.choice.name();
        for (short, (from, _)) in short.iter().zip(found) {
            let (linux, other) = (&linux[&short.name], &other[&short.name]);
            let mut text = format!(
                "\ndifference on {}, sequence {} ({} of {} operations are enough):\n{}",
                batch.name,
                from.name,
                short.ops.len(),
                from.ops.len(),
                report::both(short, linux, other, &kernel)
            );
            text += &format!("again: {}\n", self.again(batch, from));
            text += "as a test:\n";
            text += &report::test(short, linux, &machine(batch.topology));
            self.tell(&text);
        }
        Ok(())
    }

    /// The exact command that repeats a sequence.
    fn again(&self, batch: &Batch, sequence: &Sequence) -> String {
        let what = match (&self.options.replay, sequence.name.split_once('.')) {
            (Some(path), _) => format!("--replay {}", quote(&path.display().to_string())),
            (None, Some((seed, index))) => format!("--seed {seed} --sequence {index}"),
            (None, None) => String::new(),
        };
        let kernel = quote(&self.options.kernel);
        format!("proxima fuzz --topology {} {what} --kernel {kernel}", quote(batch.name))
    }

    /// A text for the person, past the line that tells the progress.
    fn tell(&self, text: &str) {
        self.progress.clear_for(|| println!("{text}"));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
