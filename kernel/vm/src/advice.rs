//! madvise(2), mincore(2), msync(2).

use crate::fault::FaultError;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use crate::{HUGE, PAGE};
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::fallible::{TryVec, filled};
use frames::meta::flag;
use frames::{Kind, compound, frame};
use hal::paging::Pte;

/// What madvise(2) is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Normal,
    Random,
    Sequential,
    WillNeed,
    DontNeed,
    /// As DontNeed, for locked memory too.
    DontNeedLocked,
    Free,
    Remove,
    DontFork,
    DoFork,
    HugePage,
    NoHugePage,
    DontDump,
    DoDump,
    WipeOnFork,
    KeepOnFork,
    Cold,
    PageOut,
    PopulateRead,
    PopulateWrite,
    Collapse,
}

impl Advice {
    /// From the number; EINVAL for those that Linux does not have here.
    pub fn from_number(n: i32) -> Result<Self> {
        Ok(match n {
            0 => Self::Normal,
            1 => Self::Random,
            2 => Self::Sequential,
            3 => Self::WillNeed,
            4 => Self::DontNeed,
            8 => Self::Free,
            9 => Self::Remove,
            10 => Self::DontFork,
            11 => Self::DoFork,
            14 => Self::HugePage,
            15 => Self::NoHugePage,
            16 => Self::DontDump,
            17 => Self::DoDump,
            18 => Self::WipeOnFork,
            19 => Self::KeepOnFork,
            20 => Self::Cold,
            21 => Self::PageOut,
            22 => Self::PopulateRead,
            23 => Self::PopulateWrite,
            24 => Self::DontNeedLocked,
            25 => Self::Collapse,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// What an area does not let be done to its pages.
fn refuse(vma: &Vma, start: u64, advice: Advice) -> Result<()> {
    if vma.is_huge() {
        return match advice {
            Advice::DontNeed | Advice::DontNeedLocked if start.is_multiple_of(HUGE) => Ok(()),
            Advice::Remove if !vma.shared() || !vma.flags.contains(VmaFlags::MAY_WRITE) => {
                Err(Errno::EACCES)
            }
            Advice::Remove | Advice::WillNeed => Ok(()),
            _ => Err(Errno::EINVAL),
        };
    }
    let locked = vma.flags.contains(VmaFlags::LOCKED);
    let frames = vma.flags.contains(VmaFlags::PFN_MAP);
    let writable = vma.shared() && vma.flags.contains(VmaFlags::MAY_WRITE);
    match advice {
        Advice::DontNeed | Advice::Cold | Advice::PageOut if locked || frames => Err(Errno::EINVAL),
        Advice::DontNeedLocked if frames => Err(Errno::EINVAL),
        Advice::Free if vma.object().is_some() || vma.shared() => Err(Errno::EINVAL),
        Advice::Remove if locked || vma.policy_object().is_none() => Err(Errno::EINVAL),
        Advice::Remove if !writable => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

impl Mm {
    /// madvise(2) over the page-aligned `[start, end)`. Holes are ENOMEM, after what is mapped was
    /// served.
    pub fn advise(&self, start: u64, end: u64, advice: Advice) -> Result<()> {
        use Advice as A;
        match advice {
            A::PopulateRead | A::PopulateWrite => {
                let write = advice == A::PopulateWrite;
                // What lies before a hole is made present, as on Linux.
                return self.populate(start, end, Some(write)).map_err(|e| match e {
                    FaultError::NoAccess => Errno::EINVAL,
                    FaultError::NoMemory => Errno::ENOMEM,
                    FaultError::BeyondEnd => Errno::EFAULT,
                    FaultError::NoArea => Errno::ENOMEM,
                });
            }
            A::Collapse => return self.collapse_range(start, end),
            A::DontNeed
            | A::DontNeedLocked
            | A::Free
            | A::Remove
            | A::WillNeed
            | A::Cold
            | A::PageOut => loop {
                match self.advise_pages(start, end, advice) {
                    // A huge page that is to be split is under migration, which holds the tree.
                    Err(Errno::EAGAIN) => drop(self.vmas.write()),
                    outcome => return outcome,
                }
            },
            _ => {}
        }
        if advice == A::HugePage {
            self.offer_to_khugepaged();
        }
        let mut vmas = self.vmas.write();
        let covered = vmas.covers(start, end);
        // Areas without end are a want of resources here: madvise(2).
        let too_many = |error| if error == Errno::ENOMEM { Errno::EAGAIN } else { error };
        self.update_areas(&mut vmas, start, end, |v| change_flags(v, advice)).map_err(too_many)?;
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    fn advise_pages(&self, start: u64, end: u64, advice: Advice) -> Result<()> {
        // Objects are punched with the tree unlocked: that takes the same lock for reading.
        let mut punch = Vec::new();
        let mut refused = None;
        let covered = {
            let vmas = self.vmas.read();
            for vma in vmas.range(start, end) {
                let (from, to) = (vma.start.max(start), vma.end.min(end));
                // What lies before a refusal is done, as on Linux.
                if let Err(error) = refuse(vma, from, advice) {
                    refused = Some(error);
                    break;
                }
                match (advice, vma.object()) {
                    // Whole pages only.
                    (Advice::DontNeed | Advice::DontNeedLocked, _) if vma.is_huge() => {
                        self.zap_huge(vma, from, to & !(HUGE - 1));
                    }
                    (Advice::DontNeed | Advice::DontNeedLocked, _) => {
                        self.split_across(from)?;
                        self.split_across(to)?;
                        self.zap(from, to);
                    }
                    (Advice::Free | Advice::Cold | Advice::PageOut, _) => {
                        // Of a huge page that others share nothing is said.
                        for at in [from, to].into_iter().filter(|at| !at.is_multiple_of(HUGE)) {
                            if self.has_huge_alone(at) {
                                self.split_and_trim(at)?;
                            }
                        }
                        if advice == Advice::Free {
                            self.mark_lazy(from, to);
                        }
                    }
                    (Advice::Remove, Some(object)) => {
                        punch.try_push((object.clone(), vma.index(from) * PAGE, to - from))?;
                    }
                    // All memory is resident already: nothing to read ahead or to write out.
                    _ => {}
                }
            }
            vmas.covers(start, end)
        };
        for (object, off, len) in punch {
            object.punch_hole(off, len)?;
        }
        match refused {
            Some(error) => Err(error),
            None if covered => Ok(()),
            None => Err(Errno::ENOMEM),
        }
    }

    /// MADV_FREE: private pages lose their dirty mark; a later write takes them back.
    fn mark_lazy(&self, start: u64, end: u64) {
        let mut changed = false;
        let mut at = table::next_table(self.root(), start, end);
        while at < end {
            let stop = end.min((at & !((1 << 21) - 1)) + (1 << 21));
            let _lock = self.pt_lock(at);
            let next = table::for_each_in_turns(self.root(), at, stop, |_, slot| {
                let pte = slot.load();
                if let State::Page(pfn) = table::state(pte)
                    && pte.present()
                    && match frame(pfn).kind() {
                        Kind::Anon => frame(pfn).refs() == 1 && !table::is_huge(pte),
                        Kind::AnonHuge => compound::is_alone(pfn),
                        _ => false,
                    }
                {
                    frame(pfn).set(flag::LAZY_FREE);
                    slot.store(pte.without(Pte::DIRTY));
                    changed = true;
                }
                true
            });
            at = table::next_table(self.root(), next, end);
        }
        if changed {
            crate::tlb::shootdown(self, start, end, false);
        }
    }

    /// mincore(2): one byte a page of `[start, end)`, bit 0 set when it is resident. ENOMEM when
    /// part of it is not mapped.
    pub fn resident(&self, start: u64, end: u64) -> Result<Vec<u8>> {
        let vmas = self.vmas.read();
        if !vmas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let mut out = filled(0u8, ((end - start) / PAGE) as usize)?;
        for vma in vmas.range(start, end) {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            let mut at = from;
            while at < to {
                // What no file is behind is there, whoever has looked.
                let mapped = table::state_at(self.root(), at) != State::Empty;
                let cached = || {
                    let index = vma.index(at);
                    vma.object().is_some_and(|o| o.next_used(index, index + 1).is_some())
                };
                let there = vma.special() || mapped || !vma.is_huge() && cached();
                out[((at - start) / PAGE) as usize] = u8::from(there);
                at += PAGE;
            }
        }
        Ok(out)
    }

    /// msync(2): ENOMEM when part of the range is not mapped, EBUSY when locked memory is to be
    /// invalidated. Objects are memory: there is nothing behind them to write to.
    pub fn sync_range(&self, start: u64, end: u64, invalidate: bool) -> Result<()> {
        let vmas = self.vmas.read();
        if invalidate && vmas.range(start, end).any(|v| v.flags.contains(VmaFlags::LOCKED)) {
            return Err(Errno::EBUSY);
        }
        if vmas.covers(start, end) { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

fn change_flags(vma: &mut Vma, advice: Advice) -> Result<()> {
    use Advice as A;
    let special = vma.special();
    let frames = vma.flags.contains(VmaFlags::PFN_MAP);
    let reading = VmaFlags::RANDOM | VmaFlags::SEQUENTIAL;
    let huge = VmaFlags::HUGE | VmaFlags::NO_HUGE;
    vma.flags = match advice {
        A::Normal => vma.flags - reading,
        A::Random => (vma.flags - reading) | VmaFlags::RANDOM,
        A::Sequential => (vma.flags - reading) | VmaFlags::SEQUENTIAL,
        A::DontFork => vma.flags | VmaFlags::DONT_FORK,
        A::DoFork if frames => return Err(Errno::EINVAL),
        A::DoFork => vma.flags - VmaFlags::DONT_FORK,
        A::DontDump => vma.flags | VmaFlags::DONT_DUMP,
        A::DoDump if special => return Err(Errno::EINVAL),
        A::DoDump => vma.flags - VmaFlags::DONT_DUMP,
        A::WipeOnFork if vma.object().is_some() && !special || vma.shared() => {
            return Err(Errno::EINVAL);
        }
        A::WipeOnFork => vma.flags | VmaFlags::WIPE_ON_FORK,
        A::KeepOnFork => vma.flags - VmaFlags::WIPE_ON_FORK,
        A::HugePage => (vma.flags - huge) | VmaFlags::HUGE,
        A::NoHugePage => (vma.flags - huge) | VmaFlags::NO_HUGE,
        // Same-page merging changes nothing that a program can see.
        _ => vma.flags,
    };
    Ok(())
}
