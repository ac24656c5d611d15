//! The migration engine: pages change their frames while their owners go on running.
//!
//! A batch of pages goes through the steps together: targets are allocated, page-table entries
//! are replaced by migration entries, one flush reaches every CPU that runs the address spaces,
//! contents are copied, entries point to the new frames, the old frames are freed. Whoever touches
//! a page in between waits for that page. A page that cannot be moved stays where it was.
//!
//! References: a migration entry holds none; the batch takes over those of the entries it
//! replaces. When it holds all that there are (its own and the object's) it freezes the count, so
//! that nobody gains one while the contents move.

use crate::fault::migration_done;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use crate::{MemObject, VmaTree, hugetlb, place, tlb, transparent};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed};
use frames::fallible::{Grow, TryMap, TryVec};
use frames::meta::{Reason, flag};
use frames::{Frame, Kind, Page, compound, frame};
use hal::Pfn;
use hal::paging::{Pte, Slot};
use numa::policy::Placement;

/// Pages of a batch: 128 pages = 512 KiB are locked, flushed and copied together.
pub const BATCH: usize = 128;

/// Pages moved, and pages that could not be, ever (pgmigrate_success and pgmigrate_fail).
pub static MOVED: AtomicU64 = AtomicU64::new(0);
/// See [`MOVED`].
pub static FAILED: AtomicU64 = AtomicU64::new(0);
/// For tests: every Nth allocation of a target fails; 0 for none.
pub static FAIL_EVERY: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// A page to move.
pub struct Candidate<'a> {
    pub addr: u64,
    pub pfn: Pfn,
    pub to: Placement<'a>,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Moved,
    /// It is in use in a way that the engine cannot see, or changed meanwhile.
    Busy,
    /// No frame on the target.
    NoMemory,
}

/// True when pages of `vma` may move at all.
pub fn movable(vma: &Vma) -> bool {
    !vma.flags.contains(VmaFlags::PFN_MAP)
}

/// An entry that the batch replaced: address space (by position), address, slot, what it was.
struct Entry {
    space: usize,
    addr: u64,
    slot: Slot,
    was: Pte,
}

/// A page on its way. The batch holds one reference to `old` per entry.
struct Moving {
    which: usize,
    old: Pfn,
    new: Page,
    entries: Vec<Entry>,
    object: Option<(Arc<MemObject>, u64)>,
    /// It is a huge page of shared memory: `old` and `new` are the first of its frames, and `new`
    /// stands for the references to all of them.
    group: bool,
}

impl Moving {
    fn frames(&self) -> u64 {
        if self.group { compound::FRAMES } else { self.new.frames() }
    }
}

/// The frames of a huge page of shared memory.
fn parts(head: Pfn) -> impl Iterator<Item = Pfn> {
    (head.raw()..head.raw() + compound::FRAMES).map(Pfn::new)
}

impl Mm {
    /// Moves the candidates (at most [`BATCH`], all of this address space); what became of each.
    pub fn migrate(&self, candidates: &[Candidate<'_>], reason: Reason) -> Vec<Outcome> {
        self.migrate_for(candidates, Some(reason))
    }

    /// As [`Mm::migrate`]; without a reason, small pages only, to gaps of the nodes that they are on:
    /// memory is compacted, and why a page is on its node stays as it was.
    pub(crate) fn migrate_for(
        &self,
        candidates: &[Candidate<'_>],
        reason: Option<Reason>,
    ) -> Vec<Outcome> {
        crate::fault::let_the_overtaken_go();
        let mut outcomes = alloc::vec![Outcome::Busy; candidates.len()];
        let Some(me) = self.handle() else { return outcomes };
        // In the order of their ids, so that two migrations never wait for each other.
        let refused = || alloc::vec![Outcome::NoMemory; candidates.len()];
        let Ok(found) = self.spaces_of(me, candidates) else { return refused() };
        let Ok(mut spaces) = Vec::with_room(found.len()) else { return refused() };
        spaces.extend(found.values());
        let Ok(mut trees) = Vec::with_room(found.len()) else { return refused() };
        trees.extend(spaces.iter().map(|mm| mm.vmas.read()));
        let mut moving = Vec::with_capacity(candidates.len());
        let (mut moved, mut failed) = (0, 0);
        for (which, candidate) in candidates.iter().enumerate() {
            match self.begin(&spaces, &trees, candidate, (which, reason.is_none())) {
                Ok(page) => moving.push(page),
                Err(outcome) => {
                    outcomes[which] = outcome;
                    let kind = frame(candidate.pfn).kind();
                    let transparent = matches!(kind, Kind::AnonHuge | Kind::SharedHuge);
                    let huge = transparent || kind == Kind::HugeTlb;
                    failed += if huge { hugetlb::FRAMES } else { 1 };
                    transparent::STAYED.fetch_add(u64::from(transparent), Relaxed);
                }
            }
        }
        flush(&spaces, &moving);
        for page in moving {
            let which = page.which;
            let old = page.old;
            let (to, frames) = (page.new.node(), page.frames());
            outcomes[which] = finish(&spaces, page, reason);
            *(if outcomes[which] == Outcome::Moved { &mut moved } else { &mut failed }) += frames;
            if outcomes[which] == Outcome::Moved {
                let (addr, from) = (candidates[which].addr, frame(old).node());
                crate::env::page_event(|| crate::env::PageEvent::Migrated { addr, from, to });
            }
            migration_done(old);
        }
        MOVED.fetch_add(moved, Ordering::Relaxed);
        FAILED.fetch_add(failed, Ordering::Relaxed);
        outcomes
    }

    /// The address spaces that map any of the candidates: this one, and for pages mapped more than
    /// once those of the family or of the object.
    /// ENOMEM.
    fn spaces_of(
        &self,
        me: Arc<Mm>,
        candidates: &[Candidate<'_>],
    ) -> abi::Result<BTreeMap<u64, Arc<Mm>>> {
        let mut spaces = BTreeMap::new();
        spaces.try_insert_in(self.id(), me)?;
        let mut whole_family = false;
        for candidate in candidates {
            if frame(candidate.pfn).maps() <= 1 {
                continue;
            }
            if frame(candidate.pfn).is_private() {
                whole_family = true;
            } else {
                let object = {
                    let vmas = self.vmas.read();
                    vmas.find(candidate.addr).and_then(|v| v.object().cloned())
                };
                let mut last = 0;
                while let Some((id, mapper)) = object.as_ref().and_then(|o| o.next_mapper(last)) {
                    last = id;
                    if let Ok(mm) = mapper.into_any().downcast::<Mm>() {
                        spaces.try_insert_in(mm.id(), mm)?;
                    }
                }
            }
        }
        if whole_family {
            let mut at = 0;
            while let Some((id, mm)) = self.family.next(at) {
                spaces.try_insert_in(id, mm)?;
                at = id;
            }
        }
        Ok(spaces)
    }

    /// Replaces all entries of a page by migration entries.
    fn begin(
        &self,
        spaces: &[&Arc<Mm>],
        trees: &[sync::ReadGuard<'_, VmaTree>],
        candidate: &Candidate<'_>,
        (which, compacts): (usize, bool),
    ) -> Result<Moving, Outcome> {
        let old = candidate.pfn;
        let meta = frame(old);
        let own = spaces.iter().position(|mm| mm.id() == self.id()).ok_or(Outcome::Busy)?;
        let vma = trees[own].find(candidate.addr).ok_or(Outcome::Busy)?;
        let index = vma.index(candidate.addr);
        // Read once: a frame that was freed meanwhile may change its kind at any time.
        let kind = meta.kind();
        let object = match kind {
            Kind::Anon | Kind::AnonHuge => None,
            Kind::HugeTlb if meta.is_private() => None,
            Kind::Shared | Kind::SharedHuge | Kind::HugeTlb => {
                Some((vma.object().cloned().ok_or(Outcome::Busy)?, index))
            }
            _ => return Err(Outcome::Busy),
        };
        let group = kind == Kind::SharedHuge && table::is_huge_at(self.root(), candidate.addr);
        let kind = if kind == Kind::SharedHuge && !group { Kind::Shared } else { kind };
        let new =
            if compacts { take_gap(meta.node(), kind) } else { take_target(&candidate.to, kind) };
        let new = new.ok_or(Outcome::NoMemory)?;
        let mut entries = Vec::new();
        let huge = kind != Kind::Anon && kind != Kind::Shared;
        if meta.maps() <= 1 {
            take_entry(own, self, candidate.addr, (old, huge), &mut entries);
        } else {
            for (space, (mm, tree)) in spaces.iter().zip(trees).enumerate() {
                let object = object.as_ref().map(|o| &o.0);
                take_entries(space, mm, tree, (old, huge), index, object, &mut entries);
            }
        }
        let page = Moving { which, old, new, entries, object, group };
        // Not all entries found: somebody maps it where we did not look, so it stays.
        if page.entries.is_empty() || meta.maps() != 0 {
            put_back(spaces, page);
            migration_done(old);
            return Err(Outcome::Busy);
        }
        Ok(page)
    }
}

/// A frame for a small page that compaction moves.
#[cold]
#[inline(never)]
fn take_gap(node: numa::NodeId, kind: Kind) -> Option<Page> {
    if !matches!(kind, Kind::Anon | Kind::Shared) {
        return None;
    }
    frames::node(node)?.alloc_in_gap(kind).map(Page::from_alloc)
}

fn take_target(to: &Placement<'_>, kind: Kind) -> Option<Page> {
    let every = FAIL_EVERY.load(Ordering::Relaxed);
    if every > 0 && ALLOCATIONS.fetch_add(1, Ordering::Relaxed) % every == every - 1 {
        return None;
    }
    match kind {
        Kind::HugeTlb => hugetlb::take_for_migration(to),
        Kind::AnonHuge => transparent::take_for_migration(to),
        Kind::SharedHuge => {
            transparent::take_shared_from(to, to.nodes_for_huge(true)).map(Page::from_raw)
        }
        _ => place::take(to, kind),
    }
}

/// Replaces the entry at `addr`, of the second level if `huge`, if it maps `old`; its reference goes
/// to the batch.
fn take_entry(
    space: usize,
    mm: &Mm,
    addr: u64,
    (old, huge): (Pfn, bool),
    entries: &mut Vec<Entry>,
) {
    let _lock = mm.pt_lock(addr);
    let Some((slot, pte)) = table::find(mm.root(), addr) else { return };
    if table::state(pte) == State::Page(old) && table::is_huge(pte) == huge {
        let was = slot.swap(table::migrating(old, pte));
        if is_block(was, old) {
            compound::unmap(old, 0);
        } else {
            frame(old).remove_map();
        }
        entries.push(Entry { space, addr, slot, was });
    }
}

/// True when the reference of such an entry of `pfn` is that of a transparent huge page.
fn is_block(pte: Pte, pfn: Pfn) -> bool {
    table::is_huge(pte) && frame(pfn).kind() != Kind::HugeTlb
}

/// Replaces every entry of one address space that maps page `index` as `old`.
fn take_entries(
    space: usize,
    mm: &Mm,
    tree: &VmaTree,
    (old, huge): (Pfn, bool),
    index: u64,
    object: Option<&Arc<MemObject>>,
    entries: &mut Vec<Entry>,
) {
    for vma in tree.iter() {
        let fits = match (object, vma.object()) {
            (Some(wanted), Some(mapped)) => Arc::ptr_eq(wanted, mapped),
            (Some(_), None) => false,
            // A private page may come from an anonymous area or from a private file mapping.
            (None, _) => !vma.shared(),
        };
        if fits && let Some(addr) = vma.address_of(index) {
            // Refused, the page is still mapped here, and stays.
            if entries.room_for(1).is_err() {
                return;
            }
            // Mapped as a part of a huge page, it is to be mapped alone.
            if !huge && mm.split_huge(addr).is_err() {
                return;
            }
            take_entry(space, mm, addr, (old, huge), entries);
        }
    }
}

/// One flush for the whole batch, in each address space that lost entries.
fn flush(spaces: &[&Arc<Mm>], moving: &[Moving]) {
    for (space, mm) in spaces.iter().enumerate() {
        let mut low = u64::MAX;
        let mut high = 0;
        for entry in moving.iter().flat_map(|p| &p.entries).filter(|e| e.space == space) {
            low = low.min(entry.addr);
            high = high.max(entry.addr + crate::PAGE);
        }
        if low < high {
            tlb::shootdown(mm, low, high, false);
        }
    }
}

/// Points the page's entries back at the old frame, with the references that the batch held. An
/// entry that was unmapped meanwhile is left alone.
fn put_back(spaces: &[&Arc<Mm>], page: Moving) {
    if page.group {
        parts(page.new.pfn()).skip(1).for_each(|pfn| drop(Page::from_raw(pfn)));
    }
    for entry in page.entries {
        let block = is_block(entry.was, page.old);
        {
            let _lock = spaces[entry.space].pt_lock(entry.addr);
            if entry.slot.load() == table::migrating(page.old, entry.was) {
                if block {
                    compound::map(page.old);
                } else {
                    frame(page.old).add_map();
                }
                entry.slot.store(Pte::new(page.old, entry.was.bits()));
                continue;
            }
        }
        if block { compound::put(page.old) } else { drop(Page::from_raw(page.old)) }
    }
}

/// Points the page's entries at the new frame.
fn point_at_new(spaces: &[&Arc<Mm>], page: &Moving) {
    for entry in &page.entries {
        let _lock = spaces[entry.space].pt_lock(entry.addr);
        if entry.slot.load() == table::migrating(page.old, entry.was) {
            spaces[entry.space].count_moved(page.old, page.new.pfn());
            let new = if is_block(entry.was, page.old) {
                compound::enter(page.new.pfn());
                page.new.pfn()
            } else {
                page.new.frame().add_map();
                page.new.clone().into_raw()
            };
            entry.slot.store(Pte::new(new, entry.was.bits()));
        }
    }
}

/// Moves the contents and what the kernel knows of the page.
#[inline(always)]
fn copy(old: Pfn, new: &Page, reason: Option<Reason>) {
    let (from, to) = (frame(old), new.frame());
    if matches!(from.kind(), Kind::HugeTlb | Kind::AnonHuge) {
        copy_huge(old, new);
    } else {
        hal::phys::copy(new.pfn(), old);
        let (owner, index) = from.owner();
        to.set_owner(owner, index);
        to.set(from.flags() & (flag::DIRTY | flag::LOCKED | flag::REFERENCED | flag::LAZY_FREE));
    }
    tell_why(from, to, reason);
}

/// Why the page is here now: for `reason`, or still for what it was.
#[inline(always)]
fn tell_why(from: &Frame, to: &Frame, reason: Option<Reason>) {
    let mut why = from.why();
    if let Some(reason) = reason {
        why.reason = reason;
        why.from = Some(from.node());
    }
    to.set_why(why);
}

/// The same of a huge page of shared memory: of each of its frames.
#[cold]
#[inline(never)]
fn copy_group(old: Pfn, new: Pfn, reason: Option<Reason>) {
    hal::phys::copy_frames(new, old, compound::FRAMES);
    for (from, to) in parts(old).map(frame).zip(parts(new).map(frame)) {
        let (owner, index) = from.owner();
        to.set_owner(owner, index);
        let kept = flag::DIRTY | flag::LOCKED | flag::REFERENCED | flag::RESERVED;
        to.set(from.flags() & kept);
        tell_why(from, to, reason);
    }
}

/// The same of a huge page: what the pool knows of one of its own.
#[cold]
#[inline(never)]
fn copy_huge(old: Pfn, new: &Page) {
    new.copy_from(old);
    if frame(old).kind() == Kind::AnonHuge {
        let (owner, index) = frame(old).owner();
        new.frame().set_owner(owner, index);
        let kept = flag::DIRTY | flag::REFERENCED | flag::LAZY_FREE | flag::FORKED;
        new.frame().set(frame(old).flags() & kept);
        return;
    }
    hugetlb::moved(old, new.pfn());
    new.frame().set(frame(old).flags() & (flag::DIRTY | flag::REFERENCED | flag::PRIVATE));
}

/// Copies the page and points everybody to the copy; or puts it back.
fn finish(spaces: &[&Arc<Mm>], page: Moving, reason: Option<Reason>) -> Outcome {
    if page.group || page.entries.first().is_some_and(|entry| is_block(entry.was, page.old)) {
        return finish_transparent(spaces, page, reason);
    }
    let held = page.entries.len() as u32;
    let meta = frame(page.old);
    let freeze_and_copy = |references| {
        let frozen = meta.freeze(references);
        if frozen {
            copy(page.old, &page.new, reason);
        }
        frozen
    };
    let done = match &page.object {
        None => freeze_and_copy(held),
        // Under the object's lock: whoever asks the object next gets the new page.
        Some((object, index)) => {
            object.replace(*index, page.old, &page.new, || freeze_and_copy(held + 1))
        }
    };
    if !done {
        put_back(spaces, page);
        return Outcome::Busy;
    }
    point_at_new(spaces, &page);
    // The last reference frees the frame: nobody can reach it any more.
    meta.unfreeze(1);
    drop(Page::from_raw(page.old));
    Outcome::Moved
}

/// The same of a transparent huge page, private or shared.
#[cold]
#[inline(never)]
fn finish_transparent(spaces: &[&Arc<Mm>], page: Moving, reason: Option<Reason>) -> Outcome {
    let held = page.entries.len() as u32;
    let done = match &page.object {
        Some((object, index)) => object.replace_huge(*index, page.old, page.new.pfn(), || {
            let frozen = compound::freeze_shared(page.old, held + 1);
            if frozen {
                copy_group(page.old, page.new.pfn(), reason);
            }
            frozen
        }),
        None => {
            let frozen = compound::freeze(page.old, held);
            if frozen {
                copy(page.old, &page.new, reason);
            }
            frozen
        }
    };
    let counter = if done { &transparent::MOVED } else { &transparent::STAYED };
    counter.fetch_add(1, Relaxed);
    if !done {
        put_back(spaces, page);
        return Outcome::Busy;
    }
    point_at_new(spaces, &page);
    if page.group {
        // The object has the references to the new frames.
        let _objects = page.new.into_raw();
        for pfn in parts(page.old) {
            frame(pfn).unfreeze(1);
            drop(Page::from_raw(pfn));
        }
        return Outcome::Moved;
    }
    // Somebody may have broken it up by now.
    compound::put(page.new.into_raw());
    frame(page.old).unfreeze(1);
    drop(Page::from_raw(page.old));
    Outcome::Moved
}
