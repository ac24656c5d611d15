//! Areas as text: what /proc/PID/maps, numa_maps, numa_pages and smaps say of each.

use crate::mempolicy::policy_of;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Label, Vma, VmaFlags};
use crate::{HUGE, PAGE, env};
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use frames::fallible::Grow;
use frames::meta::{Why, flag};
use frames::{Frame, frame};
use hal::paging::Pte;
use numa::policy::{Policy, show};
use numa::{MAX_NODES, NodeId};

/// Counts over the pages of an area, in pages.
#[derive(Clone, Debug)]
pub struct AreaPages {
    pub pages: u64,
    pub anon: u64,
    /// In transparent huge pages, and in those of shared memory that are mapped as such.
    pub huge: u64,
    pub shared_huge: u64,
    pub dirty: u64,
    pub referenced: u64,
    pub locked: u64,
    pub lazy_free: u64,
    /// Mapped more than once.
    pub shared_clean: u64,
    pub shared_dirty: u64,
    pub private_clean: u64,
    pub private_dirty: u64,
    /// Proportional share, in bytes.
    pub proportional: u64,
    pub most_maps: u64,
    pub nodes: [u64; MAX_NODES],
}

impl Mm {
    /// Counts the pages of `vma` that are not the kernel's. The tree is read-locked.
    pub fn count_own_pages(&self, vma: &Vma) -> AreaPages {
        self.count_pages_if(vma, |page| !vma.reserves(page))
    }

    /// Counts the pages of `vma`. The tree is read-locked.
    pub fn count_pages(&self, vma: &Vma) -> AreaPages {
        self.count_pages_if(vma, |_| true)
    }

    fn count_pages_if(&self, vma: &Vma, counts: impl Fn(&Frame) -> bool) -> AreaPages {
        let mut out = AreaPages {
            pages: 0,
            anon: 0,
            huge: 0,
            shared_huge: 0,
            dirty: 0,
            referenced: 0,
            locked: 0,
            lazy_free: 0,
            shared_clean: 0,
            shared_dirty: 0,
            private_clean: 0,
            private_dirty: 0,
            proportional: 0,
            most_maps: 0,
            nodes: [0; MAX_NODES],
        };
        table::for_each_entry(self.root(), vma.start, vma.end, |_, pte| {
            let State::Page(pfn) = table::state(pte) else { return true };
            let meta = frame(pfn);
            if !counts(meta) {
                return true;
            }
            let maps = u64::from(meta.maps().max(1));
            let dirty = pte.has(Pte::DIRTY) || meta.has(flag::DIRTY);
            // Pages of the area's size: a transparent huge page is 512 of them.
            let transparent = table::is_huge(pte) && !vma.is_huge();
            let n = if transparent { HUGE / PAGE } else { 1 };
            let count = |is| if is { n } else { 0 };
            out.pages += n;
            out.huge += count(transparent && meta.is_private());
            out.shared_huge += count(transparent && !meta.is_private());
            out.anon += count(meta.is_private());
            out.dirty += count(dirty);
            out.referenced += count(pte.has(Pte::ACCESSED) || meta.has(flag::REFERENCED));
            out.lazy_free += count(meta.has(flag::LAZY_FREE) && !dirty);
            let class = match (maps > 1, dirty) {
                (true, true) => &mut out.shared_dirty,
                (true, false) => &mut out.shared_clean,
                (false, true) => &mut out.private_dirty,
                (false, false) => &mut out.private_clean,
            };
            *class += n;
            out.proportional += n * vma.page_size() / maps;
            out.most_maps = out.most_maps.max(maps);
            out.nodes[meta.node().index()] += n;
            true
        });
        if vma.flags.contains(VmaFlags::LOCKED) {
            out.locked = out.pages;
        }
        out
    }

    /// A line of /proc/PID/numa_maps. `task` is the policy of an area that has none.
    pub fn write_numa_area(
        &self,
        vma: &Vma,
        task: Option<&Policy>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let policy = policy_of(vma, vma.start);
        write!(out, "{:08x} {}", vma.start, show(policy.as_deref().or(task)))?;
        match (vma.file(), vma.label) {
            (Some(file), _) => write!(out, " file={}", escape(&path_of(file)?, "\n\t= ")?)?,
            (None, Label::Heap) => out.write_str(" heap")?,
            (None, Label::Stack) => out.write_str(" stack")?,
            (None, _) => {
                if let Some(name) = shared_name(vma) {
                    write!(out, " file={name}")?;
                }
            }
        }
        if vma.is_huge() {
            out.write_str(" huge")?;
        }
        let p = self.count_own_pages(vma);
        if p.pages > 0 {
            for (name, n) in [("anon", p.anon), ("dirty", p.dirty)] {
                if n > 0 {
                    write!(out, " {name}={n}")?;
                }
            }
            if p.pages != p.anon && p.pages != p.dirty {
                write!(out, " mapped={}", p.pages)?;
            }
            if p.most_maps > 1 {
                write!(out, " mapmax={}", p.most_maps)?;
            }
            // There are no lists of active pages: private ones and locked ones count, which is
            // where Linux has them while nothing presses it to look for pages to give up.
            let active = if p.locked > 0 { p.pages } else { p.anon };
            if active < p.pages && !vma.is_huge() {
                write!(out, " active={active}")?;
            }
            for node in env::machine().memory_nodes().iter() {
                if p.nodes[node.index()] > 0 {
                    write!(out, " N{node}={}", p.nodes[node.index()])?;
                }
            }
            write!(out, " kernelpagesize_kB={}", vma.page_size() / 1024)?;
        }
        out.write_char('\n')
    }

    /// An area's lines of /proc/PID/numa_pages: one per run of neighbouring pages with the same
    /// answer. Range, node, policy in force, why the pages are where they are.
    pub fn write_area_pages(
        &self,
        vma: &Vma,
        task: Option<&Policy>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let mut run: Option<(u64, u64, NodeId, Why, bool)> = None;
        let mut result = Ok(());
        let mut flush = |run: &Option<(u64, u64, NodeId, Why, bool)>| -> fmt::Result {
            let Some((start, end, node, why, huge)) = run else { return Ok(()) };
            let policy = policy_of(vma, *start);
            let policy = show(policy.as_deref().or(task));
            let reason = why.reason.name();
            write!(out, "{start:08x}-{end:08x} node={node} policy={policy} reason={reason}")?;
            if why.cow {
                out.write_str(" cow")?;
            }
            if let Some(from) = why.from {
                write!(out, " from={from}")?;
            }
            if *huge {
                out.write_str(" huge")?;
            }
            out.write_char('\n')
        };
        table::for_each_entry(self.root(), vma.start, vma.end, |addr, pte| {
            let State::Page(pfn) = table::state(pte) else { return true };
            if vma.reserves(frame(pfn)) {
                return true;
            }
            let (node, why) = (frame(pfn).node(), frame(pfn).why());
            let huge = table::is_huge(pte);
            let size = if huge { HUGE } else { PAGE };
            match &mut run {
                Some((_, end, n, w, h)) if *end == addr && (*n, *w, *h) == (node, why, huge) => {
                    *end += size;
                }
                _ => {
                    result = result.and_then(|()| flush(&run));
                    run = Some((addr, addr + size, node, why, huge));
                }
            }
            true
        });
        result.and_then(|()| flush(&run))
    }

    /// Calls `f` for every area, with the tree read-locked.
    pub fn for_each_area(&self, f: impl FnMut(&Vma) -> fmt::Result) -> fmt::Result {
        let vmas = self.vmas.read();
        vmas.iter().try_for_each(f)
    }

    /// Calls `f` for the areas at `from` and above, with the tree read-locked, until it says that
    /// this is enough: where to go on then, None when there is no more.
    pub fn some_areas(&self, from: u64, mut f: impl FnMut(&Vma) -> bool) -> Option<u64> {
        let vmas = self.vmas.read();
        vmas.range(from, u64::MAX).find_map(|vma| f(vma).then_some(vma.end))
    }

    /// The entry of /proc/PID/pagemap for the page at `addr`: frame number and flags as documented
    /// in Linux's pagemap.rst (bit 63 present, 61 shared or file page, 56 exclusively mapped).
    pub fn pagemap_entry(&self, addr: u64, with_frames: bool) -> u64 {
        const PRESENT: u64 = 1 << 63;
        const FILE: u64 = 1 << 61;
        const EXCLUSIVE: u64 = 1 << 56;
        let _vmas = self.vmas.read();
        let Some((_, pte)) = table::find(self.root(), addr) else { return 0 };
        match table::state(pte) {
            State::Page(pfn) => {
                let meta = frame(pfn);
                let mut entry = PRESENT;
                if !meta.is_private() {
                    entry |= FILE;
                }
                if meta.maps() == 1 {
                    entry |= EXCLUSIVE;
                }
                entry | if with_frames { table::part(pte, addr).raw() } else { 0 }
            }
            State::Special(_) => {
                PRESENT | if with_frames { table::part(pte, addr).raw() } else { 0 }
            }
            State::Empty | State::Migrating(_) => 0,
        }
    }
}

/// A line of /proc/PID/maps.
pub fn write_area(vma: &Vma, out: &mut dyn Write) -> fmt::Result {
    let bit = |flag, yes, no| if vma.flags.contains(flag) { yes } else { no };
    let (dev, ino) = match (vma.file(), vma.object()) {
        (Some(file), _) => file.id(),
        // Shared memory without a file has an inode of its own on Linux: its number will do.
        (None, Some(object)) if vma.shared() => (1, object.number()),
        _ => (0, 0),
    };
    let pgoff =
        if vma.object().is_some() && vma.label == Label::None { vma.pgoff * PAGE } else { 0 };
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | (dev >> 12) & 0xf_ff00);
    let mut line = Counted { out, written: 0 };
    write!(
        line,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        vma.start,
        vma.end,
        bit(VmaFlags::READ, 'r', '-'),
        bit(VmaFlags::WRITE, 'w', '-'),
        bit(VmaFlags::EXEC, 'x', '-'),
        bit(VmaFlags::SHARED, 's', 'p'),
        pgoff,
        major,
        minor,
        ino,
    )?;
    let Counted { out, written } = line;
    let mut named = |name: fmt::Arguments<'_>| {
        for _ in written..73 {
            out.write_char(' ')?;
        }
        out.write_fmt(name)
    };
    match (vma.file(), vma.label) {
        (Some(file), _) => named(format_args!("{}", escape(&path_of(file)?, "\n")?))?,
        (None, Label::Heap) => named(format_args!("[heap]"))?,
        (None, Label::Stack) => named(format_args!("[stack]"))?,
        (None, Label::Vdso) => named(format_args!("[vdso]"))?,
        (None, Label::Vvar) => named(format_args!("[vvar]"))?,
        (None, Label::None) => {
            if let Some(name) = shared_name(vma) {
                named(format_args!("{name}"))?;
            }
        }
    }
    out.write_char('\n')
}

/// What counts the bytes that go through it.
struct Counted<'a> {
    out: &'a mut dyn Write,
    written: usize,
}

impl Write for Counted<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.written += s.len();
        self.out.write_str(s)
    }
}

/// The name of shared memory that no file names.
enum SharedName {
    /// Of mmap(2) with MAP_SHARED and MAP_ANONYMOUS.
    Zero,
    /// A segment with this key.
    SysV(u32),
}

impl fmt::Display for SharedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("/dev/zero (deleted)"),
            Self::SysV(key) => write!(f, "/SYSV{key:08x} (deleted)"),
        }
    }
}

fn shared_name(vma: &Vma) -> Option<SharedName> {
    use crate::ObjectKind as K;
    let object = vma.object().filter(|_| vma.label == Label::None)?;
    match object.kind() {
        K::SharedAnon => Some(SharedName::Zero),
        K::SysV => Some(SharedName::SysV(object.key.load(Ordering::Relaxed))),
        K::Tmpfs | K::Memfd | K::Hugetlbfs => None,
    }
}

fn path_of(
    file: &alloc::sync::Arc<dyn crate::MappedFile>,
) -> core::result::Result<String, fmt::Error> {
    file.path().map_err(|_| fmt::Error)
}

/// A path with the characters of `special` as octal escapes.
fn escape(path: &str, special: &str) -> core::result::Result<String, fmt::Error> {
    let mut out = String::new();
    // As many as four for each.
    out.room_for(4 * path.len()).map_err(|_| fmt::Error)?;
    for c in path.chars() {
        if special.contains(c) {
            let _ = write!(out, "\\{:03o}", c as u32);
        } else {
            out.push(c);
        }
    }
    Ok(out)
}
