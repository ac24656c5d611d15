//! mprotect(2), and mlock(2) with its family.

use crate::fault::entry_bits;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::tree::VmaTree;
use crate::vma::{Vma, VmaFlags};
use crate::{PAGE, commit, tlb};
use abi::flags::Prot;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use frames::fallible::TryVec;
use frames::meta::flag;
use frames::{Kind, compound, frame};
use hal::paging::Pte;

/// The flags of `vma` with other rights. Memory that becomes writable for the first time is
/// promised from then on; a promise is taken back while no page is there.
fn protected(vma: &Vma, rights: VmaFlags) -> VmaFlags {
    let rest = vma.flags - VmaFlags::from_prot(Prot::all());
    let empty = vma.object().is_none() && vma.group() == 0;
    if rights.contains(VmaFlags::WRITE) {
        let known = vma.flags.contains(VmaFlags::WRITE);
        let promise = if known { VmaFlags::empty() } else { (rest | rights).account() };
        rest | rights | promise
    } else if empty {
        (rest - VmaFlags::ACCOUNTED) | rights
    } else {
        rest | rights
    }
}

impl Mm {
    /// mprotect(2) for the page-aligned range `[start, end)`.
    pub fn protect(&self, start: u64, end: u64, prot: Prot) -> Result<()> {
        let mut fill = alloc::vec::Vec::new();
        let outcome = self.protect_areas(start, end, prot, &mut fill);
        // Locked memory is there: what became writable gets pages of its own at once.
        for (from, to) in fill {
            let _ = self.populate(from, to, Some(true));
        }
        outcome
    }

    /// The areas' part of it; private locked memory that became writable goes to `fill`.
    fn protect_areas(
        &self,
        start: u64,
        end: u64,
        prot: Prot,
        fill: &mut alloc::vec::Vec<(u64, u64)>,
    ) -> Result<()> {
        let mut vmas = self.vmas.write();
        let mut start = start;
        if prot.contains(Prot::GROWSDOWN) {
            let vma = vmas.first_above(start).filter(|v| v.start < end).ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmaFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
            start = vma.start;
        }
        if prot.contains(Prot::GROWSUP) {
            // No area grows up on this machine.
            vmas.find(start).ok_or(Errno::ENOMEM)?;
            return Err(Errno::EINVAL);
        }
        let new = VmaFlags::from_prot(prot);
        let rights = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC;
        // Linux changes area by area and stops at the first hole or refusal.
        let mut at = start;
        while at < end {
            let Some(vma) = vmas.find(at) else {
                return Err(Errno::ENOMEM);
            };
            if new.contains(VmaFlags::EXEC) && vma.flags.contains(VmaFlags::NEVER_EXEC)
                || new.contains(VmaFlags::WRITE) && !vma.flags.contains(VmaFlags::MAY_WRITE)
            {
                return Err(Errno::EACCES);
            }
            let stop = vma.end.min(end);
            let kind = VmaFlags::WRITE | VmaFlags::SHARED | VmaFlags::LOCKED;
            if vma.flags & kind == VmaFlags::LOCKED
                && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT)
                && new.contains(VmaFlags::WRITE)
            {
                fill.try_push((at, stop))?;
            }
            if vma.flags & rights != new {
                let (was, len) = (vma.flags, stop - at);
                let will = protected(vma, new);
                // The limits are asked, and the count moves, when memory turns into data.
                let turns = was.is_data() != will.is_data();
                let within = |flags| !turns || self.may_expand(flags, len);
                if new.contains(VmaFlags::WRITE) && !within(will) && within(was) {
                    return Err(Errno::ENOMEM);
                }
                let promised = |flags: VmaFlags| flags.contains(VmaFlags::ACCOUNTED);
                let promise = self.promise(will - was, len)?;
                self.update_areas(&mut vmas, at, stop, |v| {
                    v.flags = protected(v, new);
                    Ok(())
                })?;
                promise.keep();
                if promised(was) && !promised(will) {
                    commit::give_back(len / PAGE);
                }
                if turns {
                    let pages = (len / PAGE) as i64;
                    let more = if will.is_data() { pages } else { -pages };
                    self.data.fetch_add(more, Ordering::Relaxed);
                }
                if let Some(vma) = vmas.find(at) {
                    self.change_entries(vma, at, stop);
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// Rewrites the entries of `[start, end)`, inside `vma`, for its present rights.
    fn change_entries(&self, vma: &Vma, start: u64, end: u64) {
        let bits = entry_bits(vma);
        let shared_write = vma.shared() && vma.flags.contains(VmaFlags::WRITE);
        let mut changed = false;
        let mut at = table::next_table(self.root(), start, end);
        while at < end {
            let stop = end.min((at & !((1 << 21) - 1)) + (1 << 21));
            let _lock = self.pt_lock(at);
            let next = table::for_each_in_turns(self.root(), at, stop, |_, slot| {
                let old = slot.load();
                match table::state(old) {
                    State::Page(pfn) => {
                        // The hardware may note a write between our load and store: swap, and
                        // keep what it noted.
                        let was = slot.swap(Pte::EMPTY);
                        let noted = was.0 & (Pte::ACCESSED | Pte::DIRTY | Pte::LARGE);
                        let mut new = Pte::new(pfn, bits | noted);
                        // Private pages become writable at the fault, unless they are surely ours.
                        let alone = match table::is_huge(old) {
                            false => frame(pfn).kind() == Kind::Anon && frame(pfn).refs() == 1,
                            true => compound::is_alone(pfn),
                        };
                        let ours = alone && !frame(pfn).has(flag::FORKED);
                        let writes = vma.flags.contains(VmaFlags::WRITE);
                        if new.present() && (shared_write || writes && ours && was.has(Pte::DIRTY))
                        {
                            new = new.with(Pte::WRITABLE);
                        }
                        slot.store(new);
                        changed |= old.present();
                    }
                    State::Special(pfn) => {
                        slot.store(Pte::new(pfn, bits | table::SPECIAL | old.0 & Pte::LARGE));
                        changed |= old.present();
                    }
                    State::Empty | State::Migrating(_) => {}
                }
                true
            });
            at = table::next_table(self.root(), next, end);
        }
        if changed {
            tlb::shootdown(self, start, end, false);
        }
    }

    /// mlock(2), mlock2(2): `flags` is LOCKED, with LOCK_ON_FAULT if wanted; empty is munlock(2).
    /// ENOMEM for a hole or beyond the limit (of whoever is not `privileged`).
    pub fn set_locked(
        &self,
        start: u64,
        end: u64,
        flags: VmaFlags,
        privileged: bool,
    ) -> Result<()> {
        let lock_bits = VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
        {
            let mut vmas = self.vmas.write();
            if flags.contains(VmaFlags::LOCKED) && !privileged {
                let limit = self.limits.locked.load(Ordering::Relaxed);
                if limit == 0 {
                    return Err(Errno::EPERM);
                }
                let already = locked_in(&vmas, start, end);
                let total = self.locked.load(Ordering::Relaxed) as u64 * PAGE;
                if (total + (end - start)).saturating_sub(already) > limit {
                    return Err(Errno::ENOMEM);
                }
            }
            // As far as memory goes on without a hole; nothing without a beginning.
            let mut stop = start;
            while stop < end
                && let Some(vma) = vmas.find(stop)
            {
                stop = vma.end;
            }
            let before = locked_in(&vmas, start, end);
            let done = self.update_areas(&mut vmas, start, stop.min(end), |v| {
                if v.flags.intersects(VmaFlags::SPECIAL | VmaFlags::HUGETLB) {
                    return Ok(());
                }
                v.flags = (v.flags - lock_bits) | flags;
                Ok(())
            });
            // As they are: an error may come with an area that has stayed what it was, or before it.
            let delta = locked_in(&vmas, start, end) as i64 - before as i64;
            self.locked.fetch_add(delta / PAGE as i64, Ordering::Relaxed);
            done?;
            if stop < end {
                return Err(Errno::ENOMEM);
            }
        }
        if flags.contains(VmaFlags::LOCKED) {
            // Huge pages are not locked, so that they are not locked on fault either, as on Linux.
            let only_huge = flags.contains(VmaFlags::LOCK_ON_FAULT);
            self.populate_present(start, end, only_huge)?;
        }
        Ok(())
    }

    /// Makes locked areas of the range present: ENOMEM for one without access or beyond its
    /// object's end, EAGAIN when memory is short (mlock(2)'s errnos for EFAULT and ENOMEM).
    fn populate_present(&self, start: u64, end: u64, only_huge: bool) -> Result<()> {
        let mut at = start;
        while at < end {
            let (from, stop) = {
                let vmas = self.vmas.read();
                let Some(vma) = vmas.first_above(at).filter(|v| v.start < end) else { break };
                let any = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC;
                let stop = vma.end.min(end);
                if vma.special() || only_huge && !vma.is_huge() {
                    at = stop;
                    continue;
                }
                if !vma.flags.intersects(any) {
                    return Err(Errno::ENOMEM);
                }
                (vma.start.max(at), stop)
            };
            match self.populate(from, stop, None) {
                Ok(()) => {}
                Err(crate::fault::FaultError::NoMemory) => return Err(Errno::EAGAIN),
                Err(_) => return Err(Errno::ENOMEM),
            }
            at = stop;
        }
        Ok(())
    }
}

/// Counts the bytes of `[start, end)` that are locked.
fn locked_in(vmas: &VmaTree, start: u64, end: u64) -> u64 {
    vmas.range(start, end)
        .filter(|v| v.flags.contains(VmaFlags::LOCKED))
        .map(|v| v.end.min(end) - v.start.max(start))
        .sum()
}
