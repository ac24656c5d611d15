//! Flag words of system calls as typed sets.

use crate::raw::general as g;
use bitflags::bitflags;

bitflags! {
    /// `prot` of mmap(2) and mprotect(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        const READ = g::PROT_READ;
        const WRITE = g::PROT_WRITE;
        const EXEC = g::PROT_EXEC;
        const GROWSDOWN = g::PROT_GROWSDOWN;
        const GROWSUP = g::PROT_GROWSUP;
    }
}
