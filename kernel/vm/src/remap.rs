//! mremap(2).

use crate::map::{MIN_ADDR, page_len};
use crate::mm::Mm;
use crate::table;
use crate::vma::{Backing, Vma, VmaFlags};
use crate::{PAGE, tlb};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::paging::Pte;
use hal::user::USER_END;

/// What mremap(2) may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remap {
    pub may_move: bool,
    /// MREMAP_FIXED.
    pub to: Option<u64>,
    /// MREMAP_DONTUNMAP.
    pub keep_old: bool,
}

impl Mm {
    /// mremap(2): the new address. `old_len` 0 duplicates a shared mapping.
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, how: Remap) -> Result<u64> {
        if !old.is_multiple_of(PAGE)
            || how.to.is_some() && !how.may_move
            || how.keep_old && !how.may_move
        {
            return Err(Errno::EINVAL);
        }
        let new_len = page_len(new_len).map_err(|_| Errno::EINVAL)?;
        let old_len =
            if old_len == 0 { 0 } else { page_len(old_len).map_err(|_| Errno::EINVAL)? };
        if how.keep_old && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        if let Some(to) = how.to
            && (to % PAGE != 0
                || new_len > USER_END
                || to > USER_END - new_len
                || to < old.saturating_add(old_len) && old < to + new_len)
        {
            return Err(Errno::EINVAL);
        }
        let mut vmas = self.vmas.write();
        let vma = vmas.find(old).ok_or(Errno::EFAULT)?;
        if old_len == 0 && !vma.shared() {
            return Err(Errno::EINVAL);
        }
        if how.keep_old && (vma.shared() || vma.object().is_some()) {
            return Err(Errno::EINVAL);
        }
        let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
        // Shrinking in place may cross areas; anything else stays within one.
        if how.to.is_none() && new_len <= old_len && old_len > 0 && !how.keep_old {
            if new_len < old_len {
                self.unmap_locked(&mut vmas, old + new_len, old_end)?;
            }
            return Ok(old);
        }
        if old_end > vma.end {
            return Err(Errno::EFAULT);
        }
        if vma.flags.contains(VmaFlags::SPECIAL) && new_len > old_len {
            return Err(Errno::EFAULT);
        }
        let locked = vma.flags.contains(VmaFlags::LOCKED);
        let grown = new_len.saturating_sub(old_len);
        let total = self.total.load(Ordering::Relaxed) as u64 * PAGE;
        if total.saturating_add(grown) > self.limits.address_space.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        // Growing in place: at the end of the area, with room behind it.
        if how.to.is_none()
            && !how.keep_old
            && old_len > 0
            && old_end == vma.end
            && old_end + grown <= USER_END
            && vmas.is_free(old_end, old_end + grown)
        {
            let start = vma.start;
            vmas.grow_up(start, old_end + grown);
            vmas.merge(start, old_end + grown);
            self.total.fetch_add((grown / PAGE) as i64, Ordering::Relaxed);
            if locked {
                self.locked.fetch_add((grown / PAGE) as i64, Ordering::Relaxed);
            }
            self.note_peak();
            drop(vmas);
            if locked {
                let _ = self.populate(old_end, old_end + grown, None);
            }
            return Ok(old);
        }
        if !how.may_move {
            return Err(Errno::ENOMEM);
        }
        let moved_len = old_len.min(new_len);
        let to = match how.to {
            Some(to) if to < MIN_ADDR => return Err(Errno::EPERM),
            Some(to) => {
                self.unmap_locked(&mut vmas, to, to + new_len)?;
                if new_len < old_len {
                    self.unmap_locked(&mut vmas, old + new_len, old_end)?;
                }
                to
            }
            None => self.place_for(&vmas, new_len)?,
        };
        let vma = vmas.find(old).ok_or(Errno::EFAULT)?;
        let mut moved: Vma = vma.clone();
        // Page indices go with the pages, so that policy and reverse map stay true; private memory
        // without pages begins anew at its new address, as on Linux.
        moved.pgoff = match vma.backing {
            Backing::Anon if !vma.has_anon.load(Ordering::Relaxed) => to / PAGE,
            _ => vma.index(old),
        };
        moved.start = to;
        moved.end = to + new_len;
        self.add_area(&mut vmas, moved);
        if moved_len > 0 {
            self.move_entries(old, to, moved_len)?;
            if how.keep_old {
                // The old range stays mapped, empty; it is fresh memory from here on.
            } else {
                self.unmap_locked(&mut vmas, old, old + moved_len)?;
            }
        }
        drop(vmas);
        if locked {
            let _ = self.populate(to + moved_len, to + new_len, None);
        }
        Ok(to)
    }

    fn place_for(&self, vmas: &crate::VmaTree, len: u64) -> Result<u64> {
        let base = self.layout.lock().mmap_base;
        vmas.gap_below(len, MIN_ADDR, base)
            .or_else(|| vmas.gap_above(len, base.min(USER_END), USER_END))
            .ok_or(Errno::ENOMEM)
    }

    /// Moves the entries of `len` bytes from `from` to `to`. The tree is write-locked.
    fn move_entries(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let mut at = 0;
        while at < len {
            if let Some(slot) = table::lookup(self.root(), from + at)
                && slot.load().0 != 0
            {
                let target = self.slot(to + at)?;
                let pte = {
                    let _lock = self.pt_lock(from + at);
                    slot.swap(Pte::EMPTY)
                };
                let _lock = self.pt_lock(to + at);
                target.store(pte);
            }
            at += PAGE;
        }
        tlb::shootdown(self, from, from + len, false);
        Ok(())
    }
}
