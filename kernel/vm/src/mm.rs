//! An address space.

use crate::batch::Batch;
use crate::home::PagesByNode;
use crate::object::{Mapper, MemObject};
use crate::table::{self, State};
use crate::tlb::{self, Flushes};
use crate::vma::{Backing, Vma, VmaFlags};
use crate::{PAGE, VmaTree, commit, hugetlb, place};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use frames::meta::flag;
use frames::{Kind, Page, compound, frame};
use hal::Pfn;
use hal::paging::{Pte, Slot};
use numa::NodeId;
use sync::{RwLock, SpinGuard, SpinLock};

/// Page-table locks: one per 2 MiB of address, shared by those that are 16 apart.
const PT_LOCKS: usize = 16;

/// Limits that the process' resource limits put on its address space, in bytes.
pub struct Limits {
    pub stack: AtomicU64,
    pub address_space: AtomicU64,
    pub data: AtomicU64,
    /// The hard limit of data, which holds where the soft one is 0.
    pub data_hard: AtomicU64,
    pub locked: AtomicU64,
}

/// Where things are in the address space (as /proc/PID/stat and brk(2) need it).
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub mmap_base: u64,
    pub brk_start: u64,
    pub brk: u64,
    pub code: (u64, u64),
    pub data: (u64, u64),
    pub stack_start: u64,
    pub args: (u64, u64),
    pub env: (u64, u64),
    pub auxv: Vec<(u64, u64)>,
    pub vdso: u64,
}

/// Address spaces that may share private pages since a fork: where the reverse map looks.
pub struct Family {
    members: SpinLock<BTreeMap<u64, Weak<Mm>>>,
}

impl Family {
    fn new() -> Arc<Self> {
        Arc::new(Self { members: SpinLock::new(BTreeMap::new()) })
    }

    /// The first member whose number is above `after` (members join with rising numbers, so a walk
    /// sees those that join while it goes on).
    pub fn next(&self, after: u64) -> Option<(u64, Arc<Mm>)> {
        let members = self.members.lock();
        members.range(after + 1..).find_map(|(&n, mm)| Some((n, mm.upgrade()?)))
    }
}

/// An address space.
pub struct Mm {
    id: u64,
    root: Pfn,
    /// What is mapped where. Read: faults and walks; write: changes of areas.
    pub vmas: RwLock<VmaTree>,
    pt_locks: [SpinLock<()>; PT_LOCKS],
    flushes: Flushes,
    pub layout: SpinLock<Layout>,
    pub limits: Limits,
    pub family: Arc<Family>,
    /// Tasks that use it; with the last one everything is unmapped.
    users: AtomicU32,
    anon: PagesByNode,
    /// Mapped pages of objects.
    shared: AtomicI64,
    /// Huge pages of the pool, in frames: no part of the resident size.
    hugetlb: AtomicI64,
    /// Pages of all areas.
    pub total: AtomicI64,
    /// Pages of those that are data ([`VmaFlags::is_data`]).
    pub data: AtomicI64,
    pub locked: AtomicI64,
    pub tables: AtomicI64,
    pub peak_rss: AtomicI64,
    pub peak_total: AtomicI64,
    /// mlockall(MCL_FUTURE): flags of new areas.
    pub future_lock: AtomicU32,
    /// PR_SET_THP_DISABLE: no transparent huge pages here, nor in what comes of it by fork or exec.
    pub no_huge_pages: AtomicBool,
    /// khugepaged looks at it.
    pub(crate) offered: AtomicBool,
    me: Weak<Mm>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Mm {
    /// An empty address space with one user. `family`: of the parent, at a fork.
    pub fn new(family: Option<Arc<Family>>) -> Result<Arc<Self>> {
        let root = place::kernel_frame(Kind::PageTable).ok_or(Errno::ENOMEM)?;
        hal::phys::zero(root);
        hal::user_tables::new_root(root);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let family = family.unwrap_or_else(Family::new);
        let mm = Arc::new_cyclic(|me| Self {
            id,
            root,
            vmas: RwLock::new(VmaTree::new()),
            pt_locks: [const { SpinLock::new(()) }; PT_LOCKS],
            flushes: Flushes::new(),
            layout: SpinLock::new(Layout::default()),
            limits: Limits {
                stack: AtomicU64::new(8 << 20),
                address_space: AtomicU64::new(u64::MAX),
                data: AtomicU64::new(u64::MAX),
                data_hard: AtomicU64::new(u64::MAX),
                locked: AtomicU64::new(u64::MAX),
            },
            family,
            users: AtomicU32::new(1),
            anon: PagesByNode::new(),
            shared: AtomicI64::new(0),
            hugetlb: AtomicI64::new(0),
            total: AtomicI64::new(0),
            data: AtomicI64::new(0),
            locked: AtomicI64::new(0),
            tables: AtomicI64::new(1),
            peak_rss: AtomicI64::new(0),
            peak_total: AtomicI64::new(0),
            future_lock: AtomicU32::new(0),
            no_huge_pages: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            me: me.clone(),
        });
        mm.family.members.lock().insert(id, Arc::downgrade(&mm));
        Ok(mm)
    }

    /// A number that no other address space ever has; never 0.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The root table.
    #[inline]
    pub fn root(&self) -> Pfn {
        self.root
    }

    /// Who has it loaded and what was flushed.
    #[inline]
    pub fn flushes(&self) -> &Flushes {
        &self.flushes
    }

    /// The lock over the leaf entries around `addr`.
    #[inline]
    pub fn pt_lock(&self, addr: u64) -> SpinGuard<'_, ()> {
        self.pt_locks[(addr >> 21) as usize % PT_LOCKS].lock()
    }

    /// The leaf slot of `addr`, with tables made as needed.
    #[inline]
    pub fn slot(&self, addr: u64) -> Result<Slot> {
        table::lookup_or_make(self.root, addr, || {
            self.tables.fetch_add(1, Ordering::Relaxed);
        })
        .ok_or(Errno::ENOMEM)
    }

    /// One more task uses it.
    pub fn join(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// Tasks that use it.
    pub fn users(&self) -> u32 {
        self.users.load(Ordering::Relaxed)
    }

    /// One task less uses it; the last one unmaps everything. The caller does not have it loaded.
    pub fn quit(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let vmas = core::mem::take(&mut *self.vmas.write());
        self.withdraw_from_khugepaged();
        if !self.flushes.cpus.load(Ordering::SeqCst).is_empty() {
            tlb::evict(self);
        }
        let mut pages = Batch::new();
        for vma in vmas.iter() {
            let mut at = vma.start;
            while at < vma.end {
                (_, at) = self.take_pages(at, vma.end, &mut pages);
                pages.empty(Taken::give_back);
            }
            self.forget_area(vma);
        }
        // Nobody has it loaded: tables go at once.
        let all = (0, hal::user::USER_END);
        table::detach_tables(self.root, all, 0, 1 << 47, &mut |t| frames::free_one(t));
        self.tables.store(1, Ordering::Relaxed);
        self.family.members.lock().remove(&self.id);
    }

    /// Resident pages: private, and objects'.
    pub fn rss(&self) -> (u64, u64) {
        let shared = self.shared.load(Ordering::Relaxed);
        (self.anon.sum().max(0) as u64, shared.max(0) as u64)
    }

    /// Mapped huge pages of the pool, in pages of 4 KiB.
    pub fn huge_pages(&self) -> u64 {
        self.hugetlb.load(Ordering::Relaxed).max(0) as u64
    }

    /// The node where most of its private memory lies, if there is one.
    #[inline]
    pub fn home(&self) -> Option<NodeId> {
        self.anon.home()
    }

    /// Counts pages of a kind of frame as mapped (or unmapped).
    #[inline(always)]
    pub fn count_mapped(&self, pfn: Pfn, n: i64) {
        let kind = frame(pfn).kind();
        if kind == Kind::Anon {
            return self.count_private(frame(pfn).node(), n as i32);
        }
        if kind == Kind::HugeTlb {
            return self.count_huge(n);
        }
        debug_assert!(kind != Kind::AnonHuge);
        self.shared.fetch_add(n, Ordering::Relaxed);
    }

    #[cold]
    fn count_huge(&self, n: i64) {
        self.hugetlb.fetch_add(n * hugetlb::FRAMES as i64, Ordering::Relaxed);
    }

    #[inline]
    fn count_private(&self, node: NodeId, n: i32) {
        if self.anon.count(node, n) {
            crate::env::home_changed();
        }
    }

    /// A page that is mapped here (and stays counted) moved from one node to another.
    pub(crate) fn count_moved(&self, from: Pfn, to: Pfn) {
        let pages = match frame(to).kind() {
            Kind::Anon => 1,
            Kind::AnonHuge => compound::FRAMES as i32,
            Kind::SharedHuge => {
                crate::transparent::shared::count_entries(frame(from).node(), -1);
                return crate::transparent::shared::count_entries(frame(to).node(), 1);
            }
            _ => return,
        };
        self.count_private(frame(from).node(), -pages);
        self.count_private(frame(to).node(), pages);
    }

    /// Notes the highest resident size (called where it was counted up in bulk or rarely).
    pub fn note_peak(&self) {
        let (anon, shared) = self.rss();
        self.peak_rss.fetch_max((anon + shared) as i64, Ordering::Relaxed);
        self.peak_total.fetch_max(self.total.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts `pages` of areas with these flags as mapped (or, below 0, unmapped).
    pub(crate) fn count_area(&self, flags: VmaFlags, pages: i64) {
        self.total.fetch_add(pages, Ordering::Relaxed);
        if flags.is_data() {
            self.data.fetch_add(pages, Ordering::Relaxed);
        }
        if flags.contains(VmaFlags::LOCKED) {
            self.locked.fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// An area, whose promise stands, was added: counts and the object's list of mappers.
    pub fn note_area(&self, vma: &Vma) {
        self.count_area(vma.flags, vma.pages() as i64);
        if let Some(object) = vma.object() {
            let me: Weak<dyn Mapper> = self.me.clone();
            object.add_mapper(self.id, me);
        }
    }

    /// An area was removed: what was promised of it is promised no more.
    #[inline]
    pub fn forget_area(&self, vma: &Vma) {
        self.count_area(vma.flags, -(vma.pages() as i64));
        if vma.flags.contains(VmaFlags::ACCOUNTED) {
            commit::give_back(vma.pages());
        }
        if vma.hugetlb.is_some() {
            Self::unreserve_area(vma);
        }
        if let Some(object) = vma.object() {
            object.remove_mapper(self.id);
        }
    }

    /// Takes a mapped page's reference out of an entry that was just cleared: notes what the
    /// hardware noted, and gives the reference back for freeing after the flush.
    #[inline(always)]
    pub fn release(&self, pte: Pte) -> Option<Taken> {
        if table::is_huge(pte) {
            return self.release_huge(pte);
        }
        match table::state(pte) {
            State::Page(pfn) => {
                let meta = frame(pfn);
                if pte.has(Pte::DIRTY) {
                    meta.set(flag::DIRTY);
                }
                if pte.has(Pte::ACCESSED) {
                    meta.set(flag::REFERENCED);
                }
                self.count_mapped(pfn, -1);
                meta.remove_map();
                Some(Taken(pfn))
            }
            State::Migrating(pfn) => {
                // The migration took the entry's reference over; it will find the entry gone.
                self.count_mapped(pfn, -1);
                None
            }
            State::Empty | State::Special(_) => None,
        }
    }

    /// As [`Mm::release`], of an entry of the second level.
    #[cold]
    #[inline(never)]
    fn release_huge(&self, pte: Pte) -> Option<Taken> {
        let noted = [(Pte::DIRTY, flag::DIRTY), (Pte::ACCESSED, flag::REFERENCED)];
        let noted = noted.iter().filter(|(bit, _)| pte.has(*bit)).fold(0, |all, (_, f)| all | f);
        match table::state(pte) {
            State::Page(pfn) if frame(pfn).kind() == Kind::HugeTlb => {
                frame(pfn).set(noted);
                self.count_huge(-1);
                frame(pfn).remove_map();
                Some(Taken(pfn))
            }
            State::Page(pfn) => {
                self.count_transparent(pfn, -1);
                compound::unmap(pfn, noted);
                Some(Taken::block(pfn))
            }
            State::Migrating(pfn) => {
                match frame(pfn).kind() {
                    Kind::HugeTlb => self.count_huge(-1),
                    _ => self.count_transparent(pfn, -1),
                }
                None
            }
            State::Empty | State::Special(_) => None,
        }
    }

    /// Counts the memory of an entry of a transparent huge page as mapped (1) or unmapped (-1).
    pub(crate) fn count_transparent(&self, head: Pfn, n: i32) {
        let meta = frame(head);
        if meta.kind().is_shared() {
            self.shared.fetch_add(i64::from(n) * compound::FRAMES as i64, Ordering::Relaxed);
            return crate::transparent::shared::count_entries(meta.node(), i64::from(n));
        }
        self.count_private(meta.node(), n * compound::FRAMES as i32);
    }

    /// Empties the entries of `[start, end)` until `pages`, which gets their pages (to be dropped
    /// after a flush), is full; where to go on. True when a CPU may still know one of the entries: the
    /// zero page's too, which is no page to be dropped.
    pub fn take_pages(&self, start: u64, end: u64, pages: &mut Batch) -> (bool, u64) {
        let mut known = false;
        let mut at = table::next_table(self.root, start, end);
        while at < end {
            // One lock covers 2 MiB.
            let stop = end.min((at & !((1 << 21) - 1)) + (1 << 21));
            let lock = self.pt_lock(at);
            let next = table::for_each_in_turns(self.root, at, stop, |_, slot| {
                if slot.load().0 != 0 {
                    if pages.is_full() {
                        return false;
                    }
                    let pte = slot.swap(Pte::EMPTY);
                    // Who puts migration entries in flushes once for all of them, perhaps later.
                    known |= pte.present() || matches!(table::state(pte), State::Migrating(_));
                    if let Some(page) = self.release(pte) {
                        pages.add(page.into_raw());
                    }
                }
                true
            });
            drop(lock);
            at = table::next_table(self.root, next, end);
            if next < stop && pages.is_full() {
                break;
            }
        }
        (known || !pages.is_empty(), at)
    }

    /// Unmaps the pages of `[start, end)`, flushes, and frees them.
    pub fn zap(&self, start: u64, end: u64) {
        // In pieces, so that a flush is of what is near.
        const PIECE: u64 = 4 << 20;
        let mut at = table::next_table(self.root, start, end);
        let mut pages = Batch::new();
        while at < end {
            let stop = end.min((at & !(PIECE - 1)) + PIECE);
            let (known, next) = self.take_pages(at, stop, &mut pages);
            if known {
                tlb::shootdown(self, at, next, false);
                pages.empty(Taken::give_back);
            }
            at = table::next_table(self.root, next, end);
        }
    }

    /// Frees the page tables on the way to `[start, end)` that nothing in `[floor, ceiling)` needs.
    pub fn free_tables(&self, start: u64, end: u64, floor: u64, ceiling: u64) {
        let mut gone = Batch::new();
        let flush = |gone: &mut Batch| {
            tlb::shootdown(self, floor, ceiling, true);
            gone.empty(|table| {
                self.tables.fetch_sub(1, Ordering::Relaxed);
                frames::free_one(table);
            });
        };
        table::detach_tables(self.root, (start, end), floor, ceiling, &mut |table| {
            if gone.is_full() {
                flush(&mut gone);
            }
            gone.add(table);
        });
        if !gone.is_empty() {
            flush(&mut gone);
        }
    }

    /// An owning handle to this address space.
    pub fn handle(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }
}

/// The reference that an entry had, taken out of it: given back when no CPU knows the entry any more.
#[must_use = "a CPU may still know the entry"]
pub struct Taken(Pfn);

impl Taken {
    /// Set in the number of a frame that is the head of a transparent huge page.
    const BLOCK: u64 = 1 << 63;

    fn block(head: Pfn) -> Self {
        Self(Pfn::new(head.raw() | Self::BLOCK))
    }

    /// As an entry of a [`Batch`].
    fn into_raw(self) -> Pfn {
        core::mem::ManuallyDrop::new(self).0
    }

    /// Gives an entry of a batch back.
    #[inline(always)]
    pub(crate) fn give_back(entry: Pfn) {
        if entry.raw() & Self::BLOCK == 0 {
            drop(Page::from_raw(entry));
        } else {
            Self::put_block(entry);
        }
    }

    #[cold]
    #[inline(never)]
    fn put_block(entry: Pfn) {
        compound::put(Pfn::new(entry.raw() & !Self::BLOCK));
    }
}

impl Drop for Taken {
    #[inline(always)]
    fn drop(&mut self) {
        Self::give_back(self.0);
    }
}

impl Mapper for Mm {
    fn unmap_object(&self, object: &MemObject, start: u64, end: u64, even_copies: bool) {
        let vmas = self.vmas.read();
        for vma in vmas.iter() {
            let Backing::Object { object: mapped, .. } = &vma.backing else { continue };
            if mapped.id() != object.id() {
                continue;
            }
            let first = start.max(vma.pgoff);
            let last = end.min(vma.pgoff + vma.pages());
            if first >= last {
                continue;
            }
            let from = vma.start + (first - vma.pgoff) * PAGE;
            let to = vma.start + (last - vma.pgoff) * PAGE;
            for at in [from, to].into_iter().filter(|at| !at.is_multiple_of(crate::HUGE)) {
                self.unmap_shared(at);
            }
            if vma.shared() || even_copies {
                self.zap(from, to);
            } else {
                self.zap_if(from, to, |pfn| !frame(pfn).is_private());
            }
        }
    }

    fn maps_writable(&self, object: &MemObject) -> bool {
        let vmas = self.vmas.read();
        vmas.iter().any(|vma| {
            vma.flags.contains(VmaFlags::SHARED | VmaFlags::MAY_WRITE)
                && vma.object().is_some_and(|mapped| mapped.id() == object.id())
        })
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Mm {
    /// Unmaps those pages of `[start, end)` that `wanted` names, those under migration, too; whether
    /// there were any.
    pub fn zap_if(&self, start: u64, end: u64, mut wanted: impl FnMut(Pfn) -> bool) -> bool {
        let mut pages = Batch::new();
        let mut any = false;
        let mut from = start;
        let mut at = table::next_table(self.root, start, end);
        while at < end {
            let stop = end.min((at & !((1 << 21) - 1)) + (1 << 21));
            let lock = self.pt_lock(at);
            let next = table::for_each_in_turns(self.root, at, stop, |_, slot| {
                if let State::Page(pfn) | State::Migrating(pfn) = table::state(slot.load())
                    && wanted(pfn)
                {
                    if pages.is_full() {
                        return false;
                    }
                    any = true;
                    let pte = slot.swap(Pte::EMPTY);
                    if let Some(page) = self.release(pte) {
                        pages.add(page.into_raw());
                    }
                }
                true
            });
            drop(lock);
            if pages.is_full() {
                tlb::shootdown(self, from, next, false);
                pages.empty(Taken::give_back);
                from = next;
            }
            at = table::next_table(self.root, next, end);
        }
        // Who puts migration entries in flushes once for all of them, perhaps later.
        if any {
            tlb::shootdown(self, from, end, false);
            pages.empty(Taken::give_back);
        }
        any
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        if self.users.load(Ordering::Relaxed) != 0 {
            // A half-made address space (failed exec or fork): unmap what it has.
            self.users.store(1, Ordering::Relaxed);
            self.quit();
        }
        frames::free_one(self.root);
    }
}
