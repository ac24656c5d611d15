//! O_ASYNC: signals of what became ready, and to whom they go.

use libc::*;

use super::pty::{attributes, pair as terminal, set_attributes};
use super::scratch;
use crate::child::{join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, close, fails, getpid, pipe_with, read, sys, write};

pub const TESTS: &[Test] = tests![
    some_files_signal_and_others_do_not,
    opening_asks_for_no_signals,
    owners_are_named_in_many_ways,
    an_owner_that_is_gone_is_nobody,
    a_pipe_signals_each_side_of_the_other,
    every_opening_of_a_fifo_is_told,
    the_descriptor_that_armed_is_named,
    a_socket_signals_what_comes,
    a_socket_signals_room_that_was_wanted,
    a_listener_signals_connections,
    shutting_both_directions_is_a_hang_up,
    a_terminal_signals_lines_and_bytes,
    a_terminal_signals_room_that_was_wanted,
    a_terminal_has_an_owner_by_default,
    a_thread_is_told_itself,
    a_full_queue_leaves_a_plain_signal,
    signals_with_codes_of_their_own_say_sigio,
    signalfd_tells_of_files,
    the_rights_are_those_of_who_named_the_owner,
];

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
/// Types of `struct f_owner_ex`.
const THREAD: i32 = 0;
const PROCESS: i32 = 1;
const GROUP: i32 = 2;
const FIOSETOWN: u64 = 0x8901;
const FIOGETOWN: u64 = 0x8903;

const IN: (i32, u64) = (1, 0x41);
const OUT: (i32, u64) = (2, 0x304);
const HUP: (i32, u64) = (6, 0x18);
/// SI_KERNEL.
const KERNEL: i32 = 0x80;

/// Two signals of the tests' own.
const FIRST: i32 = 40;
const SECOND: i32 = 41;

fn set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Blocks what is taken by [`next`].
fn block() -> u64 {
    let mask = set(&[FIRST, SECOND, SIGIO, SIGCHLD]);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, &raw const mask, 0, 8).unwrap();
    mask
}

/// The next signal, code, band and descriptor, within so many seconds.
fn within(seconds: i64) -> Option<(i32, i32, u64, i32)> {
    let mask = set(&[FIRST, SECOND, SIGIO, SIGCHLD]);
    let (mut info, time) = ([0u32; 32], [seconds, 0]);
    let got =
        sys!(SYS_rt_sigtimedwait, &raw const mask, info.as_mut_ptr(), time.as_ptr(), 8).ok()?;
    let band = u64::from(info[4]) | u64::from(info[5]) << 32;
    Some((got as i32, info[2] as i32, band, info[6] as i32))
}

/// Asserts that one signal is there, and no other.
#[track_caller]
fn told(signal: i32, (code, band): (i32, u64), fd: i32) {
    assert_eq!(within(0), Some((signal, code, band, fd)));
    silent();
}

/// As [`told`], of what a terminal hands on in its own time.
#[track_caller]
fn comes(signal: i32, (code, band): (i32, u64), fd: i32) {
    assert_eq!(within(10), Some((signal, code, band, fd)));
}

/// Asserts that a SIGIO is there that tells nothing, and no other.
#[track_caller]
fn plain() {
    let got = within(0).map(|(signal, code, ..)| (signal, code));
    assert_eq!(got, Some((SIGIO, KERNEL)));
    silent();
}

#[track_caller]
fn silent() {
    assert_eq!(within(0), None);
}

fn fcntl(fd: i32, command: i32, value: i32) -> sys::Result<usize> {
    sys!(SYS_fcntl, fd, command, value)
}

fn flags(fd: i32) -> i32 {
    fcntl(fd, F_GETFL, 0).unwrap() as i32
}

fn owner(fd: i32) -> i32 {
    let mut pair = [-1i32; 2];
    sys!(SYS_fcntl, fd, F_GETOWN_EX, pair.as_mut_ptr()).unwrap();
    let sign = if pair[0] == GROUP { -1 } else { 1 };
    sign * pair[1]
}

fn owner_ex(fd: i32) -> [i32; 2] {
    let mut pair = [-1i32; 2];
    sys!(SYS_fcntl, fd, F_GETOWN_EX, pair.as_mut_ptr()).unwrap();
    pair
}

fn own_ex(fd: i32, kind: i32, id: i32) -> sys::Result<usize> {
    let pair = [kind, id];
    sys!(SYS_fcntl, fd, F_SETOWN_EX, pair.as_ptr())
}

fn fioasync(fd: i32, on: i32) -> sys::Result<usize> {
    sys!(SYS_ioctl, fd, FIOASYNC, &raw const on)
}

/// Has this process told by `signal`.
fn arm(fd: i32, signal: i32) {
    fcntl(fd, F_SETOWN, getpid()).unwrap();
    fcntl(fd, F_SETSIG, signal).unwrap();
    fcntl(fd, F_SETFL, flags(fd) | O_ASYNC).unwrap();
}

fn sockets(kind: i32) -> (i32, i32) {
    let mut ends = [0i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind | SOCK_NONBLOCK, 0, ends.as_mut_ptr()).unwrap();
    (ends[0], ends[1])
}

fn ends() -> (i32, i32) {
    pipe_with(O_NONBLOCK).unwrap()
}

fn some_files_signal_and_others_do_not() {
    let (reader, writer) = ends();
    let (master, slave) = terminal();
    for fd in [reader, writer, sockets(SOCK_DGRAM).0, master, slave] {
        fcntl(fd, F_SETFL, flags(fd) | O_ASYNC).unwrap();
        assert!(flags(fd) & O_ASYNC != 0);
        fcntl(fd, F_SETFL, flags(fd) & !O_ASYNC).unwrap();
        assert!(flags(fd) & O_ASYNC == 0);
        for on in [1, 1, 0, 0] {
            assert_eq!(fioasync(fd, on), Ok(0));
            assert_eq!(flags(fd) & O_ASYNC != 0, on != 0);
        }
    }
    let dir = scratch();
    let file = sys::open(&format!("{dir}/file"), O_CREAT | O_RDWR, 0o600).unwrap();
    let eventfd = sys!(SYS_eventfd2, 0, 0).unwrap() as i32;
    let epoll = sys!(SYS_epoll_create1, 0).unwrap() as i32;
    let null = sys::open("/dev/null", O_RDWR, 0).unwrap();
    for fd in [file, eventfd, epoll, null] {
        fcntl(fd, F_SETFL, flags(fd) | O_ASYNC).unwrap();
        assert!(flags(fd) & O_ASYNC == 0);
        fails(fioasync(fd, 1), ENOTTY);
        assert_eq!(fioasync(fd, 0), Ok(0));
    }
    fails(sys!(SYS_ioctl, reader, FIOASYNC, 8), EFAULT);
    let place = sys::open("/", O_PATH, 0).unwrap();
    fails(fioasync(place, 1), EBADF);
    fails(fcntl(place, F_SETOWN, getpid()), EBADF);
}

fn opening_asks_for_no_signals() {
    block();
    let dir = scratch();
    let path = format!("{dir}/fifo");
    sys!(SYS_mknod, sys::c(&path).as_ptr(), S_IFIFO | 0o600, 0).unwrap();
    let fifo = sys::open(&path, O_RDWR | O_ASYNC, 0).unwrap();
    assert!(flags(fifo) & O_ASYNC != 0);
    // Nothing is armed, and as the flag is there, and stays, nothing can be.
    for _ in 0..2 {
        arm(fifo, FIRST);
        write(fifo, b"x").unwrap();
        silent();
        fcntl(fifo, F_SETFL, O_RDWR).unwrap();
        assert_eq!(fioasync(fifo, 0), Ok(0));
        assert!(flags(fifo) & O_ASYNC != 0);
    }
    // A file that cannot signal keeps the flag that it was opened with.
    let file = sys::open(&format!("{dir}/file"), O_CREAT | O_RDWR | O_ASYNC, 0o600).unwrap();
    fcntl(file, F_SETFL, O_RDWR).unwrap();
    assert!(flags(file) & O_ASYNC != 0);
}

fn owners_are_named_in_many_ways() {
    let (fd, _) = ends();
    let (pid, group) = (getpid(), sys!(SYS_getpgid, 0).unwrap() as i32);
    assert_eq!(owner_ex(fd), [THREAD, 0]);
    fcntl(fd, F_SETOWN, pid).unwrap();
    assert_eq!(owner_ex(fd), [PROCESS, pid]);
    assert_eq!(fcntl(fd, F_GETOWN, 0), Ok(pid as usize));
    fails(fcntl(fd, F_SETOWN, 3_999_999), ESRCH);
    fails(fcntl(fd, F_SETOWN, -3_999_999), ESRCH);
    fails(fcntl(fd, F_SETOWN, i32::MIN), EINVAL);
    fcntl(fd, F_SETOWN, -group).unwrap();
    assert_eq!(owner_ex(fd), [GROUP, group]);
    own_ex(fd, THREAD, pid).unwrap();
    assert_eq!(owner_ex(fd), [THREAD, pid]);
    for kind in [-1, 3] {
        fails(own_ex(fd, kind, pid), EINVAL);
    }
    fails(own_ex(fd, PROCESS, -1), ESRCH);
    fails(own_ex(fd, GROUP, -group), ESRCH);
    fails(sys!(SYS_fcntl, fd, F_SETOWN_EX, 8), EFAULT);
    own_ex(fd, GROUP, 0).unwrap();
    assert_eq!(owner_ex(fd), [GROUP, 0]);
    fcntl(fd, F_SETOWN, 0).unwrap();
    assert_eq!(owner_ex(fd), [PROCESS, 0]);

    for (signal, error) in [(65, EINVAL), (-1, EINVAL)] {
        fails(fcntl(fd, F_SETSIG, signal), error);
    }
    fcntl(fd, F_SETSIG, 64).unwrap();
    assert_eq!(fcntl(fd, F_GETSIG, 0), Ok(64));

    let mut word = pid;
    fails(sys!(SYS_ioctl, fd, FIOSETOWN, &raw const word), ENOTTY);
    fails(sys!(SYS_ioctl, fd, FIOGETOWN, &raw mut word), ENOTTY);
    let socket = sockets(SOCK_STREAM).0;
    for word in [pid, -group] {
        let mut found = 0i32;
        sys!(SYS_ioctl, socket, FIOSETOWN, &raw const word).unwrap();
        sys!(SYS_ioctl, socket, FIOGETOWN, &raw mut found).unwrap();
        assert_eq!((found, owner(socket)), (word, word));
    }
}

fn an_owner_that_is_gone_is_nobody() {
    let (fd, writer) = ends();
    let child = spawn(|| {
        sys!(SYS_pause).ok();
    });
    // Its id is that of no group.
    own_ex(fd, GROUP, child).unwrap();
    assert_eq!(owner_ex(fd), [GROUP, 0]);
    arm(fd, FIRST);
    fcntl(fd, F_SETOWN, child).unwrap();
    assert_eq!(owner_ex(fd), [PROCESS, child]);
    sys::kill(child, SIGKILL).unwrap();
    join(child);
    assert_eq!(owner_ex(fd), [PROCESS, 0]);
    write(writer, b"x").unwrap();
    // A thread that leads no process is no process.
    let (id, done) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let thread = std::thread::spawn(move || {
        id.0.send(sys::gettid()).unwrap();
        let _ = done.1.recv();
    });
    let tid = id.1.recv().unwrap();
    fcntl(fd, F_SETOWN, tid).unwrap();
    assert_eq!(owner_ex(fd), [PROCESS, 0]);
    own_ex(fd, THREAD, tid).unwrap();
    assert_eq!(owner_ex(fd), [THREAD, tid]);
    drop(done.0);
    thread.join().unwrap();
}

fn a_pipe_signals_each_side_of_the_other() {
    block();
    let (reader, writer) = ends();
    arm(reader, FIRST);
    arm(writer, SECOND);
    let mut bytes = [0u8; 4096];
    for _ in 0..2 {
        write(writer, b"abc").unwrap();
        told(FIRST, IN, reader);
    }
    for length in [1, 5] {
        assert_eq!(read(reader, &mut bytes[..length]), Ok(length));
        told(SECOND, OUT, writer);
    }
    // Also those that find nothing, but not those that ask for nothing.
    fails(read(reader, &mut bytes), EAGAIN);
    told(SECOND, OUT, writer);
    read(reader, &mut []).unwrap();
    write(writer, b"").unwrap();
    silent();
    while write(writer, &bytes).is_ok() {
        told(FIRST, IN, reader);
    }
    told(FIRST, IN, reader);
    // Without F_SETSIG the signal tells nothing; with SIGIO by F_SETSIG it does.
    fcntl(reader, F_SETSIG, 0).unwrap();
    fails(write(writer, &bytes), EAGAIN);
    plain();
    fcntl(reader, F_SETSIG, SIGIO).unwrap();
    fails(write(writer, &bytes), EAGAIN);
    told(SIGIO, IN, reader);
    fcntl(reader, F_SETFL, O_NONBLOCK).unwrap();
    fails(write(writer, &bytes), EAGAIN);
    silent();
    arm(reader, FIRST);
    close(writer);
    told(FIRST, IN, reader);

    let (reader, writer) = ends();
    arm(writer, SECOND);
    let other = fcntl(reader, F_DUPFD, 0).unwrap() as i32;
    close(reader);
    silent();
    close(other);
    told(SECOND, OUT, writer);

    let (reader, writer) = ends();
    let (from, into) = ends();
    arm(writer, SECOND);
    arm(from, FIRST);
    write(writer, b"x").unwrap();
    silent();
    sys!(SYS_tee, reader, into, 1, 0).unwrap();
    told(FIRST, IN, from);
    sys!(SYS_splice, reader, 0, into, 0, 1, 0).unwrap();
    assert_eq!(within(0), Some((FIRST, IN.0, IN.1, from)));
    told(SECOND, OUT, writer);
}

fn every_opening_of_a_fifo_is_told() {
    block();
    let path = format!("{}/fifo", scratch());
    sys!(SYS_mknod, sys::c(&path).as_ptr(), S_IFIFO | 0o600, 0).unwrap();
    let open = |flags| sys::open(&path, flags | O_NONBLOCK, 0).unwrap();
    let (both, reader) = (open(O_RDWR), open(O_RDONLY));
    for fd in [both, reader] {
        arm(fd, FIRST);
    }
    write(both, b"x").unwrap();
    let mut found: Vec<_> = (0..2).map(|_| within(0).unwrap().3).collect();
    found.sort_unstable();
    assert_eq!(found, [both, reader]);
    silent();
    read(reader, &mut [0]).unwrap();
    told(FIRST, OUT, both);
    close(reader);
    silent();
    write(both, b"x").unwrap();
    told(FIRST, IN, both);
}

fn the_descriptor_that_armed_is_named() {
    block();
    let (reader, writer) = ends();
    arm(reader, FIRST);
    let other = fcntl(reader, F_DUPFD, 100).unwrap() as i32;
    close(reader);
    write(writer, b"x").unwrap();
    told(FIRST, IN, reader);
    // Arming what is armed changes nothing; anew, it does.
    arm(other, FIRST);
    write(writer, b"x").unwrap();
    told(FIRST, IN, reader);
    fioasync(other, 0).unwrap();
    fioasync(other, 1).unwrap();
    write(writer, b"x").unwrap();
    told(FIRST, IN, other);
    close(other);
    fails(write(writer, b"x"), EPIPE);
    silent();
}

fn a_socket_signals_what_comes() {
    block();
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let (own, peer) = sockets(kind);
        arm(own, FIRST);
        for _ in 0..2 {
            write(peer, b"x").unwrap();
            told(FIRST, IN, own);
        }
        read(own, &mut [0; 8]).unwrap();
        write(own, b"x").unwrap();
        read(peer, &mut [0; 8]).unwrap();
        silent();
        let connected = kind != SOCK_DGRAM;
        sys!(SYS_shutdown, peer, SHUT_WR).unwrap();
        if connected {
            told(FIRST, IN, own);
        }
        sys!(SYS_shutdown, peer, SHUT_RD).unwrap();
        silent();
        close(peer);
        if connected {
            told(FIRST, HUP, own);
        }
        silent();
    }
}

fn a_socket_signals_room_that_was_wanted() {
    block();
    let (own, peer) = sockets(SOCK_STREAM);
    arm(own, FIRST);
    let mut bytes = [0u8; 4096];
    write(own, &bytes).unwrap();
    read(peer, &mut bytes).unwrap();
    silent();
    while write(own, &bytes).is_ok() {}
    silent();
    while read(peer, &mut bytes).is_ok() {}
    told(FIRST, OUT, own);
}

fn a_listener_signals_connections() {
    block();
    let path = format!("{}/socket", scratch());
    let mut address = vec![1u8, 0];
    address.extend_from_slice(path.as_bytes());
    let socket = || sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).unwrap() as i32;
    let (listener, client) = (socket(), socket());
    sys!(SYS_bind, listener, address.as_ptr(), address.len()).unwrap();
    sys!(SYS_listen, listener, 4).unwrap();
    arm(listener, FIRST);
    arm(client, SECOND);
    sys!(SYS_connect, client, address.as_ptr(), address.len()).unwrap();
    told(FIRST, IN, listener);
    let server = sys!(SYS_accept, listener, 0, 0).unwrap() as i32;
    silent();
    assert_eq!((flags(server), owner(server)), (O_RDWR, 0));
    close(server);
    told(SECOND, HUP, client);
    // So is a client told that is never accepted.
    let client = socket();
    arm(client, SECOND);
    sys!(SYS_connect, client, address.as_ptr(), address.len()).unwrap();
    told(FIRST, IN, listener);
    close(listener);
    told(SECOND, HUP, client);
}

fn shutting_both_directions_is_a_hang_up() {
    block();
    let (own, peer) = sockets(SOCK_STREAM);
    arm(own, FIRST);
    arm(peer, SECOND);
    sys!(SYS_shutdown, peer, SHUT_RDWR).unwrap();
    told(FIRST, HUP, own);
}

fn raw(fd: i32) {
    let mut data = attributes(fd);
    // SAFETY: a filled structure.
    unsafe { cfmakeraw(&mut data) };
    set_attributes(fd, &data);
}

fn a_terminal_signals_lines_and_bytes() {
    block();
    let (master, slave) = terminal();
    let mut data = attributes(slave);
    data.c_lflag &= !ECHO;
    set_attributes(slave, &data);
    arm(slave, FIRST);
    write(master, b"no line").unwrap();
    write(master, b"\n").unwrap();
    comes(FIRST, IN, slave);
    silent();
    // Each line of several is told of.
    write(master, b"one\ntwo\n").unwrap();
    comes(FIRST, IN, slave);
    comes(FIRST, IN, slave);
    // An end of file is a line, too.
    write(master, b"\x04").unwrap();
    comes(FIRST, IN, slave);
    silent();
    raw(slave);
    write(master, b"x").unwrap();
    comes(FIRST, IN, slave);
    arm(master, SECOND);
    write(slave, b"x").unwrap();
    comes(SECOND, IN, master);
    silent();
    close(slave);
    silent();

    let (master, slave) = terminal();
    arm(slave, FIRST);
    close(master);
    silent();
}

fn a_terminal_signals_room_that_was_wanted() {
    block();
    let (master, slave) = terminal();
    raw(slave);
    for fd in [master, slave] {
        fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK).unwrap();
    }
    arm(slave, FIRST);
    let mut bytes = [0u8; 4096];
    let full = |fd| while write(fd, &[0; 4096]).is_ok() {};
    full(slave);
    silent();
    let readable = |fd| {
        let mut entry = pollfd { fd, events: POLLIN, revents: 0 };
        sys!(SYS_poll, &raw mut entry, 1, 100).unwrap() == 1
    };
    while readable(master) && read(master, &mut bytes).is_ok() {}
    comes(FIRST, OUT, slave);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK).unwrap();
    while within(0).is_some() {}
    arm(master, SECOND);
    full(master);
    while readable(slave) && read(slave, &mut bytes).is_ok() {}
    comes(SECOND, OUT, master);
}

fn a_terminal_has_an_owner_by_default() {
    let (master, slave) = terminal();
    for fd in [master, slave] {
        assert_eq!(owner(fd), 0);
        fioasync(fd, 1).unwrap();
        assert_eq!(owner_ex(fd), [PROCESS, getpid()]);
    }
    // Whoever was named stays; another is found for nobody.
    fioasync(slave, 0).unwrap();
    fcntl(slave, F_SETOWN, 1).unwrap();
    fioasync(slave, 1).unwrap();
    assert_eq!(owner(slave), 1);
    run(|| {
        sys!(SYS_setsid).unwrap();
        sys!(SYS_ioctl, slave, TIOCSCTTY, 0).unwrap();
        fioasync(slave, 0).unwrap();
        fcntl(slave, F_SETOWN, 0).unwrap();
        fioasync(slave, 1).unwrap();
        assert_eq!(owner_ex(slave), [GROUP, getpid()]);
    });
    let (fd, _) = ends();
    fioasync(fd, 1).unwrap();
    assert_eq!(owner(fd), 0);
}

/// A set of pending signals of the calling thread.
fn pending(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn a_thread_is_told_itself() {
    block();
    let (reader, writer) = ends();
    arm(reader, FIRST);
    own_ex(reader, THREAD, sys::gettid()).unwrap();
    write(writer, b"x").unwrap();
    assert_eq!((pending("SigPnd:"), pending("ShdPnd:")), (set(&[FIRST]), 0));
    told(FIRST, IN, reader);
    own_ex(reader, PROCESS, getpid()).unwrap();
    write(writer, b"x").unwrap();
    assert_eq!((pending("SigPnd:"), pending("ShdPnd:")), (0, set(&[FIRST])));
    told(FIRST, IN, reader);
}

fn a_full_queue_leaves_a_plain_signal() {
    block();
    let (reader, writer) = ends();
    arm(reader, FIRST);
    let none = [0u64; 2];
    sys!(SYS_setrlimit, RLIMIT_SIGPENDING, none.as_ptr()).unwrap();
    write(writer, b"x").unwrap();
    plain();
}

fn signals_with_codes_of_their_own_say_sigio() {
    const SI_SIGIO: i32 = -5;
    block();
    let (reader, writer) = ends();
    arm(reader, SIGCHLD);
    write(writer, b"x").unwrap();
    told(SIGCHLD, (SI_SIGIO, IN.1), reader);
}

fn signalfd_tells_of_files() {
    let mask = block();
    let (reader, writer) = ends();
    let fd = sys!(SYS_signalfd4, -1, &raw const mask, 8, O_NONBLOCK).unwrap() as i32;
    for (signal, code) in [(FIRST, 1), (SIGIO, 1), (SIGCHLD, -5)] {
        arm(reader, signal);
        write(writer, b"x").unwrap();
        let mut bytes = [0u8; 128];
        assert_eq!(read(fd, &mut bytes), Ok(128));
        let word =
            |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|offset| bytes[at * 4 + offset]));
        let found = [word(0), word(2), word(3), word(4), word(5), word(7)];
        assert_eq!(found, [signal, code, 0, 0, reader, 0x41]);
    }
}

/// Keeps only the capabilities of `mask`.
fn capabilities(mask: u32) {
    let header = [0x2008_0522u32, 0];
    let data = [mask, mask, 0, 0, 0, 0];
    sys!(SYS_capset, header.as_ptr(), data.as_ptr()).unwrap();
}

fn the_rights_are_those_of_who_named_the_owner() {
    const CAP_KILL: u32 = 1 << 5;
    block();
    let (reader, writer) = ends();
    let parent = getpid();
    let user = |id: i32| {
        sys!(SYS_setresuid, id, id, id).unwrap();
    };
    let tells = |name: &dyn Fn(), told: bool| {
        run(name);
        // The end of the child is told, too.
        while within(0).is_some_and(|(signal, ..)| signal == SIGCHLD) {}
        write(writer, b"x").unwrap();
        assert_eq!(within(0).map(|(signal, ..)| signal), told.then_some(FIRST));
        silent();
    };
    let name = || {
        fcntl(reader, F_SETOWN, parent).unwrap();
    };
    arm(reader, FIRST);
    tells(&name, true);
    let stranger = || {
        user(1001);
        name();
    };
    tells(&stranger, false);
    // Root has the right whatever its capabilities, and nobody else by them.
    let bare_root = || {
        capabilities(0);
        name();
    };
    tells(&bare_root, true);
    let killer = || {
        sys!(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0).unwrap();
        user(1001);
        capabilities(CAP_KILL);
        name();
    };
    tells(&killer, false);
    // It is the user of the time when the owner was named.
    let early = || {
        name();
        user(1001);
    };
    tells(&early, true);
}
