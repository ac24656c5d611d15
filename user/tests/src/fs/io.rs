//! Reading and writing: places, vectors, holes, copies within the kernel.

use libc::*;

use super::scratch;
use crate::harness::{Test, tests};
use crate::memory::{PAGE, fill, get, get64, map, map_file, memfd, munmap};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    reads_and_writes_move_the_place,
    pread_and_pwrite_leave_the_place,
    vectors_are_gathered_and_scattered,
    a_hole_reads_as_zero_and_takes_no_room,
    data_and_holes_are_found,
    truncation_cuts_and_extends_with_zeroes,
    appends_of_several_processes_do_not_overwrite,
    sendfile_copies_within_the_kernel,
    copy_file_range_copies,
    splice_and_tee_move_pipes_bytes,
    buffers_that_cannot_be_reached_are_efault,
    the_name_and_flags_of_a_descriptor_are_in_proc,
];

fn file() -> i32 {
    open(&(scratch() + "/a"), O_RDWR | O_CREAT, 0o600).unwrap()
}

fn size(fd: i32) -> (i64, i64) {
    let mut stat: stat = sys::zeroed();
    sys!(SYS_fstat, fd, &raw mut stat).unwrap();
    (stat.st_size, stat.st_blocks)
}

fn reads_and_writes_move_the_place() {
    let fd = file();
    assert_eq!(sys::write(fd, b"hello world"), Ok(11));
    assert_eq!(sys!(SYS_lseek, fd, 6, SEEK_SET), Ok(6));
    let mut bytes = [0; 20];
    assert_eq!(sys::read(fd, &mut bytes), Ok(5));
    assert_eq!(&bytes[..5], b"world");
    assert_eq!(sys::read(fd, &mut bytes), Ok(0));
    assert_eq!(sys!(SYS_lseek, fd, -3, SEEK_END), Ok(8));
    fails(sys!(SYS_lseek, fd, -100, SEEK_CUR), EINVAL);
    fails(sys!(SYS_lseek, fd, 0, 77), EINVAL);
    assert_eq!(sys!(SYS_lseek, fd, 0, SEEK_CUR), Ok(8));
}

fn pread_and_pwrite_leave_the_place() {
    let fd = file();
    assert_eq!(sys!(SYS_pwrite64, fd, b"abcdef".as_ptr(), 6, 10), Ok(6));
    let mut bytes = [9u8; 16];
    assert_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 16, 8), Ok(8));
    assert_eq!(&bytes[..8], b"\0\0abcdef");
    assert_eq!(sys!(SYS_lseek, fd, 0, SEEK_CUR), Ok(0));
    fails(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 16, -1), EINVAL);
}

fn vectors_are_gathered_and_scattered() {
    let fd = file();
    let parts: [&[u8]; 3] = [b"one", b"", b"three"];
    let list: Vec<[usize; 2]> = parts.iter().map(|p| [p.as_ptr() as usize, p.len()]).collect();
    assert_eq!(sys!(SYS_writev, fd, list.as_ptr(), 3), Ok(8));
    let (mut a, mut b) = ([0u8; 4], [0u8; 10]);
    let list = [[a.as_mut_ptr() as usize, 4], [b.as_mut_ptr() as usize, 10]];
    assert_eq!(sys!(SYS_preadv, fd, list.as_ptr(), 2, 0, 0), Ok(8));
    assert_eq!((&std::hint::black_box(a), &std::hint::black_box(b)[..4]), (b"onet", &b"hree"[..]));
    assert_eq!(sys!(SYS_pwritev2, fd, list.as_ptr(), 1, 100, 0, 0), Ok(4));
    assert_eq!(size(fd).0, 104);
    fails(sys!(SYS_writev, fd, list.as_ptr(), -1), EINVAL);
    fails(sys!(SYS_writev, fd, list.as_ptr(), 1025), EINVAL);
    assert_eq!(sys!(SYS_writev, fd, list.as_ptr(), 0), Ok(0));
}

fn a_hole_reads_as_zero_and_takes_no_room() {
    let fd = file();
    assert_eq!(sys!(SYS_pwrite64, fd, b"x".as_ptr(), 1, 1 << 30), Ok(1));
    assert_eq!(size(fd), ((1 << 30) + 1, 8));
    let mut bytes = [1u8; 100];
    assert_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 100, 1 << 20), Ok(100));
    assert_eq!(bytes, [0; 100]);
}

fn data_and_holes_are_found() {
    let fd = file();
    sys!(SYS_ftruncate, fd, 10 * PAGE).unwrap();
    sys!(SYS_pwrite64, fd, b"x".as_ptr(), 1, 4 * PAGE).unwrap();
    assert_eq!(sys!(SYS_lseek, fd, 0, SEEK_DATA), Ok(4 * PAGE));
    assert_eq!(sys!(SYS_lseek, fd, 4 * PAGE, SEEK_HOLE), Ok(5 * PAGE));
    assert_eq!(sys!(SYS_lseek, fd, 0, SEEK_HOLE), Ok(0));
    fails(sys!(SYS_lseek, fd, 5 * PAGE, SEEK_DATA), ENXIO);
    fails(sys!(SYS_lseek, fd, 10 * PAGE, SEEK_HOLE), ENXIO);
}

fn truncation_cuts_and_extends_with_zeroes() {
    let fd = file();
    sys::write(fd, b"abcdef").unwrap();
    sys!(SYS_ftruncate, fd, 3).unwrap();
    sys!(SYS_ftruncate, fd, 6).unwrap();
    let mut bytes = [9; 6];
    assert_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 6, 0), Ok(6));
    assert_eq!(&bytes, b"abc\0\0\0");
    fails(sys!(SYS_ftruncate, fd, -1), EINVAL);
    let path = sys::c("/tmp/no-such-file");
    fails(sys!(SYS_truncate, path.as_ptr(), 0), ENOENT);
}

fn appends_of_several_processes_do_not_overwrite() {
    let path = scratch() + "/a";
    std::fs::write(&path, "").unwrap();
    let children: Vec<i32> = (0..4u8)
        .map(|n| {
            crate::child::spawn(|| {
                let fd = open(&path, O_WRONLY | O_APPEND, 0).unwrap();
                for _ in 0..100 {
                    assert_eq!(sys::write(fd, &[b'a' + n; 10]), Ok(10));
                }
            })
        })
        .collect();
    for child in children {
        assert_eq!(crate::child::join(child), 0);
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 4000);
    assert!(bytes.chunks(10).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])));
}

fn sendfile_copies_within_the_kernel() {
    let (from, to) = (memfd(3), memfd(0));
    let at = map_file(from, 3, MAP_SHARED);
    fill(at, 3, 5);
    let mut offset = PAGE as i64;
    assert_eq!(sys!(SYS_sendfile, to, from, &raw mut offset, 2 * PAGE), Ok(2 * PAGE));
    assert_eq!(offset, 3 * PAGE as i64);
    let copy = map_file(to, 2, MAP_SHARED);
    for i in 0..2 * PAGE / 8 {
        assert_eq!(get64(copy + i * 8), get64(at + PAGE + i * 8));
    }
    let (reader, writer) = sys::pipe().unwrap();
    assert_eq!(sys!(SYS_sendfile, writer, from, 0, 100), Ok(100));
    let mut bytes = [0u8; 100];
    assert_eq!(sys::read(reader, &mut bytes), Ok(100));
    assert_eq!(bytes[0], get(at));
}

fn copy_file_range_copies() {
    let (from, to) = (file(), memfd(0));
    sys::write(from, b"0123456789").unwrap();
    let to_same = open(&(scratch() + "/b"), O_RDWR | O_CREAT, 0o600).unwrap();
    let (mut a, mut b) = (2i64, 5i64);
    let nr = SYS_copy_file_range;
    let copied = sys!(nr, from, &raw mut a, to_same, &raw mut b, 4, 0);
    assert_eq!((copied, a, b), (Ok(4), 6, 9));
    let mut bytes = [9u8; 9];
    assert_eq!(sys!(SYS_pread64, to_same, bytes.as_mut_ptr(), 9, 0), Ok(9));
    assert_eq!(&bytes, b"\0\0\0\0\x002345");
    fails(sys!(nr, from, 0, to, 0, 1, 1), EINVAL);
}

fn splice_and_tee_move_pipes_bytes() {
    let fd = file();
    sys::write(fd, b"hello").unwrap();
    let (r1, w1) = sys::pipe().unwrap();
    let (r2, w2) = sys::pipe().unwrap();
    let mut offset = 1i64;
    assert_eq!(sys!(SYS_splice, fd, &raw mut offset, w1, 0, 3, 0), Ok(3));
    assert_eq!(sys!(SYS_tee, r1, w2, 10, 0), Ok(3));
    let mut bytes = [0; 3];
    for reader in [r1, r2] {
        assert_eq!(sys::read(reader, &mut bytes), Ok(3));
        assert_eq!(&bytes, b"ell");
    }
}

fn buffers_that_cannot_be_reached_are_efault() {
    let fd = file();
    sys::write(fd, b"abc").unwrap();
    fails(sys!(SYS_pread64, fd, 8, 3, 0), EFAULT);
    fails(sys!(SYS_pwrite64, fd, 8, 3, 0), EFAULT);
    assert_eq!(sys!(SYS_pread64, fd, 8, 0, 0), Ok(0));
    let at = map(2);
    munmap(at + PAGE, 1).unwrap();
    sys!(SYS_ftruncate, fd, 2 * PAGE).unwrap();
    assert_eq!(sys!(SYS_pread64, fd, at + PAGE - 10, 100, 0), Ok(10));
}

fn the_name_and_flags_of_a_descriptor_are_in_proc() {
    let fd = file();
    sys::write(fd, b"abc").unwrap();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    assert!(text.lines().any(|line| line == "pos:\t3"), "{text}");
}
