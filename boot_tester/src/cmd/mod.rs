//! The commands, one file each.

pub mod bench;
mod bench_boot;
mod bench_guest;
mod bench_probe;
mod bench_report;
pub mod check;
pub mod cpus;
mod cpuset;
pub mod doctor;
pub mod explain;
pub mod fuzz;
mod fuzz_calls;
mod fuzz_guest;
mod fuzz_kept;
mod fuzz_masks;
mod fuzz_report;
mod fuzz_shrink;
pub mod manual;
mod missing;
mod perf;
pub mod prepare;
pub mod record;
pub mod report;
pub mod run;
pub mod test;

use crate::build;
use crate::cli::BuildOptions;
use crate::error::Result;
use crate::progress::Progress;
use crate::{parts, paths};

/// Guest programs, of which those that exist are built.
pub const PROGRAMS: &[&str] = &["init", "tests", "bench", "perf", "demo", "fuzz", "traffic"];

/// `proxima build`: everything a guest boots.
pub fn build(options: &BuildOptions) -> Result<u8> {
    let progress = Progress::new(options.verbose);
    let mut files = Vec::new();
    if !options.programs {
        files.push(build::kernel(&progress)?);
    }
    if options.checked {
        files.push(build::checked_kernel(&progress)?);
    }
    for name in PROGRAMS {
        let source = paths::source().map(|top| top.join("user").join(name).join("Cargo.toml"));
        if source.is_none_or(|manifest| manifest.exists()) {
            files.push(build::user(name, &progress)?);
        }
    }
    if !options.programs {
        files.push(build::plugin(&progress)?);
    }
    if let Some(dir) = &options.pack {
        progress.say("packing");
        let kernel = files.first().map(|kernel| build::symbols(kernel)).transpose()?;
        parts::write_packed(&[files.clone(), kernel.into_iter().collect()].concat(), dir)?;
    }
    progress.clear();
    if options.programs {
        // They all lie in one directory.
        files = files.last().and_then(|file| file.parent()).map(Into::into).into_iter().collect();
    }
    for file in files {
        println!("{}", paths::shown(&file));
    }
    Ok(0)
}
