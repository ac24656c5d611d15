//! What to run: the file the host writes into the image at `/etc/proxima/run`.
//!
//! One `key value` pair a line; values are percent-encoded where they hold bytes outside printable
//! ASCII, spaces at either end, or a percent sign. Keys that hold for the whole file: `mode`,
//! `env NAME=VALUE`, `cwd`, `winsize ROWS COLUMNS`, `timeout SECONDS` (batch, per program),
//! `nonce` (batch), `placement` (pipe mode), `traffic` (pipe and direct mode), `module PATH` (a kernel
//! module to load), `share TAG PATH` (a directory of the host to mount), `group FILE=VALUE` (the
//! program's control group), `fetch PATH` (a file to send to the host at the end). `program PATH`
//! begins a program, and its `arg`s (the first is argv[0]) and in batch mode its `name` follow.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Standard streams are pipes that init carries to the ports.
    Pipe,
    /// Standard output and error are the ports themselves, raw; stdin is a file of the image, or /dev/null.
    Direct,
    /// ttyS1 is the program's controlling terminal.
    Tty,
    /// Many programs, one after the other, output framed by markers on ttyS1.
    Batch,
}

#[derive(Debug, Default)]
pub struct Program {
    pub path: OsString,
    pub args: Vec<OsString>,
    pub name: String,
}

#[derive(Debug)]
pub struct Spec {
    pub mode: Mode,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: OsString,
    pub winsize: Option<(u16, u16)>,
    pub timeout: u64,
    pub nonce: String,
    /// Tell where the program's pages lay at its end (pipe mode).
    pub placement: bool,
    /// Tell the emulator's plugin about memory, and when the program runs (pipe and direct mode).
    pub traffic: bool,
    /// Kernel modules to load, in their order.
    pub modules: Vec<OsString>,
    /// Directories of the host, by their tags, and where to mount them.
    pub shares: Vec<(String, OsString)>,
    /// Files of the program's control group and what is to be written to them.
    pub group: Vec<(String, String)>,
    /// Files to send to the host when the program has ended.
    pub fetch: Vec<OsString>,
    pub programs: Vec<Program>,
}

impl Spec {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut spec = Spec {
            mode: Mode::Pipe,
            env: Vec::new(),
            cwd: "/".into(),
            winsize: None,
            timeout: 60,
            nonce: String::new(),
            placement: false,
            traffic: false,
            modules: Vec::new(),
            shares: Vec::new(),
            group: Vec::new(),
            fetch: Vec::new(),
            programs: Vec::new(),
        };
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            spec.take(key, value)
                .ok_or_else(|| format!("cannot read the line {line:?} of the run file"))?;
        }
        if spec.programs.is_empty() {
            return Err("the run file names no program".into());
        }
        Ok(spec)
    }

    /// Whether somebody looks at the program's memory before it is gone.
    pub fn is_observed(&self) -> bool {
        self.placement || self.traffic
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "mode" => {
                self.mode = match value {
                    "pipe" => Mode::Pipe,
                    "direct" => Mode::Direct,
                    "tty" => Mode::Tty,
                    "batch" => Mode::Batch,
                    _ => return None,
                }
            }
            "env" => {
                let bytes = decode(value)?;
                let at = bytes.iter().position(|&b| b == b'=')?;
                let (name, rest) = bytes.split_at(at);
                self.env.push((os(name.to_vec()), os(rest[1..].to_vec())));
            }
            "cwd" => self.cwd = os(decode(value)?),
            "winsize" => {
                let (rows, columns) = value.split_once(' ')?;
                self.winsize = Some((rows.parse().ok()?, columns.parse().ok()?));
            }
            "timeout" => self.timeout = value.parse().ok()?,
            "nonce" => self.nonce = value.to_string(),
            "placement" => self.placement = true,
            "traffic" => self.traffic = true,
            "module" => self.modules.push(os(decode(value)?)),
            "share" => {
                let (tag, path) = value.split_once(' ')?;
                self.shares.push((tag.to_string(), os(decode(path)?)));
            }
            "group" => {
                let (file, value) = value.split_once('=')?;
                let value = String::from_utf8(decode(value)?).ok()?;
                self.group.push((file.into(), value));
            }
            "fetch" => self.fetch.push(os(decode(value)?)),
            "program" => {
                let path = os(decode(value)?);
                self.programs.push(Program { path, ..Program::default() });
            }
            "arg" => self.programs.last_mut()?.args.push(os(decode(value)?)),
            "name" => self.programs.last_mut()?.name = value.to_string(),
            "" => {}
            _ => return None,
        }
        Some(())
    }
}

fn os(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// Percent-decoding; None for a malformed escape.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_file_gives_mode_environment_and_arguments_in_order() {
        let text = "mode direct\nenv A=b%20=c\ncwd /root\nprogram /bin/x\narg x\narg a%0ab\narg \n";
        let spec = Spec::parse(text).unwrap();
        assert_eq!(spec.mode, Mode::Direct);
        assert_eq!(spec.env, [("A".into(), "b =c".into())]);
        assert_eq!(spec.programs[0].args, ["x", "a\nb", ""]);
    }

    #[test]
    fn malformed_run_files_are_refused() {
        for text in [
            "",
            "mode maybe",
            "arg x",
            "share s\nprogram /x",
            "env NOEQUALS\nprogram /x",
            "program %4",
            "what 1",
        ] {
            assert!(Spec::parse(text).is_err(), "{text:?}");
        }
    }
}
