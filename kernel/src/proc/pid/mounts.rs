//! What is mounted, as a process sees it from its root.

use super::Who;
use crate::proc::put;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::mount::{self, Mount, Path};
use fs::pseudo::Text;

fn root_of(who: &Who) -> Result<Path> {
    let task = who.task().map_err(|_| Errno::EINVAL)?;
    let context = task.fs.lock().clone();
    Ok(context.view().root.clone())
}

/// Octal escapes for what would break the columns.
fn escaped(text: &[u8], out: &mut Text) {
    for &byte in text {
        if b" \t\n\\".contains(&byte) {
            put!(out, "\\{byte:03o}");
        } else {
            out.bytes(&[byte]);
        }
    }
}

/// Calls `f` with every mount that is below `root` and its place as seen from there.
fn each(root: &Path, mut f: impl FnMut(&Arc<Mount>, &[u8])) -> Result<()> {
    for mount in mount::list(root)? {
        let place = mount.top().text(Some(root))?;
        if place.starts_with(b"/") {
            f(&mount, &place);
        }
    }
    Ok(())
}

/// /proc/PID/mounts, as fstab(5).
pub fn mounts(who: &Who, out: &mut Text) -> Result<()> {
    each(&root_of(who)?, |mount, place| {
        escaped(mount.source().as_bytes(), out);
        out.bytes(b" ");
        escaped(place, out);
        put!(out, " {} {} 0 0\n", mount.fs().name(), mount.option_text());
    })
}

/// The directory of the file system that is the mount's top (other than "/" for a bind mount).
fn inner_root(mount: &Mount) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut here = mount.root().clone();
    loop {
        let (parent, name) = here.position();
        let Some(parent) = parent else { break };
        parts.push(name);
        here = parent;
    }
    if parts.is_empty() {
        return b"/".to_vec();
    }
    parts.iter().rev().flat_map(|name| [b"/", &name[..]].concat()).collect()
}

/// /proc/PID/mountinfo.
pub fn mountinfo(who: &Who, out: &mut Text) -> Result<()> {
    each(&root_of(who)?, |mount, place| {
        let parent = mount.mountpoint().map_or(mount.id(), |below| below.mount.id());
        let dev = mount.root().inode().base().dev;
        put!(out, "{} {parent} {}:{} ", mount.id(), dev.major, dev.minor);
        escaped(&inner_root(mount), out);
        out.bytes(b" ");
        escaped(place, out);
        let all = mount.option_text();
        let own = mount.fs().options();
        let flags = all.strip_suffix(own.as_str()).unwrap_or(&all);
        put!(out, " {flags} - {} ", mount.fs().name());
        escaped(mount.source().as_bytes(), out);
        put!(out, " rw{own}\n");
    })
}
