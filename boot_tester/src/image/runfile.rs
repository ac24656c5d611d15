//! The file that tells the guest's init what to run; user/init/src/spec.rs describes and reads it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where init looks for it.
pub const PATH: &str = "/etc/proxima/run";

/// What the program reads from stdin, in direct mode: nothing, without the file.
pub const STDIN: &str = "/etc/proxima/stdin";

/// Where the image has kernel modules.
pub const MODULES: &str = "/etc/proxima/modules";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Standard streams are pipes: what a program sees in a pipeline or a CI job.
    Pipe,
    /// Output goes straight to the port, stdin is a file: no other process runs beside it.
    Direct,
    /// A terminal.
    Tty,
    /// Many programs, framed output.
    Batch,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    /// With argv[0].
    pub args: Vec<OsString>,
    /// Batch only.
    pub name: String,
}

#[derive(Clone, Debug)]
pub struct RunFile {
    pub mode: Mode,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    pub winsize: Option<(u16, u16)>,
    /// Batch only: seconds a program may take, and the word that marks its output.
    pub timeout: u64,
    pub nonce: String,
    /// Pipe mode only: the guest tells where the program's pages lay at its end.
    pub placement: bool,
    /// Pipe and direct mode: the guest tells the traffic plugin what it needs to know.
    pub traffic: bool,
    /// Kernel modules to load, in their order.
    pub modules: Vec<PathBuf>,
    /// Shared directories to mount: their tags, and where.
    pub shares: Vec<(String, PathBuf)>,
    /// Files of the program's control group and what is written to them; none: no group.
    pub group: Vec<(String, String)>,
    /// Files of the guest that come back when the program has ended.
    pub fetch: Vec<PathBuf>,
    pub programs: Vec<Program>,
}

impl RunFile {
    pub fn text(&self) -> String {
        let mode = match self.mode {
            Mode::Pipe => "pipe",
            Mode::Direct => "direct",
            Mode::Tty => "tty",
            Mode::Batch => "batch",
        };
        let mut text = format!("mode {mode}\ncwd {}\n", encode(self.cwd.as_os_str()));
        for (name, value) in &self.env {
            let _ = writeln!(text, "env {}={}", encode(name), encode(value));
        }
        if let Some((rows, columns)) = self.winsize {
            let _ = writeln!(text, "winsize {rows} {columns}");
        }
        if self.placement {
            text.push_str("placement\n");
        }
        if self.traffic {
            text.push_str("traffic\n");
        }
        for path in &self.modules {
            let _ = writeln!(text, "module {}", encode(path.as_os_str()));
        }
        for (tag, path) in &self.shares {
            let _ = writeln!(text, "share {tag} {}", encode(path.as_os_str()));
        }
        for (file, value) in &self.group {
            let _ = writeln!(text, "group {file}={}", encode(OsStr::new(value)));
        }
        for path in &self.fetch {
            let _ = writeln!(text, "fetch {}", encode(path.as_os_str()));
        }
        if self.mode == Mode::Batch {
            let _ = writeln!(text, "timeout {}\nnonce {}", self.timeout, self.nonce);
        }
        for program in &self.programs {
            let _ = writeln!(text, "program {}", encode(program.path.as_os_str()));
            if self.mode == Mode::Batch {
                let _ = writeln!(text, "name {}", program.name);
            }
            for arg in &program.args {
                let _ = writeln!(text, "arg {}", encode(arg));
            }
        }
        text
    }
}

/// Percent-encoding of whatever could be taken for a line's end or an escape.
fn encode(text: &OsStr) -> String {
    let mut out = String::new();
    for &byte in text.as_bytes() {
        if (b'!'..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_every_byte() {
        let file = RunFile {
            mode: Mode::Pipe,
            env: vec![("A".into(), "b c".into())],
            cwd: "/root".into(),
            winsize: None,
            timeout: 0,
            nonce: String::new(),
            placement: false,
            traffic: false,
            modules: vec!["/m/0.ko".into()],
            shares: vec![("share0".into(), "/a b".into())],
            group: vec![("cpuset.mems".into(), "0,2".into())],
            fetch: Vec::new(),
            programs: vec![Program {
                path: "/bin/x".into(),
                args: vec!["x".into(), "a\nb%".into(), "".into()],
                name: String::new(),
            }],
        };
        assert_eq!(
            file.text(),
            "mode pipe\ncwd /root\nenv A=b%20c\nmodule /m/0.ko\nshare share0 /a%20b\n\
             group cpuset.mems=0,2\nprogram /bin/x\narg x\narg a%0ab%25\narg \n"
        );
    }
}
