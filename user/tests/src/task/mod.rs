//! Processes and threads: how they come, wait for each other, are told things, and end.

pub mod credentials;
pub mod limits;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[credentials::TESTS, limits::TESTS];
