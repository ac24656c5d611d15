//! The `numa` events: Proxima's own account of where pages come from.

use super::count::settled;
use super::*;
use crate::child::pin;
use crate::harness::{skip, tests};
use crate::memory::*;
use crate::numa::{cpus_of, mbind, nodes};

pub const TESTS: &[Test] =
    tests![pages_are_local_or_remote, samples_tell_page_and_nodes, moved_pages_are_counted,];

/// The PMU's type, and the number of one of its events.
fn pmu(event: &str) -> Attr {
    let dir = "/sys/bus/event_source/devices/numa";
    let Ok(kind) = std::fs::read_to_string(format!("{dir}/type")) else {
        skip!("only Proxima has numa events");
    };
    let text = std::fs::read_to_string(format!("{dir}/events/{event}")).unwrap();
    let number = text.trim().strip_prefix("event=0x").expect("a number");
    let config = u64::from_str_radix(number, 16).unwrap();
    Attr::of(kind.trim().parse().unwrap(), config)
}

/// A CPU with memory on its node, and another node with memory.
fn near_and_far() -> (usize, usize, usize) {
    let nodes = nodes();
    let near = nodes.iter().copied().find(|&n| !cpus_of(n).is_empty());
    let far = nodes.iter().copied().find(|&n| Some(n) != near);
    match (near, far) {
        (Some(near), Some(far)) => (cpus_of(near)[0], near, far),
        _ => skip!("needs two nodes with memory"),
    }
}

/// The pages come from `node`.
fn bind(at: usize, pages: usize, node: usize) {
    mbind(at, pages, libc::MPOL_BIND, &[node], 0).unwrap();
}

fn pages_are_local_or_remote() {
    let (local, remote) = (pmu("alloc_local").open(), pmu("alloc_remote").open());
    let (cpu, near, far) = near_and_far();
    pin(cpu);
    let counts = settled(|| {
        let (here, there) = (map_alone(200), map_alone(300));
        bind(here, 200, near);
        bind(there, 300, far);
        let (l, r) = (local.count(), remote.count());
        touch(here, 200);
        touch(there, 300);
        (local.count() - l, remote.count() - r)
    });
    assert_eq!(counts, (200, 300));
}

fn samples_tell_page_and_nodes() {
    const RAW: u64 = 1 << 10;
    unthrottle();
    let event = pmu("alloc_remote").flags(DISABLED).sample(1, S_ADDR | RAW).open();
    let ring = Ring::new(&event, 16);
    let (cpu, near, far) = near_and_far();
    pin(cpu);
    let at = map_alone(50);
    bind(at, 50, far);
    event.ioctl(ENABLE, 0).unwrap();
    touch(at, 50);
    event.ioctl(DISABLE, 0).unwrap();
    let records = ring.take();
    for page in 0..50 {
        let address = (at + page * 4096) as u64;
        let sample = records.iter().find(|r| r.kind == 9 && r.words[0] & !4095 == address);
        let w = &sample.expect("each page is a sample").words;
        let parts = [w[1] as u32, (w[1] >> 32) as u32, w[2] as u32, (w[2] >> 32) as u32];
        assert_eq!(parts, [20, far as u32, far as u32, near as u32]);
    }
}

fn moved_pages_are_counted() {
    let event = pmu("page_migrated").open();
    let (cpu, near, far) = near_and_far();
    pin(cpu);
    let at = map_alone(100);
    bind(at, 100, near);
    touch(at, 100);
    let before = event.count();
    let nodes = vec![far as i32; 100];
    let pages: Vec<usize> = (0..100).map(|i| at + i * 4096).collect();
    let mut status = vec![0i32; 100];
    const MOVE: usize = 2;
    sys!(libc::SYS_move_pages, 0, 100, pages.as_ptr(), nodes.as_ptr(), status.as_mut_ptr(), MOVE)
        .unwrap();
    assert!(status.iter().all(|&s| s == far as i32));
    assert_eq!(event.count() - before, 100);
}
