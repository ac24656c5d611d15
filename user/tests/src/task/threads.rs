//! Threads as a library makes them: ids, thread-local storage, names, robust locks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;

use crate::child::{ask, join, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    threads_share_memory_and_the_pid_and_have_ids_of_their_own,
    thread_local_storage_is_each_threads_own_over_switches,
    threads_are_listed_in_proc,
    names_are_each_threads_own,
    mutexes_and_conditions_work_under_contention,
    a_thousand_threads_come_and_go,
    floating_point_state_is_each_threads_own,
    set_tid_address_returns_the_id,
    a_robust_lock_is_marked_when_its_owner_dies,
    a_robust_lock_wakes_one_waiter_when_its_owner_is_killed,
    a_lock_of_another_owner_is_left_alone,
    the_robust_list_is_read_back,
];

fn threads_share_memory_and_the_pid_and_have_ids_of_their_own() {
    let count = AtomicU32::new(0);
    let pid = sys::getpid();
    let mut ids: Vec<i32> = thread::scope(|scope| {
        let body = || {
            count.fetch_add(1, SeqCst);
            assert_eq!(sys::getpid(), pid);
            sys::gettid()
        };
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(body)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(count.load(SeqCst), 32);
    assert!(!ids.contains(&pid));
    ids.sort();
    ids.dedup();
    assert!(ids.len() > 1);
}

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(7) };
}

fn thread_local_storage_is_each_threads_own_over_switches() {
    thread::scope(|scope| {
        for n in 0..16u64 {
            scope.spawn(move || {
                assert_eq!(OWN.get(), 7);
                for round in 0..200 {
                    OWN.set(n * 1000 + round);
                    thread::yield_now();
                    assert_eq!(OWN.get(), n * 1000 + round);
                }
            });
        }
    });
    assert_eq!(OWN.get(), 7);
}

fn threads_are_listed_in_proc() {
    let barrier = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                barrier.wait();
                barrier.wait();
                sys::gettid()
            })
        })
        .collect();
    barrier.wait();
    let listed = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert_eq!(listed, 5);
    assert_eq!(crate::signal::status_field("Threads").as_deref(), Some("5"));
    barrier.wait();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn names_are_each_threads_own() {
    let name = |text: &std::ffi::CStr| {
        sys!(libc::SYS_prctl, libc::PR_SET_NAME, text.as_ptr(), 0, 0, 0).unwrap();
    };
    let read = |tid: i32| std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap();
    name(c"main");
    thread::scope(|scope| {
        scope.spawn(|| {
            name(c"a name that is too long");
            assert_eq!(read(sys::gettid()), "a name that is \n");
            assert_eq!(read(sys::getpid()), "main\n");
        });
    });
}

fn mutexes_and_conditions_work_under_contention() {
    let state = Arc::new((Mutex::new(0u32), Condvar::new()));
    let threads: Vec<_> = (0..8)
        .map(|turn| {
            let state = state.clone();
            thread::spawn(move || {
                for round in 0..50 {
                    let (lock, changed) = &*state;
                    let mut value = lock.lock().unwrap();
                    while *value != round * 8 + turn {
                        value = changed.wait(value).unwrap();
                    }
                    *value += 1;
                    changed.notify_all();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*state.0.lock().unwrap(), 400);
}

fn a_thousand_threads_come_and_go() {
    let count = AtomicU32::new(0);
    for _ in 0..50 {
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| count.fetch_add(1, SeqCst));
            }
        });
    }
    assert_eq!(count.load(SeqCst), 1000);
}

fn floating_point_state_is_each_threads_own() {
    thread::scope(|scope| {
        for n in 1..=16u32 {
            scope.spawn(move || {
                let mut sum = f64::from(n);
                for round in 0..2000u32 {
                    sum = std::hint::black_box(sum.mul_add(1.5, f64::from(round)) / 1.5);
                    if round % 50 == 0 {
                        thread::yield_now();
                    }
                }
                let mut expected = f64::from(n);
                for round in 0..2000u32 {
                    expected = std::hint::black_box(expected.mul_add(1.5, f64::from(round)) / 1.5);
                }
                assert_eq!(sum, expected);
            });
        }
    });
}

fn set_tid_address_returns_the_id() {
    let at = map(1);
    run_alone(|| assert_eq!(sys!(libc::SYS_set_tid_address, at), Ok(sys::gettid() as usize)));
}

/// In a child, whose thread state may be left in disorder.
fn run_alone(body: impl FnOnce()) {
    crate::child::run(body);
}

/// A robust list with one lock in it: head, offset, pending; then the entry.
fn robust(at: usize, offset: i64) -> usize {
    let (head, entry) = (at, at + 64);
    put64(head, entry as u64);
    put64(head + 8, offset as u64);
    put64(head + 16, 0);
    put64(entry, head as u64);
    entry
}

fn a_robust_lock_is_marked_when_its_owner_dies() {
    let at = map_shared(1);
    let entry = robust(at, 16);
    let futex = word(entry + 16);
    let child = spawn(|| {
        sys!(libc::SYS_set_robust_list, at, 24).unwrap();
        futex.store(sys::gettid() as u32 | libc::FUTEX_WAITERS, SeqCst);
        sys!(libc::SYS_exit, 0).unwrap();
    });
    assert_eq!(join(child), 0);
    let value = futex.load(SeqCst);
    assert_eq!(value & libc::FUTEX_OWNER_DIED, libc::FUTEX_OWNER_DIED);
    assert_eq!(value & 0x3fff_ffff, 0);
}

fn a_robust_lock_wakes_one_waiter_when_its_owner_is_killed() {
    let at = map_shared(1);
    let entry = robust(at, 16);
    let futex = word(entry + 16);
    let owner = spawn(|| {
        sys!(libc::SYS_set_robust_list, at, 24).unwrap();
        futex.store(sys::gettid() as u32 | libc::FUTEX_WAITERS, SeqCst);
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    });
    while futex.load(SeqCst) == 0 {
        thread::yield_now();
    }
    let value = futex.load(SeqCst);
    let waiter = spawn(|| {
        sys!(libc::SYS_futex, entry + 16, libc::FUTEX_WAIT, value, 0, 0, 0).unwrap();
        assert_ne!(futex.load(SeqCst) & libc::FUTEX_OWNER_DIED, 0);
    });
    crate::child::until_asleep(waiter);
    sys::kill(owner, libc::SIGKILL).unwrap();
    assert_eq!(join(owner), 128 + libc::SIGKILL);
    assert_eq!(join(waiter), 0);
}

fn a_lock_of_another_owner_is_left_alone() {
    let at = map_shared(1);
    let entry = robust(at, 16);
    word(entry + 16).store(1, SeqCst);
    let child = spawn(|| {
        sys!(libc::SYS_set_robust_list, at, 24).unwrap();
        sys!(libc::SYS_exit, 0).unwrap();
    });
    assert_eq!(join(child), 0);
    assert_eq!(word(entry + 16).load(SeqCst), 1);
}

fn the_robust_list_is_read_back() {
    let at = map(1);
    let answer = ask(|| {
        fails(sys!(libc::SYS_set_robust_list, at, 16), libc::EINVAL);
        sys!(libc::SYS_set_robust_list, at, 24).unwrap();
        let mut found = [0usize; 2];
        let (head, length) = (&raw mut found[0], &raw mut found[1]);
        sys!(libc::SYS_get_robust_list, 0, head, length).unwrap();
        sys!(libc::SYS_set_robust_list, 0, 24).unwrap();
        u32::from(found == [at, 24])
    });
    assert_eq!(answer, 1);
}
