//! mmap(2), munmap(2), brk(2): changing what is mapped where.

use crate::commit::{self, Promise};
use crate::mm::Mm;
use crate::object::{MemObject, ObjectKind};
use crate::tree::Mapped;
use crate::vma::{Backing, Label, MappedFile, Vma, VmaFlags, same_policy};
use crate::{HUGE, PAGE, VmaTree};
use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use frames::fallible::TryVec;
use hal::user::USER_END;

pub use crate::tree::MAX_AREAS;

/// Lowest address that a program may map (Linux's mmap_min_addr).
pub const MIN_ADDR: u64 = 64 << 10;
/// Free space kept below a growing area.
const STACK_GUARD: u64 = 256 * PAGE;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anywhere; this address if it is free (0: no wish).
    Hint(u64),
    /// Here, whatever was there.
    Fixed(u64),
    /// Here, EEXIST if anything is there.
    FixedNoReplace(u64),
    /// Below 2 GiB (MAP_32BIT).
    Low,
}

/// What is mapped.
pub enum What {
    /// Private zeroes.
    Anon,
    /// Zeroes shared with children.
    SharedAnon,
    /// An object from a page offset on.
    Object {
        object: Arc<MemObject>,
        file: Option<Arc<dyn MappedFile>>,
        pgoff: u64,
        shared: bool,
        /// May mprotect make it writable (always, for private mappings)?
        may_write: bool,
    },
}

impl Mm {
    /// Maps `len` bytes; where. EINVAL, ENOMEM, EEXIST, EPERM as mmap(2) answers.
    pub fn map(
        &self,
        place: Place,
        len: u64,
        prot: Prot,
        flags: VmaFlags,
        what: What,
    ) -> Result<u64> {
        let len = page_len(len)?;
        let mut vmas = self.vmas.write();
        self.map_locked(&mut vmas, place, len, prot, flags, what)
    }

    /// Whether `len` bytes can be mapped there: what [`Mm::map`] would say of the place.
    pub fn check_place(&self, place: Place, len: u64, align: u64) -> Result<()> {
        let len = page_len(len)?;
        self.find_place(&self.vmas.read(), place, len, align).map(|_| ())
    }

    /// As [`Mm::map`], with the tree locked and the length in whole pages.
    pub fn map_locked(
        &self,
        vmas: &mut VmaTree,
        place: Place,
        len: u64,
        prot: Prot,
        flags: VmaFlags,
        what: What,
    ) -> Result<u64> {
        let align = match &what {
            What::Object { object, .. } => object.page_size(),
            _ => PAGE,
        };
        let addr = match &what {
            What::Anon => self.find_anon_place(vmas, place, len)?,
            _ => self.find_place(vmas, place, len, align)?,
        };
        if vmas.len() > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let mut flags = flags | VmaFlags::from_prot(prot);
        if match &what {
            What::Anon => false,
            What::SharedAnon => true,
            What::Object { shared, .. } => *shared,
        } {
            flags |= VmaFlags::SHARED;
        }
        if align > PAGE {
            flags |= VmaFlags::HUGETLB;
        }
        // What is replaced makes room for what comes.
        let replaced = match place {
            Place::Fixed(_) => vmas.mapped_in(addr, addr + len),
            _ => Mapped::default(),
        };
        let promise = self.check_limits(len, replaced, flags)?;
        vmas.ready()?;
        // As on Linux what shared huge pages have reserved is free only when the new ones are mapped.
        let kept: alloc::vec::Vec<Arc<MemObject>> = if align > PAGE {
            let objects = vmas.range(addr, addr + len).filter_map(Vma::object);
            TryVec::gather(objects.filter(|object| object.huge().is_some()).cloned())?
        } else {
            alloc::vec::Vec::new()
        };
        if matches!(place, Place::Fixed(_)) {
            self.unmap_locked(vmas, addr, addr + len)?;
        }
        let mut hugetlb = None;
        let (backing, pgoff) = match what {
            What::Anon => {
                flags |= VmaFlags::MAY_WRITE;
                (Backing::Anon, addr / PAGE)
            }
            What::SharedAnon => {
                flags |= VmaFlags::MAY_WRITE;
                let reserve = !flags.contains(VmaFlags::NO_RESERVE);
                let object = MemObject::sized(ObjectKind::SharedAnon, len, reserve)?;
                (Backing::Object { object, file: None }, 0)
            }
            What::Object { object, file, pgoff, may_write, .. } => {
                // No byte of a file lies beyond the largest offset.
                let beyond = pgoff.checked_add(len / PAGE).ok_or(Errno::EOVERFLOW)?;
                if beyond > i64::MAX as u64 / PAGE {
                    return Err(Errno::EOVERFLOW);
                }
                if may_write {
                    flags |= VmaFlags::MAY_WRITE;
                }
                if flags.contains(VmaFlags::HUGETLB) {
                    if !(pgoff * PAGE).is_multiple_of(align) {
                        return Err(Errno::EINVAL);
                    }
                    // As on Linux: locked they are by nature, and a file grows with the mapping.
                    flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
                    hugetlb = Self::reserve_huge(&object, (pgoff, len / PAGE), flags)?;
                    if flags.contains(VmaFlags::WRITE) {
                        object.grow_len(beyond * PAGE);
                    }
                }
                (Backing::Object { object, file }, pgoff)
            }
        };
        if matches!(place, Place::Fixed(_)) {
            self.unmap_locked(vmas, addr, addr + len)?;
        }
        promise.keep();
        let vma = Vma {
            start: addr,
            end: addr + len,
            flags: flags | flags.account(),
            pgoff,
            backing,
            label: Label::None,
            policy: None,
            anon: AtomicU64::new(0),
            inherited: false,
            hugetlb,
        };
        self.add_area(vmas, vma);
        drop(kept);
        Ok(addr)
    }

    /// Adds an area where nothing is mapped and counts it.
    pub fn add_area(&self, vmas: &mut VmaTree, vma: Vma) {
        self.note_area(&vma);
        let merges = vma.object().map(|o| (o.clone(), vmas.len()));
        vmas.insert(vma);
        // An object counts the areas that map it; a merge made one of two (or of three).
        if let Some((object, before)) = merges {
            for _ in vmas.len()..before + 1 {
                object.remove_mapper(self.id());
            }
        }
        self.note_peak();
    }

    /// As [`Mm::map`], for the areas of a new program, which have a name of their own.
    pub fn map_labelled(
        &self,
        place: Place,
        len: u64,
        flags: VmaFlags,
        what: What,
        label: Label,
    ) -> Result<u64> {
        let mut vmas = self.vmas.write();
        let addr = self.map_locked(&mut vmas, place, len, flags.prot(), flags, what)?;
        if let Some(vma) = vmas.find_mut(addr) {
            vma.label = label;
        }
        Ok(addr)
    }

    /// A free range for `len` bytes, by the usual rule; it is not reserved.
    pub fn reserve_gap(&self, len: u64) -> Result<u64> {
        self.find_place(&self.vmas.read(), Place::Hint(0), page_len(len)?, PAGE)
    }

    /// The promise of a new area of `len` bytes, if the limits allow it; `replaced` lies in its place
    /// now and is about to go.
    fn check_limits(&self, len: u64, replaced: Mapped, flags: VmaFlags) -> Result<Promise> {
        if flags.contains(VmaFlags::LOCKED) && !self.may_lock_more(len) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(flags, len - replaced.bytes) {
            return Err(Errno::ENOMEM);
        }
        if flags.account().is_empty() {
            return Ok(Promise::NONE);
        }
        let mut promise = self.promise(VmaFlags::ACCOUNTED, len - replaced.accounted)?;
        promise.take_over(replaced.accounted / PAGE);
        Ok(promise)
    }

    /// The promise of `more` bytes with these flags, which need one if they are ACCOUNTED. ENOMEM.
    #[inline]
    pub(crate) fn promise(&self, flags: VmaFlags, more: u64) -> Result<Promise> {
        if !flags.contains(VmaFlags::ACCOUNTED) {
            return Ok(Promise::NONE);
        }
        commit::promise(self.total.load(Ordering::Relaxed).max(0) as u64, more / PAGE)
    }

    /// Returns whether `more` bytes with these flags stay within RLIMIT_AS, and within RLIMIT_DATA
    /// if they are data. As on Linux, a soft limit of data of 0 leaves the hard one in force.
    pub(crate) fn may_expand(&self, flags: VmaFlags, more: u64) -> bool {
        let within = |pages: &AtomicI64, limit: &AtomicU64| {
            let present = pages.load(Ordering::Relaxed).max(0) as u64 * PAGE;
            present.saturating_add(more) <= limit.load(Ordering::Relaxed)
        };
        within(&self.total, &self.limits.address_space)
            && (!flags.is_data()
                || within(&self.data, &self.limits.data)
                || self.limits.data.load(Ordering::Relaxed) == 0
                    && within(&self.data, &self.limits.data_hard))
    }

    /// Returns whether `more` bytes may be locked: within RLIMIT_MEMLOCK, or with CAP_IPC_LOCK.
    pub(crate) fn may_lock_more(&self, more: u64) -> bool {
        let present = self.locked.load(Ordering::Relaxed).max(0) as u64 * PAGE;
        present.saturating_add(more) <= self.limits.locked.load(Ordering::Relaxed)
            || crate::env::may_lock()
    }

    /// Where `len` bytes go, at a multiple of `align`: that of a page, or of a huge page.
    pub(crate) fn find_place(
        &self,
        vmas: &VmaTree,
        place: Place,
        len: u64,
        align: u64,
    ) -> Result<u64> {
        if len > USER_END - MIN_ADDR {
            return Err(Errno::ENOMEM);
        }
        let fixed = |addr: u64| {
            if !addr.is_multiple_of(align) {
                Err(Errno::EINVAL)
            } else if addr > USER_END - len {
                Err(Errno::ENOMEM)
            } else if addr < MIN_ADDR {
                Err(Errno::EPERM)
            } else {
                Ok(addr)
            }
        };
        match place {
            Place::Fixed(addr) => fixed(addr),
            Place::FixedNoReplace(addr) => {
                let addr = fixed(addr)?;
                if vmas.is_free(addr, addr + len) { Ok(addr) } else { Err(Errno::EEXIST) }
            }
            Place::Low => vmas
                .gap_above(len + (align - PAGE), 0x4000_0000, 0x8000_0000)
                .map(|at| at.next_multiple_of(align))
                .ok_or(Errno::ENOMEM),
            Place::Hint(hint) => {
                let hint = hint & !(align - 1);
                if hint >= MIN_ADDR
                    && hint <= USER_END - len
                    && vmas.is_free(hint, hint + len)
                    && !self.in_stack_gap(vmas, hint + len)
                {
                    return Ok(hint);
                }
                let base = self.layout.lock().mmap_base;
                // Room enough to begin at the next boundary.
                let room = len + (align - PAGE);
                let below = vmas.gap_below(room, MIN_ADDR, base);
                below
                    .map(|at| (at + (room - len)) & !(align - 1))
                    .or_else(|| {
                        vmas.gap_above(room, base.min(USER_END), USER_END)
                            .map(|at| at.next_multiple_of(align))
                    })
                    .ok_or(Errno::ENOMEM)
            }
        }
    }

    /// Where `len` bytes of private memory go: as on Linux those that make whole huge pages begin at
    /// the boundary of one, if nobody wishes otherwise and there is such a place.
    pub(crate) fn find_anon_place(&self, vmas: &VmaTree, place: Place, len: u64) -> Result<u64> {
        let huge = place == Place::Hint(0) && len.is_multiple_of(HUGE);
        let at = if huge { self.find_place(vmas, place, len, HUGE).ok() } else { None };
        at.map_or_else(|| self.find_place(vmas, place, len, PAGE), Ok)
    }

    /// True when an area that ends at `end` would sit in the gap below a growing area.
    fn in_stack_gap(&self, vmas: &VmaTree, end: u64) -> bool {
        vmas.first_above(end)
            .is_some_and(|v| v.flags.contains(VmaFlags::GROWS_DOWN) && v.start < end + STACK_GUARD)
    }

    /// munmap(2).
    pub fn unmap(&self, addr: u64, len: u64) -> Result<()> {
        if !addr.is_multiple_of(PAGE) || len == 0 || addr > USER_END {
            return Err(Errno::EINVAL);
        }
        let len = page_len(len).map_err(|_| Errno::EINVAL)?;
        let end = addr.checked_add(len).filter(|&e| e <= USER_END).ok_or(Errno::EINVAL)?;
        let mut vmas = self.vmas.write();
        self.unmap_locked(&mut vmas, addr, end)
    }

    /// Unmaps `[start, end)` with the tree locked. EINVAL for a part of a special mapping.
    pub fn unmap_locked(&self, vmas: &mut VmaTree, start: u64, end: u64) -> Result<()> {
        if vmas.is_free(start, end) {
            return Ok(());
        }
        // A hole in the middle of one area makes two.
        if vmas.len() >= MAX_AREAS
            && vmas.find(start).is_some_and(|v| v.start < start && v.end > end)
        {
            return Err(Errno::ENOMEM);
        }
        if vmas.cuts_whole(start, end) {
            return Err(Errno::EINVAL);
        }
        let cut = |at: u64| vmas.find(at).is_some_and(|vma| vma.start < at);
        // What frees memory must not need any, unless it cuts an area in two.
        if let Err(error) = vmas.ready()
            && (cut(start) || cut(end))
        {
            return Err(error);
        }
        self.split_across(start)?;
        self.split_across(end)?;
        self.unmap_surely(vmas, start, end);
        Ok(())
    }

    /// As [`Mm::unmap_locked`] of what may be unmapped. Is not refused: at worst the reserve gives
    /// what an area that is cut in two needs.
    pub(crate) fn unmap_surely(&self, vmas: &mut VmaTree, start: u64, end: u64) {
        self.split_counted(vmas, start);
        self.split_counted(vmas, end);
        self.note_peak();
        self.zap(start, end);
        vmas.remove(start, end, |vma| self.forget_area(&vma));
        let floor = vmas.last_below(start).map_or(0, |v| v.end);
        let ceiling = vmas.first_above(end).map_or(1 << 47, |v| v.start);
        self.free_tables(start, end, floor, ceiling);
    }

    /// Splits an area at `at`, counting the new area at its object.
    pub fn split_counted(&self, vmas: &mut VmaTree, at: u64) {
        let splits = vmas.find(at).filter(|v| v.start < at).and_then(|v| v.object().cloned());
        vmas.split(at);
        if let (Some(object), Some(me)) = (splits, self.handle()) {
            let weak: alloc::sync::Weak<Self> = Arc::downgrade(&me);
            object.add_mapper(self.id(), weak);
        }
    }

    /// Changes areas in `[start, end)` through [`VmaTree::update`], keeping the objects' counts.
    pub fn update_areas(
        &self,
        vmas: &mut VmaTree,
        start: u64,
        end: u64,
        mut change: impl FnMut(&mut Vma) -> Result<()>,
    ) -> Result<()> {
        // One whole area that stays apart from its neighbours: nothing to count.
        if let Some(vma) = vmas.exactly(start, end) {
            let (flags, policy) = (vma.flags, vma.policy.clone());
            let outcome = change(vma);
            let same = vma.flags == flags && same_policy(vma.policy.as_ref(), policy.as_ref());
            if !same && vma.may_vanish() && vmas.joins(start, end) {
                // Without memory to count them they stay apart.
                let _merged = self.recount(vmas, start, end, |vmas| vmas.merge(start));
            }
            return outcome;
        }
        // No huge page lies across the border of two areas.
        self.split_across(start)?;
        self.split_across(end)?;
        self.recount(vmas, start, end, |vmas| vmas.update(start, end, change))?
    }

    /// Counts the areas of objects around `[start, end)` anew after `work` has split or merged some.
    /// ENOMEM, without work.
    fn recount<T>(
        &self,
        vmas: &mut VmaTree,
        start: u64,
        end: u64,
        work: impl FnOnce(&mut VmaTree) -> T,
    ) -> Result<T> {
        let around = (start.saturating_sub(1), end + 1);
        let before = vmas.range(around.0, around.1).filter_map(Vma::object);
        let before: alloc::vec::Vec<Arc<MemObject>> = TryVec::gather(before.cloned())?;
        let outcome = work(vmas);
        if let Some(me) = self.handle() {
            for object in vmas.range(around.0, around.1).filter_map(Vma::object) {
                let weak: alloc::sync::Weak<Self> = Arc::downgrade(&me);
                object.add_mapper(self.id(), weak);
            }
        }
        for object in &before {
            object.remove_mapper(self.id());
        }
        Ok(outcome)
    }

    /// brk(2): the new end of the heap, or the old one when it cannot be had.
    pub fn set_brk(&self, want: u64) -> u64 {
        let mut vmas = self.vmas.write();
        let (start, old, data) = {
            let layout = self.layout.lock();
            (layout.brk_start, layout.brk, layout.data.1 - layout.data.0)
        };
        if want < start || want > USER_END {
            return old;
        }
        let (old_end, new_end) = (old.next_multiple_of(PAGE), want.next_multiple_of(PAGE));
        if new_end < old_end {
            if self.unmap_locked(&mut vmas, new_end, old_end).is_err() {
                return old;
            }
        } else if new_end > old_end {
            let len = new_end - old_end;
            let flags =
                VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAY_WRITE | self.future_flags();
            // As on Linux, the program's own data counts with the heap here.
            if (want - start).saturating_add(data) > self.limits.data.load(Ordering::Relaxed)
                || !vmas.is_free(old_end, new_end + PAGE)
                || vmas.len() > MAX_AREAS
            {
                return old;
            }
            let Ok(promise) = self.check_limits(len, Mapped::default(), flags) else { return old };
            promise.keep();
            let vma = Vma {
                start: old_end,
                end: new_end,
                flags: flags | flags.account(),
                pgoff: old_end / PAGE,
                backing: Backing::Anon,
                label: Label::Heap,
                policy: None,
                anon: AtomicU64::new(0),
                inherited: false,
                hugetlb: None,
            };
            self.add_area(&mut vmas, vma);
        }
        self.layout.lock().brk = want;
        drop(vmas);
        if new_end > old_end && self.future_flags().contains(VmaFlags::LOCKED) {
            // As Linux: pages that cannot be had now are had at the fault.
            let _ = self.populate(old_end, new_end, None);
        }
        want
    }

    /// Flags that mlockall(MCL_FUTURE) gives to new areas.
    pub fn future_flags(&self) -> VmaFlags {
        VmaFlags::from_bits_truncate(self.future_lock.load(Ordering::Relaxed))
    }
}

/// `len` rounded up to pages; EINVAL for 0, ENOMEM when it wraps.
pub fn page_len(len: u64) -> Result<u64> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let rounded = len.checked_add(PAGE - 1).ok_or(Errno::ENOMEM)? & !(PAGE - 1);
    Ok(rounded)
}
