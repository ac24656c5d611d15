//! Brings along what a command line names: every word that is a program, a script or a file of this
//! machine, the words of `sh -c` strings and of wrapper scripts among them, and what well-known
//! runtimes load while they run ([`super::runtimes`]).
//!
//! It looks and never runs anything. A word that is no file here is somebody else's business: it
//! may be created in the guest.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::elf::{self, Kind};
use super::libs::Finder;
use super::program;
use super::runtimes;
use super::tree::Tree;
use crate::error::{Fail, Result};

/// What is brought along unasked, bytes; beyond it a person has to say so.
const LIMIT: u64 = 512 << 20;
/// A shell script's words are read, and those of scripts that it names.
const MAX_DEPTH: usize = 3;
/// A script longer than this is a program, not a wrapper.
const MAX_SCRIPT: usize = 64 << 10;
/// The guest has its own of these.
const NOT_OURS: &[&str] = &["/proc", "/sys", "/dev", "/run"];
/// What separates words in a shell's text, beside white space.
const SEPARATORS: &[char] =
    &[';', '|', '&', '(', ')', '<', '>', '"', '\'', '`', '=', '{', '}', ','];

/// One gathering: what has been looked at, and what came along because of it.
pub struct Gather<'a> {
    tree: &'a mut Tree,
    finder: &'a mut Finder,
    cwd: &'a Path,
    seen: BTreeSet<PathBuf>,
    bytes: u64,
    /// Directories of programs that were named without one, for the guest's PATH.
    pub path_dirs: Vec<PathBuf>,
    /// What was brought, in the order in which it was found.
    pub brought: Vec<PathBuf>,
}

impl<'a> Gather<'a> {
    /// Into `tree`; relative names are looked up in `cwd`.
    pub fn new(tree: &'a mut Tree, finder: &'a mut Finder, cwd: &'a Path) -> Self {
        let (path_dirs, brought) = (Vec::new(), Vec::new());
        Self { tree, finder, cwd, seen: BTreeSet::new(), bytes: 0, path_dirs, brought }
    }

    /// Brings what the words of `command` name; its first word is at `program`, which is in the
    /// tree already if it is a file of this machine.
    pub fn command(&mut self, program: &Path, command: &[OsString]) -> Result<()> {
        if program.is_file() {
            self.needs(program, 0)?;
        }
        let mut shell = is_shell(program);
        for word in command.iter().skip(1) {
            self.argument(word)?;
            shell = self.of_shell(shell, word, 0)?;
        }
        Ok(())
    }

    /// Brings what a program that was added by hand loads while it runs.
    pub fn extra(&mut self, program: &Path) -> Result<()> {
        self.needs(program, 0)
    }

    /// What follows the name of a shell is a script, also without `#!`. True if the next word is, too:
    /// this one was the shell, or an option.
    fn of_shell(&mut self, behind_shell: bool, word: &OsStr, depth: usize) -> Result<bool> {
        let option = word.as_encoded_bytes().starts_with(b"-");
        if behind_shell
            && !option
            && let Some(path) = self.locate(word)
            && let Ok(Kind::Data) = elf::read(&path)
        {
            self.shell_text(&path, depth)?;
        }
        Ok(is_shell(Path::new(word)) || behind_shell && option)
    }

    /// An argument: a name as it stands, behind a `=`, or the words of a shell's text.
    fn argument(&mut self, argument: &OsStr) -> Result<()> {
        if self.word(argument, 0)? {
            return Ok(());
        }
        match argument.to_str() {
            Some(text) => self.text(text, 0),
            None => Ok(()),
        }
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<()> {
        let split = |c: char| c.is_whitespace() || SEPARATORS.contains(&c);
        let mut shell = false;
        for word in text.split(split).filter(|word| !word.is_empty()).map(OsStr::new) {
            self.word(word, depth)?;
            shell = self.of_shell(shell, word, depth)?;
        }
        Ok(())
    }

    /// True when the word names something of this machine that is in the guest now.
    fn word(&mut self, word: &OsStr, depth: usize) -> Result<bool> {
        let Some(path) = self.locate(word) else { return Ok(false) };
        if NOT_OURS.iter().any(|dir| path.starts_with(dir)) {
            return Ok(false);
        }
        if !self.seen.insert(path.clone()) {
            return Ok(true);
        }
        let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let bare = !word.as_encoded_bytes().contains(&b'/');
        if bare && dir != self.cwd && !self.path_dirs.contains(&dir) {
            self.path_dirs.push(dir);
        }
        // What the guest's root has of its own (/etc/passwd) stays as it is.
        if !self.tree.has(&path) {
            self.bring(&path)?;
        }
        self.needs(&path, depth)?;
        Ok(true)
    }

    /// A regular file: by path, in the current directory, or a program in PATH.
    fn locate(&self, word: &OsStr) -> Option<PathBuf> {
        let name = word.to_str()?;
        let here = self.cwd.join(name);
        if here.is_file() && (name.contains('/') || name.contains('.') || !is_program(name)) {
            return Some(here);
        }
        if name.contains('/') { None } else { program::in_path(name) }
    }

    fn bring(&mut self, path: &Path) -> Result<()> {
        let Ok(meta) = path.metadata() else { return Ok(()) };
        // What may not be read cannot be run from a copy either; the program will say so.
        if access(path, Access::READ_OK).is_err() {
            return Ok(());
        }
        self.bytes += meta.len();
        if self.bytes > LIMIT {
            return Err(Fail::usage(format!(
                "{}: what the command line names is more than {} MiB: say --no-gather, and --with \
                 for what is needed",
                path.display(),
                LIMIT >> 20
            )));
        }
        self.tree.mirror(path)?;
        self.brought.push(path.to_path_buf());
        Ok(())
    }

    /// What a file needs to run: interpreter, libraries, what a wrapper script calls, what a
    /// runtime loads. A lack is no error here: the program may do without.
    fn needs(&mut self, path: &Path, depth: usize) -> Result<()> {
        match elf::read(path) {
            Ok(Kind::Dynamic(dynamic)) => {
                let _ = self.finder.add(self.tree, path, dynamic);
            }
            Ok(Kind::Script { interpreter, argument }) => {
                if access(path, Access::EXEC_OK).is_ok() {
                    program::add_needs(self.tree, self.finder, path)?;
                }
                self.script(path, &interpreter, argument.as_deref(), depth)?;
            }
            _ => {}
        }
        // What comes along may have libraries that bring more.
        loop {
            let runtime = runtimes::of(path, self.finder.found());
            let mut more = false;
            for extra in runtime.brings {
                if self.seen.insert(extra.clone()) {
                    self.tree.mirror(&extra)?;
                    program::add_needs(self.tree, self.finder, &extra)?;
                    self.brought.push(extra);
                    more = true;
                }
            }
            runtime.leaves.iter().for_each(|path| self.tree.remove(path));
            if !more {
                return Ok(());
            }
        }
    }

    /// A script's interpreter has needs of its own; of a shell's script every word may be a program.
    fn script(
        &mut self,
        path: &Path,
        interpreter: &str,
        argument: Option<&str>,
        depth: usize,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Ok(());
        }
        let by_env = argument.filter(|_| interpreter.ends_with("/env")).and_then(|text| {
            text.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('='))
        });
        let runs = by_env.unwrap_or(interpreter);
        self.word(OsStr::new(runs), depth + 1)?;
        if is_shell(Path::new(runs)) { self.shell_text(path, depth) } else { Ok(()) }
    }

    /// The words of a shell's script, of what is not too long to be read.
    fn shell_text(&mut self, path: &Path, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Ok(());
        }
        match std::fs::read_to_string(path) {
            Ok(text) if text.len() <= MAX_SCRIPT => {
                let own = path.to_string_lossy();
                let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                code.map(|line| line.replace("${0}", &own).replace("$0", &own))
                    .try_for_each(|line| self.text(&line, depth + 1))
            }
            _ => Ok(()),
        }
    }
}

fn is_shell(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default();
    ["sh", "bash", "dash", "ash"].iter().any(|shell| name == *shell)
}

/// A bare word that PATH knows is a program's name before it is a file's.
fn is_program(name: &str) -> bool {
    program::in_path(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// The paths that a command line brings, run in `dir`.
    fn brought(dir: &Path, command: &[&str]) -> Tree {
        let mut tree = Tree::default();
        let mut finder = Finder::new(None);
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let mut gather = Gather::new(&mut tree, &mut finder, dir);
        gather.command(Path::new("/none"), &command).unwrap();
        tree
    }

    fn script(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn programs_and_files_that_words_name_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        script(&root.join("prog"), "#!/bin/sh\n");
        std::fs::write(root.join("data.txt"), "x").unwrap();
        let tree = brought(&root, &["numactl", "./prog", "data.txt", "--input=data.txt", "absent"]);
        assert!(tree.has(&root.join("prog")));
        assert!(tree.has(&root.join("data.txt")));
        assert!(!tree.has(&root.join("absent")));
        assert!(tree.has(Path::new("/bin/sh")), "the script's interpreter");
    }

    #[test]
    fn words_of_a_shells_text_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        script(&root.join("prog"), "#!/bin/sh\n");
        let tree = brought(&root, &["sh", "-c", "env X=1 ./prog>out;cat 'out'"]);
        assert!(tree.has(&root.join("prog")));
        assert!(tree.has(&program::in_path("env").unwrap()));
    }

    #[test]
    fn a_wrapper_script_brings_what_it_calls() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        script(&root.join("inner"), "#!/bin/sh\ntrue\n");
        script(
            &root.join("wrapper"),
            &format!("#!/bin/sh\nexec {}/inner \"$@\"\n", root.display()),
        );
        let tree = brought(&root, &["x", "./wrapper"]);
        assert!(tree.has(&root.join("inner")));
    }

    #[test]
    fn a_wrapper_script_may_call_what_is_named_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        script(&root.join("tool.bin"), "#!/bin/sh\ntrue\n");
        script(&root.join("tool"), "#!/bin/sh\nexec $0.bin \"$@\"\n");
        assert!(brought(&root, &["x", "./tool"]).has(&root.join("tool.bin")));
    }

    #[test]
    fn a_program_that_is_added_by_hand_brings_what_its_rules_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["bin", "lib/python3.11/encodings"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        let program = root.join("bin/python3.11");
        std::fs::write(&program, "").unwrap();
        let (mut tree, mut finder) = (Tree::default(), Finder::new(None));
        Gather::new(&mut tree, &mut finder, &root).extra(&program).unwrap();
        assert!(tree.has(&root.join("lib/python3.11/encodings")));
    }

    #[test]
    fn directories_and_the_guests_own_places_stay() {
        let dir = tempfile::tempdir().unwrap();
        let tree = brought(dir.path(), &["cat", "/proc/self/status", "/etc", "/dev/null", "."]);
        for path in ["/proc/self/status", "/dev/null", "/etc"] {
            assert!(!tree.has(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_script_that_a_shell_is_given_needs_no_interpreter_line() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        script(&root.join("prog"), "#!/bin/sh\n");
        std::fs::write(root.join("plain.sh"), "set -e\n./prog | cat\n").unwrap();
        for command in [&["sh", "plain.sh"][..], &["x", "-c", "bash -e ./plain.sh"]] {
            let tree = brought(root, &[&["x"], command].concat());
            assert!(tree.has(&root.join("prog")), "{command:?}");
        }
        // To others it is a file like any.
        assert!(!brought(root, &["x", "cat", "plain.sh"]).has(&root.join("prog")));
    }
}
