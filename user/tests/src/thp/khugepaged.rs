//! khugepaged: what it collapses without being asked, and what it leaves alone.

use std::time::{Duration, Instant};

use libc::EINVAL;

use super::collapse::{small, spread};
use super::*;
use crate::child::{Steps, join, spawn};
use crate::harness::tests;
use crate::memory::{fill, madvise, put, verify};
use crate::numa::{all_on, at_least, vmstat};

pub const TESTS: &[Test] = tests![
    its_settings_have_limits,
    it_collapses_what_may_be_huge,
    it_gathers_where_most_pages_are,
    pages_may_be_missing_up_to_a_limit,
    pages_may_be_shared_up_to_a_limit,
    who_is_not_to_have_huge_pages_keeps_small_ones,
    a_process_that_ends_meanwhile_is_no_harm,
    no_write_is_lost_to_it,
];

const NAMES: [&str; 7] = [
    "alloc_sleep_millisecs",
    "defrag",
    "max_ptes_none",
    "max_ptes_shared",
    "max_ptes_swap",
    "pages_to_scan",
    "scan_sleep_millisecs",
];

fn path(name: &str) -> String {
    format!("khugepaged/{name}")
}

fn number(name: &str) -> u64 {
    setting(&path(name)).trim().parse().unwrap()
}

/// A khugepaged that is always at work, until the test ends.
struct Busy {
    _settings: Settings,
    before: [u64; 7],
}

impl Busy {
    fn new(enabled: &str) -> Self {
        let _settings = Settings::new(enabled, "madvise");
        let before = NAMES.map(number);
        let busy = Self { _settings, before };
        busy.set("pages_to_scan", 100_000);
        busy.set("scan_sleep_millisecs", 5);
        busy.set("alloc_sleep_millisecs", 5);
        busy
    }

    #[track_caller]
    fn set(&self, name: &str, value: u64) {
        set(&path(name), &value.to_string());
    }

    /// Waits until it has been through all memory once more than it was under way.
    #[track_caller]
    fn come_round(&self) {
        let before = number("full_scans");
        until(|| number("full_scans") >= before + 2);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        NAMES.iter().zip(self.before).for_each(|(name, value)| self.set(name, value));
    }
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::yield_now();
    }
}

fn its_settings_have_limits() {
    let defaults = [60_000, 1, 511, 256, 64, 4096, 10_000];
    // Other tests have it sleep.
    set(&path("scan_sleep_millisecs"), "10000");
    assert_eq!(NAMES.map(number), defaults);
    for (name, words) in [
        ("alloc_sleep_millisecs", &["-1", "4294967296", "x"][..]),
        ("defrag", &["2", "-1", "yes"]),
        ("max_ptes_none", &["512", "-1", "0x10"]),
        ("max_ptes_shared", &["512"]),
        ("max_ptes_swap", &["512"]),
        ("pages_to_scan", &["0", "4294967296", "1 2"]),
        ("scan_sleep_millisecs", &["4294967296", ""]),
    ] {
        for word in words.iter().filter(|word| !word.is_empty()) {
            let error = fs::write(format!("{DIR}/{}", path(name)), word).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EINVAL), "{name}: {word:?}");
        }
        let before = setting(&path(name));
        set(&path(name), &before);
        assert_eq!(setting(&path(name)), before);
    }
    assert_eq!(NAMES.map(number), defaults);
    for name in ["full_scans", "pages_collapsed"] {
        assert!(fs::metadata(format!("{DIR}/{}", path(name))).unwrap().permissions().readonly());
    }
}

fn it_collapses_what_may_be_huge() {
    let busy = Busy::new("always");
    let before = number("pages_collapsed");
    let at = small(3, 1);
    until(|| huge_kib(at) == 3 * KIB);
    until(|| number("pages_collapsed") >= before + 3);
    verify(at, 3 * PAGES, 1);
    busy.come_round();
    verify(at, 3 * PAGES, 1);
}

fn it_gathers_where_most_pages_are() {
    let nodes = at_least(2);
    let _busy = Busy::new("always");
    for (count, winner) in [(PAGES / 2 + 10, 0), (PAGES / 2 - 10, 1)] {
        let at = spread(count, &nodes, 2);
        until(|| huge_kib(at) == KIB);
        all_on(at, PAGES, nodes[winner]);
        verify(at, PAGES, 2);
    }
}

fn pages_may_be_missing_up_to_a_limit() {
    let busy = Busy::new("always");
    busy.set("max_ptes_none", 10);
    let at = small(1, 3);
    let other = map(1);
    madvise(other, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    fill(other + 11 * PAGE, PAGES - 11, 3);
    let before = vmstat("thp_scan_exceed_none_pte");
    madvise(other, PAGES, libc::MADV_HUGEPAGE).unwrap();
    until(|| huge_kib(at) == KIB);
    busy.come_round();
    assert_eq!(huge_kib(other), 0);
    assert!(vmstat("thp_scan_exceed_none_pte") > before);
    put(other, 1);
    until(|| huge_kib(other) == KIB);
    verify(other + 11 * PAGE, PAGES - 11, 3);
}

fn pages_may_be_shared_up_to_a_limit() {
    let busy = Busy::new("madvise");
    busy.set("max_ptes_shared", 100);
    let [many, few] = [map(1), map(1)];
    fill(many, PAGES, 4);
    fill(few, PAGES, 5);
    let steps = Steps::new();
    let child = spawn(|| {
        steps.reach(1);
        steps.await_(2);
        verify(many, PAGES, 4);
        verify(few, PAGES, 5);
    });
    steps.await_(1);
    // Copies of the other pages are its own.
    (101..PAGES).for_each(|page| put(many + page * PAGE, crate::memory::get(many + page * PAGE)));
    (100..PAGES).for_each(|page| put(few + page * PAGE, crate::memory::get(few + page * PAGE)));
    let before = vmstat("thp_scan_exceed_share_pte");
    [many, few].iter().for_each(|at| _ = madvise(*at, PAGES, libc::MADV_HUGEPAGE).unwrap());
    until(|| huge_kib(few) == KIB);
    busy.come_round();
    assert_eq!(huge_kib(many), 0);
    assert!(vmstat("thp_scan_exceed_share_pte") > before);
    verify(few, PAGES, 5);
    steps.reach(2);
    assert_eq!(join(child), 0);
    until(|| huge_kib(many) == KIB);
    verify(many, PAGES, 4);
}

fn who_is_not_to_have_huge_pages_keeps_small_ones() {
    let busy = Busy::new("madvise");
    let [plain, barred, wanted] = [map(1), map(1), small(1, 6)];
    madvise(barred, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    fill(plain, PAGES, 6);
    fill(barred, PAGES, 6);
    until(|| huge_kib(wanted) == KIB);
    busy.come_round();
    assert_eq!([huge_kib(plain), huge_kib(barred)], [0, 0]);
    disable(true);
    let at = small(1, 7);
    busy.come_round();
    assert_eq!(huge_kib(at), 0);
    disable(false);
    until(|| huge_kib(at) == KIB);
    set("enabled", "always");
    until(|| huge_kib(plain) == KIB);
    assert_eq!(huge_kib(barred), 0);
    verify(plain, PAGES, 6);
}

fn a_process_that_ends_meanwhile_is_no_harm() {
    let _busy = Busy::new("always");
    let keeps = small(1, 8);
    for round in 0..20 {
        let steps = Steps::new();
        let child = spawn(|| {
            let at = small(2, 9);
            steps.reach(1);
            if round % 2 == 0 {
                verify(at, 2 * PAGES, 9);
            } else {
                loop {
                    std::hint::spin_loop();
                }
            }
        });
        steps.await_(1);
        if round % 2 == 1 {
            crate::sys::kill(child, libc::SIGKILL).unwrap();
            crate::sys::wait_for(child).unwrap();
        } else {
            assert_eq!(join(child), 0);
        }
    }
    // What a fork has shared and nobody has written since is left alone.
    put(keeps, crate::memory::get(keeps));
    until(|| huge_kib(keeps) == KIB);
    verify(keeps, PAGES, 8);
}

fn no_write_is_lost_to_it() {
    use std::sync::atomic::Ordering::SeqCst;
    let busy = Busy::new("always");
    busy.set("scan_sleep_millisecs", 0);
    let at = small(1, 10);
    let word = |page: usize| crate::memory::word64(at + page * PAGE);
    (0..PAGES).for_each(|page| word(page).store(0, SeqCst));
    let mut collapsed = 0;
    for round in 0..200 {
        for page in 0..PAGES {
            assert_eq!(word(page).fetch_add(1, SeqCst), round, "page {page}");
        }
        if round % 10 == 9 {
            collapsed += u32::from(huge_kib(at) == KIB);
            // In parts again.
            sys!(libc::SYS_mlock, at + 9 * PAGE, PAGE).unwrap();
            sys!(libc::SYS_munlock, at, HUGE).unwrap();
        }
    }
    assert!(collapsed > 0);
}
