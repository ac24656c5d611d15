//! Whole runs of known traffic through the recorder: what arithmetic says is what is counted.

use abi::doorbell::{Kind, send};
use traffic::geometry::{Caches, Geometry, named};
use traffic::raw::{Raw, collect};
use traffic::recorder::{Access, Cpu, Recorder, Seen, Wish, heat};
use traffic::sums::{Sums, Who, all, node};

const MIB: u64 = 1 << 20;

fn wish(caches: Option<Caches>) -> Wish {
    Wish {
        memory: vec![64 * MIB, 64 * MIB],
        node_of: vec![0, 0, 1, 1],
        distances: vec![vec![10, 20], vec![20, 10]],
        caches,
        sample: 1,
        user_only: false,
    }
}

/// A machine on which nothing has happened but that its memory is known.
fn machine(wish: Wish) -> (Recorder, Vec<Cpu>) {
    let recorder = Recorder::new(wish);
    recorder.map.learn(0, 0, 0).unwrap();
    recorder.map.learn(1, 64 * MIB, 128 * MIB).unwrap();
    let cpus = (0..4).map(|number| Cpu::new(&recorder, number)).collect();
    (recorder, cpus)
}

fn say(recorder: &Recorder, cpu: &mut Cpu, who: Who, command: Kind, arguments: &[u64]) {
    send(command, arguments, &mut |kind, value| {
        cpu.ring(recorder, kind, who, u64::from(value), Some(0));
    });
}

/// Task 10 + cpu runs on each CPU; task 10 has begun and made the others.
fn begin(recorder: &Recorder, cpus: &mut [Cpu]) {
    say(recorder, &mut cpus[0], Who::Kernel, Kind::SWITCH, &[10, 10, 5]);
    say(recorder, &mut cpus[0], Who::User, Kind::START, &[]);
    for number in 1..cpus.len() as u64 {
        say(recorder, &mut cpus[0], Who::Kernel, Kind::CLONE, &[10 + number]);
        let cpu = &mut cpus[number as usize];
        say(recorder, cpu, Who::Kernel, Kind::SWITCH, &[10 + number, 10, 5]);
    }
}

/// An access to byte `at` of `node`'s memory; its virtual address is the offset.
fn touch(recorder: &Recorder, cpu: &mut Cpu, node: u64, at: u64, size: u64, store: bool) {
    if !cpu.wants(recorder, Who::User) {
        return;
    }
    let address = node * 64 * MIB + at;
    let kind = (size as u32) << 1 | u32::from(store);
    let seen = Seen { who: Who::User, code: 1, kind, address };
    let access = Access { who: Who::User, code: 1, kind, address, size, store };
    let modelled = recorder.wish.caches.is_some();
    if recorder.wish.sample <= 1 && cpu.quick(recorder, &seen, modelled) {
        return;
    }
    cpu.access(recorder, &access, || Some(node * 128 * MIB + at));
}

fn sums(cpu: &mut Cpu) -> Sums {
    cpu.forget();
    let mut total = Sums::new(2);
    cpu.sums.iter().flatten().for_each(|sums| total.add(sums));
    total
}

fn small() -> Caches {
    named("small").unwrap()
}

#[test]
fn a_sweep_over_more_than_the_caches_hold_takes_every_line_from_memory_each_time() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    begin(&recorder, &mut cpus);
    let bytes = 4 * MIB;
    for _ in 0..2 {
        for at in (0..bytes).step_by(8) {
            touch(&recorder, &mut cpus[0], 1, at, 8, false);
        }
    }
    let sums = sums(&mut cpus[0]);
    assert_eq!(sums.get(Who::User, 1, node::READS), 2 * bytes / 8);
    assert_eq!(sums.get(Who::User, 1, node::READ_BYTES), 2 * bytes);
    assert_eq!(sums.get(Who::User, 1, node::LINES_READ), 2 * bytes / 64);
    assert_eq!(sums.get(Who::User, 0, node::LINES_READ), 0);
    assert_eq!(sums.get_all(Who::User, all::L1), 2 * (bytes / 8 - bytes / 64));
}

#[test]
fn what_fits_is_fetched_once_and_then_found_where_it_fits() {
    for (bytes, level) in [(8 << 10, all::L1), (64 << 10, all::L2), (512 << 10, all::L3)] {
        let (recorder, mut cpus) = machine(wish(Some(small())));
        begin(&recorder, &mut cpus);
        for _ in 0..3 {
            for at in (0..bytes).step_by(64) {
                touch(&recorder, &mut cpus[0], 0, at, 8, true);
            }
        }
        let sums = sums(&mut cpus[0]);
        assert_eq!(sums.get(Who::User, 0, node::LINES_WRITE), bytes / 64);
        assert_eq!(sums.get_all(Who::User, level), 2 * bytes / 64, "{bytes}");
        assert!(cpus[0].write_backs.iter().all(|&count| count == 0));
    }
}

#[test]
fn every_dirty_line_goes_back_to_its_home() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    begin(&recorder, &mut cpus);
    let bytes = 4 * MIB;
    for _ in 0..2 {
        for at in (0..bytes).step_by(64) {
            touch(&recorder, &mut cpus[2], 0, at, 8, true);
        }
    }
    // From node 1 to node 0; what the caches hold is still to come.
    let held = (1 << 20) + (128 << 10) + (16 << 10);
    let back = cpus[2].write_backs[2];
    assert!((2 * bytes - held) / 64 <= back && back <= 2 * bytes / 64, "{back}");
    assert_eq!(cpus[2].write_backs[0] + cpus[2].write_backs[1] + cpus[2].write_backs[3], 0);
}

#[test]
fn a_line_written_by_two_in_turns_goes_from_cache_to_cache() {
    for (other, from) in [(1, 0), (2, 1)] {
        let (recorder, mut cpus) = machine(wish(Some(small())));
        begin(&recorder, &mut cpus);
        for _ in 0..100 {
            touch(&recorder, &mut cpus[0], 0, 0, 8, true);
            touch(&recorder, &mut cpus[other], 0, 8, 8, true);
        }
        let first = sums(&mut cpus[0]);
        assert_eq!(first.get(Who::User, from, node::CACHE_MODIFIED), 99);
        assert_eq!(first.get_all(Who::User, all::INVALIDATIONS), 99);
        assert_eq!(sums(&mut cpus[other]).get(Who::User, 0, node::CACHE_MODIFIED), 100);
        let (_, side) = cpus[other].contended.all().next().unwrap();
        assert_eq!((side.writes, side.written_bytes), (100, 0xff00));
    }
}

#[test]
fn a_reader_on_another_node_makes_the_writer_write_back() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    begin(&recorder, &mut cpus);
    for _ in 0..10 {
        touch(&recorder, &mut cpus[0], 0, 0, 8, true);
        touch(&recorder, &mut cpus[2], 0, 0, 8, false);
        touch(&recorder, &mut cpus[2], 0, 0, 8, false);
    }
    let reader = sums(&mut cpus[2]);
    assert_eq!(reader.get(Who::User, 0, node::CACHE_MODIFIED), 10);
    assert_eq!(reader.get_all(Who::User, all::L1), 10);
    assert_eq!(cpus[2].write_backs[0], 10);
    assert_eq!(sums(&mut cpus[0]).get_all(Who::User, all::INVALIDATIONS), 9);
}

#[test]
fn an_access_over_a_lines_end_is_one_access_to_two_lines() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    begin(&recorder, &mut cpus);
    touch(&recorder, &mut cpus[0], 0, 60, 8, false);
    let sums = sums(&mut cpus[0]);
    assert_eq!(sums.get(Who::User, 0, node::READS), 1);
    assert_eq!(sums.get(Who::User, 0, node::LINES_READ), 2);
}

#[test]
fn nothing_counts_before_the_beginning_after_the_end_and_of_others() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::SWITCH, &[10, 10, 5]);
    touch(&recorder, &mut cpus[0], 0, 0, 8, false);
    begin(&recorder, &mut cpus[..1]);
    touch(&recorder, &mut cpus[0], 0, 0, 8, false);
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::SWITCH, &[99, 99, 6]);
    touch(&recorder, &mut cpus[0], 0, 0, 8, false);
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::SWITCH, &[10, 10, 5]);
    touch(&recorder, &mut cpus[0], 0, 0, 8, false);
    say(&recorder, &mut cpus[0], Who::User, Kind::END, &[]);
    touch(&recorder, &mut cpus[0], 0, 0, 8, false);
    assert_eq!(sums(&mut cpus[0]).get(Who::User, 0, node::READS), 2);
}

#[test]
fn what_is_written_for_the_tool_is_read_by_it() {
    let (recorder, mut cpus) = machine(wish(Some(small())));
    begin(&recorder, &mut cpus);
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::NAME, &[10, 0x6120_6200, 0]);
    for at in (0..MIB).step_by(8) {
        touch(&recorder, &mut cpus[0], 1, at, 8, at % 16 == 0);
        touch(&recorder, &mut cpus[3], 1, at, 8, at % 16 == 0);
    }
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::TIME, &[77_000]);
    say(&recorder, &mut cpus[0], Who::Kernel, Kind::SWITCH, &[0, 0, 0]);
    cpus.iter_mut().for_each(Cpu::forget);
    let code = traffic::raw::Code::Address { space: 0, address: 0x40_1000 };
    let raw = collect(&recorder, &cpus.iter().collect::<Vec<_>>(), &[(1, code)]);
    let mut text = Vec::new();
    raw.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(Raw::parse(&text), Some(raw.clone()));
    assert_eq!(Raw::parse(&text[..text.len() - 4]), None);
    assert_eq!(raw.tasks[0].name, "a b");
    assert_eq!(raw.pages.len(), 256);
    let heat: u64 =
        raw.pages.values().flat_map(|nodes| nodes.values()).map(|h| h[heat::ACCESSES]).sum();
    assert_eq!(heat, 2 * MIB / 8);
    assert_eq!(raw.spans[&0][0].accesses, MIB / 8);
    assert_eq!(raw.spans[&0][0].remote, MIB / 8);
}

#[test]
fn without_caches_accesses_are_counted_all_the_same() {
    let (recorder, mut cpus) = machine(wish(None));
    begin(&recorder, &mut cpus);
    for at in 0..1000 {
        touch(&recorder, &mut cpus[1], 1, at, 1, true);
    }
    let sums = sums(&mut cpus[1]);
    assert_eq!(sums.get(Who::User, 1, node::WRITES), 1000);
    assert_eq!(sums.get_all(Who::User, all::L1), 0);
}

#[test]
fn sampling_takes_one_block_of_n() {
    let (recorder, mut cpus) = machine(Wish { sample: 4, ..wish(None) });
    begin(&recorder, &mut cpus);
    for at in 0..1 << 20 {
        touch(&recorder, &mut cpus[0], 0, at, 1, false);
    }
    assert_eq!(sums(&mut cpus[0]).get(Who::User, 0, node::READS), 1 << 18);
}

#[test]
fn a_level_that_is_left_out_is_passed_by() {
    let only_l1 = Caches { l2: Geometry::NONE, l3: Geometry::NONE, ..small() };
    let (recorder, mut cpus) = machine(wish(Some(only_l1)));
    begin(&recorder, &mut cpus);
    for _ in 0..2 {
        for at in (0..MIB).step_by(64) {
            touch(&recorder, &mut cpus[0], 0, at, 8, true);
        }
    }
    let lines = MIB / 64;
    assert_eq!(sums(&mut cpus[0]).get(Who::User, 0, node::LINES_WRITE), 2 * lines);
    assert_eq!(cpus[0].write_backs[0], 2 * lines - (16 << 10) / 64);
}
