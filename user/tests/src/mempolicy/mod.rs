//! Memory policies: what the calls accept, what they read back, and where pages go.

mod counters;
mod errors;
mod homenode;
mod inherit;
mod kinds;
mod mbind;
mod place;
mod range;
mod readback;
mod shared;
mod show;
mod strict;
mod weights;
mod why;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[
    errors::TESTS,
    readback::TESTS,
    place::TESTS,
    kinds::TESTS,
    mbind::TESTS,
    range::TESTS,
    strict::TESTS,
    shared::TESTS,
    inherit::TESTS,
    homenode::TESTS,
    weights::TESTS,
    show::TESTS,
    counters::TESTS,
    why::TESTS,
];
