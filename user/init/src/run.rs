//! Running one program in each of the ways [`crate::spec::Mode`] names, and waiting for it while
//! reaping every orphan that is handed to PID 1.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use rustix::termios::{Winsize, tcdrain, tcsetwinsize};

use crate::control::{Control, Message};
use crate::observe;
use crate::pump::{Inlet, Outlet, Stdin, to_host};
use crate::session;
use crate::shared::{Outbox, Shared};
use crate::spec::{Program, Spec};
use crate::traffic;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

impl End {
    /// Reads what [`End`] displays as.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.trim().split_once(' ')?;
        let number = number.parse().ok()?;
        match kind {
            "exit" => Some(Self::Exit(number)),
            "signal" => Some(Self::Signal(number)),
            _ => None,
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exit(code) => write!(f, "exit {code}"),
            End::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// The program's streams as pipes, carried by the shared memory where there is some.
pub fn piped(
    spec: &Spec,
    out: File,
    err: File,
    control: &mut Control,
    shared: Option<(Arc<Shared>, Outbox)>,
) -> Result<String, String> {
    let in_port = out.try_clone().map_err(|e| e.to_string())?;
    let outlet = |port: File, name| match &shared {
        Some((_, outbox)) => Outlet::Shared(outbox.clone(), name),
        None => Outlet::Port(port),
    };
    let (out, mut err) = (outlet(out, "out"), outlet(err, "err"));
    let program = &spec.programs[0];
    let mut command = prepared(spec, program)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let (why, end) = not_started(&spec.programs[0], &error);
            let _ = err.send(why.as_bytes());
            err.drain();
            return Ok(end.into());
        }
    };
    // Dropping the Command closes init's copies of the pipes' far ends.
    drop(command);
    let inlet = match &shared {
        Some((shared, _)) => Inlet::Shared(shared.clone()),
        None => Inlet::Port(in_port),
    };
    let stdin = child.stdin.take().map(|pipe| Stdin::start(inlet, pipe, control.sender()));
    let outbox = shared.map(|(_, outbox)| outbox);
    control.listen(move |message| match (message, &stdin, &outbox) {
        (Message::Eof(total), Some(stdin), _) => stdin.set_end(total),
        (Message::In(total), Some(stdin), _) => stdin.put(total),
        (Message::Taken(total), _, Some(outbox)) => outbox.taken(total),
        _ => {}
    });
    let stdout = child.stdout.take().map(|pipe| to_host(pipe, out));
    let stderr = child.stderr.take().map(|pipe| to_host(pipe, err));
    let (end, table) = end_of_program(spec, &child)?;
    for line in table {
        control.send(&format!("placement {line}"))?;
    }
    // Whoever still holds the pipes would keep the pumps waiting; the machine ends here anyway.
    kill_the_rest();
    let count =
        |pump: Option<std::thread::JoinHandle<u64>>| pump.and_then(|p| p.join().ok()).unwrap_or(0);
    let (out, err) = (count(stdout), count(stderr));
    Ok(format!("{end} out {out} err {err}"))
}

/// What the program reads in direct mode, if the image has it.
const STDIN: &str = "/etc/proxima/stdin";

pub fn direct(spec: &Spec, out: File, mut err: File) -> Result<String, String> {
    let copy = |file: &File| file.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut command = prepared(spec, &spec.programs[0])?;
    let stdin = File::open(STDIN).map_or_else(|_| Stdio::null(), Stdio::from);
    command.stdin(stdin).stdout(copy(&out)?).stderr(copy(&err)?);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let (why, end) = not_started(&spec.programs[0], &error);
            let _ = err.write_all(why.as_bytes()).and_then(|()| Ok(tcdrain(&err)?));
            return Ok(end.into());
        }
    };
    let (end, _) = end_of_program(spec, &child)?;
    kill_the_rest();
    tcdrain(&out).and_then(|()| tcdrain(&err)).map_err(|e| format!("serial port: {e}"))?;
    Ok(end.to_string())
}

pub fn terminal(spec: &Spec, tty: File, control: &mut Control) -> Result<String, String> {
    let set_size = |tty: &File, rows, columns| {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(tty, size);
    };
    if let Some((rows, columns)) = spec.winsize {
        set_size(&tty, rows, columns);
    }
    let sized = tty.try_clone().map_err(|e| e.to_string())?;
    control.listen(move |message| {
        if let Message::Winsize { rows, columns } = message {
            set_size(&sized, rows, columns);
        }
    });
    let end = session::run(spec, crate::ports::OUT)?;
    tcdrain(&tty).map_err(|e| format!("serial port: {e}"))?;
    Ok(end.to_string())
}

/// The command of a program that may have to wait until somebody watches it.
fn prepared(spec: &Spec, program: &Program) -> Result<Command, String> {
    if spec.traffic {
        traffic::learn()?;
    }
    if spec.is_observed() { observe::command(spec, program) } else { Ok(command(spec, program)) }
}

/// Waits for the program; the table of its pages, where it was asked for.
fn end_of_program(spec: &Spec, child: &Child) -> Result<(End, Vec<String>), String> {
    if spec.is_observed() {
        observe::wait_and_look(child, spec)
    } else {
        Ok((wait_for(child)?, Vec::new()))
    }
}

/// The program with the run file's environment and directory; standard streams are the caller's.
pub fn command(spec: &Spec, program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    if let Some((first, rest)) = program.args.split_first() {
        command.arg0(first).args(rest);
    }
    command.env_clear().envs(spec.env.iter().map(|(k, v)| (k, v))).current_dir(&spec.cwd);
    command
}

/// What a shell says of a program that cannot be started, and its status: 127 when absent, else 126.
fn not_started(program: &Program, error: &std::io::Error) -> (String, &'static str) {
    let why = format!("init: {}: {error}\n", program.path.to_string_lossy());
    let absent = error.kind() == std::io::ErrorKind::NotFound;
    (why, if absent { "exit 127" } else { "exit 126" })
}

/// Waits for `child`, collecting every other process that ends meanwhile.
pub fn wait_for(child: &Child) -> Result<End, String> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == child.id() => {
                if let Some(end) = end_of(status) {
                    return Ok(end);
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("wait: {error}")),
        }
    }
}

pub fn end_of(status: WaitStatus) -> Option<End> {
    if let Some(code) = status.exit_status() {
        return Some(End::Exit(code));
    }
    status.terminating_signal().map(End::Signal)
}

/// Collects whatever ends, on a thread of its own, while init waits for something else.
pub fn reap_forever() {
    std::thread::spawn(|| {
        // CHILD says that there is nobody left, and then there will never be anybody.
        while !matches!(wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
    });
}

/// Kills and collects every process but init itself.
pub fn kill_the_rest() {
    // kill(-1): all processes except PID 1.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
