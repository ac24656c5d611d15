//! Changes that a poll tells: of what is mounted, of the host's name; and of each range of a write.

use libc::{POLLERR, POLLIN, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM, SYS_mount, SYS_umount2};

use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, c, open, sys};

pub const TESTS: &[Test] = tests![
    what_is_mounted_is_told_to_those_who_poll_for_it,
    a_new_name_of_the_host_is_told_to_those_who_poll_for_it,
    an_eventfd_takes_each_range_as_a_write,
];

const ALL: i16 = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM;

fn poll(fd: i32, events: i16, millis: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    sys!(libc::SYS_poll, &raw mut entry, 1, millis).unwrap();
    entry.revents
}

fn tells_once(files: &[i32], before: i16, change: &mut dyn FnMut()) {
    const READS: i16 = POLLIN | POLLRDNORM;
    for &fd in files {
        assert_eq!(poll(fd, ALL, 0), before);
    }
    change();
    for &fd in files {
        assert_eq!(poll(fd, ALL, 0), READS | POLLERR | POLLPRI);
        assert_eq!(poll(fd, ALL, 0), before);
    }
    // Each opening has seen its own changes.
    let waiter = spawn(|| assert_eq!(poll(files[0], POLLPRI, 10_000), POLLERR | POLLPRI));
    until_asleep(waiter);
    change();
    assert_eq!(join(waiter), 0);
}

fn what_is_mounted_is_told_to_those_who_poll_for_it() {
    let place = c(&super::scratch());
    let kind = c"tmpfs".as_ptr();
    let files: Vec<i32> = ["/proc/self/mounts", "/proc/self/mountinfo", "/proc/mounts"]
        .map(|path| open(path, libc::O_RDONLY, 0).unwrap())
        .to_vec();
    let mount = || sys!(SYS_mount, kind, place.as_ptr(), kind, 0, 0).unwrap();
    let umount = || sys!(SYS_umount2, place.as_ptr(), 0).unwrap();
    let remount = libc::MS_REMOUNT | libc::MS_NOSUID;
    let mut mounted = false;
    tells_once(&files, POLLIN | POLLRDNORM, &mut || {
        if mounted {
            umount()
        } else {
            mount()
        };
        mounted = !mounted;
    });
    // The first change was a mount, the second its end.
    mount();
    let told = || poll(files[1], ALL, 0) & POLLERR != 0;
    told();
    sys!(SYS_mount, 0, place.as_ptr(), 0, remount, 0).unwrap();
    assert!(told(), "other flags");
    umount();
    assert!(told() && !told());
    let epoll = sys!(libc::SYS_epoll_create1, 0).unwrap();
    let mut event = libc::epoll_event { events: libc::EPOLLPRI as u32, u64: 5 };
    sys!(libc::SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, files[1], &raw mut event).unwrap();
    assert_eq!(sys!(libc::SYS_epoll_wait, epoll, &raw mut event, 1, 0), Ok(0));
    mount();
    assert_eq!(sys!(libc::SYS_epoll_wait, epoll, &raw mut event, 1, 10_000), Ok(1));
    umount();
}

fn a_new_name_of_the_host_is_told_to_those_who_poll_for_it() {
    let file = open("/proc/sys/kernel/hostname", libc::O_RDONLY, 0).unwrap();
    let other = open("/proc/sys/kernel/domainname", libc::O_RDONLY, 0).unwrap();
    let old = std::fs::read("/proc/sys/kernel/hostname").unwrap();
    tells_once(&[file], ALL & !POLLPRI, &mut || {
        sys!(libc::SYS_sethostname, c"a".as_ptr(), 1).unwrap();
    });
    poll(file, ALL, 0);
    std::fs::write("/proc/sys/kernel/hostname", &old).unwrap();
    assert_ne!(poll(file, ALL, 0) & POLLERR, 0);
    assert_eq!(poll(other, ALL, 0), ALL & !POLLPRI);
}

fn an_eventfd_takes_each_range_as_a_write() {
    let fd = sys!(libc::SYS_eventfd2, 0, libc::EFD_NONBLOCK).unwrap() as i32;
    let values = [5u64, 7, u64::MAX, u64::MAX - 1];
    let at = |index: usize, len: usize| [values[index..].as_ptr().expose_provenance(), len];
    let writev = |ranges: &[[usize; 2]]| sys!(libc::SYS_writev, fd, ranges.as_ptr(), ranges.len());
    let taken = || {
        let mut value = [0u8; 8];
        sys::read(fd, &mut value).map(|_| u64::from_ne_bytes(value))
    };
    assert_eq!(writev(&[at(0, 8), at(1, 8)]), Ok(16));
    assert_eq!(taken(), Ok(12));
    // Nothing between is no write.
    assert_eq!(writev(&[at(0, 8), at(1, 0), at(1, 8)]), Ok(16));
    assert_eq!(taken(), Ok(12));
    // What is refused ends it, and is told only if it is the first.
    assert_eq!(writev(&[at(0, 8), at(2, 8), at(1, 8)]), Ok(8));
    assert_eq!(taken(), Ok(5));
    sys::fails(writev(&[at(0, 4), at(1, 4)]), libc::EINVAL);
    sys::fails(writev(&[at(2, 8), at(0, 8)]), libc::EINVAL);
    assert_eq!(writev(&[at(3, 8), at(0, 8)]), Ok(8));
    assert_eq!(taken(), Ok(u64::MAX - 1));
    // It is read as a whole.
    assert_eq!(writev(&[at(0, 8)]), Ok(8));
    let mut halves = [[0u8; 4]; 2];
    let to = halves.each_mut().map(|half| [half.as_mut_ptr().expose_provenance(), 4]);
    assert_eq!(sys!(libc::SYS_readv, fd, to.as_ptr(), 2), Ok(8));
    assert_eq!(halves, [[5, 0, 0, 0], [0; 4]]);
}
