//! mlock(2) and its family, mincore(2), msync(2).

use libc::{EAGAIN, EBUSY, EFAULT, EINVAL, ENOMEM, EPERM};

use crate::child::run;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::signal::status_field;
use crate::sys::{fails, sys};
use crate::task::{credentials, limits};

pub const TESTS: &[Test] = tests![
    locked_pages_are_resident_and_counted,
    a_part_is_unlocked_alone,
    unmapping_unlocks,
    a_range_is_widened_to_whole_pages,
    onfault_counts_and_waits_for_the_touch,
    a_hole_is_enomem,
    map_locked_is_mlock_at_once,
    mlockall_future_locks_what_comes,
    mlockall_current_brings_everything_in,
    mlockall_refuses_wrong_flags,
    locks_are_not_inherited_by_fork,
    the_limit_holds_for_those_without_privilege,
    a_limit_of_zero_is_eperm,
    mincore_refuses_what_it_must,
    mincore_of_a_file_tells_what_is_in_memory,
    msync_refuses_what_it_must,
];

/// Pages that /proc/self/status shows as locked.
fn locked() -> usize {
    let text = status_field("VmLck").expect("VmLck");
    let kib: usize = text.trim_end_matches("kB").trim().parse().unwrap();
    kib / 4
}

fn mlock(at: usize, pages: usize) -> crate::sys::Result<usize> {
    sys!(libc::SYS_mlock, at, pages * PAGE)
}

fn locked_pages_are_resident_and_counted() {
    let at = map(16);
    mlock(at, 16).unwrap();
    assert_eq!(resident(at, 16).unwrap(), [true; 16]);
    assert_eq!(locked(), 16);
    verify_zero(at, 16);
    sys!(libc::SYS_munlock, at, 16 * PAGE).unwrap();
    assert_eq!(locked(), 0);
}

fn a_part_is_unlocked_alone() {
    let at = map(8);
    mlock(at, 8).unwrap();
    sys!(libc::SYS_munlock, at + 2 * PAGE, 3 * PAGE).unwrap();
    assert_eq!(locked(), 5);
    mlock(at, 8).unwrap();
    assert_eq!(locked(), 8);
}

fn unmapping_unlocks() {
    let at = map(8);
    mlock(at, 8).unwrap();
    munmap(at, 3).unwrap();
    assert_eq!(locked(), 5);
}

fn a_range_is_widened_to_whole_pages() {
    let at = map(4);
    sys!(libc::SYS_mlock, at + PAGE - 1, 2).unwrap();
    assert_eq!(locked(), 2);
}

fn onfault_counts_and_waits_for_the_touch() {
    let at = map(8);
    sys!(libc::SYS_mlock2, at, 8 * PAGE, libc::MLOCK_ONFAULT).unwrap();
    assert_eq!(locked(), 8);
    assert_eq!(resident(at, 8).unwrap(), [false; 8]);
    fails(sys!(libc::SYS_mlock2, at, PAGE, 8), EINVAL);
}

fn a_hole_is_enomem() {
    let at = map_alone(4);
    munmap(at + 2 * PAGE, 1).unwrap();
    fails(mlock(at, 4), ENOMEM);
    fails(sys!(libc::SYS_munlock, at, 4 * PAGE), ENOMEM);
}

fn map_locked_is_mlock_at_once() {
    let at = mmap(0, 4 * PAGE, RW, PRIVATE | libc::MAP_LOCKED, -1, 0).unwrap();
    assert_eq!(resident(at, 4).unwrap(), [true; 4]);
    assert_eq!(locked(), 4);
}

fn mlockall_future_locks_what_comes() {
    sys!(libc::SYS_mlockall, libc::MCL_FUTURE).unwrap();
    let at = map(8);
    assert_eq!(resident(at, 8).unwrap(), [true; 8]);
    assert_eq!(locked(), 8);
    sys!(libc::SYS_munlockall).unwrap();
    assert_eq!(locked(), 0);
    let later = map(8);
    assert_eq!(resident(later, 8).unwrap(), [false; 8]);
}

fn mlockall_current_brings_everything_in() {
    let at = map(32);
    sys!(libc::SYS_mlockall, libc::MCL_CURRENT).unwrap();
    assert_eq!(resident(at, 32).unwrap(), [true; 32]);
    assert!(locked() >= 32);
    let later = map(8);
    assert_eq!(resident(later, 8).unwrap(), [false; 8]);
    sys!(libc::SYS_munlockall).unwrap();
    assert_eq!(locked(), 0);
}

fn mlockall_refuses_wrong_flags() {
    fails(sys!(libc::SYS_mlockall, 0), EINVAL);
    fails(sys!(libc::SYS_mlockall, 8), EINVAL);
    fails(sys!(libc::SYS_mlockall, libc::MCL_ONFAULT), EINVAL);
}

fn locks_are_not_inherited_by_fork() {
    let at = map(4);
    mlock(at, 4).unwrap();
    run(|| assert_eq!(locked(), 0));
    assert_eq!(locked(), 4);
}

fn the_limit_holds_for_those_without_privilege() {
    let at = map(32);
    limits::set(libc::RLIMIT_MEMLOCK, 8 * PAGE as u64, 8 * PAGE as u64);
    mlock(at, 16).unwrap();
    sys!(libc::SYS_munlock, at, 16 * PAGE).unwrap();
    credentials::become_nobody();
    fails(mlock(at, 16), ENOMEM);
    mlock(at, 8).unwrap();
    assert_eq!(locked(), 8);
    fails(mmap(0, PAGE, RW, PRIVATE | libc::MAP_LOCKED, -1, 0), EAGAIN);
}

fn a_limit_of_zero_is_eperm() {
    let at = map(1);
    limits::set(libc::RLIMIT_MEMLOCK, 0, 0);
    credentials::become_nobody();
    fails(mlock(at, 1), EPERM);
    fails(mmap(0, PAGE, RW, PRIVATE | libc::MAP_LOCKED, -1, 0), EPERM);
}

fn mincore_refuses_what_it_must() {
    let at = map_alone(4);
    let mut vector = [0u8; 4];
    let to = vector.as_mut_ptr();
    fails(sys!(libc::SYS_mincore, at + 1, PAGE, to), EINVAL);
    fails(sys!(libc::SYS_mincore, at, PAGE, 8), EFAULT);
    munmap(at + PAGE, 1).unwrap();
    fails(sys!(libc::SYS_mincore, at, 3 * PAGE, to), ENOMEM);
}

fn mincore_of_a_file_tells_what_is_in_memory() {
    let fd = memfd(4);
    assert_eq!(sys!(libc::SYS_pwrite64, fd, b"x".as_ptr(), 1, 2 * PAGE), Ok(1));
    let at = map_file(fd, 4, libc::MAP_SHARED);
    assert_eq!(resident(at, 4).unwrap(), [false, false, true, false]);
}

fn msync_refuses_what_it_must() {
    let fd = memfd(4);
    let at = map_file(fd, 4, libc::MAP_SHARED);
    let msync = |at, pages: usize, flags| sys!(libc::SYS_msync, at, pages * PAGE, flags);
    assert_eq!(msync(at, 4, libc::MS_SYNC), Ok(0));
    assert_eq!(msync(at, 4, libc::MS_ASYNC), Ok(0));
    fails(msync(at, 4, libc::MS_SYNC | libc::MS_ASYNC), EINVAL);
    fails(msync(at, 4, 0x100), EINVAL);
    fails(msync(at + 1, 1, libc::MS_SYNC), EINVAL);
    mlock(at, 1).unwrap();
    fails(msync(at, 4, libc::MS_INVALIDATE), EBUSY);
    munmap(at + PAGE, 1).unwrap();
    fails(msync(at, 4, libc::MS_SYNC), ENOMEM);
}
