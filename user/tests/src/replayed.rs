//! Sequences that the fuzzer found: operations as `fuzz replay` takes them, and the lines that Linux
//! 6.12 leaves. Each test is named for what had been wrong.
//!
//! Most mean the same on every machine; a sequence for one machine begins with [`same_on`].

use fuzz::machine::Machine;
use fuzz::ops::Op;
use fuzz::replay;

use crate::harness::{Test, skip, tests};

pub const TESTS: &[Test] = tests![
    mlock_begins_where_memory_begins,
    mlock_of_memory_without_access_is_enomem,
    locked_memory_that_becomes_writable_is_there,
    mlock_of_a_length_that_wraps_is_nothing,
    segments_have_ids_that_go_round,
    mremap_looks_for_memory_before_the_new_address,
    mremap_clears_its_target_before_it_looks_at_the_source,
    mremap_dontunmap_takes_the_address_as_a_wish,
    mremap_grows_on_fault_locked_memory_without_pages,
    mmap_is_refused_in_linuxs_order,
    advice_on_read_only_shared_memory_may_remove,
    relative_nodes_beyond_all_nodes_count,
    a_look_at_memory_that_may_not_be_read_is_efault,
    mprotect_of_nothing_takes_any_rights,
    strict_finds_a_page_before_a_hole_further_on,
    an_affinity_of_no_bytes_is_not_read,
    a_child_inherits_the_zero_page,
    reading_an_object_maps_what_is_around,
    dropped_zero_pages_are_forgotten_by_the_cpu,
    what_is_queued_moves_even_when_the_status_cannot_be_told,
    mappings_of_one_opening_are_one_area,
    a_stack_mapping_is_an_area_of_its_own,
    mincore_looks_at_the_vector_first,
    what_lies_before_a_refused_area_is_removed,
    areas_stay_apart_in_a_forked_child,
    mremap_dontunmap_unlocks_all_of_the_old_area,
    mremap_takes_lengths_that_wrap_for_apart,
    a_stack_grows_up_to_memory_without_access,
    ranks_count_nodes_beyond_all_nodes,
    move_pages_answers_with_its_first_error,
    a_segments_areas_do_not_vanish_into_one_another,
    an_area_that_has_the_policy_leaves_its_object_alone,
    a_write_beyond_the_file_keeps_its_area_apart_all_the_same,
    a_run_of_pages_moves_as_a_whole_though_its_status_cannot_be_told,
    an_area_that_grows_down_to_another_stays_apart,
    a_read_beyond_the_file_maps_what_is_around_it,
    a_huge_page_moves_to_preferred_nodes_or_stays,
];

/// Replays operations and compares what each leaves.
#[track_caller]
fn same(list: &[(&str, &str)]) {
    let ops: Vec<Op> = list.iter().map(|(op, _)| Op::parse(op).expect("an operation")).collect();
    replay::prepare().expect("ready to replay");
    let mut lines = Vec::new();
    replay::run(&ops, &mut |_, line| lines.push(line.to_string()));
    for (at, (op, expected)) in list.iter().enumerate() {
        let line = lines.get(at).map_or("nothing", String::as_str);
        assert!(line == *expected, "{op}: {line} instead of {expected}");
    }
}

/// As [`same`], on a machine with these nodes only.
#[track_caller]
#[allow(dead_code, reason = "what the fuzzer prints for a machine's own sequence begins with it")]
fn same_on(machine: &str, list: &[(&str, &str)]) {
    let wanted = Machine::parse(machine).expect("a machine");
    if !wanted.is_here() {
        skip!("needs a machine with the nodes {machine}");
    }
    same(list);
}

fn mlock_begins_where_memory_begins() {
    same(&[
        ("0 mmap @1+64 0x4000 5 50 0 0 1", "ok first=0 last=0 on=-2x4"),
        ("0 mlock @1+63 0x4fff 2", "ENOMEM first=EFAULT last=0 on=-14,-2x4"),
        ("0 maps", " @1+64:4r-xp0"),
        ("0 munmap @1+66 4096", "ok first=EFAULT on=-14"),
        // Up to the hole.
        ("0 mlock @1+65 0x3000 2", "ENOMEM first=0 last=0 on=-2,-14,-2"),
        ("0 maps", " @1+64:1r-xp0 @1+65:1r-xp0 @1+67:1r-xp0"),
    ]);
}

fn mlock_of_memory_without_access_is_enomem() {
    same(&[
        ("0 mmap @2+64 0x2000 0 0x8032 0 0 1", "ok first=0 last=0 on=-2x2"),
        ("0 mlock @2+64 0x2000 0", "ENOMEM first=0 last=0 on=-2x2"),
        ("0 mlock @2+64 0x2000 2", "ok first=0 last=0 on=-2x2"),
    ]);
}

fn locked_memory_that_becomes_writable_is_there() {
    same(&[
        ("0 mmap @0+64 0x2000 0 0x2032 0 0 1", "ok first=0 last=0 on=-2x2"),
        ("0 mprotect @0+64 0x2000 3", "ok first=0 last=0 on=0x2"),
    ]);
}

fn mlock_of_a_length_that_wraps_is_nothing() {
    same(&[
        ("0 mlock @0+64 0xffffffffffffffff 0", "ok"),
        ("0 mlock @0+64 0xffffffffffffffff 1", "ok"),
        ("0 mlock @0+64 0xfffffffffffff000 1", "EINVAL"),
    ]);
}

fn segments_have_ids_that_go_round() {
    // Only ids that go up find a multiple of twelve again and again.
    same(&[
        ("0 object 0 2 3 12", "ok"),
        ("0 object 1 2 2 12", "ok"),
        ("0 object 2 2 1 12", "ok"),
        ("0 shmat 1 @2+64 0", "ok first=0 last=EFAULT on=-2x2,-14x62"),
    ]);
}

fn mremap_looks_for_memory_before_the_new_address() {
    let nothing = "EFAULT first=EFAULT last=EFAULT on=-14x2 first=EFAULT on=-14";
    same(&[
        ("0 mremap @0+77 8192 4096 3 @4+64", nothing),
        (
            "0 mremap @0+77 8192 8192 3 @0+78",
            "EFAULT first=EFAULT last=EFAULT on=-14x2 \
                                              first=EFAULT last=EFAULT on=-14x2",
        ),
    ]);
}

fn mremap_clears_its_target_before_it_looks_at_the_source() {
    same(&[
        ("0 mmap @0+64 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 mmap @1+64 8192 3 50 0 0 1", "ok first=0 last=0 on=-2x2"),
        (
            "0 mremap @0+64 8192 8192 3 @1+64",
            "EFAULT first=0 last=EFAULT on=-2,-14 first=EFAULT last=EFAULT on=-14x2",
        ),
    ]);
}

fn mremap_dontunmap_takes_the_address_as_a_wish() {
    same(&[
        ("0 mmap @0+64 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 touch @0+64 1 1 0 7", "1 first=0 on=0"),
        ("0 mremap @0+64 4096 4096 5 @0+64", "EINVAL first=0 on=0"),
        ("0 mremap @0+64 4096 4096 5 @1+64", "elsewhere first=0 on=-2"),
        ("0 maps", " @0+64:1rw-p0 @1+64:1rw-p0"),
        ("0 touch @1+64 1 1 1 0", "1 =5b62 first=0 on=0"),
    ]);
}

fn mremap_grows_on_fault_locked_memory_without_pages() {
    same(&[
        ("0 mmap @5+302 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 mlock @5+302 4096 2", "ok first=0 on=-2"),
        ("0 mremap @5+302 4096 0x3000 0 0", "ok first=0 last=0 on=-2x3"),
    ]);
}

fn mmap_is_refused_in_linuxs_order() {
    same(&[
        // Both kinds, for memory that is no file's.
        ("0 mmap @3+64 4096 3 51 0 0 1", "EINVAL first=EFAULT on=-14"),
        // Shared memory and files do not grow down.
        ("0 mmap @3+64 4096 3 305 0 0 1", "EINVAL first=EFAULT on=-14"),
        ("0 object 0 0 1 1", "ok"),
        ("0 mmap @3+64 4096 3 274 1 0 1", "EINVAL first=EFAULT on=-14"),
        // The file before the length, the place before the kind.
        ("0 mmap @3+64 0 0 17 0 0 1", "EBADF"),
        ("0 mmap @3+64 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 mmap @3+64 4096 3 0x100033 0 0 1", "EEXIST first=0 on=-2"),
    ]);
}

fn advice_on_read_only_shared_memory_may_remove() {
    same(&[
        ("0 mmap @3+64 4096 1 49 0 0 1", "ok first=0 on=-2"),
        ("0 madvise @3+64 4096 9", "ok first=0 on=-2"),
        ("0 object 0 0 1 1", "ok"),
        ("0 mmap @3+65 4096 3 18 1 0 1", "ok first=0 on=-2"),
        ("0 madvise @3+65 4096 9", "EACCES first=0 on=-2"),
        ("0 mmap @3+66 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 madvise @3+66 4096 9", "EINVAL first=0 on=-2"),
    ]);
}

fn relative_nodes_beyond_all_nodes_count() {
    // Bit 1000, of as many nodes as there are; the mask reads back as it was given.
    same(&[
        ("0 mmap @4+64 4096 3 50 0 0 1", "ok first=0 on=-2"),
        ("0 mbind @4+64 4096 0x4002 0 5 1025 0", "ok first=4002:0 on=-2"),
        ("0 mbind @4+64 4096 2 0 5 1025 0", "EINVAL first=4002:0 on=-2"),
        ("0 mbind @4+64 4096 0x8002 0 5 1025 0", "EINVAL first=4002:0 on=-2"),
    ]);
}

fn a_look_at_memory_that_may_not_be_read_is_efault() {
    same(&[
        ("0 mmap @1+64 4096 2 50 0 0 1", "ok first=0 on=-2"),
        ("0 getpol 3 @1+64 0 1025", "EFAULT first=0 on=-2"),
        ("0 madvise @1+64 4096 22", "EINVAL first=0 on=-2"),
    ]);
}

fn mprotect_of_nothing_takes_any_rights() {
    same(&[
        ("0 mprotect @4+64 0 16", "ok"),
        ("0 mprotect @4+64 4096 16", "EINVAL first=EFAULT on=-14"),
    ]);
}

fn strict_finds_a_page_before_a_hole_further_on() {
    same(&[
        ("0 mmap @7+64 4096 3 49 0 0 1", "ok first=0 on=-2"),
        ("0 touch @7+64 1 1 0 7", "1 first=0 on=0"),
        ("0 mmap @7+65 4096 1 50 0 0 1", "ok first=0 on=-2"),
        ("0 mbind @7+64 0x4000 4 0 0 1025 1", "EIO first=0 last=EFAULT on=0,-2,-14x2"),
        // The hole behind an area is seen before the area's pages.
        ("0 mbind @7+64 0x1000 4 0 0 1025 1", "EIO first=0 on=0"),
        ("0 munmap @7+65 4096", "ok first=EFAULT on=-14"),
        ("0 mbind @7+64 0x4000 4 0 0 1025 1", "EFAULT first=0 last=EFAULT on=0,-14x3"),
    ]);
}

fn an_affinity_of_no_bytes_is_not_read() {
    same(&[
        ("0 affinity 2 0 3 0", "ESRCH cpus=ESRCH"),
        ("0 affinity 2 0 3 8", "EFAULT cpus=ESRCH"),
    ]);
}

fn a_child_inherits_the_zero_page() {
    same(&[
        ("0 mmap @4+64 0x3000 3 50 0 0 1", "ok first=0 last=0 on=-2x3"),
        ("0 touch @4+64 2 1 1 0", "2 =36e0 first=0 last=0 on=-14x2"),
        ("0 touch @4+64 1 1 0 7", "1 first=0 on=0"),
        ("0 fork 1", "ok"),
        ("1 movepages 0 @4+64 3 1 0 0 2 1", "0 0,-14,-2"),
    ]);
}

fn reading_an_object_maps_what_is_around() {
    same(&[
        ("0 object 0 0 40 1", "ok"),
        ("0 transfer 0 2 3 0 9", "12288 4096"),
        ("0 transfer 0 20 1 0 9", "4096 4096"),
        ("0 fallocate 0 0 0x6000 0x1000", "ok"),
        ("0 mmap @0+64 0x28000 3 17 1 0 1", "ok first=0 last=0 on=-2x40"),
        ("0 mincore @0+64 0x8000", "ok 0x2,1x3,0x3"),
        ("0 touch @0+64 1 1 1 0", "1 =39c5 first=0 on=0"),
        ("0 movepages 0 @0+64 22 1 0 0 2 1", "0 0,-2,0x3,-2x17"),
    ]);
}

fn dropped_zero_pages_are_forgotten_by_the_cpu() {
    same(&[
        ("0 mmap @1+64 0x2000 3 50 0 0 1", "ok first=0 last=0 on=-2x2"),
        ("0 touch @1+64 2 1 1 0", "2 =36e0 first=0 last=0 on=-14x2"),
        ("0 madvise @1+64 0x2000 4", "ok first=0 last=0 on=-2x2"),
        ("0 touch @1+64 2 1 1 0", "2 =36e0 first=0 last=0 on=-14x2"),
    ]);
}

fn what_is_queued_moves_even_when_the_status_cannot_be_told() {
    same_on(
        "0-1/512;2-3/512;4-5/512;6-7/512",
        &[
            ("0 mmap @3+64 0x4000 3 50 0 0 1", "ok first=0 last=0 on=-2x4"),
            ("0 touch @3+64 2 1 0 7", "2 first=0 last=0 on=0x2"),
            ("0 pin 4", "ok task=0 cpus=10"),
            ("0 touch @3+66 2 1 0 7", "2 first=0 last=0 on=2x2"),
            ("0 movepages 0 @3+64 4 1 2 0 2 4", "EFAULT -9999x4"),
            ("0 movepages 0 @3+64 4 1 0 0 2 1", "0 2x4"),
        ],
    );
}

fn mappings_of_one_opening_are_one_area() {
    same(&[
        ("0 object 0 0 8 1", "ok"),
        ("0 mmap @2+64 0x8000 3 17 1 0 1", "ok first=0 last=0 on=-2x8"),
        ("0 mmap @2+64 0x4000 3 17 1 0 1", "ok first=0 last=0 on=-2x4"),
        ("0 maps", " @2+64:8rw-s0"),
    ]);
}

fn a_stack_mapping_is_an_area_of_its_own() {
    same(&[
        ("0 mmap @2+64 0x2000 3 50 0 0 1", "ok first=0 last=0 on=-2x2"),
        ("0 mmap @2+66 0x2000 3 0x20032 0 0 1", "ok first=0 last=0 on=-2x2"),
        ("0 maps", " @2+64:2rw-p0 @2+66:2rw-p0"),
    ]);
}

fn mincore_looks_at_the_vector_first() {
    same(&[("0 mincore @0+64 0xe28000", "EFAULT"), ("0 mincore @0+64 4096", "ENOMEM")]);
}

fn what_lies_before_a_refused_area_is_removed() {
    same_on(
        "0,1,2,3/2048",
        &[
            ("0 mmap @1+64 0xf000 3 49 0 0 1", "ok first=0 last=0 on=-2x15"),
            ("0 touch @1+64 5 1 0 249", "5 first=0 last=0 on=0x5"),
            ("0 mmap @1+71 0xb000 3 8242 0 0 1", "ok first=0 last=0 on=0x11"),
            ("0 madvise @1+68 0xb000 9", "EINVAL first=0 last=0 on=-2x3,0x8"),
        ],
    );
}

fn areas_stay_apart_in_a_forked_child() {
    same(&[
        ("0 mmap @2+64 0x4000 3 0x2032 0 0 1", "ok first=0 last=0 on=0x4"),
        ("0 mmap @2+68 0x4000 3 50 0 0 1", "ok first=0 last=0 on=-2x4"),
        ("0 fork 1", "ok"),
        ("1 maps", " @2+64:4rw-p0 @2+68:4rw-p0"),
        ("0 maps", " @2+64:4rw-p0 @2+68:4rw-p0"),
    ]);
}

fn mremap_dontunmap_unlocks_all_of_the_old_area() {
    same(&[
        ("0 mmap @2+64 0x8000 3 8242 0 0 1", "ok first=0 last=0 on=0x8"),
        ("0 mremap @2+66 4096 4096 7 @2+94", "ok first=0 on=-2 first=0 on=0"),
        ("0 maps", " @2+64:8rw-p0 @2+94:1rw-p0"),
        ("0 mmap @2+72 0x4000 3 50 0 0 1", "ok first=0 last=0 on=-2x4"),
        ("0 maps", " @2+64:12rw-p0 @2+94:1rw-p0"),
        ("0 mmap @2+95 0x4000 3 8242 0 0 1", "ok first=0 last=0 on=0x4"),
        ("0 maps", " @2+64:12rw-p0 @2+94:1rw-p0 @2+95:4rw-p0"),
    ]);
}

fn mremap_takes_lengths_that_wrap_for_apart() {
    same(&[
        ("0 mmap @0+64 0x4000 3 50 0 0 1", "ok first=0 last=0 on=-2x4"),
        ("0 touch @0+64 4 1 0 7", "4 first=0 last=0 on=0x4"),
        (
            "0 mremap @0+64 0xfffffffffffff000 0x2000 3 @0+64",
            "EINVAL first=EFAULT last=EFAULT on=-14x2",
        ),
        ("0 mmap @1+64 0x4000 3 50 0 0 1", "ok first=0 last=0 on=-2x4"),
        (
            "0 mremap @1+64 0xffffffffffffffff 0x2000 3 @1+65",
            "EINVAL first=EFAULT last=EFAULT on=-14x2",
        ),
        (
            "0 mremap @1+64 0xffffffffffffffff 0x2000 3 @1+64",
            "EFAULT first=EFAULT last=EFAULT on=-14x2",
        ),
        ("0 mremap @1+64 0xfffffffffffff000 0x1000 3 @1+68", "EFAULT first=EFAULT on=-14"),
    ]);
}

fn a_stack_grows_up_to_memory_without_access() {
    same(&[
        ("0 mmap @4+64 0x3d000 0 50 0 0 1", "ok first=0 last=0 on=-2x61"),
        ("0 mmap @4+126 4096 3 306 0 0 1", "ok first=0 on=-2"),
        ("0 touch @4+64 62 1 0 36", "1 SEGV.2@0 first=0 last=0 on=-2x61,0"),
        ("0 mmap @5+64 0x1000 1 50 0 0 1", "ok first=0 on=-2"),
        ("0 mmap @5+500 4096 3 306 0 0 1", "ok first=0 on=-2"),
        ("0 touch @5+320 1 1 0 36", "0 SEGV.1@0 first=EFAULT on=-14"),
        ("0 touch @5+321 1 1 0 36", "1 first=0 on=0"),
        ("0 maps", " @4+64:61---p0 @4+125:2rw-p0 @5+64:1r--p0 @5+321:180rw-p0"),
    ]);
}

fn ranks_count_nodes_beyond_all_nodes() {
    same_on(
        "0-1/512;2-3/512;4-5/512;6-7/512",
        &[
            ("0 pin 4", "ok task=0 cpus=10"),
            ("0 mmap @2+64 0x4000 3 49 0 0 4", "ok first=0 last=0 on=-2x4"),
            ("0 touch @2+64 4 1 0 2", "4 first=0 last=0 on=2x4"),
            ("0 migrate 0 13 15 4 1025", "0"),
            ("0 touch @2+64 4 1 0 2", "4 first=0 last=0 on=1x4"),
            ("0 migrate 0 7 7 4 1025", "0"),
            ("0 touch @2+64 4 1 0 2", "4 first=0 last=0 on=1x4"),
        ],
    );
}

fn move_pages_answers_with_its_first_error() {
    same_on(
        "0-1/1024;2-3/1024",
        &[
            ("0 object 3 0 52 1", "ok"),
            ("0 mmap @7+64 0x3000 3 18 4 0 1", "ok first=0 last=0 on=-2x3"),
            ("0 touch @7+64 3 1 1 886", "3 =c065 first=0 last=0 on=0x3"),
            ("0 movepages 0 @7+64 3 1 1 99 2 4", "ENODEV -9999x3"),
            ("0 movepages 0 @7+64 3 1 0 0 2 1", "0 1,0x2"),
        ],
    );
}

fn a_segments_areas_do_not_vanish_into_one_another() {
    same(&[
        ("0 object 2 2 51 1", "ok"),
        ("0 shmat 2 @7+64 0x4000", "ok first=0 last=EFAULT on=-2x51,-14x13"),
        ("0 mbind @7+79 0x6000 5 1 0 1025 4", "ok first=5:1 last=5:1 on=-2x6"),
        ("0 mbind @7+68 0x1e000 2 1 0 1025 2", "ok first=2:1 last=2:1 on=-2x30"),
        ("0 maps", " @7+64:4rw-s0 @7+68:11rw-s4 @7+79:19rw-s15 @7+98:17rw-s34"),
        ("0 mbind @7+64 0x33000 2 1 0 1025 0", "ok first=2:1 last=2:1 on=-2x51"),
        ("0 maps", " @7+64:4rw-s0 @7+68:11rw-s4 @7+79:19rw-s15 @7+98:17rw-s34"),
        ("0 mbind @7+66 0x1000 5 1 0 1025 4", "ok first=5:1 on=-2"),
        ("0 mbind @7+64 0x2000 5 1 0 1025 4", "ok first=5:1 last=5:1 on=-2x2"),
        ("0 mbind @7+66 0x1000 2 1 0 1025 4", "ok first=2:1 on=-2"),
        (
            "0 maps",
            " @7+64:2rw-s0 @7+66:1rw-s2 @7+67:1rw-s3 @7+68:11rw-s4 @7+79:19rw-s15 @7+98:17rw-s34",
        ),
    ]);
}

fn an_area_that_has_the_policy_leaves_its_object_alone() {
    same(&[
        ("0 mmap @3+64 4096 3 49 0 0 1", "ok first=0 on=-2"),
        ("0 fork 1", "ok"),
        ("1 mbind @3+64 4096 5 1 0 1025 0", "ok first=5:1 on=-2"),
        ("0 mbind @3+64 4096 0 0 0 1025 0", "ok first=5:1 on=-2"),
        ("1 mbind @3+64 4096 0 0 0 1025 0", "ok first=0 on=-2"),
        ("1 mbind @3+64 4096 2 1 0 1025 0", "ok first=2:1 on=-2"),
        ("0 mbind @3+64 4096 5 1 0 1025 0", "ok first=5:1 on=-2"),
        ("1 mbind @3+64 4096 2 1 0 1025 0", "ok first=5:1 on=-2"),
        ("1 getpol 2 @3+64 0 1025", "ok 5:1:0 first=5:1 on=-2"),
    ]);
}

fn a_write_beyond_the_file_keeps_its_area_apart_all_the_same() {
    same(&[
        ("0 object 2 0 4 1", "ok"),
        ("0 mmap @0+64 0x1a000 3 18 3 0x5000 1", "ok first=0 last=0 on=-2x26"),
        ("0 mbind @0+64 4096 1 0 0 1025 3", "ok first=4:0 on=-2"),
        ("0 touch @0+64 5 5 0 30", "0 BUS.2@0 first=4:0 last=0 on=-2x21"),
        ("0 mbind @0+64 8192 6 1 0 1025 6", "ok first=6:1 last=6:1 on=-2x2"),
        ("0 maps", " @0+64:1rw-p5 @0+65:1rw-p6 @0+66:24rw-p7"),
    ]);
}

fn a_run_of_pages_moves_as_a_whole_though_its_status_cannot_be_told() {
    same_on(
        "0,1/512;2,3/512;4,5/512;6,7/512",
        &[
            ("0 mmap @4+64 0x6f1000 7 49 0 0 1", "ok first=0 last=0 on=-2x254"),
            ("0 touch @4+64 1777 1 1 186", "1777 =74c5 first=0 last=0 on=0x254"),
            ("0 movepages 0 @4+1105 200 1 3 0 2 4", "EFAULT -9999x200"),
            ("0 touch @4+64 888 2 1 341", "888 =7380 first=0 last=0 on=0x149,3x29,0x76"),
        ],
    );
}

fn an_area_that_grows_down_to_another_stays_apart() {
    same(&[
        ("0 mmap @0+64 0x205000 3 306 0 0 1", "ok first=0 last=0 on=-2x173"),
        ("0 munmap @0+367 0x86000", "ok first=EFAULT last=EFAULT on=-14x134"),
        ("0 touch @0+64 517 1 0 150", "517 first=0 last=0 on=0x173"),
        ("0 madvise @0+169 0x11c000 10", "ok first=0 last=0 on=0x142"),
        ("0 maps", " @0+64:105rw-p0 @0+169:198rw-p0 @0+367:86rw-p0 @0+453:128rw-p0"),
    ]);
}

fn a_read_beyond_the_file_maps_what_is_around_it() {
    same_on(
        "0,1/768;2,3/768;/512",
        &[
            ("0 clone 1", "ok"),
            ("0 object 2 0 10 2", "ok"),
            ("0 mmap @1+64 0xa000 3 18 3 0xb000 1", "ok first=0 last=0 on=-2x10"),
            ("1 transfer 2 4 10 0 872", "40960 4096"),
            ("1 mbind @1+65 0x7000 1 4 0 1025 0", "ok first=1:4 last=1:4 on=-2x7"),
            ("0 touch @1+64 2 5 1 14", "1 BUS.2@1 =565c first=0 last=1:4 on=0x3,-2x3"),
        ],
    );
}

fn a_huge_page_moves_to_preferred_nodes_or_stays() {
    same_on(
        "0,1/1024;2,3/1024",
        &[
            ("0 pool 11 5", "ok pool=5,5,0,0, 0:0,0 1:5,5"),
            (
                "0 mmap @0+2560 0x200000 3 0x40032 0 0 1",
                "ok first=0 last=0 on=-2x256 pool=5,5,1,0, 0:0,0 1:5,5",
            ),
            ("0 touch @0+2560 1 512 0 968", "1 first=0 on=1 pool=5,4,0,0, 0:0,0 1:5,4"),
            (
                "0 mbind @0+2560 0x200000 5 1 0 1025 2",
                "ok first=5:1 last=5:1 on=0x256 pool=5,4,0,0, 0:1,0 1:4,4",
            ),
        ],
    );
}
