//! `proxima cpus`: boots on every CPU model of this QEMU, and on `max` without each feature; a CPU
//! that lacks what the kernel must have is to be refused in one line.

use std::process::{Command, Stdio};

use crate::build;
use crate::error::{Context, Fail, Result};
use crate::guest::machine::{QEMU, qemu};
use crate::progress::Progress;

/// Features that a kernel or program may use, and does without.
const OPTIONAL: &[&str] = &[
    "smap",
    "smep",
    "umip",
    "fsgsbase",
    "rdtscp",
    "rdpid",
    "xsave",
    "xsaveopt",
    "xsavec",
    "xgetbv1",
    "avx",
    "avx2",
    "erms",
    "x2apic",
    "tsc-deadline",
    "invtsc",
    "pge",
    "pse",
    "pat",
    "mce",
    "mca",
    "mtrr",
    "pdpe1gb",
    "rdrand",
    "rdseed",
    "monitor",
    "pcid",
    "invpcid",
    "hypervisor",
    "arat",
    "tsc-adjust",
    "popcnt",
    "cx16",
    "la57",
    "pku",
    "sep",
];

/// Features without which there is no x86-64 program, or no kernel.
const REQUIRED: &[&str] = &[
    LONG_MODE, "nx", "fpu", "tsc", "msr", "cx8", "apic", "cmov", "fxsr", "sse", "sse2", "syscall",
];
const LONG_MODE: &str = "lm";

/// Models without long mode.
const NARROW: &[&str] =
    &["486", "athlon", "coreduo", "kvm32", "n270", "pentium", "pentium2", "pentium3", "qemu32"];

/// Models on which QEMU 7.2's emulation itself makes no progress early in a kernel's start, Linux's
/// as well. Where they do start all is well.
const STUCK: &[&str] = &["Opteron_G4", "Opteron_G5"];

/// What `run` says of a guest whose kernel came to no word.
const SILENT: &str = "the kernel printed nothing on its console";

/// A few that differ most.
const QUICK: &[&str] = &["qemu64", "Nehalem", "Haswell", "max,-xsave", "max,-nx"];

#[derive(clap::Args)]
pub struct CpusOptions {
    /// Models in QEMU's words, such as Nehalem or max,-smap [default: all]
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Only a handful of models
    #[arg(long, conflicts_with = "models")]
    pub quick: bool,
}

pub fn cpus(options: &CpusOptions) -> Result<u8> {
    let models = match (options.quick, options.models.is_empty()) {
        (true, _) => QUICK.iter().map(|model| model.to_string()).collect(),
        (false, true) => all()?,
        (false, false) => options.models.clone(),
    };
    let known = known()?;
    for model in &models {
        let name = model.split(',').next().unwrap_or_default();
        if !known.iter().any(|known| known == name) {
            return Err(Fail::usage(format!(
                "{model}: QEMU knows no such CPU (what there is: {QEMU} -cpu help)"
            )));
        }
    }
    let progress = Progress::new(false);
    let program = build::user("tests", &progress)?;
    let kernel = build::kernel(&progress)?;
    progress.clear();
    let own = std::env::current_exe().context("the path of proxima itself")?;
    let (mut wrong, mut stuck) = (0, 0);
    for model in &models {
        let output = Command::new(&own)
            .args(["run", "--nodes", "2", "--cpus", "2", "--memory", "512M"])
            .args(["--timeout", "240", "--cpu", model, "--kernel"])
            .arg(&kernel)
            .arg("--")
            .arg(&program)
            .arg("boot")
            .stdin(Stdio::null())
            .output()
            .context("proxima run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = said.lines().find_map(|line| line.split_once("this CPU lacks ")).map(|l| l.1);
        let well = match lacks(model) {
            Some(feature) => output.status.code() == Some(125) && refused == Some(feature),
            None => output.status.success(),
        };
        match (well, refused) {
            (true, None) => println!("{model}: boots"),
            (true, Some(feature)) => println!("{model}: refused, it lacks {feature}"),
            (false, None) if STUCK.contains(&model.as_str()) && said.contains(SILENT) => {
                stuck += 1;
                println!("{model}: skipped, this QEMU does not carry a kernel through its start");
            }
            (false, _) => {
                wrong += 1;
                println!("{model}: FAILED");
                print!("{said}{}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
    println!("{} CPUs, {wrong} failed, {stuck} skipped", models.len());
    Ok(u8::from(wrong > 0))
}

/// What a model must be refused for, in the kernel's words.
fn lacks(model: &str) -> Option<&'static str> {
    if NARROW.contains(&model) {
        return Some(LONG_MODE);
    }
    let without = model.split_once(",-")?.1;
    REQUIRED.iter().find(|feature| **feature == without).copied()
}

/// Every model that is no mere version of another, and `max` without one feature.
fn all() -> Result<Vec<String>> {
    let mut models = named(&help()?, false);
    if models.is_empty() {
        return Err(Fail::broken("QEMU names no CPU models"));
    }
    let features = OPTIONAL.iter().chain(REQUIRED);
    models.extend(features.map(|feature| format!("max,-{feature}")));
    Ok(models)
}

/// Every name that a model may be asked for by.
fn known() -> Result<Vec<String>> {
    Ok(named(&help()?, true))
}

fn help() -> Result<String> {
    let output = Command::new(qemu()?).args(["-cpu", "help"]).output().context("qemu")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The models in the answer to `-cpu help`, without those that are versions of others or unfit for
/// emulation, unless `all`. QEMU before 8 writes "x86 " before each, and after them
/// lists features, of which none is alone at the beginning of such a line.
fn named(help: &str, all: bool) -> Vec<String> {
    let version = |name: &str| {
        let end = name.rsplit_once("-v").map_or("", |(_, end)| end);
        !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit())
    };
    help.lines()
        .take_while(|line| !line.starts_with("Recognized"))
        .filter(|line| line.starts_with("x86 ") || line.starts_with("  "))
        .filter(|line| all || !line.contains("(alias of "))
        .filter_map(|line| line.trim_start_matches("x86 ").split_whitespace().next())
        .filter(|name| all || !version(name) && !matches!(*name, "host" | "base"))
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_those_that_are_no_version_of_another() {
        let old = "Available CPUs:\nx86 486    (alias configured by machine type)\nx86 486-v1\n\
            x86 EPYC-IBPB   (alias of EPYC-v2)\nx86 host  KVM only\nx86 max  all\n\n\
            Recognized CPUID flags:\n  3dnow 3dnowext\n";
        assert_eq!(named(old, false), ["486", "max"]);
        assert_eq!(named(old, true), ["486", "486-v1", "EPYC-IBPB", "host", "max"]);
        let new = "Available CPUs:\n  486   (alias configured by machine type)\n  486-v1\n  max\n";
        assert_eq!(named(new, false), ["486", "max"]);
    }

    #[test]
    fn what_a_model_lacks_is_what_the_kernel_says() {
        assert_eq!(lacks("qemu32"), Some("lm"));
        assert_eq!(lacks("max,-lm"), Some("lm"));
        assert_eq!(lacks("max,-nx"), Some("nx"));
        assert_eq!(lacks("max,-smap"), None);
        assert_eq!(lacks("Nehalem"), None);
    }
}
