//! Where the bytes of a socket lie.

use super::{pair, receive, send};
use crate::child::on_cpu;
use crate::harness::{Test, on_proxima_only, skip, tests};

pub const TESTS: &[Test] = tests![bytes_lie_on_the_node_of_their_reader];

/// Free pages of a node.
fn free(node: usize) -> i64 {
    let path = format!("/sys/devices/system/node/node{node}/meminfo");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.contains("MemFree")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse::<i64>().unwrap() / 4
}

/// A CPU of each of two nodes that have memory.
fn two_places() -> Option<[(usize, usize); 2]> {
    let all = crate::child::affinity(0);
    let places: Vec<(usize, usize)> =
        all.into_iter().map(|cpu| (cpu, on_cpu(cpu, || crate::child::getcpu().1))).collect();
    let places: Vec<_> = places.into_iter().filter(|place| free(place.1) > 4 * 512).collect();
    let first = *places.first()?;
    let other = *places.iter().find(|place| place.1 != first.1)?;
    Some([first, other])
}

fn bytes_lie_on_the_node_of_their_reader() {
    on_proxima_only("on Linux they lie on the node of their writer");
    let Some([here, there]) = two_places() else { skip!("one node has all CPUs and memory") };
    let (client, server) = pair();
    // Whoever received last is the reader.
    send(client, b"x", 0).unwrap();
    on_cpu(there.0, || assert_eq!(receive(server, 1, 0).unwrap(), b"x"));
    let data = vec![1u8; 1 << 20];
    let taken = on_cpu(here.0, || {
        let before = (free(here.1), free(there.1));
        let mut left = 2 << 20;
        while left > 0 {
            left -= send(client, &data[..data.len().min(left)], 0).unwrap();
        }
        (before.0 - free(here.1), before.1 - free(there.1))
    });
    assert!(taken.1 >= 450, "512 pages are full, {taken:?} were taken here and there");
    assert!(taken.0 < 100, "{taken:?} pages were taken here and there");
}
