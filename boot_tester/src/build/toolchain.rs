//! Which Rust builds for the bare machine and for static musl.
//!
//! Rustup's prebuilt targets are taken where they are installed or can be added. Where they cannot
//! (no network, a distribution's archive only), Debian's rustc builds the standard library from its
//! own source package. PROXIMA_TOOLCHAIN=rustup or =system decides by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Fail, Result};
use crate::image::program::in_path;

pub const KERNEL: &str = "x86_64-unknown-none";
pub const USER: &str = "x86_64-unknown-linux-musl";

const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";
const SYSTEM_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";
/// What the fallback is made of, as Debian 12 names it.
const PACKAGES: &str = "rustc-web cargo-web rust-web-src lld musl-tools libunwind-14-dev";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The cargo in PATH, with the target's standard library beside it.
    Prebuilt,
    /// Debian's cargo with -Zbuild-std.
    System,
}

/// Chooses for one target.
pub fn choose(target: &str) -> Result<Toolchain> {
    match std::env::var("PROXIMA_TOOLCHAIN").as_deref() {
        Ok("rustup") => return Ok(Toolchain::Prebuilt),
        Ok("system") => return Ok(Toolchain::System),
        _ => {}
    }
    if is_installed(target) || (in_path("rustup").is_some() && add(target)) {
        return Ok(Toolchain::Prebuilt);
    }
    if has_system() {
        return Ok(Toolchain::System);
    }
    Err(Fail::broken(format!(
        "no Rust for {target}: run `rustup target add {target}`, or install {PACKAGES}"
    )))
}

/// What is there for one target as it stands: nothing is added.
pub fn find(target: &str) -> Option<Toolchain> {
    if is_installed(target) {
        return Some(Toolchain::Prebuilt);
    }
    has_system().then_some(Toolchain::System)
}

fn has_system() -> bool {
    Path::new(SYSTEM_RUSTC).exists() && Path::new(SYSTEM_LIBRARY).exists()
}

fn is_installed(target: &str) -> bool {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let holds_core = |dir: PathBuf| {
            std::fs::read_dir(dir).is_ok_and(|mut entries| {
                entries.any(|e| {
                    e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libcore-"))
                })
            })
        };
        output.status.success() && holds_core(path.into())
    })
}

fn add(target: &str) -> bool {
    let status = Command::new("rustup")
        .args(["target", "add", target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()) && is_installed(target)
}

impl Toolchain {
    /// `cargo build --target TARGET` with all that this toolchain needs for it.
    pub fn cargo_build(self, target: &str) -> Result<Command> {
        if self == Self::Prebuilt {
            let mut command = Command::new("cargo");
            command.args(["build", "--target", target]);
            return Ok(command);
        }
        let mut command = Command::new(SYSTEM_CARGO);
        command.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC_WRAPPER");
        command.args(["build", "--target", target]);
        if target == KERNEL {
            command.args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
            command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        } else {
            command.arg("-Zbuild-std=std,panic_abort");
            command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "musl-gcc");
            command.env("CARGO_ENCODED_RUSTFLAGS", musl_flags()?.join("\x1f"));
        }
        Ok(command)
    }
}

fn musl_flags() -> Result<Vec<String>> {
    let dir = unwind_dir().ok_or_else(|| {
        Fail::broken("LLVM's libunwind.a is not installed (package libunwind-14-dev)")
    })?;
    Ok(vec![
        "-Clink-self-contained=no".into(),
        "-Ctarget-feature=+crt-static".into(),
        "-Crelocation-model=static".into(),
        format!("-Lnative={}", dir.display()),
    ])
}

/// GNU's libunwind.a does not link with musl; LLVM's stands in a directory of its own.
fn unwind_dir() -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"))
        .map(|entry| entry.path().join("lib"))
        .filter(|dir| dir.join("libunwind.a").exists())
        .collect();
    dirs.sort();
    dirs.pop()
}
