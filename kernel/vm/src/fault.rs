//! Page faults: making a page present, copying on write, growing a stack.

use crate::mm::Mm;
use crate::object::{MemObject, ObjectKind};
use crate::place::{self, At};
use crate::table::{self, MIGRATION, NO_ACCESS, SPECIAL, State};
use crate::transparent::Huge;
use crate::vma::{Backing, Vma, VmaFlags};
use crate::{HUGE, PAGE, VmaTree, env, tlb};
use core::sync::atomic::{AtomicU32, Ordering};
use frames::meta::flag;
use frames::{Kind, Page, frame};
use hal::paging::{Pte, Slot};
use hal::{Pfn, VirtAddr};
use numa::NodeId;
use sync::{Once, WaitQueue};

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub write: bool,
    pub exec: bool,
}

/// Why a fault cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there (SEGV_MAPERR).
    NoArea,
    /// The area does not allow it (SEGV_ACCERR).
    NoAccess,
    /// Beyond the end of the object (BUS_ADRERR).
    BeyondEnd,
    /// The policy's nodes are full.
    NoMemory,
}

/// What a fault waits for, without any lock, before it is tried again.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// The migration of the page that this frame is, or was, of.
    Migration(Pfn),
    /// That memory of the node is compacted, for a huge page.
    Compaction(NodeId),
}

/// Bytes below a growing area's neighbour that stay free (Linux: 256 pages).
const STACK_GUARD: u64 = 256 * PAGE;

/// Memory that one read fault on an object maps: 16 pages.
const AROUND: u64 = 16 * PAGE;

static ZERO: Once<Pfn> = Once::new();

/// The shared page of zeroes, behind private memory that was only read.
pub fn zero_page() -> Pfn {
    *ZERO.get_or_init(|| {
        // On the first node, as Linux's, which lies in the kernel's image.
        let pfn = crate::env::machine()
            .memory_nodes()
            .iter()
            .find_map(|node| frames::alloc_one(node, Kind::Kernel, frames::Usage::Kernel))
            .expect("no memory for the zero page");
        hal::phys::zero(pfn);
        pfn
    })
}

/// Where tasks wait for pages under migration: a few queues, chosen by frame.
static MIGRATIONS: [WaitQueue; 16] = [const { WaitQueue::new() }; 16];

fn migration_queue(pfn: Pfn) -> &'static WaitQueue {
    // Huge pages begin at multiples of 512.
    &MIGRATIONS[(pfn.raw() ^ pfn.raw() >> 9) as usize % MIGRATIONS.len()]
}

/// Faults that waited for a page's migration and met the next one.
static OVERTAKEN: AtomicU32 = AtomicU32::new(0);
/// Migrations wait here until there are none.
static CAUGHT_UP: WaitQueue = WaitQueue::new();

/// Such a fault, until it is served.
struct Overtaken(());

impl Overtaken {
    fn new() -> Self {
        OVERTAKEN.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Overtaken {
    fn drop(&mut self) {
        if OVERTAKEN.fetch_sub(1, Ordering::SeqCst) == 1 {
            CAUGHT_UP.wake_all();
        }
    }
}

/// Before a migration: who moves a page again and again must not keep it from those who use it. Waits
/// 10 ms at most; no lock is held.
pub(crate) fn let_the_overtaken_go() {
    const PATIENCE: u64 = 10_000_000;
    if OVERTAKEN.load(Ordering::Relaxed) > 0 {
        let deadline = Some(hal::time::now() + PATIENCE);
        let none = || (OVERTAKEN.load(Ordering::SeqCst) == 0).then_some(());
        // However it ends, the migration goes on.
        let _outcome = CAUGHT_UP.wait_interruptible(deadline, none);
    }
}

/// Wakes everybody who waits for `pfn`'s migration.
pub fn migration_done(pfn: Pfn) {
    migration_queue(pfn).wake_all();
}

/// The bits of an entry in `vma` for a page that may not be written yet.
#[inline]
pub fn entry_bits(vma: &Vma) -> u64 {
    let f = vma.flags;
    if !f.intersects(VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC) {
        return NO_ACCESS;
    }
    let no_exec = if f.contains(VmaFlags::EXEC) { 0 } else { Pte::NO_EXEC };
    Pte::PRESENT | Pte::USER | no_exec
}

/// The bits that a write adds to an entry of `vma`: a debugger writes also where the program may not.
#[inline]
pub(crate) fn written(vma: &Vma) -> u64 {
    let writable = if vma.flags.contains(VmaFlags::WRITE) { Pte::WRITABLE } else { 0 };
    writable | Pte::DIRTY
}

/// A write to a private area begins its group of private pages: for good, as on Linux, even if the
/// backing then turns out to have no such page.
#[inline]
pub(crate) fn begin_private(vmas: &VmaTree, vma: &Vma) {
    if !vma.shared() && vma.group() == 0 {
        vmas.begin_group(vma);
    }
}

/// Why an object has no page: a want of memory, or (as for a full file system) of what may be
/// promised, which is SIGBUS.
fn no_page(error: abi::Errno) -> FaultError {
    if error == abi::Errno::ENOSPC { FaultError::BeyondEnd } else { FaultError::NoMemory }
}

impl Mm {
    /// Gives a private area that may not be written a page of its own at `addr`, as a write would.
    /// The area tree is read-locked.
    pub(crate) fn break_sharing(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
    ) -> Result<(), FaultError> {
        // As on Linux nobody writes to a huge page that the program itself may not write.
        if vma.is_huge() {
            return Err(FaultError::NoAccess);
        }
        // A huge page is not copied as a whole.
        match self.split_huge(addr) {
            Ok(()) => {}
            // It is under migration, as an entry may also be that is looked at below.
            Err(abi::Errno::EAGAIN) => return Ok(()),
            Err(_) => return Err(FaultError::NoMemory),
        }
        let slot = self.slot(addr).map_err(|_| FaultError::NoMemory)?;
        begin_private(vmas, vma);
        let pte = slot.load();
        match table::state(pte) {
            State::Empty => self.fault_empty(vma, addr, slot, true),
            State::Migrating(_) => Ok(()),
            State::Page(_) | State::Special(_) => self.fault_write(vma, addr, slot, pte),
        }
    }

    /// Makes the page at `addr` fit for `access`.
    pub fn fault(&self, addr: u64, access: Access) -> Result<(), FaultError> {
        let addr = addr & !(PAGE - 1);
        match self.fault_once(addr, access)? {
            None => Ok(()),
            Some(wait) => self.fault_after(addr, access, wait),
        }
    }

    /// As [`Mm::fault`]; what to wait for first, if anything.
    #[inline(always)]
    fn fault_once(&self, addr: u64, access: Access) -> Result<Option<Wait>, FaultError> {
        loop {
            let vmas = self.vmas.read();
            if let Some(vma) = vmas.find(addr) {
                return self.fault_in(&vmas, vma, addr, access);
            }
            let grows =
                vmas.first_above(addr).is_some_and(|v| v.flags.contains(VmaFlags::GROWS_DOWN));
            drop(vmas);
            if !grows || !self.grow_stack(addr) {
                return Err(FaultError::NoArea);
            }
        }
    }

    /// Waits without any lock, so that who is waited for can take them, and serves the fault then. Who
    /// comes to wait for a migration a second time goes before further ones; who comes to wait for
    /// compaction a second time does without.
    #[cold]
    #[inline(never)]
    fn fault_after(&self, addr: u64, access: Access, mut wait: Wait) -> Result<(), FaultError> {
        let mut overtaken = None;
        let mut compacted = false;
        loop {
            match wait {
                Wait::Migration(pfn) => self.wait_for_migration(addr, pfn),
                Wait::Compaction(node) if compacted => crate::compact::give_up(node),
                Wait::Compaction(node) => compacted = crate::compact::make_block(node) || compacted,
            }
            let before = wait;
            match self.fault_once(addr, access)? {
                None => return Ok(()),
                Some(next) => wait = next,
            }
            if matches!(before, Wait::Migration(_)) {
                overtaken.get_or_insert_with(Overtaken::new);
            }
        }
    }

    fn wait_for_migration(&self, addr: u64, pfn: Pfn) {
        crate::env::page_event(|| crate::env::PageEvent::Waited { addr, node: frame(pfn).node() });
        migration_queue(pfn).wait_until(|| {
            // Tables are looked at with the area tree locked. A migration has it locked for reading,
            // too, as long as its entries stand: who wants to write waits behind it, and a fault then
            // behind that one.
            let moving = self
                .vmas
                .try_read()
                .is_some_and(|_vmas| table::state_at(self.root(), addr) == State::Migrating(pfn));
            (!moving).then_some(())
        });
    }

    /// Serves a fault in `vma`; what to wait for first, if anything. The area tree is read-locked.
    pub fn fault_in(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
        access: Access,
    ) -> Result<Option<Wait>, FaultError> {
        let f = vma.flags;
        let allowed = if access.write {
            f.contains(VmaFlags::WRITE)
        } else if access.exec {
            f.contains(VmaFlags::EXEC)
        } else {
            // x86 cannot forbid reading what may be written or run.
            f.intersects(VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC)
        };
        if !allowed {
            return Err(FaultError::NoAccess);
        }
        if f.contains(VmaFlags::HUGETLB) {
            return self.fault_huge(vmas, vma, addr, access.write);
        }
        let entry = match table::find(self.root(), addr) {
            Some((slot, pte)) if table::is_huge(pte) => {
                return self.fault_on_huge(vmas, vma, addr, access, (slot, pte));
            }
            Some(entry) => entry,
            None => match self.fault_in_huge(vmas, vma, addr, access.write) {
                Huge::Done => return Ok(None),
                Huge::Wait(node) => return Ok(Some(Wait::Compaction(node))),
                Huge::None => match self.slot(addr) {
                    Ok(slot) => (slot, slot.load()),
                    // Somebody has put a huge page there, or there is no memory for the table.
                    Err(_) if table::find(self.root(), addr).is_some() => return Ok(None),
                    Err(_) => return Err(FaultError::NoMemory),
                },
            },
        };
        self.fault_on_small(vmas, vma, addr, access, entry)
    }

    /// Serves an allowed fault on a small page, whose entry was `pte`.
    #[inline(always)]
    pub(crate) fn fault_on_small(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
        access: Access,
        (slot, pte): (Slot, Pte),
    ) -> Result<Option<Wait>, FaultError> {
        if access.write {
            begin_private(vmas, vma);
        }
        match table::state(pte) {
            State::Empty => self.fault_empty(vma, addr, slot, access.write).map(|()| None),
            State::Migrating(pfn) => Ok(Some(Wait::Migration(pfn))),
            State::Page(_) | State::Special(_) if access.write && !pte.has(Pte::WRITABLE) => {
                self.fault_write(vma, addr, slot, pte).map(|()| None)
            }
            // Somebody else was quicker, or this CPU's translation is stale.
            State::Page(_) | State::Special(_) => {
                hal::paging::flush_page(VirtAddr::new(addr));
                Ok(None)
            }
        }
    }

    /// Stores an entry of `page` if the slot is still empty; the page's reference goes with it. A page
    /// that its object has lost meanwhile is not mapped: who takes it out unmaps it afterwards, under
    /// this lock, and would not come again.
    #[inline]
    fn install(&self, addr: u64, slot: Slot, page: Page, bits: u64) {
        let lock = self.pt_lock(addr);
        if slot.load().0 == 0 && page.frame().owner().0 != 0 {
            page.frame().add_map();
            self.count_mapped(page.pfn(), 1);
            slot.store(Pte::new(page.into_raw(), bits));
            drop(lock);
        } else {
            drop(lock);
            drop(page);
        }
    }

    /// A page that was never there.
    fn fault_empty(&self, vma: &Vma, addr: u64, slot: Slot, write: bool) -> Result<(), FaultError> {
        let bits = entry_bits(vma) | Pte::ACCESSED;
        match &vma.backing {
            Backing::Anon if !write => {
                let _lock = self.pt_lock(addr);
                // A locked or lost race changes nothing: whoever was first has stored a page.
                let _ = slot.replace(Pte::EMPTY, Pte::new(zero_page(), bits | SPECIAL));
                Ok(())
            }
            Backing::Anon => {
                let page = self.private_page(vma, addr)?;
                hal::phys::zero(page.pfn());
                self.install(addr, slot, page, bits | written(vma));
                Ok(())
            }
            Backing::Object { object, .. } => {
                let index = vma.index(addr);
                if vma.flags.contains(VmaFlags::PFN_MAP) {
                    return self.map_frame(vma, addr, slot, object);
                }
                // As on Linux this comes before the look at the length.
                if !write {
                    self.map_around(vma, addr, object, bits);
                }
                // The last page of a file counts in full; anonymous shared memory has its length.
                if index >= object.len().div_ceil(PAGE) {
                    return Err(FaultError::BeyondEnd);
                }
                let page = object.get_wishing(index, &self.wish(vma, addr)).map_err(no_page)?;
                if vma.shared() {
                    let write_bits =
                        if vma.flags.contains(VmaFlags::WRITE) { Pte::WRITABLE } else { 0 };
                    self.install(addr, slot, page, bits | write_bits);
                } else if write {
                    let copy = self.private_page(vma, addr)?;
                    hal::phys::copy(copy.pfn(), page.pfn());
                    self.install(addr, slot, copy, bits | written(vma));
                } else {
                    self.install(addr, slot, page, bits);
                }
                Ok(())
            }
        }
    }

    /// Maps a frame of a special mapping, whose object keeps it for good.
    fn map_frame(
        &self,
        vma: &Vma,
        addr: u64,
        slot: Slot,
        object: &MemObject,
    ) -> Result<(), FaultError> {
        let index = vma.index(addr);
        if index >= object.len().div_ceil(PAGE) {
            return Err(FaultError::BeyondEnd);
        }
        let page = object.get(index).map_err(no_page)?;
        let bits = entry_bits(vma) | Pte::ACCESSED | SPECIAL;
        let _lock = self.pt_lock(addr);
        // Whoever was first has stored the same.
        let _ = slot.replace(Pte::EMPTY, Pte::new(page.pfn(), bits));
        Ok(())
    }

    /// Maps what the object already has around `addr`, so that reading on takes no faults: from the
    /// 64 KiB boundary below, within the area and the page table (Linux's fault-around).
    fn map_around(&self, vma: &Vma, addr: u64, object: &MemObject, bits: u64) {
        // Linux has none for System V segments.
        if object.kind() == ObjectKind::SysV {
            return;
        }
        let start = (addr & !(AROUND - 1)).max(vma.start);
        let table_end = (addr & !((2 << 20) - 1)) + (2 << 20);
        let end = (start + AROUND).min(table_end).min(vma.end);
        let last = vma.index(start) + (end - start) / PAGE;
        let last = last.min(object.len().div_ceil(PAGE));
        let mut index = vma.index(start);
        while let Some((found, page)) = object.next_used(index, last) {
            index = found + 1;
            let at = start + (found - vma.index(start)) * PAGE;
            if at != addr
                && let Some((slot, _)) = table::find(self.root(), at)
            {
                let shared_write = vma.shared() && vma.flags.contains(VmaFlags::WRITE);
                let writable = if shared_write { Pte::WRITABLE } else { 0 };
                self.install(at, slot, page, (bits | writable) & !Pte::ACCESSED);
            }
        }
    }

    /// A frame for a private page of `vma`, owned by this family; contents undefined.
    #[inline(always)]
    fn private_page(&self, vma: &Vma, addr: u64) -> Result<Page, FaultError> {
        let index = vma.index(addr);
        let at = At::Offset(place::position(vma, addr));
        let page = match vma.policy_object() {
            // A private copy of an object's page follows the object's policy, as on Linux.
            Some(object) => place::page(object.policy_at(index).as_deref(), at, Kind::Anon),
            None => place::page(vma.policy.as_deref(), at, Kind::Anon),
        }
        .ok_or(FaultError::NoMemory)?;
        page.frame().set_owner(self.id(), index);
        Ok(page)
    }

    /// A write to a page that is mapped read-only in an area that may be written.
    fn fault_write(&self, vma: &Vma, addr: u64, slot: Slot, old: Pte) -> Result<(), FaultError> {
        let bits = entry_bits(vma) | Pte::ACCESSED | written(vma);
        if vma.shared() {
            let _lock = self.pt_lock(addr);
            let now = slot.load();
            if now.present() && !now.has(MIGRATION) {
                slot.store(Pte::new(now.frame(), bits));
                hal::paging::flush_page(VirtAddr::new(addr));
            }
            return Ok(());
        }
        if let State::Page(pfn) = table::state(old)
            && frame(pfn).kind() == Kind::Anon
        {
            let _lock = self.pt_lock(addr);
            // Ours alone: no other entry, and nobody on the way to making one.
            if slot.load() == old && frame(pfn).refs() == 1 && !frame(pfn).has(flag::FORKED) {
                slot.store(Pte::new(pfn, bits));
                hal::paging::flush_page(VirtAddr::new(addr));
                return Ok(());
            }
        }
        let copy = self.private_page(vma, addr)?;
        match table::state(old) {
            State::Special(pfn) if pfn == zero_page() => {
                hal::phys::zero(copy.pfn());
                self.replace(addr, slot, old, copy, bits);
            }
            State::Page(pfn) => {
                // Held while it is copied: another thread may unmap it meanwhile. Taken under the
                // lock, while the entry keeps the frame what it is.
                let source = {
                    let _lock = self.pt_lock(addr);
                    if slot.load() != old {
                        return Ok(());
                    }
                    Page::try_from_pfn(pfn)
                };
                let Some(source) = source else { return Ok(()) };
                let mut why = copy.frame().why();
                why.cow = true;
                copy.frame().set_why(why);
                hal::phys::copy(copy.pfn(), source.pfn());
                self.replace(addr, slot, old, copy, bits);
            }
            State::Special(pfn) => {
                hal::phys::copy(copy.pfn(), pfn);
                self.replace(addr, slot, old, copy, bits);
            }
            State::Empty | State::Migrating(_) => {}
        }
        Ok(())
    }

    /// Replaces `old` by `page` if it is still there (the hardware's bits aside). Other threads
    /// must not go on reading the old page: they are flushed before it can be reused.
    fn replace(&self, addr: u64, slot: Slot, old: Pte, page: Page, bits: u64) {
        let lock = self.pt_lock(addr);
        let now = slot.load();
        if now.frame() != old.frame() || table::state(now) != table::state(old) {
            return;
        }
        page.frame().add_map();
        self.count_mapped(page.pfn(), 1);
        let was = slot.swap(Pte::new(page.into_raw(), bits));
        let gone = self.release(was);
        drop(lock);
        tlb::shootdown(self, addr, addr + PAGE, false);
        drop(gone);
    }

    /// Extends the stack area above `addr` down to it, within the limit and the guard gap.
    fn grow_stack(&self, addr: u64) -> bool {
        let mut vmas = self.vmas.write();
        let Some(above) = vmas.first_above(addr) else { return false };
        if above.start <= addr {
            return true;
        }
        let (start, end, flags) = (above.start, above.end, above.flags);
        if !flags.contains(VmaFlags::GROWS_DOWN) {
            return false;
        }
        // A guard is kept from what could be reached by a stack that is overrun: from neither
        // another stack nor memory without access.
        if let Some(below) = vmas.last_below(addr + 1)
            && below.end + STACK_GUARD > addr
            && !below.flags.contains(VmaFlags::GROWS_DOWN)
            && !below.flags.prot().is_empty()
        {
            return false;
        }
        // Before its bounds change, as on Linux: what is beside it then is not beside it now.
        begin_private(&vmas, above);
        let limit = self.limits.stack.load(Ordering::Relaxed);
        let grown = start - addr;
        if end - addr > limit || !self.may_expand(flags, grown) {
            return false;
        }
        if flags.contains(VmaFlags::LOCKED) && !self.may_lock_more(grown) {
            return false;
        }
        if vmas.ready().is_err() {
            return false;
        }
        let Ok(promise) = self.promise(flags, grown) else { return false };
        promise.keep();
        vmas.grow_down(start, addr);
        self.count_area(flags, ((start - addr) / PAGE) as i64);
        true
    }

    /// Whether a transparent huge page is there at `at`, for writing if `write`: all of it at once.
    fn has_all_of_huge(&self, at: u64, write: bool) -> bool {
        let _vmas = self.vmas.read();
        table::find(self.root(), at)
            .is_some_and(|(_, pte)| table::is_huge(pte) && (!write || pte.has(Pte::WRITABLE)))
    }

    /// Makes `[start, end)` present, for writing where the areas allow it (mlock, POPULATE).
    /// Stops at the first page that cannot be had, and when the task has been killed.
    pub fn populate(&self, start: u64, end: u64, write: Option<bool>) -> Result<(), FaultError> {
        let mut at = start;
        while at < end {
            if env::killed() {
                return Err(FaultError::NoMemory);
            }
            let (access, step) = {
                let vmas = self.vmas.read();
                let Some(vma) = vmas.find(at) else { return Err(FaultError::NoArea) };
                let barred = vma.flags.contains(VmaFlags::PFN_MAP);
                if barred || write == Some(false) && !vma.flags.contains(VmaFlags::READ) {
                    return Err(FaultError::NoAccess);
                }
                let writable = vma.flags.contains(VmaFlags::WRITE) && !vma.shared();
                (Access { write: write.unwrap_or(writable), exec: false }, vma.page_size())
            };
            self.fault(at, access)?;
            let begins = at == start || at.is_multiple_of(HUGE);
            let whole = step == PAGE && begins && self.has_all_of_huge(at, access.write);
            let step = if whole { HUGE } else { step };
            at = (at & !(step - 1)) + step;
        }
        Ok(())
    }
}
