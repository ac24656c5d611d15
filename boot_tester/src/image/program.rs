//! Taking a program of the host into the guest: the file at its own path, its interpreters and
//! libraries, and the argv it will see.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::elf::{self, Kind};
use super::libs::Finder;
use super::tree::Tree;
use crate::error::{Fail, Result};
use crate::guest::share::{self, Share};

/// Interpreters of interpreters: Linux follows four (binfmt_script).
const MAX_SCRIPTS: usize = 4;

/// Finds `name` as a shell would: with a slash it is a path, else it is looked up in PATH.
pub fn find(name: &OsStr) -> Result<PathBuf> {
    let shown = name.to_string_lossy();
    if shown.is_empty() {
        return Err(Fail::usage("the program's name is empty"));
    }
    if shown.contains('/') {
        let path = std::path::absolute(name).map_err(|e| Fail::usage(format!("{shown}: {e}")))?;
        check(&path, &shown)?;
        return Ok(path);
    }
    in_path(&shown).ok_or_else(|| Fail::usage(format!("{shown}: not found in PATH")))
}

/// The first executable file of that name in PATH; /usr/sbin and /sbin are searched last, because
/// people who are not root do not have them there and the guest's root does.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .filter(|dir: &PathBuf| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
        .map(|file| behind_shim(&file).unwrap_or(file))
}

/// The program that pyenv's wrapper of that name would choose without a project's own choice:
/// PYENV_VERSION's, or the global version's.
fn behind_shim(file: &Path) -> Option<PathBuf> {
    let (name, dir) = (file.file_name()?, file.parent()?);
    if dir.file_name() != Some(OsStr::new("shims")) {
        return None;
    }
    let root = dir.parent()?;
    let chosen = std::env::var("PYENV_VERSION").ok();
    let global = || std::fs::read_to_string(root.join("version")).ok();
    let versions = chosen.or_else(global)?;
    let programs = versions.split([':', '\n']).map(|v| root.join("versions").join(v.trim()));
    programs.map(|version| version.join("bin").join(name)).find(|file| file.is_file())
}

fn check(path: &Path, shown: &str) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|error| {
        Fail::usage(match error.kind() {
            std::io::ErrorKind::NotFound => format!("{shown}: there is no such program"),
            _ => format!("{shown}: {error}"),
        })
    })?;
    if meta.is_dir() {
        return Err(Fail::usage(format!("{shown} is a directory")));
    }
    if !meta.is_file() || access(path, Access::EXEC_OK).is_err() {
        return Err(Fail::usage(format!("{shown} is not executable")));
    }
    Ok(())
}

/// Puts the program and all it needs to start into the tree.
pub fn add(tree: &mut Tree, finder: &mut Finder, path: &Path) -> Result<()> {
    add_nested(tree, finder, path, 0)
}

fn add_nested(tree: &mut Tree, finder: &mut Finder, path: &Path, depth: usize) -> Result<()> {
    let shown = path.display();
    tree.mirror(path)?;
    match elf::read(path).map_err(|why| Fail::usage(format!("{shown} {why}")))? {
        Kind::Static => Ok(()),
        Kind::Dynamic(dynamic) => finder.add(tree, path, dynamic),
        Kind::Script { interpreter, argument } => {
            if depth >= MAX_SCRIPTS {
                return Err(Fail::usage(format!("{shown}: too many interpreters, one of another")));
            }
            add_interpreter(tree, finder, path, &interpreter, argument.as_deref(), depth)
        }
        Kind::Data => {
            Err(Fail::usage(format!("{shown} is no program: neither ELF nor a #! script")))
        }
    }
}

fn add_interpreter(
    tree: &mut Tree,
    finder: &mut Finder,
    script: &Path,
    interpreter: &str,
    argument: Option<&str>,
    depth: usize,
) -> Result<()> {
    let shown = script.display();
    check(Path::new(interpreter), interpreter)
        .map_err(|fail| Fail::usage(format!("{shown}: its interpreter: {}", fail.message)))?;
    add_nested(tree, finder, Path::new(interpreter), depth + 1)?;
    if !interpreter.ends_with("/env") {
        return Ok(());
    }
    let real = argument
        .unwrap_or("")
        .split_whitespace()
        .find(|word| !word.starts_with('-') && !word.contains('='));
    match real {
        Some(name) => {
            let path = find(OsStr::new(name)).map_err(|fail| {
                Fail::usage(format!("{shown}: its interpreter: {}", fail.message))
            })?;
            add_nested(tree, finder, &path, depth + 1)
        }
        None => Ok(()),
    }
}

/// A `--with HOST[:GUEST]`: a file, a program with its libraries, or a directory.
/// Its path on this machine. What it is to be seen as must not lie in a share, which hides it.
pub fn add_extra(
    tree: &mut Tree,
    finder: &mut Finder,
    spec: &OsStr,
    shares: &[Share],
) -> Result<PathBuf> {
    let text = spec.to_string_lossy();
    let whole = Path::new(spec);
    let (host, guest) = match text.rsplit_once(':') {
        Some((host, guest)) if !whole.exists() => (PathBuf::from(host), Some(PathBuf::from(guest))),
        _ => (whole.to_path_buf(), None),
    };
    if let Some(guest) = &guest
        && !guest.is_absolute()
    {
        return Err(Fail::usage(format!("--with {text}: the guest's path must begin with /")));
    }
    if let Some(taken) = taken(guest.as_deref().unwrap_or(&host)) {
        return Err(Fail::usage(format!("--with {text}: {taken} is the guest's own")));
    }
    if guest.as_deref().is_some_and(|guest| share::covers(shares, guest)) {
        return Err(Fail::usage(format!(
            "--with {text}: there the guest sees this machine's directory (--share)"
        )));
    }
    let host = locate(&host).ok_or_else(|| {
        Fail::usage(format!("--with {text}: there is no file {}", host.display()))
    })?;
    match &guest {
        Some(guest) => tree.host(&host, guest)?,
        None => tree.mirror(&host)?,
    }
    add_needs(tree, finder, &host)?;
    Ok(host)
}

/// What of the guest's tree init needs or mounts over: nothing put there would be seen, or start.
fn taken(guest: &Path) -> Option<&'static str> {
    ["/init", "/proc", "/sys", "/dev"].into_iter().find(|own| guest.starts_with(own))
}

/// `numactl` alone means the program in PATH, unless there is a file of that name here.
fn locate(host: &Path) -> Option<PathBuf> {
    if host.exists() {
        return std::path::absolute(host).ok();
    }
    let name = host.to_str()?;
    if name.contains('/') { None } else { in_path(name) }
}

/// Libraries and interpreters of a file or of every program in a directory. What a data file that
/// looks like a program lacks is no error: nobody asked to run it.
pub fn add_needs(tree: &mut Tree, finder: &mut Finder, path: &Path) -> Result<()> {
    if path.is_dir() {
        let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()) {
                add_needs(tree, finder, &entry.path())?;
            }
        }
        return Ok(());
    }
    match elf::read(path) {
        Ok(Kind::Dynamic(dynamic)) => {
            let _ = finder.add(tree, path, dynamic);
        }
        Ok(Kind::Script { interpreter, argument }) if access(path, Access::EXEC_OK).is_ok() => {
            let _ = add_interpreter(tree, finder, path, &interpreter, argument.as_deref(), 0);
        }
        _ => {}
    }
    Ok(())
}

/// Where a login's shell looks for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment a program finds: a login's, with `path_dirs` behind its PATH, plus what was asked
/// for.
pub fn environment(
    asked: &[OsString],
    cwd: &Path,
    path_dirs: &[PathBuf],
    terminal: bool,
) -> Result<Vec<(OsString, OsString)>> {
    let known = |dir: &&PathBuf| !PATH.split(':').any(|own| Path::new(own) == dir.as_path());
    let mut path = OsString::from(PATH);
    for dir in path_dirs.iter().filter(known) {
        path.push(":");
        path.push(dir);
    }
    let mut list: Vec<(OsString, OsString)> =
        [("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/sh")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
    list.push(("PATH".into(), path));
    list.push(("PWD".into(), cwd.into()));
    let term = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    list.push(("TERM".into(), if terminal { term } else { "dumb".into() }));
    if let Some(value) = library_path() {
        list.push(("LD_LIBRARY_PATH".into(), value.into()));
    }
    for item in asked {
        let (name, value) = split_env(item)?;
        list.retain(|(own, _)| *own != name);
        list.push((name, value));
    }
    Ok(list)
}

/// The host's LD_LIBRARY_PATH, without what `cargo run` adds to it for this tool.
pub fn library_path() -> Option<String> {
    let value = std::env::var("LD_LIBRARY_PATH").ok()?;
    let target = crate::paths::target();
    let cargos = std::env::var_os("CARGO").is_some();
    let own = |dir: &str| {
        let path = Path::new(dir);
        let toolchain = path.components().any(|part| part.as_os_str() == "toolchains");
        cargos && (toolchain || target.as_ref().is_some_and(|target| path.starts_with(target)))
    };
    let kept: Vec<&str> = value.split(':').filter(|dir| !dir.is_empty() && !own(dir)).collect();
    if kept.is_empty() { None } else { Some(kept.join(":")) }
}

/// `NAME=VALUE`, or `NAME` for the host's value.
fn split_env(item: &OsStr) -> Result<(OsString, OsString)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = item.as_bytes();
    let shown = item.to_string_lossy();
    let wrong = || Fail::usage(format!("--env {shown}: write NAME=VALUE"));
    match bytes.iter().position(|&b| b == b'=') {
        Some(0) => Err(wrong()),
        Some(at) => {
            Ok((OsStr::from_bytes(&bytes[..at]).into(), OsStr::from_bytes(&bytes[at + 1..]).into()))
        }
        None if bytes.is_empty() => Err(wrong()),
        None => std::env::var_os(item)
            .map(|value| (item.into(), value))
            .ok_or_else(|| Fail::usage(format!("--env {shown}: it is not set here"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, text: &str, mode: u32) -> PathBuf {
        let path = dir.join("prog");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_missing_program_is_said_to_be_missing() {
        let error = find(OsStr::new("./nowhere-at-all")).unwrap_err();
        assert_eq!(error.message, "./nowhere-at-all: there is no such program");
        assert_eq!(error.code, 2);
        assert!(find(OsStr::new("nowhere-at-all")).unwrap_err().message.contains("in PATH"));
        assert!(find(OsStr::new("/")).unwrap_err().message.contains("directory"));
    }

    #[test]
    fn a_file_without_the_execute_bit_is_not_executable() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "#!/bin/sh\n", 0o644);
        assert!(find(path.as_os_str()).unwrap_err().message.ends_with("is not executable"));
    }

    #[test]
    fn an_executable_file_of_text_is_no_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "hello\n", 0o755);
        let error = add(&mut Tree::default(), &mut Finder::new(None), &path).unwrap_err();
        assert!(error.message.contains("is no program"), "{}", error.message);
    }

    #[test]
    fn a_script_brings_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "#!/usr/bin/env sh\n", 0o755);
        let mut tree = Tree::default();
        add(&mut tree, &mut Finder::new(None), &path).unwrap();
        assert!(tree.has(Path::new("/usr/bin/env")));
        assert!(tree.has(&in_path("sh").unwrap()));
    }

    #[test]
    fn a_script_without_its_interpreter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "#!/no/such/shell\n", 0o755);
        let error = add(&mut Tree::default(), &mut Finder::new(None), &path).unwrap_err();
        assert!(error.message.contains("its interpreter: /no/such/shell"), "{}", error.message);
    }

    #[test]
    fn what_was_asked_for_replaces_the_login_environment() {
        let list =
            environment(&["HOME=/x".into(), "A=b=c".into()], Path::new("/"), &[], false).unwrap();
        let get = |name: &str| list.iter().find(|(own, _)| own == name).map(|(_, v)| v.clone());
        assert_eq!(get("HOME"), Some("/x".into()));
        assert_eq!(get("A"), Some("b=c".into()));
        assert!(environment(&["=x".into()], Path::new("/"), &[], false).is_err());
    }
}
