//! `proxima run --traffic`: every memory access of a program, counted by a plugin of QEMU's.
//!
//! [`wish`] reads the options and makes QEMU's words of them, [`result`] reads what the plugin
//! counted and joins it with what the guest knows, [`table`] shows it to a person.

mod advice;
mod json;
mod mappings;
mod object;
mod page;
mod result;
mod shared;
mod symbols;
mod table;
pub mod wish;

/// The word on Proxima's command line that has it tell which task a CPU runs.
pub const WORD: &str = "proxima.traffic";
/// What init saves of the program's address space.
pub const GUEST_FILES: [&str; 2] = ["/run/proxima.numa_maps", "/run/proxima.numa_pages"];

pub use advice::{best_command, verdict};
pub use json::{VERSION, value as json};
pub use page::html;
pub use result::{Parts, Run, join};
pub use table::lines;
pub use wish::{CacheFile, How, LatencyFile, Levels, Options, Wish, raw_file};
