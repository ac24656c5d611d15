//! affinity

use crate::harness::{Test, tests};

pub const TESTS: &[Test] = tests![];
