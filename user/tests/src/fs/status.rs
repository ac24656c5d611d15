//! stat(2) and its family, times, modes, owners; what a file system says of itself.

use libc::*;

use super::scratch;
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    a_file_tells_its_kind_size_and_links,
    statx_tells_the_same_and_when_it_was_born,
    an_empty_path_means_the_descriptor,
    modes_are_changed_by_their_owner_only,
    times_are_set_to_the_nanosecond,
    writing_changes_the_time_and_reading_does_not,
    access_is_asked_for_the_real_user,
    a_tmpfs_tells_its_kind_and_room,
    a_tmpfs_of_limited_size_fills_up,
];

fn stat_of(path: &str) -> sys::Result<stat> {
    let mut stat: stat = sys::zeroed();
    let path = sys::c(path);
    sys!(SYS_newfstatat, AT_FDCWD, path.as_ptr(), &raw mut stat, 0).map(|_| stat)
}

fn a_file_tells_its_kind_size_and_links() {
    let directory = scratch();
    let path = directory.clone() + "/a";
    std::fs::write(&path, "hello").unwrap();
    let stat = stat_of(&path).unwrap();
    assert_eq!(stat.st_mode & S_IFMT, S_IFREG);
    assert_eq!((stat.st_size, stat.st_nlink, stat.st_blksize), (5, 1, 4096));
    std::fs::create_dir(directory.clone() + "/d").unwrap();
    let stat = stat_of(&directory).unwrap();
    assert_eq!((stat.st_mode & S_IFMT, stat.st_nlink), (S_IFDIR, 3));
    assert_ne!(stat_of(&path).unwrap().st_ino, stat.st_ino);
    fails(stat_of(&(directory + "/none")).map(|_| ()), ENOENT);
}

fn statx_tells_the_same_and_when_it_was_born() {
    let path = scratch() + "/a";
    std::fs::write(&path, "hello").unwrap();
    let mut buffer = [0u64; 32];
    let name = sys::c(&path);
    let nr = SYS_statx;
    sys!(nr, AT_FDCWD, name.as_ptr(), 0, STATX_BASIC_STATS | STATX_BTIME, buffer.as_mut_ptr())
        .unwrap();
    let stat = stat_of(&path).unwrap();
    assert_eq!(buffer[0] as u32 & STATX_BASIC_STATS, STATX_BASIC_STATS);
    // ino at byte 32, size at 40, birth time at 80.
    assert_eq!((buffer[4], buffer[5]), (stat.st_ino, 5));
    if buffer[0] as u32 & STATX_BTIME != 0 {
        assert!(buffer[10] as i64 <= stat.st_mtime);
    }
    fails(sys!(nr, AT_FDCWD, name.as_ptr(), 0x4000_0000, 0x7ff, buffer.as_mut_ptr()), EINVAL);
    fails(sys!(nr, AT_FDCWD, 8, 0, 0x7ff, buffer.as_mut_ptr()), EFAULT);
}

fn an_empty_path_means_the_descriptor() {
    let path = scratch() + "/a";
    std::fs::write(&path, "hello").unwrap();
    let fd = open(&path, O_RDONLY, 0).unwrap();
    let mut stat: stat = sys::zeroed();
    let nr = SYS_newfstatat;
    sys!(nr, fd, c"".as_ptr(), &raw mut stat, AT_EMPTY_PATH).unwrap();
    assert_eq!(stat.st_size, 5);
    fails(sys!(nr, fd, c"".as_ptr(), &raw mut stat, 0), ENOENT);
}

fn modes_are_changed_by_their_owner_only() {
    let path = scratch() + "/a";
    std::fs::write(&path, "").unwrap();
    let name = sys::c(&path);
    sys!(SYS_chmod, name.as_ptr(), 0o4751).unwrap();
    assert_eq!(stat_of(&path).unwrap().st_mode & 0o7777, 0o4751);
    sys!(SYS_fchmodat, AT_FDCWD, name.as_ptr(), 0o600).unwrap();
    run(|| {
        crate::task::credentials::become_nobody();
        fails(sys!(SYS_chmod, name.as_ptr(), 0o777), EPERM);
        fails(sys!(SYS_chown, name.as_ptr(), 65534, 65534), EPERM);
    });
    sys!(SYS_chown, name.as_ptr(), 12, -1).unwrap();
    let stat = stat_of(&path).unwrap();
    assert_eq!((stat.st_uid, stat.st_gid), (12, 0));
}

fn times_are_set_to_the_nanosecond() {
    let path = scratch() + "/a";
    std::fs::write(&path, "").unwrap();
    let name = sys::c(&path);
    let times = [timespec { tv_sec: 100, tv_nsec: 1 }, timespec { tv_sec: 200, tv_nsec: 2 }];
    sys!(SYS_utimensat, AT_FDCWD, name.as_ptr(), times.as_ptr(), 0).unwrap();
    let stat = stat_of(&path).unwrap();
    assert_eq!((stat.st_atime, stat.st_atime_nsec), (100, 1));
    assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (200, 2));
    let omit = timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let now = timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = [omit, now];
    sys!(SYS_utimensat, AT_FDCWD, name.as_ptr(), times.as_ptr(), 0).unwrap();
    let stat = stat_of(&path).unwrap();
    assert_eq!(stat.st_atime, 100);
    assert!(stat.st_mtime > 1_700_000_000);
}

fn writing_changes_the_time_and_reading_does_not() {
    let path = scratch() + "/a";
    std::fs::write(&path, "x").unwrap();
    let name = sys::c(&path);
    let old = [timespec { tv_sec: 100, tv_nsec: 0 }; 2];
    sys!(SYS_utimensat, AT_FDCWD, name.as_ptr(), old.as_ptr(), 0).unwrap();
    let fd = open(&path, O_RDWR, 0).unwrap();
    sys::read(fd, &mut [0]).unwrap();
    assert_eq!(stat_of(&path).unwrap().st_mtime, 100);
    sys::write(fd, b"y").unwrap();
    assert!(stat_of(&path).unwrap().st_mtime > 1_700_000_000);
}

fn access_is_asked_for_the_real_user() {
    let path = scratch() + "/a";
    std::fs::write(&path, "").unwrap();
    let name = sys::c(&path);
    let access = |mode: i32, flags: i32| sys!(SYS_faccessat2, AT_FDCWD, name.as_ptr(), mode, flags);
    sys!(SYS_chmod, name.as_ptr(), 0o600).unwrap();
    assert_eq!(access(R_OK | W_OK, 0), Ok(0));
    fails(access(X_OK, 0), EACCES);
    run(|| {
        sys!(SYS_setresuid, 77, 0, 0).unwrap();
        fails(access(R_OK, 0), EACCES);
        assert_eq!(access(R_OK, AT_EACCESS), Ok(0));
    });
    fails(access(99, 0), EINVAL);
}

fn a_tmpfs_tells_its_kind_and_room() {
    // SAFETY: zeroes are valid in this structure of integers.
    let mut data: statfs = unsafe { std::mem::zeroed() };
    sys!(SYS_statfs, c"/tmp".as_ptr(), &raw mut data).unwrap();
    assert_eq!((data.f_type as u64, data.f_bsize as u64), (0x0102_1994, 4096));
    assert_eq!(data.f_namelen as u64, 255);
    sys!(SYS_statfs, c"/proc".as_ptr(), &raw mut data).unwrap();
    assert_eq!(data.f_type as u64, 0x9fa0);
}

fn a_tmpfs_of_limited_size_fills_up() {
    let path = scratch();
    let target = sys::c(&path);
    let words = (c"tmpfs".as_ptr(), c"size=64k".as_ptr());
    sys!(SYS_mount, words.0, target.as_ptr(), words.0, 0, words.1).unwrap();
    let fd = open(&(path.clone() + "/a"), O_RDWR | O_CREAT, 0o600).unwrap();
    let bytes = vec![1u8; 100_000];
    assert_eq!(sys::write(fd, &bytes), Ok(65536));
    fails(sys::write(fd, &bytes), ENOSPC);
    sys!(SYS_ftruncate, fd, 0).unwrap();
    assert_eq!(sys!(SYS_pwrite64, fd, bytes.as_ptr(), 1000, 0), Ok(1000));
    sys::close(fd);
    sys!(SYS_umount2, target.as_ptr(), 0).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}
