//! Pseudo terminals: packet mode, full buffers, old and locked settings, faked input.

use libc::*;

use super::pty::{attributes, pair, set_attributes};
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{fails, read, sys, write};

pub const TESTS: &[Test] = tests![
    packet_mode_tells_of_the_slaves_queues,
    packet_mode_tells_of_flow_control,
    packet_mode_tells_of_settings,
    packet_mode_keeps_data_behind_the_news,
    a_raw_terminal_holds_what_linux_holds,
    a_full_terminal_is_not_writable,
    characters_of_several_bytes_are_erased_as_one,
    old_settings_are_the_low_halves,
    a_terminal_may_have_no_carrier,
    locked_settings_stay,
    input_is_faked_by_the_privileged_only,
];

/// Where locked settings are told and set.
const TIOCGLCKTRMIOS: u64 = 0x5456;
const TIOCSLCKTRMIOS: u64 = 0x5457;

fn nonblocking(fd: i32) {
    sys!(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK).unwrap();
}

fn ready(fd: i32) -> i16 {
    let mut entry = pollfd { fd, events: POLLIN | POLLPRI | POLLOUT, revents: 0 };
    sys!(SYS_poll, &raw mut entry, 1, 0).unwrap();
    entry.revents
}

/// A pair in packet mode, whose master does not wait.
fn packets() -> (i32, i32) {
    let (master, slave) = pair();
    let on = 1i32;
    sys!(SYS_ioctl, master, TIOCPKT, &raw const on).unwrap();
    nonblocking(master);
    (master, slave)
}

/// Asserts that the master is told these bits, by poll(2) too, and then nothing more.
#[track_caller]
fn told(master: i32, news: u8) {
    let mut bytes = [0u8; 16];
    // A terminal hands input on in its own time.
    let mut entry = pollfd { fd: master, events: POLLPRI, revents: 0 };
    sys!(SYS_poll, &raw mut entry, 1, 10_000).unwrap();
    assert_eq!(ready(master) & (POLLIN | POLLPRI), POLLIN | POLLPRI);
    assert_eq!(read(master, &mut bytes), Ok(1));
    assert_eq!(bytes[0], news, "{:#x} instead of {news:#x}", bytes[0]);
    silent(master);
}

#[track_caller]
fn silent(master: i32) {
    assert_eq!(ready(master) & (POLLIN | POLLPRI), 0);
    fails(read(master, &mut [0u8; 16]), EAGAIN);
}

fn packet_mode_tells_of_the_slaves_queues() {
    let (master, slave) = packets();
    for (queue, news) in [(TCIFLUSH, 1), (TCOFLUSH, 2), (TCIOFLUSH, 3)] {
        sys!(SYS_ioctl, slave, TCFLSH, queue).unwrap();
        told(master, news);
        // The master's own flushing is no news to it.
        sys!(SYS_ioctl, master, TCFLSH, queue).unwrap();
        silent(master);
    }
    let data = attributes(slave);
    set_attributes(slave, &termios { c_lflag: data.c_lflag & !ECHO, ..data });
    write(master, b"x\x03").unwrap();
    told(master, 3);
    for fd in [slave, master] {
        let off = 0i32;
        let done = sys!(SYS_ioctl, fd, TIOCPKT, &raw const off);
        if fd == slave { fails(done, ENOTTY) } else { assert_eq!(done, Ok(0)) }
    }
    sys!(SYS_ioctl, slave, TCFLSH, TCIFLUSH).unwrap();
    silent(master);
}

fn packet_mode_tells_of_flow_control() {
    let (master, slave) = packets();
    sys!(SYS_ioctl, slave, TCXONC, TCOOFF).unwrap();
    told(master, 4);
    sys!(SYS_ioctl, slave, TCXONC, TCOOFF).unwrap();
    silent(master);
    sys!(SYS_ioctl, slave, TCXONC, TCOON).unwrap();
    told(master, 8);
    write(master, b"\x13").unwrap();
    told(master, 4);
    write(master, b"\x11").unwrap();
    told(master, 8);
}

fn packet_mode_tells_of_settings() {
    let (master, slave) = packets();
    let mut data = attributes(slave);
    data.c_iflag &= !IXON;
    set_attributes(slave, &data);
    told(master, 0x10);
    data.c_iflag |= IXON;
    set_attributes(slave, &data);
    told(master, 0x20);
    data.c_cc[VSTOP] = 7;
    set_attributes(slave, &data);
    told(master, 0x10);
    data.c_lflag &= !ICANON;
    set_attributes(slave, &data);
    silent(master);
    for (flag, on) in [(EXTPROC, true), (ECHO, false), (EXTPROC, false)] {
        data.c_lflag = if on { data.c_lflag | flag } else { data.c_lflag & !flag };
        set_attributes(slave, &data);
        told(master, 0x40);
    }
}

fn packet_mode_keeps_data_behind_the_news() {
    let (master, slave) = packets();
    write(slave, b"ab").unwrap();
    sys!(SYS_ioctl, slave, TCFLSH, TCIFLUSH).unwrap();
    let mut bytes = [9u8; 16];
    assert_eq!(read(master, &mut bytes), Ok(1));
    assert_eq!(bytes[0], 1);
    assert_eq!(ready(master) & (POLLIN | POLLPRI), POLLIN);
    // One byte has room for the sort of the packet only.
    assert_eq!(read(master, &mut bytes[..1]), Ok(1));
    assert_eq!(read(master, &mut bytes), Ok(3));
    assert_eq!(&bytes[..3], b"\0ab");
}

fn raw_pair() -> (i32, i32) {
    let (master, slave) = pair();
    let mut data = attributes(slave);
    // SAFETY: changes a filled structure.
    unsafe { cfmakeraw(&mut data) };
    set_attributes(slave, &data);
    (master, slave)
}

fn a_raw_terminal_holds_what_linux_holds() {
    let (master, slave) = raw_pair();
    nonblocking(master);
    let bytes: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
    let mut sent = 0;
    while let Ok(n) = write(master, &bytes[sent..]) {
        sent += n;
    }
    assert_eq!(sent, 11_776);
    assert_eq!(ready(master) & POLLOUT, 0);
    let (mut all, mut first) = (Vec::new(), None);
    while all.len() < sent {
        let mut piece = vec![0u8; 50_000];
        let n = read(slave, &mut piece).unwrap();
        first.get_or_insert(n);
        all.extend_from_slice(&piece[..n]);
    }
    assert_eq!(first, Some(4095));
    assert!(all == bytes[..sent], "other bytes than were sent");
    assert_eq!(ready(master) & POLLOUT, POLLOUT);
}

fn a_full_terminal_is_not_writable() {
    let (_master, slave) = raw_pair();
    nonblocking(slave);
    while write(slave, &[b'x'; 1000]).is_ok() {}
    assert_eq!(ready(slave) & POLLOUT, 0);
}

fn characters_of_several_bytes_are_erased_as_one() {
    let (master, slave) = pair();
    let mut data = attributes(slave);
    data.c_iflag |= IUTF8;
    set_attributes(slave, &data);
    for (typed, line) in [
        (&b"a\xc3\xa4\x7f\n"[..], &b"a\n"[..]),
        (b"\xe2\x82\xac\x7f\n", b"\n"),
        (b"x\xe2\x82\xac\x17\n", b"\n"),
        // Bytes that begin no character stay.
        (b"\xa4\xa4\x7f\n", b"\xa4\xa4\n"),
        (b"a\xa4\xa4\x7f\n", b"\n"),
        (b"\xc3\xa4\xc3\xa4\x15\n", b"\n"),
    ] {
        write(master, typed).unwrap();
        let mut bytes = [0u8; 32];
        let length = read(slave, &mut bytes).unwrap();
        assert_eq!(&bytes[..length], line, "{typed:x?}");
    }
}

fn old_settings_are_the_low_halves() {
    let (_master, slave) = pair();
    let mut old = [0x5au8; 18];
    sys!(SYS_ioctl, slave, TCGETA, old.as_mut_ptr()).unwrap();
    let data = attributes(slave);
    let half = |at: usize| u32::from(u16::from_le_bytes([old[at], old[at + 1]]));
    let flags = [half(0), half(2), half(4), half(6)];
    assert_eq!(flags, [data.c_iflag, data.c_oflag, data.c_cflag, data.c_lflag].map(|f| f & 0xffff));
    assert_eq!((old[8], &old[9..17]), (0, &data.c_cc[..8]));
    old[9] = 7;
    for request in [TCSETA, TCSETAW, TCSETAF] {
        old[6] ^= ECHO as u8;
        sys!(SYS_ioctl, slave, request, old.as_ptr()).unwrap();
        let now = attributes(slave);
        assert_eq!(now.c_lflag & ECHO != 0, old[6] & ECHO as u8 != 0);
        assert_eq!((now.c_cc[VINTR], now.c_cc[VSUSP]), (7, data.c_cc[VSUSP]));
    }
    fails(sys!(SYS_ioctl, slave, TCGETA, 0), EFAULT);
}

fn a_terminal_may_have_no_carrier() {
    let (_master, slave) = pair();
    for on in [1i32, 0] {
        sys!(SYS_ioctl, slave, TIOCSSOFTCAR, &raw const on).unwrap();
        let mut told = 9i32;
        sys!(SYS_ioctl, slave, TIOCGSOFTCAR, &raw mut told).unwrap();
        assert_eq!((told, attributes(slave).c_cflag & CLOCAL != 0), (on, on == 1));
    }
}

fn locked_settings_stay() {
    let (_master, slave) = pair();
    let mut locks = [0x77u32; 9];
    sys!(SYS_ioctl, slave, TIOCGLCKTRMIOS, locks.as_mut_ptr()).unwrap();
    assert_eq!(locks, [0; 9]);
    // ECHO, and the interrupt character.
    locks[3] = ECHO;
    locks[4] = 1 << 8;
    sys!(SYS_ioctl, slave, TIOCSLCKTRMIOS, locks.as_ptr()).unwrap();
    let mut data = attributes(slave);
    data.c_lflag ^= ECHO | ICANON;
    data.c_cc[VINTR] = 99;
    data.c_cc[VQUIT] = 98;
    set_attributes(slave, &data);
    let now = attributes(slave);
    assert_eq!(now.c_lflag, data.c_lflag ^ ECHO);
    assert_eq!((now.c_cc[VINTR], now.c_cc[VQUIT]), (3, 98));
    run(|| {
        sys!(SYS_setresuid, 7, 7, 7).unwrap();
        fails(sys!(SYS_ioctl, slave, TIOCSLCKTRMIOS, locks.as_ptr()), EPERM);
    });
}

fn input_is_faked_by_the_privileged_only() {
    let (_master, slave) = raw_pair();
    let byte = b'z';
    sys!(SYS_ioctl, slave, TIOCSTI, &raw const byte).unwrap();
    let mut bytes = [0u8; 4];
    assert_eq!(read(slave, &mut bytes), Ok(1));
    assert_eq!(bytes[0], b'z');
    fails(sys!(SYS_ioctl, slave, TIOCSTI, 0), EFAULT);
    run(|| {
        sys!(SYS_setresuid, 7, 7, 7).unwrap();
        fails(sys!(SYS_ioctl, slave, TIOCSTI, &raw const byte), EIO);
    });
    nonblocking(slave);
    fails(read(slave, &mut bytes), EAGAIN);
}
