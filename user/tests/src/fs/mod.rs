//! fs

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[];
