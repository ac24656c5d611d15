//! Finding a dynamic program's libraries as ld.so(8) would, without running it.
//!
//! The order: RPATH of the object and of those that loaded it (unless it has a RUNPATH),
//! LD_LIBRARY_PATH, RUNPATH, the directories of /etc/ld.so.conf, the system's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::{self, Dynamic, Kind};
use super::tree::Tree;
use crate::error::{Fail, Result};

/// What glibc on Debian and Ubuntu, and then on other distributions, searches last.
const SYSTEM: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
const MUSL: &[&str] = &["/lib", "/usr/local/lib", "/usr/lib"];
/// Loaded by glibc itself when a thread is cancelled or exits (pthread_exit(3)).
const LOADED_LATER: &[&str] = &["libgcc_s.so.1"];

pub struct Finder {
    environment: Vec<PathBuf>,
    configured: Vec<PathBuf>,
    done: BTreeSet<PathBuf>,
}

/// One object on the way, with the RPATHs of those who asked for it.
struct Object {
    path: PathBuf,
    dynamic: Dynamic,
    inherited: Vec<PathBuf>,
}

impl Finder {
    /// `library_path` is LD_LIBRARY_PATH as the program will see it.
    pub fn new(library_path: Option<&str>) -> Self {
        let mut configured = Vec::new();
        read_conf(Path::new("/etc/ld.so.conf"), &mut configured, 0);
        let environment = library_path
            .map(|text| text.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect())
            .unwrap_or_default();
        Self { environment, configured, done: BTreeSet::new() }
    }

    /// The libraries that were added so far.
    pub fn found(&self) -> &BTreeSet<PathBuf> {
        &self.done
    }

    /// Adds interpreter and libraries of the dynamic program (or library) at `path` to the tree.
    pub fn add(&mut self, tree: &mut Tree, path: &Path, dynamic: Dynamic) -> Result<()> {
        let musl = dynamic.interpreter.as_deref().is_some_and(|name| name.contains("ld-musl"));
        if let Some(interpreter) = &dynamic.interpreter {
            let file = Path::new(interpreter);
            if !file.exists() {
                return Err(Fail::usage(format!(
                    "{}: its interpreter {interpreter} is not on this machine",
                    path.display()
                )));
            }
            tree.mirror(file)?;
        }
        let mut todo = vec![Object { path: path.into(), dynamic, inherited: Vec::new() }];
        while let Some(object) = todo.pop() {
            let rpaths = self.rpaths_of(&object);
            for name in &object.dynamic.needed {
                self.one(tree, &object, name, &rpaths, musl, &mut todo)?;
            }
        }
        if !musl {
            for name in LOADED_LATER {
                if let Some(found) = self.search(name, &[], &[], false) {
                    self.keep(tree, &found)?;
                }
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        tree: &mut Tree,
        object: &Object,
        name: &str,
        rpaths: &[PathBuf],
        musl: bool,
        todo: &mut Vec<Object>,
    ) -> Result<()> {
        let runpath = expand(&object.dynamic.runpath, &object.path);
        let Some(found) = self.search(name, rpaths, &runpath, musl) else {
            // musl's libc is its interpreter.
            if musl && name.starts_with("libc.") {
                return Ok(());
            }
            return Err(Fail::usage(format!("{}: {name} not found", object.path.display())));
        };
        if !self.keep(tree, &found)? {
            return Ok(());
        }
        match elf::read(&found) {
            Ok(Kind::Dynamic(dynamic)) => {
                todo.push(Object { path: found, dynamic, inherited: rpaths.to_vec() });
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(why) => Err(Fail::usage(format!("{} {why}", found.display()))),
        }
    }

    /// Copies the library unless it is there; true if it is new.
    fn keep(&mut self, tree: &mut Tree, library: &Path) -> Result<bool> {
        if !self.done.insert(library.to_path_buf()) {
            return Ok(false);
        }
        tree.mirror(library)?;
        // The guest has no ld.so.cache: a library that only the configuration leads to gets a link
        // in a directory that every ld.so searches.
        let parent = library.parent().unwrap_or(Path::new("/"));
        if self.configured.iter().any(|dir| dir == parent)
            && !SYSTEM.contains(&&*parent.to_string_lossy())
            && let Some(name) = library.file_name()
        {
            let link = Path::new("/usr/lib/x86_64-linux-gnu").join(name);
            if !tree.has(&link) {
                tree.link(&link, library)?;
            }
        }
        Ok(true)
    }

    fn rpaths_of(&self, object: &Object) -> Vec<PathBuf> {
        // RUNPATH switches off the RPATHs of everybody above.
        if !object.dynamic.runpath.is_empty() {
            return Vec::new();
        }
        let mut paths = expand(&object.dynamic.rpath, &object.path);
        paths.extend(object.inherited.iter().cloned());
        paths
    }

    fn search(
        &self,
        name: &str,
        rpaths: &[PathBuf],
        runpath: &[PathBuf],
        musl: bool,
    ) -> Option<PathBuf> {
        if name.contains('/') {
            let path = PathBuf::from(name);
            return path.exists().then_some(path);
        }
        let system: Vec<PathBuf> =
            if musl { MUSL } else { SYSTEM }.iter().map(PathBuf::from).collect();
        let configured: &[PathBuf] = if musl { &[] } else { &self.configured };
        [rpaths, &self.environment, runpath, configured, &system]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(name))
            .find(|path| fits(path))
    }
}

/// A 64-bit x86 object: ld.so skips others, which multiarch systems have beside it.
fn fits(path: &Path) -> bool {
    path.is_file() && elf::read(path).is_ok_and(|kind| !matches!(kind, Kind::Data))
}

/// $ORIGIN and $LIB, as ld.so(8) explains them.
fn expand(paths: &[String], object: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(object).unwrap_or_else(|_| object.into());
    let origin = real.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    paths
        .iter()
        .filter(|path| !path.is_empty())
        .map(|path| {
            let path = path.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
            let path = path.replace("${LIB}", "lib/x86_64-linux-gnu");
            PathBuf::from(path.replace("$LIB", "lib/x86_64-linux-gnu"))
        })
        .collect()
}

/// Reads ld.so.conf and what it includes (one `*` in the last component, as distributions use it).
fn read_conf(path: &Path, found: &mut Vec<PathBuf>, depth: usize) {
    let Ok(text) = fs::read_to_string(path) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(pattern) = line.strip_prefix("include").map(str::trim) {
            if depth < 8 {
                for file in matches_of(path, pattern) {
                    read_conf(&file, found, depth + 1);
                }
            }
        } else if line.starts_with('/') {
            found.push(line.into());
        }
    }
}

fn matches_of(conf: &Path, pattern: &str) -> Vec<PathBuf> {
    let full = conf.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(dir), Some(name)) = (full.parent(), full.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let Some((before, after)) = name.split_once('*') else { return vec![full.clone()] };
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut list: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let own = entry.file_name();
            let own = own.to_string_lossy();
            own.len() >= before.len() + after.len()
                && own.starts_with(before)
                && own.ends_with(after)
        })
        .map(|entry| entry.path())
        .collect();
    list.sort();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_dynamic_program_come_along_with_its_interpreter() {
        let own = std::env::current_exe().unwrap();
        let Ok(Kind::Dynamic(dynamic)) = elf::read(&own) else { panic!("tests are dynamic") };
        let mut tree = Tree::default();
        Finder::new(None).add(&mut tree, &own, dynamic).unwrap();
        assert!(tree.has(Path::new("/lib64/ld-linux-x86-64.so.2")));
        let found = SYSTEM.iter().any(|dir| tree.has(&Path::new(dir).join("libc.so.6")));
        assert!(found, "libc.so.6 is in no system directory");
    }

    #[test]
    fn a_library_that_is_nowhere_is_named() {
        let dynamic = Dynamic { needed: vec!["libnowhere.so.7".into()], ..Dynamic::default() };
        let error =
            Finder::new(None).add(&mut Tree::default(), Path::new("/bin/x"), dynamic).unwrap_err();
        assert_eq!(error.message, "/bin/x: libnowhere.so.7 not found");
    }

    #[test]
    fn origin_is_the_directory_of_the_real_file() {
        let paths = expand(&["$ORIGIN/../lib".into(), "${ORIGIN}".into()], Path::new("/no/such/x"));
        assert_eq!(paths, [PathBuf::from("/no/such/../lib"), PathBuf::from("/no/such")]);
    }

    #[test]
    fn configuration_files_include_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("conf"), "include d/*.conf\n/opt/a # here\n").unwrap();
        fs::write(dir.path().join("d/1.conf"), "/opt/b\n").unwrap();
        fs::write(dir.path().join("d/2.txt"), "/opt/c\n").unwrap();
        let mut found = Vec::new();
        read_conf(&dir.path().join("conf"), &mut found, 0);
        assert_eq!(found, [PathBuf::from("/opt/b"), PathBuf::from("/opt/a")]);
    }
}
