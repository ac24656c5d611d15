//! What is reserved for a private mapping of huge pages.

use abi::Result;
use alloc::collections::BTreeSet;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use frames::fallible::TryMap;
use sync::SpinLock;

/// Shared by the areas that a mapping was split into; a child's mapping begins without any
/// reservation.
#[derive(Default)]
pub struct HugeArea {
    /// Indices of pages whose reservation is used up. None: nothing was reserved (MAP_NORESERVE, or
    /// a child's).
    used: Option<SpinLock<BTreeSet<u64>>>,
    /// A page of it was taken away for the parent's sake: what is missing is SIGBUS from then on,
    /// rather than zeroes where there was data.
    lost: AtomicBool,
}

impl HugeArea {
    /// Of a mapping that is reserved as a whole.
    pub fn reserved() -> Self {
        Self { used: Some(SpinLock::default()), lost: AtomicBool::new(false) }
    }

    /// True if there was a reservation.
    pub fn is_owner(&self) -> bool {
        self.used.is_some()
    }

    /// True while the page at `index` has a reservation of its own.
    pub fn has(&self, index: u64) -> bool {
        self.used.as_ref().is_some_and(|used| !used.lock().contains(&index))
    }

    /// Notes that the page at `index` has used its reservation. ENOMEM.
    pub fn consume(&self, index: u64) -> Result<()> {
        match &self.used {
            Some(used) => used.lock().try_insert_in(index, ()).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Notes that the page at `index` is reserved again: true if its reservation had been used.
    pub fn restore(&self, index: u64) -> bool {
        self.used.as_ref().is_some_and(|used| used.lock().remove(&index))
    }

    /// Reservations of the page indices `[start, end)` that are not used.
    pub fn unused(&self, start: u64, end: u64) -> u64 {
        self.used.as_ref().map_or(0, |used| {
            (end - start) / super::FRAMES - used.lock().range(start..end).count() as u64
        })
    }

    /// True when a page was taken away.
    pub fn has_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }

    /// Notes that a page was taken away.
    pub fn lose(&self) {
        self.lost.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_uses_its_reservation_once_until_it_is_restored() {
        let area = HugeArea::reserved();
        assert!(area.has(0) && area.has(512));
        assert_eq!(area.unused(0, 2048), 4);
        area.consume(512).unwrap();
        assert!(area.has(0) && !area.has(512));
        assert_eq!((area.unused(0, 2048), area.unused(0, 512)), (3, 1));
        assert!(area.restore(512) && !area.restore(512));
        assert_eq!(area.unused(0, 2048), 4);
        let child = HugeArea::default();
        assert!(!child.has(0) && !child.is_owner());
        assert_eq!(child.unused(0, 2048), 0);
    }
}
