//! Why a page is where it is: /proc/PID/numa_pages, which only Proxima has.

use crate::child::{join, run, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::sys;

pub const TESTS: &[Test] = tests![
    each_page_tells_its_node_and_policy,
    a_moved_page_tells_by_what_and_from_where,
    a_copied_page_tells_so,
    a_page_that_fell_back_tells_where_it_was_wanted,
    kept_memory_is_shown_until_its_process_is_reaped,
    memory_is_gone_with_its_process_unless_it_is_kept,
];

fn pages_of(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/numa_pages"))
        .unwrap_or_else(|_| skip!("only Proxima tells why a page is where it is"))
}

/// The line whose range holds an address, without the range.
fn line_in(text: &str, at: usize) -> Option<String> {
    text.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |word| usize::from_str_radix(word, 16).unwrap();
        (hex(start)..hex(end)).contains(&at).then(|| rest.to_string())
    })
}

#[track_caller]
fn assert_line(at: usize, expected: &str) {
    assert_eq!(line_in(&pages_of("self"), at).as_deref(), Some(expected));
}

fn each_page_tells_its_node_and_policy() {
    let _ = pages_of("self");
    for node in nodes() {
        for (mode, word, reason) in [(BIND, "bind", "bind"), (PREFERRED, "prefer", "preferred")] {
            let at = map_alone(3);
            mbind(at, 3, mode, &[node], 0).unwrap();
            touch(at, 2);
            assert_line(at + PAGE, &format!("node={node} policy={word}:{node} reason={reason}"));
            assert_eq!(line_in(&pages_of("self"), at + 2 * PAGE), None, "an untouched page");
        }
    }
}

fn a_moved_page_tells_by_what_and_from_where() {
    let _ = pages_of("self");
    let [from, to] = at_least(2)[..2] else { unreachable!() };
    let at = map_alone(1);
    mbind(at, 1, BIND, &[from], 0).unwrap();
    touch(at, 1);
    move_pages(0, &[at], Some(&[to as i32]), MOVE).unwrap();
    let policy = format!("node={to} policy=bind:{from}");
    assert_line(at, &format!("{policy} reason=moved-by-move_pages from={from}"));
}

fn a_copied_page_tells_so() {
    let _ = pages_of("self");
    let node = nodes()[0];
    let at = map_alone(1);
    mbind(at, 1, BIND, &[node], 0).unwrap();
    touch(at, 1);
    run(|| {
        put(at, 7);
        assert_line(at, &format!("node={node} policy=bind:{node} reason=bind cow"));
    });
}

fn a_page_that_fell_back_tells_where_it_was_wanted() {
    let _ = pages_of("self");
    let empty = online().into_iter().find(|node| !nodes().contains(node));
    let Some(empty) = empty else { skip!("every node has memory") };
    let Some(cpu) = cpus_of(empty).first().copied() else { skip!("no node has only CPUs") };
    crate::child::on_cpu(cpu, || {
        let at = map_alone(1);
        touch(at, 1);
        let line = line_in(&pages_of("self"), at).unwrap();
        assert!(home_of(empty).iter().any(|n| line.starts_with(&format!("node={n} "))), "{line}");
    });
}

fn keep(pid: &str) {
    std::fs::write(format!("/proc/{pid}/keep_memory"), "1")
        .unwrap_or_else(|_| skip!("only Proxima keeps the memory of the dead"));
}

/// Waits until a child has ended, without reaping it.
fn await_end(pid: i32) {
    let mut info = [0u64; 16];
    let how = libc::WEXITED | libc::WNOWAIT;
    sys!(libc::SYS_waitid, libc::P_PID, pid, info.as_mut_ptr(), how, 0).unwrap();
}

fn kept_memory_is_shown_until_its_process_is_reaped() {
    let _ = pages_of("self");
    let node = nodes()[0];
    let at = map_alone(2);
    let child = spawn(|| {
        keep("self");
        mbind(at, 2, BIND, &[node], 0).unwrap();
        touch(at, 2);
    });
    await_end(child);
    let name = child.to_string();
    let line = format!("node={node} policy=bind:{node} reason=bind");
    assert_eq!(line_in(&pages_of(&name), at + PAGE), Some(line));
    let maps = std::fs::read_to_string(format!("/proc/{name}/numa_maps")).unwrap();
    let begin = format!("{at:08x} bind:{node} anon=2");
    assert!(maps.lines().any(|line| line.starts_with(&begin)), "{begin} in {maps}");
    assert_eq!(join(child), 0);
    assert!(std::fs::read_to_string(format!("/proc/{name}/numa_pages")).is_err());
}

fn memory_is_gone_with_its_process_unless_it_is_kept() {
    let _ = pages_of("self");
    let child = spawn(|| touch(map(4), 4));
    await_end(child);
    assert_eq!(pages_of(&child.to_string()), "");
    assert_eq!(join(child), 0);
}
