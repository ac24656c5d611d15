//! The commands, one file each.

pub mod prepare;
pub mod run;
pub mod test;

use crate::build;
use crate::cli::BuildOptions;
use crate::error::Result;
use crate::paths;
use crate::progress::Progress;

/// Guest programs, of which those that exist are built.
pub const PROGRAMS: &[&str] = &["init", "tests", "bench", "perf"];

/// `proxima build`: everything a guest boots.
pub fn build(options: &BuildOptions) -> Result<u8> {
    let progress = Progress::new(!options.quiet);
    let kernel = build::kernel(&progress)?;
    println!("{}", paths::shown(&kernel));
    for name in PROGRAMS {
        let source = paths::source().map(|top| top.join("user").join(name).join("Cargo.toml"));
        if source.is_none_or(|manifest| manifest.exists()) {
            println!("{}", paths::shown(&build::user(name, &progress)?));
        }
    }
    Ok(0)
}
