//! `proxima bench --boot`: what it takes from the kernel's entry to init's first instructions, how
//! much memory is in use then, and the time until a program's first line.
//!
//! Instructions and memory: one CPU, four nodes, 2 GiB, under `-icount`; the time-stamp counter at
//! init's main(), less its value at the entry of a kernel that only prints it. Memory is all of the
//! machine's less what a first program finds free, so that frame metadata and the kernel itself
//! count, and init with its files, too. Time: `proxima run` on four CPUs, already built, with the
//! accelerator there is; the median of several.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::bench_probe;
use super::prepare;
use crate::build;
use crate::cleanup::WorkDir;
use crate::error::{Context, Fail, Result};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, Machine};
use crate::guest::session::Session;
use crate::guest::watch::{Outcome, Sink, follow};
use crate::image::base;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::progress::Progress;
use crate::topology::Topology;

const NODES: usize = 4;
const MEMORY: u64 = 2 << 30;
/// Starts on the wall clock; the median is told.
const STARTS: usize = 5;

struct Boot {
    kernel: String,
    instructions: u64,
    used_kib: Option<u64>,
    seconds: f64,
}

pub fn measure(kernels: &[Choice], json: Option<&Path>, progress: &Progress) -> Result<u8> {
    let init = build::user("init", progress)?;
    let work = WorkDir::new()?;
    let image = work.path().join("image.cpio");
    write_image(&init, &image)?;
    let probe = work.path().join("probe");
    std::fs::write(&probe, bench_probe::kernel()).context(probe.display())?;
    progress.say("firmware");
    let firmware = firmware(&probe, &image)?;
    let mut boots = Vec::new();
    for kernel in kernels {
        let name = kernel.name();
        progress.say(&format!("{name}: instructions"));
        let file = kernel.locate(progress)?;
        let (tsc, used_kib) = boot(kernel, &file, &image)?;
        let mut times = Vec::new();
        for start in 1..=STARTS {
            progress.say(&format!("{name}: start {start} of {STARTS}"));
            times.push(first_line(&name)?);
        }
        times.sort_by(f64::total_cmp);
        let instructions = tsc.saturating_sub(firmware);
        boots.push(Boot { kernel: name, instructions, used_kib, seconds: times[STARTS / 2] });
    }
    progress.clear();
    print(&boots, firmware);
    if let Some(path) = json {
        let list: Vec<_> = boots
            .iter()
            .map(|boot| {
                json!({"kernel": boot.kernel, "instructions": boot.instructions,
                       "used_kib": boot.used_kib, "first_line_seconds": boot.seconds})
            })
            .collect();
        let all = json!({"firmware_instructions": firmware, "boots": list});
        let text = serde_json::to_string_pretty(&all).context("JSON")? + "\n";
        std::fs::write(path, text).context(path.display())?;
    }
    Ok(0)
}

fn print(boots: &[Boot], firmware: u64) {
    println!("{:10} {:>16} {:>12} {:>14}", "kernel", "instructions", "memory KiB", "first line s");
    for boot in boots {
        let used = boot.used_kib.map_or("-".into(), |kib| kib.to_string());
        let millions = boot.instructions as f64 / 1e6;
        println!("{:10} {millions:>14.1} M {used:>12} {:>14.2}", boot.kernel, boot.seconds);
    }
    println!(
        "instructions: kernel's entry to init's main, 1 CPU, 4 nodes, 2 GiB (the firmware's {:.1} M \
         left out); first line: proxima run, 4 CPUs",
        firmware as f64 / 1e6
    );
}

fn write_image(init: &Path, image: &Path) -> Result<()> {
    let mut tree = base::skeleton()?;
    base::finish(&mut tree, init)?;
    let file = RunFile {
        mode: Mode::Direct,
        env: Vec::new(),
        cwd: "/".into(),
        winsize: None,
        timeout: 0,
        nonce: String::new(),
        placement: false,
        traffic: false,
        modules: Vec::new(),
        shares: Vec::new(),
        group: Vec::new(),
        fetch: Vec::new(),
        programs: vec![Program {
            path: "/bin/busybox".into(),
            args: ["cat", "/proc/meminfo"].map(Into::into).into(),
            name: String::new(),
        }],
    };
    tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
    tree.write(image)
}

fn machine(kernel: &Choice, file: &Path, image: &Path) -> Result<Machine> {
    let topology = Topology::even(NODES, 1, MEMORY).map_err(Fail::broken)?;
    Ok(prepare::machine(topology, kernel, file, Clock::Instructions, &[], image))
}

/// The time-stamp counter as a kernel finds it.
fn firmware(probe: &Path, image: &Path) -> Result<u64> {
    let machine = machine(&Choice::Proxima, probe, image)?;
    let mut session = Session::start(&machine, None)?;
    follow(&mut session, &mut Heard::default(), None, Some(machine.boot_limit()))?;
    let tail = session.console.tail();
    tail.last()
        .and_then(|line| line.get(line.len().checked_sub(16)?..))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Fail::broken(format!("the probe kernel said {tail:?}")))
}

/// The time-stamp counter at init's main, and KiB in use while the first program runs.
fn boot(kernel: &Choice, file: &Path, image: &Path) -> Result<(u64, Option<u64>)> {
    let machine = machine(kernel, file, image)?;
    let mut session = Session::start(&machine, None)?;
    let mut heard = Heard::default();
    let outcome = follow(&mut session, &mut heard, None, Some(machine.boot_limit()))?;
    match (heard.tsc, outcome) {
        (Some(tsc), Outcome::Status(0)) => {
            let text = String::from_utf8_lossy(&heard.out);
            Ok((tsc, free_kib(&text).map(|free| (MEMORY / 1024).saturating_sub(free))))
        }
        (_, outcome) => Err(Fail::broken(format!(
            "{} did not boot: {outcome:?}; {}",
            kernel.name(),
            session.console.report()
        ))),
    }
}

fn free_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Seconds from starting `proxima run` to the program's first byte.
fn first_line(kernel: &str) -> Result<f64> {
    let own = std::env::current_exe().context("own path")?;
    let started = Instant::now();
    let mut child = Command::new(own)
        .args(["run", "--nodes", "4", "--cpus", "4", "--kernel", kernel, "--", "echo", "up"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("proxima run")?;
    let mut byte = [0];
    // The pipe stays open to the end, or the program would be told that nobody listens.
    let mut out = child.stdout.take();
    let got = out.as_mut().map(|out| out.read_exact(&mut byte));
    let taken = started.elapsed().as_secs_f64();
    let rest = out.as_mut().map(|out| std::io::copy(out, &mut std::io::sink()));
    drop((rest, out));
    let end = child.wait_with_output().context("proxima run")?;
    match got {
        Some(Ok(())) if end.status.success() => Ok(taken),
        _ => Err(Fail::broken(format!(
            "proxima run --kernel {kernel} ended with {}: {}",
            end.status,
            String::from_utf8_lossy(&end.stderr).trim()
        ))),
    }
}

/// Keeps what init and the program say.
#[derive(Default)]
struct Heard {
    tsc: Option<u64>,
    out: Vec<u8>,
}

impl Sink for Heard {
    fn out(&mut self, bytes: &[u8]) -> bool {
        self.out.extend_from_slice(bytes);
        true
    }

    fn err(&mut self, _bytes: &[u8]) -> bool {
        true
    }

    fn ready(&mut self, _session: &Session, tsc: u64) {
        self.tsc = Some(tsc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_from_meminfo() {
        let text = "MemTotal:        2042364 kB\nMemFree:         1998764 kB\n";
        assert_eq!(free_kib(text), Some(1_998_764));
        assert_eq!(free_kib("nothing"), None);
    }
}
