//! The crates' own tests, on the host: `cargo test` for each, its lines as verdicts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;

use super::{Record, Verdict};
use crate::error::{Context, Fail, Result};

/// One package to test, and the directory cargo is asked in.
pub struct Package {
    pub name: String,
    dir: PathBuf,
    /// It may have models for loom, in modules `loom_tests`: they need a build of their own.
    loom: bool,
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<Named>,
    workspace: Option<Workspace>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Workspace {
    #[serde(default, rename = "default-members")]
    default_members: Vec<PathBuf>,
}

/// Every package of the workspace that builds on the host, and the guest's init.
pub fn packages(top: &Path) -> Result<Vec<Package>> {
    let root: Manifest = read(&top.join("Cargo.toml"))?;
    let members = root.workspace.map(|w| w.default_members).unwrap_or_default();
    let mut list = Vec::new();
    for member in members {
        list.push(package(top, &top.join(member))?);
    }
    list.push(package(&top.join("user"), &top.join("user/init"))?);
    Ok(list)
}

fn package(dir: &Path, own: &Path) -> Result<Package> {
    let manifest = own.join("Cargo.toml");
    let name = read(&manifest)?
        .package
        .map(|package| package.name)
        .ok_or_else(|| Fail::broken(format!("{}: no package", manifest.display())))?;
    let text = std::fs::read_to_string(&manifest).context(manifest.display())?;
    Ok(Package { name, dir: dir.into(), loom: text.contains("cfg(loom)") })
}

fn read(manifest: &Path) -> Result<Manifest> {
    let text = std::fs::read_to_string(manifest).context(manifest.display())?;
    toml::from_str(&text).context(manifest.display())
}

/// Runs a package's tests; a package that does not build is one failed test.
pub fn test(package: &Package, target: &Path) -> Result<Vec<Record>> {
    let mut records = cargo_test(package, &package.name, target, None)?;
    if package.loom {
        let name = format!("{}-loom", package.name);
        // Its own target directory: the flag would rebuild everything else back and forth.
        records.extend(cargo_test(package, &name, &target.join("loom"), Some("--cfg loom"))?);
    }
    Ok(records)
}

fn cargo_test(
    package: &Package,
    suite: &str,
    target: &Path,
    flags: Option<&str>,
) -> Result<Vec<Record>> {
    let mut command = Command::new("cargo");
    command.args(["test", "--no-fail-fast", "-p", &package.name, "--target-dir"]).arg(target);
    command.current_dir(&package.dir).stdin(Stdio::null()).env_remove("LD_LIBRARY_PATH");
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
        // Models explore a great many schedules: unoptimized, they take minutes. What is no model
        // has been tested without.
        command.args(["--profile", "loom", "--lib", "loom_tests"]);
    }
    let start = Instant::now();
    let output = command.output().context("cargo test")?;
    let millis = start.elapsed().as_millis() as u64;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut records = verdicts(suite, &text);
    let failed = records.iter().any(|record| matches!(record.verdict, Verdict::Fail(_)));
    if !output.status.success() && !failed {
        let errors = String::from_utf8_lossy(&output.stderr);
        let why: Vec<&str> = errors.lines().filter(|line| line.starts_with("error")).collect();
        let why = format!("cargo test failed: {}", why.first().unwrap_or(&"no reason given"));
        records.push(record(suite, "build", Verdict::Fail(why)));
    }
    if let Some(first) = records.first_mut() {
        // cargo tells no times of single tests: the suite's stands with its first.
        first.millis = millis;
    }
    Ok(records)
}

/// Lines `test NAME ... ok|FAILED|ignored`, and what the failed ones printed.
fn verdicts(suite: &str, text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for line in text.lines() {
        let Some((name, word)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        let name = name.trim_end_matches(" - should panic");
        let verdict = match word.split(',').next().unwrap_or(word).trim() {
            "ok" => Verdict::Pass,
            "FAILED" => Verdict::Fail(details(text, name)),
            "ignored" => Verdict::Skip("marked as ignored".into()),
            _ => continue,
        };
        records.push(record(suite, name, verdict));
    }
    records
}

fn details(text: &str, name: &str) -> String {
    let mut lines = text.lines().skip_while(|line| *line != format!("---- {name} stdout ----"));
    lines.next();
    let part: Vec<&str> =
        lines.take_while(|l| !l.starts_with("---- ") && *l != "failures:").take(20).collect();
    let part = part.join("\n");
    if part.trim().is_empty() { "failed".into() } else { part.trim().into() }
}

fn record(suite: &str, name: &str, verdict: Verdict) -> Record {
    Record {
        test: format!("{suite}::{name}"),
        kernel: "-".into(),
        topology: "host".into(),
        verdict,
        millis: 0,
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_lines_become_verdicts_with_what_a_failure_printed() {
        let text = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest d ... ignored, slow\n\
                    \nfailures:\n\n---- a::c stdout ----\npanicked at x:\nleft != right\n\n\nfailures:\n    a::c\n";
        let records = verdicts("numa", text);
        assert_eq!(records.len(), 3);
        assert_eq!(records[0].test, "numa::a::b");
        assert_eq!(records[1].verdict, Verdict::Fail("panicked at x:\nleft != right".into()));
        assert!(matches!(records[2].verdict, Verdict::Skip(_)));
    }

    #[test]
    fn every_host_crate_of_this_workspace_is_found() {
        let top = crate::paths::source().unwrap();
        let names: Vec<String> = packages(top).unwrap().into_iter().map(|p| p.name).collect();
        assert!(names.contains(&"numa".to_string()) && names.contains(&"init".to_string()));
    }
}
