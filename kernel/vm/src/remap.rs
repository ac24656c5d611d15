//! mremap(2).

use crate::map::{MAX_AREAS, MIN_ADDR, Place};
use crate::mm::Mm;
use crate::table;
use crate::vma::{Backing, Vma, VmaFlags};
use crate::{HUGE, PAGE, tlb};
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};
use hal::paging::Pte;
use hal::user::USER_END;

/// What mremap(2) may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remap {
    pub may_move: bool,
    /// MREMAP_FIXED.
    pub to: Option<u64>,
    /// The address that was given without it: with MREMAP_DONTUNMAP a wish.
    pub hint: u64,
    /// MREMAP_DONTUNMAP.
    pub keep_old: bool,
}

impl Mm {
    /// mremap(2): the new address. `old_len` 0 duplicates a shared mapping. What is refused first,
    /// and what has been unmapped by then, is as on Linux.
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, how: Remap) -> Result<u64> {
        // Lengths that wrap become zero, as everywhere.
        let up = |len: u64, align: u64| len.wrapping_add(align - 1) & !(align - 1);
        if how.to.is_some() && !how.may_move
            || how.keep_old && (!how.may_move || old_len != new_len)
            || !old.is_multiple_of(PAGE)
        {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) = (up(old_len, PAGE), up(new_len, PAGE));
        if new_len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut vmas = self.vmas.write();
        let huge = vmas.find(old).ok_or(Errno::EFAULT)?.is_huge();
        let align = if huge { HUGE } else { PAGE };
        let (old_len, new_len) = (up(old_len, align), up(new_len, align));
        // Reservations do not grow. The address is looked at even where it does not count.
        if huge
            && (!old.is_multiple_of(align) || !how.hint.is_multiple_of(align) || new_len > old_len)
        {
            return Err(Errno::EINVAL);
        }
        if how.to.is_some() || how.keep_old {
            let to = how.to.unwrap_or(how.hint);
            // Lengths that wrap are seen as Linux sees them: as apart from everything above.
            let apart = old.wrapping_add(old_len) <= to || to.wrapping_add(new_len) <= old;
            if !to.is_multiple_of(PAGE) || new_len > USER_END || to > USER_END - new_len || !apart {
                return Err(Errno::EINVAL);
            }
        }
        // A move takes up to four areas more for a while: refused before anything is unmapped.
        if (how.to.is_some() || how.keep_old) && vmas.len() + 2 >= MAX_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        if let Some(to) = how.to {
            if to < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            // The place is cleared before the old range is looked at.
            self.unmap_locked(&mut vmas, to, to + new_len)?;
        }
        // Shrinking may cross areas; anything else stays within one.
        let old_len = if new_len < old_len && (how.to.is_some() || !how.keep_old) {
            // Where what is cut off begins may wrap, as on Linux: what lies there goes.
            let tail = old.wrapping_add(new_len);
            let end = tail.checked_add(old_len - new_len).filter(|end| *end <= USER_END);
            self.unmap_locked(&mut vmas, tail, end.ok_or(Errno::EINVAL)?)?;
            new_len
        } else {
            old_len
        };
        if how.to.is_none() && !how.keep_old && old_len == new_len {
            return Ok(old);
        }
        let vma = vmas.find(old).ok_or(Errno::EFAULT)?;
        if old_len == 0 && !vma.shared() {
            return Err(Errno::EINVAL);
        }
        let old_end = old + old_len.min(USER_END);
        if old_end > vma.end {
            return Err(Errno::EFAULT);
        }
        if (vma.special() || huge) && how.keep_old {
            return Err(Errno::EINVAL);
        }
        if vma.special() && new_len > old_len {
            return Err(Errno::EFAULT);
        }
        let locked = vma.flags.contains(VmaFlags::LOCKED);
        let fills = locked && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT);
        let grown = new_len - old_len;
        let more = if how.keep_old { new_len } else { grown };
        if locked && grown > 0 && !self.may_lock_more(grown) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(vma.flags, more) {
            return Err(Errno::ENOMEM);
        }
        // A promise moves with what moves; only what is new must be asked for.
        let mut promise = self.promise(vma.flags, more)?;
        // Growing in place: at the end of the area, with room behind it.
        if how.to.is_none()
            && !how.keep_old
            && old_len > 0
            && old_end == vma.end
            && let Some(new_end) = old_end.checked_add(grown).filter(|end| *end <= USER_END)
            && vmas.is_free(old_end, new_end)
        {
            let (start, flags) = (vma.start, vma.flags);
            vmas.grow_up(start, new_end);
            vmas.merge_up(start);
            self.count_area(flags, (grown / PAGE) as i64);
            promise.keep();
            self.note_peak();
            drop(vmas);
            if fills {
                let _ = self.populate(old_end, new_end, None);
            }
            return Ok(old);
        }
        if !how.may_move {
            return Err(Errno::ENOMEM);
        }
        if vmas.len() >= MAX_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        if vma.special() && (vma.start, vma.end) != (old, old_end) {
            return Err(Errno::EINVAL);
        }
        let moved_len = old_len;
        let to = match how.to {
            Some(to) => to,
            None if how.keep_old => {
                self.find_place(&vmas, Place::Hint(how.hint), new_len, align)?
            }
            None if vma.object().is_none() => {
                self.find_anon_place(&vmas, Place::Hint(0), new_len)?
            }
            None => self.find_place(&vmas, Place::Hint(0), new_len, align)?,
        };
        let vma = vmas.find(old).ok_or(Errno::EFAULT)?;
        vmas.ready()?;
        let mut moved: Vma = vma.clone();
        // Page indices go with the pages, so that policy and reverse map stay true; private memory
        // without pages begins anew at its new address, as on Linux.
        moved.pgoff = match vma.backing {
            Backing::Anon if vma.group() == 0 => to / PAGE,
            _ => vma.index(old),
        };
        moved.start = to;
        moved.end = to + new_len;
        if moved.flags.contains(VmaFlags::ACCOUNTED) && !how.keep_old {
            promise.take_over(moved_len / PAGE);
        }
        promise.keep();
        self.add_area(&mut vmas, moved);
        if moved_len > 0 {
            let ready = self.split_to_remap(old, to, moved_len);
            if let Err(error) = ready.and_then(|()| self.move_entries(old, to, moved_len)) {
                // Pages go back to where their tables are.
                let _ = self.move_entries(to, old, moved_len);
                self.unmap_surely(&mut vmas, to, to + new_len);
                return Err(error);
            }
            if how.keep_old {
                // The old range stays mapped, empty; a whole area is fresh memory from here on. All
                // of the area that it lies in is locked no more, as on Linux.
                if let Some(left) = vmas.find_mut(old) {
                    if left.flags.contains(VmaFlags::LOCKED) {
                        self.locked.fetch_sub(left.pages() as i64, Ordering::Relaxed);
                    }
                    left.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
                }
                if let Some(left) = vmas.exactly(old, old + moved_len) {
                    left.anon = AtomicU64::new(0);
                    left.inherited = false;
                }
            } else {
                if huge {
                    // What is reserved has moved, too.
                    self.split_counted(&mut vmas, old);
                    self.split_counted(&mut vmas, old + moved_len);
                    if let Some(left) = vmas.exactly(old, old + moved_len) {
                        left.hugetlb = None;
                    }
                }
                self.unmap_surely(&mut vmas, old, old + moved_len);
            }
        }
        drop(vmas);
        if fills {
            let _ = self.populate(to + moved_len, to + new_len, None);
        }
        Ok(to)
    }

    /// Moves the entries of `len` bytes from `from` to `to`. The tree is write-locked.
    fn move_entries(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let mut outcome = Ok(());
        // Only where there are tables.
        table::for_each(self.root(), from, from + len, |at, slot| {
            if slot.load().0 == 0 {
                return true;
            }
            let there = to + (at - from);
            let target = match table::is_huge(slot.load()) {
                true => self.huge_slot(there),
                false => self.slot(there),
            };
            match target {
                Ok(target) => {
                    let pte = {
                        let _lock = self.pt_lock(at);
                        slot.swap(Pte::EMPTY)
                    };
                    let _lock = self.pt_lock(there);
                    target.store(pte);
                }
                Err(error) => outcome = Err(error),
            }
            outcome.is_ok()
        });
        tlb::shootdown(self, from, from + len, false);
        outcome
    }
}
