//! What well-known runtimes load while they run, which no header tells: modules of interpreters,
//! libraries by dlopen(3). The rules are data: `sysroot/runtimes.toml`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use super::elf;

const RULES: &str = include_str!("../../../sysroot/runtimes.toml");

/// Directories that hold shared libraries.
const LIBRARIES: &[&str] =
    &["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    runtime: Vec<Runtime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runtime {
    /// What it is, for who reads the rules.
    #[expect(dead_code, reason = "a name for people")]
    name: String,
    /// File names of programs; `*` stands for any text.
    #[serde(default)]
    programs: Vec<String>,
    /// Names of shared libraries that bring it along; `*` as above.
    #[serde(default)]
    libraries: Vec<String>,
    /// Paths to bring. `{prefix}` is the directory above the program's own, `{name}` the program's
    /// file name behind all links. A `*` stands for any text within one component.
    #[serde(default)]
    brings: Vec<String>,
    /// Paths below those of `brings` that stay on the host.
    #[serde(default)]
    leaves: Vec<String>,
    /// Shared libraries to bring, by name.
    #[serde(default)]
    loads: Vec<String>,
    /// Shared libraries whose debugging symbols to bring, where they have a file of their own.
    #[serde(default)]
    symbols: Vec<String>,
}

fn rules() -> &'static [Runtime] {
    static PARSED: OnceLock<Vec<Runtime>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let rules: Rules =
            toml::from_str(RULES).expect("sysroot/runtimes.toml is part of the tool");
        rules.runtime
    })
}

/// What a program may look for while it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub brings: Vec<PathBuf>,
    /// Parts of `brings` that no program needs.
    pub leaves: Vec<PathBuf>,
}

/// What the program at `program`, which loads `libraries`, may look for while it runs.
pub fn of(program: &Path, libraries: &BTreeSet<PathBuf>) -> Needs {
    let real = program.canonicalize().unwrap_or_else(|_| program.into());
    let names = [program.file_name(), real.file_name()];
    let prefix = real.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let full = |path: &String| {
        path.replace("{prefix}", &prefix.to_string_lossy()).replace("{name}", &name)
    };
    let mut needs = Needs::default();
    for rule in rules() {
        let named = |pattern: &String, name: Option<&OsStr>| {
            name.and_then(OsStr::to_str).is_some_and(|name| matches(pattern, name))
        };
        let applies = rule.programs.iter().any(|p| names.iter().any(|name| named(p, *name)))
            || rule.libraries.iter().any(|p| libraries.iter().any(|l| named(p, l.file_name())));
        if !applies {
            continue;
        }
        needs.brings.extend(rule.brings.iter().flat_map(|path| expand(Path::new(&full(path)))));
        needs.leaves.extend(rule.leaves.iter().flat_map(|path| expand(Path::new(&full(path)))));
        needs.brings.extend(rule.loads.iter().flat_map(|name| library(name)));
        let named = rule.symbols.iter().flat_map(|name| library(name));
        needs.brings.extend(named.filter_map(|path| symbols(&path)));
    }
    needs
}

/// Where shared libraries of a name lie.
fn library(name: &str) -> Vec<PathBuf> {
    LIBRARIES.iter().flat_map(|dir| expand(&Path::new(dir).join(name))).collect()
}

/// The file of a library's debugging symbols, if the host has it.
fn symbols(library: &Path) -> Option<PathBuf> {
    let data = std::fs::read(library).ok()?;
    let file = object::File::parse(&*data).ok()?;
    elf::separate_debug(&file).filter(|path| path.exists())
}

/// True if `name` is `pattern`, in which each `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
}

/// The existing paths that a pattern stands for.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let Some(text) = part.to_str().filter(|text| text.contains('*')) else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let entries =
            found.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        let named = |entry: &std::fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| matches(text, name))
        };
        found = entries.filter(named).map(|entry| entry.path()).collect();
        found.sort();
    }
    found.retain(|path| path.exists());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_can_be_read() {
        assert!(rules().len() >= 10);
        assert!(rules().iter().all(|r| !r.programs.is_empty() || !r.libraries.is_empty()));
        assert!(rules().iter().all(|r| !r.brings.is_empty() || !r.loads.is_empty()));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("python3*", "python3.11"));
        assert!(matches("lib*.so.*", "libjvm.so.1"));
        assert!(!matches("python3*", "python2"));
        assert!(matches("java", "java") && !matches("java", "javac"));
    }

    #[test]
    fn an_interpreter_brings_its_modules() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["bin", "lib/python3.11/encodings", "lib/python3.11/test", "lib/python3.12"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("bin/python3.11"), "").unwrap();
        std::os::unix::fs::symlink("python3.11", root.join("bin/python3")).unwrap();
        let found = of(&root.join("bin/python3"), &BTreeSet::new());
        assert_eq!(found.brings[0], root.join("lib/python3.11"));
        assert!(!found.brings.contains(&root.join("lib/python3.12")));
        assert_eq!(found.leaves, [root.join("lib/python3.11/test")]);
    }
}
