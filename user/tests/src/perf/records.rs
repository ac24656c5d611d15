//! Records beside samples: names, mappings, children, switches.

use super::*;
use crate::child::{affinity, join, pin, run, spawn};
use crate::harness::{skip, tests};
use crate::helper;
use crate::memory::*;

pub const TESTS: &[Test] = tests![
    names_are_told,
    mappings_are_told,
    children_are_told_with_their_end,
    a_program_is_told_with_its_mappings,
    switches_are_told,
    what_is_too_fast_is_told_to_pause,
    a_child_tells_what_it_counted,
];

fn beside(flags: u64) -> (Event, Ring) {
    let attr = Attr::software(DUMMY).flags(flags | SAMPLE_ID_ALL).sample(1, S_TID | S_TIME);
    let event = attr.open();
    let ring = Ring::new(&event, 8);
    (event, ring)
}

fn names_are_told() {
    let (_event, ring) = beside(COMM);
    sys!(libc::SYS_prctl, libc::PR_SET_NAME, c"renamed".as_ptr()).unwrap();
    let records = ring.take();
    let comm = records.iter().find(|r| r.kind == 3).expect("a COMM record");
    assert_eq!(comm.text(1), "renamed");
    let ids = sys::getpid() as u64 | (sys::gettid() as u64) << 32;
    // Who, then the name in two words or fewer, then who and when again.
    assert_eq!(comm.words[0], ids);
    assert_eq!(comm.words[comm.words.len() - 2], ids);
}

fn mappings_are_told() {
    let (_event, ring) = beside(MMAP | MMAP2);
    let plain = map(3);
    let code = mmap(0, 3 * 4096, 5, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).unwrap();
    let records = ring.take();
    let maps: Vec<&Record> = records.iter().filter(|r| r.kind == 10).collect();
    assert!(!maps.iter().any(|m| m.words[1] as usize == plain), "data was not asked for");
    let map = maps.iter().find(|m| m.words[1] as usize == code).expect("a MMAP2 record");
    assert_eq!((map.words[2], map.text(8)), (3 * 4096, "//anon".to_string()));
    assert_eq!(map.words[7], 5 | 2 << 32, "protection and flags");
}

fn children_are_told_with_their_end() {
    let (_event, ring) = beside(TASK | COMM);
    let child = spawn(|| {});
    join(child);
    let records = ring.take();
    let fork = records.iter().find(|r| r.kind == 7).expect("a FORK record");
    assert_eq!(fork.words[0], child as u64 | (sys::getpid() as u64) << 32);
    assert_eq!(fork.words[1], child as u64 | (sys::gettid() as u64) << 32);
    // What is not inherited ends with this thread.
    assert!(!records.iter().any(|r| r.kind == 4));
}

fn a_program_is_told_with_its_mappings() {
    let go = sys::pipe().unwrap();
    let child = spawn(|| {
        let mut byte = [0];
        sys::read(go.0, &mut byte).unwrap();
        helper::exec(&["exit", "0"]);
    });
    let mut attr = Attr::software(DUMMY)
        .flags(COMM | COMM_EXEC | MMAP | MMAP2 | TASK | SAMPLE_ID_ALL)
        .sample(1, S_TID | S_TIME);
    let event = Event(attr.try_open(child, -1, -1, 0).unwrap() as i32);
    let ring = Ring::new(&event, 8);
    sys::write(go.1, &[1]).unwrap();
    join(child);
    let records = ring.take();
    let comm = records.iter().position(|r| r.kind == 3).expect("a COMM record");
    assert_eq!(records[comm].misc & 1 << 13, 1 << 13, "of an exec");
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    let is_exe = |r: &&Record| r.kind == 10 && r.text(8) == exe.to_string_lossy();
    assert!(records[comm..].iter().any(|r| is_exe(&r)), "{records:x?}");
    let exit = records.iter().find(|r| r.kind == 4).expect("an EXIT record");
    assert_eq!(exit.words[0] as u32, child as u32);
}

fn switches_are_told() {
    let (_event, ring) = beside(CONTEXT_SWITCH);
    ring.take();
    let nap = sys::timespec(50_000_000);
    sys!(libc::SYS_nanosleep, &raw const nap, 0).unwrap();
    let records = ring.take();
    let out = records.iter().filter(|r| r.kind == 14 && r.misc & 1 << 13 != 0).count();
    let back = records.iter().filter(|r| r.kind == 14 && r.misc & 1 << 13 == 0).count();
    assert!(out >= 1 && out == back, "{out} times away, {back} times back");
}

fn what_is_too_fast_is_told_to_pause() {
    const RATE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";
    let before = std::fs::read_to_string(RATE).unwrap();
    std::fs::write(RATE, "250").unwrap();
    // 20000 samples a second, of which one in each tick is taken.
    let event = Attr::software(CPU_CLOCK)
        .flags(DISABLED | SAMPLE_ID_ALL)
        .sample(50_000, S_TID | S_TIME)
        .open();
    let ring = Ring::new(&event, 16);
    let mut records = Vec::new();
    let pauses = |records: &[Record]| -> Vec<Record> {
        records.iter().filter(|r| r.kind == THROTTLE || r.kind == UNTHROTTLE).cloned().collect()
    };
    let end = sys::monotonic() + 20_000_000_000;
    event.ioctl(ENABLE, 0).unwrap();
    while pauses(&records).len() < 10 && sys::monotonic() < end {
        burn(20_000_000);
        records.extend(ring.take());
    }
    event.ioctl(DISABLE, 0).unwrap();
    std::fs::write(RATE, before.trim()).unwrap();
    let pauses = pauses(&records);
    assert!(pauses.len() >= 10, "{} records, {} of them pauses", records.len(), pauses.len());
    let ids = sys::getpid() as u64 | (sys::gettid() as u64) << 32;
    for (at, pause) in pauses.iter().enumerate() {
        assert_eq!(pause.kind, if at % 2 == 0 { THROTTLE } else { UNTHROTTLE }, "{pauses:?}");
        // Time, id, stream id; then who and when, as in every record.
        assert_eq!((pause.words.len(), pause.words[1], pause.words[3]), (5, event.id(), ids));
        assert!(at == 0 || pause.words[0] > pauses[at - 1].words[0], "{pauses:?}");
    }
}

fn a_child_tells_what_it_counted() {
    const READ: u32 = 8;
    let cpu = affinity(0)[0];
    pin(cpu);
    // Inherited events have a buffer for each CPU.
    let mut attr = Attr::software(FAULTS)
        .flags(INHERIT | INHERIT_STAT | SAMPLE_ID_ALL)
        .sample(1 << 40, S_TID)
        .read_format(F_ENABLED | F_RUNNING | F_ID);
    let event = Event(attr.try_open(0, cpu as i32, -1, 0).unwrap() as i32);
    let ring = Ring::new(&event, 8);
    let children: Vec<i32> = [100, 300]
        .into_iter()
        .map(|pages| {
            let child = spawn(|| touch(map_alone(pages), pages));
            assert_eq!(join(child), 0);
            child
        })
        .collect();
    let reads: Vec<Record> = ring.take().into_iter().filter(|r| r.kind == READ).collect();
    if reads.is_empty() && !std::path::Path::new("/proc/proxima").exists() {
        skip!("Linux 6.12 forgets whose counts they are before it would write them");
    }
    assert_eq!(reads.len(), 2, "{reads:?}");
    for ((read, child), pages) in reads.iter().zip(children).zip([100, 300]) {
        let w = &read.words;
        assert_eq!(w[0], child as u64 | (child as u64) << 32, "pid and tid");
        assert!((pages..pages + 150).contains(&w[1]), "{w:?}: of {pages} pages");
        assert!(w[2] > 0 && w[2] == w[3] && w[4] == event.id(), "{w:?}");
    }
    // Without it nothing is said.
    let mut quiet = Attr::software(FAULTS).flags(INHERIT).sample(1 << 40, S_TID);
    let event = Event(quiet.try_open(0, cpu as i32, -1, 0).unwrap() as i32);
    let ring = Ring::new(&event, 8);
    run(|| touch(map_alone(10), 10));
    assert!(ring.take().iter().all(|r| r.kind != READ));
}
