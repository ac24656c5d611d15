//! Splitting: what is done to a part of a huge page is done to that part alone.

use libc::ENOENT;

use super::*;
use crate::child::{Steps, join, run, spawn};
use crate::harness::tests;
use crate::memory::{fill, get, madvise, mprotect, mremap, munmap, put, verify, verify_zero};
use crate::numa::{BIND, at_least, mbind, node_at, nodes_at, vmstat};

pub const TESTS: &[Test] = tests![
    a_part_is_unmapped,
    a_part_is_protected,
    addresses_of_the_kernel_are_not_split,
    a_part_is_given_back,
    a_part_is_freed_lazily,
    advice_on_a_part_gives_back_what_is_zero,
    a_part_has_a_policy_of_its_own,
    a_part_is_moved_away,
    a_whole_page_keeps_its_size_when_it_is_moved,
    an_odd_address_takes_it_apart,
    fork_shares_it_and_a_write_copies_a_small_page,
    alone_again_the_parent_writes_without_copying,
    parts_of_a_shared_page_go_one_by_one,
    what_a_fork_wipes_or_leaves_out,
    others_reach_into_it,
    threads_fault_while_it_is_split,
];

/// An area of one huge page with contents.
#[track_caller]
fn filled(seed: u64) -> usize {
    let at = map(1);
    fill(at, PAGES, seed);
    if huge_kib(at) != KIB {
        crate::harness::skip!("no huge page was free");
    }
    at
}

fn a_part_is_unmapped() {
    let _settings = Settings::always();
    let before = vmstat("thp_split_pmd");
    for (from, count) in [(0, 1), (PAGES - 1, 1), (100, 200)] {
        let at = filled(1);
        let kept = filled(1);
        munmap(at + from * PAGE, count).unwrap();
        for page in (0..PAGES).filter(|page| !(from..from + count).contains(page)) {
            assert_eq!(get(at + page * PAGE), get(kept + page * PAGE), "page {page}");
        }
        let rest = if from == 0 { at + count * PAGE } else { at };
        assert_eq!(huge_kib(rest), 0);
        let other = at + (from + count) * PAGE;
        if other < at + HUGE {
            put(other, 7);
            assert_eq!(get(other), 7);
        }
        munmap(at, PAGES).unwrap();
        verify(kept, PAGES, 1);
        munmap(kept, PAGES).unwrap();
    }
    assert!(vmstat("thp_split_pmd") - before >= 3);
}

fn a_part_is_protected() {
    let _settings = Settings::always();
    let at = filled(2);
    mprotect(at + 8 * PAGE, 8, libc::PROT_READ).unwrap();
    assert_eq!(smaps(at, ["Rss", "AnonHugePages"]), [32, 0]);
    verify(at, PAGES, 2);
    put(at, 1);
    put(at + 16 * PAGE, 1);
    assert!(crate::fault::try_write(at + 8 * PAGE, 1).is_err());
    mprotect(at + 8 * PAGE, 8, RW).unwrap();
    put(at + 8 * PAGE, 1);
    // As a whole it keeps its size.
    let at = filled(3);
    mprotect(at, PAGES, libc::PROT_READ).unwrap();
    assert_eq!(huge_kib(at), KIB);
    verify(at, PAGES, 3);
    assert!(crate::fault::try_write(at, 1).is_err());
    mprotect(at, PAGES, libc::PROT_NONE).unwrap();
    assert!(crate::fault::try_read(at).is_err());
    mprotect(at, PAGES, RW).unwrap();
    put(at, get(at));
    assert_eq!(huge_kib(at), KIB);
    verify(at, PAGES, 3);
}

fn addresses_of_the_kernel_are_not_split() {
    let _settings = Settings::always();
    let enomem = Err(crate::sys::Errno(libc::ENOMEM));
    // Ranges that end or begin within what the kernel may map by huge pages.
    for at in [0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0010_0000usize] {
        for pages in [1, 3, PAGES] {
            assert_eq!(madvise(at, pages, libc::MADV_HUGEPAGE), enomem, "{at:#x}");
            assert_eq!(madvise(at, pages, libc::MADV_DONTFORK), enomem, "{at:#x}");
            assert_eq!(madvise(at, pages, libc::MADV_COLD), enomem, "{at:#x}");
            assert_eq!(mprotect(at, pages, libc::PROT_READ), enomem, "{at:#x}");
            assert!(mbind(at, pages, BIND, &crate::numa::nodes(), 0).is_err(), "{at:#x}");
            assert!(sys!(libc::SYS_mlock, at, pages * PAGE).is_err(), "{at:#x}");
            let _ = munmap(at, pages);
        }
    }
    let at = filled(30);
    verify(at, PAGES, 30);
}

fn a_part_is_given_back() {
    let _settings = Settings::always();
    let at = filled(4);
    madvise(at + 10 * PAGE, 10, libc::MADV_DONTNEED).unwrap();
    assert_eq!(smaps(at, ["Rss", "AnonHugePages"]), [KIB - 40, 0]);
    assert!(nodes_at(at + 10 * PAGE, 10).iter().all(|node| *node == -ENOENT));
    verify(at, 10, 4);
    verify_zero(at + 10 * PAGE, 10);
    assert_eq!(smaps(at, ["Rss"]), [KIB - 40]);
    put(at + 10 * PAGE, 1);
    assert_eq!(smaps(at, ["Rss", "AnonHugePages"]), [KIB - 36, 0]);
    // All of it: the next touch is a first one.
    madvise(at, PAGES, libc::MADV_DONTNEED).unwrap();
    assert_eq!(smaps(at, ["Rss"]), [0]);
}

fn a_part_is_freed_lazily() {
    let _settings = Settings::always();
    let at = filled(5);
    madvise(at, PAGES, libc::MADV_FREE).unwrap();
    assert_eq!(smaps(at, ["AnonHugePages", "LazyFree"]), [KIB, KIB]);
    put(at + PAGE, 3);
    assert_eq!(get(at + PAGE), 3);
    let at = filled(6);
    madvise(at + 4 * PAGE, 4, libc::MADV_FREE).unwrap();
    verify(at, 4, 6);
    // Linux keeps a few pages in lists of the CPUs, which a move empties, before it marks them.
    let other = crate::memory::map(1);
    put(other, 1);
    let node = node_at(other);
    crate::numa::move_pages(0, &[other], Some(&[node]), crate::numa::MOVE).unwrap();
    assert_eq!(smaps(at, ["Rss", "AnonHugePages", "LazyFree"]), [KIB, 0, 16]);
}

fn advice_on_a_part_gives_back_what_is_zero() {
    let _settings = Settings::always();
    for advice in [libc::MADV_COLD, libc::MADV_PAGEOUT, libc::MADV_FREE] {
        let at = map(1);
        put(at + 3 * PAGE, 1);
        put(at + 9 * PAGE, 0);
        if huge_kib(at) != KIB {
            crate::harness::skip!("no huge page was free");
        }
        madvise(at, PAGES, libc::MADV_COLD).unwrap();
        assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB, KIB], "as a whole");
        madvise(at + 100 * PAGE, 1, advice).unwrap();
        assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, 4], "{advice}");
        let found = nodes_at(at, PAGES);
        assert!(found.iter().enumerate().all(|(i, node)| (i == 3) == (*node >= 0)), "{found:?}");
        assert_eq!((get(at + 3 * PAGE), get(at + 4 * PAGE)), (1, 0));
        put(at + 4 * PAGE, 2);
        assert_eq!(smaps(at, ["Rss"]), [8]);
        // What others have, too, is left alone.
        let at = filled(20);
        let steps = Steps::new();
        let child = spawn(|| steps.await_(1));
        madvise(at + 100 * PAGE, 1, advice).unwrap();
        assert_eq!(huge_kib(at), KIB, "{advice}");
        steps.reach(1);
        assert_eq!(join(child), 0);
        verify(at, PAGES, 20);
    }
}

fn a_part_has_a_policy_of_its_own() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = filled(7);
    mbind(at + 64 * PAGE, 64, BIND, &nodes[1..2], 0).unwrap();
    assert_eq!(smaps(at, ["Rss", "AnonHugePages"]), [256, 0]);
    verify(at, PAGES, 7);
    // What is touched anew obeys.
    madvise(at + 64 * PAGE, 64, libc::MADV_DONTNEED).unwrap();
    crate::memory::touch(at + 64 * PAGE, 64);
    crate::numa::all_on(at + 64 * PAGE, 64, nodes[1]);
}

fn a_part_is_moved_away() {
    let _settings = Settings::always();
    let at = filled(8);
    let kept = filled(8);
    let to = map(1);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    mremap(at + 32 * PAGE, 32, 32, flags, to + 32 * PAGE).unwrap();
    for page in 0..PAGES {
        let there = if (32..64).contains(&page) { to } else { at };
        assert_eq!(get(there + page * PAGE), get(kept + page * PAGE), "page {page}");
        put(there + page * PAGE, 1);
    }
    assert!(crate::fault::try_read(at + 32 * PAGE).is_err());
    assert_eq!(smaps(to + 32 * PAGE, ["AnonHugePages"]), [0]);
    verify(kept, PAGES, 8);
}

fn a_whole_page_keeps_its_size_when_it_is_moved() {
    let _settings = Settings::always();
    let at = filled(9);
    let to = map(1);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    mremap(at, PAGES, PAGES, flags, to).unwrap();
    assert_eq!(huge_kib(to), KIB);
    verify(to, PAGES, 9);
    put(to, 1);
    assert!(crate::fault::try_read(at).is_err());
}

fn an_odd_address_takes_it_apart() {
    let _settings = Settings::always();
    let at = filled(10);
    let to = map(2);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    mremap(at, PAGES, PAGES, flags, to + 5 * PAGE).unwrap();
    assert_eq!(huge_kib(to + 5 * PAGE), 0);
    verify(to + 5 * PAGE, PAGES, 10);
    put(to + 5 * PAGE, 1);
}

fn fork_shares_it_and_a_write_copies_a_small_page() {
    let _settings = Settings::always();
    let at = filled(11);
    let kept = get(at + 9 * PAGE);
    let steps = Steps::new();
    let child = spawn(|| {
        assert_eq!(smaps(at, ["AnonHugePages", "Rss", "Shared_Dirty"]), [KIB; 3]);
        verify(at, PAGES, 11);
        let node = node_at(at + PAGE);
        put(at + 3 * PAGE, !get(at + 3 * PAGE));
        assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, KIB]);
        assert_eq!(smaps(at, ["Private_Dirty"]), [4]);
        assert_eq!(node_at(at + PAGE), node);
        steps.reach(1);
        steps.await_(2);
        verify(at, 3, 11);
        assert_eq!(get(at + 9 * PAGE), kept);
    });
    steps.await_(1);
    // The parent maps all of it still.
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB, KIB]);
    verify(at, PAGES, 11);
    put(at + 9 * PAGE, !kept);
    assert_eq!(get(at + 9 * PAGE), !kept);
    assert_eq!(huge_kib(at), 0);
    steps.reach(2);
    assert_eq!(join(child), 0);
    put(at + 9 * PAGE, kept);
    verify(at, PAGES, 11);
}

fn alone_again_the_parent_writes_without_copying() {
    let _settings = Settings::always();
    let at = filled(13);
    run(|| verify(at, PAGES, 13));
    put(at, get(at));
    assert_eq!(smaps(at, ["AnonHugePages", "Private_Dirty"]), [KIB, KIB]);
    verify(at, PAGES, 13);
    // Children that write and end leave it to the parent, too.
    run(|| crate::memory::touch(at, PAGES));
    verify(at, PAGES, 13);
    for page in 0..PAGES {
        put(at + page * PAGE, get(at + page * PAGE));
    }
    verify(at, PAGES, 13);
    assert_eq!(smaps(at, ["Rss", "Private_Dirty"]), [KIB, KIB]);
}

fn parts_of_a_shared_page_go_one_by_one() {
    let _settings = Settings::always();
    let at = filled(14);
    let steps = Steps::new();
    let child = spawn(|| {
        munmap(at, 100).unwrap();
        madvise(at + 200 * PAGE, 100, libc::MADV_DONTNEED).unwrap();
        verify_zero(at + 200 * PAGE, 100);
        mprotect(at + 100 * PAGE, 100, libc::PROT_READ).unwrap();
        steps.reach(1);
        steps.await_(2);
        assert_eq!(get(at + 100 * PAGE), get(at + 100 * PAGE));
        munmap(at + 100 * PAGE, PAGES - 100).unwrap();
    });
    steps.await_(1);
    assert_eq!(huge_kib(at), KIB);
    verify(at, PAGES, 14);
    munmap(at + 300 * PAGE, PAGES - 300).unwrap();
    verify(at, 300, 14);
    steps.reach(2);
    assert_eq!(join(child), 0);
    verify(at, 300, 14);
    crate::memory::touch(at, 300);
    munmap(at, 300).unwrap();
}

fn what_a_fork_wipes_or_leaves_out() {
    let _settings = Settings::always();
    let [wiped, left] = [filled(15), filled(16)];
    madvise(wiped, PAGES, libc::MADV_WIPEONFORK).unwrap();
    madvise(left, PAGES, libc::MADV_DONTFORK).unwrap();
    run(|| {
        verify_zero(wiped, PAGES);
        assert!(crate::fault::try_read(left).is_err());
    });
    verify(wiped, PAGES, 15);
    verify(left, PAGES, 16);
    assert_eq!(huge_kib(wiped) + huge_kib(left), 2 * KIB);
}

fn others_reach_into_it() {
    let _settings = Settings::always();
    let at = filled(17);
    let kept = filled(17);
    let steps = Steps::new();
    let child = spawn(|| {
        steps.reach(1);
        steps.await_(2);
        assert_eq!(get(at + 5 * PAGE + 1), 0xa5);
    });
    steps.await_(1);
    let mut buf = vec![0u8; 3 * PAGE];
    let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let remote = libc::iovec { iov_base: (at + 300 * PAGE + 9) as *mut _, iov_len: buf.len() };
    let (l, r) = (&raw const local, &raw const remote);
    assert_eq!(sys!(libc::SYS_process_vm_readv, child, l, 1, r, 1, 0), Ok(buf.len()));
    for (i, byte) in buf.iter().enumerate() {
        assert_eq!(*byte, get(kept + 300 * PAGE + 9 + i), "byte {i}");
    }
    buf.fill(0xa5);
    let remote = libc::iovec { iov_base: (at + 5 * PAGE + 1) as *mut _, iov_len: 2 * PAGE };
    let local = libc::iovec { iov_len: 2 * PAGE, ..local };
    let (l, r) = (&raw const local, &raw const remote);
    assert_eq!(sys!(libc::SYS_process_vm_writev, child, l, 1, r, 1, 0), Ok(2 * PAGE));
    steps.reach(2);
    assert_eq!(join(child), 0);
    verify(at, PAGES, 17);
    // Its own, by /proc, also where it may not be written.
    mprotect(at, PAGES, libc::PROT_READ).unwrap();
    use std::os::unix::fs::FileExt;
    let memory = fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
    memory.write_all_at(&[1, 2, 3], (at + 99) as u64).unwrap();
    assert_eq!((get(at + 99), get(at + 101)), (1, 3));
}

fn threads_fault_while_it_is_split() {
    /// Pages from one that a thread writes to, to its next.
    const STEP: usize = 61;
    let _settings = Settings::always();
    let at = map(4);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for round in 0..40usize {
                    for page in (thread..4 * PAGES).step_by(STEP) {
                        let byte = at + page * PAGE + 8 + thread;
                        put(byte, round as u8 | 1);
                        let found = get(byte);
                        assert!(found == round as u8 | 1 || found == 0, "{found}");
                    }
                }
            });
        }
        for round in 0..40 {
            let from = round * 37 % (3 * PAGES);
            madvise(at + from * PAGE, 100, libc::MADV_DONTNEED).unwrap();
            // Pages between those that the threads write to.
            let unwritten = at + (from - from % STEP + 10) * PAGE;
            mprotect(unwritten, 10, libc::PROT_READ).unwrap();
            mprotect(unwritten, 10, RW).unwrap();
            madvise(at, 4 * PAGES, libc::MADV_DONTNEED).unwrap();
        }
    });
}
