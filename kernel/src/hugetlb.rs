//! The pool of huge pages as it is read and set: on the command line, through /sys and /proc/sys.
//!
//! Pages are 2 MiB. There are none of 1 GiB, and what names that size answers as on a machine whose
//! CPUs do not have it.

use crate::machine;
use crate::proc::put;
use crate::task::current;
use abi::{Errno, Result};
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::{arc, text};
use frames::hugetlb::resize::{Writer, resize};
use frames::hugetlb::{self, Counts, subpool};
use fs::pseudo::{Dir, Text};
use numa::policy::Mode;
use numa::{NodeId, NodeMask};
use vm::map::What;
use vm::{MappedFile, MemObject, ObjectKind};

/// KiB of a page.
pub const KIB: u64 = hugetlb::SIZE / 1024;

/// log2 of a page's bytes, as mmap(2), memfd_create(2) and shmget(2) name the size.
const SHIFT: u32 = 21;

/// Checks the size that the upper bits of `flags` name; 0 is the default size. EINVAL for one that
/// there is not.
pub fn check_size(flags: u32) -> Result<()> {
    match flags >> abi::raw::general::MAP_HUGE_SHIFT & abi::raw::general::MAP_HUGE_MASK {
        0 | SHIFT => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Fills the pool as the command line says: `hugepages=N` or `hugepages=NODE:N,NODE:N`, each for the
/// size that the last `hugepagesz=` or `default_hugepagesz=` before it named.
pub fn init() {
    let mut ours = true;
    for word in crate::boot::cmdline::text().split_ascii_whitespace() {
        let Some((name, value)) = word.split_once('=') else { continue };
        match name {
            "hugepagesz" | "default_hugepagesz" => {
                ours = matches!(value, "2M" | "2m" | "2048K" | "2048k" | "2097152");
                if !ours {
                    log::warn!("HugeTLB: unsupported {name}={value}");
                }
            }
            "hugepages" if ours => fill(value),
            _ => {}
        }
    }
}

/// The command line: memory is whole yet.
struct CommandLine;

impl Writer for CommandLine {
    fn stops(&self) -> bool {
        false
    }
    fn makes_block(&self, _node: NodeId) -> bool {
        false
    }
}

/// The running task.
struct Task;

impl Writer for Task {
    fn stops(&self) -> bool {
        vm::env::killed()
    }
    fn makes_block(&self, node: NodeId) -> bool {
        vm::compact::make_block(node)
    }
}

fn fill(value: &str) {
    let nodes = machine().memory_nodes();
    for part in value.split(',') {
        let (node, count) = match part.split_once(':') {
            Some((node, count)) => (node.parse().ok().and_then(NodeId::try_new), count),
            None => (None, part),
        };
        let Ok(count) = count.parse() else {
            log::warn!("HugeTLB: invalid hugepages parameter {value}");
            return;
        };
        match node.filter(|node| nodes.contains(*node)) {
            Some(node) => resize(count, Some(node), NodeMask::single(node), &CommandLine),
            None if part.contains(':') => {
                log::warn!("HugeTLB: invalid hugepages parameter {value}");
                return;
            }
            None => resize(count, None, nodes, &CommandLine),
        }
    }
    log::info!("HugeTLB: {} pages of {KIB} KiB", hugetlb::size());
}

/// The nodes on which the running task's policy has the pool grow and shrink.
fn nodes_of_policy() -> NodeMask {
    let all = machine().memory_nodes();
    match current().numa.lock().policy {
        None => all,
        Some(policy) if policy.mode() == Mode::Local => NodeMask::single(vm::env::local_node()),
        Some(policy) => policy.nodes(),
    }
}

/// Sets the pool's size: all of it, or a node's part; under the policy of the running task or not.
pub fn set_size(count: u64, node: Option<NodeId>, policy: bool) {
    let nodes = match node {
        Some(node) => NodeMask::single(node),
        None if policy => nodes_of_policy(),
        None => machine().memory_nodes(),
    };
    resize(count, node, nodes, &Task);
}

/// A number as Linux's sysfs takes it. EINVAL, ERANGE.
fn number(data: &[u8]) -> Result<u64> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    digits.parse().map_err(|_| Errno::ERANGE)
}

/// The name of huge pages that no file names.
struct Anonymous {
    inode: u64,
}

impl MappedFile for Anonymous {
    fn path(&self) -> Result<String> {
        text(format_args!("/anon_hugepage (deleted)"))
    }
    fn id(&self) -> (u64, u64) {
        (DEVICE, self.inode)
    }
}

/// The device of the file system that nobody has mounted.
const DEVICE: u64 = 15;

/// What mmap(2) of MAP_ANONYMOUS and MAP_HUGETLB maps.
pub fn anonymous(len: u64, pgoff: u64, shared: bool) -> Result<What> {
    static INODES: AtomicU64 = AtomicU64::new(1);
    let object = MemObject::of_huge_pages(ObjectKind::Hugetlbfs, subpool::NONE, len)?;
    let file = arc(Anonymous { inode: INODES.fetch_add(1, Relaxed) })?;
    Ok(What::Object { object, file: Some(file), pgoff, shared, may_write: true })
}

fn show(of: impl Fn() -> u64 + Send + Sync + 'static) -> impl Fn(&mut Text) -> Result<()> {
    move |out| {
        put!(out, "{}\n", of());
        Ok(())
    }
}

/// Enters /sys/kernel/mm/hugepages/hugepages-2048kB.
pub fn fill_all(dir: &Dir) {
    for (name, policy) in [("nr_hugepages", false), ("nr_hugepages_mempolicy", true)] {
        let store = move |data: &[u8]| {
            set_size(number(data)?, None, policy);
            Ok(())
        };
        dir.attribute(name, 0o644, show(|| hugetlb::counts().total), store);
    }
    let store = |data: &[u8]| {
        hugetlb::set_overcommit(number(data)?);
        Ok(())
    };
    dir.attribute("nr_overcommit_hugepages", 0o644, show(hugetlb::overcommit), store);
    for (name, of) in [
        ("free_hugepages", (|c| c.free) as fn(Counts) -> u64),
        ("resv_hugepages", |c| c.reserved),
        ("surplus_hugepages", |c| c.surplus),
    ] {
        dir.text(name, show(move || of(hugetlb::counts())));
    }
}

/// Enters nodeN/hugepages/hugepages-2048kB.
pub fn fill_node(dir: &Dir, node: NodeId) {
    let store = move |data: &[u8]| {
        set_size(number(data)?, Some(node), false);
        Ok(())
    };
    dir.attribute("nr_hugepages", 0o644, show(move || hugetlb::on(node).total), store);
    dir.text("free_hugepages", show(move || hugetlb::on(node).free));
    dir.text("surplus_hugepages", show(move || hugetlb::on(node).surplus));
}
