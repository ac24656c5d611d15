//! What is told of huge pages: numa_maps, smaps, status, meminfo, pagemap.

use super::*;
use crate::harness::tests;
use crate::numa::{BIND, at_least, mbind, numa_maps_line};

pub const TESTS: &[Test] = tests![
    numa_maps_counts_in_huge_pages,
    smaps_tells_huge_pages_apart,
    the_status_file_and_meminfo_count_them,
    maps_names_memory_that_no_file_names,
    pagemap_names_each_frame,
    the_commit_limit_leaves_the_pool_out,
];

fn the_commit_limit_leaves_the_pool_out() {
    let limit = || -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("CommitLimit:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let _pool = Pool::of(&[]);
    let before = limit();
    write(&of_node(nodes()[0], "nr"), 4);
    // Half of memory, as the ratio says.
    assert_eq!(before - limit(), 2 * KIB);
}

fn numa_maps_counts_in_huge_pages() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    for (flags, anon) in [(PRIVATE, " anon=3"), (SHARED, "")] {
        let at = map(4, flags);
        assert!(
            numa_maps_line(at)
                .unwrap()
                .ends_with(" default file=/anon_hugepage\\040(deleted) huge")
        );
        mbind(at, HUGE / PAGE, BIND, &nodes[..1], 0).unwrap();
        touch(at, 1);
        let (first, last) = (nodes[0], nodes[1]);
        let line = numa_maps_line(at).unwrap();
        let one = if anon.is_empty() { "" } else { " anon=1" };
        let wanted = format!(
            "bind:{first} file=/anon_hugepage\\040(deleted) huge{one} dirty=1 N{first}=1 \
             kernelpagesize_kB=2048"
        );
        assert!(line.ends_with(&wanted), "{line}\nnot {wanted}");
        mbind(at + HUGE, 3 * PAGES, BIND, &nodes[1..2], 0).unwrap();
        touch(at + HUGE, 2);
        let line = numa_maps_line(at + HUGE).unwrap();
        let two = if anon.is_empty() { "" } else { " anon=2" };
        let wanted = format!("huge{two} dirty=2 N{last}=2 kernelpagesize_kB=2048");
        assert!(line.ends_with(&wanted), "{line}\nnot {wanted}");
        unmap(at, 4);
    }
}

/// A line of smaps for the mapping at an address, in KiB or as text.
fn smaps(at: usize, key: &str) -> String {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let begin = format!("{at:08x}-");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&begin));
    let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key}")).trim().into()
}

fn smaps_tells_huge_pages_apart() {
    let _pool = Pool::of(&[4]);
    for (flags, key, words) in [
        (PRIVATE, "Private_Hugetlb", "rd wr mr mw me de ht"),
        (SHARED, "Private_Hugetlb", "rd wr sh mr mw me ms de ht"),
        (PRIVATE | libc::MAP_NORESERVE, "Private_Hugetlb", "rd wr mr mw me de nr ht"),
    ] {
        let at = map(2, flags);
        touch(at, 1);
        assert_eq!(smaps(at, "KernelPageSize"), "2048 kB");
        assert_eq!(smaps(at, "MMUPageSize"), "2048 kB");
        assert_eq!(smaps(at, "Size"), "4096 kB");
        assert_eq!(smaps(at, "Rss"), "0 kB");
        assert_eq!(smaps(at, "Pss"), "0 kB");
        assert_eq!(smaps(at, "Anonymous"), "0 kB");
        assert_eq!(smaps(at, key), "2048 kB");
        // Linux may keep track of what was written.
        assert_eq!(smaps(at, "VmFlags").trim_end_matches(" sd"), words);
        unmap(at, 2);
    }
    let at = map(1, PRIVATE);
    touch(at, 1);
    crate::child::run(|| {
        assert_eq!(smaps(at, "Shared_Hugetlb"), "2048 kB");
        assert_eq!(smaps(at, "Private_Hugetlb"), "0 kB");
    });
    unmap(at, 1);
}

fn the_status_file_and_meminfo_count_them() {
    let _pool = Pool::of(&[4]);
    let field = |path: &str, key: &str| -> u64 {
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let resident = field("/proc/self/status", "VmRSS:");
    let at = map(3, PRIVATE);
    touch(at, 2);
    assert_eq!(field("/proc/self/status", "HugetlbPages:"), 2 * KIB);
    assert!(field("/proc/self/status", "VmRSS:") < resident + KIB);
    for (key, value) in [
        ("HugePages_Total:", 4),
        ("HugePages_Free:", 2),
        ("HugePages_Rsvd:", 1),
        ("HugePages_Surp:", 0),
        ("Hugepagesize:", 2048),
        ("Hugetlb:", 4 * KIB),
    ] {
        assert_eq!(field("/proc/meminfo", key), value, "{key}");
    }
    unmap(at, 3);
    assert_eq!(field("/proc/self/status", "HugetlbPages:"), 0);
}

fn maps_names_memory_that_no_file_names() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.starts_with(&format!("{at:08x}-"))).unwrap();
    assert!(line.ends_with(" /anon_hugepage (deleted)"), "{line}");
    assert!(line.contains(" rw-p 00000000 "), "{line}");
    unmap(at, 1);
}

fn pagemap_names_each_frame() {
    use std::os::unix::fs::FileExt;
    const HUGE_FLAG: u64 = 1 << 17;
    let _pool = Pool::of(&[1]);
    for (flags, file) in [(PRIVATE, 0), (SHARED, 1 << 61)] {
        let at = map(1, flags);
        let read = |path: &str, index: u64| -> u64 {
            let mut word = [0; 8];
            fs::File::open(path).unwrap().read_exact_at(&mut word, index * 8).unwrap();
            u64::from_ne_bytes(word)
        };
        // Linux may keep track of what was written.
        const SOFT_DIRTY: u64 = 1 << 55;
        let entry =
            |page: usize| read("/proc/self/pagemap", (at / PAGE + page) as u64) & !SOFT_DIRTY;
        assert_eq!(entry(0), 0);
        touch(at, 1);
        let frame = entry(0) & ((1 << 55) - 1);
        assert_eq!(frame % PAGES as u64, 0);
        for page in [0, 1, 511] {
            let wanted = 1 << 63 | 1 << 56 | file | (frame + page as u64);
            assert_eq!(entry(page), wanted, "{:#x} {wanted:#x}", entry(page));
            let flags = read("/proc/kpageflags", frame + page as u64);
            assert_eq!(flags & HUGE_FLAG, HUGE_FLAG, "{flags:#x}");
            let part = if page == 0 { 1 << 15 } else { 1 << 16 };
            assert_eq!(flags & (3 << 15), part, "{flags:#x}");
            assert_eq!(read("/proc/kpagecount", frame + page as u64), 1);
        }
        unmap(at, 1);
    }
}
