//! futex(2): waiting, waking, moving waiters; between threads and between processes.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use libc::{EAGAIN, EFAULT, EINTR, EINVAL, ENOSYS, ETIMEDOUT};

use crate::child::{join, run, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    waiting_for_a_value_that_has_changed_returns_at_once,
    waking_nobody_wakes_nobody,
    a_waiter_is_woken_by_another_process,
    as_many_are_woken_as_asked_for,
    waiters_are_woken_in_their_order,
    private_memory_after_fork_is_another_futex,
    a_futex_in_a_file_is_found_through_any_mapping,
    a_private_futex_works_between_threads,
    a_wait_ends_at_its_time,
    a_bitset_wait_ends_at_an_absolute_time,
    bitsets_choose_who_is_woken,
    requeued_waiters_wait_elsewhere,
    cmp_requeue_compares_first,
    wake_op_changes_the_second_word_and_wakes_by_its_old_value,
    a_signal_interrupts_a_wait,
    bad_arguments_are_refused,
    a_killed_waiter_leaves_the_queue,
    no_wake_is_lost_between_processes_on_all_cpus,
    waitv_waits_for_any_of_several,
];

const PRIVATE_FLAG: i32 = libc::FUTEX_PRIVATE_FLAG;
const ALL: i32 = i32::MAX;

fn wait(at: usize, value: u32) -> sys::Result<usize> {
    sys!(libc::SYS_futex, at, libc::FUTEX_WAIT, value, 0, 0, 0)
}

fn wake(at: usize, count: i32) -> usize {
    sys!(libc::SYS_futex, at, libc::FUTEX_WAKE, count, 0, 0, 0).unwrap()
}

/// A process that waits and ends with 0 when woken.
fn waiter(at: usize, value: u32) -> i32 {
    let pid = spawn(|| {
        wait(at, value).unwrap();
    });
    until_asleep(pid);
    pid
}

fn waiting_for_a_value_that_has_changed_returns_at_once() {
    let at = map(1);
    word(at).store(5, SeqCst);
    fails(wait(at, 4), EAGAIN);
}

fn waking_nobody_wakes_nobody() {
    assert_eq!(wake(map(1), 100), 0);
}

fn a_waiter_is_woken_by_another_process() {
    let at = map_shared(1);
    let child = waiter(at, 0);
    assert_eq!(wake(at, 1), 1);
    assert_eq!(join(child), 0);
}

fn as_many_are_woken_as_asked_for() {
    let at = map_shared(1);
    let children: Vec<i32> = (0..5).map(|_| waiter(at, 0)).collect();
    assert_eq!(wake(at, 2), 2);
    assert_eq!(wake(at, ALL), 3);
    for child in children {
        assert_eq!(join(child), 0);
    }
    assert_eq!(wake(at, ALL), 0);
}

fn waiters_are_woken_in_their_order() {
    let at = map_shared(1);
    let (first, second) = (waiter(at, 0), waiter(at, 0));
    assert_eq!(wake(at, 1), 1);
    assert_eq!(join(first), 0);
    assert_eq!(crate::child::state_of(second), Some('S'));
    assert_eq!(wake(at, 1), 1);
    assert_eq!(join(second), 0);
}

fn private_memory_after_fork_is_another_futex() {
    let at = map(1);
    put(at, 0);
    let child = waiter(at, 0);
    assert_eq!(wake(at, ALL), 0);
    sys::kill(child, libc::SIGKILL).unwrap();
    join(child);
}

fn a_futex_in_a_file_is_found_through_any_mapping() {
    let fd = memfd(2);
    let one = map_file(fd, 2, libc::MAP_SHARED);
    let two = mmap(0, PAGE, RW, libc::MAP_SHARED, fd, PAGE).unwrap();
    let child = waiter(one + PAGE + 8, 0);
    assert_eq!(wake(one + 8, ALL), 0);
    assert_eq!(wake(two + 8, ALL), 1);
    assert_eq!(join(child), 0);
}

fn a_private_futex_works_between_threads() {
    let at = map(1);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let operation = libc::FUTEX_WAIT | PRIVATE_FLAG;
            while word(at).load(SeqCst) == 0 {
                let _ = sys!(libc::SYS_futex, at, operation, 0, 0, 0, 0);
            }
        });
        word(at).store(1, SeqCst);
        sys!(libc::SYS_futex, at, libc::FUTEX_WAKE | PRIVATE_FLAG, 1, 0, 0, 0).unwrap();
        thread.join().unwrap();
    });
}

fn a_wait_ends_at_its_time() {
    let at = map(1);
    let limit = sys::timespec(30_000_000);
    let begin = sys::monotonic();
    let result = sys!(libc::SYS_futex, at, libc::FUTEX_WAIT, 0, &raw const limit, 0, 0);
    fails(result, ETIMEDOUT);
    assert!(sys::monotonic() - begin >= 30_000_000);
}

fn a_bitset_wait_ends_at_an_absolute_time() {
    let at = map(1);
    let until = sys::monotonic() + 30_000_000;
    let limit = sys::timespec(until);
    let operation = libc::FUTEX_WAIT_BITSET;
    let result = sys!(libc::SYS_futex, at, operation, 0, &raw const limit, 0, u32::MAX);
    fails(result, ETIMEDOUT);
    assert!(sys::monotonic() >= until);
    let past = sys::timespec(1);
    fails(sys!(libc::SYS_futex, at, operation, 0, &raw const past, 0, u32::MAX), ETIMEDOUT);
    let until = sys::clock(libc::CLOCK_REALTIME) + 20_000_000;
    let limit = sys::timespec(until);
    let operation = operation | libc::FUTEX_CLOCK_REALTIME;
    fails(sys!(libc::SYS_futex, at, operation, 0, &raw const limit, 0, u32::MAX), ETIMEDOUT);
    assert!(sys::clock(libc::CLOCK_REALTIME) >= until);
}

fn bitsets_choose_who_is_woken() {
    let at = map_shared(1);
    let with = |bits: u32| {
        let pid = spawn(|| {
            sys!(libc::SYS_futex, at, libc::FUTEX_WAIT_BITSET, 0, 0, 0, bits).unwrap();
        });
        until_asleep(pid);
        pid
    };
    let (one, two) = (with(0b01), with(0b10));
    let wake =
        |bits: u32| sys!(libc::SYS_futex, at, libc::FUTEX_WAKE_BITSET, ALL, 0, 0, bits).unwrap();
    assert_eq!(wake(0b100), 0);
    assert_eq!(wake(0b10), 1);
    assert_eq!(join(two), 0);
    assert_eq!(wake(u32::MAX), 1);
    assert_eq!(join(one), 0);
    fails(sys!(libc::SYS_futex, at, libc::FUTEX_WAIT_BITSET, 0, 0, 0, 0), EINVAL);
    fails(sys!(libc::SYS_futex, at, libc::FUTEX_WAKE_BITSET, 1, 0, 0, 0), EINVAL);
}

fn requeued_waiters_wait_elsewhere() {
    let at = map_shared(1);
    let other = at + 64;
    let children: Vec<i32> = (0..4).map(|_| waiter(at, 0)).collect();
    let moved = sys!(libc::SYS_futex, at, libc::FUTEX_REQUEUE, 1, 2usize, other, 0);
    // Woken and moved ones are counted together.
    assert_eq!(moved, Ok(3));
    assert_eq!(wake(at, ALL), 1);
    assert_eq!(wake(other, ALL), 2);
    for child in children {
        assert_eq!(join(child), 0);
    }
}

fn cmp_requeue_compares_first() {
    let at = map_shared(1);
    let other = at + 64;
    let child = waiter(at, 0);
    let requeue =
        |value: u32| sys!(libc::SYS_futex, at, libc::FUTEX_CMP_REQUEUE, 0, 1usize, other, value);
    fails(requeue(7), EAGAIN);
    assert_eq!(requeue(0), Ok(1));
    assert_eq!((wake(at, ALL), wake(other, ALL)), (0, 1));
    assert_eq!(join(child), 0);
}

fn wake_op_changes_the_second_word_and_wakes_by_its_old_value() {
    let at = map_shared(1);
    let other = at + 64;
    let (one, two) = (waiter(at, 0), waiter(other, 0));
    // *other += 5, and wake there if it was 0.
    let (add, equal) = (1i32, 0i32);
    let operation = add << 28 | equal << 24 | 5 << 12;
    let woken = sys!(libc::SYS_futex, at, libc::FUTEX_WAKE_OP, 1, 1usize, other, operation);
    assert_eq!(woken, Ok(2));
    assert_eq!(word(other).load(SeqCst), 5);
    assert_eq!((join(one), join(two)), (0, 0));
    // It is 5 now: nobody there is woken.
    let child = waiter(other, 5);
    let woken = sys!(libc::SYS_futex, at, libc::FUTEX_WAKE_OP, 1, 1usize, other, operation);
    assert_eq!(woken, Ok(0));
    assert_eq!(word(other).load(SeqCst), 10);
    assert_eq!(wake(other, ALL), 1);
    assert_eq!(join(child), 0);
}

fn a_signal_interrupts_a_wait() {
    let at = map(1);
    crate::signal::catch(libc::SIGALRM, 0);
    sys!(libc::SYS_alarm, 1).unwrap();
    let far = sys::timespec(100_000_000_000);
    let result = sys!(libc::SYS_futex, at, libc::FUTEX_WAIT, 0, &raw const far, 0, 0);
    fails(result, EINTR);
}

fn bad_arguments_are_refused() {
    let at = map(1);
    fails(wait(at + 1, 0), EINVAL);
    fails(wait(8, 0), EFAULT);
    fails(wait(at + 16 * PAGE * PAGE, 0), EFAULT);
    fails(sys!(libc::SYS_futex, at, 99, 0, 0, 0, 0), ENOSYS);
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000_000 };
    fails(sys!(libc::SYS_futex, at, libc::FUTEX_WAIT, 0, &raw const wrong, 0, 0), EINVAL);
    fails(sys!(libc::SYS_futex, at, libc::FUTEX_REQUEUE, -1, 1usize, at + 64, 0), EINVAL);
}

fn a_killed_waiter_leaves_the_queue() {
    let at = map_shared(1);
    let child = waiter(at, 0);
    sys::kill(child, libc::SIGKILL).unwrap();
    join(child);
    assert_eq!(wake(at, ALL), 0);
}

fn no_wake_is_lost_between_processes_on_all_cpus() {
    let at = map_shared(1);
    const ROUNDS: u32 = 2000;
    let play = |mine: u32| {
        for round in 0..ROUNDS {
            let turn = round * 2 + mine;
            loop {
                let now = word(at).load(SeqCst);
                if now == turn {
                    break;
                }
                let _ = wait(at, now);
            }
            word(at).store(turn + 1, SeqCst);
            wake(at, 1);
        }
    };
    let cpus = crate::child::affinity(0);
    let child = spawn(|| {
        crate::child::pin(*cpus.last().unwrap());
        play(1);
    });
    run(|| {
        crate::child::pin(cpus[0]);
        play(0);
    });
    assert_eq!(join(child), 0);
    assert_eq!(word(at).load(SeqCst), ROUNDS * 2);
}

fn waitv_waits_for_any_of_several() {
    let at = map_shared(1);
    // Value, address, flags (a 32-bit word, shared), reserved.
    let entry = |n: usize| [0u64, (at + n * 64) as u64, 2];
    let list = [entry(0), entry(1), entry(2)];
    let waitv = |flags: usize| sys!(449, list.as_ptr(), 3, flags, 0, 1);
    fails(waitv(1), EINVAL);
    let child = spawn(|| {
        assert_eq!(waitv(0), Ok(1));
    });
    until_asleep(child);
    assert_eq!(wake(at + 64, ALL), 1);
    assert_eq!(join(child), 0);
    word(at + 128).store(1, SeqCst);
    fails(waitv(0), EAGAIN);
}
