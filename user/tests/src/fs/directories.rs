//! Directories: making, reading, removing, and where one is.

use libc::*;

use super::scratch;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    directories_are_made_and_removed,
    entries_have_their_names_and_kinds,
    many_entries_come_through_a_small_buffer_each_once,
    entries_removed_while_reading_are_no_harm,
    the_working_directory_follows,
    a_removed_working_directory_is_enoent,
    chroot_makes_another_root,
    the_sticky_bit_guards_others_files,
    a_directory_without_search_is_closed,
];

fn mkdir(path: &str, mode: u32) -> sys::Result<usize> {
    let path = sys::c(path);
    sys!(SYS_mkdirat, AT_FDCWD, path.as_ptr(), mode)
}

fn rmdir(path: &str) -> sys::Result<usize> {
    let path = sys::c(path);
    sys!(SYS_unlinkat, AT_FDCWD, path.as_ptr(), AT_REMOVEDIR)
}

/// Names and kinds as getdents64 gives them, with a buffer of this size.
fn entries(fd: i32, size: usize) -> Vec<(String, u8)> {
    let mut found = Vec::new();
    let mut buffer = vec![0u8; size];
    loop {
        let length = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), size).unwrap();
        if length == 0 {
            return found;
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let record = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
            let name = rest[19..record].split(|byte| *byte == 0).next().unwrap();
            found.push((String::from_utf8_lossy(name).into_owned(), rest[18]));
            rest = &rest[record..];
        }
    }
}

fn directories_are_made_and_removed() {
    let base = scratch();
    let path = base.clone() + "/d";
    mkdir(&path, 0o755).unwrap();
    fails(mkdir(&path, 0o755), EEXIST);
    fails(mkdir(&(path.clone() + "/x/y"), 0o755), ENOENT);
    mkdir(&(path.clone() + "/x/"), 0o755).unwrap();
    fails(rmdir(&path), ENOTEMPTY);
    rmdir(&(path.clone() + "/x")).unwrap();
    rmdir(&path).unwrap();
    fails(rmdir(&path), ENOENT);
    std::fs::write(base.clone() + "/f", "").unwrap();
    fails(rmdir(&(base.clone() + "/f")), ENOTDIR);
    fails(rmdir(&(base.clone() + "/.")), EINVAL);
    fails(rmdir("/"), EBUSY);
    let name = sys::c(&base);
    fails(sys!(SYS_unlinkat, AT_FDCWD, name.as_ptr(), 0), EISDIR);
}

fn entries_have_their_names_and_kinds() {
    let base = scratch();
    std::fs::write(base.clone() + "/file", "").unwrap();
    mkdir(&(base.clone() + "/dir"), 0o755).unwrap();
    std::os::unix::fs::symlink("x", base.clone() + "/link").unwrap();
    let fifo = sys::c(&(base.clone() + "/fifo"));
    sys!(SYS_mknod, fifo.as_ptr(), S_IFIFO | 0o600, 0).unwrap();
    let fd = open(&base, O_RDONLY, 0).unwrap();
    let mut found = entries(fd, 4096);
    found.sort();
    let expected =
        [(".", DT_DIR), ("..", DT_DIR), ("dir", DT_DIR), ("fifo", DT_FIFO), ("file", DT_REG)];
    let expected: Vec<_> = expected.into_iter().chain([("link", DT_LNK)]).collect();
    let found: Vec<_> = found.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(found, expected);
}

fn many_entries_come_through_a_small_buffer_each_once() {
    let base = scratch();
    for i in 0..300 {
        std::fs::write(format!("{base}/name-{i}"), "").unwrap();
    }
    let fd = open(&base, O_RDONLY, 0).unwrap();
    let mut found: Vec<String> = entries(fd, 200).into_iter().map(|entry| entry.0).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 302);
    sys!(SYS_lseek, fd, 0, SEEK_SET).unwrap();
    assert_eq!(entries(fd, 4096).len(), 302);
    sys!(SYS_lseek, fd, 0, SEEK_SET).unwrap();
    let mut small = [0u8; 16];
    fails(sys!(SYS_getdents64, fd, small.as_mut_ptr(), 16), EINVAL);
}

fn entries_removed_while_reading_are_no_harm() {
    let base = scratch();
    for i in 0..200 {
        std::fs::write(format!("{base}/{i}"), "").unwrap();
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(&base).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 200);
    rmdir(&base).unwrap();
}

fn the_working_directory_follows() {
    let base = scratch();
    mkdir(&(base.clone() + "/d"), 0o755).unwrap();
    let cwd = || {
        let mut buffer = [0u8; 256];
        let length = sys!(SYS_getcwd, buffer.as_mut_ptr(), 256).unwrap();
        String::from_utf8_lossy(&buffer[..length - 1]).into_owned()
    };
    let path = sys::c(&base);
    sys!(SYS_chdir, path.as_ptr()).unwrap();
    assert_eq!(cwd(), base);
    let fd = open("d", O_PATH, 0).unwrap();
    sys!(SYS_fchdir, fd).unwrap();
    assert_eq!(cwd(), base.clone() + "/d");
    assert_eq!(std::fs::read_link("/proc/self/cwd").unwrap().to_str(), Some(cwd().as_str()));
    sys!(SYS_chdir, c"..".as_ptr()).unwrap();
    assert_eq!(cwd(), base);
    let mut small = [0u8; 3];
    fails(sys!(SYS_getcwd, small.as_mut_ptr(), 3), ERANGE);
    fails(sys!(SYS_chdir, c"none".as_ptr()), ENOENT);
    std::fs::write("f", "").unwrap();
    fails(sys!(SYS_chdir, c"f".as_ptr()), ENOTDIR);
}

fn a_removed_working_directory_is_enoent() {
    let base = scratch();
    std::env::set_current_dir(&base).unwrap();
    rmdir(&base).unwrap();
    let mut buffer = [0u8; 256];
    fails(sys!(SYS_getcwd, buffer.as_mut_ptr(), 256), ENOENT);
    fails(open("new", O_CREAT | O_RDWR, 0o600), ENOENT);
}

fn chroot_makes_another_root() {
    let base = scratch();
    std::fs::write(base.clone() + "/inside", "").unwrap();
    let path = sys::c(&base);
    crate::child::run(|| {
        sys!(SYS_chroot, path.as_ptr()).unwrap();
        sys!(SYS_chdir, c"/".as_ptr()).unwrap();
        open("/inside", O_RDONLY, 0).unwrap();
        open("/../../inside", O_RDONLY, 0).unwrap();
        fails(open("/proc", O_RDONLY, 0), ENOENT);
    });
    crate::child::run(|| {
        crate::task::credentials::become_nobody();
        fails(sys!(SYS_chroot, path.as_ptr()), EPERM);
    });
}

fn the_sticky_bit_guards_others_files() {
    let base = scratch();
    let path = sys::c(&base);
    sys!(SYS_chmod, path.as_ptr(), 0o1777).unwrap();
    std::fs::write(base.clone() + "/roots", "").unwrap();
    crate::child::run(|| {
        crate::task::credentials::become_nobody();
        std::fs::write(base.clone() + "/own", "").unwrap();
        std::fs::remove_file(base.clone() + "/own").unwrap();
        let error = std::fs::remove_file(base.clone() + "/roots").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EPERM));
    });
}

fn a_directory_without_search_is_closed() {
    let base = scratch();
    std::fs::write(base.clone() + "/f", "").unwrap();
    let path = sys::c(&base);
    sys!(SYS_chmod, path.as_ptr(), 0o644).unwrap();
    crate::child::run(|| {
        crate::task::credentials::become_nobody();
        fails(open(&(base.clone() + "/f"), O_RDONLY, 0), EACCES);
        fails(open(&(base.clone() + "/new"), O_CREAT | O_RDWR, 0o600), EACCES);
        let fd = open(&base, O_RDONLY, 0).unwrap();
        assert_eq!(entries(fd, 4096).len(), 3);
    });
}
