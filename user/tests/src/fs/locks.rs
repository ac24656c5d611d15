//! Locks on files: of processes, of open files, and flock(2).

use libc::*;

use crate::child::{ask, join, run, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::memory::memfd;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    write_locks_keep_others_out,
    read_locks_keep_writers_out,
    the_holder_is_told,
    a_part_is_unlocked,
    a_waiter_gets_the_lock_when_it_is_free,
    a_processes_locks_go_with_any_close_and_with_its_end,
    a_deadlock_is_refused,
    locks_of_open_files_are_shared_by_their_descriptors,
    flock_locks_whole_open_files,
    bad_arguments_are_refused,
];

fn request(kind: i32, start: i64, length: i64) -> flock {
    flock { l_type: kind as i16, l_whence: 0, l_start: start, l_len: length, l_pid: 0 }
}

fn lock(fd: i32, command: i32, kind: i32, start: i64, length: i64) -> sys::Result<usize> {
    let request = request(kind, start, length);
    sys!(SYS_fcntl, fd, command, &raw const request)
}

fn write_locks_keep_others_out() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 0, 100).unwrap();
    lock(fd, F_SETLK, F_WRLCK, 50, 10).unwrap();
    run(|| {
        fails(lock(fd, F_SETLK, F_WRLCK, 99, 1), EAGAIN);
        fails(lock(fd, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
        lock(fd, F_SETLK, F_WRLCK, 100, 10).unwrap();
    });
}

fn read_locks_keep_writers_out() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_RDLCK, 0, 0).unwrap();
    run(|| {
        lock(fd, F_SETLK, F_RDLCK, 5, 5).unwrap();
        fails(lock(fd, F_SETLK, F_WRLCK, 5, 5), EAGAIN);
    });
}

fn the_holder_is_told() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 10, 20).unwrap();
    let parent = sys::getpid();
    run(|| {
        let mut question = request(F_RDLCK, 0, 0);
        sys!(SYS_fcntl, fd, F_GETLK, &raw mut question).unwrap();
        assert_eq!(i32::from(question.l_type), F_WRLCK);
        assert_eq!((question.l_start, question.l_len, question.l_pid), (10, 20, parent));
        let mut question = request(F_WRLCK, 30, 5);
        sys!(SYS_fcntl, fd, F_GETLK, &raw mut question).unwrap();
        assert_eq!(i32::from(question.l_type), F_UNLCK);
    });
}

fn a_part_is_unlocked() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 0, 100).unwrap();
    lock(fd, F_SETLK, F_UNLCK, 40, 20).unwrap();
    run(|| {
        lock(fd, F_SETLK, F_WRLCK, 40, 20).unwrap();
        fails(lock(fd, F_SETLK, F_WRLCK, 39, 1), EAGAIN);
        fails(lock(fd, F_SETLK, F_WRLCK, 60, 1), EAGAIN);
    });
}

fn a_waiter_gets_the_lock_when_it_is_free() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 0, 0).unwrap();
    let child = spawn(|| {
        lock(fd, F_SETLKW, F_WRLCK, 0, 0).unwrap();
    });
    until_asleep(child);
    lock(fd, F_SETLK, F_UNLCK, 0, 0).unwrap();
    assert_eq!(join(child), 0);
}

fn a_processes_locks_go_with_any_close_and_with_its_end() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 0, 0).unwrap();
    let copy = sys!(SYS_dup, fd).unwrap() as i32;
    sys::close(copy);
    run(|| {
        lock(fd, F_SETLK, F_WRLCK, 0, 0).unwrap();
    });
    lock(fd, F_SETLK, F_WRLCK, 0, 0).unwrap();
}

fn a_deadlock_is_refused() {
    let fd = memfd(1);
    lock(fd, F_SETLK, F_WRLCK, 0, 1).unwrap();
    let steps = crate::child::Steps::new();
    let child = spawn(|| {
        lock(fd, F_SETLK, F_WRLCK, 1, 1).unwrap();
        steps.reach(1);
        lock(fd, F_SETLKW, F_WRLCK, 0, 1).unwrap();
    });
    steps.await_(1);
    until_asleep(child);
    fails(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    lock(fd, F_SETLK, F_UNLCK, 0, 1).unwrap();
    assert_eq!(join(child), 0);
}

fn locks_of_open_files_are_shared_by_their_descriptors() {
    let fd = memfd(1);
    lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0).unwrap();
    // The child has the same open file: no conflict. Another open file conflicts.
    run(|| {
        lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10).unwrap();
        let other = sys::open(&format!("/proc/self/fd/{fd}"), O_RDWR, 0).unwrap();
        fails(lock(other, F_OFD_SETLK, F_WRLCK, 0, 10), EAGAIN);
        fails(lock(other, F_SETLK, F_WRLCK, 0, 10), EAGAIN);
    });
}

fn flock_locks_whole_open_files() {
    let fd = memfd(1);
    let other = sys::open(&format!("/proc/self/fd/{fd}"), O_RDWR, 0).unwrap();
    let flock = |fd: i32, operation: i32| sys!(SYS_flock, fd, operation);
    flock(fd, LOCK_EX).unwrap();
    fails(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    flock(fd, LOCK_SH).unwrap();
    flock(other, LOCK_SH | LOCK_NB).unwrap();
    fails(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    flock(fd, LOCK_UN).unwrap();
    flock(other, LOCK_EX | LOCK_NB).unwrap();
    sys::close(other);
    flock(fd, LOCK_EX | LOCK_NB).unwrap();
    fails(flock(fd, 16), EINVAL);
    // It goes with the last descriptor, not with the process.
    let free = ask(|| {
        sys::close(fd);
        1
    });
    assert_eq!(free, 1);
    let third = sys::open(&format!("/proc/self/fd/{fd}"), O_RDWR, 0).unwrap();
    fails(flock(third, LOCK_EX | LOCK_NB), EWOULDBLOCK);
}

fn bad_arguments_are_refused() {
    let fd = memfd(1);
    fails(lock(fd, F_SETLK, 99, 0, 0), EINVAL);
    fails(lock(fd, F_SETLK, F_WRLCK, -5, 0), EINVAL);
    fails(lock(777, F_SETLK, F_WRLCK, 0, 0), EBADF);
    let reader = sys::open("/etc/passwd", O_RDONLY, 0).unwrap();
    fails(lock(reader, F_SETLK, F_WRLCK, 0, 0), EBADF);
    lock(reader, F_SETLK, F_RDLCK, 0, 0).unwrap();
}
