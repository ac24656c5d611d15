//! A program with a controlling terminal of its own, as a login gives it.
//!
//! init starts itself again under [`LEADER_ARG0`]: that process opens a session, takes the terminal
//! and stays its leader to the end, because a terminal whose leader exits is hung up and drops what
//! it has not yet sent. The program runs in the terminal's foreground process group below it; the
//! leader tells init on a pipe how it ended. (New processes are the places where setsid(2) and
//! setpgid(2) need no code between fork and exec.)

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::{Pid, ioctl_tiocsctty, setsid};
use rustix::termios::tcsetpgrp;

use crate::ports::set_terminal_mode;
use crate::run::{End, reap_forever};
use crate::spec::Spec;

pub const LEADER_ARG0: &str = "proxima-session";
pub const PROGRAM_ARG0: &str = "proxima-foreground";

/// Runs the first program of `spec` in a new session on `tty`, to its end.
pub fn run(spec: &Spec, tty: &str) -> Result<End, String> {
    let program = &spec.programs[0];
    let mut command = Command::new("/proc/self/exe");
    command.arg0(LEADER_ARG0).arg(tty).arg(&program.path).args(&program.args);
    command.env_clear().envs(spec.env.iter().map(|(k, v)| (k, v))).current_dir(&spec.cwd);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut leader = command.spawn().map_err(|e| format!("cannot open a session: {e}"))?;
    let stdin = leader.stdin.take();
    let mut pipe = leader.stdout.take().ok_or("no pipe to the session's leader")?;
    // Orphans come to init while it waits for the pipe.
    reap_forever();
    let mut line = String::new();
    let mut byte = [0];
    while pipe.read(&mut byte).is_ok_and(|count| count == 1) && byte[0] != b'\n' {
        line.push(byte[0] as char);
    }
    // Held open until here: it is what keeps the leader, and with it the terminal, alive.
    keep_for_good(stdin);
    End::parse(&line).ok_or_else(|| format!("the session on {tty} ended by itself"))
}

fn keep_for_good(stdin: Option<ChildStdin>) {
    std::mem::forget(stdin);
}

/// The session's leader. Arguments are the terminal, the program's path, and its argv.
pub fn lead(mut args: impl Iterator<Item = OsString>) -> ! {
    let tty = args.next().unwrap_or_default().to_string_lossy().into_owned();
    match lead_on(&tty, args) {
        Ok(end) => {
            let _ = writeln!(std::io::stdout(), "{end}");
            // Until init closes the pipe, which it does by powering off.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0)
        }
        Err(error) => {
            crate::complain(&tty, &error);
            std::process::exit(1)
        }
    }
}

fn lead_on(tty: &str, args: impl Iterator<Item = OsString>) -> std::io::Result<End> {
    setsid()?;
    let terminal: File = OpenOptions::new().read(true).write(true).open(tty)?;
    set_terminal_mode(&terminal)?;
    ioctl_tiocsctty(&terminal)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(PROGRAM_ARG0).args(args).process_group(0);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::from(terminal.try_clone()?)).stderr(Stdio::from(terminal.try_clone()?));
    let mut child = command.spawn()?;
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        tcsetpgrp(&terminal, group)?;
    }
    // The program waits for this pipe to close: only then is the terminal its own.
    drop(child.stdin.take());
    let status = child.wait()?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    })
}

/// The process that becomes the program: standard output is the terminal already.
pub fn become_program(args: impl Iterator<Item = OsString>) -> ! {
    let _ = std::io::stdin().read(&mut [0]);
    if rustix::stdio::dup2_stdin(std::io::stdout()).is_err() {
        std::process::exit(126);
    }
    exec(args)
}

/// Becomes another program: `args` are its path and its argv.
pub fn exec(mut args: impl Iterator<Item = OsString>) -> ! {
    let Some(path) = args.next() else { std::process::exit(127) };
    let mut command = Command::new(&path);
    if let Some(first) = args.next() {
        command.arg0(first);
    }
    let error = command.args(args).exec();
    eprintln!("init: {}: {error}", path.to_string_lossy());
    std::process::exit(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// No run file: a shell on the console, so that the image is of use when booted by hand.
pub fn console_shell() -> Result<(), String> {
    let text = "env PATH=/usr/sbin:/usr/bin:/sbin:/bin\nenv HOME=/root\nenv TERM=vt100\n\
                program /bin/sh\narg -sh\n";
    on_console(&Spec::parse(text)?)
}

/// Runs the first program of `spec` on the kernel's console.
pub fn on_console(spec: &Spec) -> Result<(), String> {
    let tty = console_tty();
    let end = run(spec, &tty)?;
    if let Ok(terminal) = File::open(&tty) {
        let _ = rustix::termios::tcdrain(&terminal);
    }
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
