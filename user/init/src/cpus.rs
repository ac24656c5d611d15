//! Bringing up Linux's other CPUs under QEMU's deterministic mode (`-icount`).
//!
//! There all CPUs take turns on one thread, and a turn ends early only at PAUSE or HLT. Linux's own
//! bring-up during boot spins without PAUSE before QEMU 8.1 and hangs; so it is booted with
//! `maxcpus=1`, and the others are started here. Before Linux 6.5 even that needs help: a child
//! process that executes PAUSE, which gives the starting CPU its turns. (Later kernels sleep while
//! they wait, and the child would only stretch their sleep: seconds for each CPU.)

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub const SPIN_ARG0: &str = "proxima-spin";

/// Writes 1 to every CPU's `online` file that holds 0.
pub fn online_all() -> Result<(), String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if sleeps_while_it_waits(&release) {
        return online_each();
    }
    let mut spinner = Command::new("/proc/self/exe")
        .arg0(SPIN_ARG0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start the PAUSE loop: {e}"))?;
    let result = online_each();
    let _ = spinner.kill();
    let _ = spinner.wait();
    result
}

/// True from Linux 6.5 on.
fn sleeps_while_it_waits(release: &str) -> bool {
    let mut numbers = release.split('.').map_while(|word| word.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 5)
}

fn online_each() -> Result<(), String> {
    let entries = fs::read_dir("/sys/devices/system/cpu").map_err(|e| format!("sysfs: {e}"))?;
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()?;
            Some((number, entry.path().join("online")))
        })
        .collect();
    files.sort();
    for (number, file) in files {
        if fs::read_to_string(&file).is_ok_and(|state| state.trim() == "0") {
            fs::write(&file, "1").map_err(|e| format!("CPU {number} does not start: {e}"))?;
        }
    }
    Ok(())
}

/// Executes PAUSE until killed.
pub fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_their_release() {
        assert!(sleeps_while_it_waits("6.12.95+deb12-amd64\n"));
        assert!(sleeps_while_it_waits("7.0.1"));
        assert!(!sleeps_while_it_waits("6.1.0-56-amd64"));
        assert!(!sleeps_while_it_waits(""));
    }
}
