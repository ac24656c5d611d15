//! The mappings that the kernel gives to every program, vvar and vDSO: each is one piece for good.

use libc::{EACCES, EFAULT, EINVAL, MPOL_BIND, MPOL_DEFAULT, PROT_EXEC, PROT_NONE, PROT_READ};

use crate::child;
use crate::fault::{ACCERR, segv, try_read, try_write};
use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::numa;
use crate::sys::{Result, fails, sys};

pub const TESTS: &[Test] = tests![
    of_vvars_four_pages_the_first_is_there,
    a_part_of_a_special_mapping_stays_what_the_rest_is,
    a_special_mapping_as_a_whole_is_changed,
    a_special_mapping_is_not_cut_by_others,
    a_special_mapping_moves_in_one_piece,
    a_special_mapping_takes_the_advice_that_linux_lets_it,
    the_kernels_pages_are_never_misplaced,
    vvars_frames_are_read_by_the_program_alone,
    a_breakpoint_in_the_vdso_is_the_programs_own,
];

/// Start and pages.
type Area = (usize, usize);

fn area(name: &str) -> Area {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with(name)) else {
        skip!("this machine has no {name}");
    };
    let (start, rest) = line.split_once('-').unwrap();
    let end = rest.split(' ').next().unwrap();
    let [start, end] = [start, end].map(|word| usize::from_str_radix(word, 16).unwrap());
    (start, (end - start) / PAGE)
}

fn vvar() -> Area {
    area("[vvar]")
}

fn vdso() -> Area {
    area("[vdso]")
}

fn mbind(at: usize, pages: usize, mode: i32) -> Result<usize> {
    let nodes = numa::nodes();
    numa::mbind(at, pages, mode, if mode == MPOL_DEFAULT { &[] } else { &nodes[..1] }, 0)
}

fn of_vvars_four_pages_the_first_is_there() {
    let (at, pages) = vvar();
    assert_eq!((pages, vdso().1, vdso().0), (4, 2, at + 4 * PAGE));
    try_read(at).unwrap();
    for page in 1..4 {
        let fault = try_read(at + page * PAGE).unwrap_err();
        assert_eq!((fault.signal, fault.address), (libc::SIGBUS, at + page * PAGE));
    }
    segv(try_write(at, 0), ACCERR, at);
}

fn a_part_of_a_special_mapping_stays_what_the_rest_is() {
    for (at, pages) in [vvar(), vdso()] {
        for part in [at, at + (pages - 1) * PAGE] {
            fails(mprotect(part, 1, PROT_NONE), EINVAL);
            fails(mbind(part, 1, MPOL_BIND), EINVAL);
            fails(munmap(part, 1), EINVAL);
            fails(madvise(part, 1, libc::MADV_DONTFORK), EINVAL);
            fails(madvise(part, 1, libc::MADV_SEQUENTIAL), EINVAL);
            // What changes nothing is nothing to refuse.
            assert_eq!(mbind(part, 1, MPOL_DEFAULT), Ok(0));
            assert_eq!(madvise(part, 1, libc::MADV_NORMAL), Ok(0));
            assert_eq!(sys!(libc::SYS_mlock, part, PAGE), Ok(0));
        }
        mbind(at, pages, MPOL_BIND).unwrap();
        assert_eq!(mbind(at, 1, MPOL_BIND), Ok(0));
        fails(mbind(at, 1, MPOL_DEFAULT), EINVAL);
    }
    assert_eq!(mprotect(vvar().0, 1, PROT_READ), Ok(0));
    assert_eq!(mprotect(vdso().0, 1, PROT_READ | PROT_EXEC), Ok(0));
}

fn a_special_mapping_as_a_whole_is_changed() {
    let ((at, pages), (image, length)) = (vvar(), vdso());
    for rights in [RW, PROT_READ | PROT_EXEC] {
        fails(mprotect(at, pages, rights), EACCES);
    }
    mprotect(at, pages, PROT_NONE).unwrap();
    segv(try_read(at), ACCERR, at);
    mprotect(at, pages, PROT_READ).unwrap();
    try_read(at).unwrap();
    child::run(|| {
        madvise(image, length, libc::MADV_DONTFORK).unwrap();
        child::run(|| assert!(try_read(image).is_err()));
        madvise(image, length, libc::MADV_DOFORK).unwrap();
        child::run(|| assert!(try_read(image).is_ok()));
    });
    munmap(at, pages).unwrap();
    assert!(try_read(at).is_err());
}

fn a_special_mapping_is_not_cut_by_others() {
    let ((at, pages), (image, length)) = (vvar(), vdso());
    fails(munmap(at + PAGE, pages + length - 1), EINVAL);
    fails(mmap(image, PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0), EINVAL);
    let below = at - PAGE;
    // Something may lie there already, such as this thread's stack: it does as well.
    let _ = mmap(below, PAGE, RW, PRIVATE | libc::MAP_FIXED_NOREPLACE, -1, 0);
    fails(munmap(below, 2), EINVAL);
    let mut present = [0u8];
    assert_eq!(sys!(libc::SYS_mincore, below, PAGE, present.as_mut_ptr()), Ok(0), "it is unmapped");
    assert_eq!((vvar(), vdso()), ((at, pages), (image, length)));
}

fn a_special_mapping_moves_in_one_piece() {
    const MOVE: i32 = libc::MREMAP_MAYMOVE;
    const FIXED: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let (at, pages) = vdso();
    let to = map(16);
    fails(mremap(at, 1, 1, FIXED, to), EINVAL);
    fails(mremap(at, pages, 1, 0, 0), EINVAL);
    fails(mremap(at, pages, pages + 1, MOVE, 0), EFAULT);
    fails(mremap(at, 1, 2, MOVE, 0), EFAULT);
    fails(mremap(at, pages, pages, MOVE | libc::MREMAP_DONTUNMAP, 0), EINVAL);
    assert_eq!(mremap(at, pages, pages, 0, 0), Ok(at));
    assert_eq!(mremap(at, pages, pages, FIXED, to), Ok(to));
    assert_eq!(vdso(), (to, pages));
    child::run(|| assert_eq!(vdso(), (to, pages)));
    fails(munmap(to, 1), EINVAL);
    munmap(to, 16).unwrap();
}

fn a_special_mapping_takes_the_advice_that_linux_lets_it() {
    let ((at, pages), (image, length)) = (vvar(), vdso());
    for (advice, data, code) in [
        (libc::MADV_WILLNEED, true, true),
        (libc::MADV_DONTNEED, false, true),
        (libc::MADV_FREE, false, false),
        (libc::MADV_REMOVE, false, false),
        (libc::MADV_DONTFORK, true, true),
        (libc::MADV_DOFORK, false, true),
        (libc::MADV_HUGEPAGE, true, true),
        (libc::MADV_DONTDUMP, true, true),
        (libc::MADV_DODUMP, false, false),
        (libc::MADV_WIPEONFORK, true, true),
        (libc::MADV_KEEPONFORK, true, true),
        (libc::MADV_COLD, false, true),
        (libc::MADV_PAGEOUT, false, true),
        (libc::MADV_POPULATE_READ, false, true),
        (libc::MADV_POPULATE_WRITE, false, false),
        (24, false, true), // MADV_DONTNEED_LOCKED
    ] {
        let may = (madvise(at, pages, advice).is_ok(), madvise(image, length, advice).is_ok());
        assert_eq!(may, (data, code), "advice {advice}");
    }
    assert_eq!(resident(at, pages), Ok(vec![true; pages]));
    assert_eq!(resident(image, length), Ok(vec![true; length]));
}

fn the_kernels_pages_are_never_misplaced() {
    let ((at, pages), (image, length)) = (vvar(), vdso());
    read_each(image, length);
    get(at);
    let home = numa::node_at(image);
    assert_eq!((numa::node_at(at), numa::node_at(at + PAGE)), (-libc::ENOENT, -libc::ENOENT));
    let nodes = numa::nodes();
    let away = nodes.iter().copied().find(|node| *node as i32 != home).unwrap_or(nodes[0]);
    let sent = |page: usize| numa::move_pages(0, &[page], Some(&[away as i32]), numa::MOVE);
    assert_eq!(sent(at).unwrap().1, [-EFAULT]);
    if away as i32 != home {
        // Others may map it, too.
        let told = sent(image).unwrap().1[0];
        assert!([-libc::EBUSY, -libc::EACCES].contains(&told), "{told}");
    }
    child::run(|| {
        for flags in [0, numa::STRICT, numa::STRICT | numa::MOVE] {
            for (at, pages) in [(at, pages), (image, length), (at, pages + length)] {
                assert_eq!(numa::mbind(at, pages, MPOL_BIND, &[away], flags), Ok(0));
            }
        }
        assert_eq!(numa::policy_at(image), (MPOL_BIND, vec![away]));
        get(image);
        assert_eq!(numa::node_at(image), home);
        assert_eq!(numa::migrate_pages(0, &nodes, &[away]), Ok(0), "pages left behind");
    });
    assert_eq!(numa::policy_at(image), (MPOL_DEFAULT, vec![]), "each program has its own");
}

fn vvars_frames_are_read_by_the_program_alone() {
    let ((at, _), (image, _)) = (vvar(), vdso());
    let mut bytes = [0u8; 8];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 };
    let read = |from: usize| {
        let remote = libc::iovec { iov_base: from as *mut _, iov_len: 8 };
        let pid = crate::sys::getpid();
        sys!(libc::SYS_process_vm_readv, pid, &raw const local, 1, &raw const remote, 1, 0)
    };
    fails(read(at), EFAULT);
    assert_eq!(read(image), Ok(8));
    let memory = crate::sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
    fails(sys!(libc::SYS_pread64, memory, bytes.as_mut_ptr(), 8, at), libc::EIO);
    assert_eq!(sys!(libc::SYS_pread64, memory, bytes.as_mut_ptr(), 8, image), Ok(8));
    assert_eq!(&bytes[..4], b"\x7fELF");
    let mut node = 0i32;
    let ask = numa::F_NODE | numa::F_ADDR;
    let mut node_of = |at: usize| sys!(libc::SYS_get_mempolicy, &raw mut node, 0, 0, at, ask);
    fails(node_of(at), EFAULT);
    assert_eq!(node_of(image), Ok(0));
}

fn a_breakpoint_in_the_vdso_is_the_programs_own() {
    let (at, pages) = vdso();
    let other = child::ask(|| {
        mprotect(at, pages, RW | PROT_EXEC).unwrap();
        let before = get(at + PAGE - 1);
        put(at + PAGE - 1, before ^ 0xff);
        let memory = crate::sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
        let last = at + 2 * PAGE - 1;
        assert_eq!(sys!(libc::SYS_pwrite64, memory, [0xccu8].as_ptr(), 1, last), Ok(1));
        assert_eq!((get(at + PAGE - 1), get(last)), (before ^ 0xff, 0xcc));
        u32::from(before)
    });
    assert_eq!(u32::from(get(at + PAGE - 1)), other);
}
