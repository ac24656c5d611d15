//! Seals of memfds.

use libc::{EBUSY, EINVAL, EPERM, F_ADD_SEALS, F_GET_SEALS};
use libc::{F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE};

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    sealing_must_be_asked_for_at_birth,
    a_file_sealed_against_shrinking_does_not,
    a_file_sealed_against_growing_does_not,
    a_file_sealed_against_writing_is_not_written,
    a_file_mapped_for_writing_is_not_sealed_against_it,
    future_writes_are_sealed_while_the_present_mapping_lives_on,
    a_seal_on_the_seals_ends_sealing,
    what_is_no_memfd_has_no_seals,
    memfd_create_refuses_unknown_flags_and_long_names,
    a_memfd_is_named_in_proc,
];

fn sealable(pages: usize) -> i32 {
    memfd_with(pages, libc::MFD_ALLOW_SEALING)
}

fn seal(fd: i32, seals: i32) -> sys::Result<usize> {
    sys!(libc::SYS_fcntl, fd, F_ADD_SEALS, seals)
}

fn seals(fd: i32) -> sys::Result<usize> {
    sys!(libc::SYS_fcntl, fd, F_GET_SEALS)
}

fn truncate(fd: i32, pages: usize) -> sys::Result<usize> {
    sys!(libc::SYS_ftruncate, fd, pages * PAGE)
}

fn sealing_must_be_asked_for_at_birth() {
    let fd = memfd(1);
    assert_eq!(seals(fd), Ok(F_SEAL_SEAL as usize));
    fails(seal(fd, F_SEAL_WRITE), EPERM);
    let fd = sealable(1);
    assert_eq!(seals(fd), Ok(0));
    seal(fd, F_SEAL_GROW).unwrap();
    assert_eq!(seals(fd), Ok(F_SEAL_GROW as usize));
}

fn a_file_sealed_against_shrinking_does_not() {
    let fd = sealable(4);
    seal(fd, F_SEAL_SHRINK).unwrap();
    fails(truncate(fd, 2), EPERM);
    truncate(fd, 8).unwrap();
}

fn a_file_sealed_against_growing_does_not() {
    let fd = sealable(4);
    seal(fd, F_SEAL_GROW).unwrap();
    fails(truncate(fd, 8), EPERM);
    fails(sys!(libc::SYS_pwrite64, fd, b"x".as_ptr(), 1, 4 * PAGE), EPERM);
    truncate(fd, 2).unwrap();
}

fn a_file_sealed_against_writing_is_not_written() {
    let fd = sealable(4);
    sys::write(fd, b"abc").unwrap();
    seal(fd, F_SEAL_WRITE).unwrap();
    fails(sys::write(fd, b"d"), EPERM);
    fails(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0), EPERM);
    let private = map_file(fd, 1, libc::MAP_PRIVATE);
    put(private, b'z');
    let shared = mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0).unwrap();
    assert_eq!(get(shared), b'a');
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fails(sys!(libc::SYS_fallocate, fd, punch, 0, PAGE), EPERM);
}

fn a_file_mapped_for_writing_is_not_sealed_against_it() {
    let fd = sealable(1);
    let at = map_file(fd, 1, libc::MAP_SHARED);
    fails(seal(fd, F_SEAL_WRITE), EBUSY);
    munmap(at, 1).unwrap();
    seal(fd, F_SEAL_WRITE).unwrap();
}

fn future_writes_are_sealed_while_the_present_mapping_lives_on() {
    let fd = sealable(1);
    let at = map_file(fd, 1, libc::MAP_SHARED);
    seal(fd, F_SEAL_FUTURE_WRITE).unwrap();
    put(at, 5);
    assert_eq!(get(at), 5);
    fails(sys::write(fd, b"x"), EPERM);
    fails(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0), EPERM);
}

fn a_seal_on_the_seals_ends_sealing() {
    let fd = sealable(1);
    seal(fd, F_SEAL_SEAL).unwrap();
    fails(seal(fd, F_SEAL_GROW), EPERM);
    fails(seal(fd, 0x100), EINVAL);
}

fn what_is_no_memfd_has_no_seals() {
    let (reader, _) = sys::pipe().unwrap();
    fails(seals(reader), EINVAL);
}

fn memfd_create_refuses_unknown_flags_and_long_names() {
    fails(sys!(libc::SYS_memfd_create, c"x".as_ptr(), 0x8000), EINVAL);
    let long = sys::c(&"x".repeat(250));
    fails(sys!(libc::SYS_memfd_create, long.as_ptr(), 0), EINVAL);
    fails(sys!(libc::SYS_memfd_create, 8, 0), libc::EFAULT);
}

fn a_memfd_is_named_in_proc() {
    let fd = memfd(1);
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(name.to_str(), Some("/memfd:tests (deleted)"));
}
