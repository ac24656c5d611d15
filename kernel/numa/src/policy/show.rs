//! Policies as /proc/PID/numa_maps shows them: "default", "bind=static:0-3", "prefer (many):1".

use super::{Mode, Policy};
use core::fmt;

/// A policy's text; made by [`show`].
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(Option<&'a Policy>);

/// The text of `policy`: of MPOL_DEFAULT when there is none.
#[must_use]
pub const fn show(policy: Option<&Policy>) -> Shown<'_> {
    Shown(policy)
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(Mode::Default.name()),
            Some(policy) => policy.fmt(f),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.mode().name(), self.flags())?;
        if self.nodes().is_empty() { Ok(()) } else { write!(f, ":{}", self.nodes()) }
    }
}
