//! Which events can be opened, and with what the others are refused.

use libc::{E2BIG, EACCES, EBADF, EINVAL, ENOENT, EOPNOTSUPP, ESRCH};

use super::*;
use crate::child::run;
use crate::harness::tests;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    software_events_are_there,
    unknown_events_are_not,
    sizes_are_checked_and_the_known_one_is_told,
    contradictions_are_refused,
    targets_are_checked,
    heirs_samples_with_counts_need_their_ids,
    groups_are_checked,
    other_users_see_only_themselves,
    requests_are_checked,
];

fn software_events_are_there() {
    for config in 0..10 {
        let event = Attr::software(config).flags(DISABLED).open();
        assert_eq!(event.count(), 0, "event {config}");
    }
}

fn heirs_samples_with_counts_need_their_ids() {
    const TID: u64 = 1 << 1;
    const READ: u64 = 1 << 4;
    let open = |sampled: u64, flags: u64| {
        let mut attr = Attr::software(FAULTS).sample(1000, sampled).flags(DISABLED | flags);
        attr.try_open(0, -1, -1, 0).map(|fd| sys::close(fd as i32))
    };
    fails(open(READ, INHERIT), EINVAL);
    open(READ | TID, INHERIT).unwrap();
    open(READ, 0).unwrap();
}

fn unknown_events_are_not() {
    fails(Attr::software(12).try_open(0, -1, -1, 0), ENOENT);
    fails(Attr::software(1 << 40).try_open(0, -1, -1, 0), ENOENT);
    fails(Attr::of(0x7fff, 0).try_open(0, -1, -1, 0), ENOENT);
    const BRANCH_STACK: u64 = 1 << 11;
    let mut attr = Attr::software(FAULTS).sample(1, BRANCH_STACK);
    attr.0[9] = 1 | 1 << 3;
    fails(attr.try_open(0, -1, -1, 0), EOPNOTSUPP);
}

fn sizes_are_checked_and_the_known_one_is_told() {
    for size in [0, 64, 72, 112, 120, 128] {
        let fd = Attr::software(DUMMY).size(size).try_open(0, -1, -1, 0).unwrap();
        sys::close(fd as i32);
    }
    for size in [1, 63, 5000] {
        let mut attr = Attr::software(DUMMY).size(size);
        fails(attr.try_open(0, -1, -1, 0), E2BIG);
        assert!(
            attr.told_size() >= 128 && attr.told_size().is_multiple_of(8),
            "{}",
            attr.told_size()
        );
    }
    // Beyond what the kernel knows there must be zeroes.
    let mut long = [0u64; 64];
    long[..17].copy_from_slice(&Attr::software(DUMMY).size(512).0);
    let open = |at: *mut u64| sys!(libc::SYS_perf_event_open, at, 0, -1, -1, 0);
    sys::close(open(long.as_mut_ptr()).unwrap() as i32);
    long[60] = 1;
    fails(open(long.as_mut_ptr()), E2BIG);
    fails(open(std::ptr::dangling_mut()), libc::EFAULT);
}

fn contradictions_are_refused() {
    let refused = [
        Attr::software(FAULTS).sample(1, 1 << 25),
        Attr::software(FAULTS).sample(1, 1 << 60),
        Attr::software(FAULTS).read_format(1 << 5),
        Attr::software(FAULTS).flags(1 << 39),
        Attr::software(FAULTS).sample(1, S_REGS_USER),
        Attr::software(FAULTS).flags(FREQ).sample(2_000_000_000, S_IP),
        Attr::software(FAULTS).sample(1 << 63, S_IP),
    ];
    for mut attr in refused {
        fails(attr.try_open(0, -1, -1, 0), EINVAL);
    }
    let mut stack = Attr::software(FAULTS).sample(1, S_STACK_USER);
    stack.0[11] = 9;
    fails(stack.try_open(0, -1, -1, 0), EINVAL);
    fails(Attr::software(FAULTS).try_open(0, -1, -1, 1 << 4), EINVAL);
}

fn targets_are_checked() {
    let mut attr = Attr::software(FAULTS);
    fails(attr.try_open(-1, -1, -1, 0), EINVAL);
    fails(attr.try_open(0, 1 << 20, -1, 0), EINVAL);
    fails(attr.try_open(0x3fff_fff0, -1, -1, 0), ESRCH);
    fails(attr.try_open(-2, -1, -1, 0), ESRCH);
    fails(attr.try_open(0, -1, 800, 0), EBADF);
    let file = sys::open("/proc/self/status", libc::O_RDONLY, 0).unwrap();
    fails(attr.try_open(0, -1, file, 0), EBADF);
    const CLOEXEC: usize = 8;
    let event = Event(attr.try_open(0, -1, -1, CLOEXEC).unwrap() as i32);
    assert_eq!(sys!(libc::SYS_fcntl, event.0, libc::F_GETFD, 0).unwrap(), 1);
    let whole = attr.try_open(-1, 0, -1, 0).unwrap();
    sys::close(whole as i32);
}

fn groups_are_checked() {
    let leader = Attr::software(FAULTS).open();
    let member = Attr::software(SWITCHES).open_in(&leader);
    fails(Attr::software(FAULTS).try_open(0, -1, member.0, 0), EINVAL);
    fails(Attr::software(FAULTS).flags(PINNED).try_open(0, -1, leader.0, 0), EINVAL);
    fails(Attr::software(FAULTS).flags(INHERIT).try_open(0, -1, leader.0, 0), EINVAL);
    fails(Attr::software(FAULTS).try_open(0, 0, leader.0, 0), EINVAL);
    fails(Attr::software(FAULTS).try_open(-1, 0, leader.0, 0), EINVAL);
}

fn other_users_see_only_themselves() {
    const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
    let before = std::fs::read_to_string(PARANOID).unwrap();
    std::fs::write(PARANOID, "2").unwrap();
    run(|| {
        sys!(libc::SYS_setresgid, 1000, 1000, 1000).unwrap();
        sys!(libc::SYS_setresuid, 1000, 1000, 1000).unwrap();
        let own = Attr::software(FAULTS).flags(EXCLUDE_KERNEL);
        let event = own.open();
        assert!(event.during(|| crate::memory::touch(crate::memory::map(4), 4)) >= 4);
        fails(Attr::software(FAULTS).try_open(0, -1, -1, 0), EACCES);
        fails({ own }.try_open(-1, 0, -1, 0), EACCES);
        fails({ own }.try_open(1, -1, -1, 0), EACCES);
    });
    std::fs::write(PARANOID, before.trim()).unwrap();
}

fn requests_are_checked() {
    let counts = Attr::software(FAULTS).open();
    fails(counts.ioctl(REFRESH, 1), EINVAL);
    let period = 5u64;
    fails(counts.ioctl(PERIOD, &raw const period as usize), EINVAL);
    fails(counts.ioctl(SET_OUTPUT, counts.0 as usize), EINVAL);
    fails(counts.ioctl(SET_OUTPUT, 800), EBADF);
    fails(counts.ioctl(PAUSE_OUTPUT, 1), EINVAL);
    fails(counts.ioctl(0x2499, 0), libc::ENOTTY);
    fails(counts.ioctl(ID, 8), libc::EFAULT);
    let mut other = Attr::software(FAULTS);
    fails(counts.ioctl(MODIFY_ATTRIBUTES, other.0.as_mut_ptr() as usize), EOPNOTSUPP);
    let mut byte = [0u8; 4];
    fails(sys::read(counts.0, &mut byte), libc::ENOSPC);
    let samples = Attr::software(FAULTS).sample(10, S_IP).open();
    samples.ioctl(PERIOD, &raw const period as usize).unwrap();
    let none = 0u64;
    fails(samples.ioctl(PERIOD, &raw const none as usize), EINVAL);
}
