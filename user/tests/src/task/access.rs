//! Who may do what to another process: a table of callers, targets and calls, each answered by the
//! rules of ptrace(2), sched_setscheduler(2), prlimit(2) and kill(2).

use libc::{EACCES, EPERM};

use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::map_shared;
use crate::perf::Attr;
use crate::sys::{self, Errno, sys};

pub const TESTS: &[Test] =
    tests![a_table_of_who_may_do_what_to_whom, a_program_that_may_not_be_read_is_not_looked_into,];

const KILL: u64 = 1 << 5;
const DAC: u64 = 1 << 1 | 1 << 2;
const PTRACE: u64 = 1 << 19;
pub(super) const ADMIN: u64 = 1 << 21;
pub(super) const NICE: u64 = 1 << 23;
const RESOURCE: u64 = 1 << 24;
const PERFMON: u64 = 1 << 38;
const ALL: u64 = (1 << 41) - 1;

/// Ids and capabilities of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    /// Real, effective and saved.
    pub(super) uid: [u32; 3],
    pub(super) gid: [u32; 3],
    pub(super) permitted: u64,
    pub(super) effective: u64,
    pub(super) dumpable: bool,
}

pub(super) const fn user(id: u32) -> Who {
    Who { uid: [id; 3], gid: [id; 3], permitted: 0, effective: 0, dumpable: true }
}

const fn with(id: u32, permitted: u64, effective: u64) -> Who {
    Who { permitted, effective, ..user(id) }
}

pub(super) const A: u32 = 1001;
pub(super) const B: u32 = 1002;

const CALLERS: [(&str, Who); 12] = [
    ("root", with(0, ALL, ALL)),
    ("root without effective PTRACE", with(0, ALL, ALL & !PTRACE)),
    ("root without PTRACE", with(0, ALL & !PTRACE, ALL & !PTRACE)),
    ("root without capabilities", with(0, 0, 0)),
    ("a user", user(A)),
    ("another user", user(B)),
    ("a user of another group", Who { gid: [B; 3], ..user(A) }),
    ("a user who runs as another", Who { uid: [A, B, B], ..user(A) }),
    ("another who runs as the user", Who { uid: [B, A, A], ..user(A) }),
    ("a user with NICE", with(A, NICE, NICE)),
    ("a user with NICE permitted only", with(A, NICE, 0)),
    ("a user with PTRACE", with(A, PTRACE, PTRACE)),
];

const TARGETS: [(&str, Who); 8] = [
    ("a user", user(A)),
    ("a user, not dumpable", Who { dumpable: false, ..user(A) }),
    ("a user with NICE", with(A, NICE, 0)),
    ("another user", user(B)),
    ("a user of another group", Who { gid: [A, B, A], ..user(A) }),
    ("a user with another saved id", Who { uid: [A, A, B], ..user(A) }),
    ("root", with(0, ALL, ALL)),
    ("root without capabilities, not dumpable", Who { dumpable: false, ..with(0, 0, 0) }),
];

/// Turns the running process, root, into `who`.
pub(super) fn become_who(who: &Who) {
    sys!(libc::SYS_setgroups, 0, 0).unwrap();
    sys!(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).unwrap();
    sys!(libc::SYS_setresgid, who.gid[0], who.gid[1], who.gid[2]).unwrap();
    sys!(libc::SYS_setresuid, who.uid[0], who.uid[1], who.uid[2]).unwrap();
    let header = [0x2008_0522u32, 0];
    let (e, p) = (who.effective, who.permitted);
    let data = [e as u32, p as u32, 0, (e >> 32) as u32, (p >> 32) as u32, 0];
    sys!(libc::SYS_capset, header.as_ptr(), data.as_ptr()).unwrap();
    sys!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, u32::from(who.dumpable), 0, 0, 0).unwrap();
}

/// ptrace(2)'s rule; `real` ids or those for file access.
pub(super) fn may_access(own: &Who, other: &Who, real: bool) -> bool {
    let (uid, gid, caps) = if real {
        (own.uid[0], own.gid[0], own.permitted)
    } else {
        (own.uid[1], own.gid[1], own.effective)
    };
    own.effective & PTRACE != 0
        || other.uid == [uid; 3]
            && other.gid == [gid; 3]
            && other.dumpable
            && other.permitted & !caps == 0
}

/// The owner of what only the owner may open in /proc/PID.
pub(super) fn may_open(own: &Who, other: &Who) -> bool {
    let owner = if other.dumpable { other.uid[1] } else { 0 };
    own.uid[1] == owner || own.effective & DAC == DAC
}

/// A call, its expected answer, and what came.
pub(super) type Row = (&'static str, Result<(), i32>, sys::Result<usize>);

pub(super) fn or(may: bool, errno: i32) -> Result<(), i32> {
    if may { Ok(()) } else { Err(errno) }
}

fn calls(own: &Who, other: &Who, pid: i32, at: usize) -> Vec<Row> {
    let real = or(may_access(own, other, true), EPERM);
    let mut byte = [0u8; 8];
    let word = byte.as_mut_ptr() as usize;
    let (local, remote) = ([word, 1], [at, 1]);
    let vector = |nr| sys!(nr, pid, local.as_ptr(), 1, remote.as_ptr(), 1, 0);
    let pidfd = sys!(libc::SYS_pidfd_open, pid, 0).unwrap();
    let node = [1u64];
    let mut list = [0usize; 2];
    let (head, len) = (list.as_mut_ptr() as usize, list.as_mut_ptr() as usize + 8);
    let mut rows: Vec<Row> = vec![
        ("move_pages", real, sys!(libc::SYS_move_pages, pid, 0, 0, 0, 0, 0)),
        (
            "migrate_pages",
            real,
            sys!(libc::SYS_migrate_pages, pid, 2, node.as_ptr(), node.as_ptr()),
        ),
        ("process_vm_readv", real, vector(libc::SYS_process_vm_readv)),
        ("process_vm_writev", real, vector(libc::SYS_process_vm_writev)),
        ("get_robust_list", real, sys!(libc::SYS_get_robust_list, pid, head, len)),
    ];
    let taken = sys!(libc::SYS_pidfd_getfd, pidfd, 0, 0);
    if let Ok(fd) = taken {
        sys::close(fd as i32);
    }
    rows.push(("pidfd_getfd", real, taken));
    sys::close(pidfd as i32);
    let monitors = own.effective & (PERFMON | ADMIN) != 0 || may_access(own, other, true);
    let event = Attr::software(1).try_open(pid, -1, -1, 0);
    if let Ok(fd) = event {
        sys::close(fd as i32);
    }
    rows.push(("perf_event_open", or(monitors, EACCES), event));

    let mine =
        [other.uid[0], other.uid[1]].contains(&own.uid[1]) && other.permitted & !own.permitted == 0;
    let nice = own.effective & NICE != 0;
    let mask = [u64::MAX; 16];
    let zero = [0u32];
    rows.extend([
        (
            "sched_setaffinity",
            or(mine || nice, EPERM),
            sys!(libc::SYS_sched_setaffinity, pid, 128, mask.as_ptr()).map(|_| 0),
        ),
        (
            "sched_setscheduler",
            or(mine || nice, EPERM),
            sys!(libc::SYS_sched_setscheduler, pid, 0, zero.as_ptr()),
        ),
        (
            "setpriority",
            or(mine || nice, EPERM),
            sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, pid, 0),
        ),
    ]);
    let same = other.uid == [own.uid[0]; 3] && other.gid == [own.gid[0]; 3];
    rows.push((
        "prlimit",
        or(same || own.effective & RESOURCE != 0, EPERM),
        sys!(libc::SYS_prlimit64, pid, libc::RLIMIT_NOFILE, 0, list.as_mut_ptr()),
    ));
    let signals =
        [own.uid[0], own.uid[1]].iter().any(|id| [other.uid[0], other.uid[2]].contains(id));
    rows.push(("kill", or(signals || own.effective & KILL != 0, EPERM), sys::kill(pid, 0)));

    let looks = may_access(own, other, false);
    let open = |name: &str, flags: i32| {
        let fd = sys::open(&format!("/proc/{pid}/{name}"), flags, 0)?;
        sys::close(fd);
        Ok(0)
    };
    for name in ["maps", "smaps", "numa_maps"] {
        rows.push((name, or(looks, EACCES), open(name, libc::O_RDONLY)));
    }
    for (name, flags) in [
        ("mem", libc::O_RDONLY),
        ("mem", libc::O_RDWR),
        ("environ", libc::O_RDONLY),
        ("auxv", libc::O_RDONLY),
        ("pagemap", libc::O_RDONLY),
    ] {
        rows.push((name, or(looks && may_open(own, other), EACCES), open(name, flags)));
    }
    for name in ["exe", "cwd", "root", "ns/uts", "ns/mnt"] {
        let path = sys::c(&format!("/proc/{pid}/{name}"));
        let mut text = [0u8; 256];
        let link = sys!(libc::SYS_readlink, path.as_ptr(), text.as_mut_ptr(), text.len());
        rows.push((name, or(looks, EACCES), link));
    }
    rows
}

/// Has every caller make `calls` on every target, of which descriptor 0 is /dev/null; how many were
/// answered as expected.
pub(super) fn table(calls: impl Fn(&Who, &Who, i32) -> Vec<Row>) -> u32 {
    let checks = map_shared(1);
    let steps = Steps::new();
    let mut ready = 0;
    for (target, other) in &TARGETS {
        let done = Steps::new();
        ready += 1;
        let pid = spawn(|| {
            let null = sys::open("/dev/null", libc::O_RDWR, 0).unwrap();
            sys!(libc::SYS_dup2, null, 0).unwrap();
            become_who(other);
            steps.reach(ready);
            done.await_(1);
        });
        steps.await_(ready);
        crate::child::until_asleep(pid);
        // It counts as asleep a moment before it has given its CPU away: from then on wchan tells.
        while std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap() == "0" {
            std::thread::yield_now();
        }
        for (caller, own) in &CALLERS {
            run(|| {
                become_who(own);
                let rows = calls(own, other, pid);
                let count = crate::memory::word(checks);
                count.fetch_add(rows.len() as u32, std::sync::atomic::Ordering::SeqCst);
                let wrong: Vec<String> = rows
                    .into_iter()
                    .filter(|(_, expected, came)| {
                        came.map(|_| ()).map_err(|Errno(e)| e) != *expected
                    })
                    .map(|(call, expected, came)| format!("{call}: {came:?}, not {expected:?}"))
                    .collect();
                assert!(wrong.is_empty(), "{caller} on {target}: {}", wrong.join("; "));
            });
        }
        done.reach(1);
        assert_eq!(join(pid), 0);
    }
    crate::memory::word(checks).load(std::sync::atomic::Ordering::SeqCst)
}

fn a_table_of_who_may_do_what_to_whom() {
    // Where the distribution lets nobody without privileges measure, others' rules are not seen.
    std::fs::write("/proc/sys/kernel/perf_event_paranoid", "1").unwrap();
    let at = map_shared(1);
    let checks = table(|own, other, pid| calls(own, other, pid, at));
    assert!(checks > 1_000, "{checks} checks");
}

fn a_program_that_may_not_be_read_is_not_looked_into() {
    let path = format!("/tmp/unreadable-{}", sys::getpid());
    for (mode, may) in [(0o755u32, true), (0o711, false)] {
        std::fs::copy("/proc/self/exe", &path).unwrap();
        let name = sys::c(&path);
        sys!(libc::SYS_chmod, name.as_ptr(), mode).unwrap();
        let child = spawn(|| {
            become_who(&user(A));
            panic!("execve: {}", crate::helper::exec_file(&name, &["pause"]));
        });
        // The new program sleeps in pause(2); the old one did not sleep at all.
        crate::child::until_asleep(child);
        run(|| {
            become_who(&user(A));
            let maps = sys::open(&format!("/proc/{child}/maps"), libc::O_RDONLY, 0);
            let moved = sys!(libc::SYS_move_pages, child, 0, 0, 0, 0, 0);
            assert_eq!((maps.is_ok(), moved.is_ok()), (may, may), "mode {mode:o}");
        });
        sys::kill(child, libc::SIGKILL).unwrap();
        join(child);
        std::fs::remove_file(&path).unwrap();
    }
}
