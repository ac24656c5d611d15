//! `proxima run --perf`: the program runs under the guest's `perf record`; recording and picture come
//! back when it has ended.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::cli::RunOptions;
use crate::error::{Context, Fail, Result};
use crate::image::runfile::Program;

/// Where the tool is in the guest.
pub const GUEST: &str = "/etc/proxima/perf";
/// Where the guest keeps what comes back.
const DATA: &str = "/run/proxima.perf.data";
/// The kernel's symbols, for other tools than ours.
const KALLSYMS: &str = "/run/proxima.perf.kallsyms";
const PICTURE: &str = "/run/proxima.perf.svg";

/// What is wanted of a recording.
pub struct Perf {
    frequency: u32,
    data: Option<PathBuf>,
    picture: Option<PathBuf>,
}

impl Perf {
    /// As the command line asks; None when it does not.
    pub fn of(options: &RunOptions) -> Option<Self> {
        let (data, picture) = (options.perf.clone(), options.flame.clone());
        let wanted = data.is_some() || picture.is_some();
        wanted.then_some(Self { frequency: options.perf_frequency, data, picture })
    }

    /// The same, and a picture in any case: in the place that was asked for, or else at `path`.
    pub fn with_picture(mut self, path: PathBuf) -> (Self, PathBuf) {
        let path = self.picture.get_or_insert(path).clone();
        (self, path)
    }

    /// Files of the guest that come back.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = [DATA, KALLSYMS, PICTURE].map(PathBuf::from);
        files.into_iter().take(if self.picture.is_some() { 3 } else { 2 }).collect()
    }

    /// Has `program` run under the recording.
    pub fn wrap(&self, program: &mut Program) {
        let mut args: Vec<OsString> =
            ["perf", "record", "-g", "-F"].into_iter().map(OsString::from).collect();
        args.push(self.frequency.to_string().into());
        args.extend(["-o", DATA, "--kallsyms", KALLSYMS].map(OsString::from));
        if self.data.is_some() {
            args.push("--report".into());
        }
        if self.picture.is_some() {
            args.extend(["--flame", PICTURE].map(OsString::from));
        }
        args.push("--".into());
        args.push(program.path.clone().into());
        args.extend(program.args.iter().skip(1).cloned());
        program.args = args;
        program.path = GUEST.into();
    }

    /// Writes what came back to where it is wanted.
    pub fn keep(&self, files: &[Vec<u8>]) -> Result<()> {
        let [data, kallsyms, rest @ ..] = files else { return Ok(()) };
        if data.is_empty() {
            return Err(Fail::broken("the guest recorded nothing".to_string()));
        }
        if let Some(path) = &self.data {
            let mut symbols = path.clone().into_os_string();
            symbols.push(".kallsyms");
            let symbols = PathBuf::from(symbols);
            fs::write(path, data).context(path.display())?;
            fs::write(&symbols, kallsyms).context(symbols.display())?;
            let (path, symbols) = (path.display(), symbols.display());
            eprintln!("proxima: recorded {path} (perf report -i {path} --kallsyms {symbols})");
        }
        if let (Some(path), [picture, ..]) = (&self.picture, rest) {
            fs::write(path, picture).context(path.display())?;
            eprintln!("proxima: drew {}", path.display());
        }
        Ok(())
    }
}
