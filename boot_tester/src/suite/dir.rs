//! Anybody's test programs: a directory of executables, run one after the other on a guest.
//!
//! A program passes with exit code 0, is skipped with 77 (automake) or 32 (LTP), and fails
//! otherwise; TAP and LTP lines in its output are read as its parts, and a failed part fails it.
//!
//! Without a manifest the whole directory is copied, and every executable directly in it is a test.
//! `proxima.toml` in the directory says it more exactly:
//!
//! ```toml
//! tests = ["bin/*", "run-all.sh"]   # patterns below the directory; * stands within a name
//! copy = ["data", "/etc/services"]  # besides the tests; default: all of the directory
//! with = ["numactl", "bash"]        # programs of this machine, with their libraries
//! env = ["LTPROOT=/opt/ltp"]
//! timeout = 60                      # seconds a test may take
//! skip = { "bin/slow" = "needs a network" }
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use super::lines::{Lines, parts};
use super::{Reader, Step, Suite, Verdict};
use crate::build;
use crate::error::{Fail, Result};
use crate::guest::machine::quote;
use crate::image::libs::Finder;
use crate::image::runfile::{self, Mode, Program, RunFile};
use crate::image::{base, program};
use crate::paths;
use crate::progress::Progress;

const MANIFEST: &str = "proxima.toml";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Manifest {
    tests: Option<Vec<String>>,
    copy: Option<Vec<PathBuf>>,
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u64>,
    #[serde(default)]
    skip: BTreeMap<String, String>,
}

pub struct DirSuite {
    dir: PathBuf,
    manifest: Manifest,
    init: PathBuf,
    nonce: String,
}

impl DirSuite {
    pub fn open(dir: &Path, timeout: Option<u64>, progress: &Progress) -> Result<Self> {
        let shown = dir.display();
        let dir = fs::canonicalize(dir).map_err(|e| Fail::usage(format!("--dir {shown}: {e}")))?;
        let mut manifest: Manifest = match paths::text(&dir.join(MANIFEST), paths::DESCRIPTION) {
            Ok(text) => toml::from_str(&text).map_err(|e| {
                Fail::usage(format!("{shown}/{MANIFEST}: {}", e.message().replace('\n', " ")))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(Fail::usage(format!("{shown}/{MANIFEST}: {error}"))),
        };
        manifest.timeout = timeout.or(manifest.timeout);
        let init = build::user("init", progress)?;
        // Unknown to the programs, so that none can print a marker.
        let nonce = format!(
            "{:016x}",
            std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), &dir,)
        );
        Ok(Self { dir, manifest, init, nonce })
    }

    /// Seconds a test may take, if the manifest says so.
    pub fn timeout(&self) -> Option<u64> {
        self.manifest.timeout
    }

    /// Paths of the tests below the directory, sorted.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        match &self.manifest.tests {
            None => {
                for path in files_in(&self.dir)? {
                    if is_executable(&path) {
                        found.push(path);
                    }
                }
            }
            Some(patterns) => {
                for pattern in patterns {
                    let path = self.dir.join(pattern);
                    let parent = path.parent().unwrap_or(&self.dir);
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let before = found.len();
                    for file in files_in(parent)? {
                        let own =
                            file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        if matches(&name, &own) && is_executable(&file) {
                            found.push(file);
                        }
                    }
                    if found.len() == before {
                        return Err(Fail::usage(format!(
                            "{MANIFEST}: {pattern:?} matches no program"
                        )));
                    }
                }
            }
        }
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|path| Some(path.strip_prefix(&self.dir).ok()?.to_str()?.to_string()))
            .filter(|name| !name.contains(char::is_whitespace))
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(Fail::usage(format!("{} holds no executable file", self.dir.display())));
        }
        Ok(names)
    }

    /// Tests that the manifest leaves out, with the reason.
    pub fn skipped(&self, test: &str) -> Option<&str> {
        self.manifest.skip.get(test).map(String::as_str)
    }
}

impl Suite for DirSuite {
    fn image(&self, tests: &[String], to: &Path) -> Result<()> {
        let mut tree = base::skeleton()?;
        let mut finder = Finder::new(program::library_path().as_deref());
        match &self.manifest.copy {
            None => _ = program::add_extra(&mut tree, &mut finder, self.dir.as_os_str(), &[])?,
            Some(list) => {
                for path in list {
                    let path = self.dir.join(path);
                    program::add_extra(&mut tree, &mut finder, path.as_os_str(), &[])?;
                }
            }
        }
        for name in &self.manifest.with {
            program::add_extra(&mut tree, &mut finder, name.as_ref(), &[])?;
        }
        let mut programs = Vec::new();
        for test in tests {
            let path = self.dir.join(test);
            program::add(&mut tree, &mut finder, &path)?;
            programs.push(Program { args: vec![path.clone().into()], path, name: test.clone() });
        }
        base::finish(&mut tree, &self.init)?;
        let env: Vec<OsString> = self.manifest.env.iter().map(OsString::from).collect();
        let file = RunFile {
            mode: Mode::Batch,
            env: program::environment(&env, &self.dir, &[], false)?,
            cwd: self.dir.clone(),
            winsize: None,
            timeout: self.manifest.timeout.unwrap_or(crate::cmd::test::LIMIT),
            nonce: self.nonce.clone(),
            placement: false,
            traffic: false,
            modules: Vec::new(),
            shares: Vec::new(),
            group: Vec::new(),
            fetch: Vec::new(),
            programs,
        };
        tree.bytes(Path::new(runfile::PATH), 0o644, file.text())?;
        tree.write(to)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(MarkerReader {
            marker: format!("@@{} ", self.nonce),
            lines: Lines::default(),
            output: String::new(),
        })
    }

    fn repeat(&self, test: &str) -> String {
        format!("--dir {} {}", quote(&self.dir.display().to_string()), quote(test))
    }
}

/// Reads what user/init/src/batch.rs frames.
struct MarkerReader {
    marker: String,
    lines: Lines,
    output: String,
}

impl Reader for MarkerReader {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Step> {
        let mut steps = Vec::new();
        for line in self.lines.feed(bytes) {
            let Some(message) = line.strip_prefix(&self.marker) else {
                self.output += &line;
                self.output.push('\n');
                continue;
            };
            let words: Vec<&str> = message.split_whitespace().collect();
            match words[..] {
                ["start", name] => {
                    self.output.clear();
                    steps.push(Step::Start(name.into()));
                }
                ["end", name, ref status @ .., millis] => {
                    let parts = parts(&self.output);
                    let verdict = judge(status, &parts, &self.output);
                    let millis = millis.parse().unwrap_or(0);
                    steps.push(Step::Done { test: name.into(), verdict, millis, parts });
                    self.output.clear();
                }
                _ => {}
            }
        }
        steps
    }
}

fn judge(status: &[&str], parts: &[(String, &'static str)], output: &str) -> Verdict {
    let failed = parts.iter().find(|(_, word)| *word == "FAIL");
    match status {
        ["exit", "0"] => match failed {
            Some((what, _)) => Verdict::Fail(format!("part failed: {what}")),
            None => Verdict::Pass,
        },
        ["exit", "77" | "32"] => Verdict::Skip(last_line(output)),
        ["exit", code] => Verdict::Fail(format!("exit code {code}: {}", last_line(output))),
        ["signal", number] => Verdict::Fail(format!("killed by signal {number}")),
        ["timeout"] => Verdict::Fail("timed out".into()),
        _ => Verdict::Fail("the guest's init did not say how it ended".into()),
    }
}

fn last_line(output: &str) -> String {
    output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output").trim().to_string()
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| Fail::usage(format!("{}: {e}", dir.display())))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

/// Shell patterns with `*` only.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|&at| rest.is_char_boundary(at))
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_any_part_of_a_name() {
        assert!(matches("*", "x") && matches("a*c", "abc") && matches("*.sh", "a.sh"));
        assert!(!matches("a*c", "abd") && !matches("", "a") && matches("a**b", "ab"));
    }

    #[test]
    fn framed_output_gives_verdicts_and_a_program_cannot_forge_one() {
        let mut reader =
            MarkerReader { marker: "@@n0 ".into(), lines: Lines::default(), output: String::new() };
        let steps = reader.feed(
            b"\n@@n0 start a\nhello\n@@other end a exit 0 1\nlast words\n\n@@n0 end a exit 3 17\n\
              \n@@n0 start b\nnot ok 1 - x\n\n@@n0 end b exit 0 2\n",
        );
        assert_eq!(steps[0], Step::Start("a".into()));
        let Step::Done { verdict, millis, .. } = &steps[1] else { panic!() };
        assert_eq!(*verdict, Verdict::Fail("exit code 3: last words".into()));
        assert_eq!(*millis, 17);
        let Step::Done { verdict, .. } = &steps[3] else { panic!() };
        assert_eq!(*verdict, Verdict::Fail("part failed: 1 - x".into()));
    }

    #[test]
    fn exit_codes_of_automake_and_ltp_mean_skip() {
        for code in ["77", "32"] {
            assert!(
                matches!(judge(&["exit", code], &[], "why\n"), Verdict::Skip(why) if why == "why")
            );
        }
        assert!(matches!(judge(&["timeout"], &[], ""), Verdict::Fail(_)));
    }
}
