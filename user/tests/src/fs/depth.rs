//! What programs nest as deep as they like: nothing of it nests on the kernel's stack.

use std::path::Path;

use libc::{EPOLL_CTL_ADD, EPOLLIN, O_DIRECTORY, O_RDONLY, SYS_mount, SYS_umount2};

use crate::child::{join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, c, close, open, pipe, sys, write};

pub const TESTS: &[Test] = tests![
    a_tree_of_directories_goes_with_its_mount_however_deep,
    directories_removed_below_a_descriptor_go_with_it_however_deep,
    mounts_upon_mounts_go_at_once_however_deep,
    epolls_nest_five_deep,
    children_of_children_end_however_deep,
];

/// Levels: with a call for each, a kernel's stack would not hold a tenth of them.
const DEEP: usize = 10_000;
/// Fewer where Linux walks what is below at each of them.
const DEEP_ENOUGH: usize = 3_000;

fn chdir(path: &str) {
    sys!(libc::SYS_chdir, c(path).as_ptr()).unwrap();
}

fn mkdir(path: &str) {
    sys!(libc::SYS_mkdir, c(path).as_ptr(), 0o755).unwrap();
}

fn mount_tmpfs(at: &str) {
    let kind = c"tmpfs".as_ptr();
    sys!(SYS_mount, kind, c(at).as_ptr(), kind, 0, 0).unwrap();
}

/// Goes `levels` down from the working directory.
fn dig(levels: usize) {
    for _ in 0..levels {
        mkdir("d");
        chdir("d");
    }
}

fn a_tree_of_directories_goes_with_its_mount_however_deep() {
    let place = super::scratch();
    mount_tmpfs(&place);
    run(|| {
        chdir(&place);
        dig(DEEP);
        std::fs::write("bottom", "x").unwrap();
        // Longer than any path, the name is not told; what it leads to is there.
        let error = std::fs::read_link("/proc/self/cwd").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
        assert!(Path::new("/proc/self/cwd/bottom").exists());
    });
    sys!(SYS_umount2, c(&place).as_ptr(), 0).unwrap();
    assert!(!Path::new(&place).join("d").exists());
}

fn directories_removed_below_a_descriptor_go_with_it_however_deep() {
    let place = super::scratch();
    run(|| {
        chdir(&place);
        dig(DEEP_ENOUGH);
        let bottom = open(".", O_RDONLY | O_DIRECTORY, 0).unwrap();
        for _ in 0..DEEP_ENOUGH {
            chdir("..");
            sys!(libc::SYS_rmdir, c"d".as_ptr()).unwrap();
        }
        chdir("/");
        // The last reference to all of them.
        close(bottom);
    });
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

fn mounts_upon_mounts_go_at_once_however_deep() {
    const LEVELS: usize = 1_000;
    let place = super::scratch();
    run(|| {
        chdir(&place);
        for _ in 0..LEVELS {
            mkdir("d");
            mount_tmpfs("d");
            chdir("d");
        }
        chdir("/");
        let listed = || {
            let text = std::fs::read("/proc/self/mounts").unwrap();
            text.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"tmpfs ")).count()
        };
        let before = listed();
        sys!(SYS_umount2, c(&format!("{place}/d")).as_ptr(), libc::MNT_DETACH).unwrap();
        assert_eq!(listed() + LEVELS, before);
    });
    assert_eq!(std::fs::read_dir(format!("{place}/d")).unwrap().count(), 0);
}

fn epolls_nest_five_deep() {
    let (reader, writer) = pipe().unwrap();
    let mut inner = reader;
    let mut depth = 0;
    let refused = loop {
        let outer = sys!(libc::SYS_epoll_create1, 0).unwrap() as i32;
        let mut event = libc::epoll_event { events: EPOLLIN as u32, u64: 0 };
        match sys!(libc::SYS_epoll_ctl, outer, EPOLL_CTL_ADD, inner, &raw mut event) {
            Ok(_) if depth < 100 => (inner, depth) = (outer, depth + 1),
            Ok(_) => panic!("no end"),
            Err(errno) => break errno,
        }
    };
    assert_eq!((refused, depth), (sys::Errno(libc::ELOOP), 5));
    let mut event: libc::epoll_event = sys::zeroed();
    let mut look = || sys!(libc::SYS_epoll_wait, inner, &raw mut event, 1, 0);
    assert_eq!(look(), Ok(0));
    write(writer, b"x").unwrap();
    assert_eq!(look(), Ok(1));
}

fn children_of_children_end_however_deep() {
    const LEVELS: usize = 300;
    fn nest(levels: usize) {
        if levels > 0 {
            assert_eq!(join(spawn(|| nest(levels - 1))), 0);
        }
    }
    run(|| nest(LEVELS));
}
