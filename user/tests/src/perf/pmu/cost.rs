//! What being sampled costs a program, in its own instructions.

use super::*;
use crate::harness::{not_on_linux, tests};
use crate::perf::sample::samples;

pub const TESTS: &[Test] = tests![a_thousand_samples_a_second_cost_less_than_3_percent];

/// Time of a fixed piece of work, which `each` interrupts a hundred times.
fn time_of_work(mut each: impl FnMut()) -> u64 {
    let begin = sys::monotonic();
    for _ in 0..100 {
        for i in 0..250_000u64 {
            std::hint::black_box(i);
        }
        each();
    }
    sys::monotonic() - begin
}

fn a_thousand_samples_a_second_cost_less_than_3_percent() {
    not_on_linux("a clock of instructions under which it boots with all its CPUs");
    time_of_work(|| {});
    let plain = time_of_work(|| {});
    // Not one of the counters: they are a model here, whose registers cost more than real ones.
    let parts = S_IP | S_TID | S_TIME | S_CALLCHAIN;
    let event = Attr::software(CPU_CLOCK).flags(FREQ | DISABLED).sample(1000, parts).open();
    let ring = Ring::new(&event, 16);
    let mut taken = 0;
    event.ioctl(ENABLE, 0).unwrap();
    let sampled = time_of_work(|| taken += samples(&ring).len());
    event.ioctl(DISABLE, 0).unwrap();
    let wanted = sampled as f64 / 1e6;
    assert!(taken as f64 > wanted * 0.8, "{taken} samples of {wanted}");
    let percent = (sampled as f64 - plain as f64) * 100.0 / plain as f64;
    assert!(percent < 3.0, "{percent:.2} % longer: {sampled} against {plain} ns");
}
