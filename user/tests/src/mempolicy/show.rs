//! What tools read: numa_maps, the status file, getcpu.

use crate::child::{getcpu, on_cpu};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::signal::status_field;

pub const TESTS: &[Test] = tests![
    numa_maps_names_each_policy,
    numa_maps_shows_the_tasks_policy_where_there_is_none,
    numa_maps_counts_the_pages_of_each_node,
    numa_maps_has_a_line_for_each_mapping,
    numa_maps_names_files,
    the_status_file_lists_the_allowed_nodes,
    getcpu_tells_the_cpu_and_its_node,
    getcpu_in_the_vdso_tells_the_same,
    getcpu_needs_no_place_for_what_is_not_wanted,
    the_vdso_says_what_version_its_functions_are,
];

/// The word for the policy in numa_maps.
fn shown(at: usize) -> String {
    let line = numa_maps_line(at).expect("a line for the mapping");
    let text = line.split_once(' ').unwrap().1;
    // "prefer (many)" and "weighted interleave" hold a space: cut at the first count or kind.
    let end = text
        .match_indices(' ')
        .map(|(at, _)| at)
        .find(|at| {
            let rest = &text[at + 1..];
            let word = rest.split(' ').next().unwrap_or("");
            word.contains('=') && !word.starts_with("(many)") && !word.starts_with("interleave")
                || ["heap", "stack"].contains(&word)
        })
        .unwrap_or(text.len());
    text[..end].to_string()
}

fn list_of(nodes: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for node in nodes {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *node => *end = *node,
            _ => ranges.push((*node, *node)),
        }
    }
    let text = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

fn numa_maps_names_each_policy() {
    let all = nodes();
    let list = list_of(&all);
    let first = all[0];
    let positions: Vec<usize> = (0..all.len()).collect();
    for (mode, chosen, text) in [
        (PREFERRED, &all[..1], format!("prefer:{first}")),
        (BIND, &all[..], format!("bind:{list}")),
        (INTERLEAVE, &all[..], format!("interleave:{list}")),
        (LOCAL, &[][..], "local".to_string()),
        (PREFERRED_MANY, &all[..], format!("prefer (many):{list}")),
        (WEIGHTED, &all[..], format!("weighted interleave:{list}")),
        (BIND | STATIC, &all[..], format!("bind=static:{list}")),
        (INTERLEAVE | RELATIVE, &positions[..], format!("interleave=relative:{list}")),
    ] {
        let at = map_alone(4);
        mbind(at, 4, mode, chosen, 0).unwrap();
        put(at, 1);
        assert_eq!(shown(at), text);
    }
    let at = map_alone(4);
    put(at, 1);
    assert_eq!(shown(at), "default");
}

fn numa_maps_shows_the_tasks_policy_where_there_is_none() {
    set_mempolicy(BIND, &nodes()[..1]).unwrap();
    let at = map_alone(4);
    put(at, 1);
    assert_eq!(shown(at), format!("bind:{}", nodes()[0]));
}

fn numa_maps_counts_the_pages_of_each_node() {
    let all = nodes();
    let at = map_alone(24);
    mbind(at, 24, INTERLEAVE, &all, 0).unwrap();
    touch(at, 20);
    let line = numa_maps_line(at).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words.contains(&"anon=20") && words.contains(&"dirty=20"), "{line}");
    assert!(words.contains(&"kernelpagesize_kB=4"), "{line}");
    let found = nodes_at(at, 20);
    for node in all {
        let count = found.iter().filter(|own| **own == node as i32).count();
        if count > 0 {
            assert!(words.contains(&format!("N{node}={count}").as_str()), "{line}");
        }
    }
}

fn numa_maps_has_a_line_for_each_mapping() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let text = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
    // Reading the second file may have changed the heap by one mapping.
    assert!(text.lines().count().abs_diff(maps) <= 2);
    for word in ["heap", "stack"] {
        assert!(text.lines().any(|line| line.split(' ').any(|own| own == word)), "no {word}");
    }
}

fn numa_maps_names_files() {
    let path = "/tmp/tests-numa-maps";
    std::fs::write(path, vec![1u8; 4 * PAGE]).unwrap();
    let fd = crate::sys::open(path, libc::O_RDWR, 0).unwrap();
    let at = map_file(fd, 4, libc::MAP_SHARED);
    read_each(at, 3);
    let line = numa_maps_line(at).unwrap();
    assert!(line.contains(&format!("file={path} ")), "{line}");
    let counts = line.split(' ').filter_map(|word| word.strip_prefix('N')?.split_once('='));
    let pages: usize = counts.map(|(_, count)| count.parse::<usize>().unwrap()).sum();
    assert!((3..=4).contains(&pages), "{line}");
    std::fs::remove_file(path).unwrap();
}

fn the_status_file_lists_the_allowed_nodes() {
    assert_eq!(status_field("Mems_allowed_list").map(|text| list(&text)), Some(nodes()));
    let words = status_field("Mems_allowed").unwrap();
    let mut found = Vec::new();
    for (i, word) in words.rsplit(',').enumerate() {
        assert_eq!(word.len(), 8, "{words}");
        let bits = u32::from_str_radix(word, 16).unwrap();
        found.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| i * 32 + bit));
    }
    assert_eq!(found, nodes());
    // libnuma takes the mask's width from this field, and the kernel wants it not too short.
    let width = words.split(',').count() * 32;
    let mut mask = [0u64; 64];
    let nr = libc::SYS_get_mempolicy;
    crate::sys::sys!(nr, 0, mask.as_mut_ptr(), width + 1, 0, F_MEMS_ALLOWED).unwrap();
}

fn getcpu_tells_the_cpu_and_its_node() {
    for (cpu, node) in cpu_nodes() {
        assert_eq!(on_cpu(cpu, getcpu), (cpu, node));
    }
    for cpu in crate::child::affinity(0) {
        assert_eq!(on_cpu(cpu, getcpu), (cpu, node_of_cpu(cpu)));
    }
}

fn getcpu_in_the_vdso_tells_the_same() {
    let Some(function) = crate::vdso::getcpu() else {
        crate::harness::skip!("no vDSO with getcpu");
    };
    for cpu in crate::child::affinity(0) {
        let (by_call, by_vdso) = on_cpu(cpu, || (getcpu(), crate::vdso::call_getcpu(function)));
        assert_eq!(by_vdso, by_call);
    }
}

fn getcpu_needs_no_place_for_what_is_not_wanted() {
    crate::sys::sys!(libc::SYS_getcpu, 0, 0, 0).unwrap();
    crate::sys::fails(crate::sys::sys!(libc::SYS_getcpu, 8, 0, 0), libc::EFAULT);
}

/// Go's runtime looks for it before it prints a word.
fn the_vdso_says_what_version_its_functions_are() {
    let names = crate::vdso::versions().expect("version definitions");
    assert!(names.iter().any(|name| name == "LINUX_2.6"), "{names:?}");
}
