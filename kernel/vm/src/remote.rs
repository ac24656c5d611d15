//! Reading and writing an address space from outside: /proc/PID/mem, process_vm_readv(2), ptrace(2).
//!
//! Pages are made present as a fault of the owner would make them, and then reached through the
//! direct map: the caller's own address space is not touched. `force` goes beyond the areas'
//! rights, as a debugger may: private pages are copied before they are written, shared ones that
//! may not be written are left alone.

use crate::PAGE;
use crate::fault::{Access, FaultError};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::VmaFlags;
use frames::meta::flag;
use frames::{Kind, Page};
use hal::Pfn;

/// A page to copy from or to: one that is held, or one that never goes away.
enum Held {
    Page(Page),
    Fixed(Pfn),
}

impl Held {
    fn pfn(&self) -> Pfn {
        match self {
            Self::Page(page) => page.pfn(),
            Self::Fixed(pfn) => *pfn,
        }
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
            let page = mm.hold_to_write(at, force)?;
            let offset = (at % PAGE) as usize;
            page.bytes_mut()[offset..offset + len].copy_from_slice(&data[done..done + len]);
            page.frame().set(flag::DIRTY);
            Some(())
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
            State::Page(pfn) => Page::try_from_pfn(pfn).map(Held::Page),
            State::Special(pfn) => Some(Held::Fixed(pfn)),
            State::Empty | State::Migrating(_) => None,
        }
    }

    fn hold(&self, addr: u64, force: bool) -> Option<Held> {
        loop {
            match self.fault(addr, Access { write: false, exec: false }) {
                Ok(()) => {}
                // Kept from the program itself, but there.
                Err(FaultError::NoAccess) if force => return self.mapped(addr),
                Err(_) => return None,
            }
            // Gone again (unmapped, or moving): the next fault says which.
            if let Some(held) = self.mapped(addr) {
                return Some(held);
            }
        }
    }

    fn hold_to_write(&self, addr: u64, force: bool) -> Option<Page> {
        loop {
            match self.fault(addr, Access { write: true, exec: false }) {
                Ok(()) => {
                    if let Some(Held::Page(page)) = self.mapped(addr) {
                        return Some(page);
                    }
                }
                Err(FaultError::NoAccess) if force => {
                    let vmas = self.vmas.read();
                    let vma = vmas.find(addr)?;
                    if vma.shared() || vma.flags.contains(VmaFlags::SPECIAL) {
                        return None;
                    }
                    self.break_sharing(&vmas, vma, addr & !(PAGE - 1)).ok()?;
                    match self.mapped(addr) {
                        Some(Held::Page(page)) if page.frame().kind() == Kind::Anon => {
                            return Some(page);
                        }
                        Some(_) => return None,
                        None => {}
                    }
                }
                Err(_) => return None,
            }
        }
    }
}
