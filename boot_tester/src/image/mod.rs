//! The guest's root file system: a tree in memory ([`tree`]), written as an uncompressed newc
//! archive ([`cpio`]), filled with programs and what they need ([`elf`], [`libs`],
//! [`program`], [`gather`]).
//! The same tree gives the same bytes, whenever and wherever it is written.

pub mod base;
pub mod cpio;
pub mod elf;
pub mod gather;
pub mod libs;
pub mod program;
pub mod runfile;
mod runtimes;
pub mod tree;
