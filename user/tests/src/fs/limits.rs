//! The edges: the largest offsets, places in what has no end, openings that ask for too much.

use libc::*;

use super::scratch;
use crate::harness::{Test, not_on_linux, on_proxima_only, tests};
use crate::memory::{PAGE, map, mmap, mprotect};
use crate::signal;
use crate::sys::{self, fails, open, pipe, sys};

pub const TESTS: &[Test] = tests![
    no_byte_lies_beyond_the_largest_offset,
    a_place_cannot_be_moved_beyond_the_largest_offset,
    directories_have_no_end_to_seek_from,
    getdents_writes_whole_records_up_to_where_it_may,
    a_removed_directory_has_no_entries,
    access_mode_three_gives_neither_right,
    direct_io_is_for_files_that_can,
    an_eventfd_takes_eight_bytes,
    accesses_of_links_and_mappings_are_noted,
    a_mount_without_access_times_keeps_them,
    a_process_directory_is_signalled_as_a_pidfd_is,
    a_write_cut_short_by_the_last_readers_end_is_sigpipe,
    what_is_not_there_is_refused,
    what_was_asked_for_in_vain_is_remembered_and_no_more_than_fits,
];

const LARGEST: i64 = i64::MAX;
/// O_ACCMODE as the kernel has it: musl's adds O_PATH.
const ACCESS_MODE: i32 = 3;

fn file() -> i32 {
    open(&(scratch() + "/a"), O_RDWR | O_CREAT, 0o600).unwrap()
}

fn seek(fd: i32, offset: i64, whence: i32) -> sys::Result<usize> {
    sys!(SYS_lseek, fd, offset, whence)
}

fn no_byte_lies_beyond_the_largest_offset() {
    let fd = file();
    let mut bytes = [0u8; 2 * PAGE];
    let at = bytes.as_mut_ptr();
    seek(fd, LARGEST, SEEK_SET).unwrap();
    fails(sys::write(fd, b"x"), EINVAL);
    fails(sys::read(fd, &mut [0]), EINVAL);
    assert_eq!(sys::read(fd, &mut []), Ok(0));
    for (count, offset) in [(1, LARGEST), (2, LARGEST - 1), (2 * PAGE, LARGEST - PAGE as i64)] {
        fails(sys!(SYS_pread64, fd, at, count, offset), EINVAL);
        fails(sys!(SYS_pwrite64, fd, at, count, offset), EINVAL);
    }
    assert_eq!(sys!(SYS_pwrite64, fd, at, 1, LARGEST - 1), Ok(1));
    assert_eq!(seek(fd, 0, SEEK_END), Ok(LARGEST as usize));
    let (reader, writer) = pipe().unwrap();
    sys::write(writer, b"abc").unwrap();
    let mut offset = LARGEST - 1;
    fails(sys!(SYS_splice, reader, 0, fd, &raw mut offset, 3, 0), EINVAL);
    fails(sys!(SYS_splice, fd, &raw mut offset, writer, 0, 3, 0), EINVAL);
    fails(sys!(SYS_sendfile, writer, fd, &raw mut offset, 3), EINVAL);
    assert_eq!(offset, LARGEST - 1);
    let last_page = LARGEST as usize & !(PAGE - 1);
    for offset in [last_page, usize::MAX & !(PAGE - 1)] {
        fails(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, offset), EOVERFLOW);
    }
    mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, last_page - PAGE).unwrap();
}

fn a_place_cannot_be_moved_beyond_the_largest_offset() {
    let fd = file();
    assert_eq!(seek(fd, LARGEST, SEEK_SET), Ok(LARGEST as usize));
    fails(seek(fd, 1, SEEK_CUR), EINVAL);
    sys!(SYS_ftruncate, fd, LARGEST).unwrap();
    fails(seek(fd, 1, SEEK_END), EINVAL);
    // In file systems without large files positions end at 2^31.
    for path in ["/proc", "/sys/devices/system/node"] {
        let fd = open(path, O_RDONLY, 0).unwrap();
        assert_eq!(seek(fd, i64::from(i32::MAX), SEEK_SET), Ok(i32::MAX as usize), "{path}");
        fails(seek(fd, i64::from(i32::MAX) + 1, SEEK_SET), EINVAL);
    }
}

fn directories_have_no_end_to_seek_from() {
    let fd = open(&scratch(), O_RDONLY, 0).unwrap();
    for whence in [SEEK_END, SEEK_DATA, SEEK_HOLE] {
        fails(seek(fd, 0, whence), EINVAL);
    }
    fails(seek(fd, -1, SEEK_SET), EINVAL);
    assert_eq!(seek(fd, LARGEST, SEEK_SET), Ok(LARGEST as usize));
    let memory = open("/proc/self/mem", O_RDONLY, 0).unwrap();
    for whence in [SEEK_END, SEEK_DATA, SEEK_HOLE] {
        fails(seek(memory, 0, whence), EINVAL);
    }
}

/// Bytes of the record at `at`.
fn record_len(at: usize) -> usize {
    usize::from(crate::memory::get(at + 16)) | usize::from(crate::memory::get(at + 17)) << 8
}

fn getdents_writes_whole_records_up_to_where_it_may() {
    let dir = scratch();
    for i in 0..40 {
        std::fs::write(format!("{dir}/file-of-a-longer-name-{i}"), "").unwrap();
    }
    let fd = open(&dir, O_RDONLY, 0).unwrap();
    let pages = map(2);
    mprotect(pages + PAGE, 1, PROT_NONE).unwrap();
    let room = 150;
    let begin = pages + PAGE - room;
    let mut names = 0;
    loop {
        let bytes = sys!(SYS_getdents64, fd, begin, 1000).unwrap();
        if bytes == 0 {
            break;
        }
        assert!(bytes <= room);
        let mut at = 0;
        while at < bytes {
            at += record_len(begin + at);
            names += 1;
        }
        assert_eq!(at, bytes);
    }
    // None is lost at the edge of what can be written.
    assert_eq!(names, 42);
    seek(fd, 0, SEEK_SET).unwrap();
    fails(sys!(SYS_getdents64, fd, pages + PAGE, 1000), EFAULT);
    fails(sys!(SYS_getdents64, fd, pages + PAGE - 8, 1000), EFAULT);
    fails(sys!(SYS_getdents64, fd, pages, 10), EINVAL);
    assert_eq!(seek(fd, 0, SEEK_CUR), Ok(0));
}

fn a_removed_directory_has_no_entries() {
    let path = scratch();
    let fd = open(&path, O_RDONLY, 0).unwrap();
    std::fs::remove_dir(&path).unwrap();
    let mut bytes = [0u8; 512];
    fails(sys!(SYS_getdents64, fd, bytes.as_mut_ptr(), bytes.len()), ENOENT);
}

fn access_mode_three_gives_neither_right() {
    let path = scratch() + "/a";
    std::fs::write(&path, "text").unwrap();
    let fd = open(&path, ACCESS_MODE, 0).unwrap();
    fails(sys::read(fd, &mut [0; 4]), EBADF);
    fails(sys::write(fd, b"x"), EBADF);
    fails(sys!(SYS_ftruncate, fd, 1), EINVAL);
    fails(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0), EACCES);
    assert_eq!(sys!(SYS_fcntl, fd, F_GETFL).unwrap() as i32 & ACCESS_MODE, ACCESS_MODE);
    fails(open(&scratch(), ACCESS_MODE, 0), EISDIR);
    let fifo = scratch() + "/fifo";
    sys!(SYS_mknod, sys::c(&fifo).as_ptr(), S_IFIFO | 0o600, 0).unwrap();
    fails(open(&fifo, ACCESS_MODE | O_NONBLOCK, 0), EINVAL);
}

fn direct_io_is_for_files_that_can() {
    let dir = scratch();
    std::fs::write(dir.clone() + "/a", "text").unwrap();
    let plain = open(&(dir.clone() + "/a"), O_RDONLY | O_DIRECT, 0).unwrap();
    sys!(SYS_fcntl, plain, F_SETFL, O_DIRECT).unwrap();
    for path in [dir.as_str(), "/proc/self/status", "/proc/self", "/dev/null", "/sys"] {
        fails(open(path, O_RDONLY | O_DIRECT, 0), EINVAL);
        let fd = open(path, O_RDONLY, 0).unwrap();
        fails(sys!(SYS_fcntl, fd, F_SETFL, O_DIRECT), EINVAL);
    }
    let (reader, _writer) = pipe().unwrap();
    sys!(SYS_fcntl, reader, F_SETFL, O_DIRECT).unwrap();
}

fn an_eventfd_takes_eight_bytes() {
    let fd = sys!(SYS_eventfd2, 0, EFD_NONBLOCK).unwrap() as i32;
    for count in [7, 9, 12, 16] {
        fails(sys::write(fd, &vec![1; count]), EINVAL);
    }
    assert_eq!(sys::write(fd, &[1, 0, 0, 0, 0, 0, 0, 0]), Ok(8));
    assert_eq!(sys::read(fd, &mut [0; 16]), Ok(8));
}

/// Sets access and modification time to the distant past.
fn age(path: &str) {
    let times = [sys::timespec(1_000_000_000_000), sys::timespec(2_000_000_000_000)];
    let (path, flags) = (sys::c(path), AT_SYMLINK_NOFOLLOW);
    sys!(SYS_utimensat, AT_FDCWD, path.as_ptr(), times.as_ptr(), flags).unwrap();
}

/// The access time was changed since [`age`].
fn was_accessed(path: &str) -> bool {
    let mut stat: stat = sys::zeroed();
    sys!(SYS_lstat, sys::c(path).as_ptr(), &raw mut stat).unwrap();
    stat.st_atime != 1000
}

fn accesses_of_links_and_mappings_are_noted() {
    let dir = scratch();
    let (target, link) = (dir.clone() + "/a", dir + "/link");
    std::fs::write(&target, "text").unwrap();
    std::os::unix::fs::symlink("a", &link).unwrap();
    age(&link);
    std::fs::read_link(&link).unwrap();
    assert!(was_accessed(&link), "readlink");
    age(&link);
    age(&target);
    let fd = open(&link, O_RDONLY, 0).unwrap();
    assert!(was_accessed(&link), "a link is followed");
    assert!(!was_accessed(&target), "opening is no access");
    mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0).unwrap();
    assert!(was_accessed(&target), "mmap");
    age(&target);
    let quiet = open(&target, O_RDONLY | O_NOATIME, 0).unwrap();
    sys::read(quiet, &mut [0; 4]).unwrap();
    mmap(0, PAGE, PROT_READ, MAP_PRIVATE, quiet, 0).unwrap();
    assert!(!was_accessed(&target), "O_NOATIME");
}

fn a_mount_without_access_times_keeps_them() {
    let dir = scratch();
    let (place, kind) = (sys::c(&dir), sys::c("tmpfs"));
    let mounted = |flags: u64| {
        sys!(SYS_mount, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, 0).unwrap();
        let target = dir.clone() + "/a";
        std::fs::write(&target, "text").unwrap();
        std::os::unix::fs::symlink("a", dir.clone() + "/link").unwrap();
        for path in ["/a", "/link", ""] {
            age(&(dir.clone() + path));
        }
        std::fs::read(&target).unwrap();
        std::fs::read_link(dir.clone() + "/link").unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        let seen = ["/a", "/link", ""].map(|path| was_accessed(&(dir.clone() + path)));
        sys!(SYS_umount2, place.as_ptr(), 0).unwrap();
        seen
    };
    assert_eq!(mounted(0), [true; 3]);
    assert_eq!(mounted(MS_NOATIME), [false; 3]);
    assert_eq!(mounted(MS_NODIRATIME), [true, true, false]);
}

fn a_process_directory_is_signalled_as_a_pidfd_is() {
    let send = |fd: i32, signal: i32| sys!(SYS_pidfd_send_signal, fd, signal, 0, 0);
    let child = crate::child::spawn(|| {
        let _ = sys!(SYS_pause);
    });
    let dir = open(&format!("/proc/{child}"), O_RDONLY | O_DIRECTORY, 0).unwrap();
    assert_eq!(send(dir, 0), Ok(0));
    assert_eq!(send(dir, SIGKILL), Ok(0));
    assert_eq!(crate::child::join(child), 128 + SIGKILL);
    fails(send(dir, 0), ESRCH);
    for path in ["/proc/self/status", "/proc/thread-self", "/proc", "/proc/self/task"] {
        fails(send(open(path, O_RDONLY, 0).unwrap(), 0), EBADF);
    }
    fails(send(open("/proc/self", O_PATH, 0).unwrap(), 0), EBADF);
}

fn a_write_cut_short_by_the_last_readers_end_is_sigpipe() {
    signal::catch(SIGPIPE, 0);
    let (reader, writer) = pipe().unwrap();
    let parent = sys::gettid();
    let child = crate::child::spawn(|| {
        sys::close(writer);
        // Reads part of what was written, then goes when the writer sleeps again.
        assert_eq!(sys::read(reader, &mut [0; PAGE]), Ok(PAGE));
        crate::child::until_asleep(parent);
    });
    sys::close(reader);
    let written = sys::write(writer, &vec![7; 40 * PAGE]).unwrap();
    assert!((16 * PAGE..40 * PAGE).contains(&written), "{written}");
    assert_eq!(signal::COUNT.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(crate::child::join(child), 0);
}

fn what_is_not_there_is_refused() {
    on_proxima_only("there it may be there");
    // As a Linux without page merging answers, and one whose pool of huge pages is empty.
    let page = map(1);
    for advice in [MADV_MERGEABLE, MADV_UNMERGEABLE] {
        fails(crate::memory::madvise(page, 1, advice), EINVAL);
    }
    let flags = IPC_CREAT | SHM_HUGETLB | 0o600;
    fails(sys!(SYS_shmget, IPC_PRIVATE, PAGE, flags), ENOMEM);
}

fn what_was_asked_for_in_vain_is_remembered_and_no_more_than_fits() {
    not_on_linux("/proc/proxima/missing");
    let missing = || std::fs::read_to_string("/proc/proxima/missing").unwrap();
    let path = format!("/nowhere/{}", sys::getpid());
    fails(open(&path, O_RDONLY, 0), ENOENT);
    fails(open("./relative/nowhere", O_RDONLY, 0), ENOENT);
    let cwd = std::env::current_dir().unwrap();
    fails(sys!(SYS_socket, 9999, SOCK_STREAM, 0), EAFNOSUPPORT);
    fails(sys!(1000), ENOSYS);
    fails(sys!(99999), ENOSYS);
    let record = missing();
    let there = |line: &str| record.lines().filter(|l| l.starts_with(line)).count();
    assert_eq!(there(&format!("path {path} ")), 1);
    assert_eq!((there("socket 9999 "), there("syscall 1000 ")), (1, 1));
    // One number stands for all beyond the table, its own: that of who was first to ask.
    let numbers = record.lines().filter_map(|line| line.strip_prefix("syscall "));
    let numbers = numbers.filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(numbers.filter(|&number| number >= 1023).count(), 1);
    assert_eq!(there(&format!("path {} ", cwd.join("relative/nowhere").display())), 1);
    // Nobody makes the record long: neither by many names nor by long ones.
    for i in 0..1000 {
        fails(open(&format!("/nowhere/{i}/{}", "x\n".repeat(100)), O_RDONLY, 0), ENOENT);
    }
    let full = missing();
    assert!(full.lines().count() <= 256 && full.len() < 64 * 1024, "{} bytes", full.len());
    assert!(full.lines().all(|line| line.split(' ').count() == 3), "a name breaks its line");
}
