//! Hard and symbolic links.

use libc::*;
use std::os::unix::fs::symlink;

use super::scratch;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    two_names_are_one_file,
    a_symbolic_link_is_read_and_followed,
    a_link_to_nothing_and_links_in_a_ring,
    forty_links_are_followed_and_no_more,
    links_lead_through_directories,
    removing_a_link_leaves_its_target,
    links_in_proc_lead_to_open_files,
];

fn link(from: &str, to: &str) -> sys::Result<usize> {
    let (from, to) = (sys::c(from), sys::c(to));
    sys!(SYS_linkat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0)
}

fn two_names_are_one_file() {
    use std::os::unix::fs::MetadataExt;
    let base = scratch();
    let (a, b) = (base.clone() + "/a", base.clone() + "/b");
    std::fs::write(&a, "x").unwrap();
    link(&a, &b).unwrap();
    std::fs::write(&b, "yz").unwrap();
    assert_eq!(std::fs::read_to_string(&a).unwrap(), "yz");
    let (one, two) = (std::fs::metadata(&a).unwrap(), std::fs::metadata(&b).unwrap());
    assert_eq!((one.ino(), one.nlink(), two.nlink()), (two.ino(), 2, 2));
    std::fs::remove_file(&a).unwrap();
    assert_eq!(std::fs::metadata(&b).unwrap().nlink(), 1);
    fails(link(&a, &b), ENOENT);
    std::fs::write(&a, "").unwrap();
    fails(link(&a, &b), EEXIST);
    fails(link(&base, &(base.clone() + "/d")), EPERM);
    fails(link(&b, "/dev/shm/x"), EXDEV);
}

fn a_symbolic_link_is_read_and_followed() {
    let base = scratch();
    std::fs::write(base.clone() + "/a", "x").unwrap();
    symlink("a", base.clone() + "/l").unwrap();
    assert_eq!(std::fs::read_to_string(base.clone() + "/l").unwrap(), "x");
    let name = sys::c(&(base.clone() + "/l"));
    let mut buffer = [0u8; 8];
    let read = |size: usize, buffer: &mut [u8]| {
        sys!(SYS_readlinkat, AT_FDCWD, name.as_ptr(), buffer.as_mut_ptr(), size)
    };
    assert_eq!((read(8, &mut buffer), buffer[0]), (Ok(1), b'a'));
    fails(read(0, &mut buffer), EINVAL);
    let plain = sys::c(&(base + "/a"));
    fails(sys!(SYS_readlinkat, AT_FDCWD, plain.as_ptr(), buffer.as_mut_ptr(), 8), EINVAL);
}

fn a_link_to_nothing_and_links_in_a_ring() {
    let base = scratch();
    symlink("none", base.clone() + "/l").unwrap();
    fails(open(&(base.clone() + "/l"), O_RDONLY, 0), ENOENT);
    open(&(base.clone() + "/l"), O_RDWR | O_CREAT, 0o600).unwrap();
    assert!(std::fs::metadata(base.clone() + "/none").unwrap().is_file());
    symlink("two", base.clone() + "/one").unwrap();
    symlink("one", base.clone() + "/two").unwrap();
    fails(open(&(base + "/one"), O_RDONLY, 0), ELOOP);
}

fn forty_links_are_followed_and_no_more() {
    let base = scratch();
    std::fs::write(base.clone() + "/0", "x").unwrap();
    for i in 1..=41 {
        symlink((i - 1).to_string(), format!("{base}/{i}")).unwrap();
    }
    open(&format!("{base}/40"), O_RDONLY, 0).unwrap();
    fails(open(&format!("{base}/41"), O_RDONLY, 0), ELOOP);
}

fn links_lead_through_directories() {
    let base = scratch();
    std::fs::create_dir_all(base.clone() + "/x/y").unwrap();
    std::fs::write(base.clone() + "/x/f", "1").unwrap();
    symlink("x/y", base.clone() + "/l").unwrap();
    // The parent of the target, not of the link.
    assert_eq!(std::fs::read_to_string(base.clone() + "/l/../f").unwrap(), "1");
    symlink(base.clone() + "/x", base.clone() + "/abs").unwrap();
    assert_eq!(std::fs::read_to_string(base.clone() + "/abs/f").unwrap(), "1");
    std::fs::write(base.clone() + "/file", "").unwrap();
    symlink("file", base.clone() + "/lf").unwrap();
    fails(open(&(base + "/lf/"), O_RDONLY, 0), ENOTDIR);
}

fn removing_a_link_leaves_its_target() {
    let base = scratch();
    std::fs::write(base.clone() + "/a", "x").unwrap();
    symlink("a", base.clone() + "/l").unwrap();
    std::fs::remove_file(base.clone() + "/l").unwrap();
    assert_eq!(std::fs::read_to_string(base + "/a").unwrap(), "x");
}

fn links_in_proc_lead_to_open_files() {
    let base = scratch();
    std::fs::write(base.clone() + "/a", "x").unwrap();
    let fd = open(&(base.clone() + "/a"), O_RDONLY, 0).unwrap();
    let link = format!("/proc/self/fd/{fd}");
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some((base.clone() + "/a").as_str()));
    std::fs::remove_file(base + "/a").unwrap();
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "x");
}
