//! Operations, and how they are written: `WORKER NAME ARGUMENT...`, one a line.
//!
//! Every argument is a machine word: decimal, hexadecimal with `0x`, or an address of the
//! [`arena`]. What each means stands with [`Kind`].

use std::fmt;

use crate::arena;

pub const ARGS: usize = 8;
/// Processes and threads of a sequence.
pub const WORKERS: usize = 6;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $count:literal;)*) => {
        /// What is done. In the arguments, `bytes` is a length as the call takes it, `shape` says
        /// how a pointer is good or bad ([`crate::execute`]), and `who` names a process: 0 the
        /// worker itself, N the worker N - 1, 100 and above nobody.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Kind { $($(#[$doc])* $kind),* }

        const KINDS: &[(Kind, &str, usize)] = &[$((Kind::$kind, $name, $count)),*];
    };
}

kinds! {
    /// at, bytes, prot, flags, object (0: none, N: object N - 1, 100: no descriptor), offset, modulus
    Mmap = "mmap", 7;
    /// at, bytes
    Munmap = "munmap", 2;
    /// at, old bytes, new bytes, flags, new address
    Mremap = "mremap", 5;
    /// at, bytes, prot
    Mprotect = "mprotect", 3;
    /// at, bytes, advice
    Madvise = "madvise", 3;
    /// at, bytes, how (0 lock, 1 unlock, 2 lock on fault)
    Mlock = "mlock", 3;
    /// at, bytes
    Mincore = "mincore", 2;
    /// at, pages, stride in pages, how (0 write, 1 read), value
    Touch = "touch", 5;
    /// mode, mask, shape, maxnode
    Setpol = "setpol", 4;
    /// flags, at, shape, maxnode
    Getpol = "getpol", 4;
    /// at, bytes, mode, mask, shape, maxnode, flags
    Mbind = "mbind", 7;
    /// at, bytes, node, flags
    Home = "home", 4;
    /// who, at, pages, stride in pages, first target, step between targets, flags, shape
    Movepages = "movepages", 8;
    /// who, from, to, shape, maxnode
    Migrate = "migrate", 5;
    /// object, kind (0 memfd, 1 file, 2 System V, 3 memfd of huge pages), pages, modulus
    Object = "object", 4;
    /// object, bytes
    Truncate = "truncate", 2;
    /// object, mode, offset, bytes
    Fallocate = "fallocate", 4;
    /// object, page, pages, how (0 write, 1 read), value
    Transfer = "transfer", 5;
    /// object, at, flags
    Shmat = "shmat", 3;
    /// at
    Shmdt = "shmdt", 1;
    /// the new worker
    Fork = "fork", 1;
    /// the new worker, a thread of this one's process
    Clone = "clone", 1;
    /// a new program in this worker's process, with empty memory
    Exec = "exec", 0;
    /// the whole process
    Exit = "exit", 0;
    /// cpu
    Pin = "pin", 1;
    /// who, mask, shape, bytes
    Affinity = "affinity", 4;
    /// the pool of huge pages: what (0 all of it, 1 by the task's policy, 2 overcommit, 10 and above
    /// node N - 10), pages
    Pool = "pool", 2;
    /// transparent huge pages for this worker's process: 1 with, 0 without
    Thp = "thp", 1;
    /// what /proc/self/maps and numa_maps say of the arena
    Maps = "maps", 0;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Op {
    pub worker: u32,
    pub kind: Kind,
    pub args: [u64; ARGS],
}

impl Op {
    pub fn new(worker: u64, kind: Kind, args: &[u64]) -> Self {
        let mut words = [0; ARGS];
        words[..args.len()].copy_from_slice(args);
        Self { worker: worker as u32, kind, args: words }
    }

    pub fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("{line:?} is no operation");
        let mut words = line.split_whitespace();
        let worker: u32 = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
        let name = words.next().ok_or_else(wrong)?;
        let &(kind, _, count) = KINDS.iter().find(|(_, own, _)| *own == name).ok_or_else(wrong)?;
        let mut args = [0; ARGS];
        for arg in &mut args[..count] {
            *arg = words.next().and_then(number).ok_or_else(wrong)?;
        }
        if words.next().is_some() || worker as usize >= WORKERS {
            return Err(wrong());
        }
        Ok(Self { worker, kind, args })
    }
}

fn number(word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if word.starts_with('@') {
        arena::parse(word)
    } else {
        word.parse().ok()
    }
}

/// A word as operations and traces show it.
pub struct Shown(pub u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0;
        if arena::holds(word) {
            let offset = word - arena::START;
            let (region, rest) = (offset / arena::REGION, offset % arena::REGION);
            write!(f, "@{region}+{}", rest / arena::PAGE)?;
            match rest % arena::PAGE {
                0 => Ok(()),
                byte => write!(f, ".{byte}"),
            }
        } else if word < 10_000 {
            write!(f, "{word}")
        } else {
            write!(f, "{word:#x}")
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every kind is in the table it was made with.
        let Some(&(_, name, count)) = KINDS.iter().find(|(kind, ..)| *kind == self.kind) else {
            return Err(fmt::Error);
        };
        write!(f, "{} {name}", self.worker)?;
        self.args[..count].iter().try_for_each(|arg| write!(f, " {}", Shown(*arg)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_being_written_down() {
        for (at, (kind, _, count)) in KINDS.iter().enumerate() {
            let words = [arena::at(3, 7), 0, u64::MAX, 4096, 9999, 10_000, arena::START + 5, 1];
            let op = Op::new(at as u64 % 6, *kind, &words[..*count]);
            assert_eq!(Op::parse(&op.to_string()), Ok(op));
        }
        for wrong in ["", "0", "0 what", "9 exit", "0 munmap 1", "0 exit 1", "0 munmap x 1"] {
            assert!(Op::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
