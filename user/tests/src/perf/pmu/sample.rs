//! Samples when a counter overflows.

use super::*;
use crate::harness::tests;
use crate::perf::sample::{hot_functions, samples};

pub const TESTS: &[Test] = tests![
    each_period_is_a_sample,
    hot_functions_get_their_share_of_overflows,
    overflows_come_at_a_frequency,
    a_fast_event_is_throttled_and_counts_on,
    a_limit_of_overflows_stops_the_counter,
    a_sample_reads_its_group,
];

const S_READ: u64 = 1 << 4;
const S_PERIOD: u64 = 1 << 8;

fn each_period_is_a_sample() {
    unthrottle();
    const PERIOD: u64 = 500_000;
    let attr = hardware(CYCLES).flags(DISABLED | EXCLUDE_KERNEL);
    let event = attr.sample(PERIOD, S_IP | S_TID | S_PERIOD).open();
    let ring = Ring::new(&event, 8);
    event.ioctl(ENABLE, 0).unwrap();
    burn(30_000_000);
    event.ioctl(DISABLE, 0).unwrap();
    let (count, samples) = (event.count(), samples(&ring));
    // An interrupt that comes late stands for several periods, and says so.
    let weight: u64 = samples.iter().map(|s| s.words[2]).sum();
    assert_eq!(weight / PERIOD, count / PERIOD, "{} samples", samples.len());
    assert!(samples.len() as u64 > count / PERIOD / 2, "{} of {count}", samples.len());
    let ids = sys::getpid() as u64 | (sys::gettid() as u64) << 32;
    for sample in &samples {
        assert_eq!((sample.misc & 7, sample.words[1]), (2, ids));
        assert!(sample.words[0] < 1 << 47, "the kernel was not asked for: {:x?}", sample.words);
    }
}

fn hot_functions_get_their_share_of_overflows() {
    unthrottle();
    let attr = hardware(CYCLES).flags(EXCLUDE_KERNEL).sample(99_991, S_IP);
    hot_functions(attr, 200_000_000, 5);
}

fn overflows_come_at_a_frequency() {
    let event = hardware(CYCLES).flags(DISABLED | FREQ).sample(4000, S_IP).open();
    let ring = Ring::new(&event, 32);
    event.ioctl(ENABLE, 0).unwrap();
    // The period is found at first.
    burn(50_000_000);
    samples(&ring);
    burn(100_000_000);
    let count = samples(&ring).len();
    assert!((320..=480).contains(&count), "{count} at 4000 Hz in a tenth of a second");
}

fn a_fast_event_is_throttled_and_counts_on() {
    const RATE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";
    let before = std::fs::read_to_string(RATE).unwrap();
    // One sample in 4 ms: the second stops it until the next tick.
    std::fs::write(RATE, "250").unwrap();
    let reference = hardware(CYCLES).flags(DISABLED | EXCLUDE_KERNEL).open();
    let event =
        hardware(CYCLES).flags(DISABLED | EXCLUDE_KERNEL).sample(50_000, S_IP).open_in(&reference);
    let ring = Ring::new(&event, 64);
    let mut kinds = Vec::new();
    let end = sys::monotonic() + 20_000_000_000;
    reference.ioctl(ENABLE, 1).unwrap();
    while kinds.iter().filter(|kind| **kind == THROTTLE).count() < 5 && sys::monotonic() < end {
        burn(20_000_000);
        kinds.extend(ring.take().iter().map(|r| r.kind));
    }
    reference.ioctl(DISABLE, 1).unwrap();
    kinds.extend(ring.take().iter().map(|r| r.kind));
    std::fs::write(RATE, before.trim()).unwrap();
    let pauses: Vec<u32> = kinds.into_iter().filter(|kind| *kind != 9).collect();
    assert!(pauses.len() >= 9, "{pauses:?}");
    for (at, kind) in pauses.iter().enumerate() {
        assert_eq!(*kind, if at % 2 == 0 { THROTTLE } else { UNTHROTTLE }, "{pauses:?}");
    }
    near(event.count() as f64, reference.count() as f64, 2.0);
}

fn a_limit_of_overflows_stops_the_counter() {
    unthrottle();
    let attr = hardware(CYCLES).flags(DISABLED | EXCLUDE_KERNEL);
    let event = attr.sample(1_000_000, S_IP).open();
    let ring = Ring::new(&event, 8);
    event.ioctl(REFRESH, 3).unwrap();
    burn(10_000_000);
    assert_eq!(samples(&ring).len(), 3);
    let stopped = event.count();
    burn(5_000_000);
    assert_eq!((event.count(), samples(&ring).len()), (stopped, 0));
}

fn a_sample_reads_its_group() {
    const PERIOD: u64 = 500_000;
    unthrottle();
    let leader = hardware(CYCLES)
        .flags(DISABLED | EXCLUDE_KERNEL)
        .sample(PERIOD, S_READ)
        .read_format(F_GROUP | F_ID)
        .open();
    let member = hardware(BRANCHES).flags(EXCLUDE_KERNEL).open_in(&leader);
    let ring = Ring::new(&leader, 8);
    leader.ioctl(ENABLE, 0).unwrap();
    burn(20_000_000);
    leader.ioctl(DISABLE, 0).unwrap();
    let records = samples(&ring);
    assert!(records.len() > 5, "{}", records.len());
    let mut last = (0, 0);
    for record in &records {
        let w = &record.words;
        assert_eq!((w.len(), w[0], w[2], w[4]), (5, 2, leader.id(), member.id()));
        assert!(w[1] / PERIOD > last.0 / PERIOD && w[3] > last.1, "{w:?} after {last:?}");
        last = (w[1], w[3]);
    }
    let end = leader.words();
    assert!(last.0 <= end[1] && last.1 <= end[3], "{last:?}, {end:?}");
}
