//! A fresh tree per test, and short hands for calls on it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use abi::{Errno, Result};
use fs::context::{At, Lookup, OpenHow};
use fs::tmpfs::Tmpfs;
use fs::{Caller, Creds, File, FsContext, Metadata, Mount};
use hal::user::{KernelSink, KernelSource};
use std::sync::Arc;

/// Simulated memory for file contents, set up once: 256 MiB.
pub fn memory() {
    static START: std::sync::Once = std::sync::Once::new();
    START.call_once(|| {
        let id = numa::NodeId::new(0);
        vm::env::set_machine(numa::Machine::single_node(numa::CpuMask::first_n(1)));
        let span = (hal::Pfn::new(0x1000), hal::Pfn::new(0x11000));
        let memory =
            frames::node::NodeMemory { id, present: 0x10000, free: vec![span], span, early: 0 };
        frames::node::init(vec![memory]);
    });
}

pub struct World {
    pub context: FsContext,
    pub creds: Creds,
}

impl World {
    pub fn new() -> Self {
        memory();
        fs::dev::mem::register();
        let sb = Tmpfs::ramfs("rootfs").expect("ramfs");
        let mount = Mount::new(sb, "rootfs", 0).unwrap();
        Self { context: FsContext::new(mount.top()), creds: Creds::root() }
    }

    pub fn caller(&self) -> Caller<'_> {
        Caller::new(&self.creds, &self.context)
    }

    pub fn open(&self, path: &str, flags: u32) -> Result<Arc<File>> {
        self.open_mode(path, flags, 0o644)
    }

    pub fn open_mode(&self, path: &str, flags: u32, mode: u32) -> Result<Arc<File>> {
        let how = OpenHow { flags, mode, resolve: 0 };
        self.caller().open(At::Cwd, path.as_bytes(), &how)
    }

    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        use fs::oflag::*;
        let file = self.open(path, O_WRONLY | O_CREAT | O_TRUNC)?;
        assert_eq!(put(&file, text.as_bytes())?, text.len());
        Ok(())
    }

    pub fn read(&self, path: &str) -> Result<String> {
        let file = self.open(path, fs::oflag::O_RDONLY)?;
        let mut out = Vec::new();
        loop {
            let chunk = get(&file, 4096)?;
            if chunk.is_empty() {
                return Ok(String::from_utf8(out).expect("text"));
            }
            out.extend(chunk);
        }
    }

    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.caller().mkdir(At::Cwd, path.as_bytes(), 0o755)
    }
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.caller().symlink(target.as_bytes(), At::Cwd, path.as_bytes())
    }
    pub fn link(&self, old: &str, new: &str) -> Result<()> {
        let caller = self.caller();
        caller.link(At::Cwd, old.as_bytes(), Lookup::NOFOLLOW, At::Cwd, new.as_bytes())
    }
    pub fn unlink(&self, path: &str) -> Result<()> {
        self.caller().unlink(At::Cwd, path.as_bytes())
    }
    pub fn rmdir(&self, path: &str) -> Result<()> {
        self.caller().rmdir(At::Cwd, path.as_bytes())
    }
    pub fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        self.caller().rename(At::Cwd, old.as_bytes(), At::Cwd, new.as_bytes(), flags)
    }
    pub fn stat(&self, path: &str) -> Result<Metadata> {
        self.caller().stat(At::Cwd, path.as_bytes(), Lookup::FOLLOW)
    }
    pub fn lstat(&self, path: &str) -> Result<Metadata> {
        self.caller().stat(At::Cwd, path.as_bytes(), Lookup::NOFOLLOW)
    }
    pub fn readlink(&self, path: &str) -> Result<String> {
        let text = self.caller().readlink(At::Cwd, path.as_bytes())?;
        Ok(String::from_utf8(text).expect("text"))
    }
    pub fn chdir(&self, path: &str) -> Result<()> {
        let dir = self.caller().directory(path.as_bytes())?;
        self.context.set_cwd(dir);
        Ok(())
    }
    pub fn mount(&self, kind: &str, at: &str) -> Result<()> {
        self.caller().mount(b"none", at.as_bytes(), kind, 0, "")
    }

    /// Names in a directory, with "." and "..".
    pub fn list(&self, path: &str) -> Vec<String> {
        let file = self.open(path, fs::oflag::O_RDONLY | fs::oflag::O_DIRECTORY).expect("open");
        entries(&file, 4096)
    }
}

/// Reads names through getdents with a buffer of `room` bytes per call.
pub fn entries(file: &File, room: usize) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let mut buf = vec![0; room];
        let n = file.getdents(&mut KernelSink::new(&mut buf)).expect("getdents");
        if n == 0 {
            return names;
        }
        let mut at = 0;
        while at < n {
            let len = u16::from_le_bytes([buf[at + 16], buf[at + 17]]) as usize;
            let name = &buf[at + 19..at + len];
            let end = name.iter().position(|&b| b == 0).expect("NUL");
            names.push(String::from_utf8(name[..end].to_vec()).expect("text"));
            at += len;
        }
    }
}

pub fn put(file: &File, data: &[u8]) -> Result<usize> {
    file.write(&mut KernelSource(data))
}

pub fn get(file: &File, max: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; max];
    let n = file.read(&mut KernelSink::new(&mut buf))?;
    buf.truncate(n);
    Ok(buf)
}

pub fn err<T>(result: Result<T>) -> Errno {
    result.err().expect("an error")
}
