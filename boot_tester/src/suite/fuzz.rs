//! The fuzzer as two suites of `proxima test`: `fuzz`, the same sequences on Proxima and on Linux,
//! and `fuzz-syscalls`, any call with any arguments. Fixed seeds; a test for each topology.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Record, Verdict};
use crate::error::{Context, Result};
use crate::guest::kernel::Choice;
use crate::progress::Progress;

/// Seconds of work for `make test`: a guest of each kernel, and half a minute at most.
const SHORT: Size = Size { topologies: &["ring-4"], seed: 8, ops: 4000, calls: 60_000 };
/// For `make test-all`.
const LONG: Size = Size {
    topologies: &["one-node", "two-socket", "ring-4", "memoryless", "cxl", "glueless-8"],
    seed: 1000,
    ops: 100_000,
    calls: 1_000_000,
};

struct Size {
    topologies: &'static [&'static str],
    seed: u64,
    /// On each topology.
    ops: u64,
    calls: u64,
}

/// Runs both; `report` hears of each test.
pub fn run(long: bool, report: &super::report::Report) -> Result<()> {
    let size = if long { LONG } else { SHORT };
    let unavailable = Choice::LINUX.locate(&Progress::new(false)).err();
    for (suite, extra, count) in
        [("fuzz", None, size.ops), ("fuzz-syscalls", Some("--syscalls"), size.calls)]
    {
        for topology in size.topologies {
            report.expect(suite, topology, "-", 1);
        }
        for topology in size.topologies {
            report.busy(&format!("{suite} on {topology}"));
            let (seed, count) = (size.seed.to_string(), count.to_string());
            let mut args = vec!["fuzz", "--topology", topology, "--seed", &seed, "--ops", &count];
            args.extend(extra);
            let started = Instant::now();
            let verdict = match (&unavailable, extra) {
                (Some(why), None) => Verdict::Skip(format!("there is no Linux to compare: {why}")),
                _ => judge(&args)?,
            };
            report.add(Record {
                test: format!("{suite}::seed-{seed}-{count}"),
                kernel: "-".into(),
                topology: (*topology).into(),
                verdict,
                millis: started.elapsed().as_millis() as u64,
                parts: Vec::new(),
            });
        }
    }
    Ok(())
}

/// The command as a person would type it: its exit code is the verdict, its words the reason.
fn judge(args: &[&str]) -> Result<Verdict> {
    let own = std::env::current_exe().context("own path")?;
    let output =
        Command::new(own).args(args).stdin(Stdio::null()).output().context("proxima fuzz")?;
    if output.status.success() {
        return Ok(Verdict::Pass);
    }
    let text = format!(
        "{}{}again: proxima {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        args.join(" ")
    );
    Ok(Verdict::Fail(text))
}
