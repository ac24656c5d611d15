//! Differences that are none: where Linux's own answer is not one answer. Each has its reason.
//!
//! What can be left out beforehand is not generated at all (user/fuzz/src/generate/, and the
//! list in docs/fuzzing.md).

pub struct Mask {
    pub why: &'static str,
    /// The operation, Linux's line, the other kernel's.
    pub covers: fn(&str, &str, &str) -> bool,
}

pub const MASKS: &[Mask] = &[];

/// The mask that covers a difference.
pub fn covering(op: &str, linux: &str, other: &str) -> Option<&'static Mask> {
    MASKS.iter().find(|mask| (mask.covers)(op, linux, other))
}
