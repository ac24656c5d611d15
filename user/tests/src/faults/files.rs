//! Names and files.

use super::{Turn, each_fails};
use crate::harness::{Test, tests};
use crate::sys::{self, Result, c, sys};

pub const TESTS: &[Test] = tests![
    open_and_create,
    make_a_directory,
    links,
    rename_to_another_directory,
    stat_and_paths,
    read_a_directory,
    write_a_file,
    readv_and_writev,
    a_long_vector,
    sendfile,
    record_locks,
    extended_attributes,
    a_mount,
    working_directory,
    small_files_of_a_process,
    large_files_of_a_process,
    files_of_the_system,
    links_of_a_process,
];

fn dir() -> String {
    format!("/tmp/faults-{}", sys::getpid())
}

fn open_and_create() {
    let path = c(&format!("{}-open", dir()));
    each_fails(&[], |turn| {
        let flags = libc::O_CREAT | libc::O_RDWR;
        let result = turn.call(|| sys!(libc::SYS_open, path.as_ptr(), flags, 0o600));
        if let Ok(fd) = result {
            sys::close(fd as i32);
        }
        let _ = sys!(libc::SYS_unlink, path.as_ptr());
        result.map(drop)
    });
}

fn make_a_directory() {
    let path = c(&format!("{}-mkdir", dir()));
    each_fails(&[], |turn| {
        let result = turn.call(|| sys!(libc::SYS_mkdir, path.as_ptr(), 0o700));
        let removed = sys!(libc::SYS_rmdir, path.as_ptr());
        // What was refused is not there.
        assert_eq!(result.is_ok(), removed.is_ok());
        result.map(drop)
    });
}

fn links() {
    let (old, hard, soft) = (c("/tmp/faults-old"), c("/tmp/faults-hard"), c("/tmp/faults-soft"));
    let target = c(&"x/".repeat(400));
    std::fs::write("/tmp/faults-old", b"").unwrap();
    each_fails(&[], |turn| {
        let result = turn.call(|| {
            sys!(libc::SYS_link, old.as_ptr(), hard.as_ptr())?;
            sys!(libc::SYS_symlink, target.as_ptr(), soft.as_ptr())?;
            let mut text = [0u8; 1000];
            sys!(libc::SYS_readlink, soft.as_ptr(), text.as_mut_ptr(), text.len())
        });
        let _ = sys!(libc::SYS_unlink, hard.as_ptr());
        let _ = sys!(libc::SYS_unlink, soft.as_ptr());
        assert!(result.is_err() || result == Ok(800));
        result.map(drop)
    });
}

fn rename_to_another_directory() {
    let (from, to) = (c(&format!("{}-from", dir())), c(&format!("{}-to", dir())));
    let name = c(&format!("{}-to/name", dir()));
    std::fs::create_dir(to.to_str().unwrap()).unwrap();
    each_fails(&[], |turn| {
        std::fs::write(from.to_str().unwrap(), b"").unwrap();
        let result = turn.call(|| sys!(libc::SYS_rename, from.as_ptr(), name.as_ptr()));
        let there = sys!(libc::SYS_unlink, name.as_ptr());
        let here = sys!(libc::SYS_unlink, from.as_ptr());
        assert_eq!((there.is_ok(), here.is_ok()), (result.is_ok(), result.is_err()));
        result.map(drop)
    });
}

fn stat_and_paths() {
    let path = c("/proc/self/../../tmp/./../tmp");
    let none = c(&format!("/tmp/{}", "n".repeat(200)));
    each_fails(&[], |turn| {
        let mut stat: libc::stat = sys::zeroed();
        turn.call(|| {
            sys!(libc::SYS_stat, path.as_ptr(), &raw mut stat)?;
            let absent = sys!(libc::SYS_access, none.as_ptr(), 0);
            if absent == Err(sys::Errno(libc::ENOENT)) { Ok(()) } else { absent.map(drop) }
        })
    });
}

fn read_a_directory() {
    let path = format!("{}-many", dir());
    std::fs::create_dir(&path).unwrap();
    for n in 0..50 {
        std::fs::write(format!("{path}/{n}"), b"").unwrap();
    }
    each_fails(&[], |turn| {
        let fd = sys::open(&path, libc::O_DIRECTORY, 0)?;
        let mut room = [0u8; 4096];
        let result = turn.call(|| sys!(libc::SYS_getdents64, fd, room.as_mut_ptr(), room.len()));
        sys::close(fd);
        result.map(drop)
    });
    std::fs::remove_dir_all(&path).unwrap();
}

/// A new file in memory that is written to.
fn written(turn: &Turn<'_>, write: impl FnOnce(i32) -> Result<usize>) -> Result<()> {
    let fd = sys::open("/tmp", libc::O_TMPFILE | libc::O_RDWR, 0o600)?;
    let result = turn.call(|| write(fd));
    sys::close(fd);
    result.map(drop)
}

fn write_a_file() {
    let data = vec![1u8; 40_000];
    each_fails(&[libc::ENOSPC], |turn| {
        written(turn, |fd| {
            sys::write(fd, &data)?;
            sys!(libc::SYS_fallocate, fd, 0, 100_000, 20_000)?;
            sys!(libc::SYS_ftruncate, fd, 10)
        })
    });
}

fn readv_and_writev() {
    let mut data = vec![1u8; 9000];
    let part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: 3000 };
    let parts = [part; 20];
    each_fails(&[libc::ENOSPC], |turn| {
        written(turn, |fd| {
            sys!(libc::SYS_writev, fd, parts.as_ptr(), parts.len())?;
            sys!(libc::SYS_preadv, fd, parts.as_ptr(), parts.len(), 0, 0)
        })
    });
}

fn a_long_vector() {
    let mut data = [1u8; 8];
    let part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: 8 };
    let parts = vec![part; 1024];
    each_fails(&[libc::ENOSPC], |turn| {
        written(turn, |fd| sys!(libc::SYS_writev, fd, parts.as_ptr(), parts.len()))
    });
}

fn sendfile() {
    let (read, write) = sys::pipe().unwrap();
    let file = sys::open("/proc/self/exe", libc::O_RDONLY, 0).unwrap();
    each_fails(&[], |turn| {
        let mut data = [0u8; 20_000];
        let result = turn.call(|| sys!(libc::SYS_sendfile, write, file, 0, data.len()));
        if let Ok(count) = result {
            assert_eq!(sys::read(read, &mut data), Ok(count));
        }
        result.map(drop)
    });
}

fn record_locks() {
    let fd = sys::open("/tmp", libc::O_TMPFILE | libc::O_RDWR, 0o600).unwrap();
    each_fails(&[libc::ENOLCK], |turn| {
        let lock = |kind: i32, start: i64, len: i64| {
            let mut lock: libc::flock = sys::zeroed();
            (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, start, len);
            sys!(libc::SYS_fcntl, fd, libc::F_SETLK, &raw const lock)
        };
        let result = turn.call(|| {
            lock(libc::F_WRLCK, 0, 100)?;
            // In the middle: two remain.
            lock(libc::F_UNLCK, 40, 10)?;
            sys!(libc::SYS_flock, fd, libc::LOCK_EX)
        });
        lock(libc::F_UNLCK, 0, 0)?;
        sys!(libc::SYS_flock, fd, libc::LOCK_UN)?;
        result.map(drop)
    });
}

fn extended_attributes() {
    let path = c(&format!("{}-xattr", dir()));
    std::fs::write(path.to_str().unwrap(), b"").unwrap();
    each_fails(&[libc::EOPNOTSUPP], |turn| {
        let name = c"user.name".as_ptr();
        let value = [5u8; 3000];
        let result = turn.call(|| {
            sys!(libc::SYS_setxattr, path.as_ptr(), name, value.as_ptr(), value.len(), 0)?;
            let mut list = [0u8; 100];
            sys!(libc::SYS_listxattr, path.as_ptr(), list.as_mut_ptr(), list.len())
        });
        let _ = sys!(libc::SYS_removexattr, path.as_ptr(), name);
        if result == Err(sys::Errno(libc::EOPNOTSUPP)) { Ok(()) } else { result.map(drop) }
    });
}

fn a_mount() {
    let path = c(&format!("{}-mount", dir()));
    std::fs::create_dir(path.to_str().unwrap()).unwrap();
    each_fails(&[], |turn| {
        let (kind, data) = (c"tmpfs".as_ptr(), c"size=1m,mode=700".as_ptr());
        let result = turn.call(|| sys!(libc::SYS_mount, kind, path.as_ptr(), kind, 0, data));
        let undone = sys!(libc::SYS_umount2, path.as_ptr(), 0);
        assert_eq!(result.is_ok(), undone.is_ok());
        result.map(drop)
    });
}

fn working_directory() {
    let (deep, root) = (c("/proc/self/task"), c("/"));
    each_fails(&[], |turn| {
        let mut text = [0u8; 200];
        let result = turn.call(|| {
            sys!(libc::SYS_chdir, deep.as_ptr())?;
            sys!(libc::SYS_getcwd, text.as_mut_ptr(), text.len())
        });
        sys!(libc::SYS_chdir, root.as_ptr())?;
        result.map(drop)
    });
}

/// Opens and reads files whole.
fn texts(paths: &[&str]) {
    for path in paths {
        let path = c(path);
        each_fails(&[], |turn| {
            let mut room = [0u8; 8192];
            let fd = turn.call(|| sys!(libc::SYS_open, path.as_ptr(), libc::O_RDONLY, 0))? as i32;
            let result = turn.call(|| {
                while sys::read(fd, &mut room)? > 0 {}
                Ok(())
            });
            sys::close(fd);
            result
        });
    }
}

fn small_files_of_a_process() {
    texts(&[
        "/proc/self/stat",
        "/proc/self/status",
        "/proc/self/cmdline",
        "/proc/self/environ",
        "/proc/self/limits",
        "/proc/self/sched",
        "/proc/self/comm",
        "/proc/self/auxv",
    ]);
}

fn large_files_of_a_process() {
    texts(&[
        "/proc/self/maps",
        "/proc/self/smaps",
        "/proc/self/smaps_rollup",
        "/proc/self/numa_maps",
        "/proc/self/mountinfo",
    ]);
}

fn files_of_the_system() {
    texts(&["/proc/meminfo", "/proc/stat", "/proc/mounts", "/proc/interrupts", "/proc/zoneinfo"]);
}

fn links_of_a_process() {
    let path = c("/proc/self/exe");
    let dir = c("/proc/self/fd");
    each_fails(&[], |turn| {
        let mut text = [0u8; 3000];
        turn.call(|| {
            sys!(libc::SYS_readlink, path.as_ptr(), text.as_mut_ptr(), text.len())?;
            let fd = sys!(libc::SYS_open, dir.as_ptr(), libc::O_DIRECTORY, 0)? as i32;
            let result = sys!(libc::SYS_getdents64, fd, text.as_mut_ptr(), text.len());
            sys::close(fd);
            result.map(drop)
        })
    });
}
