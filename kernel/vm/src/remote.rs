//! Reading and writing an address space from outside: /proc/PID/mem, process_vm_readv(2), ptrace(2).
//!
//! Pages are made present as a fault of the owner would make them, and then reached through the
//! direct map: the caller's own address space is not touched. `force` goes beyond the areas'
//! rights, as a debugger may: private pages are copied before they are written, shared ones that
//! may not be written are left alone.

use crate::PAGE;
use crate::fault::{Access, FaultError};
use crate::hold::{Mapped, hold_own};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::transparent::is_zero;
use crate::vma::{Vma, VmaFlags};
use frames::meta::flag;
use frames::{Kind, Page, compound, frame};
use hal::Pfn;
use hal::paging::Pte;
use sync::SpinGuard;

/// What to copy from: a page that is held, or a frame that never goes away.
enum Held<'a> {
    /// A frame, and the page that it is a part of.
    Part {
        pfn: Pfn,
        _page: Page,
    },
    /// A frame of a transparent huge page, which its entry keeps while that cannot change.
    Locked {
        pfn: Pfn,
        _lock: SpinGuard<'a, ()>,
    },
    Fixed(Pfn),
}

impl Held<'_> {
    fn pfn(&self) -> Pfn {
        match self {
            Self::Part { pfn, .. } | Self::Locked { pfn, .. } | Self::Fixed(pfn) => *pfn,
        }
    }

    /// False for a frame that has no page (vvar): nobody looks at it from outside.
    fn is_page(&self) -> bool {
        !matches!(self, Self::Fixed(pfn) if !is_zero(*pfn))
    }
}

impl Mm {
    /// Copies from `addr` on into `buf`; bytes copied: less at the first page that cannot be had.
    pub fn read_remote(&self, addr: u64, buf: &mut [u8], force: bool) -> usize {
        self.each_page(addr, buf.len(), |mm, at, done, len| {
            let held = mm.hold(at, force)?;
            let offset = (at % PAGE) as usize;
            buf[done..done + len]
                .copy_from_slice(&hal::phys::bytes(held.pfn())[offset..offset + len]);
            Some(())
        })
    }

    /// Copies `data` to `addr` and on; bytes copied.
    pub fn write_remote(&self, addr: u64, data: &[u8], force: bool) -> usize {
        self.each_page(addr, data.len(), |mm, at, done, len| {
            mm.write_within_page(at, &data[done..done + len], force)
        })
    }

    fn each_page(
        &self,
        addr: u64,
        len: usize,
        mut f: impl FnMut(&Self, u64, usize, usize) -> Option<()>,
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(at) = addr.checked_add(done as u64).filter(|&at| at < hal::user::USER_END)
            else {
                break;
            };
            let step = ((PAGE - at % PAGE) as usize).min(len - done);
            if f(self, at, done, step).is_none() {
                break;
            }
            done += step;
        }
        done
    }

    /// The page that is mapped at `addr` now.
    fn mapped(&self, addr: u64) -> Option<Held<'_>> {
        // No table goes away meanwhile.
        let _vmas = self.vmas.read();
        let _lock = self.pt_lock(addr);
        let (_, pte) = table::find(self.root(), addr)?;
        match table::state(pte) {
            State::Page(pfn) => {
                let part = table::part(pte, addr);
                if table::is_huge(pte) && frame(pfn).kind() != Kind::HugeTlb {
                    return Some(Held::Locked { pfn: part, _lock });
                }
                Page::try_from_pfn(pfn).map(|_page| Held::Part { pfn: part, _page })
            }
            // All of the huge page of zeroes is as its head.
            State::Special(pfn) => Some(Held::Fixed(pfn)),
            State::Empty | State::Migrating(_) => None,
        }
    }

    fn hold(&self, addr: u64, force: bool) -> Option<Held<'_>> {
        loop {
            match self.fault(addr, Access { write: false, exec: false }) {
                Ok(()) => {}
                // Kept from the program itself, but there.
                Err(FaultError::NoAccess) if force => {
                    return self.mapped(addr).filter(Held::is_page);
                }
                Err(_) => return None,
            }
            // Gone again (unmapped, or moving): the next fault says which.
            if let Some(held) = self.mapped(addr) {
                return Some(held).filter(Held::is_page);
            }
        }
    }

    /// Writes `data`, which ends within the page of `addr`, as the program's own store would.
    ///
    /// The page is made ready, and then looked at anew with the area tree locked against unmapping,
    /// other rights and fork until the bytes are there. Whatever came between (MADV_DONTNEED and a
    /// read bring a file's page back) is seen under the page table's lock: see [`hold_own`].
    fn write_within_page(&self, addr: u64, data: &[u8], force: bool) -> Option<()> {
        loop {
            let forced = match self.fault(addr, Access { write: true, exec: false }) {
                Ok(()) => false,
                Err(FaultError::NoAccess) if force => true,
                Err(_) => return None,
            };
            let vmas = self.vmas.read();
            let Some(vma) = vmas.find(addr) else { continue };
            if vma.flags.contains(VmaFlags::PFN_MAP) {
                return None;
            }
            if !vma.flags.contains(VmaFlags::WRITE) {
                if !forced {
                    continue;
                }
                if vma.shared() {
                    return None;
                }
                self.break_sharing(&vmas, vma, addr & !(PAGE - 1)).ok()?;
            }
            if let Some(held) = self.hold_own(vma, addr) {
                let offset = (addr % PAGE) as usize;
                let bytes = hal::phys::bytes_mut(held.pfn());
                bytes[offset..offset + data.len()].copy_from_slice(data);
                // An entry through which a transparent huge page may be written is dirty itself.
                if let Held::Part { _page: page, .. } = held {
                    page.frame().set(flag::DIRTY);
                }
                return Some(());
            }
        }
    }

    /// Takes hold of the page at `addr` if a store through `vma` may go to it. The area tree is
    /// read-locked.
    fn hold_own(&self, vma: &Vma, addr: u64) -> Option<Held<'_>> {
        let _lock = self.pt_lock(addr);
        let (_, pte) = table::find(self.root(), addr)?;
        let State::Page(head) = table::state(pte) else { return None };
        let pfn = table::part(pte, addr);
        Some(match hold_own(vma.shared(), &Leaf { pte, pfn: head })? {
            Some(_page) => Held::Part { pfn, _page },
            None => Held::Locked { pfn, _lock },
        })
    }
}

/// An entry that maps a page, under its lock.
struct Leaf {
    pte: Pte,
    pfn: Pfn,
}

impl Leaf {
    fn is_transparent(&self) -> bool {
        table::is_huge(self.pte) && frame(self.pfn).kind() != Kind::HugeTlb
    }
}

impl Mapped for Leaf {
    /// None for a transparent huge page, which only its entry may hold: the lock is kept instead.
    type Page = Option<Page>;
    fn is_anonymous(&self) -> bool {
        frame(self.pfn).is_private()
    }
    fn is_writable(&self) -> bool {
        self.pte.has(Pte::WRITABLE)
    }
    fn is_alone(&self) -> bool {
        if self.is_transparent() {
            return self.pte.has(Pte::DIRTY) && compound::is_alone(self.pfn);
        }
        frame(self.pfn).refs() == 1
    }
    fn hold(&self) -> Option<Option<Page>> {
        if self.is_transparent() { Some(None) } else { Page::try_from_pfn(self.pfn).map(Some) }
    }
}
