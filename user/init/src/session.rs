//! A program with a controlling terminal of its own, as a login gives it: init starts itself again
//! under [`ARG0`], and that process opens a session, takes the terminal and becomes the program.
//! (A new process is the one place where setsid(2) needs no code between fork and exec.)

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{ioctl_tiocsctty, setsid};

use crate::ports::set_terminal_mode;
use crate::run::{kill_the_rest, wait_for};
use crate::spec::Spec;

pub const ARG0: &str = "proxima-session";

/// The command that opens a session on `tty` and runs the first program of `spec` there.
pub fn command(spec: &Spec, tty: &str) -> Command {
    let program = &spec.programs[0];
    let mut command = Command::new("/proc/self/exe");
    command.arg0(ARG0).arg(tty).arg(&program.path).args(&program.args);
    command.env_clear().envs(spec.env.iter().map(|(k, v)| (k, v))).current_dir(&spec.cwd);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The far side of [`command`]: arguments are the terminal, the program's path, and its argv.
pub fn become_program(mut args: impl Iterator<Item = String>) -> ! {
    let (Some(tty), Some(path)) = (args.next(), args.next()) else { std::process::exit(127) };
    if let Err(error) = take_terminal(&tty) {
        crate::complain(&tty, &error);
        std::process::exit(126);
    }
    let mut command = Command::new(&path);
    if let Some(first) = args.next() {
        command.arg0(first);
    }
    let error = command.args(args).exec();
    eprintln!("init: {path}: {error}");
    std::process::exit(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

fn take_terminal(path: &str) -> std::io::Result<()> {
    setsid()?;
    let tty: File = OpenOptions::new().read(true).write(true).open(path)?;
    set_terminal_mode(&tty)?;
    ioctl_tiocsctty(&tty)?;
    rustix::stdio::dup2_stdin(&tty)?;
    rustix::stdio::dup2_stdout(&tty)?;
    rustix::stdio::dup2_stderr(&tty)?;
    Ok(())
}

/// No run file: a shell on the console, so that the image is of use when booted by hand.
pub fn console_shell() -> Result<(), String> {
    let text = "env PATH=/usr/sbin:/usr/bin:/sbin:/bin\nenv HOME=/root\nenv TERM=vt100\n\
                program /bin/sh\narg -sh\n";
    on_console(&Spec::parse(text)?)
}

/// Runs the first program of `spec` on the kernel's console.
pub fn on_console(spec: &Spec) -> Result<(), String> {
    let child = command(spec, &console_tty()).spawn().map_err(|e| format!("cannot start: {e}"))?;
    let end = wait_for(&child)?;
    kill_the_rest();
    crate::complain("the program ended", &end);
    Ok(())
}

/// /dev/console can be no controlling terminal; the tty behind it can.
fn console_tty() -> String {
    std::fs::read_to_string("/sys/class/tty/console/active")
        .ok()
        .and_then(|names| names.split_whitespace().last().map(|name| format!("/dev/{name}")))
        .unwrap_or_else(|| "/dev/ttyS0".into())
}
