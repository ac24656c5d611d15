//! Who may look at which file of another process in /proc, of a dead one, and of oneself.

use libc::{EACCES, EINVAL, EPERM, O_DIRECTORY, O_RDONLY, O_RDWR, O_WRONLY};

use super::access::{
    A, ADMIN, B, NICE, Row, Who, become_who, may_access, may_open, or, table, user,
};
use crate::child::{join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, Errno, sys};

pub const TESTS: &[Test] = tests![
    a_table_of_who_may_look_at_which_file,
    a_zombie_tells_who_may_look_what_is_left,
    a_process_that_is_not_dumpable_reaches_what_it_does_not_own,
    what_was_read_and_written_is_counted,
];

fn open(path: &str, flags: i32) -> sys::Result<usize> {
    let fd = sys::open(path, flags, 0)?;
    sys::close(fd);
    Ok(0)
}

/// Opens and reads, or writes what harms nobody.
fn through(path: &str, flags: i32, text: &[u8]) -> sys::Result<usize> {
    let fd = sys::open(path, flags, 0)?;
    let mut bytes = [0u8; 64];
    let came =
        if flags == O_WRONLY { sys::write(fd, text) } else { sys::read(fd, &mut bytes).map(|_| 0) };
    sys::close(fd);
    came
}

fn readlink(path: &str) -> sys::Result<usize> {
    let path = sys::c(path);
    let mut text = [0u8; 256];
    sys!(libc::SYS_readlink, path.as_ptr(), text.as_mut_ptr(), text.len())
}

fn looks_at(own: &Who, other: &Who, pid: i32) -> Vec<Row> {
    let looks = may_access(own, other, false);
    let owns = may_open(own, other);
    let of = |name: &str| format!("/proc/{pid}/{name}");
    let both = or(owns && looks, EACCES);
    let mut rows: Vec<Row> = vec![
        ("fd", or(owns, EACCES), open(&of("fd"), O_RDONLY | O_DIRECTORY)),
        ("fd/0 read as a link", both, readlink(&of("fd/0"))),
        ("fd/0 opened", both, open(&of("fd/0"), O_RDONLY)),
        ("fdinfo", or(looks, EACCES), open(&of("fdinfo"), O_RDONLY | O_DIRECTORY)),
        ("fdinfo/0", or(looks, EACCES), through(&of("fdinfo/0"), O_RDONLY, b"")),
        ("exe opened", or(looks, EACCES), open(&of("exe"), O_RDONLY)),
        ("cwd opened", or(looks, EACCES), open(&of("cwd"), O_RDONLY | O_DIRECTORY)),
        ("root opened", or(looks, EACCES), open(&of("root"), O_RDONLY | O_DIRECTORY)),
        ("ns/uts opened", or(looks, EACCES), open(&of("ns/uts"), O_RDONLY)),
        ("smaps_rollup", or(looks, EACCES), through(&of("smaps_rollup"), O_RDONLY, b"")),
        ("environ", both, through(&of("environ"), O_RDONLY, b"")),
        ("auxv", both, through(&of("auxv"), O_RDONLY, b"")),
        ("pagemap", both, open(&of("pagemap"), O_RDONLY)),
        ("io", both, through(&of("io"), O_RDONLY, b"")),
        ("clear_refs", or(owns, EACCES), through(&of("clear_refs"), O_WRONLY, b"1")),
        ("oom_score_adj", or(owns, EACCES), open(&of("oom_score_adj"), O_WRONLY)),
        ("mounts", Ok(()), through(&of("mounts"), O_RDONLY, b"")),
        ("mountinfo", Ok(()), through(&of("mountinfo"), O_RDONLY, b"")),
        ("status", Ok(()), through(&of("status"), O_RDONLY, b"")),
        ("limits", Ok(()), through(&of("limits"), O_RDONLY, b"")),
    ];
    // What is read under the lock of traced programs says EPERM.
    let traced = if owns { or(looks, EPERM) } else { Err(EACCES) };
    for name in ["syscall", "personality"] {
        rows.push((name, traced, through(&of(name), O_RDONLY, b"")));
    }
    let stack = if owns && own.effective & ADMIN != 0 { traced } else { Err(EACCES) };
    rows.push(("stack", stack, through(&of("stack"), O_RDONLY, b"")));
    // A name is changed by the process's own threads only.
    let comm = if owns { Err(EINVAL) } else { Err(EACCES) };
    rows.push(("comm", comm, through(&of("comm"), O_WRONLY, b"x")));
    let nice = or(own.effective & NICE != 0, EPERM);
    rows.push(("timerslack_ns", nice, through(&of("timerslack_ns"), O_RDONLY, b"")));
    rows.push(("timerslack_ns written", nice, through(&of("timerslack_ns"), O_WRONLY, b"50000")));
    // Where it sleeps is told to those who may look; 0 to all others.
    let wchan = std::fs::read_to_string(of("wchan")).map_err(|_| Errno(libc::EIO));
    let told = wchan.map(|text| usize::from(text != "0"));
    rows.push(("wchan", Ok(()), told));
    if told != Ok(usize::from(looks)) {
        rows.push(("wchan tells", Err(0), told));
    }
    rows
}

fn a_table_of_who_may_look_at_which_file() {
    let checks = table(looks_at);
    assert!(checks > 2_000, "{checks} checks");
}

/// What can be asked of each file of a process.
const FILES: [(&str, i32); 30] = [
    ("environ", O_RDONLY),
    ("auxv", O_RDONLY),
    ("mem", O_RDONLY),
    ("mem", O_RDWR),
    ("pagemap", O_RDONLY),
    ("syscall", O_RDONLY),
    ("personality", O_RDONLY),
    ("stack", O_RDONLY),
    ("io", O_RDONLY),
    ("wchan", O_RDONLY),
    ("maps", O_RDONLY),
    ("smaps", O_RDONLY),
    ("numa_maps", O_RDONLY),
    ("smaps_rollup", O_RDONLY),
    ("clear_refs", O_WRONLY),
    ("oom_score_adj", O_RDONLY),
    ("comm", O_RDONLY),
    ("timerslack_ns", O_RDONLY),
    ("limits", O_RDONLY),
    ("mounts", O_RDONLY),
    ("mountinfo", O_RDONLY),
    ("cmdline", O_RDONLY),
    ("fdinfo/0", O_RDONLY),
    ("exe", O_RDONLY),
    ("ns/uts", O_RDONLY),
    ("fd", O_DIRECTORY),
    ("fdinfo", O_DIRECTORY),
    ("cwd", O_DIRECTORY),
    ("root", O_DIRECTORY),
    ("ns", O_DIRECTORY),
];

/// The errnos of the files of a process, 0 for none: opened and read, or listed.
fn answers(pid: &str) -> Vec<(&'static str, i32)> {
    let one = |(name, flags): (&'static str, i32)| {
        let path = format!("/proc/{pid}/{name}");
        let came = match flags {
            O_DIRECTORY => sys::open(&path, O_RDONLY | O_DIRECTORY, 0).and_then(|fd| {
                let mut bytes = [0u8; 512];
                let came = sys!(libc::SYS_getdents64, fd, bytes.as_mut_ptr(), bytes.len());
                sys::close(fd);
                came
            }),
            // There is nothing at its first byte.
            _ if name == "mem" => open(&path, flags),
            _ => through(&path, flags, b"1"),
        };
        (name, came.err().map_or(0, |Errno(errno)| errno))
    };
    let mut all: Vec<_> = FILES.into_iter().map(one).collect();
    for name in ["fd/0", "cwd", "exe", "ns/uts"] {
        let came = readlink(&format!("/proc/{pid}/{name}"));
        all.push((name, came.err().map_or(0, |Errno(errno)| errno)));
    }
    all
}

/// As answers that are not 0, in one line.
fn refused(pid: &str) -> String {
    let all = answers(pid).into_iter().filter(|(_, errno)| *errno != 0);
    all.map(|(name, errno)| format!("{name}:{errno}")).collect::<Vec<_>>().join(" ")
}

/// What a zombie's files answer to root, to its own user, and to another, as who its own user counts
/// if it was not dumpable. Its directory is root's; its memory, directories and descriptors are gone.
const OF_A_ZOMBIE: [&str; 3] = [
    "environ:3 auxv:3 mem:3 mem:3 pagemap:3 smaps_rollup:3 mounts:22 mountinfo:22 fdinfo/0:2 exe:2 \
     ns/uts:2 cwd:2 root:2 fd/0:2 cwd:2 exe:2 ns/uts:2",
    "environ:13 auxv:13 mem:13 mem:13 pagemap:13 syscall:13 personality:13 stack:13 io:13 \
     smaps_rollup:3 clear_refs:13 timerslack_ns:1 mounts:22 mountinfo:22 fdinfo/0:2 exe:2 ns/uts:2 \
     fd:13 cwd:2 root:2 ns:13 fd/0:13 cwd:2 exe:2 ns/uts:2",
    "environ:13 auxv:13 mem:13 mem:13 pagemap:13 syscall:13 personality:13 stack:13 io:13 \
     smaps_rollup:3 clear_refs:13 timerslack_ns:1 mounts:22 mountinfo:22 fdinfo/0:13 exe:13 \
     ns/uts:13 fd:13 fdinfo:13 cwd:13 root:13 ns:13 fd/0:13 cwd:13 exe:13 ns/uts:13",
];

fn a_zombie_tells_who_may_look_what_is_left() {
    for dumpable in [true, false] {
        let zombie = spawn(|| become_who(&Who { dumpable, ..user(A) }));
        while crate::child::state_of(zombie) != Some('Z') {
            std::thread::yield_now();
        }
        for (who, rank) in [(None, 0), (Some(A), if dumpable { 1 } else { 2 }), (Some(B), 2)] {
            let expected = OF_A_ZOMBIE[rank];
            run(|| {
                if let Some(id) = who {
                    become_who(&user(id));
                }
                assert_eq!(refused(&zombie.to_string()), expected, "{who:?}, dumpable: {dumpable}");
            });
        }
        assert_eq!(join(zombie), 0);
    }
}

fn a_process_that_is_not_dumpable_reaches_what_it_does_not_own() {
    run(|| {
        become_who(&Who { dumpable: false, ..user(A) });
        let roots = "environ:13 auxv:13 mem:13 mem:13 pagemap:13 syscall:13 personality:13 stack:13 \
                     io:13 clear_refs:13 ";
        assert_eq!(refused("self"), format!("{roots}ns/uts:22 ns:13"));
        // Threads have no timerslack_ns.
        let thread = refused(&format!("self/task/{}", sys::gettid()));
        assert_eq!(thread, format!("{roots}timerslack_ns:2 ns/uts:22 ns:13"));
    });
}

fn what_was_read_and_written_is_counted() {
    let counts = |path: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes"];
        let lines = text.lines().zip(names);
        let value = |(line, name): (&str, &str)| {
            line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")?.parse().ok())
        };
        lines.map(|line| value(line).unwrap()).collect()
    };
    let own = format!("/proc/self/task/{}/io", sys::gettid());
    let (reader, writer) = sys::pipe().unwrap();
    let mut bytes = [7u8; 1000];
    let before = [counts("/proc/self/io"), counts(&own)];
    for _ in 0..5 {
        sys::write(writer, &bytes).unwrap();
        sys::read(reader, &mut bytes).unwrap();
    }
    // A thread's share stays when it has ended.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let parts = [[bytes.as_ptr().expose_provenance(), 500]; 2];
            assert_eq!(sys!(libc::SYS_writev, writer, parts.as_ptr(), 2), Ok(1000));
        });
    });
    let file = crate::memory::memfd(1);
    let at = bytes.as_mut_ptr();
    assert_eq!(sys!(libc::SYS_pread64, file, at, 10, 0), Ok(10));
    assert_eq!(sys!(libc::SYS_sendfile, writer, file, 0, 50), Ok(50));
    sys::fails(sys!(libc::SYS_read, 999, at, 10), libc::EBADF);
    // To look is to read, too.
    let looked = |path: &str| std::fs::read_to_string(path).unwrap().len() as u64;
    let after = [counts("/proc/self/io"), counts(&own)];
    let threads = [1000, 0];
    for ((before, after), thread) in before.iter().zip(&after).zip(threads) {
        let wrote = after[1] - before[1];
        assert_eq!(wrote, 5000 + thread + 50);
        assert_eq!(after[3] - before[3], 6 + thread / 1000);
        let read = after[0] - before[0];
        assert!((5060..5060 + 6 * looked(&own)).contains(&read), "{read}");
        assert!((7..20).contains(&(after[2] - before[2])));
        assert_eq!((after[4], after[5]), (0, 0));
    }
}
