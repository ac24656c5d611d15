//! Clocks, sleeps and timers. Times have a lower bound; an upper one would test the host.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, EAGAIN, EINVAL, SIGALRM, SIGRTMIN, TIMER_ABSTIME};

use crate::harness::{Test, tests};
use crate::signal::{self, CODE, COUNT, TID, VALUE};
use crate::sys::{self, clock, fails, monotonic, sys, timespec};

pub const TESTS: &[Test] = tests![
    the_clock_is_set_to_no_time_that_is_too_far_away,
    clocks_go_forward_only,
    the_monotonic_clock_is_one_on_all_cpus,
    no_clock_goes_back_from_one_cpu_to_another,
    the_clocks_source_is_one_that_there_is,
    the_librarys_clock_is_the_kernels,
    processor_time_is_counted_for_thread_and_process,
    resolutions_are_told,
    a_sleep_lasts_at_least_its_time,
    an_absolute_sleep_ends_at_its_time,
    alarm_rings_once_and_tells_what_was_left,
    an_alarm_is_not_inherited,
    interval_timers_ring_again_and_again,
    a_timer_signals_with_its_value,
    a_timer_counts_what_it_could_not_deliver,
    a_timer_signals_the_thread_it_was_told,
    a_timer_tells_what_is_left,
    a_timer_of_no_clock_or_signal_is_refused,
    timers_of_processor_time_run_while_computing,
    timers_of_a_processes_time_signal_the_thread_that_runs,
    a_timer_signals_beside_the_same_signal_from_others,
    a_timer_set_again_while_its_signal_waits_signals_once,
    a_timerfd_counts_its_expirations,
    a_timerfd_may_refuse_to_wait,
    a_timerfd_is_polled,
    the_date_is_that_of_the_clock,
];

const MS: u64 = 1_000_000;
/// Long enough for the slowest host.
const PATIENCE: u64 = 30_000 * MS;

fn clocks_go_forward_only() {
    for id in [CLOCK_MONOTONIC, CLOCK_REALTIME, libc::CLOCK_BOOTTIME, libc::CLOCK_MONOTONIC_RAW] {
        let mut last = clock(id);
        for _ in 0..2000 {
            let now = clock(id);
            assert!(now >= last, "clock {id}: {now} after {last}");
            last = now;
        }
    }
}

fn the_monotonic_clock_is_one_on_all_cpus() {
    let mut last = 0;
    for _ in 0..20 {
        for cpu in crate::child::affinity(0) {
            crate::child::pin(cpu);
            let now = monotonic();
            assert!(now >= last, "CPU {cpu}: {now} after {last}");
            last = now;
        }
    }
}

/// A thread on each CPU tells the others what time it is, by the vDSO and by system calls in turn: none
/// reads less than it had been told before it looked.
fn no_clock_goes_back_from_one_cpu_to_another() {
    use std::sync::atomic::AtomicU64;
    /// The vDSO's word where there is one.
    fn by_library(id: i32) -> u64 {
        let mut time = timespec(0);
        // SAFETY: fills a timespec.
        assert_eq!(unsafe { libc::clock_gettime(id, &mut time) }, 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
    let ids = [CLOCK_MONOTONIC, CLOCK_REALTIME, libc::CLOCK_BOOTTIME, libc::CLOCK_MONOTONIC_RAW];
    let end = monotonic() + 300 * MS;
    for id in ids {
        let told = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for cpu in crate::child::affinity(0) {
                let told = &told;
                scope.spawn(move || {
                    crate::child::pin(cpu);
                    // All ids share the time; each has its look, however late it is.
                    for round in 0.. {
                        let before = told.load(SeqCst);
                        let now = if round % 2 == 0 { by_library(id) } else { clock(id) };
                        assert!(now >= before, "clock {id}, CPU {cpu}: {now} after {before}");
                        told.fetch_max(now, SeqCst);
                        if round > 200 && monotonic() > end {
                            break;
                        }
                    }
                });
            }
        });
    }
}

fn the_clocks_source_is_one_that_there_is() {
    let read = |name: &str| {
        let dir = "/sys/devices/system/clocksource/clocksource0";
        std::fs::read_to_string(format!("{dir}/{name}_clocksource")).unwrap()
    };
    let (current, available) = (read("current"), read("available"));
    assert!(available.split_whitespace().any(|name| name == current.trim()), "{available}");
}

fn the_librarys_clock_is_the_kernels() {
    for _ in 0..100 {
        let before = monotonic();
        let mut time = timespec(0);
        // SAFETY: fills a timespec (through the vDSO where there is one).
        assert_eq!(unsafe { libc::clock_gettime(CLOCK_MONOTONIC, &mut time) }, 0);
        let between = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        let after = monotonic();
        assert!(before <= between && between <= after, "{before} {between} {after}");
    }
}

fn processor_time_is_counted_for_thread_and_process() {
    for id in [libc::CLOCK_THREAD_CPUTIME_ID, libc::CLOCK_PROCESS_CPUTIME_ID] {
        let begin = clock(id);
        while clock(id) - begin < 20 * MS {}
    }
    let before = clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let pause = timespec(100 * MS);
    sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    let slept = clock(libc::CLOCK_THREAD_CPUTIME_ID) - before;
    assert!(slept < 80 * MS, "a sleep of 100 ms cost {slept} ns");
}

fn resolutions_are_told() {
    let mut time = timespec(0);
    sys!(libc::SYS_clock_getres, CLOCK_MONOTONIC, &raw mut time).unwrap();
    assert_eq!((time.tv_sec, time.tv_nsec), (0, 1));
    fails(sys!(libc::SYS_clock_getres, 77, &raw mut time), EINVAL);
    fails(sys!(libc::SYS_clock_gettime, 77, &raw mut time), EINVAL);
}

fn a_sleep_lasts_at_least_its_time() {
    for millis in [1, 5, 30] {
        let wanted = timespec(millis * MS);
        let begin = monotonic();
        sys!(libc::SYS_nanosleep, &raw const wanted, 0).unwrap();
        assert!(monotonic() - begin >= millis * MS);
    }
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    fails(sys!(libc::SYS_nanosleep, &raw const wrong, 0), EINVAL);
    let wrong = libc::timespec { tv_sec: -1, tv_nsec: 0 };
    fails(sys!(libc::SYS_nanosleep, &raw const wrong, 0), EINVAL);
}

fn an_absolute_sleep_ends_at_its_time() {
    for id in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let until = clock(id) + 20 * MS;
        let time = timespec(until);
        sys!(libc::SYS_clock_nanosleep, id, TIMER_ABSTIME, &raw const time, 0).unwrap();
        assert!(clock(id) >= until);
        let past = timespec(1);
        sys!(libc::SYS_clock_nanosleep, id, TIMER_ABSTIME, &raw const past, 0).unwrap();
    }
}

fn alarm_rings_once_and_tells_what_was_left() {
    signal::catch(SIGALRM, 0);
    assert_eq!(sys!(libc::SYS_alarm, 100), Ok(0));
    let left = sys!(libc::SYS_alarm, 1).unwrap();
    assert!((90..=100).contains(&left), "{left}");
    let begin = monotonic();
    fails(sys!(libc::SYS_pause), libc::EINTR);
    assert!(monotonic() - begin >= 900 * MS);
    assert_eq!(COUNT.load(SeqCst), 1);
    assert_eq!(sys!(libc::SYS_alarm, 0), Ok(0));
}

fn an_alarm_is_not_inherited() {
    sys!(libc::SYS_alarm, 100).unwrap();
    crate::child::run(|| assert_eq!(sys!(libc::SYS_alarm, 0), Ok(0)));
    assert_ne!(sys!(libc::SYS_alarm, 0), Ok(0));
}

fn interval_timers_ring_again_and_again() {
    for (which, signal) in [
        (libc::ITIMER_REAL, SIGALRM),
        (libc::ITIMER_VIRTUAL, libc::SIGVTALRM),
        (libc::ITIMER_PROF, libc::SIGPROF),
    ] {
        signal::catch(signal, 0);
        let value = [0i64, 5000, 0, 5000];
        sys!(libc::SYS_setitimer, which, value.as_ptr(), 0).unwrap();
        while COUNT.load(SeqCst) < 5 {}
        let mut old = [0i64; 4];
        let off = [0i64; 4];
        sys!(libc::SYS_setitimer, which, off.as_ptr(), old.as_mut_ptr()).unwrap();
        assert_eq!((old[0], old[1]), (0, 5000));
        sys!(libc::SYS_getitimer, which, old.as_mut_ptr()).unwrap();
        assert_eq!(old, [0; 4]);
    }
}

/// A POSIX timer that sends a signal: its id.
fn timer(id: i32, signal: i32, notify: i32, tid: i32) -> sys::Result<i32> {
    let event = [0x4242u64, (notify as u64) << 32 | signal as u64, tid as u64, 0, 0, 0, 0, 0];
    let mut timer = -1i32;
    sys!(libc::SYS_timer_create, id, event.as_ptr(), &raw mut timer).map(|_| timer)
}

fn set(timer: i32, flags: i32, first: u64, then: u64) {
    let value = [timespec(then), timespec(first)];
    sys!(libc::SYS_timer_settime, timer, flags, value.as_ptr(), 0).unwrap();
}

fn a_timer_signals_with_its_value() {
    signal::catch(SIGRTMIN(), 0);
    let timer = timer(CLOCK_MONOTONIC, SIGRTMIN(), libc::SIGEV_SIGNAL, 0).unwrap();
    let begin = monotonic();
    set(timer, 0, 20 * MS, 0);
    signal::until_noted(1);
    assert!(monotonic() - begin >= 20 * MS);
    assert_eq!((CODE.load(SeqCst), VALUE.load(SeqCst)), (libc::SI_TIMER, 0x4242));
    sys!(libc::SYS_timer_delete, timer).unwrap();
    fails(sys!(libc::SYS_timer_delete, timer), EINVAL);
}

fn a_timer_counts_what_it_could_not_deliver() {
    let signal = SIGRTMIN();
    signal::block(&[signal]);
    let timer = timer(CLOCK_MONOTONIC, signal, libc::SIGEV_SIGNAL, 0).unwrap();
    set(timer, 0, MS, MS);
    let pause = timespec(50 * MS);
    sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    signal::take(&[signal], PATIENCE).unwrap();
    let overrun = sys!(libc::SYS_timer_getoverrun, timer).unwrap();
    assert!(overrun >= 40, "{overrun}");
}

fn a_timer_signals_the_thread_it_was_told() {
    signal::catch(SIGRTMIN(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tid = sys::gettid();
            let timer = timer(CLOCK_MONOTONIC, SIGRTMIN(), libc::SIGEV_THREAD_ID, tid).unwrap();
            set(timer, 0, 5 * MS, 0);
            signal::until_noted(1);
            assert_eq!(TID.load(SeqCst), tid);
        });
    });
}

fn a_timer_tells_what_is_left() {
    let timer = timer(CLOCK_MONOTONIC, SIGRTMIN(), libc::SIGEV_SIGNAL, 0).unwrap();
    set(timer, 0, 100_000 * MS, 7 * MS);
    let mut now = [timespec(0); 2];
    sys!(libc::SYS_timer_gettime, timer, now.as_mut_ptr()).unwrap();
    assert_eq!(now[0].tv_nsec, 7 * MS as i64);
    assert!((90..=100).contains(&now[1].tv_sec));
    set(timer, 0, 0, 0);
    sys!(libc::SYS_timer_gettime, timer, now.as_mut_ptr()).unwrap();
    assert_eq!((now[1].tv_sec, now[1].tv_nsec), (0, 0));
}

fn a_timer_of_no_clock_or_signal_is_refused() {
    fails(timer(77, SIGRTMIN(), libc::SIGEV_SIGNAL, 0), EINVAL);
    fails(timer(CLOCK_MONOTONIC, 100, libc::SIGEV_SIGNAL, 0), EINVAL);
    fails(timer(CLOCK_MONOTONIC, SIGRTMIN(), 55, 0), EINVAL);
}

fn timers_of_processor_time_run_while_computing() {
    signal::catch(SIGRTMIN(), 0);
    let id = libc::CLOCK_PROCESS_CPUTIME_ID;
    let timer = timer(id, SIGRTMIN(), libc::SIGEV_SIGNAL, 0).unwrap();
    let begin = clock(id);
    set(timer, 0, 20 * MS, 0);
    while COUNT.load(SeqCst) == 0 {}
    assert!(clock(id) - begin >= 20 * MS);
}

extern "C" fn count_by_thread(_: i32) {
    COUNT.fetch_add(1, SeqCst);
    if sys::gettid() == sys::getpid() {
        VALUE.fetch_add(1, SeqCst);
    }
}

/// Which of a hundred signals reach the first thread, which sleeps while another computes.
/// `set_timer` begins and ends it: with true before, with false after.
fn reach_the_sleeper(signal: i32, set_timer: impl Fn(bool) + Sync) -> usize {
    COUNT.store(0, SeqCst);
    VALUE.store(0, SeqCst);
    // Blocked in its handler, the next signal would rightly be the other thread's.
    let flags = libc::SA_RESTART | libc::SA_NODEFER;
    sys::on_signal_with(signal, count_by_thread as *const () as usize, flags);
    let (reader, writer) = sys::pipe().unwrap();
    let goes_to_sleep = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !goes_to_sleep.load(SeqCst) {
                std::hint::spin_loop();
            }
            crate::child::until_asleep(sys::getpid());
            set_timer(true);
            while COUNT.load(SeqCst) < 100 {}
            set_timer(false);
            sys::write(writer, b"x").unwrap();
        });
        goes_to_sleep.store(true, SeqCst);
        assert_eq!(sys::read(reader, &mut [0]), Ok(1));
    });
    VALUE.load(SeqCst)
}

fn timers_of_a_processes_time_signal_the_thread_that_runs() {
    for (which, signal) in
        [(libc::ITIMER_PROF, libc::SIGPROF), (libc::ITIMER_VIRTUAL, libc::SIGVTALRM)]
    {
        let to_sleeper = reach_the_sleeper(signal, |on| {
            let micros = if on { 2000 } else { 0 };
            let value = [0i64, micros, 0, micros];
            sys!(libc::SYS_setitimer, which, value.as_ptr(), 0).unwrap();
        });
        // Not none: a tick may find the running thread with the signal pending already.
        assert!(to_sleeper < 10, "{to_sleeper} signals {signal} of 100 to who sleeps");
    }
    let id = libc::CLOCK_PROCESS_CPUTIME_ID;
    let timer = timer(id, SIGRTMIN(), libc::SIGEV_SIGNAL, 0).unwrap();
    let to_sleeper = reach_the_sleeper(SIGRTMIN(), |on| {
        let nanos = if on { 2 * MS } else { 0 };
        set(timer, 0, nanos, nanos);
    });
    assert!(to_sleeper < 10, "{to_sleeper} signals of 100 to who sleeps");
}

fn a_timer_signals_beside_the_same_signal_from_others() {
    let signal = libc::SIGUSR1;
    signal::block(&[signal]);
    sys::kill(sys::getpid(), signal).unwrap();
    let timer = timer(CLOCK_MONOTONIC, signal, libc::SIGEV_SIGNAL, 0).unwrap();
    set(timer, 0, MS, MS);
    let pause = timespec(20 * MS);
    sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    let codes = [(); 3].map(|()| signal::take(&[signal], PATIENCE).unwrap().si_code);
    assert_eq!(codes, [libc::SI_USER, libc::SI_TIMER, libc::SI_TIMER]);
    // Two timers of one signal do not stand in each other's way, either.
    let other = self::timer(CLOCK_MONOTONIC, signal, libc::SIGEV_SIGNAL, 0).unwrap();
    set(other, 0, MS, 0);
    let mut seen = [false; 2];
    while seen != [true; 2] {
        let info = signal::take(&[signal], PATIENCE).unwrap();
        // SAFETY: a timer's siginfo has its id where kill(2) has the sender's.
        let id = unsafe { info.si_pid() };
        seen[usize::from(id == other)] = true;
    }
}

fn a_timer_set_again_while_its_signal_waits_signals_once() {
    let signal = libc::SIGUSR1;
    signal::block(&[signal]);
    let timer = timer(CLOCK_MONOTONIC, signal, libc::SIGEV_SIGNAL, 0).unwrap();
    let pause = timespec(20 * MS);
    for _ in 0..2 {
        set(timer, 0, MS, 0);
        sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    }
    let info = signal::take(&[signal], PATIENCE).unwrap();
    assert_eq!(info.si_code, libc::SI_TIMER);
    assert_eq!(sys!(libc::SYS_timer_getoverrun, timer), Ok(0));
    fails(signal::take(&[signal], 20 * MS), EAGAIN);
    // It can be used on.
    set(timer, 0, MS, 0);
    signal::take(&[signal], PATIENCE).unwrap();
}

/// A timer descriptor.
fn timerfd(flags: i32) -> i32 {
    sys!(libc::SYS_timerfd_create, CLOCK_MONOTONIC, flags).unwrap() as i32
}

fn arm(fd: i32, flags: i32, first: u64, then: u64) {
    let value = [timespec(then), timespec(first)];
    sys!(libc::SYS_timerfd_settime, fd, flags, value.as_ptr(), 0).unwrap();
}

fn expirations(fd: i32) -> sys::Result<u64> {
    let mut count = [0u8; 8];
    sys::read(fd, &mut count).map(|_| u64::from_ne_bytes(count))
}

fn a_timerfd_counts_its_expirations() {
    let fd = timerfd(0);
    let begin = monotonic();
    arm(fd, 0, 10 * MS, 0);
    assert_eq!(expirations(fd), Ok(1));
    assert!(monotonic() - begin >= 10 * MS);
    arm(fd, 0, MS, MS);
    let pause = timespec(30 * MS);
    sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    assert!(expirations(fd).unwrap() >= 25);
    fails(sys::read(fd, &mut [0; 4]), EINVAL);
}

fn a_timerfd_may_refuse_to_wait() {
    let fd = timerfd(libc::TFD_NONBLOCK);
    fails(expirations(fd), EAGAIN);
    arm(fd, TIMER_ABSTIME, 1, 0);
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    assert_eq!(sys!(libc::SYS_poll, &raw mut entry, 1, -1), Ok(1));
    assert_eq!(expirations(fd), Ok(1));
    fails(expirations(fd), EAGAIN);
}

fn a_timerfd_is_polled() {
    let fd = timerfd(0);
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    assert_eq!(sys!(libc::SYS_poll, &raw mut entry, 1, 0), Ok(0));
    arm(fd, 0, 5 * MS, 0);
    assert_eq!(sys!(libc::SYS_poll, &raw mut entry, 1, -1), Ok(1));
    assert_eq!(expirations(fd), Ok(1));
}

fn the_date_is_that_of_the_clock() {
    let mut time = [0i64; 2];
    sys!(libc::SYS_gettimeofday, time.as_mut_ptr(), 0).unwrap();
    let now = clock(CLOCK_REALTIME) / 1_000_000_000;
    assert!(now - time[0] as u64 <= 1);
    let seconds = sys!(libc::SYS_time, 0).unwrap() as u64;
    assert!(clock(CLOCK_REALTIME) / 1_000_000_000 - seconds <= 1);
    // Later than the day on which this was written.
    assert!(seconds > 1_700_000_000);
}

fn the_clock_is_set_to_no_time_that_is_too_far_away() {
    // Thirty years of 365 days before nanoseconds overflow.
    const END: i64 = i64::MAX / 1_000_000_000 - 30 * 365 * 86_400;
    let set = |sec: i64| {
        let time = [sec, 0];
        let (spec, val) = (time.as_ptr(), time.as_ptr());
        [
            sys!(libc::SYS_clock_settime, libc::CLOCK_REALTIME, spec),
            sys!(libc::SYS_settimeofday, val, 0),
        ]
    };
    for sec in [END, i64::MAX, -1] {
        assert!(set(sec).into_iter().all(|end| end == Err(sys::Errno(libc::EINVAL))), "{sec}");
    }
    // A zone of more than 15 hours.
    for minutes in [901, -901, i32::MIN, i32::MAX] {
        let zone = [minutes, 0];
        fails(sys!(libc::SYS_settimeofday, 0, zone.as_ptr()), libc::EINVAL);
    }
    let end = crate::child::end_of(|| {
        super::credentials::become_user(1000);
        assert!(set(END).into_iter().all(|end| end == Err(sys::Errno(libc::EINVAL))));
        assert!(set(END - 1).into_iter().all(|end| end == Err(sys::Errno(libc::EPERM))));
    });
    assert_eq!(end, 0);
}
