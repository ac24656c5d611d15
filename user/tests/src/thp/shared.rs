//! Huge pages of shared memory: tmpfs, memfds, segments and shared anonymous memory.

use libc::{EINVAL, ENOENT};

use super::collapse::COLLAPSE;
use super::*;
use crate::child::run;
use crate::harness::{skip, tests};
use crate::memory::{fill, get, madvise, memfd, munmap, put, resident, verify, verify_zero};
use crate::numa::{
    BIND, INTERLEAVE, MOVE, all_on, at_least, mbind, meminfo, move_pages, node_at, nodes_at, vmstat,
};
use crate::sys::{Errno, c, close};

pub const TESTS: &[Test] = tests![
    its_settings_are_words,
    a_mount_may_have_them,
    wrong_words_are_refused_by_mount,
    a_touch_brings_in_a_whole_one,
    the_kernels_own_mount_follows_the_setting,
    files_within_their_size_have_them,
    advice_asks_for_them,
    deny_and_force_overrule_the_mount,
    a_write_makes_a_huge_page,
    fallocate_makes_huge_pages,
    a_hole_parts_it,
    truncation_parts_it,
    an_area_that_ends_within_maps_small_pages,
    unmapping_a_part_unmaps_the_huge_entry,
    a_private_mapping_copies_small_pages,
    a_child_maps_it_anew,
    policies_of_the_object_place_it,
    shared_memory_interleaves_by_huge_pages,
    it_moves_whole,
    collapse_gathers_small_pages,
    collapse_of_nothing_is_refused,
    shared_huge_pages_count_where_they_lie,
];

const OF_SIZE: &str = "hugepages-2048kB/shmem_enabled";

/// shmem_enabled while a test runs.
struct Shared {
    _settings: Settings,
    before: String,
}

impl Shared {
    fn new(word: &str) -> Self {
        let _settings = Settings::always();
        let before = chosen("shmem_enabled");
        set("shmem_enabled", word);
        Self { _settings, before }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        set("shmem_enabled", "never");
        set("shmem_enabled", &self.before);
        set(OF_SIZE, "inherit");
    }
}

/// A tmpfs with options, until the test ends.
struct Tmpfs(&'static str);

impl Tmpfs {
    #[track_caller]
    fn new(options: &str) -> Self {
        const DIR: &str = "/tmp/huge-shared";
        fs::create_dir_all(DIR).unwrap();
        mount(DIR, 0, options).unwrap();
        Self(DIR)
    }

    fn file(&self, pages: usize) -> i32 {
        let path = format!("{}/file", self.0);
        let fd = crate::sys::open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600);
        let fd = fd.unwrap();
        sys!(libc::SYS_ftruncate, fd, pages * PAGE).unwrap();
        fd
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = sys!(libc::SYS_umount2, c(self.0).as_ptr(), libc::MNT_DETACH);
    }
}

fn mount(dir: &str, flags: u64, options: &str) -> crate::sys::Result<usize> {
    let (kind, dir, options) = (c("tmpfs"), c(dir), c(options));
    sys!(libc::SYS_mount, kind.as_ptr(), dir.as_ptr(), kind.as_ptr(), flags, options.as_ptr())
}

/// Maps so many pages of a file at a huge page's boundary.
#[track_caller]
fn map_at_boundary(fd: i32, pages: usize, flags: i32) -> usize {
    let room = map(pages.div_ceil(PAGES) + 1);
    mmap(room, pages * PAGE, RW, flags | libc::MAP_FIXED, fd, 0).unwrap()
}

fn shared(fd: i32, pages: usize) -> usize {
    map_at_boundary(fd, pages, libc::MAP_SHARED)
}

#[track_caller]
fn mapped_kib(at: usize) -> u64 {
    smaps(at, ["ShmemPmdMapped"])[0]
}

/// Blocks of 512 bytes that a file has, in KiB.
fn blocks_kib(fd: i32) -> u64 {
    let mut stat: libc::stat = crate::sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    stat.st_blocks as u64 / 2
}

#[track_caller]
fn need_whole(at: usize) {
    if mapped_kib(at) == 0 {
        skip!("no huge page was free");
    }
}

fn its_settings_are_words() {
    let _settings = Settings::always();
    assert_eq!(setting("shmem_enabled"), "always within_size advise [never] deny force\n");
    assert_eq!(setting(OF_SIZE), "always [inherit] within_size advise never\n");
    for word in ["always", "within_size", "advise", "deny", "force", "never"] {
        set("shmem_enabled", word);
        assert_eq!(chosen("shmem_enabled"), word);
    }
    for (name, word) in [("shmem_enabled", "inherit"), (OF_SIZE, "deny"), (OF_SIZE, "force")] {
        let error = fs::write(format!("{DIR}/{name}"), word).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EINVAL), "{name}: {word}");
    }
    for word in ["always", "within_size", "advise", "never", "inherit"] {
        set(OF_SIZE, word);
        assert_eq!(chosen(OF_SIZE), word);
    }
}

fn a_mount_may_have_them() {
    let _settings = Settings::always();
    let options = |dir: &str| {
        let text = fs::read_to_string("/proc/mounts").unwrap();
        let line = text.lines().find(|line| line.contains(dir)).unwrap();
        line.split(' ').nth(3).unwrap().to_string()
    };
    for word in ["always", "within_size", "advise"] {
        let tmpfs = Tmpfs::new(&format!("huge={word}"));
        assert!(options(tmpfs.0).contains(&format!("huge={word}")), "{}", options(tmpfs.0));
    }
    let tmpfs = Tmpfs::new("huge=never");
    assert!(!options(tmpfs.0).contains("huge="), "{}", options(tmpfs.0));
    mount(tmpfs.0, libc::MS_REMOUNT, "huge=always").unwrap();
    assert!(options(tmpfs.0).contains("huge=always"));
    let at = shared(tmpfs.file(PAGES), PAGES);
    put(at, 1);
    need_whole(at);
    mount(tmpfs.0, libc::MS_REMOUNT, "huge=never").unwrap();
    let fd = crate::sys::open(&format!("{}/b", tmpfs.0), libc::O_RDWR | libc::O_CREAT, 0o600);
    let fd = fd.unwrap();
    sys!(libc::SYS_ftruncate, fd, HUGE).unwrap();
    let at = shared(fd, PAGES);
    put(at, 1);
    assert_eq!(mapped_kib(at), 0);
}

fn wrong_words_are_refused_by_mount() {
    fs::create_dir_all("/tmp/huge-wrong").unwrap();
    for word in ["huge=deny", "huge=force", "huge=", "huge=inherit", "huge=1"] {
        assert_eq!(mount("/tmp/huge-wrong", 0, word), Err(Errno(EINVAL)), "{word}");
    }
}

fn a_touch_brings_in_a_whole_one() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(2 * PAGES);
    let at = shared(fd, 2 * PAGES);
    let before = ["thp_file_alloc", "thp_file_mapped"].map(vmstat);
    put(at + 7 * PAGE + 3, 9);
    need_whole(at);
    let keys = ["ShmemPmdMapped", "Rss", "AnonHugePages", "THPeligible"];
    assert_eq!(smaps(at, keys), [KIB, KIB, 0, 1]);
    assert_eq!(blocks_kib(fd), KIB);
    let now = ["thp_file_alloc", "thp_file_mapped"].map(vmstat);
    assert_eq!([now[0] - before[0], now[1] - before[1]], [1, 1]);
    // A read as well.
    assert_eq!(get(at + HUGE), 0);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [2 * KIB; 2]);
    put(at + HUGE, 5);
    fill(at, 2 * PAGES, 1);
    let other = shared(fd, 2 * PAGES);
    verify(other, 2 * PAGES, 1);
    assert_eq!(mapped_kib(other), 2 * KIB);
    let mut bytes = [0; 100];
    sys!(libc::SYS_pread64, fd, bytes.as_mut_ptr(), 100, 77 * PAGE).unwrap();
    assert!((0..100).all(|i| bytes[i] == get(at + 77 * PAGE + i)));
    munmap(other, 2 * PAGES).unwrap();
    verify(at, 2 * PAGES, 1);
    close(fd);
    munmap(at, 2 * PAGES).unwrap();
}

fn the_kernels_own_mount_follows_the_setting() {
    let settings = Shared::new("always");
    let fd = memfd(PAGES);
    let at = shared(fd, PAGES);
    put(at, 1);
    need_whole(at);
    let anonymous = || {
        let at = map(2);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        mmap(at, HUGE, RW, flags, -1, 0).unwrap();
        put(at, 1);
        mapped_kib(at)
    };
    assert_eq!(anonymous(), KIB);
    let id = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, HUGE, 0o600).unwrap();
    let room = map(2);
    sys!(libc::SYS_shmat, id, room, libc::SHM_REMAP).unwrap();
    put(room, 1);
    assert_eq!(mapped_kib(room), KIB);
    sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0).unwrap();
    // What no name leads to has a setting of its own beside, where it is mapped.
    let file = || {
        let at = shared(memfd(PAGES), PAGES);
        put(at, 1);
        mapped_kib(at)
    };
    set(OF_SIZE, "never");
    let never = [anonymous(), file()];
    let fd = memfd(0);
    crate::sys::write(fd, b"begin").unwrap();
    let written = blocks_kib(fd);
    set("shmem_enabled", "never");
    set(OF_SIZE, "always");
    let error = fs::write(format!("{DIR}/shmem_enabled"), "force").map_err(|e| e.raw_os_error());
    let always = [anonymous(), file()];
    set(OF_SIZE, "inherit");
    let inherit = [anonymous(), file()];
    drop(settings);
    assert_eq!((never, written, always, inherit), ([0; 2], KIB, [KIB; 2], [0; 2]));
    assert_eq!(error, Err(Some(EINVAL)));
}

fn files_within_their_size_have_them() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=within_size");
    let fd = tmpfs.file(2 * PAGES - 1);
    let at = shared(fd, 2 * PAGES);
    put(at, 1);
    need_whole(at);
    put(at + HUGE, 1);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [KIB, KIB + 4]);
    // Unless advised.
    let fd = tmpfs.file(1);
    let at = shared(fd, PAGES);
    madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
    put(at, 1);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [KIB, KIB]);
}

fn advice_asks_for_them() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=advise");
    let at = shared(tmpfs.file(PAGES), PAGES);
    put(at, 1);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss", "THPeligible"]), [0, 4, 0]);
    let at = shared(tmpfs.file(PAGES), PAGES);
    madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
    put(at, 1);
    need_whole(at);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "THPeligible"]), [KIB, 1]);
    let always = Tmpfs::new("huge=always");
    let at = shared(always.file(PAGES), PAGES);
    madvise(at, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    put(at, 1);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss", "THPeligible"]), [0, 4, 0]);
    disable(true);
    let at = shared(always.file(PAGES), PAGES);
    put(at, 1);
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [0, 4]);
    disable(false);
}

fn deny_and_force_overrule_the_mount() {
    let settings = Shared::new("deny");
    let tmpfs = Tmpfs::new("huge=always");
    let at = shared(tmpfs.file(PAGES), PAGES);
    put(at, 1);
    assert_eq!(mapped_kib(at), 0);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    set("shmem_enabled", "force");
    let never = Tmpfs::new("huge=never");
    let at = shared(never.file(PAGES), PAGES);
    put(at, 1);
    need_whole(at);
    assert_eq!(mapped_kib(at), KIB);
    drop(settings);
}

fn a_write_makes_a_huge_page() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(0);
    assert_eq!(crate::sys::write(fd, b"begin").unwrap(), 5);
    if blocks_kib(fd) == 4 {
        skip!("no huge page was free");
    }
    assert_eq!(blocks_kib(fd), KIB);
    let at = shared(fd, PAGES);
    assert_eq!(get(at + 1), b'e');
    // As a whole it is mapped beyond the file's last page, too.
    assert_eq!(crate::fault::try_read(at + PAGE), Ok(0));
    let within = Tmpfs::new("huge=within_size");
    let fd = within.file(0);
    crate::sys::write(fd, b"begin").unwrap();
    assert_eq!(blocks_kib(fd), 4);
}

fn fallocate_makes_huge_pages() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(0);
    sys!(libc::SYS_fallocate, fd, 0, 0, HUGE + PAGE).unwrap();
    if blocks_kib(fd) == KIB + 4 {
        skip!("no huge page was free");
    }
    assert_eq!(blocks_kib(fd), 2 * KIB);
    let at = shared(fd, PAGES);
    verify_zero(at, PAGES);
    assert_eq!(mapped_kib(at), KIB);
}

fn a_hole_parts_it() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(2 * PAGES);
    let at = shared(fd, 2 * PAGES);
    fill(at, 2 * PAGES, 3);
    need_whole(at);
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let before = vmstat("thp_split_page");
    sys!(libc::SYS_fallocate, fd, PUNCH, 10 * PAGE, 20 * PAGE).unwrap();
    assert_eq!(blocks_kib(fd), 2 * KIB - 80);
    assert_eq!(vmstat("thp_split_page") - before, 1);
    verify(at, 10, 3);
    verify_zero(at + 10 * PAGE, 20);
    assert_eq!(smaps(at, ["ShmemPmdMapped"]), [KIB]);
    // All of one is given back as a whole.
    sys!(libc::SYS_fallocate, fd, PUNCH, HUGE, HUGE).unwrap();
    assert_eq!(vmstat("thp_split_page") - before, 1);
    verify_zero(at + HUGE, PAGES);
    assert_eq!(mapped_kib(at), KIB);
}

fn truncation_parts_it() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(PAGES);
    let at = shared(fd, PAGES);
    fill(at, PAGES, 4);
    need_whole(at);
    sys!(libc::SYS_ftruncate, fd, 100 * PAGE + 50).unwrap();
    assert_eq!(blocks_kib(fd), 404);
    verify(at, 100, 4);
    assert!(crate::fault::try_read(at + 101 * PAGE).is_err());
    assert_eq!(get(at + 100 * PAGE + 50), 0);
    sys!(libc::SYS_ftruncate, fd, HUGE).unwrap();
    verify_zero(at + 101 * PAGE, PAGES - 101);
    sys!(libc::SYS_ftruncate, fd, 0).unwrap();
    assert_eq!(blocks_kib(fd), 0);
}

fn an_area_that_ends_within_maps_small_pages() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(PAGES);
    put(shared(fd, PAGES - 1) + 3 * PAGE, 1);
    assert_eq!(blocks_kib(fd), 4, "it does not bring a huge page in either");
    let fd = tmpfs.file(PAGES);
    let whole = shared(fd, PAGES);
    put(whole + 3 * PAGE, 1);
    need_whole(whole);
    let at = shared(fd, PAGES - 1);
    assert_eq!(get(at + 3 * PAGE), 1);
    // Eligible is what has room for any size, also for sizes that it does not get.
    assert_eq!(smaps(at, ["ShmemPmdMapped", "THPeligible"]), [0, 1]);
    // At another distance from a boundary than in the file.
    let room = map(2);
    let odd = mmap(room + PAGE, HUGE, RW, libc::MAP_SHARED | libc::MAP_FIXED, fd, 0).unwrap();
    assert_eq!(get(odd + 3 * PAGE), 1);
    assert_eq!(smaps(odd, ["ShmemPmdMapped", "THPeligible"]), [0, 0]);
}

fn unmapping_a_part_unmaps_the_huge_entry() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(PAGES);
    let at = shared(fd, PAGES);
    fill(at, PAGES, 5);
    need_whole(at);
    munmap(at + 100 * PAGE, 1).unwrap();
    assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [0, 0]);
    assert_eq!(nodes_at(at, 1), [-ENOENT]);
    assert!(resident(at, 100).unwrap().iter().all(|there| *there), "in the file it is");
    verify(at, 100, 5);
    let whole = shared(fd, PAGES);
    verify(whole, PAGES, 5);
    assert_eq!(mapped_kib(whole), KIB);
    madvise(whole + 5 * PAGE, 1, libc::MADV_DONTNEED).unwrap();
    assert_eq!(smaps(whole, ["ShmemPmdMapped", "Rss"]), [0, 0]);
    verify(whole, PAGES, 5);
    crate::memory::mprotect(whole, 7, libc::PROT_READ).unwrap();
    verify(whole, PAGES, 5);
}

fn a_private_mapping_copies_small_pages() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(PAGES);
    let at = shared(fd, PAGES);
    fill(at, PAGES, 6);
    need_whole(at);
    let private = map_at_boundary(fd, PAGES, libc::MAP_PRIVATE);
    verify(private, PAGES, 6);
    assert_eq!(smaps(private, ["ShmemPmdMapped", "Anonymous"]), [KIB, 0]);
    put(private + 9 * PAGE, !get(private + 9 * PAGE));
    assert_eq!(smaps(private, ["ShmemPmdMapped", "Anonymous"]), [0, 4]);
    verify(at, PAGES, 6);
    verify(private, 9, 6);
    verify(private + 10 * PAGE, 0, 6);
    assert_ne!(get(private + 9 * PAGE), get(at + 9 * PAGE));
}

fn a_child_maps_it_anew() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(PAGES);
    let at = shared(fd, PAGES);
    fill(at, PAGES, 7);
    need_whole(at);
    run(|| {
        assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [0, 0]);
        verify(at, PAGES, 7);
        assert_eq!(mapped_kib(at), KIB);
        fill(at, PAGES, 8);
    });
    verify(at, PAGES, 8);
    assert_eq!(mapped_kib(at), KIB);
}

fn policies_of_the_object_place_it() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    for &node in &at_least(2) {
        let fd = tmpfs.file(PAGES);
        let at = shared(fd, PAGES);
        mbind(at, PAGES, BIND, &[node], 0).unwrap();
        put(at + 7 * PAGE, 1);
        need_whole(at);
        all_on(at, PAGES, node);
        close(fd);
        munmap(at, PAGES).unwrap();
    }
}

fn shared_memory_interleaves_by_huge_pages() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let tmpfs = Tmpfs::new("huge=always");
    let count = 2 * nodes.len();
    let fd = tmpfs.file(count * PAGES);
    let at = shared(fd, count * PAGES);
    mbind(at, count * PAGES, INTERLEAVE, &nodes, 0).unwrap();
    touch(at, count);
    if mapped_kib(at) != count as u64 * KIB {
        skip!("too few huge pages are free");
    }
    let mut stat: libc::stat = crate::sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    let expected = |page: usize| nodes[(stat.st_ino as usize + page) % nodes.len()] as i32;
    let expected: Vec<i32> = (0..count).map(expected).collect();
    assert_eq!(where_are(at, count), expected);
}

fn it_moves_whole() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(2 * PAGES);
    let at = shared(fd, 2 * PAGES);
    mbind(at, 2 * PAGES, BIND, &nodes[..1], 0).unwrap();
    fill(at, 2 * PAGES, 9);
    need_whole(at);
    mbind(at, 2 * PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    all_on(at, 2 * PAGES, nodes[1]);
    assert_eq!(mapped_kib(at), 2 * KIB);
    verify(at, 2 * PAGES, 9);
    let to = nodes[0] as i32;
    assert_eq!(move_pages(0, &[at + 77 * PAGE], Some(&[to]), MOVE), Ok((0, vec![to])));
    all_on(at, PAGES, nodes[0]);
    all_on(at + HUGE, PAGES, nodes[1]);
    assert_eq!(mapped_kib(at), 2 * KIB);
    verify(at, 2 * PAGES, 9);
    fill(at, 2 * PAGES, 10);
    let other = shared(fd, 2 * PAGES);
    verify(other, 2 * PAGES, 10);
}

fn collapse_gathers_small_pages() {
    let _settings = Settings::always();
    let nodes = at_least(1);
    for shmem in [memfd(2 * PAGES), Tmpfs::new("huge=never").file(2 * PAGES)] {
        let at = shared(shmem, 2 * PAGES);
        let far = *nodes.last().unwrap();
        mbind(at, 2 * PAGES, BIND, &[far], 0).unwrap();
        fill(at, PAGES, 11);
        put(at + HUGE + 5 * PAGE, 5);
        assert_eq!(mapped_kib(at), 0);
        let before = vmstat("thp_collapse_alloc");
        match madvise(at, 2 * PAGES, COLLAPSE) {
            Err(Errno(libc::ENOMEM)) => skip!("no huge page was free"),
            answer => assert_eq!(answer, Ok(0)),
        }
        assert_eq!(vmstat("thp_collapse_alloc") - before, 2);
        assert_eq!(smaps(at, ["ShmemPmdMapped", "Rss"]), [2 * KIB; 2]);
        assert_eq!(blocks_kib(shmem), 2 * KIB);
        all_on(at, 2 * PAGES, far);
        verify(at, PAGES, 11);
        assert_eq!(get(at + HUGE + 5 * PAGE), 5);
        put(at + HUGE + 5 * PAGE, 0);
        verify_zero(at + HUGE, PAGES);
        let other = shared(shmem, 2 * PAGES);
        verify(other, PAGES, 11);
        assert_eq!(mapped_kib(other), KIB);
        assert_eq!(madvise(at, 2 * PAGES, COLLAPSE), Ok(0));
    }
}

fn collapse_of_nothing_is_refused() {
    let _settings = Settings::always();
    let at = shared(memfd(PAGES), PAGES);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    madvise(at, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    put(at, 1);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
}

fn shared_huge_pages_count_where_they_lie() {
    let _settings = Settings::always();
    let tmpfs = Tmpfs::new("huge=always");
    let fd = tmpfs.file(4 * PAGES);
    let at = shared(fd, 4 * PAGES);
    put(at, 1);
    need_whole(at);
    let node = node_at(at) as usize;
    let before = ["ShmemHugePages", "ShmemPmdMapped"].map(|key| meminfo(node, key));
    mbind(at, 4 * PAGES, BIND, &[node], 0).unwrap();
    touch(at, 4);
    if mapped_kib(at) != 4 * KIB {
        skip!("too few huge pages are free");
    }
    let now = ["ShmemHugePages", "ShmemPmdMapped"].map(|key| meminfo(node, key));
    assert_eq!([now[0] - before[0], now[1] - before[1]], [3 * KIB; 2]);
    munmap(at, 4 * PAGES).unwrap();
    let unmapped = ["ShmemHugePages", "ShmemPmdMapped"].map(|key| meminfo(node, key));
    assert_eq!([now[0] - unmapped[0], now[1] - unmapped[1]], [0, 4 * KIB]);
    sys!(libc::SYS_ftruncate, fd, 0).unwrap();
    assert_eq!(unmapped[0] - meminfo(node, "ShmemHugePages"), 4 * KIB);
}
