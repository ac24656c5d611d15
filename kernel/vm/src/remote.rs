//! Reading and writing an address space from outside: /proc/PID/mem, process_vm_readv(2), ptrace(2).
//!
//! Pages are made present as a fault of the owner would make them, and then reached through the
//! direct map: the caller's own address space is not touched. `force` goes beyond the areas'
//! rights, as a debugger may: private pages are copied before they are written, shared ones that
//! may not be written are left alone.

use crate::PAGE;
use crate::fault::{Access, FaultError, zero_page};
use crate::hold::{Mapped, hold_own};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use frames::meta::flag;
use frames::{Page, frame};
use hal::Pfn;
use hal::paging::Pte;

/// What to copy from: a page that is held, or a frame that never goes away.
enum Held {
    /// A frame, and the page that it is a part of.
    Part {
        pfn: Pfn,
        _page: Page,
    },
    Fixed(Pfn),
}

impl Held {
    fn pfn(&self) -> Pfn {
        match self {
            Self::Part { pfn, .. } => *pfn,
            Self::Fixed(pfn) => *pfn,
        }
    }

    /// False for a frame that has no page (vvar): nobody looks at it from outside.
    fn is_page(&self) -> bool {
        !matches!(self, Self::Fixed(pfn) if *pfn != zero_page())
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
    fn mapped(&self, addr: u64) -> Option<Held> {
        let slot = table::lookup(self.root(), addr)?;
        let _lock = self.pt_lock(addr);
        match table::state(slot.load()) {
            State::Page(pfn) => {
                let part = table::part(pfn, addr);
                Page::try_from_pfn(pfn).map(|_page| Held::Part { pfn: part, _page })
            }
            State::Special(pfn) => Some(Held::Fixed(pfn)),
            State::Empty | State::Migrating(_) => None,
        }
    }

    fn hold(&self, addr: u64, force: bool) -> Option<Held> {
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
            if let Some(page) = self.hold_own(vma, addr) {
                let offset = addr & (page.frames() * PAGE - 1);
                page.bytes_at_mut(offset)[..data.len()].copy_from_slice(data);
                page.frame().set(flag::DIRTY);
                return Some(());
            }
        }
    }

    /// Takes hold of the page at `addr` if a store through `vma` may go to it. The area tree is
    /// read-locked.
    fn hold_own(&self, vma: &Vma, addr: u64) -> Option<Page> {
        let slot = table::lookup(self.root(), addr)?;
        let _lock = self.pt_lock(addr);
        let pte = slot.load();
        let State::Page(pfn) = table::state(pte) else { return None };
        hold_own(vma.shared(), &Leaf { pte, pfn })
    }
}

/// An entry that maps a page, under its lock.
struct Leaf {
    pte: Pte,
    pfn: Pfn,
}

impl Mapped for Leaf {
    type Page = Page;
    fn is_anonymous(&self) -> bool {
        frame(self.pfn).is_private()
    }
    fn is_writable(&self) -> bool {
        self.pte.has(Pte::WRITABLE)
    }
    fn is_alone(&self) -> bool {
        frame(self.pfn).refs() == 1
    }
    fn hold(&self) -> Option<Page> {
        Page::try_from_pfn(self.pfn)
    }
}
