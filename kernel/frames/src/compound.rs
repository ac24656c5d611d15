//! Transparent huge pages: blocks of 2 MiB of private or shared memory.
//!
//! A block is mapped by entries of the second level. While it is whole, each of them holds one
//! reference to its head, and is one of its maps. Broken up, which is for good, it is 512 single
//! frames, each of which has the references and maps that the block had: an entry of the second level
//! that still stands then holds one reference to each of them. So such an entry becomes 512 small
//! ones without any counting, other address spaces go on mapping the block as a whole, and frames
//! are freed one by one when the last entry of each is gone.
//!
//! Shared memory's are never whole in this sense: 512 frames, of which each may be read and written as any
//! page of its object, and an entry of the second level holds a reference to each. As long as all of
//! them are the object's the first is of kind [`Kind::SharedHuge`].
//!
//! References that entries hold (and who has taken one out of an entry) are only counted here, under
//! one of a few locks that the block chooses: whether it is whole does not change meanwhile. Nobody
//! else may hold a reference to a whole block.

use crate::hugetlb;
use crate::meta::{Kind, flag, frame};
use crate::{Page, Usage};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hal::Pfn;
use numa::NodeId;
use sync::{SpinGuard, SpinLock};

/// log2 of a block's frames.
pub const ORDER: u32 = hugetlb::ORDER;
/// Frames of a block.
pub const FRAMES: u64 = hugetlb::FRAMES;

/// Blocks broken up, ever (thp_split_page).
pub static BROKEN: AtomicU64 = AtomicU64::new(0);

/// A lock on a cache line of its own.
#[repr(align(64))]
struct Lock(SpinLock<()>);

const LOCKS: usize = 64;
static BLOCKS: [Lock; LOCKS] = [const { Lock(SpinLock::new(())) }; LOCKS];

fn lock(head: Pfn) -> SpinGuard<'static, ()> {
    BLOCKS[(head.raw() >> ORDER) as usize % LOCKS].0.lock()
}

/// The frames of a block.
fn frames(head: Pfn) -> impl Iterator<Item = Pfn> {
    (head.raw()..head.raw() + FRAMES).map(Pfn::new)
}

/// A block from exactly `node`, whole, with one reference that is to become an entry's; contents
/// undefined.
pub fn alloc(node: NodeId) -> Option<Page> {
    let head = crate::alloc(node, ORDER, Kind::AnonHuge, Usage::User)?;
    frame(head).set(flag::PRIVATE);
    Some(Page::from_alloc(head))
}

/// A huge page of shared memory from exactly `node`: the first of its frames, of which each has one
/// reference; contents undefined.
pub fn alloc_shared(node: NodeId) -> Option<Pfn> {
    let head = crate::alloc(node, ORDER, Kind::Shared, Usage::User)?;
    for pfn in frames(head) {
        let part = frame(pfn);
        part.set_state(Kind::Shared, 0, node);
        part.set_maps(0);
        part.set_refs(1);
    }
    frame(head).turn_into(Kind::SharedHuge);
    crate::node::recount(node, Kind::Shared, Kind::SharedHuge, 1);
    Some(head)
}

/// The run of shared memory that begins with `head` is no huge page any more: a part leaves it, or
/// all of it is about to go (which is no split). Its object is locked.
pub fn part_shared(head: Pfn, split: bool) {
    let meta = frame(head);
    if meta.kind() == Kind::SharedHuge {
        meta.turn_into(Kind::Shared);
        crate::node::recount(meta.node(), Kind::SharedHuge, Kind::Shared, 1);
        BROKEN.fetch_add(u64::from(split), Relaxed);
    }
}

/// The run of single frames of shared memory that begins with `head` is a huge page from now on. Its
/// object, which has all of them, is locked.
pub fn join_shared(head: Pfn) {
    frame(head).turn_into(Kind::SharedHuge);
    crate::node::recount(frame(head).node(), Kind::Shared, Kind::SharedHuge, 1);
}

/// As [`freeze`], of each frame of a huge page of shared memory.
#[cold]
pub fn freeze_shared(head: Pfn, expected: u32) -> bool {
    let Some(held) = frames(head).position(|pfn| !frame(pfn).freeze(expected)) else { return true };
    frames(head).take(held).for_each(|pfn| frame(pfn).unfreeze(expected));
    false
}

/// True for a block that has not been broken up. The caller has a reference.
#[inline]
pub fn is_whole(head: Pfn) -> bool {
    frame(head).kind() == Kind::AnonHuge
}

/// True when the block is whole and one entry has it alone.
#[cold]
#[inline(never)]
pub fn is_alone(head: Pfn) -> bool {
    let _lock = lock(head);
    is_whole(head) && frame(head).refs() == 1
}

/// Does `f` to the head of a whole block, or to each frame of one that was broken up.
fn each(head: Pfn, mut f: impl FnMut(Pfn)) {
    if is_whole(head) { f(head) } else { frames(head).for_each(f) }
}

/// One more entry maps it: a reference and a map.
#[cold]
#[inline(never)]
pub fn enter(head: Pfn) {
    let _lock = lock(head);
    each(head, |pfn| {
        frame(pfn).get();
        frame(pfn).add_map();
    });
}

/// A fork shares it: one more entry maps it, and nobody may write to it without a look.
#[cold]
#[inline(never)]
pub fn share(head: Pfn) {
    let _lock = lock(head);
    each(head, |pfn| {
        frame(pfn).get();
        frame(pfn).add_map();
        frame(pfn).set(flag::FORKED);
    });
}

/// One entry less maps it, in which the hardware had noted `flags`; the reference is still there.
#[cold]
#[inline(never)]
pub fn unmap(head: Pfn, flags: u32) {
    let _lock = lock(head);
    each(head, |pfn| {
        if flags != 0 {
            frame(pfn).set(flags);
        }
        frame(pfn).remove_map();
    });
}

/// An entry that was unmapped maps it again, with the reference that it had.
#[cold]
#[inline(never)]
pub fn map(head: Pfn) {
    let _lock = lock(head);
    each(head, |pfn| frame(pfn).add_map());
}

/// Gives the reference of an entry back.
#[cold]
#[inline(never)]
pub fn put(head: Pfn) {
    let whole = {
        let _lock = lock(head);
        let whole = is_whole(head);
        if whole && !frame(head).put() {
            return;
        }
        whole
    };
    if whole {
        crate::free(head);
    } else {
        frames(head).for_each(|pfn| drop(Page::from_raw(pfn)));
    }
}

/// Takes all references of a whole block away if there are exactly `expected` (see
/// [`crate::Frame::freeze`]).
#[cold]
#[inline(never)]
pub fn freeze(head: Pfn, expected: u32) -> bool {
    let _lock = lock(head);
    is_whole(head) && frame(head).freeze(expected)
}

/// Breaks it up, if it is whole. The caller has the reference of an entry.
#[cold]
#[inline(never)]
pub fn break_up(head: Pfn) {
    let _lock = lock(head);
    if !is_whole(head) {
        return;
    }
    let meta = frame(head);
    let (node, refs, maps, why) = (meta.node(), meta.refs(), meta.maps(), meta.why());
    let flags = meta.flags() & (flag::DIRTY | flag::LAZY_FREE | flag::REFERENCED | flag::FORKED);
    let (owner, index) = meta.owner();
    for (pfn, offset) in frames(head).zip(0..) {
        let part = frame(pfn);
        part.set_state(Kind::Anon, 0, node);
        if flags != 0 {
            part.set(flags);
        }
        part.set_maps(maps);
        part.set_why(why);
        part.set_owner(owner, index + offset);
        part.set_refs(refs);
    }
    crate::node::recount(node, Kind::AnonHuge, Kind::Anon, FRAMES);
    BROKEN.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_broken_block_has_what_the_block_had() {
        // The last frames of the arena.
        let head = Pfn::new(511 << ORDER);
        let meta = frame(head);
        meta.set_state(Kind::AnonHuge, ORDER, NodeId::new(0));
        meta.set(flag::PRIVATE | flag::DIRTY);
        meta.set_refs(1);
        meta.set_maps(1);
        assert!(is_alone(head));
        share(head);
        enter(head);
        unmap(head, flag::REFERENCED);
        assert!(is_whole(head) && !is_alone(head) && !freeze(head, 2));
        break_up(head);
        break_up(head);
        assert!(!is_whole(head));
        let all = |refs, maps| {
            frames(head).all(|pfn| frame(pfn).refs() == refs && frame(pfn).maps() == maps)
        };
        assert!(all(3, 2));
        let kept = flag::DIRTY | flag::FORKED | flag::REFERENCED;
        assert!(frames(head).all(|pfn| frame(pfn).flags() == kept && frame(pfn).order() == 0));
        put(head);
        enter(head);
        unmap(head, 0);
        put(head);
        assert!(all(2, 2) && !freeze(head, 2));
    }
}
