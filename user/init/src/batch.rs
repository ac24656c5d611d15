//! Many programs in one boot: a directory of somebody's tests.
//!
//! Output goes to ttyS1 between two markers that carry the run's nonce, so that no program's output
//! can be taken for one: `@@NONCE start NAME` and `@@NONCE end NAME STATUS MILLISECONDS`, where
//! STATUS is `exit N`, `signal N` or `timeout`.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcdrain;

use crate::run::{End, command, kill_the_rest, wait_for};
use crate::spec::{Program, Spec};

pub fn run(spec: &Spec, mut out: File) -> Result<String, String> {
    for program in &spec.programs {
        let line = format!("\n@@{} start {}\n", spec.nonce, program.name);
        out.write_all(line.as_bytes()).map_err(|e| format!("serial port: {e}"))?;
        let start = Instant::now();
        let status = run_one(spec, program, &out)?;
        let spent = start.elapsed().as_millis();
        tcdrain(&out).map_err(|e| format!("serial port: {e}"))?;
        let line = format!("\n@@{} end {} {status} {spent}\n", spec.nonce, program.name);
        out.write_all(line.as_bytes()).map_err(|e| format!("serial port: {e}"))?;
    }
    tcdrain(&out).map_err(|e| format!("serial port: {e}"))?;
    Ok("exit 0".into())
}

fn run_one(spec: &Spec, program: &Program, out: &File) -> Result<String, String> {
    let copy = || out.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut command = command(spec, program);
    command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?).process_group(0);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(&mut &*out, "init: {}: {error}", program.path.to_string_lossy());
            return Ok("exit 127".into());
        }
    };
    drop(command);
    let (end, expired) = wait_at_most(&child, Duration::from_secs(spec.timeout))?;
    kill_the_rest();
    Ok(if expired { "timeout".into() } else { end.to_string() })
}

/// Waits for the child; a watchdog kills its process group when the time is over.
fn wait_at_most(child: &Child, limit: Duration) -> Result<(End, bool), String> {
    let (done, ended) = mpsc::channel::<()>();
    let group = Pid::from_raw(child.id() as i32);
    let watchdog = thread::spawn(move || {
        let expired = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if expired && let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        expired
    });
    let end = wait_for(child);
    drop(done);
    let expired = watchdog.join().unwrap_or(false);
    Ok((end?, expired))
}
