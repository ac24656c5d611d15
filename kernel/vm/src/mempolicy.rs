//! Policies on ranges of an address space: mbind(2), set_mempolicy_home_node(2), get_mempolicy(2)
//! with an address, migrate_pages(2).

use crate::fault::Access;
use crate::mm::Mm;
use crate::object::MemObject;
use crate::place::{self, At};
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags, same_policy};
use crate::{PAGE, env, hugetlb, transparent};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{TryVec, arc};
use frames::frame;
use frames::meta::Reason;
use numa::policy::{FarNodes, Placement, Policy, Request};
use numa::{NodeId, NodeMask};

/// MPOL_MF_STRICT, MOVE, MOVE_ALL.
#[derive(Clone, Copy, Debug, Default)]
pub struct MoveFlags {
    pub strict: bool,
    pub moves: bool,
    /// Pages of several processes too.
    pub all: bool,
}

impl MoveFlags {
    fn any_move(self) -> bool {
        self.moves || self.all
    }
}

/// The policy of page `addr` of `vma`: the object's, for shared memory, else the area's own.
pub fn policy_of(vma: &Vma, addr: u64) -> Option<Arc<Policy>> {
    match vma.policy_object() {
        Some(object) => object.policy_at(vma.index(addr)),
        None => vma.policy.clone(),
    }
}

impl Mm {
    /// mbind(2) over the page-aligned `[start, end)`. EFAULT for a hole, EIO when STRICT is not
    /// met, ENOMEM.
    pub fn bind(
        &self,
        start: u64,
        end: u64,
        request: &Request,
        policy: Option<Policy>,
        flags: MoveFlags,
    ) -> Result<()> {
        let holes_allowed = request.is_default();
        let strict = flags.strict && !request.is_default();
        {
            let mut vmas = self.vmas.write();
            // Mostly one private area holds it all.
            let one = vmas.find(start).filter(|vma| end <= vma.end);
            let private = one.is_some_and(|vma| vma.object().is_none());
            if one.is_none() {
                let first = vmas.range(start, end).next().ok_or(Errno::EFAULT)?;
                if !holes_allowed && first.start > start {
                    return Err(Errno::EFAULT);
                }
            }
            // Area by area, each first for the hole behind it: what is found first is told.
            let only_look = strict && !flags.any_move();
            let areas = (one.is_none() || only_look).then(|| vmas.range(start, end));
            for vma in areas.into_iter().flatten() {
                let stop = vma.end.min(end);
                if !holes_allowed && stop < end && vmas.find(stop).is_none() {
                    return Err(Errno::EFAULT);
                }
                let misplaced = |node| request.is_misplaced(node);
                if only_look && self.any_misplaced(vma, vma.start.max(start), stop, misplaced) {
                    return Err(Errno::EIO);
                }
            }
            let policy = policy.map(arc).transpose()?;
            let objects = if private {
                Vec::new()
            } else {
                Self::objects_of(&vmas, start, end, policy.as_ref())?
            };
            self.set_policies(&mut vmas, start, end, policy, objects)?;
        }
        let mut failed = 0;
        if flags.any_move() {
            failed = self.move_misplaced(
                start,
                end,
                flags.all,
                Reason::MovedMbind,
                |vma, addr, node, huge| {
                    request.is_misplaced(node).then(|| {
                        let policy = policy_of(vma, addr);
                        let at = match (vma.is_huge(), huge) {
                            (true, _) => vma.index(addr) / hugetlb::FRAMES,
                            (false, true) if vma.object().is_some() => {
                                place::position(vma, vma.start) - vma.pgoff
                                    + vma.index(addr) / hugetlb::FRAMES
                            }
                            (false, true) => transparent::position(vma, addr),
                            (false, false) => place::position(vma, addr),
                        };
                        place::placement(policy.as_deref(), At::Offset(at))
                    })
                },
            );
        }
        if failed > 0 && strict { Err(Errno::EIO) } else { Ok(()) }
    }

    /// The objects behind the areas of the range that are to have the policy, with their pages. As
    /// on Linux, an area that was given it before leaves its object alone, though another process
    /// may have given that another.
    fn objects_of(
        vmas: &crate::VmaTree,
        start: u64,
        end: u64,
        policy: Option<&Arc<Policy>>,
    ) -> Result<Vec<(Arc<MemObject>, u64, u64)>> {
        let changing =
            vmas.range(start, end).filter(|vma| !same_policy(vma.policy.as_ref(), policy));
        Vec::gather(changing.filter_map(|vma| {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            let first = vma.index(from);
            Some((vma.policy_object()?.clone(), first, first + (to - from) / PAGE))
        }))
    }

    /// Gives every area of the range the policy, and these objects.
    fn set_policies(
        &self,
        vmas: &mut crate::VmaTree,
        start: u64,
        end: u64,
        policy: Option<Arc<Policy>>,
        objects: Vec<(Arc<MemObject>, u64, u64)>,
    ) -> Result<()> {
        self.update_areas(vmas, start, end, |vma| {
            vma.policy = policy.clone();
            Ok(())
        })?;
        for (object, first, last) in objects {
            object.set_policy(first, last, policy.clone());
        }
        Ok(())
    }

    /// The area tree is locked.
    fn any_misplaced(
        &self,
        vma: &Vma,
        start: u64,
        end: u64,
        misplaced: impl Fn(NodeId) -> bool,
    ) -> bool {
        let mut found = false;
        table::for_each_entry(self.root(), start, end, |_, pte| {
            if let State::Page(pfn) = table::state(pte) {
                found |= !vma.reserves(frame(pfn)) && misplaced(frame(pfn).node());
            }
            !found
        });
        found
    }

    /// set_mempolicy_home_node(2): ENOENT without a policy in the range, EOPNOTSUPP for one of
    /// another mode.
    pub fn set_home_node(&self, start: u64, end: u64, home: NodeId) -> Result<()> {
        let mut vmas = self.vmas.write();
        let areas = vmas.range(start, end).map(|v| (v.start.max(start), v.end.min(end)));
        let areas = Vec::gather(areas)?;
        let mut outcome = Err(Errno::ENOENT);
        for (from, to) in areas {
            let Some(old) = vmas.find(from).and_then(|v| v.policy.clone()) else { continue };
            let new = old.with_home(home).map_err(|_| Errno::EOPNOTSUPP)?;
            let new = arc(new)?;
            let objects = Self::objects_of(&vmas, from, to, Some(&new))?;
            outcome = self.set_policies(&mut vmas, from, to, Some(new), objects);
        }
        outcome
    }

    /// The policy at `addr`, for get_mempolicy(2) with MPOL_F_ADDR. EFAULT when nothing is mapped.
    pub fn policy_at(&self, addr: u64) -> Result<Option<Arc<Policy>>> {
        let vmas = self.vmas.read();
        vmas.find(addr).map(|vma| policy_of(vma, addr)).ok_or(Errno::EFAULT)
    }

    /// The node of the page at `addr`, which is faulted in (get_mempolicy(2) with MPOL_F_NODE and
    /// MPOL_F_ADDR). EFAULT when it cannot be.
    pub fn node_at(&self, addr: u64) -> Result<NodeId> {
        loop {
            {
                let vmas = self.vmas.read();
                let found = table::find(self.root(), addr).map(|(_, pte)| pte);
                let present = found.filter(|pte| pte.present()).map(table::state);
                if let Some(State::Page(pfn)) = present {
                    return Ok(frame(pfn).node());
                }
                // As for a debugger's look: memory that may not be read is not brought in for it,
                // and the page of zeroes is not looked at there.
                let access = VmaFlags::READ | VmaFlags::PFN_MAP;
                let readable = |vma: &Vma| vma.flags & access == VmaFlags::READ;
                if !vmas.find(addr).is_some_and(readable) {
                    return Err(Errno::EFAULT);
                }
                if let Some(State::Special(pfn)) = present {
                    return Ok(frame(pfn).node());
                }
            }
            let read = Access { write: false, exec: false };
            self.fault(addr, read).map_err(|_| Errno::EFAULT)?;
        }
    }

    /// The policies of all areas follow a change of the nodes that the process may use. What there is
    /// no memory for stays as it is: nodes that may not be used are left out in any case.
    pub fn rebind(&self, allowed: NodeMask) {
        let mut vmas = self.vmas.write();
        let mut last: Option<(Arc<Policy>, Arc<Policy>)> = None;
        let mut at = 0;
        loop {
            let with_policy = |vma: &&Vma| vma.policy.is_some();
            let next = vmas.range(at, hal::user::USER_END).find(with_policy);
            let Some((start, end)) = next.map(|vma| (vma.start, vma.end)) else { return };
            at = end;
            let Some(vma) = vmas.exactly(start, end) else { continue };
            let Some(old) = vma.policy.clone() else { continue };
            // Parts of what was one area share their policy.
            let known = last.as_ref().filter(|(from, _)| Arc::ptr_eq(from, &old));
            let new = match known {
                Some((_, new)) => Ok(new.clone()),
                None => {
                    let mut policy = *old;
                    policy.rebind(allowed);
                    arc(policy)
                }
            };
            if let Ok(new) = new {
                vma.policy = Some(new.clone());
                last = Some((old, new));
            }
        }
    }

    /// migrate_pages(2): moves all pages on nodes of `from` to those of `to`, keeping ranks; pages
    /// left behind.
    pub fn migrate_nodes(&self, from: NodeMask, far: FarNodes, to: NodeMask, all: bool) -> u64 {
        let machine = env::machine();
        let mut left = 0;
        for (source, dest) in numa::policy::migrate::moves(from, far, to) {
            let end = hal::user::USER_END;
            left += self.move_misplaced(0, end, all, Reason::MovedMigratePages, |_, _, node, _| {
                (node == source).then(|| Placement::exactly(machine, dest))
            });
        }
        left
    }
}
