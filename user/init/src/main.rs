//! PID 1 of the guest, the same static program on Proxima and on Linux.
//!
//! It mounts what programs expect, opens the serial ports, runs what `/etc/proxima/run` asks for,
//! tells the host how it ended, and powers the machine off.
//!
//! | port  | carries                                                            |
//! |-------|--------------------------------------------------------------------|
//! | ttyS0 | the kernel's console; init adds only complaints of its own         |
//! | ttyS1 | the program's stdin and stdout (in tty mode its terminal)          |
//! | ttyS2 | the program's stderr                                               |
//! | ttyS3 | control: lines in both directions, see [`control`]                 |
//!
//! In pipe mode the program's streams go by shared memory instead of ttyS1 and ttyS2 where there is
//! some ([`shared`]).
//!
//! Guarantees: bytes pass unchanged in both directions, and every byte the program wrote has left
//! its port before the status line is sent. What makes up the image is the host's business.

mod batch;
mod control;
mod cpus;
mod device;
mod group;
mod loopback;
mod mounts;
mod observe;
mod placement;
mod ports;
mod ptrace;
mod pump;
mod run;
mod session;
mod share;
mod shared;
mod spec;
mod traffic;
mod tsc;

use std::fmt::Display;
use std::fs;

use rustix::system::{RebootCommand, reboot};

use crate::shared::Outbox;
use crate::spec::{Mode, Spec};

/// Where the host puts what to run; without it a shell is opened on the console.
const SPEC: &str = "/etc/proxima/run";

fn main() {
    let entry = tsc::read();
    let mut args = std::env::args_os();
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(observe::OBSERVED_ARG0) => observe::become_observed(args, false),
        Some(observe::MEASURED_ARG0) => observe::become_observed(args, true),
        Some(group::GROUPED_ARG0) => group::become_grouped(args),
        Some(session::LEADER_ARG0) => session::lead(args),
        Some(session::PROGRAM_ARG0) => session::become_program(args),
        Some(cpus::SPIN_ARG0) => cpus::spin(),
        _ => {}
    }
    if std::process::id() != 1 {
        eprintln!("init: this is a guest's PID 1; it is of no use elsewhere");
        std::process::exit(2);
    }
    mounts::mount_all();
    mounts::set_hostname();
    if let Err(error) = loopback::bring_up() {
        complain("lo", &error);
    }
    if let Err(error) = run_guest(entry) {
        complain("init", &error);
    }
    power_off()
}

fn run_guest(entry: u64) -> Result<(), String> {
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let words: Vec<&str> = cmdline.split_whitespace().collect();
    if words.contains(&"proxima.online=all") {
        cpus::online_all()?;
    }
    let mut spec = match fs::read_to_string(SPEC) {
        Ok(text) => Spec::parse(&text)?,
        Err(_) => return session::console_shell(),
    };
    group::make(&mut spec)?;
    let Some(ports) = ports::Ports::open() else {
        // Booted by hand, without the host tool's four ports.
        return session::on_console(&spec);
    };
    share::mount_all(&spec)?;
    let mut control = control::Control::new(ports.control)?;
    let shared = if spec.mode == Mode::Pipe { shared::Shared::find() } else { None };
    let shared = shared.map(|shared| (shared.clone(), Outbox::new(shared, control.sender())));
    let outbox = shared.as_ref().map(|(_, outbox)| outbox.clone());
    let how = if shared.is_some() { " shared" } else { "" };
    control.send(&format!("ready {entry}{how}"))?;
    let status = match spec.mode {
        Mode::Pipe => run::piped(&spec, ports.out, ports.err, &mut control, shared)?,
        Mode::Direct => run::direct(&spec, ports.out, ports.err)?,
        Mode::Tty => run::terminal(&spec, ports.out, &mut control)?,
        Mode::Batch => batch::run(&spec, ports.out)?,
    };
    control.send(&format!("clock {}", tsc::read()))?;
    for (number, path) in spec.fetch.iter().enumerate() {
        control.send_file(number, path.as_ref(), outbox.as_ref())?;
    }
    control.send(&status)
}

/// Prints to the kernel's console: the host shows it when a run fails.
pub fn complain(what: &str, error: &dyn Display) {
    let _ = fs::write("/dev/console", format!("init: {what}: {error}\r\n"));
}

fn power_off() -> ! {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        complain("power-off", &error);
    }
    // PID 1 ends only if power-off failed: the kernel then panics, which the host reports.
    std::process::exit(1)
}
