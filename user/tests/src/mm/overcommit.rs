//! Overcommit: what counts as promised (Committed_AS), and when no more is.
//!
//! vm.overcommit_memory is the whole guest's: each test puts back what it found.

use libc::{EINVAL, ENOMEM, ENOSPC, SIGBUS};

use crate::child;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, open, read, sys, write};

pub const TESTS: &[Test] = tests![
    what_is_promised_is_counted,
    a_child_is_promised_what_its_parent_has,
    the_guess_refuses_what_is_larger_than_the_machine,
    areas_that_became_one_beyond_the_machine_end_fork,
    always_refuses_nothing,
    strict_accounting_refuses_what_is_beyond_the_limit,
    strict_accounting_takes_no_account_of_noreserve,
    reserves_are_kept_from_users,
    the_limit_is_a_ratio_or_a_size,
];

const READ: i32 = libc::PROT_READ;
const NORESERVE: i32 = libc::MAP_NORESERVE;
const MAYMOVE: i32 = libc::MREMAP_MAYMOVE;
/// 48 MiB: more than what Linux's counters of the CPUs may be off by, less than [`ROOM`], and twice
/// it is more.
const LARGE: usize = 48 << 20 >> 12;
/// Pages that the tests leave in strict accounting.
const ROOM: usize = 64 << 20 >> 12;

/// Pages of a line of /proc/meminfo, read without allocating anything.
fn meminfo(name: &str) -> usize {
    let mut text = [0u8; 4096];
    let fd = open("/proc/meminfo", libc::O_RDONLY, 0).unwrap();
    let length = read(fd, &mut text).unwrap();
    sys::close(fd);
    let text = std::str::from_utf8(&text[..length]).unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() / 4
}

fn committed() -> usize {
    meminfo("Committed_AS")
}

/// By how many pages `work` changes Committed_AS.
fn change(work: impl FnOnce()) -> i64 {
    let before = committed();
    work();
    committed() as i64 - before as i64
}

fn get(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/vm/{name}")).unwrap().trim().into()
}

fn put(name: &str, value: &str) -> sys::Result<usize> {
    let fd = open(&format!("/proc/sys/vm/{name}"), libc::O_WRONLY, 0).unwrap();
    let outcome = write(fd, value.as_bytes());
    sys::close(fd);
    outcome
}

/// The settings as they were, put back when it goes.
struct Kept(Vec<(&'static str, String)>);

impl Kept {
    fn all() -> Self {
        let names = ["overcommit_memory", "overcommit_ratio", "user_reserve_kbytes"];
        let more = ["admin_reserve_kbytes"];
        Self(names.into_iter().chain(more).map(|name| (name, get(name))).collect())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for (name, value) in &self.0 {
            put(name, value).unwrap();
        }
    }
}

fn mode(mode: &str) -> Kept {
    let kept = Kept::all();
    put("overcommit_memory", mode).unwrap();
    kept
}

/// Strict accounting with room for so many pages more, and no reserve but root's.
fn strict(room: usize) -> Kept {
    let kept = mode("2");
    put("user_reserve_kbytes", "0").unwrap();
    let limit = (committed() + room) * 4;
    put("overcommit_kbytes", &limit.to_string()).unwrap();
    assert_eq!(meminfo("CommitLimit"), limit / 4);
    kept
}

fn area(pages: usize, prot: i32, flags: i32) -> sys::Result<usize> {
    mmap(0, pages * PAGE, prot, flags, -1, 0)
}

fn what_is_promised_is_counted() {
    let map_of = |pages, prot, flags| change(|| _ = area(pages, prot, flags).unwrap());
    assert_eq!(map_of(100, RW, PRIVATE), 100);
    assert_eq!(map_of(100, libc::PROT_WRITE, PRIVATE), 100);
    assert_eq!(map_of(100, READ, PRIVATE), 0);
    assert_eq!(map_of(100, RW, PRIVATE | NORESERVE), 0);
    assert_eq!(map_of(100, READ, SHARED), 100, "by its size, whatever its rights");
    assert_eq!(map_of(100, RW, PRIVATE | libc::MAP_GROWSDOWN), 100);
    // Shared memory without a promise counts page by page.
    let mut at = 0;
    assert_eq!(change(|| at = area(100, RW, SHARED | NORESERVE).unwrap()), 0);
    assert_eq!(change(|| touch(at, 7)), 7);
    assert_eq!(change(|| _ = madvise(at, 3, libc::MADV_REMOVE).unwrap()), -3);
    assert_eq!(change(|| _ = munmap(at, 100).unwrap()), -4);
    // So do files in memory; a private mapping that can be written is promised as a whole.
    let mut fd = 0;
    assert_eq!(change(|| fd = memfd(40)), 0);
    assert_eq!(change(|| _ = write(fd, &[1; 3 * PAGE]).unwrap()), 3);
    assert_eq!(change(|| at = mmap(0, 40 * PAGE, RW, libc::MAP_PRIVATE, fd, 0).unwrap()), 40);
    assert_eq!(change(|| touch(at, 5)), 2, "not the copies: the holes that they come from");
    assert_eq!(change(|| _ = munmap(at, 40).unwrap()), -40);
    assert_eq!(change(|| at = mmap(0, 40 * PAGE, RW, libc::MAP_SHARED, fd, 0).unwrap()), 0);
    assert_eq!(change(|| touch(at, 5)), 0);
    assert_eq!(change(|| _ = sys!(libc::SYS_ftruncate, fd, PAGE).unwrap()), -4);
    munmap(at, 40).unwrap();
    assert_eq!(change(|| sys::close(fd)), -1);
    // Rights: promised when it becomes writable, until it is empty and is not any more.
    let at = area(64, READ, PRIVATE).unwrap();
    assert_eq!(change(|| _ = mprotect(at, 16, RW).unwrap()), 16);
    assert_eq!(change(|| _ = mprotect(at, 16, READ).unwrap()), -16);
    mprotect(at, 16, RW).unwrap();
    touch(at, 1);
    assert_eq!(change(|| _ = mprotect(at, 16, READ).unwrap()), 0);
    assert_eq!(change(|| _ = mprotect(at, 16, RW).unwrap()), 0, "once is enough");
    assert_eq!(change(|| _ = munmap(at, 64).unwrap()), -16);
    // Growing, moving, shrinking.
    let mut at = map_alone(32);
    assert_eq!(change(|| at = mremap(at, 32, 50, MAYMOVE, 0).unwrap()), 18);
    assert_eq!(change(|| at = mremap(at, 50, 20, MAYMOVE, 0).unwrap()), -30);
    assert_eq!(change(|| _ = mremap(at, 20, 20, MAYMOVE | libc::MREMAP_DONTUNMAP, 0).unwrap()), 20);
    // What is replaced makes room.
    let place = area(64, RW, PRIVATE).unwrap();
    let over = PRIVATE | libc::MAP_FIXED;
    assert_eq!(change(|| _ = mmap(place, 16 * PAGE, READ, over, -1, 0).unwrap()), -16);
    assert_eq!(change(|| _ = mmap(place, 64 * PAGE, RW, over, -1, 0).unwrap()), 16);
    // The heap.
    let heap = sys!(libc::SYS_brk, 0).unwrap().next_multiple_of(PAGE);
    sys!(libc::SYS_brk, heap).unwrap();
    assert_eq!(change(|| _ = sys!(libc::SYS_brk, heap + 9 * PAGE).unwrap()), 9);
    assert_eq!(change(|| _ = sys!(libc::SYS_brk, heap).unwrap()), -9);
    // Segments, by their size until they are gone.
    let segment = |flags| sys!(libc::SYS_shmget, libc::IPC_PRIVATE, 30 * PAGE, 0o600 | flags);
    let mut id = 0;
    assert_eq!(change(|| id = segment(0).unwrap()), 30);
    assert_eq!(change(|| _ = sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0).unwrap()), -30);
    assert_eq!(change(|| id = segment(0o10000).unwrap()), 0, "SHM_NORESERVE");
    sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0).unwrap();
}

fn a_child_is_promised_what_its_parent_has() {
    let at = map_alone(1000);
    let left_out = map_alone(500);
    madvise(left_out, 500, libc::MADV_DONTFORK).unwrap();
    // All that this process itself is promised.
    let before = committed();
    let pause = || _ = sys!(libc::SYS_pause);
    let first = child::spawn(pause);
    let one = committed() - before;
    munmap(at, 1000).unwrap();
    let before = committed();
    let second = child::spawn(pause);
    assert_eq!(one - (committed() - before), 1000);
    for pid in [first, second] {
        sys::kill(pid, libc::SIGKILL).unwrap();
        sys::wait_for(pid).unwrap();
    }
    assert!(one < 1500 + 400, "{one} pages, and nothing of what children do not get");
}

/// Where `pages` may be mapped that have no neighbours.
fn apart(pages: usize) -> usize {
    area(pages + 2, libc::PROT_NONE, PRIVATE | NORESERVE).unwrap() + PAGE
}

fn the_guess_refuses_what_is_larger_than_the_machine() {
    let _kept = mode("0");
    let most = meminfo("MemTotal");
    // With a page behind it that is this test's own.
    let fits = apart(most + 1);
    mmap(fits, most * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    // As often as one likes.
    area(most, RW, PRIVATE).unwrap();
    fails(area(most + 1, RW, PRIVATE), ENOMEM);
    fails(area(most + 1, RW, SHARED), ENOMEM);
    fails(area(most + 1, RW, PRIVATE | libc::MAP_GROWSDOWN), ENOMEM);
    area(most + 1, RW, PRIVATE | NORESERVE).unwrap();
    area(most + 1, RW, SHARED | NORESERVE).unwrap();
    let fd = memfd(most + 1);
    fails(mmap(0, (most + 1) * PAGE, RW, libc::MAP_PRIVATE, fd, 0), ENOMEM);
    mmap(0, (most + 1) * PAGE, RW, libc::MAP_SHARED, fd, 0).unwrap();
    // In place of what is promised only the difference is asked for.
    mmap(fits, (most + 1) * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    let read = area(most + 1, READ, PRIVATE).unwrap();
    fails(mprotect(read, most + 1, RW), ENOMEM);
    mprotect(read, most, RW).unwrap();
    mprotect(read + most * PAGE, 1, RW).unwrap();
    let grows = map_alone(1);
    fails(mremap(grows, 1, most + 2, MAYMOVE, 0), ENOMEM);
    mremap(grows, 1, most + 1, MAYMOVE, 0).unwrap();
    let heap = sys!(libc::SYS_brk, 0).unwrap();
    assert_eq!(sys!(libc::SYS_brk, heap + (most + 2) * PAGE), Ok(heap));
    let segment = |flags| {
        let id = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, (most + 1) * PAGE, 0o600 | flags)?;
        sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0)
    };
    fails(segment(0), ENOMEM);
    segment(0o10000).unwrap();
}

fn areas_that_became_one_beyond_the_machine_end_fork() {
    let _kept = mode("0");
    let most = meminfo("MemTotal");
    let at = apart(most + 1);
    mmap(at, (most + 1) * PAGE, READ, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    mprotect(at, most, RW).unwrap();
    assert!(child::end_of(|| ()) == 0);
    mprotect(at + most * PAGE, 1, RW).unwrap();
    fails(sys::fork(), ENOMEM);
    munmap(at, 1).unwrap();
    assert!(child::end_of(|| ()) == 0);
}

fn always_refuses_nothing() {
    let _kept = mode("1");
    let most = meminfo("MemTotal");
    let before = committed();
    let at = area(4 * most, RW, PRIVATE).unwrap();
    assert_eq!(committed() - before, 4 * most, "it is counted all the same");
    area(4 * most, RW, PRIVATE | NORESERVE).unwrap();
    area(4 * most, RW, SHARED).unwrap();
    assert!(child::end_of(|| ()) == 0);
    munmap(at, 4 * most).unwrap();
}

fn strict_accounting_refuses_what_is_beyond_the_limit() {
    let _kept = strict(ROOM);
    let at = map_alone(LARGE);
    fails(area(LARGE, RW, PRIVATE), ENOMEM);
    fails(area(LARGE, RW, SHARED), ENOMEM);
    fails(mremap(at, LARGE, 2 * LARGE, MAYMOVE, 0), ENOMEM);
    let read = area(LARGE, READ, PRIVATE).unwrap();
    fails(mprotect(read, LARGE, RW), ENOMEM);
    let heap = sys!(libc::SYS_brk, 0).unwrap();
    assert_eq!(sys!(libc::SYS_brk, heap + LARGE * PAGE), Ok(heap));
    fails(sys::fork(), ENOMEM);
    let segment = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, LARGE * PAGE, 0o600);
    fails(segment, ENOMEM);
    // A file in memory has no room left, as on a full file system; in a mapping that is SIGBUS.
    let fd = memfd(LARGE);
    fails(sys!(libc::SYS_fallocate, fd, 0, 0, LARGE * PAGE), ENOSPC);
    // What is replaced, moved or given back makes room.
    mmap(at, LARGE * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    let at = mremap(at, LARGE, LARGE, MAYMOVE | libc::MREMAP_FIXED, read).unwrap();
    munmap(at, LARGE).unwrap();
    let at = map_alone(LARGE);
    munmap(at, LARGE).unwrap();
    // A mapped file that fills up what is left.
    let fills = child::spawn(|| {
        let file = mmap(0, 2 * LARGE * PAGE, RW, libc::MAP_SHARED, memfd(2 * LARGE), 0).unwrap();
        touch(file, 2 * LARGE);
    });
    let status = sys::wait_for(fills).unwrap();
    assert_eq!(libc::WTERMSIG(status), SIGBUS);
}

fn strict_accounting_takes_no_account_of_noreserve() {
    let _kept = strict(ROOM);
    let before = committed();
    let at = area(LARGE, RW, PRIVATE | NORESERVE).unwrap();
    assert_eq!(committed() - before, LARGE);
    fails(area(LARGE, RW, PRIVATE | NORESERVE), ENOMEM);
    fails(area(LARGE, RW, SHARED | NORESERVE), ENOMEM);
    let segment = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, LARGE * PAGE, 0o10600);
    fails(segment, ENOMEM);
    // What was mapped so in another mode keeps its freedom.
    munmap(at, LARGE).unwrap();
    put("overcommit_memory", "0").unwrap();
    let before = committed();
    area(4 * LARGE, RW, PRIVATE | NORESERVE).unwrap();
    put("overcommit_memory", "2").unwrap();
    assert_eq!(committed(), before);
    area(LARGE, RW, PRIVATE).unwrap();
}

fn reserves_are_kept_from_users() {
    let _kept = strict(ROOM);
    // Root's, from who lacks CAP_SYS_ADMIN.
    let maps = |pages: usize| i32::from(area(pages, RW, PRIVATE).is_err());
    let as_user = |pages: usize| {
        child::end_of(|| {
            sys!(libc::SYS_setresuid, 1000, 1000, 1000).unwrap();
            sys::exit_group(maps(pages));
        })
    };
    put("admin_reserve_kbytes", "0").unwrap();
    assert_eq!(as_user(LARGE), 0);
    put("admin_reserve_kbytes", "32768").unwrap();
    assert_eq!(as_user(LARGE), 1);
    assert_eq!(as_user(LARGE / 4), 0);
    assert_eq!(child::end_of(|| sys::exit_group(maps(LARGE))), 0);
    // A 32nd of what a process has mapped, at most what is set.
    area(1 << 18, libc::PROT_NONE, PRIVATE).unwrap();
    put("user_reserve_kbytes", "131072").unwrap();
    assert_eq!(maps(LARGE), 1);
    put("user_reserve_kbytes", "1024").unwrap();
    assert_eq!(maps(LARGE), 0);
}

fn the_limit_is_a_ratio_or_a_size() {
    let _kept = Kept::all();
    let total = meminfo("MemTotal");
    put("overcommit_ratio", "70").unwrap();
    assert_eq!(meminfo("CommitLimit"), total * 70 / 100);
    put("overcommit_kbytes", "4000000").unwrap();
    assert_eq!(get("overcommit_ratio"), "0");
    assert_eq!(meminfo("CommitLimit"), 1_000_000);
    put("overcommit_ratio", "50").unwrap();
    assert_eq!(get("overcommit_kbytes"), "0");
    assert_eq!(meminfo("CommitLimit"), total / 2);
    for wrong in ["3", "-1", "x"] {
        fails(put("overcommit_memory", wrong), EINVAL);
    }
    fails(put("overcommit_kbytes", "-1"), EINVAL);
}
