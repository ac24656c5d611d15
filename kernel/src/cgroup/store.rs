//! What writing to the files does. [`super::CHANGES`] is held.

use super::files::{ENTRIES, Write};
use super::numbers::{integer, limit};
use super::{attach, cpuset, freeze as freezing, groups, kill as killing};
use abi::{Errno, Result};
use cgroup::{Change, Which};
use fs::File;
use numa::text::ParseListError;
use numa::{CpuMask, NodeMask};

pub fn procs(write: &Write<'_>, text: &str) -> Result<()> {
    attach::write(write, text, true)
}

pub fn threads(write: &Write<'_>, text: &str) -> Result<()> {
    attach::write(write, text, false)
}

/// 1 ends everybody in the group and below.
pub fn kill(write: &Write<'_>, text: &str) -> Result<()> {
    if integer(text)? != 1 {
        return Err(Errno::ERANGE);
    }
    killing::all(write.group)
}

/// 1 has everybody in the group and below stand still, 0 go on. EINVAL, ERANGE.
pub fn freeze(write: &Write<'_>, text: &str) -> Result<()> {
    match integer(text)? {
        0 => freezing::set(write.group, false),
        1 => freezing::set(write.group, true),
        _ => Err(Errno::ERANGE),
    }
}

pub fn max_depth(write: &Write<'_>, text: &str) -> Result<()> {
    groups().group_mut(write.group)?.max_depth = limit(text)?;
    Ok(())
}

pub fn max_descendants(write: &Write<'_>, text: &str) -> Result<()> {
    groups().group_mut(write.group)?.max_descendants = limit(text)?;
    Ok(())
}

/// Only "threaded" can be written. EINVAL, EOPNOTSUPP.
pub fn kind(write: &Write<'_>, text: &str) -> Result<()> {
    if text != "threaded" {
        return Err(Errno::EINVAL);
    }
    groups().make_threaded(write.group)
}

pub fn subtree_control(write: &Write<'_>, text: &str) -> Result<()> {
    let asked = Change::parse(text)?;
    let change = groups().vet_change(write.group, asked)?;
    cpuset::before_change(write.group, change)?;
    let mut groups = groups();
    groups.change(write.group, change)?;
    let group = groups.group(write.group)?;
    for child in group.children() {
        for controller in change.enable.or(change.disable).iter() {
            groups.group(child)?.data.dir.renew(controller);
        }
    }
    Ok(())
}

/// The errors of a list: EINVAL, ERANGE for what no machine has, EOVERFLOW for what is no number.
fn list<T>(parsed: core::result::Result<T, ParseListError>) -> Result<T> {
    parsed.map_err(|error| match error {
        ParseListError::Syntax => Errno::EINVAL,
        ParseListError::Range => Errno::ERANGE,
        ParseListError::Overflow => Errno::EOVERFLOW,
    })
}

pub fn cpus(write: &Write<'_>, text: &str) -> Result<()> {
    cpuset::set(write.group, Which::Cpus(list(CpuMask::parse_list(text))?))
}

pub fn mems(write: &Write<'_>, text: &str) -> Result<()> {
    cpuset::set(write.group, Which::Mems(list(NodeMask::parse_list(text))?))
}

/// A number of tasks. EINVAL.
pub fn pids_max(write: &Write<'_>, text: &str) -> Result<()> {
    let max = match text {
        "max" => None,
        _ => {
            let max = text.parse::<i64>().map_err(|_| Errno::EINVAL)?;
            // As many as there can be ids.
            let most = i64::from(crate::task::table::PID_MAX) + 1;
            if !(0..most).contains(&max) {
                return Err(Errno::EINVAL);
            }
            Some(max as u64)
        }
    };
    groups().group_mut(write.group)?.pids.max = max;
    Ok(())
}

/// What is left to do when nothing is locked any more: names that children have lost are forgotten.
pub fn after(name: &str, file: &File) {
    if name != "cgroup.subtree_control" {
        return;
    }
    let Some(dir) = file.place().path().and_then(|path| path.dentry.parent()) else { return };
    for child in dir.cached_directories() {
        for entry in ENTRIES {
            child.forget_if_gone(entry.name.as_bytes());
        }
    }
}
