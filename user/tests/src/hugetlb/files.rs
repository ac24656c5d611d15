//! Files of huge pages: memfds, hugetlbfs and its share of the pool, System V segments.

use libc::{EINVAL, ENODEV, ENOMEM, ENOSPC, EPERM};

use super::*;
use crate::harness::tests;
use crate::memory::{get, put};
use crate::numa::{BIND, at_least, mbind};
use crate::sys::{c, close, fails, open, read, sys, write as write_to};

pub const TESTS: &[Test] = tests![
    a_memfd_of_huge_pages_is_mapped_and_read,
    memfds_of_sizes_that_there_are_not_are_refused,
    lengths_of_files_are_whole_huge_pages,
    huge_files_are_not_written_but_through_mappings,
    fallocate_makes_pages_and_holes_free_them,
    truncation_frees_pages_and_what_was_mapped_is_sigbus,
    a_file_keeps_its_pages_without_a_mapping,
    a_private_mapping_of_a_file_copies_what_it_writes,
    hugetlbfs_holds_its_files_to_its_size,
    what_a_hole_or_a_truncation_frees_is_room_in_hugetlbfs_again,
    hugetlbfs_reserves_its_least_size,
    hugetlbfs_refuses_what_it_does_not_know,
    hugetlbfs_tells_its_options_and_numbers,
    huge_segments_reserve_when_they_are_made,
    huge_segments_are_for_who_may,
    a_files_pages_go_where_each_mapping_says,
];

const MFD_HUGETLB: u32 = 4;
const DIR: &str = "/tmp/hugetlb-test";
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const RDWR: i32 = libc::O_RDWR | libc::O_CREAT;

#[track_caller]
fn memfd(pages: usize) -> i32 {
    let fd = sys!(libc::SYS_memfd_create, c("huge").as_ptr(), MFD_HUGETLB).unwrap() as i32;
    sys!(libc::SYS_ftruncate, fd, pages * HUGE).unwrap();
    fd
}

#[track_caller]
fn map_file(fd: i32, pages: usize, offset: usize, flags: i32) -> usize {
    mmap(0, pages * HUGE, RW, flags, fd, offset * HUGE).unwrap()
}

fn a_memfd_of_huge_pages_is_mapped_and_read() {
    let _pool = Pool::of(&[3]);
    let fd = memfd(2);
    assert_eq!(counts(), [3, 3, 0, 0]);
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    assert_eq!(counts(), [3, 3, 2, 0]);
    put(at + HUGE + 5000, 42);
    let mut buffer = [1u8; 3];
    sys!(libc::SYS_pread64, fd, buffer.as_mut_ptr(), 3, HUGE + 4999).unwrap();
    assert_eq!(buffer, [0, 42, 0]);
    // A hole is read as zeroes, and stays one.
    sys!(libc::SYS_pread64, fd, buffer.as_mut_ptr(), 3, 100).unwrap();
    assert_eq!(buffer, [0; 3]);
    assert_eq!(counts(), [3, 2, 1, 0]);
    let again = map_file(fd, 1, 1, libc::MAP_SHARED);
    assert_eq!(get(again + 5000), 42);
    let name = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(name.to_str(), Some("/memfd:huge (deleted)"));
    let mut stat: libc::stat = crate::sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!((stat.st_size, stat.st_blksize), (2 * HUGE as i64, HUGE as i64));
    assert_eq!(stat.st_blocks, (HUGE / 512) as i64);
    unmap(at, 2);
    unmap(again, 1);
    close(fd);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn memfds_of_sizes_that_there_are_not_are_refused() {
    let create = |flags: u32| sys!(libc::SYS_memfd_create, c("huge").as_ptr(), flags);
    close(create(MFD_HUGETLB | 21 << 26).unwrap() as i32);
    fails(create(MFD_HUGETLB | 22 << 26), ENODEV);
    fails(create(21 << 26), EINVAL);
    fails(create(MFD_HUGETLB | 1 << 20), EINVAL);
}

fn lengths_of_files_are_whole_huge_pages() {
    let _pool = Pool::of(&[2]);
    let fd = memfd(1);
    fails(sys!(libc::SYS_ftruncate, fd, HUGE + 4096), EINVAL);
    // A length that is no multiple is rounded up, an offset is refused.
    fails(mmap(0, HUGE, RW, libc::MAP_SHARED, fd, PAGE), EINVAL);
    let at = mmap(0, 1, RW, libc::MAP_SHARED, fd, 0).unwrap();
    put(at + HUGE - 1, 1);
    unmap(at, 1);
    close(fd);
}

fn huge_files_are_not_written_but_through_mappings() {
    let _pool = Pool::of(&[1]);
    let fd = memfd(1);
    fails(write_to(fd, b"x"), EINVAL);
    fails(sys!(libc::SYS_pwrite64, fd, c("x").as_ptr(), 1, 0), EINVAL);
    let mut byte = [9];
    assert_eq!(read(fd, &mut byte), Ok(1));
    assert_eq!(byte, [0]);
    close(fd);
}

fn fallocate_makes_pages_and_holes_free_them() {
    let _pool = Pool::of(&[3]);
    let fd = memfd(0);
    let fallocate =
        |mode: i32, off: usize, len: usize| sys!(libc::SYS_fallocate, fd, mode, off, len);
    fallocate(0, 0, 2 * HUGE).unwrap();
    assert_eq!(counts(), [3, 1, 0, 0]);
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    touch(at, 2);
    let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(hole, 0, HUGE + 4096).unwrap();
    assert_eq!(counts()[..2], [3, 2]);
    // The rest of the hole is zeroes.
    assert_eq!(get(at + HUGE), 0);
    assert_eq!(get(at), 0);
    fails(fallocate(libc::FALLOC_FL_PUNCH_HOLE, 0, HUGE), libc::EOPNOTSUPP);
    fails(fallocate(0, 0, 5 * HUGE), ENOSPC);
    unmap(at, 2);
    close(fd);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn truncation_frees_pages_and_what_was_mapped_is_sigbus() {
    let _pool = Pool::of(&[3]);
    let fd = memfd(3);
    let at = map_file(fd, 3, 0, libc::MAP_SHARED);
    touch(at, 2);
    assert_eq!(counts(), [3, 1, 1, 0]);
    sys!(libc::SYS_ftruncate, fd, HUGE).unwrap();
    assert_eq!(counts(), [3, 2, 0, 0]);
    assert_eq!(get(at), 1);
    bus_error(at + HUGE);
    bus_error(at + 2 * HUGE);
    unmap(at, 3);
    close(fd);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn a_file_keeps_its_pages_without_a_mapping() {
    let _pool = Pool::of(&[2]);
    let fd = memfd(2);
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    put(at, 5);
    unmap(at, 2);
    // The page, and the reservation of the other one.
    assert_eq!(counts(), [2, 1, 1, 0]);
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    assert_eq!((get(at), counts()), (5, [2, 1, 1, 0]));
    unmap(at, 2);
    close(fd);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn a_private_mapping_of_a_file_copies_what_it_writes() {
    let _pool = Pool::of(&[4]);
    let fd = memfd(2);
    let shared = map_file(fd, 2, 0, libc::MAP_SHARED);
    put(shared, 1);
    let private = map_file(fd, 2, 0, libc::MAP_PRIVATE);
    assert_eq!(get(private), 1);
    put(shared, 2);
    assert_eq!(get(private), 2);
    put(private, 3);
    put(shared, 4);
    assert_eq!((get(private), get(shared)), (3, 4));
    // Where the file has no page the mapping's own is zeroes, and stays its own.
    assert_eq!(get(private + HUGE), 0);
    put(shared + HUGE, 6);
    assert_eq!(get(private + HUGE), 0);
    unmap(private, 2);
    unmap(shared, 2);
    close(fd);
    assert_eq!(counts(), [4, 4, 0, 0]);
}

/// A hugetlbfs on a directory of the test's own.
struct Mounted;

impl Mounted {
    fn with(options: &str) -> Result<Self> {
        let _ = fs::create_dir(DIR);
        let (dir, kind, options) = (c(DIR), c("hugetlbfs"), c(options));
        sys!(libc::SYS_mount, kind.as_ptr(), dir.as_ptr(), kind.as_ptr(), 0, options.as_ptr())?;
        Ok(Self)
    }

    #[track_caller]
    fn file(&self, name: &str) -> i32 {
        open(&format!("{DIR}/{name}"), RDWR, 0o600).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = sys!(libc::SYS_umount2, c(DIR).as_ptr(), 0);
    }
}

fn hugetlbfs_holds_its_files_to_its_size() {
    let _pool = Pool::of(&[4]);
    let mounted = Mounted::with("size=4M").unwrap();
    let fd = mounted.file("a");
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    // A mapping makes the file as long as it is.
    assert_eq!(fs::metadata(format!("{DIR}/a")).unwrap().len(), 2 * HUGE as u64);
    assert_eq!(counts(), [4, 4, 2, 0]);
    let other = mounted.file("b");
    fails(mmap(0, HUGE, RW, libc::MAP_SHARED, other, 0), ENOMEM);
    touch(at, 2);
    fails(sys!(libc::SYS_fallocate, other, 0, 0, HUGE), ENOSPC);
    unmap(at, 2);
    fs::remove_file(format!("{DIR}/a")).unwrap();
    close(fd);
    assert_eq!(counts(), [4, 4, 0, 0]);
    sys!(libc::SYS_fallocate, other, 0, 0, 2 * HUGE).unwrap();
    assert_eq!(counts(), [4, 2, 0, 0]);
    close(other);
    drop(mounted);
    assert_eq!(counts(), [4, 4, 0, 0]);
}

fn what_a_hole_or_a_truncation_frees_is_room_in_hugetlbfs_again() {
    let _pool = Pool::of(&[4]);
    let mounted = Mounted::with("size=4M").unwrap();
    let (fd, other) = (mounted.file("a"), mounted.file("b"));
    let fallocate = |fd: i32, mode: i32| sys!(libc::SYS_fallocate, fd, mode, 0, 2 * HUGE);
    for _ in 0..2 {
        fallocate(fd, 0).unwrap();
        fails(sys!(libc::SYS_fallocate, other, 0, 0, HUGE), ENOSPC);
        fallocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE).unwrap();
        fallocate(other, 0).unwrap();
        assert_eq!(counts(), [4, 2, 0, 0]);
        sys!(libc::SYS_ftruncate, other, 0).unwrap();
        assert_eq!(counts(), [4, 4, 0, 0]);
    }
    // What was reserved and never touched, too.
    let at = map_file(fd, 2, 0, libc::MAP_SHARED);
    unmap(at, 2);
    assert_eq!(counts(), [4, 4, 2, 0]);
    fails(fallocate(other, 0), ENOSPC);
    sys!(libc::SYS_ftruncate, fd, 0).unwrap();
    fallocate(other, 0).unwrap();
    close(fd);
    close(other);
}

fn hugetlbfs_reserves_its_least_size() {
    let _pool = Pool::of(&[3]);
    assert!(Mounted::with("min_size=8M").is_err());
    assert_eq!(counts(), [3, 3, 0, 0]);
    let mounted = Mounted::with("min_size=4M").unwrap();
    assert_eq!(counts(), [3, 3, 2, 0]);
    let fd = mounted.file("a");
    let at = map_file(fd, 3, 0, libc::MAP_SHARED);
    assert_eq!(counts(), [3, 3, 3, 0]);
    touch(at, 3);
    assert_eq!(counts(), [3, 0, 0, 0]);
    unmap(at, 3);
    fs::remove_file(format!("{DIR}/a")).unwrap();
    close(fd);
    assert_eq!(counts(), [3, 3, 2, 0]);
    drop(mounted);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn hugetlbfs_refuses_what_it_does_not_know() {
    for options in ["bogus", "size=x", "pagesize=3M", "size=2M,min_size=4M", "mode=9"] {
        let mounted = Mounted::with(options);
        assert_eq!(mounted.map(drop).map_err(|e| e.0), Err(EINVAL), "{options}");
    }
}

fn hugetlbfs_tells_its_options_and_numbers() {
    let _pool = Pool::of(&[4]);
    let mounted = Mounted::with("size=6M,nr_inodes=5,mode=0700,uid=3,pagesize=2M").unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(DIR)).unwrap();
    let wanted = "hugetlbfs rw,relatime,uid=3,mode=700,nr_inodes=5,pagesize=2M,size=6291456 0 0";
    assert!(line.ends_with(wanted), "{line}");
    let fd = mounted.file("a");
    let at = map_file(fd, 1, 0, libc::MAP_SHARED);
    let mut numbers: libc::statfs = crate::sys::zeroed();
    sys!(libc::SYS_statfs, c(DIR).as_ptr(), &raw mut numbers).unwrap();
    assert_eq!((numbers.f_type, numbers.f_bsize), (HUGETLBFS_MAGIC, HUGE as u64));
    assert_eq!((numbers.f_blocks, numbers.f_bfree), (3, 2));
    assert_eq!((numbers.f_files, numbers.f_ffree), (5, 3));
    assert!(fs::read_to_string("/proc/filesystems").unwrap().contains("nodev\thugetlbfs\n"));
    unmap(at, 1);
    close(fd);
}

const SHM_HUGETLB: i32 = 0o4000;

fn huge_segments_reserve_when_they_are_made() {
    let _pool = Pool::of(&[3]);
    let shmget = |len: usize, flags: i32| sys!(libc::SYS_shmget, 0, len, flags | 0o600);
    fails(shmget(4 * HUGE, SHM_HUGETLB), ENOMEM);
    fails(shmget(HUGE, SHM_HUGETLB | 22 << 26), EINVAL);
    let id = shmget(HUGE + 1, SHM_HUGETLB).unwrap();
    assert_eq!(counts(), [3, 3, 2, 0]);
    let at = sys!(libc::SYS_shmat, id, 0, 0).unwrap();
    assert_eq!(at % HUGE, 0);
    touch(at, 2);
    assert_eq!(counts(), [3, 1, 0, 0]);
    let line = crate::numa::numa_maps_line(at).unwrap();
    assert!(line.contains(" huge dirty=2 "), "{line}");
    sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0).unwrap();
    assert_eq!(get(at + HUGE), 2);
    sys!(libc::SYS_shmdt, at).unwrap();
    assert_eq!(counts(), [3, 3, 0, 0]);
    // Without a reservation.
    let id = shmget(5 * HUGE, SHM_HUGETLB | 0o10000).unwrap();
    assert_eq!(counts(), [3, 3, 0, 0]);
    sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0).unwrap();
}

fn huge_segments_are_for_who_may() {
    let _pool = Pool::of(&[1]);
    let group = "/proc/sys/vm/hugetlb_shm_group";
    let make = |gid: u32| {
        crate::child::run(|| {
            sys!(libc::SYS_setresgid, gid, gid, gid).unwrap();
            sys!(libc::SYS_setgroups, 0, 0).unwrap();
            sys!(libc::SYS_setresuid, 1000, 1000, 1000).unwrap();
            let made = sys!(libc::SYS_shmget, 0, HUGE, SHM_HUGETLB | 0o600);
            if gid == 77 {
                sys!(libc::SYS_shmctl, made.unwrap(), libc::IPC_RMID, 0).unwrap();
            } else {
                fails(made, EPERM);
            }
        });
    };
    make(76);
    write(group, 77);
    make(77);
    make(76);
    write(group, 0);
}

fn a_files_pages_go_where_each_mapping_says() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let fd = memfd(3);
    let at = map_file(fd, 3, 0, libc::MAP_SHARED);
    let other = map_file(fd, 3, 0, libc::MAP_SHARED);
    mbind(at, 3 * PAGES, BIND, &nodes[1..2], 0).unwrap();
    touch(at, 1);
    assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    // The other mapping has no policy from that.
    mbind(other, 3 * PAGES, BIND, &nodes[..1], 0).unwrap();
    touch(other + HUGE, 1);
    assert_eq!(where_are(at, 2), [nodes[1] as i32, -libc::ENOENT]);
    assert_eq!(get(at + HUGE), 1);
    assert_eq!(where_are(at, 2), [nodes[1] as i32, nodes[0] as i32]);
    unmap(at, 3);
    unmap(other, 3);
    close(fd);
    assert_eq!(counts(), [4, 4, 0, 0]);
}
