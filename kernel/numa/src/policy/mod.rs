//! Memory policies: what set_mempolicy(2) and mbind(2) accept, remember and decide.
//!
//! The way of a policy: [`ModeWord::parse`] reads the mode word, [`Request::new`] adds the nodes
//! that the program named, [`Request::resolve`] applies them to the nodes that the task may use.
//! What comes out is a [`Policy`], or none for MPOL_DEFAULT. [`place`] turns a policy into the
//! order in which nodes are tried for a page; [`migrate`] says which pages have to move where.
//!
//! The steps are apart because a system call checks other arguments between them. Behaviour in
//! every corner is that of Linux 6.12; the tests hold answers of a booted one. Where a policy
//! lives (task, VMA, shared object) is the kernel's business.

mod interleave;
pub mod migrate;
mod mode;
mod place;
pub mod remap;
mod show;

pub use interleave::{Interleaver, Weights};
pub use mode::{Mode, ModeFlags, ModeWord};
pub use place::{Placement, Position, Reason, Site, place};
pub use show::{Shown, show};

use crate::ids::NodeId;
use crate::mask::NodeMask;
use core::fmt;

/// Why there is no such policy. Every one of these is EINVAL to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The mode has no meaning.
    UnknownMode,
    /// The flags contradict each other or the mode.
    Flags,
    /// The mode takes no nodes, but some are named.
    UnwantedNodes,
    /// The mode needs nodes, but none is named.
    NoNodes,
    /// Of the nodes named, none is allowed and has memory.
    NoUsableNodes,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownMode => "no such policy mode",
            Self::Flags => "policy flags contradict each other or the mode",
            Self::UnwantedNodes => "the policy mode takes no nodes",
            Self::NoNodes => "the policy mode needs nodes",
            Self::NoUsableNodes => "none of the nodes is allowed and has memory",
        })
    }
}

/// Why a policy takes no home node (set_mempolicy_home_node(2)): EOPNOTSUPP to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHome;

/// A policy as a program asks for it, not yet applied to the nodes that it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    word: ModeWord,
    nodes: NodeMask,
    far: FarNodes,
}

/// Bits of a program's mask beyond the nodes that this kernel can have, from bit 64 on: none of
/// them is a node, but RELATIVE_NODES counts them round and round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarNodes(pub [u64; 15]);

impl FarNodes {
    /// No bit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 15]
    }

    /// How many bits are set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits().count()
    }

    fn bits(self) -> impl Iterator<Item = usize> {
        (0..15 * 64).filter(move |bit| self.0[bit / 64] >> (bit % 64) & 1 == 1).map(|bit| bit + 64)
    }
}

impl Request {
    /// Checks that `nodes`, as the program named them (empty for a null pointer), go with the
    /// mode. PREFERRED without nodes becomes LOCAL here.
    pub fn new(word: ModeWord, nodes: NodeMask) -> Result<Self, PolicyError> {
        Self::with_far(word, nodes, FarNodes::default())
    }

    /// As [`Self::new`], for a mask that also has bits beyond all nodes.
    pub fn with_far(word: ModeWord, nodes: NodeMask, far: FarNodes) -> Result<Self, PolicyError> {
        let numbering = ModeFlags::STATIC_NODES.union(ModeFlags::RELATIVE_NODES);
        let mut word = word;
        match (word.mode, nodes.is_empty() && far.is_empty()) {
            (Mode::Default | Mode::Local, false) => return Err(PolicyError::UnwantedNodes),
            (Mode::Preferred | Mode::Local, true) if word.flags.any_of(numbering) => {
                return Err(PolicyError::Flags);
            }
            (Mode::Preferred, true) => word.mode = Mode::Local,
            (Mode::Default | Mode::Local, true) | (_, false) => {}
            (_, true) => return Err(PolicyError::NoNodes),
        }
        Ok(Self { word, nodes, far })
    }

    /// The policy for a task that may use `allowed`, on a machine with memory on `memory`. None
    /// is the policy of MPOL_DEFAULT.
    pub fn resolve(
        &self,
        allowed: NodeMask,
        memory: NodeMask,
    ) -> Result<Option<Policy>, PolicyError> {
        let mut policy =
            Policy { word: self.word, nodes: NodeMask::EMPTY, reference: self.nodes, home: None };
        match self.word.mode {
            Mode::Default => return Ok(None),
            Mode::Local => return Ok(Some(policy)),
            _ => {}
        }
        let usable = allowed & memory;
        let nodes = if self.word.flags.any_of(ModeFlags::RELATIVE_NODES) {
            let count = usable.count();
            let far = self.far.bits().filter_map(|bit| usable.iter().nth(bit.checked_rem(count)?));
            far.fold(remap::relative(self.nodes, usable), |all, node| all | NodeMask::single(node))
        } else {
            self.nodes & usable
        };
        let first = nodes.first().ok_or(PolicyError::NoUsableNodes)?;
        policy.nodes = match self.word.mode {
            Mode::Preferred => NodeMask::single(first),
            _ => nodes,
        };
        if !policy.keeps_user_mask() {
            policy.reference = allowed;
        }
        Ok(Some(policy))
    }

    /// Whether mbind(2) with MPOL_MF_STRICT, MOVE or MOVE_ALL finds a page on `node` out of
    /// place. Linux asks the nodes exactly as the program named them, before they are trimmed or
    /// counted relatively: a mode without nodes (DEFAULT, LOCAL) finds every page out of place.
    /// (STRICT does not count with DEFAULT: see [`Self::is_default`].)
    #[must_use]
    #[inline]
    pub const fn is_misplaced(&self, node: NodeId) -> bool {
        !self.nodes.contains(node)
    }

    /// Whether this is MPOL_DEFAULT: then mbind(2) ignores MPOL_MF_STRICT and accepts holes.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.word.mode == Mode::Default
    }
}

/// A policy in force. It is never MPOL_DEFAULT: that is the absence of a policy.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    word: ModeWord,
    /// The nodes that count now; one for PREFERRED, none for LOCAL.
    nodes: NodeMask,
    /// The program's own mask where a flag asks to keep it, else the nodes that were allowed when
    /// `nodes` was made. Linux keeps both in one place, and in some modes writes the one over the
    /// other when the allowed nodes change; programs can read that, so it is so here too.
    reference: NodeMask,
    /// From where BIND and PREFERRED_MANY count distances, instead of from the task's node.
    home: Option<NodeId>,
}

impl Policy {
    /// The mode; never [`Mode::Default`].
    #[must_use]
    #[inline]
    pub const fn mode(&self) -> Mode {
        self.word.mode
    }

    /// The flags.
    #[must_use]
    pub const fn flags(&self) -> ModeFlags {
        self.word.flags
    }

    /// The nodes that the policy names at present.
    #[must_use]
    #[inline]
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// The home node, where one was set.
    #[must_use]
    pub const fn home(&self) -> Option<NodeId> {
        self.home
    }

    fn keeps_user_mask(&self) -> bool {
        self.word.flags != ModeFlags::NONE
    }

    /// This policy with distances counted from `node` (set_mempolicy_home_node(2)).
    pub fn with_home(mut self, node: NodeId) -> Result<Self, NoHome> {
        match self.word.mode {
            Mode::Bind | Mode::PreferredMany => {
                self.home = Some(node);
                Ok(self)
            }
            _ => Err(NoHome),
        }
    }

    /// Follows a change of the nodes that the task may use to `allowed` (which have memory).
    ///
    /// Without flags nodes move with their rank; STATIC_NODES takes what the program named and is
    /// allowed again; RELATIVE_NODES counts anew. When that leaves none, all allowed nodes are
    /// taken. PREFERRED and PREFERRED_MANY keep their nodes and only read back differently.
    pub fn rebind(&mut self, allowed: NodeMask) {
        let flags = self.word.flags;
        if self.word.mode == Mode::Local || !self.keeps_user_mask() && self.reference == allowed {
            return;
        }
        if matches!(self.word.mode, Mode::Preferred | Mode::PreferredMany) {
            self.reference = allowed;
            return;
        }
        let nodes = if flags.any_of(ModeFlags::STATIC_NODES) {
            self.reference & allowed
        } else if flags.any_of(ModeFlags::RELATIVE_NODES) {
            remap::relative(self.reference, allowed)
        } else {
            let moved = remap::remap(self.nodes, self.reference, allowed);
            self.reference = allowed;
            moved
        };
        self.nodes = if nodes.is_empty() { allowed } else { nodes };
    }
}

/// The mode word and the nodes that get_mempolicy(2) gives for `policy`.
#[must_use]
pub fn read_back(policy: Option<&Policy>) -> (i32, NodeMask) {
    match policy {
        None => (Mode::Default as i32, NodeMask::EMPTY),
        Some(policy) if policy.keeps_user_mask() => (policy.word.number(), policy.reference),
        Some(policy) => (policy.word.number(), policy.nodes),
    }
}

/// What get_mempolicy(2) with MPOL_F_NODE alone says: the node that the next allocation of an
/// interleaving task goes to. None (EINVAL to a program) under any other policy.
#[must_use]
pub fn next_node(policy: Option<&Policy>, turn: &Interleaver) -> Option<NodeId> {
    let policy = policy?;
    match policy.word.mode {
        Mode::Interleave => turn.peek(policy.nodes),
        Mode::WeightedInterleave => turn.peek_weighted(policy.nodes),
        _ => None,
    }
}

/// Policies are equal when they decide and read back the same: then VMAs that have them may be
/// merged.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
            && self.home == other.home
            && self.nodes == other.nodes
            && (!self.keeps_user_mask() || self.reference == other.reference)
    }
}

impl Eq for Policy {}
