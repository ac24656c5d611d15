//! `proxima doctor`: what this host will use, and what to do about what it lacks.
//!
//! Looks only: nothing is built, fetched or changed. What each line says is decided by pure functions
//! of what was found.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use crate::build::toolchain;
use crate::error::{BROKEN, Result};
use crate::guest::linux::{SERIES, Version};
use crate::guest::machine::{QEMU, has_virtualization, qemu_version};
use crate::image::program::in_path;
use crate::traffic::wish;
use crate::{parts, paths};

/// How good what was found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    /// Works without; this is what is lost.
    Note,
    /// `proxima run` does not work.
    Missing,
}

/// One line: what it is about, and what was found.
struct Line(&'static str, Mark, String);

/// The oldest QEMU that everything was tried with.
const OLDEST: [u32; 2] = [7, 2];

/// Prints a line for each thing that matters. 0 when programs can run, 125 when something is missing.
///
/// # Errors
/// None of its own: what cannot be looked at is said in its line.
pub fn doctor() -> Result<u8> {
    let qemu = in_path(QEMU);
    let version = qemu.as_ref().and_then(|_| qemu_version().ok());
    let mut lines = vec![
        Line("host", Mark::Good, host()),
        emulator(qemu.as_deref(), version.as_deref()),
        acceleration(has_virtualization(), open_kvm()),
    ];
    if qemu.is_some() {
        lines.push(plugins(wish::has_plugins()));
    }
    lines.push(kernel(parts::digest(), paths::source(), paths::target()));
    if paths::source().is_some() {
        for target in [toolchain::KERNEL, toolchain::USER] {
            lines.push(rust(target, toolchain::find(target)));
        }
    }
    lines.push(linux(Version::default().release(), in_path("apt-get").is_some()));
    lines.push(cache());
    let missing = lines.iter().filter(|line| line.1 == Mark::Missing).count();
    for Line(name, mark, text) in &lines {
        let mark = match mark {
            Mark::Good => "ok",
            Mark::Note => "note",
            Mark::Missing => "MISSING",
        };
        println!("{mark:<8} {name:<8} {text}");
    }
    match missing {
        0 => println!("Programs can run: proxima run -- PROGRAM"),
        _ => println!("{missing} missing: programs cannot run"),
    }
    Ok(if missing == 0 { 0 } else { BROKEN })
}

/// The distribution, CPUs, memory.
fn host() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("an unknown distribution", |name| name.trim_matches('"'));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let gib =
        |key: &str| kib(key).map_or("?".into(), |kib| format!("{:.1}", kib as f64 / 1048576.0));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{name}, {cpus} CPUs, {} GiB of memory, {} free",
        gib("MemTotal:"),
        gib("MemAvailable:")
    )
}

fn emulator(path: Option<&Path>, version: Option<&str>) -> Line {
    let Some(path) = path else {
        let text = format!("{QEMU} is not in PATH: install qemu-system-x86 (or: make setup)");
        return Line("qemu", Mark::Missing, text);
    };
    let Some(version) = version else {
        return Line("qemu", Mark::Missing, format!("{} --version fails", path.display()));
    };
    let parts: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    let old = parts.len() < 2 || parts[..2] < OLDEST[..];
    let text = format!("{version}, {}", path.display());
    match old {
        true => Line("qemu", Mark::Note, format!("{text}: older than any that was tried")),
        false => Line("qemu", Mark::Good, text),
    }
}

fn open_kvm() -> std::io::Result<()> {
    std::fs::File::options().read(true).write(true).open("/dev/kvm").map(drop)
}

/// `able`: the CPU says that it virtualizes; `opened`: what came of opening /dev/kvm.
fn acceleration(able: bool, opened: std::io::Result<()>) -> Line {
    let slow = "TCG, an emulation: right, but slow";
    let why = match (able, opened.map_err(|error| error.kind())) {
        (true, Ok(())) => {
            return Line("speed", Mark::Good, "KVM; --icount and --traffic use TCG".into());
        }
        (false, _) => {
            "the CPU offers neither vmx nor svm: switch virtualization on in its firmware, \
                       or, in a virtual machine, have nested virtualization allowed"
                .into()
        }
        (true, Err(ErrorKind::NotFound)) => {
            "there is no /dev/kvm: modprobe kvm_intel or kvm_amd".to_string()
        }
        (true, Err(ErrorKind::PermissionDenied)) => {
            "/dev/kvm may not be opened: usermod -aG kvm USER, and log in anew".into()
        }
        (true, Err(kind)) => format!("/dev/kvm does not open: {}", Error::from(kind)),
    };
    Line("speed", Mark::Note, format!("{slow}: {why}"))
}

fn plugins(has: bool) -> Line {
    match has {
        true => Line("traffic", Mark::Good, "QEMU has plugins: --traffic works".into()),
        false => {
            let text = "this QEMU is built without plugins: --traffic does not work (Debian's \
                        qemu-system-x86 has them; own builds: --enable-plugins)";
            Line("traffic", Mark::Note, text.into())
        }
    }
}

/// `inside`: the digest of what the tool carries.
fn kernel(inside: Option<&str>, source: Option<&Path>, target: Option<PathBuf>) -> Line {
    let text = match (source, target, inside) {
        (_, _, Some(digest)) => format!("inside this file (build {digest})"),
        (Some(source), Some(target), _) if target.join("proxima").exists() => {
            format!("built from {}", source.display())
        }
        (Some(source), ..) => format!("will be built from {} when first used", source.display()),
        (None, ..) => {
            let text = "not inside this file, and the source tree that it was built in is gone: \
                        cargo install --path boot_tester";
            return Line("kernel", Mark::Missing, text.into());
        }
    };
    Line("kernel", Mark::Good, text)
}

fn rust(target: &'static str, found: Option<toolchain::Toolchain>) -> Line {
    match found {
        Some(toolchain::Toolchain::Prebuilt) => Line("rust", Mark::Good, format!("for {target}")),
        Some(toolchain::Toolchain::System) => {
            Line("rust", Mark::Good, format!("for {target}, with the distribution's rustc"))
        }
        None => {
            let text = format!("not for {target}: rustup target add {target} (or: make setup)");
            Line("rust", Mark::Note, text)
        }
    }
}

/// `cached`: the release in the cache; `can_fetch`: this is a distribution with apt.
fn linux(cached: Option<String>, can_fetch: bool) -> Line {
    match (cached, can_fetch) {
        (Some(release), _) => Line("linux", Mark::Good, format!("{} in the cache", release.trim())),
        (None, true) => Line(
            "linux",
            Mark::Good,
            format!("{SERIES}, fetched by apt when --kernel linux asks for it"),
        ),
        (None, false) => {
            let text =
                "no apt here: --kernel linux does not work; --kernel FILE takes a kernel of yours";
            Line("linux", Mark::Note, text.into())
        }
    }
}

fn cache() -> Line {
    match paths::cache() {
        Ok(dir) => Line("cache", Mark::Good, format!("{} (may be removed)", dir.display())),
        Err(fail) => Line("cache", Mark::Note, format!("none: {fail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_numbers() {
        let mark = |text: &str| emulator(Some(Path::new("/q")), Some(text)).1;
        assert_eq!(mark("10.0.13"), Mark::Good);
        assert_eq!(mark("7.2.22"), Mark::Good);
        assert_eq!(mark("6.2.0"), Mark::Note);
        assert_eq!(mark("something"), Mark::Note);
        assert_eq!(emulator(None, None).1, Mark::Missing);
    }

    #[test]
    fn what_keeps_kvm_away_is_told_with_its_remedy() {
        let told = |able, kind: Option<ErrorKind>| {
            let Line(_, mark, text) = acceleration(able, kind.map_or(Ok(()), |k| Err(k.into())));
            (mark, text)
        };
        assert_eq!(told(true, None).0, Mark::Good);
        let cases = [
            (false, None, "nested"),
            (true, Some(ErrorKind::NotFound), "modprobe"),
            (true, Some(ErrorKind::PermissionDenied), "usermod"),
            (true, Some(ErrorKind::Other), "does not open"),
        ];
        for (able, kind, word) in cases {
            let (mark, text) = told(able, kind);
            assert_eq!(mark, Mark::Note);
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_copy_without_kernel_cannot_run() {
        assert_eq!(kernel(None, None, None).1, Mark::Missing);
        assert_eq!(kernel(Some("00"), None, None).1, Mark::Good);
    }
}
