//! Priority-inheriting futexes: the kernel keeps the owner's id in the word.

use std::sync::atomic::Ordering::SeqCst;

use libc::{EDEADLK, EINVAL, EPERM, ESRCH, ETIMEDOUT, FUTEX_WAITERS};

use crate::child::{Steps, join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_free_lock_is_taken_and_given_back,
    locking_twice_is_a_deadlock,
    only_the_owner_unlocks,
    an_owner_that_does_not_exist_is_esrch,
    trylock_does_not_wait,
    a_wait_for_the_lock_ends_at_its_time,
    a_waiter_is_handed_the_lock,
    many_processes_take_turns,
    the_owners_death_passes_the_lock_on,
    a_lock_within_a_word_is_refused,
];

fn lock(at: usize) -> sys::Result<usize> {
    sys!(libc::SYS_futex, at, libc::FUTEX_LOCK_PI, 0, 0, 0, 0)
}

fn unlock(at: usize) -> sys::Result<usize> {
    sys!(libc::SYS_futex, at, libc::FUTEX_UNLOCK_PI, 0, 0, 0, 0)
}

fn value(at: usize) -> u32 {
    word(at).load(SeqCst)
}

fn a_free_lock_is_taken_and_given_back() {
    let at = map_shared(1);
    assert_eq!(lock(at), Ok(0));
    assert_eq!(value(at), sys::gettid() as u32);
    assert_eq!(unlock(at), Ok(0));
    assert_eq!(value(at), 0);
}

fn locking_twice_is_a_deadlock() {
    let at = map_shared(1);
    lock(at).unwrap();
    fails(lock(at), EDEADLK);
}

fn only_the_owner_unlocks() {
    let at = map_shared(1);
    lock(at).unwrap();
    crate::child::run(|| fails(unlock(at), EPERM));
    assert_eq!(value(at), sys::gettid() as u32);
}

fn an_owner_that_does_not_exist_is_esrch() {
    let at = map_shared(1);
    word(at).store(0x3fff_fff0, SeqCst);
    fails(lock(at), ESRCH);
}

fn trylock_does_not_wait() {
    let at = map_shared(1);
    let try_lock = || sys!(libc::SYS_futex, at, libc::FUTEX_TRYLOCK_PI, 0, 0, 0, 0);
    assert_eq!(try_lock(), Ok(0));
    crate::child::run(|| fails(try_lock(), libc::EWOULDBLOCK));
    unlock(at).unwrap();
}

fn a_wait_for_the_lock_ends_at_its_time() {
    let at = map_shared(1);
    lock(at).unwrap();
    crate::child::run(|| {
        let limit = sys::timespec(sys::clock(libc::CLOCK_REALTIME) + 20_000_000);
        let nr = libc::SYS_futex;
        fails(sys!(nr, at, libc::FUTEX_LOCK_PI, 0, &raw const limit, 0, 0), ETIMEDOUT);
    });
    unlock(at).unwrap();
}

fn a_waiter_is_handed_the_lock() {
    let at = map_shared(1);
    lock(at).unwrap();
    let child = spawn(|| {
        lock(at).unwrap();
        assert_eq!(value(at) & 0x3fff_ffff, sys::gettid() as u32);
        unlock(at).unwrap();
    });
    until_asleep(child);
    assert_eq!(value(at), sys::gettid() as u32 | FUTEX_WAITERS);
    unlock(at).unwrap();
    assert_eq!(join(child), 0);
    assert_eq!(value(at) & 0x3fff_ffff, 0);
}

fn many_processes_take_turns() {
    let at = map_shared(1);
    let counter = at + 64;
    let children: Vec<i32> = (0..4)
        .map(|_| {
            spawn(|| {
                for _ in 0..200 {
                    let own = sys::gettid() as u32;
                    if word(at).compare_exchange(0, own, SeqCst, SeqCst).is_err() {
                        lock(at).unwrap();
                    }
                    let seen = get64(counter);
                    std::thread::yield_now();
                    put64(counter, seen + 1);
                    if word(at).compare_exchange(own, 0, SeqCst, SeqCst).is_err() {
                        unlock(at).unwrap();
                    }
                }
            })
        })
        .collect();
    for child in children {
        assert_eq!(join(child), 0);
    }
    assert_eq!(get64(counter), 800);
}

fn the_owners_death_passes_the_lock_on() {
    let at = map_shared(1);
    // A robust list with the lock in it, marked as one of this kind.
    let (head, entry) = (at + 128, at + 256);
    put64(head, entry as u64 | 1);
    put64(head + 8, (at as i64 - entry as i64) as u64);
    put64(head + 16, 0);
    put64(entry, head as u64);
    let steps = Steps::new();
    let owner = spawn(|| {
        sys!(libc::SYS_set_robust_list, head, 24).unwrap();
        lock(at).unwrap();
        steps.reach(1);
        steps.await_(2);
        let _ = sys!(libc::SYS_exit, 0);
    });
    steps.await_(1);
    let waiter = spawn(|| {
        lock(at).unwrap();
        let now = value(at);
        assert_eq!(now & 0x3fff_ffff, sys::gettid() as u32);
        assert_ne!(now & libc::FUTEX_OWNER_DIED, 0);
        unlock(at).unwrap();
    });
    until_asleep(waiter);
    steps.reach(2);
    assert_eq!((join(owner), join(waiter)), (0, 0));
}

fn a_lock_within_a_word_is_refused() {
    let at = map_shared(1);
    fails(lock(at + 2), EINVAL);
}
