//! Pseudo terminals and job control.

use libc::*;

use crate::child::{join, run, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::signal;
use crate::sys::{self, fails, open, read, sys, write};

pub const TESTS: &[Test] = tests![
    lines_are_gathered_and_echoed,
    output_gets_its_carriage_returns,
    characters_are_erased_and_lines_killed,
    raw_mode_gives_each_byte_at_once,
    attributes_are_of_the_terminal_not_the_descriptor,
    the_window_has_a_size_and_changes_are_signalled,
    the_first_terminal_of_a_session_leader_becomes_its_own,
    control_c_interrupts_the_foreground_group,
    control_z_stops_the_foreground_group,
    background_reading_stops,
    the_end_of_the_master_hangs_up,
    what_is_no_terminal_says_so,
];

/// The master and the path of its terminal.
fn master() -> (i32, String) {
    let fd = open("/dev/ptmx", O_RDWR | O_NOCTTY, 0).unwrap();
    let (mut number, unlock) = (-1i32, 0i32);
    sys!(SYS_ioctl, fd, TIOCSPTLCK, &raw const unlock).unwrap();
    sys!(SYS_ioctl, fd, TIOCGPTN, &raw mut number).unwrap();
    (fd, format!("/dev/pts/{number}"))
}

pub fn pair() -> (i32, i32) {
    let (master, path) = master();
    (master, open(&path, O_RDWR | O_NOCTTY, 0).unwrap())
}

pub fn attributes(fd: i32) -> termios {
    // SAFETY: zeroes are valid, and the library fills it.
    unsafe {
        let mut data: termios = std::mem::zeroed();
        assert_eq!(tcgetattr(fd, &mut data), 0, "{}", sys::last());
        data
    }
}

pub fn set_attributes(fd: i32, data: &termios) {
    // SAFETY: a filled structure.
    assert_eq!(unsafe { tcsetattr(fd, TCSANOW, data) }, 0, "{}", sys::last());
}

fn text(fd: i32) -> String {
    let mut bytes = [0u8; 256];
    let length = read(fd, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Asserts that these bytes come, in however many pieces.
#[track_caller]
fn gives(fd: i32, expected: &str) {
    let mut found = String::new();
    while found.len() < expected.len() {
        let piece = text(fd);
        assert!(!piece.is_empty(), "the end after {found:?}");
        found += &piece;
    }
    assert_eq!(found, expected);
}

fn lines_are_gathered_and_echoed() {
    let (master, slave) = pair();
    write(master, b"hel").unwrap();
    let mut entry = pollfd { fd: slave, events: POLLIN, revents: 0 };
    assert_eq!(sys!(SYS_poll, &raw mut entry, 1, 0), Ok(0));
    write(master, b"lo\r").unwrap();
    gives(slave, "hello\n");
    gives(master, "hello\r\n");
}

fn output_gets_its_carriage_returns() {
    let (master, slave) = pair();
    write(slave, b"a\nb\n").unwrap();
    gives(master, "a\r\nb\r\n");
    let mut data = attributes(slave);
    data.c_oflag &= !OPOST;
    set_attributes(slave, &data);
    write(slave, b"a\nb").unwrap();
    gives(master, "a\nb");
}

fn characters_are_erased_and_lines_killed() {
    let (master, slave) = pair();
    write(master, b"abx\x7fc\n").unwrap();
    gives(slave, "abc\n");
    write(master, b"wrong\x15right\n").unwrap();
    gives(slave, "right\n");
    write(master, b"part\x04").unwrap();
    gives(slave, "part");
    write(master, b"\x04").unwrap();
    assert_eq!(text(slave), "");
}

fn raw_mode_gives_each_byte_at_once() {
    let (master, slave) = pair();
    let mut data = attributes(slave);
    // SAFETY: changes a filled structure.
    unsafe { cfmakeraw(&mut data) };
    set_attributes(slave, &data);
    write(master, b"a\x03\x7f\r").unwrap();
    gives(slave, "a\x03\x7f\r");
    let mut entry = pollfd { fd: master, events: POLLIN, revents: 0 };
    assert_eq!(sys!(SYS_poll, &raw mut entry, 1, 0), Ok(0), "nothing is echoed");
}

fn attributes_are_of_the_terminal_not_the_descriptor() {
    let (master, slave) = pair();
    let mut data = attributes(slave);
    assert_ne!(data.c_lflag & (ICANON | ECHO | ISIG), 0);
    data.c_lflag &= !ECHO;
    set_attributes(slave, &data);
    assert_eq!(attributes(master).c_lflag & ECHO, 0);
}

fn the_window_has_a_size_and_changes_are_signalled() {
    let (master, path) = master();
    run(|| {
        sys!(SYS_setsid).unwrap();
        let slave = open(&path, O_RDWR, 0).unwrap();
        signal::catch(SIGWINCH, 0);
        let size = winsize { ws_row: 40, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        sys!(SYS_ioctl, master, TIOCSWINSZ, &raw const size).unwrap();
        signal::until_noted(1);
        let mut found: winsize = sys::zeroed();
        sys!(SYS_ioctl, slave, TIOCGWINSZ, &raw mut found).unwrap();
        assert_eq!((found.ws_row, found.ws_col), (40, 132));
    });
}

/// In a session of its own with the terminal as its controlling one.
fn with_terminal(body: impl FnOnce(i32, i32)) {
    let (master, path) = master();
    run(|| {
        sys!(SYS_setsid).unwrap();
        let slave = open(&path, O_RDWR, 0).unwrap();
        body(master, slave);
        signal::ignore(SIGHUP);
    });
}

fn the_first_terminal_of_a_session_leader_becomes_its_own() {
    with_terminal(|_, slave| {
        let mut group = 0i32;
        sys!(SYS_ioctl, slave, TIOCGPGRP, &raw mut group).unwrap();
        assert_eq!(group, sys::getpid());
        open("/dev/tty", O_RDWR, 0).unwrap();
        let mut session = 0i32;
        sys!(SYS_ioctl, slave, TIOCGSID, &raw mut session).unwrap();
        assert_eq!(session, sys::getpid());
    });
}

fn control_c_interrupts_the_foreground_group() {
    with_terminal(|master, slave| {
        signal::ignore(SIGTTOU);
        let child = spawn(|| {
            sys::on_signal_with(SIGINT, SIG_DFL, 0);
            loop {
                let _ = sys!(SYS_pause);
            }
        });
        sys!(SYS_setpgid, child, child).unwrap();
        sys!(SYS_ioctl, slave, TIOCSPGRP, &raw const child).unwrap();
        until_asleep(child);
        write(master, b"\x03").unwrap();
        assert_eq!(join(child), 128 + SIGINT);
    });
}

fn control_z_stops_the_foreground_group() {
    with_terminal(|master, slave| {
        signal::ignore(SIGTTOU);
        let child = spawn(|| {
            loop {
                let _ = sys!(SYS_pause);
            }
        });
        sys!(SYS_setpgid, child, child).unwrap();
        sys!(SYS_ioctl, slave, TIOCSPGRP, &raw const child).unwrap();
        until_asleep(child);
        write(master, b"\x1a").unwrap();
        let mut status = 0;
        sys!(SYS_wait4, child, &raw mut status, WUNTRACED, 0).unwrap();
        assert!(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
        sys::kill(child, SIGKILL).unwrap();
        join(child);
    });
}

fn background_reading_stops() {
    with_terminal(|_, slave| {
        let child = spawn(|| {
            sys!(SYS_setpgid, 0, 0).unwrap();
            let _ = read(slave, &mut [0]);
        });
        let mut status = 0;
        sys!(SYS_wait4, child, &raw mut status, WUNTRACED, 0).unwrap();
        assert!(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
        sys::kill(child, SIGKILL).unwrap();
        join(child);
    });
}

fn the_end_of_the_master_hangs_up() {
    let (master, path) = master();
    let steps = crate::child::Steps::new();
    let child = spawn(|| {
        sys::close(master);
        sys!(SYS_setsid).unwrap();
        let slave = open(&path, O_RDWR, 0).unwrap();
        signal::catch(SIGHUP, 0);
        steps.reach(1);
        signal::until_noted(1);
        assert_eq!(read(slave, &mut [0]), Ok(0));
        fails(write(slave, b"x"), EIO);
    });
    steps.await_(1);
    sys::close(master);
    assert_eq!(join(child), 0);
}

fn what_is_no_terminal_says_so() {
    let (reader, _writer) = sys::pipe().unwrap();
    let mut size: winsize = sys::zeroed();
    fails(sys!(SYS_ioctl, reader, TIOCGWINSZ, &raw mut size), ENOTTY);
    // SAFETY: asks about a descriptor.
    assert_eq!(unsafe { isatty(reader) }, 0);
    let (_, slave) = pair();
    // SAFETY: as above.
    assert_eq!(unsafe { isatty(slave) }, 1);
}
