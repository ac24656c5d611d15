//! `proxima report`: the page of a run that was written as JSON, or of two side by side.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Context, Fail, Result};
use crate::paths;
use crate::traffic;

#[derive(clap::Args)]
pub struct ReportOptions {
    /// What `run --traffic --json` wrote; a second one is put beside it
    #[arg(value_name = "FILE.json", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE.html", value_parser = paths::output())]
    pub out: PathBuf,
}

pub fn report(options: &ReportOptions) -> Result<u8> {
    let runs: Vec<Value> = options.files.iter().map(|file| read(file)).collect::<Result<_>>()?;
    std::fs::write(&options.out, traffic::html(runs)).context(options.out.display())?;
    Ok(0)
}

fn read(path: &Path) -> Result<Value> {
    let wrong = |why: String| Fail::usage(format!("{}: {why}", path.display()));
    let text = paths::text(path, paths::RECORD).map_err(|error| wrong(error.to_string()))?;
    let run: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if run["format"] == "proxima-traffic" && run["version"] == traffic::VERSION {
        return Ok(run);
    }
    Err(wrong(format!("this is no count of traffic of version {}", traffic::VERSION)))
}
