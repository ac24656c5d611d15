//! What an exec, a write or a limit may not give to those without the privilege.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use libc::{EACCES, EINVAL, EPERM};

use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::helper;
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_forced_write_never_reaches_the_file,
    an_exec_closes_nothing_of_those_who_share_descriptors,
    shared_directories_keep_an_exec_from_gaining_an_id,
    a_maps_file_opened_before_an_exec_is_empty_after_it,
    clone3_refuses_unknown_flags_and_handlers_both_shared_and_cleared,
    thread_storage_beyond_the_user_half_is_refused,
    a_sealed_file_mapped_for_reading_stays_unwritable,
    truncation_by_a_user_takes_set_id_bits_away,
    changes_take_set_id_bits_away_by_a_table,
    an_exec_as_a_user_with_too_many_threads_is_refused,
    an_exec_makes_the_exit_signal_sigchld,
    forced_buffers_and_high_priorities_need_a_capability,
    credentials_of_no_process_are_refused,
    locked_memory_grows_within_its_limit,
    threads_count_against_the_limit_of_processes,
    descriptors_in_flight_are_limited_for_each_user,
    a_descriptor_from_elsewhere_gives_its_file_no_name,
    priorities_are_limited_for_those_without_privilege,
    memory_layout_is_set_with_a_capability_only,
];

const ID: u32 = 1001;

fn become_user() {
    super::credentials::become_user(ID);
}

fn a_forced_write_never_reaches_the_file() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let fd = memfd(1);
    let at = mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0).unwrap();
    let mem = sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !STOP.load(SeqCst) {
                    madvise(at, 1, libc::MADV_DONTNEED).unwrap();
                    get(at);
                }
            });
        }
        for _ in 0..20_000 {
            assert_eq!(sys!(libc::SYS_pwrite64, mem, c"x".as_ptr(), 1, at), Ok(1));
        }
        STOP.store(true, SeqCst);
    });
    let mut byte = [9u8];
    assert_eq!(sys!(libc::SYS_pread64, fd, byte.as_mut_ptr(), 1, 0), Ok(1));
    assert_eq!(byte, [0], "the file");
    assert_eq!(sys!(libc::SYS_pwrite64, mem, c"x".as_ptr(), 1, at), Ok(1));
    assert_eq!(get(at), b'x', "the copy");
}

/// fork with more shared than fork shares.
fn fork_sharing(flags: i32) -> i32 {
    sys!(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0).unwrap() as i32
}

fn an_exec_closes_nothing_of_those_who_share_descriptors() {
    let (marked, _) = sys::pipe_with(libc::O_CLOEXEC).unwrap();
    let child = fork_sharing(libc::CLONE_FILES);
    if child == 0 {
        panic!("execve: {}", helper::exec(&["fd-open", &marked.to_string()]));
    }
    assert_eq!(join(child), 1, "closed in the new program");
    sys!(libc::SYS_fcntl, marked, libc::F_GETFD).expect("open here");
}

fn shared_directories_keep_an_exec_from_gaining_an_id() {
    // Not in /tmp, which is mounted nosuid.
    let path = format!("/set-id-{}", sys::getpid());
    std::fs::copy("/proc/self/exe", &path).unwrap();
    let name = sys::c(&path);
    sys!(libc::SYS_chown, name.as_ptr(), 12, 12).unwrap();
    sys!(libc::SYS_chmod, name.as_ptr(), 0o4755).unwrap();
    for (flags, expected) in [(0, 12), (libc::CLONE_FS, 77)] {
        run(|| {
            super::credentials::become_user(77);
            let child = fork_sharing(flags);
            if child == 0 {
                panic!("execve: {}", helper::exec_file(&name, &["euid"]));
            }
            assert_eq!(join(child), expected, "flags {flags:#x}");
        });
    }
    std::fs::remove_file(&path).unwrap();
}

fn a_maps_file_opened_before_an_exec_is_empty_after_it() {
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        panic!("execve: {}", helper::exec(&["pause"]));
    });
    let maps = sys::open(&format!("/proc/{child}/maps"), libc::O_RDONLY, 0).unwrap();
    let mem = sys::open(&format!("/proc/{child}/mem"), libc::O_RDONLY, 0).unwrap();
    steps.reach(1);
    // The harness's own arguments are names of tests, with any word in them.
    let executed = || {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
        line.ends_with(b"\0pause\0")
    };
    while !executed() {
        sys!(libc::SYS_sched_yield).unwrap();
    }
    let mut text = [0u8; 256];
    assert_eq!(sys::read(maps, &mut text), Ok(0));
    assert_eq!(sys::read(mem, &mut text), Ok(0));
    sys::kill(child, libc::SIGKILL).unwrap();
    join(child);
}

fn clone3_refuses_unknown_flags_and_handlers_both_shared_and_cleared() {
    const CLEAR_SIGHAND: u64 = 1 << 32;
    let both = CLEAR_SIGHAND | (libc::CLONE_SIGHAND | libc::CLONE_VM) as u64;
    for flags in [1 << 40, 1 << 63, both] {
        let arguments = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
        fails(sys!(libc::SYS_clone3, arguments.as_ptr(), 64), EINVAL);
    }
}

fn thread_storage_beyond_the_user_half_is_refused() {
    let flags = libc::CLONE_SETTLS | libc::SIGCHLD;
    for tls in [1u64 << 47, 1 << 63, u64::MAX] {
        fails(sys!(libc::SYS_clone, flags, 0, 0, 0, tls), EPERM);
    }
}

fn a_sealed_file_mapped_for_reading_stays_unwritable() {
    let fd = memfd_with(1, libc::MFD_ALLOW_SEALING);
    sys!(libc::SYS_fcntl, fd, libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE).unwrap();
    let at = mmap(0, PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0).unwrap();
    fails(mprotect(at, 1, libc::PROT_READ | libc::PROT_WRITE), EACCES);
    let mem = sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
    fails(sys!(libc::SYS_pwrite64, mem, c"x".as_ptr(), 1, at), libc::EIO);
    assert_eq!(get(at), 0);
}

fn truncation_by_a_user_takes_set_id_bits_away() {
    let path = format!("/tmp/bits-{}", sys::getpid());
    std::fs::write(&path, "text").unwrap();
    let name = sys::c(&path);
    sys!(libc::SYS_chmod, name.as_ptr(), 0o6777).unwrap();
    let mode = || {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777
    };
    sys!(libc::SYS_truncate, name.as_ptr(), 3).unwrap();
    assert_eq!(mode(), 0o6777, "with CAP_FSETID");
    run(|| {
        become_user();
        sys!(libc::SYS_truncate, name.as_ptr(), 2).unwrap();
        assert_eq!(mode(), 0o777);
    });
    std::fs::remove_file(&path).unwrap();
}

/// What a change of a file does to its set-id bits, by who makes it: root, root without CAP_FSETID
/// outside of the file's group, and the owner in the group and outside of it.
fn changes_take_set_id_bits_away_by_a_table() {
    use std::os::unix::fs::PermissionsExt;
    const FSETID: u64 = 1 << 4;
    const GROUP: u32 = 55;
    let path = format!("/tmp/table-{}", sys::getpid());
    let name = sys::c(&path);
    type Change = fn(&std::ffi::CStr, i32) -> sys::Result<usize>;
    let changes: [(&str, Change); 6] = [
        ("write", |_, fd| sys!(libc::SYS_pwrite64, fd, c"x".as_ptr(), 1, 0)),
        ("truncate", |path, _| sys!(libc::SYS_truncate, path.as_ptr(), 2)),
        ("fallocate", |_, fd| sys!(libc::SYS_fallocate, fd, 0, 0, 8192)),
        ("chown", |path, _| sys!(libc::SYS_chown, path.as_ptr(), -1, -1)),
        ("chgrp", |path, _| sys!(libc::SYS_chown, path.as_ptr(), -1, GROUP)),
        ("chmod", |path, _| sys!(libc::SYS_chmod, path.as_ptr(), 0o2764)),
    ];
    let callers: [(&str, fn()); 4] = [
        ("root", || ()),
        ("root without FSETID", || super::credentials::drop_effective(FSETID)),
        ("owner in the group", || {
            sys!(libc::SYS_setgroups, 1, [GROUP].as_ptr()).unwrap();
            sys!(libc::SYS_setresgid, ID, ID, ID).unwrap();
            sys!(libc::SYS_setresuid, ID, ID, ID).unwrap();
        }),
        ("owner", become_user),
    ];
    // Set-user-id 4, set-group-id 2: what is left.
    let rule = |mode: u32, what: &str, caller: &str| {
        let member = caller == "root" || caller == "owner in the group";
        let group = if mode & 0o010 != 0 || !member { 0 } else { mode >> 9 & 2 };
        match what {
            "chmod" => {
                if member {
                    2
                } else {
                    0
                }
            }
            "chown" | "chgrp" => group,
            _ if caller == "root" => mode >> 9,
            _ => group,
        }
    };
    for mode in [0o6777, 0o6767, 0o2767, 0o4777] {
        for (what, change) in changes {
            for (caller, become_caller) in callers {
                std::fs::write(&path, "text").unwrap();
                sys!(libc::SYS_chown, name.as_ptr(), ID, GROUP).unwrap();
                sys!(libc::SYS_chmod, name.as_ptr(), mode).unwrap();
                let refused = crate::child::ask(|| {
                    become_caller();
                    let fd = sys::open(&path, libc::O_RDWR, 0).unwrap();
                    change(&name, fd).map_or_else(|error| error.0 as u32, |_| 0)
                });
                let left = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                std::fs::remove_file(&path).unwrap();
                let expected = (0, rule(mode, what, caller));
                assert_eq!((refused, left >> 9), expected, "{mode:o}: {what} by {caller}");
            }
        }
    }
}

fn an_exec_as_a_user_with_too_many_threads_is_refused() {
    const OTHER: u32 = 4322;
    let steps = Steps::new();
    let others = [(); 3].map(|()| {
        spawn(|| {
            super::credentials::become_user(OTHER);
            steps.await_(1);
        })
    });
    while !others.iter().all(|pid| uid_of(*pid) == OTHER) {
        sys!(libc::SYS_sched_yield).unwrap();
    }
    let become_other = |most: u64| {
        limit(libc::RLIMIT_NPROC, most);
        super::credentials::become_user(OTHER);
    };
    let exec = || helper::exec(&["pid", "0"]);
    run(|| {
        become_other(2);
        assert_eq!(exec().0, libc::EAGAIN);
        assert_eq!(exec().0, libc::EAGAIN, "again");
    });
    // The three were no more than the limit when the fourth came, which is not asked again.
    let child = spawn(|| {
        become_other(3);
        panic!("execve: {}", exec());
    });
    assert_eq!(join(child), 1);
    let child = spawn(|| {
        become_other(2);
        steps.reach(1);
        // Until they are reaped: zombies count.
        while others.iter().any(|pid| crate::child::state_of(*pid).is_some()) {
            let _ = sys!(libc::SYS_sched_yield);
        }
        panic!("execve: {}", exec());
    });
    others.into_iter().for_each(|pid| assert_eq!(join(pid), 0));
    assert_eq!(join(child), 1, "they are gone");
}

fn uid_of(pid: i32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}")).map_or(0, |data| data.uid())
}

/// clone with an exit signal of its own.
fn fork_with(signal: i32) -> i32 {
    sys!(libc::SYS_clone, signal, 0, 0, 0, 0).unwrap() as i32
}

fn an_exec_makes_the_exit_signal_sigchld() {
    let exit_signal = |pid: i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        line.split(' ').nth(37).unwrap().to_string()
    };
    let child = fork_with(0);
    if child == 0 {
        panic!("execve: {}", helper::exec(&["pause"]));
    }
    while exit_signal(child) == "0" {
        sys!(libc::SYS_sched_yield).unwrap();
    }
    assert_eq!(exit_signal(child), "17");
    sys::kill(child, libc::SIGKILL).unwrap();
    join(child);
}

fn forced_buffers_and_high_priorities_need_a_capability() {
    let socket = sys!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
    let set = |name: i32, value: i32| {
        let value = [value];
        sys!(libc::SYS_setsockopt, socket, libc::SOL_SOCKET, name, value.as_ptr(), 4)
    };
    set(libc::SO_SNDBUFFORCE, 8192).unwrap();
    set(libc::SO_PRIORITY, 7).unwrap();
    become_user();
    fails(set(libc::SO_SNDBUFFORCE, 8192), EPERM);
    fails(set(libc::SO_RCVBUFFORCE, 8192), EPERM);
    fails(set(libc::SO_PRIORITY, 7), EPERM);
    fails(set(libc::SO_PRIORITY, -1), EPERM);
    set(libc::SO_PRIORITY, 6).unwrap();
    set(libc::SO_SNDBUF, 8192).unwrap();
}

fn credentials_of_no_process_are_refused() {
    let gone = spawn(|| ());
    join(gone);
    let mut ends = [0i32; 2];
    sys!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()).unwrap();
    let send = |pid: i32| {
        // cmsghdr (length 28, SOL_SOCKET, SCM_CREDENTIALS), then struct ucred.
        let control = [28u64, 1 | 2 << 32, pid as u64, 0];
        let data = [c"x".as_ptr() as usize, 1];
        let message = [0, 0, data.as_ptr() as usize, 1, control.as_ptr() as usize, 32, 0];
        sys!(libc::SYS_sendmsg, ends[0], message.as_ptr(), 0)
    };
    assert_eq!(send(sys::getpid()), Ok(1));
    assert_eq!(send(1), Ok(1), "root speaks for others");
    fails(send(gone), libc::ESRCH);
}

fn limit(which: i32, value: u64) {
    let pair = [value, value];
    sys!(libc::SYS_setrlimit, which, pair.as_ptr()).unwrap();
}

fn locked_memory_grows_within_its_limit() {
    limit(libc::RLIMIT_MEMLOCK, 8 * PAGE as u64);
    become_user();
    let at = map_alone(4);
    sys!(libc::SYS_mlock, at, 4 * PAGE).unwrap();
    let at = mremap(at, 4, 8, libc::MREMAP_MAYMOVE, 0).unwrap();
    fails(mremap(at, 8, 9, libc::MREMAP_MAYMOVE, 0), libc::EAGAIN);
}

fn threads_count_against_the_limit_of_processes() {
    limit(libc::RLIMIT_NPROC, 3);
    run(|| {
        super::credentials::become_user(4321);
        let steps = Steps::new();
        let threads = [(); 2].map(|()| std::thread::spawn(move || steps.await_(1)));
        let more = std::thread::Builder::new().spawn(|| ());
        assert_eq!(more.err().and_then(|e| e.raw_os_error()), Some(libc::EAGAIN));
        fails(sys::fork(), libc::EAGAIN);
        steps.reach(1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Sends so many copies of a descriptor.
fn send_descriptors(over: i32, fd: i32, count: usize) -> sys::Result<usize> {
    let mut control = vec![(16 + 4 * count) as u64, (libc::SCM_RIGHTS as u64) << 32 | 1];
    let pair = fd as u64 | (fd as u64) << 32;
    control.extend(std::iter::repeat_n(pair, count.div_ceil(2)));
    let data = [c"x".as_ptr() as usize, 1];
    let at = control.as_ptr() as usize;
    let message = [0, 0, data.as_ptr() as usize, 1, at, 16 + 4 * count, 0];
    sys!(libc::SYS_sendmsg, over, message.as_ptr(), 0)
}

fn descriptors_in_flight_are_limited_for_each_user() {
    let mut ends = [0i32; 2];
    sys!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()).unwrap();
    let [to, from] = ends;
    limit(libc::RLIMIT_NOFILE, 40);
    for _ in 0..4 {
        assert_eq!(send_descriptors(to, 0, 20), Ok(1), "the privileged send more");
    }
    let take = || sys!(libc::SYS_recvfrom, from, [0u8; 8].as_mut_ptr(), 8, 0, 0, 0);
    for _ in 0..4 {
        assert_eq!(take(), Ok(1));
    }
    super::credentials::become_user(4322);
    // Refused once there are more than may be open, in another's queue or one's own; any files.
    for _ in 0..3 {
        assert_eq!(send_descriptors(to, 0, 20), Ok(1));
    }
    fails(send_descriptors(to, 0, 1), libc::ETOOMANYREFS);
    run(|| fails(send_descriptors(to, 0, 1), libc::ETOOMANYREFS));
    assert_eq!(sys::write(to, b"x"), Ok(1), "without files it goes on");
    // A message that was taken, and one that was dropped, make room.
    assert_eq!(take(), Ok(1));
    assert_eq!(send_descriptors(to, 0, 1), Ok(1));
    fails(send_descriptors(to, 0, 1), libc::ETOOMANYREFS);
    sys::close(from);
    sys!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()).unwrap();
    assert_eq!(send_descriptors(ends[0], 0, 20), Ok(1));
}

fn a_descriptor_from_elsewhere_gives_its_file_no_name() {
    let dir = format!("/tmp/names-{}", sys::getpid());
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(ID), Some(ID)).unwrap();
    let open = || sys::open(&dir, libc::O_TMPFILE | libc::O_RDWR, 0o600).unwrap();
    let before = open();
    let mut names = 0;
    let mut link = |fd: i32| {
        names += 1;
        let (empty, name) = (c"".as_ptr(), sys::c(&format!("{dir}/{names}")));
        let flags = libc::AT_EMPTY_PATH;
        sys!(libc::SYS_linkat, fd, empty, libc::AT_FDCWD, name.as_ptr(), flags)
    };
    link(before).unwrap();
    become_user();
    let own = open();
    link(own).unwrap();
    let duplicate = sys!(libc::SYS_dup, own).unwrap() as i32;
    link(duplicate).unwrap();
    std::thread::scope(|scope| scope.spawn(|| link(own).unwrap()).join().unwrap());
    fails(link(before), libc::ENOENT);
    // A fork makes credentials of its own, and so does any change of them.
    run(|| fails(link(own), libc::ENOENT));
    sys!(libc::SYS_setresuid, -1, ID, -1).unwrap();
    link(own).unwrap();
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    sys!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, clear, 0, 0, 0).unwrap();
    fails(link(own), libc::ENOENT);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn priorities_are_limited_for_those_without_privilege() {
    limit(libc::RLIMIT_RTPRIO, 10);
    limit(libc::RLIMIT_NICE, 25);
    limit(libc::RLIMIT_SIGPENDING, 3);
    become_user();
    let fifo = |priority: i32| {
        let priority = [priority];
        sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, priority.as_ptr())
    };
    fails(fifo(11), EPERM);
    fifo(10).unwrap();
    let other = [0i32];
    sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, other.as_ptr()).unwrap();
    let nice = |value: i32| sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value);
    fails(nice(-6), EACCES);
    nice(-5).unwrap();
    nice(19).unwrap();
    nice(-5).unwrap();
    // Timers hold what their signal will need.
    let mut id = 0i32;
    let mut timer = || {
        let at = &raw mut id;
        sys!(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, 0, at)
    };
    for _ in 0..3 {
        timer().unwrap();
    }
    fails(timer(), libc::EAGAIN);
}

fn memory_layout_is_set_with_a_capability_only() {
    become_user();
    fails(sys!(libc::SYS_prctl, 35, 6, 0x10000, 0, 0), EPERM);
}
