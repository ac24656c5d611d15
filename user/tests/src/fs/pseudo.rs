//! Files of /proc and /sys: where one may go in them, and who may wait for them.

use libc::{EINVAL, ENXIO, EPERM, EPOLL_CTL_ADD, EPOLLIN, O_RDONLY, SEEK_DATA, SEEK_END};
use libc::{SEEK_HOLE, SEEK_SET, SYS_epoll_create1, SYS_epoll_ctl, SYS_lseek};

use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, read, sys};

pub const TESTS: &[Test] = tests![
    text_that_is_made_has_no_end_to_count_from,
    settings_are_files_of_no_length,
    small_files_end_at_two_gibibytes,
    epoll_takes_what_is_not_about_a_process,
    areas_are_told_in_whole_records_of_a_page_at_most,
];

/// Far beyond 2^31.
const FAR: i64 = 1 << 40;

fn seek(fd: i32, offset: i64, whence: i32) -> sys::Result<usize> {
    sys!(SYS_lseek, fd, offset, whence)
}

fn each(paths: &[&str], look: impl Fn(&str, i32)) {
    for path in paths {
        let fd = open(path, O_RDONLY, 0).unwrap();
        look(path, fd);
        sys::close(fd);
    }
}

/// The file reads on where it was put.
#[track_caller]
fn reads_from(fd: i32, at: i64) {
    let (mut first, mut later) = ([0u8; 8], [0u8; 2]);
    seek(fd, 0, SEEK_SET).unwrap();
    read(fd, &mut first).unwrap();
    assert_eq!(seek(fd, at, SEEK_SET), Ok(at as usize));
    let length = read(fd, &mut later).unwrap();
    assert_eq!(later[..length], first[at as usize..at as usize + length]);
}

fn text_that_is_made_has_no_end_to_count_from() {
    let files = [
        "/proc/self/status",
        "/proc/self/maps",
        "/proc/self/comm",
        "/proc/self/numa_maps",
        "/proc/self/mountinfo",
        "/proc/self/fdinfo/0",
        "/proc/self/timerslack_ns",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/version",
        "/proc/stat",
        "/proc/kallsyms",
    ];
    each(&files, |path, fd| {
        for whence in [SEEK_END, SEEK_DATA, SEEK_HOLE] {
            assert_eq!(seek(fd, 0, whence), Err(sys::Errno(EINVAL)), "{path}");
        }
        fails(seek(fd, -1, SEEK_SET), EINVAL);
        assert_eq!(seek(fd, FAR, SEEK_SET), Ok(FAR as usize), "{path}");
    });
    each(&["/proc/version", "/proc/self/status"], |_, fd| reads_from(fd, 3));
}

fn settings_are_files_of_no_length() {
    each(&["/proc/sys/kernel/hostname", "/proc/sys/kernel/pid_max"], |path, fd| {
        assert_eq!(seek(fd, 0, SEEK_END), Ok(0), "{path}");
        fails(seek(fd, 0, SEEK_DATA), ENXIO);
        assert_eq!(seek(fd, FAR, SEEK_SET), Ok(FAR as usize), "{path}");
    });
}

fn small_files_end_at_two_gibibytes() {
    let largest = i64::from(i32::MAX);
    let files = ["/proc/self/environ", "/proc/self/auxv", "/proc/self/cmdline"];
    each(&files, |path, fd| {
        assert_eq!(seek(fd, 0, SEEK_END), Ok(0), "{path}");
        assert_eq!(seek(fd, largest, SEEK_SET), Ok(largest as usize), "{path}");
        fails(seek(fd, largest + 1, SEEK_SET), EINVAL);
        reads_from(fd, 2);
    });
    each(&["/sys/devices/system/node/online"], |path, fd| {
        assert_eq!(seek(fd, 0, SEEK_END), Ok(4096), "{path}");
        assert_eq!(seek(fd, 0, SEEK_HOLE), Ok(4096), "{path}");
        fails(seek(fd, largest + 1, SEEK_SET), EINVAL);
    });
}

fn epoll_takes_what_is_not_about_a_process() {
    let epoll = sys!(SYS_epoll_create1, 0).unwrap();
    let add = |fd: i32| {
        let event = libc::epoll_event { events: EPOLLIN as u32, u64: 0 };
        sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &raw const event)
    };
    let files = ["/proc/meminfo", "/proc/sys/kernel/hostname", "/sys/devices/system/node/online"];
    each(&files, |path, fd| assert_eq!(add(fd), Ok(0), "{path}"));
    each(&["/proc/self/status", "/proc/self/environ"], |_, fd| fails(add(fd), EPERM));
}

/// Programs take less than they asked for as the end, or look at the first page only.
fn areas_are_told_in_whole_records_of_a_page_at_most() {
    for _ in 0..100 {
        crate::memory::map_alone(1);
    }
    // There at once, so that no area changes while they are read.
    let mut texts = [String::with_capacity(1 << 20), String::with_capacity(1 << 20)];
    for (file, ends) in [("maps", "\n"), ("smaps", " \n"), ("numa_maps", "\n")] {
        let fd = open(&format!("/proc/self/{file}"), O_RDONLY, 0).unwrap();
        let mut buffer = [0u8; 16384];
        let [large, small] = &mut texts;
        large.clear();
        small.clear();
        let mut pages = 0;
        loop {
            let length = read(fd, &mut buffer).unwrap();
            if length == 0 {
                break;
            }
            assert!(length <= 4096, "{file}: {length}");
            let page = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(page.ends_with(ends), "{file}: {page}");
            let first = page.split(['-', ' ']).next().unwrap();
            assert!(u64::from_str_radix(first, 16).is_ok(), "{file}: {page}");
            large.push_str(page);
            pages += 1;
        }
        assert!(pages >= 2, "{file}");
        // In small steps it is the same.
        seek(fd, 0, SEEK_SET).unwrap();
        loop {
            let length = read(fd, &mut buffer[..100]).unwrap();
            if length == 0 {
                break;
            }
            small.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        assert_eq!(small.lines().count(), large.lines().count(), "{file}");
        sys::close(fd);
    }
}
