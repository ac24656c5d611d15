//! `proxima bench`: what operations cost in instructions, on Proxima and on Linux, side by side.
//!
//! Exit code 0 when everything was measured (and `--check` finds nothing slower than the baseline),
//! 1 when not, 2 for a wrong request. How it is measured: docs/performance.md.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use regex::Regex;

use super::bench_boot;
use super::bench_guest::{Bench, Measured};
use super::bench_report::{self as report, Column};
use crate::error::{Context, Fail, Result};
use crate::guest::kernel::Choice;
use crate::paths;
use crate::progress::Progress;
use crate::topology::{Topology, file};

/// Two CPUs on each of four nodes; what the baseline was taken on.
pub const TOPOLOGY: &str = "ring-4";

#[derive(Args)]
pub struct BenchOptions {
    /// Measure only operations whose name matches
    #[arg(long, value_name = "REGEX")]
    pub filter: Option<String>,
    /// proxima, linux, both, or a kernel file
    #[arg(long, value_name = "KERNEL", default_value = "proxima")]
    pub kernel: String,
    /// The machine to measure on [default: ring-4]
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub topology: Option<String>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE", value_parser = paths::output())]
    pub json: Option<PathBuf>,
    /// Fail if an operation takes over 3 % more than in the baseline of the source tree
    #[arg(long, conflicts_with = "topology")]
    pub check: bool,
    /// Make what is measured the new baseline (with --filter: of those operations)
    #[arg(long, conflicts_with_all = ["topology", "check"])]
    pub update_baseline: bool,
    /// Measure booting instead: instructions, memory, time
    #[arg(long, conflicts_with_all = ["filter", "topology", "check", "update_baseline"])]
    pub boot: bool,
    /// Print the operations' names and measure none
    #[arg(long)]
    pub list: bool,
    /// Show what is done
    #[arg(long, short)]
    pub verbose: bool,
}

pub fn bench(options: &BenchOptions) -> Result<u8> {
    let progress = Progress::new(options.verbose);
    let kernels = Choice::parse_all(&options.kernel)?;
    let baselined = options.check || options.update_baseline;
    if baselined && !kernels.contains(&Choice::Proxima) {
        return Err(Fail::usage("the baseline is Proxima's: --kernel proxima or both"));
    }
    if options.boot {
        return bench_boot::measure(&kernels, options.json.as_deref(), &progress);
    }
    let filter = options
        .filter
        .as_deref()
        .map(|text| {
            Regex::new(text).map_err(|_| Fail::usage(format!("--filter {text:?} is no regex")))
        })
        .transpose()?;
    let topology = file::find(options.topology.as_deref().unwrap_or(TOPOLOGY))?;
    let bench = Bench::build(&progress)?;
    let mut names = bench.list()?;
    names.retain(|name| filter.as_ref().is_none_or(|filter| filter.is_match(name)));
    if names.is_empty() {
        return Err(Fail::usage("no operation is selected (see --list)"));
    }
    if options.list {
        progress.clear();
        names.iter().for_each(|name| println!("{name}"));
        return Ok(0);
    }
    let baseline = if options.check { Some(report::read_baseline()?) } else { None };
    let columns = measure(&bench, &kernels, &topology, &names, &progress)?;
    progress.clear();
    print!("{}", report::table(&names, &columns));
    if let Some(path) = &options.json {
        let text = report::json(&names, &columns, options.topology.as_deref().unwrap_or(TOPOLOGY))?;
        std::fs::write(path, text).context(path.display())?;
    }
    let mut code = u8::from(columns.iter().any(Column::has_failures));
    for column in columns.iter().filter(|column| column.name == "proxima") {
        if options.update_baseline {
            println!("{}", report::update_baseline(column, filter.is_none())?);
        }
        if let Some(baseline) = &baseline {
            let (text, well) = report::compare(&names, column, baseline);
            print!("{text}");
            code = code.max(u8::from(!well));
        }
    }
    Ok(code)
}

/// Both kernels at a time: a guest takes one thread of the host, and its counts do not depend on
/// how fast that is.
fn measure(
    bench: &Bench,
    kernels: &[Choice],
    topology: &Topology,
    names: &[String],
    progress: &Progress,
) -> Result<Vec<Column>> {
    let mut files = Vec::new();
    for kernel in kernels {
        files.push(kernel.locate(progress)?);
    }
    std::thread::scope(|scope| {
        let runs: Vec<_> = kernels
            .iter()
            .zip(&files)
            .map(|(kernel, file)| {
                scope.spawn(move || -> Result<Column> {
                    let started = Instant::now();
                    let heard = |at: usize, name: &str| {
                        let (kernel, of) = (kernel.name(), names.len());
                        progress.say(&format!("{kernel}: {name} ({at} of {of})"));
                    };
                    let results = bench.run(kernel, file, topology, names, &heard)?;
                    Ok(Column {
                        name: kernel.name(),
                        release: kernel.release(),
                        seconds: started.elapsed().as_secs_f64(),
                        results,
                    })
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().map_err(|_| Fail::broken("a measuring thread panicked"))?)
            .collect()
    })
}

impl Column {
    /// True if an operation that this kernel has could not be measured.
    fn has_failures(&self) -> bool {
        self.results.values().any(|result| matches!(result, Measured::Failed(_)))
    }
}
