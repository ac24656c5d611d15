//! What set_mempolicy(2) and get_mempolicy(2) refuse.

use libc::{EFAULT, EINVAL};

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    set_refuses_modes_that_do_not_exist,
    set_refuses_flags_that_do_not_exist,
    set_refuses_static_and_relative_together,
    set_refuses_balancing_but_for_bind_and_preferred_many,
    set_default_and_local_refuse_nodes,
    set_refuses_an_empty_mask_where_nodes_are_needed,
    set_refuses_a_mask_of_nodes_that_are_not_there,
    set_refuses_a_node_without_memory,
    set_refuses_bits_beyond_the_largest_mask,
    set_refuses_a_maxnode_of_more_than_a_page,
    set_counts_one_bit_less_than_maxnode,
    set_refuses_a_mask_it_cannot_read,
    set_without_a_mask_is_an_empty_mask,
    a_refused_policy_changes_nothing,
    get_refuses_flags_that_do_not_exist,
    get_refuses_mems_allowed_with_other_flags,
    get_refuses_an_address_without_the_flag,
    get_refuses_an_address_without_a_mapping,
    get_of_the_next_node_needs_an_interleaving_task,
    get_refuses_a_mask_too_short_for_the_machine,
    get_needs_no_place_for_what_is_not_wanted,
    get_refuses_places_it_cannot_write,
    get_clears_the_mask_up_to_maxnode_and_writes_no_further,
    get_of_as_many_nodes_as_can_be_said_writes_nothing,
    get_node_of_an_unreadable_page_is_efault,
];

/// A node number that no machine of these tests has.
const NO_NODE: usize = 700;

fn set_raw(mode: i32, mask: usize, maxnode: usize) -> crate::sys::Result<usize> {
    sys!(libc::SYS_set_mempolicy, mode, mask, maxnode)
}

fn set_refuses_modes_that_do_not_exist() {
    for mode in [7, 8, 100, -1, i32::MIN] {
        fails(set_mempolicy(mode, &[]), EINVAL);
        fails(set_mempolicy(mode, &[nodes()[0]]), EINVAL);
    }
}

fn set_refuses_flags_that_do_not_exist() {
    for flag in [1 << 12, 1 << 16, 1 << 30] {
        fails(set_mempolicy(BIND | flag, &[nodes()[0]]), EINVAL);
    }
}

fn set_refuses_static_and_relative_together() {
    for mode in [DEFAULT, PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        fails(set_mempolicy(mode | STATIC | RELATIVE, &[nodes()[0]]), EINVAL);
    }
}

fn set_refuses_balancing_but_for_bind_and_preferred_many() {
    for mode in [DEFAULT, PREFERRED, INTERLEAVE, LOCAL, WEIGHTED] {
        fails(set_mempolicy(mode | BALANCING, &[nodes()[0]]), EINVAL);
    }
    for mode in [BIND, PREFERRED_MANY] {
        set_mempolicy(mode | BALANCING, &[nodes()[0]]).unwrap();
    }
}

fn set_default_and_local_refuse_nodes() {
    fails(set_mempolicy(DEFAULT, &[nodes()[0]]), EINVAL);
    fails(set_mempolicy(LOCAL, &[nodes()[0]]), EINVAL);
    fails(set_mempolicy(LOCAL | STATIC, &[]), EINVAL);
    fails(set_mempolicy(LOCAL | RELATIVE, &[]), EINVAL);
}

fn set_refuses_an_empty_mask_where_nodes_are_needed() {
    for mode in [BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        for flags in [0, STATIC, RELATIVE] {
            fails(set_mempolicy(mode | flags, &[]), EINVAL);
        }
    }
    fails(set_mempolicy(PREFERRED | STATIC, &[]), EINVAL);
    fails(set_mempolicy(PREFERRED | RELATIVE, &[]), EINVAL);
}

fn set_refuses_a_mask_of_nodes_that_are_not_there() {
    for mode in [PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        fails(set_mempolicy(mode, &[NO_NODE]), EINVAL);
        fails(set_mempolicy(mode | STATIC, &[NO_NODE]), EINVAL);
    }
}

fn set_refuses_a_node_without_memory() {
    let Some(bare) = online().into_iter().find(|node| !nodes().contains(node)) else {
        crate::harness::skip!("no node without memory here");
    };
    for mode in [PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        fails(set_mempolicy(mode, &[bare]), EINVAL);
    }
    set_mempolicy(BIND, &[bare, nodes()[0]]).unwrap();
    assert_eq!(policy(), (BIND, vec![nodes()[0]]));
}

fn set_refuses_bits_beyond_the_largest_mask() {
    let mut wide = [0u64; 64];
    wide[0] = 1 << nodes()[0];
    let at = wide.as_mut_ptr() as usize;
    set_raw(BIND, at, 64 * 64 + 1).unwrap();
    wide[63] = 1;
    std::hint::black_box(&mut wide);
    fails(set_raw(BIND, at, 64 * 64 + 1), EINVAL);
    // Not looked at when maxnode ends before it.
    set_raw(BIND, at, 63 * 64 + 1).unwrap();
}

fn set_refuses_a_maxnode_of_more_than_a_page() {
    let long = map(4);
    put64(long, 1 << nodes()[0]);
    set_raw(BIND, long, 4096 * 8).unwrap();
    fails(set_raw(BIND, long, 4096 * 8 + 2), EINVAL);
    fails(set_raw(BIND, long, 0), EINVAL);
    fails(set_raw(BIND, long, usize::MAX), EINVAL);
}

fn set_counts_one_bit_less_than_maxnode() {
    let node = nodes()[0];
    let word = [1u64 << node];
    let at = word.as_ptr() as usize;
    set_raw(BIND, at, node + 2).unwrap();
    fails(set_raw(BIND, at, node + 1), EINVAL);
}

fn set_refuses_a_mask_it_cannot_read() {
    fails(set_raw(BIND, 8, 65), EFAULT);
    fails(set_raw(BIND, 0xffff_8000_0000_0000, 65), EFAULT);
    let at = map(2);
    munmap(at + PAGE, 1).unwrap();
    fails(set_raw(BIND, at + PAGE - 8, 129), EFAULT);
}

fn set_without_a_mask_is_an_empty_mask() {
    set_raw(DEFAULT, 0, 0).unwrap();
    set_raw(DEFAULT, 0, 65).unwrap();
    set_raw(LOCAL, 0, 0).unwrap();
    fails(set_raw(BIND, 0, 65), EINVAL);
}

fn a_refused_policy_changes_nothing() {
    let node = *nodes().last().unwrap();
    set_mempolicy(BIND, &[node]).unwrap();
    fails(set_mempolicy(INTERLEAVE, &[]), EINVAL);
    fails(set_mempolicy(99, &[]), EINVAL);
    fails(set_raw(BIND, 8, 65), EFAULT);
    assert_eq!(policy(), (BIND, vec![node]));
}

fn get_refuses_flags_that_do_not_exist() {
    for flags in [8, 16, -1] {
        fails(get_mempolicy(flags, 0), EINVAL);
    }
}

fn get_refuses_mems_allowed_with_other_flags() {
    let at = map(1);
    fails(get_mempolicy(F_MEMS_ALLOWED | F_NODE, 0), EINVAL);
    fails(get_mempolicy(F_MEMS_ALLOWED | F_ADDR, at), EINVAL);
}

fn get_refuses_an_address_without_the_flag() {
    fails(get_mempolicy(0, map(1)), EINVAL);
}

fn get_refuses_an_address_without_a_mapping() {
    let at = map(1);
    munmap(at, 1).unwrap();
    fails(get_mempolicy(F_ADDR, at), EFAULT);
    fails(get_mempolicy(F_ADDR, 0), EFAULT);
    fails(get_mempolicy(F_ADDR | F_NODE, at), EFAULT);
}

fn get_of_the_next_node_needs_an_interleaving_task() {
    let node = nodes()[0];
    fails(get_mempolicy(F_NODE, 0), EINVAL);
    for mode in [PREFERRED, BIND, PREFERRED_MANY] {
        set_mempolicy(mode, &[node]).unwrap();
        fails(get_mempolicy(F_NODE, 0), EINVAL);
    }
    for mode in [INTERLEAVE, WEIGHTED] {
        set_mempolicy(mode, &[node]).unwrap();
        assert_eq!(get_mempolicy(F_NODE, 0).map(|answer| answer.0), Ok(node as i32));
    }
}

fn get_refuses_a_mask_too_short_for_the_machine() {
    let mut mask = [0u64; 16];
    let (at, most) = (mask.as_mut_ptr(), *online().last().unwrap());
    let get = |maxnode: usize| sys!(libc::SYS_get_mempolicy, 0, at, maxnode, 0, 0);
    fails(get(0), EINVAL);
    fails(get(most), EINVAL);
    get(most + 1).unwrap();
    get(1025).unwrap();
}

fn get_needs_no_place_for_what_is_not_wanted() {
    let mut mode = -1i32;
    assert_eq!(sys!(libc::SYS_get_mempolicy, 0, 0, 0, 0, 0), Ok(0));
    sys!(libc::SYS_get_mempolicy, &raw mut mode, 0, 0, 0, 0).unwrap();
    assert_eq!(mode, DEFAULT);
}

fn get_refuses_places_it_cannot_write() {
    fails(sys!(libc::SYS_get_mempolicy, 8, 0, 0, 0, 0), EFAULT);
    fails(sys!(libc::SYS_get_mempolicy, 0, 8, MAXNODE, 0, 0), EFAULT);
}

fn get_clears_the_mask_up_to_maxnode_and_writes_no_further() {
    let mut mask = [u64::MAX; 32];
    let at = mask.as_mut_ptr();
    sys!(libc::SYS_get_mempolicy, 0, at, 64 * 20 + 1, 0, F_MEMS_ALLOWED).unwrap();
    assert_eq!(unmask(&mask[..20]), nodes());
    assert!(mask[20..].iter().all(|word| *word == u64::MAX));
}

/// A mask of all bits there can be has as many words as overflow counts: none. One that ends within
/// the last word that can be counted is more than a page.
fn get_of_as_many_nodes_as_can_be_said_writes_nothing() {
    let mut mask = [u64::MAX; 32];
    let at = mask.as_mut_ptr();
    let get = |maxnode: usize| sys!(libc::SYS_get_mempolicy, 0, at, maxnode, 0, F_MEMS_ALLOWED);
    assert_eq!([0, 1, 61].map(|less| get(usize::MAX - less)), [Ok(0); 3]);
    fails(get(usize::MAX - 62), EINVAL);
    assert!(mask.iter().all(|word| *word == u64::MAX));
}

fn get_node_of_an_unreadable_page_is_efault() {
    let at = mmap(0, PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    fails(get_mempolicy(F_NODE | F_ADDR, at), EFAULT);
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
}
