//! Samples: as many as there should be, where they should be.

use super::*;
use crate::harness::tests;
use crate::memory::*;

pub const TESTS: &[Test] = tests![
    each_period_of_faults_is_a_sample,
    a_sample_knows_address_thread_and_registers,
    hot_functions_get_their_share,
    a_callchain_leads_from_the_kernel_to_the_caller,
    a_frequency_is_kept,
    the_user_stack_is_in_the_sample,
    a_limit_of_overflows_disables_and_signals,
];

const SAMPLE: u32 = 9;

/// The samples that are there.
pub fn samples(ring: &Ring) -> Vec<Record> {
    ring.take().into_iter().filter(|r| r.kind == SAMPLE).collect()
}

fn each_period_of_faults_is_a_sample() {
    unthrottle();
    let event = Attr::software(FAULTS).flags(DISABLED).sample(10, S_IP | S_ADDR).open();
    let ring = Ring::new(&event, 8);
    let at = map(400);
    event.ioctl(ENABLE, 0).unwrap();
    touch(at, 400);
    event.ioctl(DISABLE, 0).unwrap();
    let (count, samples) = (event.count(), samples(&ring));
    assert!((400..500).contains(&count));
    assert_eq!(samples.len() as u64, count / 10);
    let inside = samples.iter().filter(|s| (at..at + 400 * 4096).contains(&(s.words[1] as usize)));
    assert!(inside.count() >= 39);
}

fn a_sample_knows_address_thread_and_registers() {
    let mut attr = Attr::software(FAULTS)
        .flags(DISABLED | EXCLUDE_KERNEL)
        .sample(1, S_IP | S_TID | S_TIME | S_ADDR | S_CPU | S_REGS_USER);
    // SP and IP.
    attr.0[10] = 1 << 7 | 1 << 8;
    let event = attr.open();
    let ring = Ring::new(&event, 8);
    let at = map(1);
    let cpu = crate::child::affinity(0)[0];
    crate::child::pin(cpu);
    let before = sys::monotonic();
    event.ioctl(ENABLE, 0).unwrap();
    put(at + 123, 1);
    event.ioctl(DISABLE, 0).unwrap();
    let after = sys::monotonic();
    let records = samples(&ring);
    let ours = records.iter().find(|s| s.words[3] as usize == at + 123).expect("our fault");
    let w = &ours.words;
    assert_eq!(ours.misc & 7, 2, "taken in user mode");
    assert_eq!(w[1], sys::getpid() as u64 | (sys::gettid() as u64) << 32);
    assert_eq!(w[4], cpu as u64);
    // Its clock is near the monotonic one, if not the same.
    assert!(
        w[2] > before.saturating_sub(3_000_000_000) && w[2] < after + 3_000_000_000,
        "{}",
        w[2]
    );
    let local = 0;
    let stack = &raw const local as u64;
    assert_eq!(w[5], 2, "64-bit registers");
    assert!(stack.abs_diff(w[6]) < 1 << 16, "the stack pointer");
    assert_eq!(w[7], w[0], "the instruction pointer, twice");
}

#[inline(never)]
fn six(n: u64) -> u64 {
    work(6 * n)
}
#[inline(never)]
fn three(n: u64) -> u64 {
    work(3 * n).wrapping_add(1)
}
#[inline(never)]
fn one(n: u64) -> u64 {
    work(n).wrapping_add(2)
}

/// Inlined into each, so that the instruction pointer tells them apart.
#[inline(always)]
fn work(n: u64) -> u64 {
    let mut x = n;
    for i in 0..n * 1000 {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i));
    }
    x
}

fn hot_functions_get_their_share() {
    let attr = Attr::software(CPU_CLOCK).flags(EXCLUDE_KERNEL).sample(250_000, S_IP);
    hot_functions(attr, 1_500_000_000, 50);
}

/// The three functions for so long, in so many threads.
pub fn keep_busy(millis: u64, threads: usize) {
    let end = sys::monotonic() + millis * 1_000_000;
    let body = move || {
        while sys::monotonic() < end {
            for f in [six, three, one] {
                std::hint::black_box(f(50));
            }
        }
    };
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(body)).collect();
    body();
    others.into_iter().for_each(|thread| thread.join().expect("it only computes"));
}

/// Samples of three functions, by an event that samples the instruction pointer alone, are as many
/// as their work.
pub fn hot_functions(attr: Attr, nanos: u64, turn: u64) {
    let event = attr.flags(DISABLED).open();
    let ring = Ring::new(&event, 64);
    let starts = [six as *const () as u64, three as *const () as u64, one as *const () as u64];
    let mut hits = [0u64; 3];
    // On a busy host samples are fewer and fall at random: 2500 of them hold a share of 60 % within
    // 3 points at three standard deviations.
    let many = 2500 * size_of::<[u64; 2]>() as u64;
    let begin = sys::monotonic();
    let goes_on = |ring: &Ring| {
        let gone = sys::monotonic() - begin;
        gone < nanos || gone < 10 * nanos && ring.head() < many
    };
    event.ioctl(ENABLE, 0).unwrap();
    while goes_on(&ring) {
        for f in [six, three, one] {
            std::hint::black_box(f(turn));
        }
    }
    event.ioctl(DISABLE, 0).unwrap();
    for sample in samples(&ring) {
        let ip = sample.words[0];
        let of = starts.iter().enumerate().filter(|(_, s)| ip >= **s && ip < **s + 400);
        if let Some((which, _)) = of.max_by_key(|(_, s)| **s) {
            hits[which] += 1;
        }
    }
    let all = hits.iter().sum::<u64>() as f64;
    assert!(all > 500.0, "{hits:?}");
    // By their work, not by the clock: a host that is busy elsewhere stops the clock of nobody.
    for (hit, truth) in hits.iter().zip([60.0, 30.0, 10.0]) {
        let share = *hit as f64 / all * 100.0;
        assert!((share - truth).abs() < 3.0, "{share:.1} % sampled of {truth} %: {hits:?}");
    }
}

#[inline(never)]
fn outer(at: usize) -> u8 {
    inner(at).wrapping_add(1)
}
#[inline(never)]
fn inner(at: usize) -> u8 {
    put(at, 7);
    std::hint::black_box(get(at))
}

fn a_callchain_leads_from_the_kernel_to_the_caller() {
    const USER_MARK: u64 = -512i64 as u64;
    const KERNEL_MARK: u64 = -128i64 as u64;
    let attr = Attr::software(FAULTS).flags(DISABLED).sample(1, S_IP | S_ADDR | S_CALLCHAIN);
    let event = attr.open();
    let ring = Ring::new(&event, 16);
    let (own, kernels) = (map(1), map(1));
    event.ioctl(ENABLE, 0).unwrap();
    outer(own);
    sys!(libc::SYS_getcpu, kernels, 0, 0).unwrap();
    event.ioctl(DISABLE, 0).unwrap();
    let records = samples(&ring);
    let chain = |at: usize| {
        let sample = records.iter().find(|s| s.words[1] as usize == at).expect("a sample there");
        let n = sample.words[2] as usize;
        sample.words[3..3 + n].to_vec()
    };
    let user = chain(own);
    assert_eq!(user[0], USER_MARK, "{user:x?}");
    let kernel = chain(kernels);
    assert_eq!(kernel[0], KERNEL_MARK, "{kernel:x?}");
    let mark = kernel.iter().position(|&w| w == USER_MARK).expect("it goes on in the program");
    assert!(mark >= 2 && kernel[1..mark].iter().all(|&ip| ip > 1 << 63), "{kernel:x?}");
    assert!(kernel[mark + 1..].iter().all(|&ip| ip < 1 << 47), "{kernel:x?}");
}

fn a_frequency_is_kept() {
    let event = Attr::software(CPU_CLOCK).flags(DISABLED | FREQ).sample(500, S_IP).open();
    let ring = Ring::new(&event, 32);
    event.ioctl(ENABLE, 0).unwrap();
    // A host that is busy elsewhere swallows samples, and never adds one.
    let tries: Vec<usize> = (0..10)
        .map(|_| {
            burn(100_000_000);
            samples(&ring).len()
        })
        .collect();
    assert!(tries.iter().any(|n| (20..=55).contains(n)), "at 500 Hz in 100 ms: {tries:?}");
    assert!(tries.iter().sum::<usize>() <= 550, "at 500 Hz in 100 ms: {tries:?}");
}

fn the_user_stack_is_in_the_sample() {
    let mut attr = Attr::software(FAULTS)
        .flags(DISABLED | EXCLUDE_KERNEL)
        .sample(1, S_ADDR | S_REGS_USER | S_STACK_USER);
    attr.0[10] = 1 << 7;
    attr.0[11] = 512;
    let event = attr.open();
    let ring = Ring::new(&event, 16);
    let at = map(1);
    let mark = std::hint::black_box([0x1234_5678_9abc_def0u64; 4]);
    event.ioctl(ENABLE, 0).unwrap();
    put(at, 1);
    event.ioctl(DISABLE, 0).unwrap();
    let records = samples(&ring);
    let w = &records.iter().find(|s| s.words[0] as usize == at).expect("our fault").words;
    // Address, ABI, SP, room, 64 words, bytes that are there.
    assert_eq!((w[1], w[3], w.len(), w[68]), (2, 512, 69, 512));
    let sp = w[2];
    let here = &raw const mark as u64;
    if here >= sp && here + 32 <= sp + 512 {
        let first = 4 + ((here - sp) / 8) as usize;
        assert_eq!(w[first..first + 4], mark);
    }
}

fn a_limit_of_overflows_disables_and_signals() {
    static SIGNALS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    extern "C" fn count(_: i32) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }
    sys::on_signal(libc::SIGIO, count);
    let event =
        Attr::software(FAULTS).flags(DISABLED | EXCLUDE_KERNEL).sample(5, S_IP).wakeup(1).open();
    let ring = Ring::new(&event, 8);
    sys!(libc::SYS_fcntl, event.0, libc::F_SETOWN, sys::getpid()).unwrap();
    sys!(libc::SYS_fcntl, event.0, libc::F_SETFL, libc::O_ASYNC).unwrap();
    event.ioctl(REFRESH, 3).unwrap();
    touch(map(100), 100);
    assert_eq!(samples(&ring).len(), 3);
    let stopped = event.count();
    touch(map(100), 100);
    assert_eq!(event.count(), stopped);
    let end = sys::monotonic() + 5_000_000_000;
    while SIGNALS.load(Ordering::SeqCst) == 0 && sys::monotonic() < end {
        burn(1_000_000);
    }
    assert!(SIGNALS.load(Ordering::SeqCst) > 0);
}
