//! Files, directories, pipes, sockets, terminals, and waiting for them.

mod depth;
mod devices;
mod directories;
mod epoll;
mod events;
mod io;
mod limits;
mod links;
mod locks;
mod news;
mod opening;
mod pipes;
mod poll;
mod pseudo;
mod pty;
mod pty_control;
mod renaming;
mod sigio;
mod socket_room;
mod sockets;
mod status;
mod sysrq;

use crate::harness::Test;

pub const GROUPS: &[&[Test]] = &[
    opening::TESTS,
    io::TESTS,
    status::TESTS,
    sysrq::TESTS,
    directories::TESTS,
    links::TESTS,
    renaming::TESTS,
    sigio::TESTS,
    pipes::TESTS,
    events::TESTS,
    poll::TESTS,
    news::TESTS,
    epoll::TESTS,
    limits::TESTS,
    locks::TESTS,
    sockets::TESTS,
    socket_room::TESTS,
    depth::TESTS,
    devices::TESTS,
    pseudo::TESTS,
    pty::TESTS,
    pty_control::TESTS,
];

/// An empty directory of the test's own.
fn scratch() -> String {
    let path = format!("/tmp/tests-fs-{}", crate::sys::getpid());
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    path
}
