//! The mode word of set_mempolicy(2) and mbind(2): a mode, and flags in its upper bits.
//!
//! The numbers are those of `<linux/mempolicy.h>`. Which combinations exist is decided here, as
//! Linux does before it looks at any nodes.

use core::fmt;

/// What kind of policy a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// No policy of one's own: a VMA takes the task's, a task takes memory where it runs.
    Default = 0,
    /// One node first, then the others by their distance from it.
    Preferred = 1,
    /// Only the named nodes, nearest first.
    Bind = 2,
    /// Page by page over the named nodes.
    Interleave = 3,
    /// Where the task runs at that moment.
    Local = 4,
    /// The named nodes, nearest first, then the others.
    PreferredMany = 5,
    /// Over the named nodes, as many pages in turn as each one's weight says.
    WeightedInterleave = 6,
}

impl Mode {
    const ALL: [Self; 7] = [
        Self::Default,
        Self::Preferred,
        Self::Bind,
        Self::Interleave,
        Self::Local,
        Self::PreferredMany,
        Self::WeightedInterleave,
    ];

    /// The mode with this number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name that numa_maps shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Preferred => "prefer",
            Self::Bind => "bind",
            Self::Interleave => "interleave",
            Self::Local => "local",
            Self::PreferredMany => "prefer (many)",
            Self::WeightedInterleave => "weighted interleave",
        }
    }

    /// Whether pages are dealt out by position.
    #[must_use]
    pub const fn interleaves(self) -> bool {
        matches!(self, Self::Interleave | Self::WeightedInterleave)
    }
}

/// The flags in a mode word: a set of [`ModeFlags::STATIC_NODES`] and its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModeFlags(u16);

impl ModeFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The program's node numbers mean exactly these nodes, whatever is allowed later
    /// (MPOL_F_STATIC_NODES).
    pub const STATIC_NODES: Self = Self(1 << 15);
    /// The program's node numbers count within the allowed nodes (MPOL_F_RELATIVE_NODES).
    pub const RELATIVE_NODES: Self = Self(1 << 14);
    /// Pages may move towards their users within the policy (MPOL_F_NUMA_BALANCING).
    pub const NUMA_BALANCING: Self = Self(1 << 13);

    const ALL: u16 = 0b111 << 13;

    /// The flags as they stand in a mode word.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0 as i32
    }

    /// Whether any flag of `other` is set.
    #[must_use]
    pub const fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The part "=static|balancing" of a policy's text; nothing without flags.
impl fmt::Display for ModeFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(ModeFlags, &str); 3] = [
            (ModeFlags::STATIC_NODES, "static"),
            (ModeFlags::RELATIVE_NODES, "relative"),
            (ModeFlags::NUMA_BALANCING, "balancing"),
        ];
        let mut separator = "=";
        for (flag, name) in NAMES {
            if self.any_of(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

/// A mode with its flags, in a combination that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModeWord {
    /// The mode.
    pub mode: Mode,
    /// The flags.
    pub flags: ModeFlags,
}

impl ModeWord {
    /// Takes a system call's argument apart. A mode that does not exist, STATIC_NODES together
    /// with RELATIVE_NODES, and NUMA_BALANCING with any mode but BIND and PREFERRED_MANY are
    /// [`PolicyError`](super::PolicyError)s.
    pub fn parse(word: i32) -> Result<Self, super::PolicyError> {
        use super::PolicyError::{Flags, UnknownMode};
        let flags = ModeFlags(word as u16 & ModeFlags::ALL);
        let mode = Mode::from_number(word & !i32::from(ModeFlags::ALL)).ok_or(UnknownMode)?;
        let one = |flag| flags.any_of(flag);
        if one(ModeFlags::STATIC_NODES) && one(ModeFlags::RELATIVE_NODES) {
            return Err(Flags);
        }
        let balances = matches!(mode, Mode::Bind | Mode::PreferredMany);
        if one(ModeFlags::NUMA_BALANCING) && !balances {
            return Err(Flags);
        }
        Ok(Self { mode, flags })
    }

    /// The number that get_mempolicy(2) gives back.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.mode as i32 | self.flags.bits()
    }
}
