//! What is known of use: clearing the marks that the hardware and the kernel leave on pages.

use crate::mm::Mm;
use crate::table::{self, State};
use crate::tlb;
use core::sync::atomic::Ordering;
use frames::frame;
use frames::meta::flag;
use hal::paging::Pte;
use hal::user::USER_END;

impl Mm {
    /// Marks private pages, pages of objects, or both, as not used since now. Translations are
    /// flushed, so that the next use leaves its mark.
    pub fn clear_referenced(&self, private: bool, objects: bool) {
        let vmas = self.vmas.read();
        for vma in vmas.iter() {
            let mut at = table::next_table(self.root(), vma.start, vma.end);
            while at < vma.end {
                // One lock covers 2 MiB.
                let stop = vma.end.min((at & !((1 << 21) - 1)) + (1 << 21));
                let _lock = self.pt_lock(at);
                let next = table::for_each_in_turns(self.root(), at, stop, |_, slot| {
                    let pte = slot.load();
                    if let State::Page(pfn) = table::state(pte)
                        && (if frame(pfn).is_private() { private } else { objects })
                    {
                        frame(pfn).clear(flag::REFERENCED);
                        // The hardware may set bits meanwhile: then this entry is left for later.
                        let _ = slot.replace(pte, pte.without(Pte::ACCESSED));
                    }
                    true
                });
                at = table::next_table(self.root(), next, vma.end);
            }
        }
        tlb::shootdown(self, 0, USER_END, false);
    }

    /// The highest resident size begins anew with the present one.
    pub fn forget_peak(&self) {
        let (anon, shared) = self.rss();
        self.peak_rss.store((anon + shared) as i64, Ordering::Relaxed);
    }
}
