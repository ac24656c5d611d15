//! Moving pages that exist: move_pages(2), migrate_pages(2), and all of it under fire.

mod move_pages;
mod others;
mod process;
mod torture;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[move_pages::TESTS, others::TESTS, process::TESTS, torture::TESTS];
