//! Looking at a program's memory when it has ended, but before its memory is gone.
//!
//! Proxima keeps a process's memory for its parent if told so (/proc/PID/keep_memory). On Linux a
//! tracer is stopped at the end of the program instead (ptrace(2), PTRACE_O_TRACEEXIT).
//!
//! The program must not run before it is observed: init starts itself under [`OBSERVED_ARG0`], and
//! that process waits at a FIFO before it becomes the program.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};

use crate::placement;
use crate::ptrace;
use crate::run::{End, end_of, wait_for};
use crate::spec::{Program, Spec};
use crate::traffic;

pub const OBSERVED_ARG0: &str = "proxima-observed";
/// As [`OBSERVED_ARG0`], and its memory traffic is counted.
pub const MEASURED_ARG0: &str = "proxima-measured";
const GATE: &str = "/dev/proxima-gate";

/// How this kernel is asked.
enum Means {
    KeptMemory,
    Trace,
}

/// As [`crate::run::command`], for a program that is started with [`open_gate`].
pub fn command(spec: &Spec, program: &Program) -> Result<Command, String> {
    mknodat(CWD, GATE, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .map_err(|e| format!("{GATE}: {e}"))?;
    let name = if spec.traffic { MEASURED_ARG0 } else { OBSERVED_ARG0 };
    let become_observed = Program {
        path: "/proc/self/exe".into(),
        args: [name.into(), program.path.clone()]
            .into_iter()
            .chain(program.args.iter().cloned())
            .collect(),
        name: String::new(),
    };
    Ok(crate::run::command(spec, &become_observed))
}

/// The process that becomes the program once somebody watches it.
pub fn become_observed(args: impl Iterator<Item = std::ffi::OsString>, measured: bool) -> ! {
    let opened = fs::File::open(GATE).and_then(|mut gate| gate.read(&mut [0]));
    if let Err(error) = opened {
        eprintln!("init: {GATE}: {error}");
        std::process::exit(126);
    }
    // Before it is counted, and before its memory is looked at.
    crate::group::enter();
    if measured {
        traffic::start();
    }
    crate::session::exec(args)
}

/// Lets the program of [`command`] begin, waits for its end, and tells where its pages lay then.
pub fn wait_and_look(child: &Child, spec: &Spec) -> Result<(End, Vec<String>), String> {
    let pid = child.id();
    let means = if Path::new("/proc/self/keep_memory").exists() {
        fs::write(format!("/proc/{pid}/keep_memory"), "1")
            .map_err(|e| format!("keep_memory: {e}"))?;
        Means::KeptMemory
    } else {
        ptrace::seize(pid)?;
        Means::Trace
    };
    fs::write(GATE, "!").map_err(|e| format!("{GATE}: {e}"))?;
    let _ = fs::remove_file(GATE);
    match means {
        Means::KeptMemory => {
            let id = Pid::from_raw(pid as i32).ok_or("a process without a number")?;
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(error) = waitid(WaitId::Pid(id), ended) {
                if error != rustix::io::Errno::INTR {
                    return Err(format!("waitid: {error}"));
                }
            }
            let table = look(pid, spec);
            Ok((wait_for(child)?, table))
        }
        Means::Trace => trace(pid, spec),
    }
}

/// What is to be seen of a process at its end: the table, and the texts that the host wants.
fn look(pid: u32, spec: &Spec) -> Vec<String> {
    if spec.traffic {
        traffic::end();
        for name in ["numa_maps", "numa_pages"] {
            // What a kernel does not have the host misses by itself.
            let _ = fs::read(format!("/proc/{pid}/{name}"))
                .and_then(|text| fs::write(format!("/run/proxima.{name}"), text));
        }
    }
    if !spec.placement {
        return Vec::new();
    }
    let name = &spec.programs[0].path.to_string_lossy();
    // It may have become another program.
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = if comm.trim().is_empty() { name } else { comm.trim() };
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/numa_maps")) else {
        return vec![format!("placement of {name}: this kernel has no numa_maps")];
    };
    let pages = fs::read_to_string(format!("/proc/{pid}/numa_pages")).ok();
    placement::table(name, &maps, pages.as_deref())
}

/// Waits for a traced program, handing it its signals.
fn trace(pid: u32, spec: &Spec) -> Result<(End, Vec<String>), String> {
    let mut table = Vec::new();
    loop {
        let (who, status) = match wait(WaitOptions::empty()) {
            Ok(Some(found)) => found,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("wait: {error}")),
        };
        if who.as_raw_nonzero().get() as u32 != pid {
            continue;
        }
        if let Some(end) = end_of(status) {
            return Ok((end, table));
        }
        table = resume(pid, spec, status, table)?;
    }
}

fn resume(
    pid: u32,
    spec: &Spec,
    status: WaitStatus,
    table: Vec<String>,
) -> Result<Vec<String>, String> {
    let event = status.as_raw() as u32 >> 16;
    let signal = status.stopping_signal().unwrap_or(0);
    match event {
        ptrace::EVENT_EXIT => {
            let table = look(pid, spec);
            ptrace::go_on(pid, 0)?;
            return Ok(table);
        }
        // Stopped as a whole, by SIGSTOP and the like: it stays so until SIGCONT.
        ptrace::EVENT_STOP if ptrace::stops(signal) => ptrace::listen(pid)?,
        ptrace::EVENT_STOP => ptrace::go_on(pid, 0)?,
        _ => ptrace::go_on(pid, signal)?,
    }
    Ok(table)
}
