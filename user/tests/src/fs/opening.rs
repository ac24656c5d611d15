//! open(2) and its family: flags, modes and what is refused.

use libc::*;

use super::scratch;
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    creating_makes_a_file_with_its_mode,
    excl_refuses_what_exists,
    trunc_empties_and_append_writes_at_the_end,
    the_access_mode_is_obeyed,
    directories_are_not_written,
    nofollow_refuses_a_link,
    a_path_descriptor_does_not_read,
    paths_that_are_none_are_refused,
    the_lowest_descriptor_is_taken,
    opening_at_a_directory,
    an_unnamed_file_lives_by_its_descriptor,
    a_removed_file_lives_by_its_descriptor,
    openat2_resolves_as_told,
    flags_are_read_and_some_are_changed,
    dup_shares_the_place_in_the_file,
    close_range_closes_and_marks,
];

fn creating_makes_a_file_with_its_mode() {
    let path = scratch() + "/a";
    fails(open(&path, O_RDWR, 0), ENOENT);
    let fd = open(&path, O_RDWR | O_CREAT, 0o640).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((meta.mode() & 0o7777, meta.len()), (0o640, 0));
    sys::close(fd);
}

fn excl_refuses_what_exists() {
    let directory = scratch();
    let path = directory.clone() + "/a";
    open(&path, O_CREAT | O_EXCL | O_RDWR, 0o600).unwrap();
    fails(open(&path, O_CREAT | O_EXCL | O_RDWR, 0o600), EEXIST);
    std::os::unix::fs::symlink("nowhere", directory.clone() + "/l").unwrap();
    fails(open(&(directory + "/l"), O_CREAT | O_EXCL | O_RDWR, 0o600), EEXIST);
}

fn trunc_empties_and_append_writes_at_the_end() {
    let path = scratch() + "/a";
    std::fs::write(&path, "hello").unwrap();
    let fd = open(&path, O_WRONLY | O_APPEND, 0).unwrap();
    sys!(SYS_lseek, fd, 0, SEEK_SET).unwrap();
    sys::write(fd, b" you").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello you");
    assert_eq!(sys!(SYS_lseek, fd, 0, SEEK_CUR), Ok(9));
    open(&path, O_WRONLY | O_TRUNC, 0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

fn the_access_mode_is_obeyed() {
    let path = scratch() + "/a";
    std::fs::write(&path, "x").unwrap();
    let reader = open(&path, O_RDONLY, 0).unwrap();
    let writer = open(&path, O_WRONLY, 0).unwrap();
    fails(sys::write(reader, b"y"), EBADF);
    fails(sys::read(writer, &mut [0]), EBADF);
    fails(sys!(SYS_ftruncate, reader, 0), EINVAL);
}

fn directories_are_not_written() {
    let path = scratch();
    fails(open(&path, O_WRONLY, 0), EISDIR);
    fails(open(&path, O_RDWR, 0), EISDIR);
    let fd = open(&path, O_RDONLY | O_DIRECTORY, 0).unwrap();
    fails(sys::read(fd, &mut [0]), EISDIR);
    std::fs::write(path.clone() + "/a", "x").unwrap();
    fails(open(&(path.clone() + "/a"), O_RDONLY | O_DIRECTORY, 0), ENOTDIR);
    fails(open(&(path + "/a/b"), O_RDONLY, 0), ENOTDIR);
}

fn nofollow_refuses_a_link() {
    let directory = scratch();
    let link = directory.clone() + "/l";
    std::fs::write(directory + "/a", "x").unwrap();
    std::os::unix::fs::symlink("a", &link).unwrap();
    fails(open(&link, O_RDONLY | O_NOFOLLOW, 0), ELOOP);
    open(&link, O_RDONLY, 0).unwrap();
    let fd = open(&link, O_PATH | O_NOFOLLOW, 0).unwrap();
    let mut stat: stat = sys::zeroed();
    sys!(SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!(stat.st_mode & S_IFMT, S_IFLNK);
}

fn a_path_descriptor_does_not_read() {
    let path = scratch() + "/a";
    std::fs::write(&path, "x").unwrap();
    let fd = open(&path, O_PATH, 0).unwrap();
    fails(sys::read(fd, &mut [0]), EBADF);
    fails(sys::write(fd, b"x"), EBADF);
    let again = open(&format!("/proc/self/fd/{fd}"), O_RDONLY, 0).unwrap();
    assert_eq!(sys::read(again, &mut [0]), Ok(1));
}

fn paths_that_are_none_are_refused() {
    fails(open("", O_RDONLY, 0), ENOENT);
    fails(open(&"x".repeat(256), O_RDONLY, 0), ENAMETOOLONG);
    fails(open(&"x/".repeat(3000), O_RDONLY, 0), ENAMETOOLONG);
    fails(sys!(SYS_openat, AT_FDCWD, 8, O_RDONLY, 0), EFAULT);
    fails(sys!(SYS_openat, 777, c"a".as_ptr(), O_RDONLY, 0), EBADF);
}

fn the_lowest_descriptor_is_taken() {
    let one = open("/dev/null", O_RDONLY, 0).unwrap();
    let two = open("/dev/null", O_RDONLY, 0).unwrap();
    sys::close(one);
    assert_eq!(open("/dev/null", O_RDONLY, 0), Ok(one));
    assert_eq!(sys!(SYS_dup, two).map(|fd| fd as i32 > two), Ok(true));
    fails(sys!(SYS_close, 777), EBADF);
}

fn opening_at_a_directory() {
    let path = scratch();
    std::fs::write(path.clone() + "/a", "x").unwrap();
    let directory = open(&path, O_PATH, 0).unwrap();
    let at = |name: &std::ffi::CStr| sys!(SYS_openat, directory, name.as_ptr(), O_RDONLY, 0);
    at(c"a").unwrap();
    at(c"./../.").unwrap();
    fails(at(c"b"), ENOENT);
    let file = open(&(path + "/a"), O_RDONLY, 0).unwrap();
    fails(sys!(SYS_openat, file, c"a".as_ptr(), O_RDONLY, 0), ENOTDIR);
}

fn an_unnamed_file_lives_by_its_descriptor() {
    let path = scratch();
    let fd = open(&path, O_TMPFILE | O_RDWR, 0o600).unwrap();
    sys::write(fd, b"abc").unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    let (from, to) = (sys::c(&format!("/proc/self/fd/{fd}")), sys::c(&(path.clone() + "/a")));
    let flags = AT_SYMLINK_FOLLOW;
    sys!(SYS_linkat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), flags).unwrap();
    assert_eq!(std::fs::read_to_string(path + "/a").unwrap(), "abc");
}

fn a_removed_file_lives_by_its_descriptor() {
    let path = scratch() + "/a";
    std::fs::write(&path, "abc").unwrap();
    let fd = open(&path, O_RDWR, 0).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut bytes = [0; 3];
    assert_eq!((sys::read(fd, &mut bytes), &bytes), (Ok(3), b"abc"));
    let mut stat: stat = sys::zeroed();
    sys!(SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!(stat.st_nlink, 0);
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(name.to_str(), Some((path + " (deleted)").as_str()));
}

fn openat2_resolves_as_told() {
    let path = scratch();
    std::fs::write(path.clone() + "/a", "x").unwrap();
    std::os::unix::fs::symlink("a", path.clone() + "/l").unwrap();
    std::os::unix::fs::symlink("/etc", path.clone() + "/out").unwrap();
    let directory = open(&path, O_PATH, 0).unwrap();
    let at = |name: &std::ffi::CStr, resolve: u64| {
        let how = [O_RDONLY as u64, 0, resolve];
        sys!(SYS_openat2, directory, name.as_ptr(), how.as_ptr(), 24)
    };
    at(c"l", 0).unwrap();
    fails(at(c"l", RESOLVE_NO_SYMLINKS), ELOOP);
    fails(at(c"../x", RESOLVE_BENEATH), EXDEV);
    fails(at(c"out/passwd", RESOLVE_BENEATH), EXDEV);
    at(c"a", RESOLVE_BENEATH).unwrap();
    at(c"/a", RESOLVE_IN_ROOT).unwrap();
    at(c"../../a", RESOLVE_IN_ROOT).unwrap();
    fails(at(c"a", 1 << 40), EINVAL);
    let how = [O_RDONLY as u64, 0, 0];
    fails(sys!(SYS_openat2, directory, c"a".as_ptr(), how.as_ptr(), 16), EINVAL);
}

fn flags_are_read_and_some_are_changed() {
    let path = scratch() + "/a";
    let fd = open(&path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600).unwrap();
    let get = || sys!(SYS_fcntl, fd, F_GETFL).unwrap() as i32;
    assert_eq!(get() & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR);
    assert_eq!(sys!(SYS_fcntl, fd, F_GETFD), Ok(FD_CLOEXEC as usize));
    sys!(SYS_fcntl, fd, F_SETFL, O_APPEND | O_NONBLOCK | O_RDONLY).unwrap();
    assert_eq!(get() & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR | O_APPEND | O_NONBLOCK);
    let copy = sys!(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100).unwrap();
    assert!(copy >= 100);
    assert_eq!(sys!(SYS_fcntl, copy, F_GETFD), Ok(FD_CLOEXEC as usize));
}

fn dup_shares_the_place_in_the_file() {
    let path = scratch() + "/a";
    let fd = open(&path, O_RDWR | O_CREAT, 0o600).unwrap();
    let copy = sys!(SYS_dup3, fd, 50, O_CLOEXEC).unwrap();
    assert_eq!(copy, 50);
    sys::write(fd, b"abc").unwrap();
    assert_eq!(sys!(SYS_lseek, copy, 0, SEEK_CUR), Ok(3));
    assert_eq!(sys!(SYS_dup2, fd, fd), Ok(fd as usize));
    fails(sys!(SYS_dup3, fd, fd, 0), EINVAL);
    fails(sys!(SYS_dup2, 777, 50), EBADF);
}

fn close_range_closes_and_marks() {
    run(|| {
        let fds: Vec<i32> = (0..5).map(|_| open("/dev/null", O_RDONLY, 0).unwrap()).collect();
        sys!(SYS_close_range, fds[1], fds[2], 0).unwrap();
        let is_open = |fd: i32| sys!(SYS_fcntl, fd, F_GETFD);
        fails(is_open(fds[1]), EBADF);
        fails(is_open(fds[2]), EBADF);
        assert_eq!(is_open(fds[0]), Ok(0));
        // CLOSE_RANGE_CLOEXEC.
        sys!(SYS_close_range, fds[3], fds[4], 4).unwrap();
        assert_eq!(is_open(fds[4]), Ok(1));
        fails(sys!(SYS_close_range, 5, 4, 0), EINVAL);
    });
}
