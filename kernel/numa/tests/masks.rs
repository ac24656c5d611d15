//! Masks against the standard library's ordered sets, and their text forms against Linux's.

use numa::text::ParseListError;
use numa::{AtomicCpuMask, CpuId, CpuMask, MAX_CPUS, MAX_NODES, NodeId, NodeMask};
use proptest::collection::btree_set;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

fn cpus(set: &BTreeSet<u16>) -> CpuMask {
    set.iter().map(|n| CpuId::new(*n)).collect()
}

fn set(mask: CpuMask) -> BTreeSet<u16> {
    mask.iter().map(|cpu| cpu.index() as u16).collect()
}

fn some_set() -> impl Strategy<Value = BTreeSet<u16>> {
    prop_oneof![
        btree_set(0..MAX_CPUS as u16, 0..8),
        btree_set(0..MAX_CPUS as u16, 0..MAX_CPUS),
        Just((0..MAX_CPUS as u16).collect()),
    ]
}

proptest! {
    #[test]
    fn set_algebra_is_that_of_ordered_sets(a in some_set(), b in some_set()) {
        let (x, y) = (cpus(&a), cpus(&b));
        prop_assert_eq!(set(x), a.clone());
        prop_assert_eq!(set(x | y), &a | &b);
        prop_assert_eq!(set(x & y), &a & &b);
        prop_assert_eq!(set(x - y), &a - &b);
        prop_assert_eq!(x.complement_within(y), y - x);
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert_eq!((x.count(), x.is_empty()), (a.len(), a.is_empty()));
        prop_assert_eq!(x.first().map(CpuId::index), a.first().map(|n| usize::from(*n)));
        prop_assert_eq!(x.last().map(CpuId::index), a.last().map(|n| usize::from(*n)));
    }

    #[test]
    fn walking_a_mask_is_walking_the_set(a in some_set(), at in 0..MAX_CPUS as u16) {
        let mask = cpus(&a);
        let id = CpuId::new(at);
        let above = a.range(at + 1..).next().copied().map(CpuId::new);
        prop_assert_eq!(mask.next_after(id), above);
        prop_assert_eq!(mask.next_in_circle(id), above.or(a.first().copied().map(CpuId::new)));
        prop_assert_eq!(mask.nth(usize::from(at)), a.iter().nth(at.into()).copied().map(CpuId::new));
        prop_assert_eq!(mask.rank(id), a.range(..at).count());
        let mut changed = mask;
        prop_assert_eq!(changed.insert(id), !a.contains(&at));
        prop_assert_eq!(changed, mask.with(id));
        prop_assert!(changed.remove(id) && !changed.remove(id));
        prop_assert_eq!(changed, mask.without(id));
    }

    #[test]
    fn words_and_lists_read_back(a in some_set()) {
        let mask = cpus(&a);
        prop_assert_eq!(CpuMask::from_words(mask.words()), mask);
        prop_assert!(CpuMask::fits(mask.words()));
        prop_assert_eq!(CpuMask::parse_list(&mask.to_string()), Ok(mask));
        let digits = mask.hex(MAX_CPUS).to_string().replace(',', "");
        prop_assert_eq!(digits.len(), MAX_CPUS / 4);
        for n in 0..MAX_CPUS {
            let digit = digits.as_bytes()[digits.len() - 1 - n / 4] as char;
            let bit = digit.to_digit(16).unwrap() >> (n % 4) & 1;
            prop_assert_eq!(bit == 1, a.contains(&(n as u16)));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[0-9,:/all -]{0,12}") {
        if let Ok(mask) = NodeMask::parse_list(&text) {
            prop_assert_eq!(NodeMask::parse_list(&mask.to_string()), Ok(mask));
        }
    }
}

#[test]
fn first_n_counts_up_to_the_limit() {
    for n in 0..=MAX_CPUS + 2 {
        assert_eq!(set(CpuMask::first_n(n)), (0..n.min(MAX_CPUS) as u16).collect());
    }
    assert_eq!(NodeMask::full().count(), MAX_NODES);
}

#[test]
fn words_past_the_limit_do_not_fit() {
    assert!(NodeMask::fits(&[u64::MAX, 0, 0]));
    assert!(!NodeMask::fits(&[0, 1]));
    assert_eq!(NodeMask::from_words(&[1, 1]), NodeMask::single(NodeId::new(0)));
    assert_eq!(NodeMask::from_words(&[]), NodeMask::EMPTY);
}

#[test]
fn lists_look_as_linux_prints_them() {
    let list = |text: &str| NodeMask::parse_list(text).map(|mask| mask.to_string());
    for same in ["", "0", "0-3,5", "63", "0-63", "1,3,5-7"] {
        assert_eq!(list(same).as_deref(), Ok(same));
    }
    assert_eq!(list("3,1-2, 0\n").as_deref(), Ok("0-3"));
    assert_eq!(list("all").as_deref(), Ok("0-63"));
    assert_eq!(list("0-31:2/8").as_deref(), Ok("0-1,8-9,16-17,24-25"));
    assert_eq!(list("5-5").as_deref(), Ok("5"));
    for bad in ["a", "1-", "-1", "3-1", "1--2", "0-7:3", "0-7:9/8", "0-7:1/0", "+1", "1:1/2"] {
        assert_eq!(NodeMask::parse_list(bad), Err(ParseListError::Syntax), "{bad}");
    }
    assert_eq!(NodeMask::parse_list("4294967296"), Err(ParseListError::Overflow));
    for far in ["64", "0-64", "4294967295"] {
        assert_eq!(NodeMask::parse_list(far), Err(ParseListError::Range), "{far}");
    }
}

#[test]
fn hexadecimal_has_the_width_asked_for() {
    let mask = CpuMask::first_n(34);
    assert_eq!(mask.hex(64).to_string(), "00000003,ffffffff");
    assert_eq!(mask.hex(36).to_string(), "3,ffffffff");
    assert_eq!(mask.hex(8).to_string(), "ff");
    assert_eq!(mask.hex(2).to_string(), "3");
    assert_eq!(mask.hex(96).to_string(), "00000000,00000003,ffffffff");
    let wide = NodeMask::single(NodeId::new(1)).hex(1024).to_string();
    assert_eq!(wide.len(), 32 * 9 - 1);
    assert!(wide.starts_with("00000000,") && wide.ends_with(",00000002"));
}

#[test]
fn an_atomic_mask_says_who_changed_it() {
    let mask = AtomicCpuMask::new();
    let cpu = CpuId::new(200);
    assert!(mask.set(cpu, Relaxed) && !mask.set(cpu, Relaxed));
    assert!(mask.test(cpu, Relaxed));
    assert_eq!(mask.load(Relaxed), CpuMask::single(cpu));
    assert!(mask.clear(cpu, Relaxed) && !mask.clear(cpu, Relaxed));
    mask.store(CpuMask::first_n(70), Relaxed);
    assert_eq!(mask.load(Relaxed), CpuMask::first_n(70));
}

#[test]
fn threads_lose_no_bit_of_an_atomic_mask() {
    let mask = AtomicCpuMask::new();
    std::thread::scope(|scope| {
        for start in 0..4u16 {
            let mask = &mask;
            scope.spawn(move || {
                for n in (start..MAX_CPUS as u16).step_by(4) {
                    assert!(mask.set(CpuId::new(n), Relaxed));
                }
            });
        }
    });
    assert_eq!(mask.load(Relaxed), CpuMask::full());
}
