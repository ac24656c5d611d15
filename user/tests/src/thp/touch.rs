//! First touches: what comes in at once, and for whom.

use libc::{EFAULT, EINVAL, ENOENT};

use super::*;
use crate::child;
use crate::harness::tests;
use crate::memory::{get, madvise, munmap, put, resident, verify_zero};
use crate::numa::{nodes_at, vmstat};
use crate::sys::Errno;

pub const TESTS: &[Test] = tests![
    the_files_say_what_may_be_chosen,
    words_that_are_no_choice_are_refused,
    a_write_brings_in_two_mebibytes_at_once,
    an_area_without_room_gets_small_pages,
    a_read_maps_the_huge_page_of_zeroes,
    without_the_zero_page_a_read_is_as_a_write,
    enabled_says_who_gets_them,
    the_sizes_own_setting_goes_first,
    a_process_may_do_without_and_its_children_too,
    areas_say_whether_they_may_have_them,
    shared_memory_has_none,
    large_memory_begins_at_a_huge_page,
    locked_memory_is_there_in_huge_pages,
    memory_counts_where_it_lies,
];

fn the_files_say_what_may_be_chosen() {
    let of = |name: &str| setting(name).replace(['[', ']'], "");
    assert_eq!(of("enabled"), "always madvise never\n");
    assert_eq!(of("defrag"), "always defer defer+madvise madvise never\n");
    assert_eq!(of("hugepages-2048kB/enabled"), "always inherit madvise never\n");
    assert_eq!(setting("hpage_pmd_size"), "2097152\n");
    assert_eq!(setting("use_zero_page"), "1\n");
    assert_eq!(setting("shmem_enabled"), "always within_size advise [never] deny force\n");
}

fn words_that_are_no_choice_are_refused() {
    let _settings = Settings::always();
    for (name, words) in [
        ("enabled", &["", "alwayss", "inherit", "1", "[always]"][..]),
        ("defrag", &["inherit", "defer madvise"]),
        ("hugepages-2048kB/enabled", &["deny", "0"]),
        ("use_zero_page", &["2", "on", "-1"]),
    ] {
        let before = setting(name);
        for word in words.iter().filter(|word| !word.is_empty()) {
            let error = fs::write(format!("{DIR}/{name}"), word).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EINVAL), "{name}: {word:?}");
        }
        assert_eq!(setting(name), before);
    }
    set("enabled", "madvise\n");
    assert_eq!(chosen("enabled"), "madvise");
}

fn a_write_brings_in_two_mebibytes_at_once() {
    let _settings = Settings::always();
    let at = map(2);
    let before = vmstat("thp_fault_alloc");
    put(at + 77 * PAGE + 5, 9);
    if !came_whole(at) {
        crate::harness::skip!("no huge page is free here");
    }
    assert_eq!(vmstat("thp_fault_alloc") - before, 1);
    let keys = ["AnonHugePages", "Rss", "Anonymous", "Private_Dirty", "KernelPageSize"];
    assert_eq!(smaps(at, keys), [KIB, KIB, KIB, KIB, 4]);
    let found = nodes_at(at, 2 * PAGES);
    assert!(found[..PAGES].iter().all(|node| *node == found[0] && *node >= 0), "{found:?}");
    assert!(found[PAGES..].iter().all(|node| *node == -ENOENT), "{found:?}");
    assert_eq!(get(at + 77 * PAGE + 5), 9);
    put(at + 77 * PAGE + 5, 0);
    verify_zero(at, PAGES);
    munmap(at, 2 * PAGES).unwrap();
}

fn an_area_without_room_gets_small_pages() {
    let _settings = Settings::always();
    let at = map(2);
    // One page less at either end.
    munmap(at, 1).unwrap();
    munmap(at + 2 * HUGE - PAGE, 1).unwrap();
    put(at + HUGE - PAGE, 1);
    put(at + HUGE, 1);
    assert_eq!(smaps(at + HUGE, ["AnonHugePages", "Rss", "THPeligible"]), [0, 8, 0]);
}

fn a_read_maps_the_huge_page_of_zeroes() {
    let _settings = Settings::always();
    let at = map(1);
    assert_eq!(get(at + 3 * PAGE), 0);
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, 0]);
    assert!(resident(at, PAGES).unwrap().iter().all(|there| *there));
    assert!(nodes_at(at, PAGES).iter().all(|node| *node == -EFAULT));
    // A write then makes one small page.
    put(at + 7 * PAGE, 1);
    let found = nodes_at(at, PAGES);
    assert!(found[7] >= 0);
    assert!(found.iter().enumerate().all(|(i, node)| i == 7 || *node == -EFAULT), "{found:?}");
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, 4]);
    assert_eq!((get(at + 6 * PAGE), get(at + 7 * PAGE)), (0, 1));
    put(at + 7 * PAGE, 0);
    verify_zero(at, PAGES);
}

fn without_the_zero_page_a_read_is_as_a_write() {
    let _settings = Settings::always();
    set("use_zero_page", "0");
    let at = map(1);
    let value = get(at);
    let rss = smaps(at, ["AnonHugePages", "Private_Dirty"]);
    set("use_zero_page", "1");
    assert_eq!((value, rss), (0, [KIB, KIB]));
}

fn enabled_says_who_gets_them() {
    for (word, plain, advised) in [("always", 1, 1), ("madvise", 0, 1), ("never", 0, 0)] {
        let _settings = Settings::new(word, "madvise");
        let [a, b, c] = [map(1), map(1), map(1)];
        madvise(b, PAGES, libc::MADV_HUGEPAGE).unwrap();
        madvise(c, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
        [a, b, c].iter().for_each(|at| put(*at, 1));
        let huge = [a, b, c].map(|at| huge_kib(at) / KIB);
        assert_eq!(huge, [plain, advised, 0], "{word}");
        let eligible = [a, b, c].map(|at| smaps(at, ["THPeligible"])[0]);
        assert_eq!(eligible, [plain, advised, 0], "{word}");
        // Later advice changes nothing that is there: a table of small pages stays one.
        madvise(c, PAGES, libc::MADV_HUGEPAGE).unwrap();
        madvise(c, PAGES, libc::MADV_DONTNEED).unwrap();
        put(c, 1);
        assert_eq!(huge_kib(c), 0, "{word}");
        for at in [a, b, c] {
            munmap(at, PAGES).unwrap();
        }
    }
}

fn the_sizes_own_setting_goes_first() {
    const OWN: &str = "hugepages-2048kB/enabled";
    let _settings = Settings::new("never", "madvise");
    let touched = |word| {
        set(OWN, word);
        let [a, b] = [map(1), map(1)];
        madvise(b, PAGES, libc::MADV_HUGEPAGE).unwrap();
        let huge = [a, b].map(|at| {
            put(at, 1);
            huge_kib(at) / KIB
        });
        set(OWN, "inherit");
        huge
    };
    assert_eq!(touched("inherit"), [0, 0]);
    assert_eq!(touched("always"), [1, 1]);
    assert_eq!(touched("madvise"), [0, 1]);
    set("enabled", "always");
    assert_eq!(touched("never"), [0, 0]);
    assert_eq!(touched("madvise"), [0, 1]);
}

fn a_process_may_do_without_and_its_children_too() {
    let _settings = Settings::always();
    let disabled = || sys!(libc::SYS_prctl, libc::PR_GET_THP_DISABLE, 0, 0, 0, 0);
    assert_eq!(disabled(), Ok(0));
    let word = |line: &str| {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|own| own.strip_prefix(line)?.strip_prefix(":\t"));
        line.unwrap().to_string()
    };
    assert_eq!(word("THP_enabled"), "1");
    disable(true);
    assert_eq!((disabled(), word("THP_enabled")), (Ok(1), "0".into()));
    let touched = || {
        let at = map(1);
        madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
        put(at, 1);
        let [huge, eligible] = smaps(at, ["AnonHugePages", "THPeligible"]);
        (huge + eligible) as u32
    };
    assert_eq!(touched(), 0);
    assert_eq!(child::ask(touched), 0);
    assert_eq!(child::ask(|| disabled().unwrap() as u32), 1);
    disable(false);
    assert_eq!(touched(), KIB as u32 + 1);
    let wrong = sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, 1, 1, 0, 0);
    assert_eq!(wrong, Err(Errno(EINVAL)));
}

fn areas_say_whether_they_may_have_them() {
    let _settings = Settings::always();
    let at = map(2);
    assert_eq!(smaps(at, ["THPeligible"]), [1]);
    // An area with room for a page, but not for one at its boundary.
    munmap(at, 1).unwrap();
    munmap(at + HUGE + PAGE, PAGES - 1).unwrap();
    assert_eq!(smaps(at + PAGE, ["THPeligible"]), [0]);
    let at = mmap(0, 8 * HUGE, RW, PRIVATE | libc::MAP_STACK, -1, 0).unwrap();
    assert_eq!(smaps(at, ["THPeligible"]), [0], "MAP_STACK");
}

fn large_memory_begins_at_a_huge_page() {
    // Whatever the settings are.
    crate::memory::map(1);
    for pages in 1..4 {
        let at = mmap(0, pages * HUGE, RW, PRIVATE, -1, 0).unwrap();
        assert_eq!(at % HUGE, 0, "{at:#x}");
        let next = mmap(0, pages * HUGE, RW, PRIVATE, -1, 0).unwrap();
        assert_eq!(next + pages * HUGE, at, "beside each other");
        // One that is in the way of its growing moves to such a place, too.
        let grown = crate::memory::mremap(
            next,
            pages * PAGES,
            (pages + 1) * PAGES,
            libc::MREMAP_MAYMOVE,
            0,
        );
        assert_eq!(grown.unwrap() % HUGE, 0);
    }
    // A wish is a wish.
    let wish = mmap(0, 2 * HUGE, RW, PRIVATE, -1, 0).unwrap() + PAGE;
    munmap(wish - PAGE, 2 * PAGES).unwrap();
    assert_eq!(mmap(wish, HUGE, RW, PRIVATE, -1, 0), Ok(wish));
}

fn shared_memory_has_none() {
    let _settings = Settings::always();
    let at = crate::memory::map_shared(2 * PAGES);
    let at = at.next_multiple_of(HUGE);
    put(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "ShmemPmdMapped", "THPeligible"]), [0, 0, 0]);
}

fn locked_memory_is_there_in_huge_pages() {
    let _settings = Settings::always();
    let at = map(2);
    sys!(libc::SYS_mlock, at, 2 * HUGE).unwrap();
    assert_eq!(smaps(at, ["AnonHugePages", "Rss", "Locked"]), [2 * KIB; 3]);
    sys!(libc::SYS_munlock, at + PAGE, PAGE).unwrap();
    // The middle of the first page is an area of its own now.
    assert_eq!(smaps(at, ["AnonHugePages", "Rss", "Locked"]), [0, 4, 4]);
    assert_eq!(smaps(at + PAGE, ["AnonHugePages", "Rss", "Locked"]), [0, 4, 0]);
    assert_eq!(smaps(at + 2 * PAGE, ["AnonHugePages", "Rss"]), [KIB, 2 * KIB - 8]);
    let at = mmap(0, 4 * HUGE, RW, PRIVATE | libc::MAP_POPULATE, -1, 0).unwrap();
    assert_eq!(smaps(at, ["Rss"])[0] % (4 * KIB), 0);
    assert!(huge_kib(at) >= 3 * KIB, "{}", huge_kib(at));
}

fn memory_counts_where_it_lies() {
    let _settings = Settings::always();
    let at = map(8);
    touch(at, 1);
    let node = crate::numa::node_at(at) as usize;
    let before = crate::numa::meminfo_of(node, ["AnonHugePages", "AnonPages"]);
    crate::numa::mbind(at, 8 * PAGES, crate::numa::BIND, &[node], 0).unwrap();
    touch(at, 8);
    if huge_kib(at) < 8 * KIB {
        crate::harness::skip!("too few huge pages are free here");
    }
    let now = crate::numa::meminfo_of(node, ["AnonHugePages", "AnonPages"]);
    // Others come and go; small pages are counted late on Linux.
    let grown = [now[0] - before[0], now[1] - before[1]];
    assert!(grown.iter().all(|kib| kib.abs_diff(7 * KIB) <= KIB), "{grown:?}");
    munmap(at, 8 * PAGES).unwrap();
    let after = crate::numa::meminfo(node, "AnonHugePages");
    assert!(after <= now[0] - 7 * KIB, "{after} of {now:?}");
}
