//! Processes and threads: how they come, wait for each other, are told things, and end.

mod access;
mod access_files;
pub mod clone;
pub mod credentials;
mod exec;
mod futex;
mod futex_pi;
mod interrupted;
pub mod limits;
mod machine;
mod openings;
mod privilege;
mod process;
mod scheduling;
mod sessions;
mod signals;
mod tables;
mod threads;
mod timers;
mod traps;
mod wait;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[
    process::TESTS,
    wait::TESTS,
    exec::TESTS,
    clone::TESTS,
    threads::TESTS,
    futex::TESTS,
    futex_pi::TESTS,
    signals::TESTS,
    interrupted::TESTS,
    traps::TESTS,
    sessions::TESTS,
    credentials::TESTS,
    access::TESTS,
    access_files::TESTS,
    privilege::TESTS,
    openings::TESTS,
    limits::TESTS,
    timers::TESTS,
    scheduling::TESTS,
    machine::TESTS,
    tables::TESTS,
];
