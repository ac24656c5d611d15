//! mprotect(2) and what the hardware does with rights: each fault's address and code.

use libc::{EACCES, EINVAL, ENOMEM, PROT_EXEC, PROT_NONE, PROT_READ};

use crate::fault::{self, ACCERR, Fault, MAPERR, try_exec, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_page_without_rights_faults_with_its_address,
    a_page_for_reading_is_read_and_not_written,
    rights_given_back_work_at_once,
    an_untouched_page_made_read_only_reads_as_zero,
    data_is_not_executed,
    the_stack_is_not_executed,
    the_programs_code_is_not_written,
    constants_are_not_written,
    the_null_page_is_not_mapped,
    the_kernels_half_is_out_of_reach,
    an_address_that_is_none_is_a_protection_fault_without_address,
    a_range_changes_as_a_whole_and_no_further,
    a_hole_ends_the_change_with_enomem,
    bad_arguments_of_mprotect_are_refused,
    a_read_only_file_stays_read_only_when_shared,
    the_kernel_obeys_the_rights_too,
    a_fault_without_a_handler_kills_by_sigsegv,
    a_blocked_fault_signal_kills_all_the_same,
    there_is_no_code_of_32_bits,
];

/// The instruction that returns.
const RET: u8 = 0xc3;

fn a_page_without_rights_faults_with_its_address() {
    let at = map(3);
    fill(at, 3, 1);
    mprotect(at + PAGE, 1, PROT_NONE).unwrap();
    fault::segv(try_read(at + PAGE + 123), ACCERR, at + PAGE + 123);
    fault::segv(try_write(at + PAGE, 1), ACCERR, at + PAGE);
    mprotect(at + PAGE, 1, RW).unwrap();
    verify(at, 3, 1);
}

fn a_page_for_reading_is_read_and_not_written() {
    let at = map(1);
    put(at, 5);
    mprotect(at, 1, PROT_READ).unwrap();
    assert_eq!(try_read(at), Ok(5));
    fault::segv(try_write(at + 4095, 1), ACCERR, at + 4095);
    assert_eq!(get(at + 4095), 0);
}

fn rights_given_back_work_at_once() {
    let at = map(1);
    for round in 0..200u8 {
        mprotect(at, 1, PROT_READ).unwrap();
        assert!(try_write(at, round).is_err());
        mprotect(at, 1, RW).unwrap();
        put(at, round);
    }
    assert_eq!(get(at), 199);
}

fn an_untouched_page_made_read_only_reads_as_zero() {
    let at = map(1);
    mprotect(at, 1, PROT_READ).unwrap();
    assert_eq!(try_read(at), Ok(0));
    fault::segv(try_write(at, 1), ACCERR, at);
}

fn data_is_not_executed() {
    let at = map(1);
    put(at, RET);
    fault::segv(try_exec(at), ACCERR, at);
    mprotect(at, 1, PROT_READ | PROT_EXEC).unwrap();
    assert_eq!(try_exec(at), Ok(()));
    fault::segv(try_write(at, 0), ACCERR, at);
    mprotect(at, 1, PROT_READ).unwrap();
    fault::segv(try_exec(at), ACCERR, at);
}

fn the_stack_is_not_executed() {
    let code = [RET; 16];
    let at = code.as_ptr() as usize;
    fault::segv(try_exec(at), ACCERR, at);
}

fn the_programs_code_is_not_written() {
    let at = the_programs_code_is_not_written as *const () as usize;
    fault::segv(try_write(at, 0), ACCERR, at);
}

fn constants_are_not_written() {
    let at = b"some constant".as_ptr() as usize;
    fault::segv(try_write(at, 0), ACCERR, at);
}

fn the_null_page_is_not_mapped() {
    fault::segv(try_read(0), MAPERR, 0);
    fault::segv(try_write(0xfff, 1), MAPERR, 0xfff);
    fault::segv(try_exec(0), MAPERR, 0);
}

fn the_kernels_half_is_out_of_reach() {
    for at in [0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, usize::MAX] {
        fault::segv(try_read(at), MAPERR, at);
        fault::segv(try_write(at, 1), MAPERR, at);
    }
}

fn an_address_that_is_none_is_a_protection_fault_without_address() {
    // Not canonical: the processor raises #GP, which knows no address.
    let fault = try_read(0x0123_4567_89ab_cdef);
    assert_eq!(fault, Err(Fault { signal: libc::SIGSEGV, code: 128, address: 0 }));
}

fn a_range_changes_as_a_whole_and_no_further() {
    let at = map_alone(8);
    fill(at, 8, 1);
    mprotect(at + 2 * PAGE, 4, PROT_READ).unwrap();
    for page in 0..8 {
        let writable = try_write(at + page * PAGE, 1).is_ok();
        assert_eq!(writable, !(2..6).contains(&page), "page {page}");
    }
}

fn a_hole_ends_the_change_with_enomem() {
    let at = map_alone(6);
    munmap(at + 3 * PAGE, 1).unwrap();
    fails(mprotect(at, 6, PROT_READ), ENOMEM);
    for page in 0..3 {
        assert!(try_write(at + page * PAGE, 1).is_err(), "page {page} before the hole");
    }
    for page in 4..6 {
        assert_eq!(try_write(at + page * PAGE, 1), Ok(()), "page {page} after the hole");
    }
    fails(mprotect(at + 3 * PAGE, 1, PROT_READ), ENOMEM);
}

fn bad_arguments_of_mprotect_are_refused() {
    let at = map(1);
    fails(sys!(libc::SYS_mprotect, at + 1, PAGE, PROT_READ), EINVAL);
    fails(sys!(libc::SYS_mprotect, at, PAGE, 0x10), EINVAL);
    let both = libc::PROT_GROWSDOWN | libc::PROT_GROWSUP;
    fails(sys!(libc::SYS_mprotect, at, PAGE, PROT_READ | both), EINVAL);
    fails(sys!(libc::SYS_mprotect, at, PAGE, PROT_READ | libc::PROT_GROWSDOWN), EINVAL);
    fails(sys!(libc::SYS_mprotect, at, usize::MAX - PAGE, PROT_READ), ENOMEM);
    assert_eq!(sys!(libc::SYS_mprotect, at, 0, PROT_READ), Ok(0));
    put(at, 1);
}

fn a_read_only_file_stays_read_only_when_shared() {
    let path = "/tmp/tests-protect";
    std::fs::write(path, [1u8; 4096]).unwrap();
    let fd = sys::open(path, libc::O_RDONLY, 0).unwrap();
    let shared = mmap(0, PAGE, PROT_READ, libc::MAP_SHARED, fd, 0).unwrap();
    fails(mprotect(shared, 1, RW), EACCES);
    let private = mmap(0, PAGE, PROT_READ, libc::MAP_PRIVATE, fd, 0).unwrap();
    mprotect(private, 1, RW).unwrap();
    put(private, 2);
    assert_eq!((get(shared), get(private)), (1, 2));
    let _ = std::fs::remove_file(path);
}

fn the_kernel_obeys_the_rights_too() {
    let at = map(1);
    put(at, 1);
    mprotect(at, 1, PROT_READ).unwrap();
    let (reader, writer) = sys::pipe().unwrap();
    assert_eq!(sys!(libc::SYS_write, writer, at, 1), Ok(1));
    fails(sys!(libc::SYS_read, reader, at, 1), libc::EFAULT);
    mprotect(at, 1, PROT_NONE).unwrap();
    fails(sys!(libc::SYS_write, writer, at, 1), libc::EFAULT);
}

fn a_fault_without_a_handler_kills_by_sigsegv() {
    for at in [0usize, 0xffff_8000_0000_0000] {
        let end = crate::child::end_of(|| {
            sys::on_signal_with(libc::SIGSEGV, libc::SIG_DFL, 0);
            get(at);
        });
        assert_eq!(end, 128 + libc::SIGSEGV);
    }
}

fn a_blocked_fault_signal_kills_all_the_same() {
    let end = crate::child::end_of(|| {
        crate::signal::block(&[libc::SIGSEGV]);
        put(0, 1);
    });
    assert_eq!(end, 128 + libc::SIGSEGV);
    let end = crate::child::end_of(|| {
        crate::signal::ignore(libc::SIGSEGV);
        put(0, 1);
    });
    assert_eq!(end, 128 + libc::SIGSEGV);
}

fn there_is_no_code_of_32_bits() {
    crate::harness::on_proxima_only("Linux has the segment, for programs of 32 bits");
    let exists = |selector: u32| {
        let found: u8;
        // SAFETY: LAR looks at a descriptor, and changes a register and a flag.
        unsafe {
            std::arch::asm!("lar {scratch:e}, {selector:e}", "setz {found}",
                scratch = out(reg) _, selector = in(reg) selector, found = out(reg_byte) found);
        }
        found != 0
    };
    // Linux's selectors of 64-bit code, data, and 32-bit code of users.
    assert_eq!([0x33, 0x2b, 0x23].map(exists), [true, true, false]);
}
