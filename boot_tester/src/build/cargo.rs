//! Asking cargo: quietly, with its own words shown only when a build fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::toolchain::{self, choose};
use crate::error::{Context, Fail, Result};
use crate::progress::Progress;

/// Builds the kernel; the unsealed ELF file.
pub fn kernel(top: &Path, target: &Path, progress: &Progress) -> Result<PathBuf> {
    let mut command = choose(toolchain::KERNEL)?.cargo_build(toolchain::KERNEL)?;
    command.args(["--release", "-p", "kernel"]).current_dir(top);
    run(command, target, "the kernel", progress)?;
    Ok(target.join(toolchain::KERNEL).join("release/kernel"))
}

/// Builds the kernel that checks itself; the unsealed ELF file.
pub fn checked_kernel(top: &Path, target: &Path, progress: &Progress) -> Result<PathBuf> {
    let mut command = choose(toolchain::KERNEL)?.cargo_build(toolchain::KERNEL)?;
    command.args(["--profile", "checked", "--features", "checks", "-p", "kernel"]).current_dir(top);
    run(command, target, "the checked kernel", progress)?;
    Ok(target.join(toolchain::KERNEL).join("checked/kernel"))
}

/// Builds QEMU's plugin, for this machine.
pub fn plugin(top: &Path, target: &Path, progress: &Progress) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "-p", "traffic_plugin"]).current_dir(top);
    run(command, target, "the traffic plugin", progress)
}

/// Builds a guest program.
pub fn user(top: &Path, target: &Path, name: &str, progress: &Progress) -> Result<()> {
    let mut command = choose(toolchain::USER)?.cargo_build(toolchain::USER)?;
    command.args(["--release", "-p", name]).current_dir(top.join("user"));
    run(command, target, &format!("the guest's {name}"), progress)
}

fn run(mut command: Command, target: &Path, what: &str, progress: &Progress) -> Result<()> {
    command.arg("--target-dir").arg(target).stdin(Stdio::null());
    // What `cargo run` sets for this tool is not meant for the next cargo.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    let failed = || Fail::broken(format!("{what} does not build"));
    if progress.is_verbose() {
        let status = command.status().context("cargo")?;
        return if status.success() { Ok(()) } else { Err(failed()) };
    }
    let output = command.stdout(Stdio::null()).output().context("cargo")?;
    if output.status.success() {
        return Ok(());
    }
    progress.clear();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Err(failed())
}
