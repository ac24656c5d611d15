//! What an opening, a mount, a terminal or an exec keeps from those who have it.

use std::ffi::CString;

use libc::{EACCES, EFBIG, EIO, EPERM};

use super::credentials::{become_user, drop_effective};
use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::helper;
use crate::memory::*;
use crate::perf::Attr;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    events_of_a_program_that_gains_an_id_end,
    a_gained_id_clears_the_parents_death_signal,
    what_was_opened_for_reading_stays_unwritable,
    what_a_mount_forbids_to_execute_does_not_become_executable,
    another_sessions_terminal_is_taken_with_a_capability_only,
    a_terminal_opened_for_writing_controls_nobody,
    fallocate_beyond_the_file_size_limit_signals,
];

/// Copies of this program, one of which runs as user 12; not in /tmp, which is mounted nosuid.
fn programs() -> [CString; 2] {
    [0o755, 0o4755].map(|mode| {
        let path = format!("/openings-{mode:o}-{}", sys::getpid());
        std::fs::copy("/proc/self/exe", &path).unwrap();
        let name = sys::c(&path);
        sys!(libc::SYS_chown, name.as_ptr(), 12, 12).unwrap();
        sys!(libc::SYS_chmod, name.as_ptr(), mode).unwrap();
        name
    })
}

fn remove(programs: [CString; 2]) {
    for name in programs {
        sys!(libc::SYS_unlink, name.as_ptr()).unwrap();
    }
}

fn events_of_a_program_that_gains_an_id_end() {
    let programs = programs();
    for (program, ended) in programs.iter().zip([false, true]) {
        let steps = Steps::new();
        let child = spawn(|| {
            become_user(77);
            steps.await_(1);
            panic!("execve: {}", helper::exec_file(program, &["pause"]));
        });
        let fd = Attr::software(0).try_open(child, -1, -1, 0).unwrap() as i32;
        let event = crate::perf::Event(fd);
        // An event without a buffer always says that it has ended.
        let _ring = crate::perf::Ring::new(&event, 1);
        assert_eq!(event.ready(0) & libc::POLLHUP, 0, "before");
        steps.reach(1);
        while !std::fs::read(format!("/proc/{child}/cmdline")).unwrap().ends_with(b"\0pause\0")
            || crate::child::state_of(child) != Some('S')
        {
            sys!(libc::SYS_sched_yield).unwrap();
        }
        assert_eq!(event.ready(0) & libc::POLLHUP != 0, ended, "{program:?}");
        sys::kill(child, libc::SIGKILL).unwrap();
        join(child);
    }
    remove(programs);
}

fn a_gained_id_clears_the_parents_death_signal() {
    let programs = programs();
    for (program, left) in programs.iter().zip([libc::SIGUSR1, 0]) {
        let child = spawn(|| {
            become_user(77);
            sys!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGUSR1).unwrap();
            panic!("execve: {}", helper::exec_file(program, &["death-signal"]));
        });
        assert_eq!(join(child), left, "{program:?}");
    }
    remove(programs);
}

fn what_was_opened_for_reading_stays_unwritable() {
    let path = format!("/tmp/read-{}", sys::getpid());
    std::fs::write(&path, "text").unwrap();
    let fd = sys::open(&path, libc::O_RDONLY, 0).unwrap();
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    fails(mmap(0, PAGE, rights, libc::MAP_SHARED, fd, 0), EACCES);
    let at = mmap(0, PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0).unwrap();
    fails(mprotect(at, 1, rights), EACCES);
    let mem = sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
    fails(sys!(libc::SYS_pwrite64, mem, c"x".as_ptr(), 1, at), EIO);
    // A sealed file, mapped before and after; private copies are one's own.
    let sealed = memfd_with(1, libc::MFD_ALLOW_SEALING);
    sys!(libc::SYS_fcntl, sealed, libc::F_ADD_SEALS, libc::F_SEAL_WRITE).unwrap();
    fails(mmap(0, PAGE, rights, libc::MAP_SHARED, sealed, 0), EPERM);
    let private = mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, sealed, 0).unwrap();
    assert_eq!(sys!(libc::SYS_pwrite64, mem, c"x".as_ptr(), 1, private), Ok(1));
    mprotect(private, 1, rights).unwrap();
    put(private, b'y');
    let mut byte = [9u8];
    assert_eq!(sys!(libc::SYS_pread64, sealed, byte.as_mut_ptr(), 1, 0), Ok(1));
    assert_eq!(byte, [0], "the sealed file");
    assert_eq!(std::fs::read(&path).unwrap(), b"text");
    std::fs::remove_file(&path).unwrap();
}

fn what_a_mount_forbids_to_execute_does_not_become_executable() {
    let dir = format!("/tmp/noexec-{}", sys::getpid());
    std::fs::create_dir(&dir).unwrap();
    let (place, kind) = (sys::c(&dir), c"tmpfs".as_ptr());
    sys!(libc::SYS_mount, kind, place.as_ptr(), kind, libc::MS_NOEXEC, 0).unwrap();
    std::fs::write(dir.clone() + "/a", "text").unwrap();
    let fd = sys::open(&(dir.clone() + "/a"), libc::O_RDWR, 0).unwrap();
    for kind in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        fails(mmap(0, PAGE, libc::PROT_EXEC, kind, fd, 0), EPERM);
        let at = mmap(0, PAGE, libc::PROT_READ, kind, fd, 0).unwrap();
        fails(mprotect(at, 1, libc::PROT_READ | libc::PROT_EXEC), EACCES);
        mprotect(at, 1, libc::PROT_READ | libc::PROT_WRITE).unwrap();
        munmap(at, 1).unwrap();
    }
    sys::close(fd);
    sys!(libc::SYS_umount2, place.as_ptr(), 0).unwrap();
    std::fs::remove_dir(&dir).unwrap();
}

/// The path of a new terminal, whose master stays open.
fn terminal() -> String {
    let master = sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0).unwrap();
    let (mut number, unlock) = (-1i32, 0i32);
    sys!(libc::SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlock).unwrap();
    sys!(libc::SYS_ioctl, master, libc::TIOCGPTN, &raw mut number).unwrap();
    format!("/dev/pts/{number}")
}

const SYS_ADMIN: u64 = 1 << 21;

fn control(fd: i32, force: usize) -> sys::Result<usize> {
    sys!(libc::SYS_ioctl, fd, libc::TIOCSCTTY, force)
}

/// Opens a terminal that becomes nobody's by it.
fn open_tty(path: &str, how: i32) -> i32 {
    sys::open(path, how | libc::O_NOCTTY, 0).unwrap()
}

fn another_sessions_terminal_is_taken_with_a_capability_only() {
    let path = terminal();
    let steps = Steps::new();
    let holder = spawn(|| {
        sys!(libc::SYS_setsid).unwrap();
        control(open_tty(&path, libc::O_RDWR), 0).unwrap();
        steps.reach(1);
        steps.await_(2);
        fails(sys::open("/dev/tty", libc::O_RDWR, 0), libc::ENXIO);
    });
    steps.await_(1);
    run(|| {
        sys!(libc::SYS_setsid).unwrap();
        let fd = open_tty(&path, libc::O_RDWR);
        fails(control(fd, 0), EPERM);
        run(|| {
            drop_effective(SYS_ADMIN);
            fails(control(fd, 1), EPERM);
        });
        control(fd, 1).unwrap();
    });
    steps.reach(2);
    assert_eq!(join(holder), 0, "robbed");
}

fn a_terminal_opened_for_writing_controls_nobody() {
    let path = terminal();
    run(|| {
        sys!(libc::SYS_setsid).unwrap();
        let fd = sys::open(&path, libc::O_WRONLY, 0).unwrap();
        fails(sys::open("/dev/tty", libc::O_RDWR, 0), libc::ENXIO);
        run_as_leader_without(SYS_ADMIN, fd);
        control(fd, 0).unwrap();
    });
}

/// A session leader of its own without a capability fails to take the terminal.
fn run_as_leader_without(capability: u64, fd: i32) {
    run(|| {
        sys!(libc::SYS_setsid).unwrap();
        drop_effective(capability);
        fails(control(fd, 0), EPERM);
    });
}

fn fallocate_beyond_the_file_size_limit_signals() {
    let fd = memfd(1);
    let pair = [4 * PAGE; 2];
    sys!(libc::SYS_setrlimit, libc::RLIMIT_FSIZE, pair.as_ptr()).unwrap();
    crate::signal::block(&[libc::SIGXFSZ]);
    sys!(libc::SYS_fallocate, fd, 0, 0, 4 * PAGE).unwrap();
    assert_eq!(crate::signal::pending(), 0);
    fails(sys!(libc::SYS_fallocate, fd, 0, 0, 5 * PAGE), EFBIG);
    assert_eq!(crate::signal::pending(), crate::signal::set_of(&[libc::SIGXFSZ]));
}
