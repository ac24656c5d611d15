//! Control groups, version 2: the tree and its files, where tasks are, and what cpusets do to them.

mod cpus;
mod frozen;
mod members;
mod mems;
mod pids;
mod policies;
mod rules;
mod storm;
mod tree;

use crate::harness::{Test, skip};
use crate::sys::{self, Errno, sys};

pub const GROUPS: &[&[Test]] = &[
    tree::TESTS,
    rules::TESTS,
    members::TESTS,
    frozen::TESTS,
    cpus::TESTS,
    mems::TESTS,
    policies::TESTS,
    pids::TESTS,
    storm::TESTS,
];

const TOP: &str = "/sys/fs/cgroup";

/// A group of this test's own, which is emptied and removed in the end.
struct Group(String);

impl Group {
    /// A child of the root, to which it gives what controllers there are.
    #[track_caller]
    fn new(name: &str) -> Self {
        if !std::path::Path::new(TOP).join("cgroup.controllers").exists() {
            skip!("no hierarchy of version 2 is mounted");
        }
        write(&format!("{TOP}/cgroup.subtree_control"), "+cpuset +pids").unwrap();
        let group = Self(format!("{TOP}/{name}-{}", sys::getpid()));
        mkdir(&group.0, 0o755).unwrap();
        group
    }

    #[track_caller]
    fn child(&self, name: &str) -> Self {
        let child = Self(format!("{}/{name}", self.0));
        mkdir(&child.0, 0o755).unwrap();
        child
    }

    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.0)
    }

    /// The path as /proc/PID/cgroup has it.
    fn name(&self) -> &str {
        &self.0[TOP.len()..]
    }

    fn write(&self, file: &str, text: &str) -> sys::Result<usize> {
        write(&self.path(file), text)
    }

    /// A file's text without the last line's end.
    #[track_caller]
    fn read(&self, file: &str) -> String {
        read(&self.path(file)).unwrap_or_else(|error| panic!("{file}: {error:?}"))
    }

    #[track_caller]
    fn take(&self, pid: i32) {
        self.write("cgroup.procs", &pid.to_string()).unwrap();
    }

    /// A value of a file of `key value` lines.
    #[track_caller]
    fn value(&self, file: &str, key: &str) -> u64 {
        let text = self.read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text:?}"))
    }

    fn rmdir(&self) -> sys::Result<usize> {
        sys!(libc::SYS_rmdir, sys::c(&self.0).as_ptr())
    }

    fn is_populated(&self) -> bool {
        self.value("cgroup.events", "populated") == 1
    }

    fn until_empty(&self) {
        while self.is_populated() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Some tests have removed it.
        let _ = self.write("cgroup.freeze", "0");
        if self.write("cgroup.kill", "1").is_ok() {
            self.until_empty();
        }
        let _ = self.rmdir();
    }
}

fn mkdir(path: &str, mode: u32) -> sys::Result<usize> {
    sys!(libc::SYS_mkdir, sys::c(path).as_ptr(), mode)
}

/// One write.
fn write(path: &str, text: &str) -> sys::Result<usize> {
    let fd = sys::open(path, libc::O_WRONLY, 0)?;
    let written = sys::write(fd, text.as_bytes());
    sys::close(fd);
    written
}

fn read(path: &str) -> sys::Result<String> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.strip_suffix('\n').unwrap_or(&text).into())
        .map_err(|error| Errno(error.raw_os_error().unwrap_or(0)))
}

/// The group of a process as /proc has it.
#[track_caller]
fn group_of(pid: i32) -> String {
    let text = read(&format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("no group in {text:?}")).into()
}

/// The list behind a key of the status file in a directory of /proc.
#[track_caller]
fn status_list(of: &str, key: &str) -> Vec<usize> {
    let text = read(&format!("/proc/{of}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    crate::numa::list(line.unwrap_or_else(|| panic!("no {key}")))
}

fn mems_allowed(pid: i32) -> Vec<usize> {
    status_list(&pid.to_string(), "Mems_allowed_list")
}

/// A list as files take it.
fn list(ids: &[usize]) -> String {
    ids.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
