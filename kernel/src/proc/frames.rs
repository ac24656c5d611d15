//! /proc/kpagecount and kpageflags: a word for every frame of memory, by frame number, as Linux's
//! pagemap.rst describes them. Only for root.

use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::meta::flag;
use frames::{Kind, frame};
use fs::inode::{Inode, InodeBase, OpenArgs};
use fs::pseudo::{Dir, PseudoFs};
use fs::{File, FileOps};
use hal::user::Sink;
use hal::{Pfn, VirtAddr};

type Word = fn(Pfn) -> u64;

struct PerFrame {
    base: InodeBase,
    word: Word,
}

/// Enters both files.
pub fn add(fs: &Arc<PseudoFs>, dir: &Dir) {
    for (name, word) in [("kpagecount", mappings as Word), ("kpageflags", flags as Word)] {
        let base = fs.base(abi::raw::general::S_IFREG | 0o400);
        dir.add(name, Arc::new(PerFrame { base, word }));
    }
}

impl Inode for PerFrame {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

/// One past the last frame.
fn end() -> u64 {
    let machine = crate::machine();
    machine.memory_nodes().iter().map(|node| frames::stats(node).span.1).max().unwrap_or(0)
}

/// False for holes, which have no metadata.
fn exists(pfn: Pfn) -> bool {
    hal::paging::is_kernel_mapped(VirtAddr::new(frames::meta::address(pfn)))
}

fn mappings(pfn: Pfn) -> u64 {
    if !exists(pfn) {
        return 0;
    }
    let head = huge_head(pfn).unwrap_or(pfn);
    match frame(head).kind() {
        Kind::Anon | Kind::Shared | Kind::SharedHuge | Kind::HugeTlb | Kind::AnonHuge => {
            u64::from(frame(head).maps())
        }
        _ => 0,
    }
}

/// The head of the huge page, of the pool or transparent, that `pfn` lies in.
fn huge_head(pfn: Pfn) -> Option<Pfn> {
    let head = Pfn::new(pfn.raw() & !(frames::hugetlb::FRAMES - 1));
    let huge = |head| matches!(frame(head).kind(), Kind::HugeTlb | Kind::AnonHuge);
    (exists(head) && huge(head)).then_some(head)
}

/// Linux's numbers of the flags (kernel-page-flags.h).
fn flags(pfn: Pfn) -> u64 {
    const DIRTY: u64 = 1 << 4;
    const REFERENCED: u64 = 1 << 2;
    const UPTODATE: u64 = 1 << 3;
    const SLAB: u64 = 1 << 7;
    const BUDDY: u64 = 1 << 10;
    const MMAP: u64 = 1 << 11;
    const ANON: u64 = 1 << 12;
    const SWAPBACKED: u64 = 1 << 14;
    const NOPAGE: u64 = 1 << 20;
    const PGTABLE: u64 = 1 << 26;
    const RESERVED: u64 = 1 << 32;
    const COMPOUND_HEAD: u64 = 1 << 15;
    const COMPOUND_TAIL: u64 = 1 << 16;
    const HUGE: u64 = 1 << 17;
    const THP: u64 = 1 << 22;
    if !exists(pfn) {
        return NOPAGE;
    }
    if let Some(head) = huge_head(pfn) {
        let meta = frame(head);
        let part = if head == pfn { COMPOUND_HEAD } else { COMPOUND_TAIL };
        let mapped = if meta.maps() > 0 { MMAP } else { 0 };
        let private = if meta.is_private() { ANON } else { 0 };
        let kind = match meta.kind() {
            Kind::HugeTlb => HUGE,
            _ => THP | SWAPBACKED | UPTODATE,
        };
        return kind | part | mapped | private;
    }
    let meta = frame(pfn);
    let head = Pfn::new(pfn.raw() & !(frames::compound::FRAMES - 1));
    let of_huge = match exists(head) && frame(head).kind() == Kind::SharedHuge {
        true if head == pfn => THP | COMPOUND_HEAD,
        true => THP | COMPOUND_TAIL,
        false => 0,
    };
    let mut word = of_huge
        | match meta.kind() {
            Kind::Reserved => RESERVED,
            Kind::Free => BUDDY,
            Kind::Slab => SLAB,
            Kind::PageTable => PGTABLE,
            Kind::Anon => ANON | SWAPBACKED | UPTODATE,
            Kind::Shared | Kind::SharedHuge => SWAPBACKED | UPTODATE,
            Kind::Cached | Kind::Kernel | Kind::Stack | Kind::HugeTlb | Kind::AnonHuge => 0,
        };
    if meta.kind() == Kind::Anon || meta.kind().is_shared() {
        word |= if meta.maps() > 0 { MMAP } else { 0 };
        word |= if meta.has(flag::DIRTY) { DIRTY } else { 0 };
        word |= if meta.has(flag::REFERENCED) { REFERENCED } else { 0 };
    }
    word
}

impl FileOps for PerFrame {
    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        const WORD: u64 = 8;
        if !at.is_multiple_of(WORD) || !(dst.room() as u64).is_multiple_of(WORD) {
            return Err(Errno::EINVAL);
        }
        let end = end();
        let mut done = 0;
        while dst.room() > 0 {
            let first = (at + done as u64) / WORD;
            let count = (dst.room() as u64 / WORD).min(512).min(end.saturating_sub(first));
            if count == 0 {
                break;
            }
            let words: Vec<u8> = (first..first + count)
                .map(Pfn::new)
                .flat_map(|pfn| (self.word)(pfn).to_ne_bytes())
                .collect();
            done += dst.put(&words)?;
        }
        Ok(done)
    }
}
