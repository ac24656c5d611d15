//! Whether a table of small pages may become one huge page, and on which node: decisions only, over what
//! is told of each entry. Linux's khugepaged.c.

use abi::Errno;
use frames::compound;
use numa::{MAX_NODES, NodeId, NodeMask};

/// Entries of a table.
const ENTRIES: u32 = compound::FRAMES as u32;

/// How much a table may lack, and how much of it others may have.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Entries that may be empty, or the page of zeroes' (max_ptes_none).
    pub none: u32,
    /// Pages that others may map, too (max_ptes_shared).
    pub shared: u32,
    /// A page must have been used of late, and the settings must want huge pages: nobody has asked for
    /// this one.
    pub unasked: bool,
}

impl Rules {
    /// Of who asks for the huge page (MADV_COLLAPSE).
    pub const ASKED: Self = Self { none: ENTRIES, shared: ENTRIES, unasked: false };
}

/// Why there is no huge page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No table of small pages is there, nor one that it could be entered in.
    NoTable,
    /// No table of small pages is there, though others are around.
    Untouched,
    /// No area is there (any more) that may have one.
    NoArea,
    /// More entries are empty than may be.
    TooEmpty,
    /// More pages are others', too, than may be.
    TooShared,
    /// A page is no private memory.
    NotPrivate,
    /// Somebody beside page tables holds a page.
    Held,
    /// No page may be written.
    ReadOnly,
    /// No page has been used.
    Unused,
    /// No block on the nodes where most pages are, or no memory.
    NoMemory,
}

impl Refusal {
    /// What madvise(2) says.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoMemory => Errno::ENOMEM,
            Self::TooEmpty | Self::TooShared => Errno::EBUSY,
            Self::Held => Errno::EAGAIN,
            _ => Errno::EINVAL,
        }
    }

    /// True when madvise(2) goes on behind it.
    pub const fn is_passed_over(self) -> bool {
        matches!(self, Self::NoTable | Self::Held | Self::ReadOnly | Self::Unused)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// Empty, or the page of zeroes.
    Nothing,
    /// A page that is no private memory.
    NotPrivate,
    Page(SeenPage),
}

/// A page of private memory behind an entry.
#[derive(Clone, Copy, Debug)]
pub struct SeenPage {
    pub node: NodeId,
    /// Other entries map it, too.
    pub shared: bool,
    /// There are references beside those of entries.
    pub held: bool,
    pub used: bool,
    pub writable: bool,
}

/// What a table holds.
#[derive(Debug)]
pub struct Tally {
    none: u32,
    shared: u32,
    used: bool,
    writable: bool,
    nodes: [u16; MAX_NODES],
}

impl Default for Tally {
    fn default() -> Self {
        Self { none: 0, shared: 0, used: false, writable: false, nodes: [0; MAX_NODES] }
    }
}

impl Tally {
    /// Counts an entry.
    pub fn add(&mut self, seen: Seen, rules: &Rules) -> Result<(), Refusal> {
        let page = match seen {
            Seen::Nothing => {
                self.none += 1;
                return if self.none > rules.none { Err(Refusal::TooEmpty) } else { Ok(()) };
            }
            Seen::NotPrivate => return Err(Refusal::NotPrivate),
            Seen::Page(page) => page,
        };
        self.writable |= page.writable;
        self.shared += u32::from(page.shared);
        if page.shared && self.shared > rules.shared {
            return Err(Refusal::TooShared);
        }
        self.nodes[page.node.index()] += 1;
        if page.held {
            return Err(Refusal::Held);
        }
        self.used |= page.used;
        Ok(())
    }

    /// When all entries are counted: the node that has most of the pages, and all that have as many.
    pub fn target(&self, rules: &Rules) -> Result<(NodeId, NodeMask), Refusal> {
        if !self.writable {
            return Err(Refusal::ReadOnly);
        }
        if rules.unasked && !self.used {
            return Err(Refusal::Unused);
        }
        let most = self.nodes.iter().copied().max().unwrap_or(0);
        let ids = (0..MAX_NODES).filter(|node| self.nodes[*node] == most);
        let ids = ids.filter_map(NodeId::try_new);
        let with_most = ids.fold(NodeMask::EMPTY, |mask, node| mask.with(node));
        with_most.first().map(|first| (first, with_most)).ok_or(Refusal::ReadOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(node: u16) -> SeenPage {
        let node = NodeId::new(node);
        SeenPage { node, shared: false, held: false, used: false, writable: true }
    }

    fn tally(entries: impl IntoIterator<Item = Seen>, rules: &Rules) -> Result<Tally, Refusal> {
        let mut tally = Tally::default();
        entries.into_iter().try_for_each(|seen| tally.add(seen, rules))?;
        Ok(tally)
    }

    #[test]
    fn it_goes_to_the_node_that_has_most() {
        let table = |on: [usize; 3]| {
            let pages = (0..3u16).flat_map(move |node| (0..on[node as usize]).map(move |_| node));
            let tally = tally(pages.map(|node| Seen::Page(page(node))), &Rules::ASKED).unwrap();
            let (first, all) = tally.target(&Rules::ASKED).unwrap();
            (first.index(), all.iter().map(NodeId::index).collect::<std::vec::Vec<_>>())
        };
        assert_eq!(table([100, 300, 112]), (1, [1].to_vec()));
        assert_eq!(table([200, 112, 200]), (0, [0, 2].to_vec()));
        assert_eq!(table([0, 0, 1]), (2, [2].to_vec()));
    }

    #[test]
    fn limits_hold_for_who_was_not_asked() {
        let rules = Rules { none: 2, shared: 1, unasked: true };
        let none = |n| core::iter::repeat_n(Seen::Nothing, n);
        assert_eq!(tally(none(3), &rules).unwrap_err(), Refusal::TooEmpty);
        assert!(tally(none(2), &rules).is_ok() && tally(none(512), &Rules::ASKED).is_ok());
        let shared = |n| core::iter::repeat_n(Seen::Page(SeenPage { shared: true, ..page(0) }), n);
        assert_eq!(tally(shared(2), &rules).unwrap_err(), Refusal::TooShared);
        let one = tally(shared(1), &rules).unwrap();
        assert_eq!(one.target(&rules), Err(Refusal::Unused));
        assert!(one.target(&Rules::ASKED).is_ok());
        let used = tally([Seen::Page(SeenPage { used: true, ..page(0) })], &rules).unwrap();
        assert!(used.target(&rules).is_ok());
    }

    #[test]
    fn what_is_held_or_foreign_or_never_written_stays() {
        let of = |seen| {
            let tally = tally([seen], &Rules::ASKED)?;
            tally.target(&Rules::ASKED).map(|_| ())
        };
        assert_eq!(of(Seen::Page(SeenPage { held: true, ..page(0) })), Err(Refusal::Held));
        assert_eq!(of(Seen::NotPrivate), Err(Refusal::NotPrivate));
        assert_eq!(of(Seen::Page(SeenPage { writable: false, ..page(0) })), Err(Refusal::ReadOnly));
        assert_eq!(of(Seen::Nothing), Err(Refusal::ReadOnly));
    }
}
