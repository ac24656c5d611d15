//! /proc/sys/fs.

use super::Setting::{self, Fixed, Read};
use crate::proc::put;
use abi::Result;
use fs::pseudo::Text;

/// The settings. Of open files there may be as many as memory holds.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("fs/file-max", Fixed("9223372036854775807")),
    ("fs/nr_open", Read(nr_open)),
    ("fs/overflowgid", Fixed("65534")),
    ("fs/overflowuid", Fixed("65534")),
    ("fs/pipe-max-size", Fixed("1048576")),
    ("fs/pipe-user-pages-hard", Fixed("0")),
    ("fs/pipe-user-pages-soft", Fixed("0")),
    ("fs/protected_fifos", Fixed("0")),
    ("fs/protected_hardlinks", Fixed("0")),
    ("fs/protected_regular", Fixed("0")),
    ("fs/protected_symlinks", Fixed("0")),
    ("fs/suid_dumpable", Fixed("0")),
];

fn nr_open(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", fs::fdtable::NR_OPEN);
    Ok(())
}
