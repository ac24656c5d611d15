//! The project's own suites: the guest program user/tests, which knows its tests by name.
//!
//! `tests --list` prints `suite::name` lines (it is a Linux program and is asked on the host);
//! `tests [--long] NAME...` runs those, in that order, and speaks the protocol of [`super::lines`].

use std::path::{Path, PathBuf};
use std::process::Command;

use super::lines::OwnReader;
use super::{Needs, Reader, Suite, suite_of};
use crate::build;
use crate::error::{Context, Fail, Result};
use crate::guest::machine::{Clock, quote};
use crate::image::base;
use crate::image::program::environment;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::progress::Progress;

const GUEST_PATH: &str = "/usr/bin/tests";

pub struct GuestTests {
    program: PathBuf,
    init: PathBuf,
    long: bool,
}

impl GuestTests {
    /// `long`: the campaigns that take minutes run, too.
    pub fn build(long: bool, progress: &Progress) -> Result<Self> {
        let init = build::user("init", progress)?;
        Ok(Self { program: build::user("tests", progress)?, init, long })
    }

    /// All tests, in the program's order.
    pub fn list(&self) -> Result<Vec<String>> {
        let output =
            Command::new(&self.program).arg("--list").output().context(self.program.display())?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Fail::broken(format!("{} --list: {}", self.program.display(), why.trim())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::trim).filter(|l| l.contains("::")).map(String::from).collect())
    }
}

impl Suite for GuestTests {
    fn image(&self, tests: &[String], to: &Path) -> Result<()> {
        let mut tree = base::skeleton()?;
        tree.host(&self.program, Path::new(GUEST_PATH))?;
        base::finish(&mut tree, &self.init)?;
        let mut args = vec!["tests".into()];
        if self.long {
            args.push("--long".into());
        }
        args.extend(tests.iter().map(|test| test.into()));
        let cwd = PathBuf::from("/");
        let file = RunFile {
            // No other process beside the tests: they count frames.
            mode: Mode::Direct,
            env: environment(&[], &cwd, &[], false)?,
            cwd,
            winsize: None,
            timeout: 0,
            nonce: String::new(),
            placement: false,
            traffic: false,
            modules: Vec::new(),
            shares: Vec::new(),
            group: Vec::new(),
            fetch: Vec::new(),
            programs: vec![Program { path: GUEST_PATH.into(), args, name: String::new() }],
        };
        tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
        tree.write(to)
    }

    fn needs(&self, test: &str) -> Needs {
        match suite_of(test) {
            // Emulation has no performance monitoring unit: these run on the kernel's model of one,
            // whose counters keep the time, so time must not be the host's.
            "pmu" => Needs { word: Some("pmu=model"), clock: Clock::Instructions },
            _ => Needs::default(),
        }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(OwnReader::default())
    }

    fn repeat(&self, test: &str) -> String {
        format!("{}{}", if self.long { "--long " } else { "" }, quote(test))
    }
}
