//! Splitting: the entry of a huge page becomes a table of 512 small ones.

use super::SPLIT;
use crate::mm::Mm;
use crate::table::{self, NO_ACCESS, SPECIAL, State};
use crate::{HUGE, PAGE, place, tlb};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use frames::{Kind, Page, compound, frame};
use hal::Pfn;
use hal::paging::{Pte, Slot};
use hal::user::USER_END;

impl Mm {
    /// Splits the huge page across `addr`, if one begins before it. Huge pages of the pool are left
    /// alone. ENOMEM without memory for the table; EAGAIN while the page moves. The area tree is
    /// locked.
    #[inline]
    pub(crate) fn split_across(&self, addr: u64) -> Result<()> {
        if addr.is_multiple_of(HUGE) || addr >= USER_END || !table::is_huge_at(self.root(), addr) {
            return Ok(());
        }
        self.unmap_shared(addr);
        self.split_huge(addr)
    }

    /// Splits the transparent huge page at `addr`, if there is one. Answers as
    /// [`Mm::split_across`].
    #[inline]
    pub(crate) fn split_huge(&self, addr: u64) -> Result<()> {
        // Whoever asks may name an address without an area: the kernel's own huge pages stay.
        if addr >= USER_END || !table::is_huge_at(self.root(), addr) {
            return Ok(());
        }
        self.split(addr, false)
    }

    /// As [`Mm::split_huge`]; of a page that nobody else maps those parts are given back that hold
    /// nothing but zeroes, as Linux does where it splits the page itself and not its mapping alone.
    pub(crate) fn split_and_trim(&self, addr: u64) -> Result<()> {
        if addr >= USER_END { Ok(()) } else { self.split(addr, true) }
    }

    #[cold]
    #[inline(never)]
    fn split(&self, addr: u64, trim: bool) -> Result<()> {
        let is_transparent = |pte: Pte| {
            let pool = match table::state(pte) {
                State::Page(pfn) | State::Migrating(pfn) => {
                    frames::frame(pfn).kind() == Kind::HugeTlb
                }
                _ => false,
            };
            table::is_huge(pte) && !pool
        };
        match table::find(self.root(), addr) {
            Some((_, pte)) if is_transparent(pte) => {}
            _ => return Ok(()),
        }
        let table = place::kernel_frame(Kind::PageTable).ok_or(Errno::ENOMEM)?;
        let start = addr & !(HUGE - 1);
        let mut zeroes = [0u64; (compound::FRAMES / 64) as usize];
        let mut head = None;
        let split = {
            let _lock = self.pt_lock(start);
            match table::find(self.root(), start) {
                Some((_, pte)) if !table::is_huge(pte) => Ok(false),
                Some((_, pte)) if matches!(table::state(pte), State::Migrating(_)) => {
                    Err(Errno::EAGAIN)
                }
                Some((slot, pte)) => {
                    let zeroes = trim.then_some(&mut zeroes[..]);
                    head = Some(pte.frame());
                    self.fill_table(start, (slot, pte), table, zeroes);
                    Ok(true)
                }
                None => Ok(false),
            }
        };
        if split == Ok(true) {
            let head = head.map_or(0, Pfn::raw);
            let parts =
                (0..compound::FRAMES).filter(|i| zeroes[*i as usize / 64] >> (i % 64) & 1 == 1);
            parts.for_each(|i| drop(Page::from_raw(Pfn::new(head + i))));
            self.tables.fetch_add(1, Ordering::Relaxed);
            self.count_parted(Pfn::new(head));
            SPLIT.fetch_add(1, Ordering::Relaxed);
        } else {
            frames::free_one(table);
        }
        split.map(|_| ())
    }

    /// Puts `table` in the place of `pte`, with entries that stand for the same. Entries of parts that
    /// are all zero are the zero page's, if the caller is ready to give those parts back: their bits in
    /// `zeroes` are set. The page-table lock is held.
    fn fill_table(
        &self,
        start: u64,
        (slot, pte): (Slot, Pte),
        table: Pfn,
        zeroes: Option<&mut [u64]>,
    ) {
        let head = pte.frame();
        let small = |i: u64, bits: u64| match table::state(pte) {
            State::Special(_) => Pte::new(crate::fault::zero_page(), bits),
            _ => Pte::new(Pfn::new(head.raw() + i), bits),
        };
        let was = if pte.present() {
            // No CPU may know the page by an entry of each size at once: between the two there is
            // no entry that allows anything.
            let was = slot.swap(Pte::new(head, Pte::LARGE | NO_ACCESS));
            tlb::shootdown(self, start, start + PAGE, false);
            was
        } else {
            pte
        };
        let bits = was.bits() & !Pte::LARGE;
        for i in 0..compound::FRAMES {
            Slot::of(table, i as usize).store(small(i, bits));
        }
        if let State::Page(head) = table::state(was) {
            let alone = compound::is_alone(head);
            compound::break_up(head);
            if let Some(zeroes) = zeroes.filter(|_| alone) {
                let zero = Pte::new(
                    crate::fault::zero_page(),
                    SPECIAL | bits & !(Pte::WRITABLE | Pte::DIRTY),
                );
                for i in 0..compound::FRAMES {
                    let part = Pfn::new(head.raw() + i);
                    // Nobody can write to it at present.
                    if hal::phys::is_zero(part) {
                        self.count_mapped(part, -1);
                        frame(part).remove_map();
                        Slot::of(table, i as usize).store(zero);
                        zeroes[i as usize / 64] |= 1 << (i % 64);
                    }
                }
            }
        }
        slot.store(Pte::new(table, Pte::PRESENT | Pte::WRITABLE | Pte::USER));
    }
}

impl Mm {
    /// Splits those huge pages of `[from, from + len)` that cannot be mapped by one entry as far
    /// from `to`. ENOMEM. The tree is write-locked.
    pub(crate) fn split_to_remap(&self, from: u64, to: u64, len: u64) -> Result<()> {
        self.split_across(from)?;
        self.split_across(from + len)?;
        let mut at = table::next_table(self.root(), from, from + len);
        while at < from + len {
            let huge = table::find(self.root(), at).is_some_and(|(_, pte)| table::is_huge(pte));
            let there = to + (at - from);
            // A table of small pages may be left where the page would go.
            if huge && (!there.is_multiple_of(HUGE) || self.huge_slot(there).is_err()) {
                self.split_huge(at)?;
            }
            at = table::next_table(self.root(), (at & !(HUGE - 1)) + HUGE, from + len);
        }
        Ok(())
    }

    /// fork(2)'s copy of the entry `old` of a huge page at `addr`: shared, write-protected in both.
    /// The page-table lock is held, the tree write-locked. ENOMEM.
    #[cold]
    pub(crate) fn copy_huge(
        &self,
        child: &Self,
        addr: u64,
        (slot, old): (Slot, Pte),
        protected: &mut (u64, u64),
    ) -> Result<()> {
        let target = child.huge_slot(addr)?;
        match table::state(old) {
            State::Special(_) => target.store(old),
            State::Page(head) => {
                compound::share(head);
                child.count_transparent(head, 1);
                let mut was = old;
                if old.present() && old.has(Pte::WRITABLE) {
                    was = slot.swap(old.without(Pte::WRITABLE));
                    // What the hardware noted meanwhile stays noted.
                    let noted = was.0 & (Pte::ACCESSED | Pte::DIRTY);
                    slot.store(slot.load().with(noted));
                    protected.0 = protected.0.min(addr);
                    protected.1 = protected.1.max(addr + HUGE);
                }
                target.store(was.without(Pte::WRITABLE));
            }
            // A migration holds the tree read-locked while its entries stand: not seen here.
            State::Migrating(_) | State::Empty => return Err(Errno::EAGAIN),
        }
        Ok(())
    }
}

impl Mm {
    /// One entry less maps `head` as a huge page, if that is shared memory.
    fn count_parted(&self, head: Pfn) {
        if head.raw() != 0 && frame(head).kind().is_shared() {
            super::shared::count_entries(frame(head).node(), -1);
        }
    }

    /// Whether a huge page that nobody else maps lies at `addr`. The tree is locked.
    pub(crate) fn has_huge_alone(&self, addr: u64) -> bool {
        let _lock = self.pt_lock(addr);
        match table::find(self.root(), addr) {
            Some((_, pte)) if table::is_huge(pte) => match table::state(pte) {
                State::Page(pfn) => frame(pfn).kind() == Kind::AnonHuge && compound::is_alone(pfn),
                _ => false,
            },
            _ => false,
        }
    }
}
