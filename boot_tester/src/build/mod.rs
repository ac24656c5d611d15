//! Building what boots: the kernel and the guest's programs, with whichever toolchain there is.
//!
//! Cargo is asked only when a source file has changed since the last time ([`stamp`]), so that a
//! run of something already built starts at once.

pub mod cargo;
mod frame_size;
pub mod seal;
pub mod stamp;
pub mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Fail, Result};
use crate::progress::Progress;
use crate::{parts, paths};
use stamp::Stamp;

/// The sealed kernel, built if anything it is made of has changed.
pub fn kernel(progress: &Progress) -> Result<PathBuf> {
    build_kernel("proxima", ".proxima-kernel", cargo::kernel, frame_size::LIMIT, progress)
}

/// The sealed kernel that checks itself: assertions, overflows, the order of locks.
pub fn checked_kernel(progress: &Progress) -> Result<PathBuf> {
    let limit = 2 * frame_size::LIMIT;
    build_kernel("proxima-checked", ".proxima-checked", cargo::checked_kernel, limit, progress)
}

fn build_kernel(
    name: &str,
    stamp: &str,
    build: fn(&Path, &Path, &Progress) -> Result<PathBuf>,
    frame_limit: u64,
    progress: &Progress,
) -> Result<PathBuf> {
    let Some(top) = paths::source() else { return carried(name) };
    let target = target()?;
    let sealed = target.join(name);
    let stamp = Stamp::of(
        &target.join(stamp),
        &[top.join("kernel"), top.join("Cargo.toml"), top.join("Cargo.lock"), top.join(".cargo")],
    );
    if stamp.is_current() && sealed.exists() {
        return Ok(sealed);
    }
    progress.say("building the kernel");
    let elf = build(top, &target, progress)?;
    seal(&elf, &sealed, frame_limit)?;
    stamp.write();
    Ok(sealed)
}

/// A guest program of the `user` workspace, built if anything there has changed.
pub fn user(name: &str, progress: &Progress) -> Result<PathBuf> {
    let Some(top) = paths::source() else { return carried(name) };
    let target = target()?;
    let binary = target.join(toolchain::USER).join("release").join(name);
    if !top.join("user").join(name).join("Cargo.toml").exists() {
        return Err(Fail::broken(format!("there is no guest program user/{name}")));
    }
    let mut sources = vec![top.join("user").join(name), top.join("user/Cargo.toml")];
    sources.push(top.join("user/Cargo.lock"));
    // A guest program may use the ABI crate, and nothing else of the kernel's; and the fuzzer's.
    let manifest = fs::read_to_string(top.join("user").join(name).join("Cargo.toml"));
    let manifest = manifest.unwrap_or_default();
    for (word, path) in [("kernel/abi", "kernel/abi"), ("../fuzz", "user/fuzz")] {
        if manifest.contains(word) {
            sources.push(top.join(path));
        }
    }
    let stamp = Stamp::of(&target.join(format!(".proxima-{name}")), &sources);
    if stamp.is_current() && binary.exists() {
        return Ok(binary);
    }
    progress.say(&format!("building the guest's {name}"));
    cargo::user(top, &target, name, progress)?;
    stamp.write();
    Ok(binary)
}

/// QEMU's plugin that counts memory traffic, built if anything it is made of has changed.
pub fn plugin(progress: &Progress) -> Result<PathBuf> {
    const NAME: &str = "libtraffic_plugin.so";
    let Some(top) = paths::source() else { return carried(NAME) };
    let target = target()?;
    let library = target.join("release").join(NAME);
    let sources = ["traffic", "kernel/abi", "Cargo.toml", "Cargo.lock"].map(|name| top.join(name));
    let stamp = Stamp::of(&target.join(".proxima-plugin"), &sources);
    if stamp.is_current() && library.exists() {
        return Ok(library);
    }
    progress.say("building the traffic plugin");
    cargo::plugin(top, &target, progress)?;
    stamp.write();
    Ok(library)
}

/// Writes the bootable file beside the one for debuggers; both appear whole or not at all.
fn seal(elf: &Path, sealed: &Path, limit: u64) -> Result<()> {
    let data = fs::read(elf).context(elf.display())?;
    let broken = |why| Fail::broken(format!("kernel: {why}"));
    let bytes = seal::seal(&data).map_err(broken)?;
    let large = frame_size::too_large(&data, limit).map_err(broken)?;
    if !large.is_empty() {
        let list: Vec<_> = large.iter().map(|(n, name)| format!("\n    {n} {name}")).collect();
        let list = list.concat();
        return Err(broken(format!("functions with more than {limit} bytes on the stack:{list}")));
    }
    replace(&sealed.with_extension(DEBUG), &data)?;
    replace(sealed, &bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension(format!("new{}", std::process::id()));
    fs::write(&new, bytes).context(new.display())?;
    fs::rename(&new, path).context(path.display())
}

fn target() -> Result<PathBuf> {
    let target = paths::target().ok_or_else(|| Fail::broken("no target directory"))?;
    fs::create_dir_all(&target).context(target.display())?;
    Ok(target)
}

/// A file that the tool itself carries.
fn carried(name: &str) -> Result<PathBuf> {
    parts::file(name)?.ok_or_else(|| {
        let why = match parts::digest() {
            Some(_) => "not inside this tool: run it from the source tree",
            None => "not built, and the source tree is gone: cargo install --path boot_tester",
        };
        Fail::broken(format!("{name} is {why}"))
    })
}

/// The file with a kernel's symbols for debuggers, where it is one of ours.
pub fn symbols(kernel: &Path) -> Result<PathBuf> {
    let path = kernel.with_extension(DEBUG);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match parts::file(&name)? {
        Some(own) if own == path => Ok(own),
        _ => Ok(path),
    }
}

/// What the file beside the kernel ends in.
const DEBUG: &str = "debug";
