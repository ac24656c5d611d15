//! Huge pages of the pool (hugetlb) in address spaces and objects: reserved when they are mapped,
//! taken from the pool at the fault, placed by the policy of their area and never elsewhere.
//!
//! * [`area`]: what is reserved for a private mapping; [`object`]: for an object, and its pages.
//! * [`fault`]: making a page present and copying on write; [`map`]: mapping, fork, giving back.
//!
//! Page indices are in pages of 4 KiB here, too: a huge page has the index of its first one. Which
//! node a page comes from is the area's policy or the task's, counted in huge pages from the
//! object's begin. An object has no policy of its own: Linux took that away in 6.7.

pub mod area;
#[cfg(target_os = "none")]
mod fault;
#[cfg(target_os = "none")]
mod map;
pub mod object;

pub use area::HugeArea;
pub use object::HugePages;

use crate::{env, place};
use core::sync::atomic::AtomicU32;
use frames::Page;
use frames::hugetlb::{self, From};
use frames::meta::Why;
use numa::NodeMask;
use numa::policy::{Mode, Placement};

/// Frames of a huge page, as page indices count them.
pub const FRAMES: u64 = hugetlb::FRAMES;

/// The group that may use huge segments without CAP_IPC_LOCK (vm.hugetlb_shm_group).
pub static SHM_GROUP: AtomicU32 = AtomicU32::new(0);

/// The nodes that a reservation of the running task may count on: those of its own binding, or all
/// that it may use. An area's policy is not asked, as on Linux.
pub fn reservable() -> NodeMask {
    env::with_numa(|task| match &task.policy {
        Some(policy) if policy.mode() == Mode::Bind && policy.nodes().intersects(&task.allowed) => {
            policy.nodes() & task.allowed
        }
        _ => task.allowed,
    })
}

/// A huge page from the nodes of `placement`, contents undefined. It counts in `share`.
pub(crate) fn take(placement: &Placement<'_>, from: From, share: u64) -> Option<Page> {
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let page = hugetlb::take(placement.nodes(), from)?;
    page.frame().set_owner(share, 0);
    note(&page, placement);
    Some(page)
}

/// A huge page to move to, on the policy's own nodes: where they have none it stays where it is.
#[cfg(target_os = "none")]
pub(crate) fn take_for_migration(placement: &Placement<'_>) -> Option<Page> {
    let page = hugetlb::take_for_migration(placement.nodes_of_policy())?;
    note(&page, placement);
    Some(page)
}

/// Notes why the page is where it is.
fn note(page: &Page, placement: &Placement<'_>) {
    let node = page.node();
    let wanted = placement.first().unwrap_or(node);
    env::page_event(|| env::PageEvent::Allocated { node, wanted });
    page.frame().set_why(Why {
        reason: place::reason(placement.reason_on(node)),
        cow: false,
        from: (wanted != node).then_some(wanted),
    });
}

/// The page at `new` is the page at `old` from now on, and counts where that did.
#[cfg(target_os = "none")]
pub(crate) fn moved(old: hal::Pfn, new: hal::Pfn) {
    let (share, _) = frames::frame(old).owner();
    frames::frame(new).set_owner(share, 0);
    frames::frame(old).set_owner(0, 0);
    hugetlb::moved(old, new);
}
