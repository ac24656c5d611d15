//! Linux's answers, kept: the same sequences on the same machine get the same ones, so that a
//! campaign that is repeated after a change of Proxima does not need Linux again.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use super::fuzz_guest::{Fuzzer, Kernel, Sequence, Trace, Traces};
use crate::error::{Context, Result};
use crate::topology::Topology;

/// The answers to one guest's sequences: a file of a line for each, its name and its digests.
pub struct Kept(PathBuf);

impl Kept {
    /// Their place below `dir`, named after all that they depend on: kernel, machine, the guest's
    /// programs, and the sequences.
    pub fn of(
        dir: &Path,
        fuzzer: &Fuzzer,
        linux: &Kernel,
        topology: &Topology,
        sequences: &[Sequence],
    ) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for file in [&linux.file, &fuzzer.program, &fuzzer.init] {
            fs::read(file).context(file.display())?.hash(&mut hasher);
        }
        topology.qemu_args().hash(&mut hasher);
        for sequence in sequences {
            (&sequence.name, &sequence.ops).hash(&mut hasher);
        }
        Ok(Self(dir.join(format!("{:016x}", hasher.finish()))))
    }

    /// The answers, if they are there and whole.
    pub fn load(&self, sequences: &[Sequence]) -> Option<Traces> {
        let text = fs::read_to_string(&self.0).ok()?;
        let mut lines = text.lines();
        let traces = sequences.iter().map(|sequence| {
            let mut words = lines.next()?.split(' ').map(String::from);
            let name = words.next().filter(|name| *name == sequence.name)?;
            let digests: Vec<String> = words.collect();
            let whole = digests.len() == sequence.ops.len();
            whole.then(|| (name, Trace::Lines { digests, lines: Vec::new() }))
        });
        traces.collect()
    }

    /// Keeps the answers, unless a guest has crashed. A file that is half written is never seen.
    pub fn store(&self, sequences: &[Sequence], traces: &Traces) -> Result<()> {
        let mut text = String::new();
        for sequence in sequences {
            let Some(Trace::Lines { digests, .. }) = traces.get(&sequence.name) else {
                return Ok(());
            };
            text += &format!("{} {}\n", sequence.name, digests.join(" "));
        }
        let dir = self.0.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).context(dir.display())?;
        let file = tempfile::NamedTempFile::new_in(dir).context(dir.display())?;
        fs::write(&file, text).context(file.path().display())?;
        file.persist(&self.0).map(drop).context(self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Vec<Sequence> {
        let ops = |list: &[&str]| list.iter().map(|op| op.to_string()).collect();
        vec![
            Sequence { name: "1.0".into(), ops: ops(&["a", "b"]) },
            Sequence { name: "1.1".into(), ops: ops(&["c"]) },
        ]
    }

    fn answered(digests: &[&str]) -> Trace {
        Trace::Lines { digests: digests.iter().map(|d| d.to_string()).collect(), lines: vec![] }
    }

    #[test]
    fn answers_come_back_as_they_were_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept(dir.path().join("below").join("x"));
        assert_eq!(kept.load(&sequences()), None);
        let traces: Traces = [
            ("1.0".to_string(), answered(&["0f0f", "a"])),
            ("1.1".to_string(), answered(&["beef"])),
        ]
        .into();
        kept.store(&sequences(), &traces).unwrap();
        assert_eq!(kept.load(&sequences()), Some(traces));
        // Of other sequences, or cut off, they are none.
        assert_eq!(kept.load(&sequences()[1..]), None);
        fs::write(&kept.0, "1.0 0f0f a\n").unwrap();
        assert_eq!(kept.load(&sequences()), None);
    }

    #[test]
    fn what_crashed_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept(dir.path().join("x"));
        let crashed = Trace::Crashed { why: "panic".into(), console: String::new() };
        let traces: Traces =
            [("1.0".to_string(), crashed), ("1.1".to_string(), answered(&["beef"]))].into();
        kept.store(&sequences(), &traces).unwrap();
        assert!(!kept.0.exists());
    }
}
