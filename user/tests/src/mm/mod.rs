//! Address spaces: mapping, protection, copying on write, files and shared memory in them.

mod advise;
mod brk;
mod cow;
mod files;
mod limits;
mod lock;
mod map;
mod overcommit;
mod protect;
mod remap;
mod seals;
pub mod shm;
mod shootdown;
mod special;
mod stack;
mod unmap;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[
    map::TESTS,
    unmap::TESTS,
    remap::TESTS,
    protect::TESTS,
    stack::TESTS,
    brk::TESTS,
    limits::TESTS,
    overcommit::TESTS,
    cow::TESTS,
    advise::TESTS,
    lock::TESTS,
    files::TESTS,
    seals::TESTS,
    shm::TESTS,
    special::TESTS,
    shootdown::TESTS,
];
