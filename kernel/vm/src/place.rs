//! A frame for a page: the policy is asked, its nodes are tried in order, and the frame remembers
//! why it is there.

use crate::env;
use crate::vma::Vma;
use frames::faults::{self, Want};
use frames::meta::{Reason as Why, Why as History};
use frames::{Kind, Page, Usage};
use numa::policy::{Placement, Policy, Position, Reason, Site, place};

/// Where the page stands for interleaving.
#[derive(Clone, Copy)]
pub enum At {
    /// At this page offset of its mapping or object.
    Offset(u64),
    /// Nowhere in particular: the task's turn.
    Turn,
}

pub(crate) fn reason(reason: Reason) -> Why {
    match reason {
        Reason::Local => Why::Local,
        Reason::Preferred => Why::Preferred,
        Reason::Bind | Reason::Exact => Why::Bind,
        Reason::Interleave => Why::Interleave,
        Reason::WeightedInterleave => Why::WeightedInterleave,
        Reason::PreferredMany => Why::PreferredMany,
        Reason::Fallback => Why::Fallback,
    }
}

/// Tries the nodes of `placement`. The frame's contents are whatever was there.
#[inline(always)]
pub fn take(placement: &Placement<'_>, kind: Kind) -> Option<Page> {
    if faults::should_fail(Want::Frame) {
        return None;
    }
    let mut wanted = None;
    for node in placement.nodes() {
        let first = *wanted.get_or_insert(node);
        if let Some(pfn) = frames::alloc_one(node, kind, Usage::User) {
            let page = Page::from_alloc(pfn);
            frames::node::account(first, node, placement.is_interleave_hit(node));
            env::page_event(|| env::PageEvent::Allocated { node, wanted: first });
            page.frame().set_why(History {
                reason: reason(placement.reason_on(node)),
                cow: false,
                from: (first != node).then_some(first),
            });
            return Some(page);
        }
    }
    None
}

/// Notes in statistics and in the page itself where a page of `placement` came from.
pub(crate) fn note(page: &Page, placement: &Placement<'_>) {
    let node = page.node();
    let wanted = placement.first().unwrap_or(node);
    frames::node::account(wanted, node, placement.is_interleave_hit(node));
    env::page_event(|| env::PageEvent::Allocated { node, wanted });
    page.frame().set_why(History {
        reason: reason(placement.reason_on(node)),
        cow: false,
        from: (wanted != node).then_some(wanted),
    });
}

/// The nodes for a page under `policy` (None: the running task's own).
#[inline(always)]
pub fn placement(policy: Option<&Policy>, at: At) -> Placement<'static> {
    let machine = env::machine();
    env::with_numa(|task| {
        let site = Site {
            machine,
            weights: env::weights(),
            allowed: task.allowed,
            local: env::local_node(),
        };
        let own = task.policy;
        let policy = policy.or(own.as_ref());
        let position = match at {
            At::Offset(offset) => Position::At(offset),
            At::Turn => Position::Next(&mut task.turn),
        };
        place(policy, &site, position)
    })
}

/// Where page `addr` of `vma` stands for interleaving: its offset in what the area maps, counted
/// for an object from the object's own number.
pub fn position(vma: &Vma, addr: u64) -> u64 {
    vma.index(addr).wrapping_add(vma.object().map_or(0, |object| object.number()))
}

/// A frame under `policy` (None: the task's own). None when the policy's nodes are full.
#[inline]
pub fn page(policy: Option<&Policy>, at: At, kind: Kind) -> Option<Page> {
    take(&placement(policy, at), kind)
}

/// A zeroed frame under `policy`.
#[inline]
pub fn zeroed(policy: Option<&Policy>, at: At, kind: Kind) -> Option<Page> {
    let page = page(policy, at, kind)?;
    hal::phys::zero(page.pfn());
    Some(page)
}

/// A frame for the kernel's own use on behalf of the running CPU: the nearest node with memory.
pub fn kernel_frame(kind: Kind) -> Option<hal::Pfn> {
    if faults::should_fail(Want::Frame) {
        return None;
    }
    let machine = env::machine();
    machine
        .fallback(env::local_node())
        .iter()
        .find_map(|node| frames::alloc_one(node, kind, Usage::Kernel))
}
