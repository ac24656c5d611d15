//! The rule by which a store from outside takes hold of a page, apart from page tables.
//!
//! The page was made ready for the store before; meanwhile it may have been unmapped, moved, or
//! replaced by the file's. So the entry is looked at anew under its lock, and the page is held before
//! the lock is let go: who unmaps it then does not free it, and a migration, which must have all
//! references, leaves it where it is. Checked under loom against both.

/// A page-table entry that maps a page, while its lock is held.
pub(crate) trait Mapped {
    /// A counted reference.
    type Page;
    /// It maps an anonymous page, not one of a file or shared object.
    fn is_anonymous(&self) -> bool;
    /// The program itself may write through it.
    fn is_writable(&self) -> bool;
    /// Nobody but this entry refers to the page.
    fn is_alone(&self) -> bool;
    /// One more reference to the page; None when it is on its way out.
    fn hold(&self) -> Option<Self::Page>;
}

/// Takes hold of the page if a store through an area, which is shared or private, may go to it: in a
/// private area only to the address space's own copy, which is an anonymous page that the program
/// itself may write or that nobody else refers to. Never to a file's page, nor to one that a fork
/// left shared.
pub(crate) fn hold_own<M: Mapped>(shared: bool, entry: &M) -> Option<M::Page> {
    let own = shared || entry.is_anonymous() && (entry.is_writable() || entry.is_alone());
    if own { entry.hold() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Mapped, hold_own};

    struct Seen(bool, bool, bool);

    impl Mapped for Seen {
        type Page = ();
        fn is_anonymous(&self) -> bool {
            self.0
        }
        fn is_writable(&self) -> bool {
            self.1
        }
        fn is_alone(&self) -> bool {
            self.2
        }
        fn hold(&self) -> Option<()> {
            Some(())
        }
    }

    #[test]
    fn a_private_area_is_written_in_its_own_copies_only() {
        let own = |shared, seen| hold_own(shared, &seen).is_some();
        assert!(!own(false, Seen(false, false, true)), "a file's page");
        assert!(!own(false, Seen(false, true, true)), "whatever its entry says");
        assert!(!own(false, Seen(true, false, false)), "shared since a fork");
        assert!(own(false, Seen(true, false, true)));
        assert!(own(false, Seen(true, true, false)), "somebody looks at it");
        assert!(own(true, Seen(false, false, false)), "a shared area");
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
