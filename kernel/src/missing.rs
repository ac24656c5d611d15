//! Remembers what programs asked for in vain, for /proc/proxima/missing: system calls, socket
//! families and file systems that this kernel does not have, and paths that were opened or executed
//! where there is no file.
//!
//! The record is of a fixed size, whoever fills it: what comes when it is full is not remembered.

use crate::task::current;
use abi::Result;
use alloc::vec::Vec;
use frames::fallible::TryVec;
use fs::pseudo::Text;
use sync::SpinLock;

/// What a program asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Syscall(u64),
    SocketFamily(u32),
    FileSystem,
    Path,
}

impl Asked {
    /// Its word in the file.
    const fn word(self) -> &'static str {
        match self {
            Self::Syscall(_) => "syscall",
            Self::SocketFamily(_) => "socket",
            Self::FileSystem => "filesystem",
            Self::Path => "path",
        }
    }
}

/// Things remembered at most.
const MOST: usize = 256;
/// Bytes of names remembered at most: 64 a name.
const MOST_BYTES: usize = 64 * MOST;

struct Record {
    /// What it was, by whom (the task's name), and where its own name ends in `names`.
    entries: [(Asked, [u8; 16], u16); MOST],
    count: usize,
    names: [u8; MOST_BYTES],
}

static RECORD: SpinLock<Record> = SpinLock::new(Record {
    entries: [(Asked::Path, [0; 16], 0); MOST],
    count: 0,
    names: [0; MOST_BYTES],
});

impl Record {
    fn name_of(&self, at: usize) -> &[u8] {
        let begin = if at == 0 { 0 } else { usize::from(self.entries[at - 1].2) };
        &self.names[begin..usize::from(self.entries[at].2)]
    }

    fn add(&mut self, asked: Asked, name: &[u8], comm: [u8; 16]) {
        let known =
            (0..self.count).any(|at| self.entries[at].0 == asked && self.name_of(at) == name);
        let begin = if self.count == 0 { 0 } else { usize::from(self.entries[self.count - 1].2) };
        let end = begin + name.len();
        if known || self.count == MOST || end > MOST_BYTES {
            return;
        }
        self.names[begin..end].copy_from_slice(name);
        self.entries[self.count] = (asked, comm, end as u16);
        self.count += 1;
    }
}

/// Remembers that the running task asked for it; `name` for file systems and paths.
#[cold]
pub fn note(asked: Asked, name: &[u8]) {
    let comm = *current().comm.lock();
    RECORD.lock().add(asked, name, comm);
}

/// Remembers a path that leads nowhere; one that is relative behind what `from` says, which is not
/// asked when there is no room.
#[cold]
pub fn note_path(path: &[u8], from: impl FnOnce() -> Result<Vec<u8>>) {
    if path.first() == Some(&b'/') {
        return note(Asked::Path, path);
    }
    if path.is_empty() || RECORD.lock().count == MOST {
        return;
    }
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let Ok(mut whole) = from() else { return };
    let between: &[u8] = if whole == b"/" { b"" } else { b"/" };
    if whole.try_extend(between).and_then(|()| whole.try_extend(path)).is_ok() {
        note(Asked::Path, &whole);
    }
}

/// A line each: what it was, its number or name, and who asked first. Bytes that are no printable
/// ASCII are shown as `?`.
pub fn show(out: &mut Text) -> Result<()> {
    let mut at = 0;
    loop {
        let (asked, comm, name) = {
            let record = RECORD.lock();
            if at >= record.count {
                return Ok(());
            }
            let (asked, comm, _) = record.entries[at];
            let mut name = Vec::new();
            name.try_reserve(record.name_of(at).len()).map_err(|_| abi::Errno::ENOMEM)?;
            name.extend_from_slice(record.name_of(at));
            (asked, comm, name)
        };
        at += 1;
        let plain = |bytes: &[u8], out: &mut Text| {
            for &byte in bytes.iter().take_while(|byte| **byte != 0) {
                out.bytes(&[if byte.is_ascii_graphic() { byte } else { b'?' }]);
            }
        };
        out.bytes(asked.word().as_bytes());
        out.bytes(b" ");
        match asked {
            Asked::Syscall(number) => out.put(format_args!("{number}")),
            Asked::SocketFamily(family) => out.put(format_args!("{family}")),
            Asked::FileSystem | Asked::Path => plain(&name, out),
        }
        out.bytes(b" ");
        plain(&comm, out);
        out.bytes(b"\n");
    }
}
