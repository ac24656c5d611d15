//! Debian packages without root: downloaded by apt, unpacked into the cache, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Fail, Result};
use crate::paths;

/// One file of a package, from the cache or fetched now.
pub fn file_of(package: &str, file: &str) -> Result<PathBuf> {
    let dir = paths::cache()?.join("packages").join(package);
    let path = dir.join(file);
    if path.exists() {
        return Ok(path);
    }
    let work = tempfile::tempdir_in(paths::cache()?).context("cache")?;
    let deb = Apt::host().download(package, work.path())?;
    let unpacked = work.path().join("root");
    let done = quiet("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked).output().context("dpkg-deb")?;
    if !done.status.success() || !unpacked.join(file).exists() {
        return Err(Fail::broken(format!("package {package} does not hold {file}")));
    }
    fs::create_dir_all(paths::cache()?.join("packages")).context("cache")?;
    let _ = fs::remove_dir_all(&dir);
    // Another run may have been faster: what counts is that the file is there.
    let renamed = fs::rename(&unpacked, &dir);
    if path.exists() { Ok(path) } else { renamed.context(dir.display()).map(|()| path) }
}

/// Where Debian keeps the keys of its archive (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One view of the package archive: the host's own, or a private one with more sources.
pub struct Apt {
    options: Vec<String>,
}

impl Apt {
    pub fn host() -> Self {
        Self { options: Vec::new() }
    }

    /// The host's own, and the backports to its release. Each is opened (and brought up to date) when
    /// the iterator comes to it.
    pub fn own() -> impl Iterator<Item = Self> {
        Self::of_suites(&["{codename}-backports"])
    }

    /// All that this tool looks into: newer ones the later.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::of_suites(&["{codename}-backports", "stable-backports", "unstable"])
    }

    fn of_suites(suites: &'static [&str]) -> impl Iterator<Item = Self> {
        std::iter::once(Self::host()).chain(suites.iter().filter_map(|suite| Self::debian(suite)))
    }

    /// A private view of another suite of Debian's archive, with lists below the cache; `{codename}`
    /// stands for the host's release. None where the host is no Debian or there is no such suite.
    fn debian(suite: &str) -> Option<Self> {
        let (uri, codename, signed_by) = debian_source()?;
        let suite = suite.replace("{codename}", &codename);
        let dir = paths::cache().ok()?.join("apt").join(&suite);
        for sub in ["lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(dir.join(sub)).ok()?;
        }
        // Older apt leaves a field it does not know as it was written.
        let key = if signed_by.starts_with('/') { &signed_by } else { KEYRING };
        let signed =
            if Path::new(key).exists() { format!("[signed-by={key}] ") } else { String::new() };
        let list = dir.join("etc/sources.list");
        fs::write(&list, format!("deb {signed}{uri} {suite} main\n")).ok()?;
        let at = |name: &str| dir.join(name).display().to_string();
        let options = [
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", dir.display()),
            format!("Dir::Cache::Archives={}", at("archives")),
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=/dev/null".into(),
        ];
        let apt = Self { options: options.into() };
        let updated =
            apt.command("apt-get").arg("update").output().is_ok_and(|o| o.status.success());
        updated.then_some(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = quiet(program);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command
    }

    /// The packages whose names match an extended regular expression.
    pub fn search(&self, names: &str) -> Vec<String> {
        let output = self.command("apt-cache").args(["search", "--names-only", names]).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_string)
            .collect()
    }

    /// Fetches a package's file into `dir`.
    pub fn download(&self, package: &str, dir: &Path) -> Result<PathBuf> {
        let output = self
            .command("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(dir)
            .output()
            .context(format!("apt-get download {package}"))?;
        let found = fs::read_dir(dir)
            .context(dir.display())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"));
        match found {
            Some(path) if output.status.success() => Ok(path),
            _ => Err(Fail::broken(format!(
                "apt-get cannot download the package {package} (is there a network? did apt-get update run?)"
            ))),
        }
    }
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

/// Archive, release and key of the host's own Debian, as apt itself names them.
fn debian_source() -> Option<(String, String, String)> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let output = quiet("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)|$(CODENAME)|$(ORIGIN)|$(SIGNED_BY)"])
        .arg("Created-By: Packages")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split('|');
        let (uri, release) = (fields.next()?, fields.next()?);
        let (origin, key) = (fields.next()?, fields.next()?);
        (release == codename && origin == "Debian")
            .then(|| (uri.to_string(), codename.to_string(), key.to_string()))
    })
}
