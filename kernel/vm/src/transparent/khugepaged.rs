//! khugepaged's part of an address space: which ones it looks at, how much at a time, what it found.
//!
//! An address space is looked at from when it first touches an area with room for a huge page that may
//! have one, or is advised to. As long as there is none, or huge pages are not wanted, the thread sleeps
//! without a clock, and nothing here costs anybody more than reading a flag.

use super::is_enabled;
use super::scan::Rules;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use frames::compound::FRAMES;
use sync::WaitQueue;

/// A setting, as /sys/kernel/mm/transparent_hugepage/khugepaged has it.
pub struct Setting {
    value: AtomicU32,
    pub least: u32,
    pub most: u32,
    /// It is how long it sleeps: a change wakes it.
    sleep: bool,
}

impl Setting {
    const fn new(value: u32, least: u32, most: u32) -> Self {
        Self { value: AtomicU32::new(value), least, most, sleep: false }
    }

    const fn sleep(value: u32) -> Self {
        Self { sleep: true, ..Self::new(value, 0, u32::MAX) }
    }

    /// Sets it, to a value within its limits.
    pub fn set(&self, value: u32) {
        self.value.store(value, Relaxed);
        if self.sleep {
            NUDGED.store(true, Relaxed);
            WAITING.wake_all();
        }
    }

    /// Its value.
    pub fn get(&self) -> u32 {
        self.value.load(Relaxed)
    }
}

/// Entries of a table but one: with nothing in it there is nothing to collapse.
const MOST: u32 = FRAMES as u32 - 1;

/// Pages that it looks at before it sleeps: 8 tables.
pub static PAGES_TO_SCAN: Setting = Setting::new(8 * FRAMES as u32, 1, u32::MAX);
/// How long it sleeps then, in ms.
pub static SCAN_SLEEP: Setting = Setting::sleep(10_000);
/// How long it sleeps when there was no block, in ms.
pub static ALLOC_SLEEP: Setting = Setting::sleep(60_000);
/// Entries that may be empty. With all of them one touched page becomes a huge one.
pub static MAX_NONE: Setting = Setting::new(MOST, 0, MOST);
/// Pages that others may share.
pub static MAX_SHARED: Setting = Setting::new(FRAMES as u32 / 2, 0, MOST);
/// Pages that may have been swapped out: none ever is here.
pub static MAX_SWAP: Setting = Setting::new(FRAMES as u32 / 8, 0, MOST);
/// Whether to make room for a block (see [`crate::compact`]).
pub static DEFRAG: Setting = Setting::new(1, 0, 1);

/// Blocks taken to collapse into, and refused (thp_collapse_alloc and thp_collapse_alloc_failed).
pub static COLLAPSED: AtomicU64 = AtomicU64::new(0);
/// See [`COLLAPSED`].
pub static NO_BLOCK: AtomicU64 = AtomicU64::new(0);
/// Tables left alone for what they lack or share (thp_scan_exceed_none_pte and
/// thp_scan_exceed_share_pte).
pub static TOO_EMPTY: AtomicU64 = AtomicU64::new(0);
/// See [`TOO_EMPTY`].
pub static TOO_SHARED: AtomicU64 = AtomicU64::new(0);
/// Huge pages that it made (pages_collapsed), and how often it has been through (full_scans).
pub static PAGES_COLLAPSED: AtomicU64 = AtomicU64::new(0);
/// See [`PAGES_COLLAPSED`].
pub static FULL_SCANS: AtomicU64 = AtomicU64::new(0);

/// Address spaces that it looks at.
static OFFERED: AtomicUsize = AtomicUsize::new(0);
/// A setting has changed: it is to look at once.
static NUDGED: AtomicBool = AtomicBool::new(false);
static WAITING: WaitQueue = WaitQueue::new();

/// The rules of a scan.
pub fn rules() -> Rules {
    Rules { none: MAX_NONE.get(), shared: MAX_SHARED.get(), unasked: true }
}

/// Huge pages may be wanted now: if it waits for that, it looks.
pub fn wake() {
    WAITING.wake_all();
}

/// Sleeps until there is something to look at, and then for `pause` ms, or until a setting changes.
pub fn wait(pause: u32) {
    if pause > 0 {
        let deadline = Some(sync::hooks::now() + u64::from(pause) * 1_000_000);
        // However it ends: the time is over, or it is to look at once.
        let _end =
            WAITING.wait_interruptible(deadline, || NUDGED.swap(false, Relaxed).then_some(()));
    }
    WAITING.wait_until(|| {
        let wanted = is_enabled() || super::shared::ever_wanted();
        (OFFERED.load(Relaxed) > 0 && wanted).then_some(())
    });
}

#[cfg(target_os = "none")]
mod scanning {
    use super::*;
    use crate::HUGE;
    use crate::mm::Mm;
    use crate::transparent::scan::Refusal;
    use hal::user::USER_END;

    /// Where a look at an address space has ended.
    #[derive(Debug, PartialEq, Eq)]
    pub enum Stop {
        /// Behind its last area, or it is not to be looked at now.
        Through,
        /// Enough has been looked at; here it goes on.
        At(u64),
        /// There was no block; here it goes on.
        NoMemory(u64),
    }

    impl Mm {
        /// From now on khugepaged looks at it.
        #[inline]
        pub(crate) fn offer_to_khugepaged(&self) {
            if !self.offered.load(Relaxed) {
                self.offer();
            }
        }

        #[cold]
        fn offer(&self) {
            if !self.offered.swap(true, Relaxed) && OFFERED.fetch_add(1, Relaxed) == 0 {
                WAITING.wake_all();
            }
        }

        /// It has nothing mapped any more.
        pub(crate) fn withdraw_from_khugepaged(&self) {
            if self.offered.load(Relaxed) && self.offered.swap(false, Relaxed) {
                OFFERED.fetch_sub(1, Relaxed);
            }
        }

        /// Looks for small pages to collapse from `from` on, until `budget` pages have been looked at.
        pub fn scan_for_huge(&self, from: u64, budget: &mut u64) -> Stop {
            if !self.offered.load(Relaxed) {
                *budget = budget.saturating_sub(1);
                return Stop::Through;
            }
            let rules = rules();
            let mut at = from;
            while *budget > 0 {
                let Some(addr) = self.next_place(at, &rules, budget) else { return Stop::Through };
                *budget = budget.saturating_sub(FRAMES);
                match self.collapse(addr, &rules) {
                    Ok(true) => _ = PAGES_COLLAPSED.fetch_add(1, Relaxed),
                    Err(Refusal::NoMemory) => return Stop::NoMemory(addr + HUGE),
                    Ok(false) | Err(_) => {}
                }
                at = addr + HUGE;
            }
            Stop::At(at)
        }

        /// The first place for a huge page at `at` or above, in an area that may have one. None also
        /// when somebody changes areas: nobody waits for that.
        fn next_place(&self, at: u64, rules: &Rules, budget: &mut u64) -> Option<u64> {
            let vmas = self.vmas.try_read()?;
            vmas.range(at, USER_END).find_map(|vma| {
                let addr = vma.start.max(at).next_multiple_of(HUGE);
                let fits = addr + HUGE <= vma.end && self.may_collapse(vma, rules);
                if !fits {
                    *budget = budget.saturating_sub(1);
                }
                fits.then_some(addr)
            })
        }
    }
}

#[cfg(target_os = "none")]
pub use scanning::Stop;
