//! Compaction: small pages move together within their node, so that what they leave are blocks as
//! large as huge pages.
//!
//! Pageblocks whose pages can all be moved are the sources, those with the fewest pages first, as long
//! as the gaps in others have room for what is in them. They are isolated, a few at a time; the address
//! spaces are gone through, process by process, and what they map of the sources moves to gaps by the
//! migration engine; then the sources, free or not, are back in use. Nothing is taken from anybody
//! meanwhile: what is isolated and free is given away when there is nothing else.
//!
//! Who needs a block waits for that (the pool of huge pages when it grows, khugepaged, madvise(2)
//! MADV_COLLAPSE, and a fault as transparent_hugepage/defrag says), and where it was in vain nobody
//! tries for the next faults. Pages of objects that nobody has mapped are not found, and stay.

use frames::node::pageblocks::Source;

#[cfg(target_os = "none")]
pub use running::*;

/// Of `found`, the sources to empty, at most `most`, when the gaps have room for `gaps` frames, those
/// in the sources themselves included. Those with the fewest pages come first.
fn choose(found: &mut [Source], gaps: u64, most: usize) -> &[Source] {
    found.sort_unstable_by_key(|source| (source.movable, source.start));
    let mut left = gaps;
    let fits = |source: &&Source| {
        // Its own gaps are gone, and others are filled.
        let room = left.checked_sub(u64::from(source.free()) + u64::from(source.movable));
        left = room.unwrap_or(0);
        room.is_some()
    };
    let count = found.iter().take(most).take_while(fits).count();
    &found[..count]
}

#[cfg(target_os = "none")]
mod running {
    use super::{Source, choose};
    use crate::migrate::{BATCH, Candidate, Outcome, movable};
    use crate::mm::Mm;
    use crate::table::{self, State};
    use crate::{HUGE, env};
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
    use frames::buddy::PAGEBLOCK;
    use frames::fallible::TryVec;
    use frames::node::Node;
    use frames::{Kind, compound, frame};
    use hal::Pfn;
    use hal::user::USER_END;
    use numa::policy::Placement;
    use numa::{MAX_NODES, NodeId};
    use sync::{Mutex, Once};

    /// Pageblocks of a look: 1 GiB.
    const LOOK: usize = 512;
    /// Sources that are isolated together: 32 MiB.
    const TOGETHER: usize = 16;

    /// Pages looked at to be moved, and pages moved (compact_migrate_scanned, compact_isolated).
    pub static SCANNED: AtomicU64 = AtomicU64::new(0);
    /// See [`SCANNED`].
    pub static ISOLATED: AtomicU64 = AtomicU64::new(0);
    /// Gaps looked at and filled (compact_free_scanned).
    pub static FILLED: AtomicU64 = AtomicU64::new(0);
    /// How often somebody waited for a block, in vain, and not in vain (compact_stall, compact_fail,
    /// compact_success).
    pub static STALLED: AtomicU64 = AtomicU64::new(0);
    /// See [`STALLED`].
    pub static FAILED: AtomicU64 = AtomicU64::new(0);
    /// See [`STALLED`].
    pub static SUCCEEDED: AtomicU64 = AtomicU64::new(0);

    /// Held by who compacts: a second one would fill what the first one empties.
    static ONE: Mutex<()> = Mutex::new(());

    /// The address space of the first process whose id is above the given one, with that process' id.
    pub type NextSpace = fn(i32) -> Option<(i32, Option<Arc<Mm>>)>;
    static SPACES: Once<NextSpace> = Once::new();

    /// Registers the kernel above, once, when there are processes.
    pub fn register(spaces: NextSpace) {
        SPACES.get_or_init(|| spaces);
    }

    /// How often a node's faults go without compaction after it was in vain (Linux's deferral: from
    /// once to 64 times, twice as often each time).
    struct Deferral {
        left: AtomicU32,
        shift: AtomicU32,
    }

    static DEFERRALS: [Deferral; MAX_NODES] =
        [const { Deferral { left: AtomicU32::new(0), shift: AtomicU32::new(0) } }; MAX_NODES];

    impl Deferral {
        fn of(node: NodeId) -> &'static Self {
            &DEFERRALS[node.index()]
        }
        fn begin(&self) {
            const MOST: u32 = 6;
            let shift = (self.shift.load(Relaxed) + 1).min(MOST);
            self.shift.store(shift, Relaxed);
            self.left.store((1 << shift) - 1, Relaxed);
        }
        fn end(&self) {
            self.shift.store(0, Relaxed);
            self.left.store(0, Relaxed);
        }
        /// True while it lasts, which is once less from now on.
        fn lasts(&self) -> bool {
            self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
        }
    }

    /// Whether a fault that finds no block on `node` is to wait for compaction there: there is memory
    /// for one, and it was not in vain just now.
    #[cold]
    pub fn is_promising(node: NodeId) -> bool {
        frames::node(node).is_some_and(|node| node.has_room(compound::FRAMES))
            && SPACES.get().is_some()
            && !Deferral::of(node).lasts()
    }

    /// Makes a block of the size of a huge page on `node`; true when there is one. No lock is held.
    #[cold]
    pub fn make_block(id: NodeId) -> bool {
        let Some(node) = frames::node(id) else { return false };
        let _one = ONE.lock();
        if node.has_block(compound::ORDER) {
            return true;
        }
        STALLED.fetch_add(1, Relaxed);
        let room = node.has_room(compound::FRAMES);
        if room && compact(node, |node| node.has_block(compound::ORDER)) {
            Deferral::of(id).end();
            SUCCEEDED.fetch_add(1, Relaxed);
            return true;
        }
        Deferral::of(id).begin();
        FAILED.fetch_add(1, Relaxed);
        false
    }

    /// A fault that waited for a block of `node` found none again: others were quicker. It is to do
    /// without.
    pub(crate) fn give_up(node: NodeId) {
        Deferral::of(node).begin();
    }

    /// Compacts all of a node's memory, as far as it can (compact_memory).
    pub fn compact_all(id: NodeId) {
        let Some(node) = frames::node(id) else { return };
        let _one = ONE.lock();
        compact(node, |_| false);
        Deferral::of(id).end();
    }

    /// Empties pageblocks, 1 GiB after the other, until `enough` says so: whether it did.
    fn compact(node: &Node, enough: impl Fn(&Node) -> bool) -> bool {
        // Without memory for the list nothing moves.
        let Ok(mut found) = Vec::with_room(LOOK) else { return false };
        let mut from = Some(0);
        while let Some(at) = from {
            found.clear();
            node.drain();
            from = node.find_sources(at, &mut found);
            let mut rest = &mut found[..];
            loop {
                if enough(node) {
                    return true;
                }
                let count = choose(rest, node.gaps(), TOGETHER).len();
                if count == 0 {
                    break;
                }
                let (sources, others) = rest.split_at_mut(count);
                sources.sort_unstable_by_key(|source| source.start);
                empty(node, sources);
                if env::killed() {
                    return enough(node);
                }
                rest = others;
            }
        }
        enough(node)
    }

    /// Moves what is in the sources, which are sorted by their frames.
    fn empty(node: &Node, sources: &[Source]) {
        let isolated: u64 =
            sources.iter().map(|source| u64::from(node.isolate(source.start))).sum();
        let mut left: u64 = sources.iter().map(|source| u64::from(source.movable)).sum();
        let mut at = 0;
        while isolated > 0
            && left > 0
            && !env::killed()
            && let Some((id, mm)) = SPACES.get().and_then(|next| next(at))
        {
            at = id;
            let moved = mm.map_or(Some(0), |mm| mm.leave(node.id(), sources));
            let Some(moved) = moved else { break };
            left = left.saturating_sub(moved);
        }
        // What was freed lies in the CPUs' caches.
        node.drain();
        for source in sources {
            node.restore(source.start);
        }
    }

    impl Mm {
        /// Moves what it has mapped of `sources`, pageblocks of `node` that are sorted by their frames:
        /// how many pages. None when there are no gaps any more.
        fn leave(&self, node: NodeId, sources: &[Source]) -> Option<u64> {
            let mut moved = 0;
            let mut at = Some(0);
            while let Some(from) = at.filter(|_| !env::killed()) {
                let mut batch = Vec::with_room(BATCH).ok()?;
                at = self.find_leaving(from, (node, sources), &mut batch);
                SCANNED.fetch_add(batch.len() as u64, Relaxed);
                let outcomes = self.migrate_for(&batch, None);
                let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Moved).count();
                ISOLATED.fetch_add(done as u64, Relaxed);
                FILLED.fetch_add(done as u64, Relaxed);
                moved += done as u64;
                if outcomes.contains(&Outcome::NoMemory) {
                    return None;
                }
            }
            Some(moved)
        }

        /// Fills `batch` with pages of the sources that are mapped at `from` or above; where to go on
        /// when it became full.
        fn find_leaving(
            &self,
            from: u64,
            (node, sources): (NodeId, &[Source]),
            batch: &mut Vec<Candidate<'static>>,
        ) -> Option<u64> {
            let to = Placement::exactly(env::machine(), node);
            let leaves = |pfn: Pfn| {
                let start = Pfn::new(pfn.raw() & !(PAGEBLOCK - 1));
                matches!(frame(pfn).kind(), Kind::Anon | Kind::Shared)
                    && sources.binary_search_by_key(&start, |source| source.start).is_ok()
            };
            let vmas = self.vmas.read();
            let mut next = None;
            for vma in vmas.range(from, USER_END).filter(|vma| movable(vma) && !vma.is_huge()) {
                table::for_each_entry(self.root(), vma.start.max(from), vma.end, |addr, pte| {
                    if let State::Page(pfn) = table::state(pte)
                        && !table::is_huge(pte)
                        && leaves(pfn)
                    {
                        if batch.len() == BATCH {
                            next = Some(addr);
                            return false;
                        }
                        batch.push(Candidate { addr, pfn, to });
                    }
                    true
                });
                if next.is_some() {
                    break;
                }
            }
            next
        }
    }

    const _: () = assert!(HUGE / crate::PAGE == PAGEBLOCK);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hal::Pfn;

    fn source(number: u64, movable: u32) -> Source {
        Source { start: Pfn::new(number * 512), movable }
    }

    fn chosen(movable: &[u32], gaps: u64, most: usize) -> std::vec::Vec<u64> {
        let mut found: std::vec::Vec<_> =
            movable.iter().zip(0..).map(|(movable, number)| source(number, *movable)).collect();
        choose(&mut found, gaps, most).iter().map(|source| source.start.raw() / 512).collect()
    }

    #[test]
    fn the_emptiest_pageblocks_are_emptied_while_others_have_room() {
        // 256 of each are free: two of four can be emptied into the other two.
        assert_eq!(chosen(&[256; 4], 4 * 256, 16), [0, 1]);
        assert_eq!(chosen(&[256; 4], 4 * 256, 1), [0]);
        assert_eq!(chosen(&[500, 3, 100], 12 + 509 + 412, 16), [1]);
        assert_eq!(chosen(&[512], 0, 16), []);
        assert_eq!(chosen(&[511], 1, 16), [], "its own gap is no room for it");
    }
}
