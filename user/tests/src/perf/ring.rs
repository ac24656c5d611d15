//! The buffer: what it loses, overwrites, and when it wakes its reader.

use libc::{EINVAL, EPERM};

use super::*;
use crate::child::run;
use crate::harness::tests;
use crate::memory::*;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    shapes_are_checked,
    the_control_page_tells_of_the_buffer,
    what_a_slow_reader_loses_is_counted_exactly,
    a_buffer_without_a_tail_is_overwritten,
    a_backward_buffer_has_the_newest_at_its_head,
    readers_wake_by_number_and_by_bytes,
    a_paused_buffer_takes_nothing,
    events_can_share_a_buffer,
    only_alike_events_share_a_buffer,
    the_reader_is_signalled_as_it_wishes,
    locked_memory_has_its_limit,
];

fn faults(count: usize) {
    touch(map_alone(count), count);
}

/// Every fault of user mode is a sample.
fn every_fault(flags: u64) -> Attr {
    Attr::software(FAULTS).flags(DISABLED | EXCLUDE_KERNEL | flags).sample(1, S_ADDR)
}

fn shapes_are_checked() {
    let event = Attr::software(FAULTS).open();
    let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    let try_map = |len, flags, off| mmap(0, len, rw, flags, event.0, off);
    fails(try_map(4 * 4096, shared, 0), EINVAL);
    fails(try_map(2 * 4096, libc::MAP_PRIVATE, 0), EINVAL);
    let ring = Ring::new(&event, 4);
    fails(try_map(3 * 4096, shared, 0), EINVAL);
    let again = try_map(5 * 4096, shared, 0).unwrap();
    munmap(again, 5).unwrap();
    drop(ring);
    let only_control = try_map(4096, shared, 0).unwrap();
    munmap(only_control, 1).unwrap();
    let mut attr = Attr::software(FAULTS).flags(INHERIT);
    let inherited = Event(attr.try_open(0, -1, -1, 0).unwrap() as i32);
    fails(mmap(0, 2 * 4096, rw, shared, inherited.0, 0), EINVAL);
}

fn the_control_page_tells_of_the_buffer() {
    let event = Attr::software(FAULTS).open();
    let ring = Ring::new(&event, 2);
    assert_eq!((get64(ring.at + 1040), get64(ring.at + 1048)), (4096, 8192));
    assert_eq!(get64(ring.at) as u32, 0);
    // A child does not get it.
    run(|| {
        let mut seen = 0u8;
        fails(sys!(libc::SYS_mincore, ring.at, 4096, &raw mut seen), libc::ENOMEM);
    });
}

fn what_a_slow_reader_loses_is_counted_exactly() {
    unthrottle();
    let event = every_fault(0).open();
    let ring = Ring::new(&event, 1);
    let at = map_alone(1000);
    event.ioctl(ENABLE, 0).unwrap();
    touch(at, 1000);
    event.ioctl(DISABLE, 0).unwrap();
    let first = ring.take();
    // Of 16 bytes each, less the byte that must stay free.
    assert_eq!(first.iter().filter(|r| r.kind == 9).count(), 255);
    assert!(!first.iter().any(|r| r.kind == 2));
    event.ioctl(ENABLE, 0).unwrap();
    faults(10);
    event.ioctl(DISABLE, 0).unwrap();
    let second = ring.take();
    assert_eq!(second[0].kind, 2, "a LOST record comes first");
    let lost = second[0].words[1];
    let got = (first.len() + second.len() - 1) as u64;
    assert_eq!(got + lost, event.count());
}

fn a_buffer_without_a_tail_is_overwritten() {
    unthrottle();
    let event = every_fault(0).open();
    let ring = Ring::with(&event, 1, libc::PROT_READ).unwrap();
    let at = map_alone(600);
    event.ioctl(ENABLE, 0).unwrap();
    touch(at, 600);
    event.ioctl(DISABLE, 0).unwrap();
    let head = ring.head();
    assert_eq!(head, event.count() * 16);
    // The last sample is the last page that was touched, but for what came after it.
    let pages: Vec<u64> = (1..=256).map(|back| ring.data_word(head - back * 16 + 8)).collect();
    let last = (at + 599 * 4096) as u64;
    assert!(pages[..20].iter().any(|page| page & !4095 == last), "{:x?}", &pages[..20]);
}

fn a_backward_buffer_has_the_newest_at_its_head() {
    unthrottle();
    let event = every_fault(WRITE_BACKWARD).open();
    let ring = Ring::with(&event, 1, libc::PROT_READ).unwrap();
    let at = map_alone(600);
    event.ioctl(ENABLE, 0).unwrap();
    touch(at, 600);
    event.ioctl(DISABLE, 0).unwrap();
    let head = ring.head();
    assert_eq!(head.wrapping_neg(), event.count() * 16);
    let newest: Vec<u64> = (0..20).map(|i| ring.data_word(head.wrapping_add(i * 16 + 8))).collect();
    assert!(newest.iter().any(|page| page & !4095 == (at + 599 * 4096) as u64), "{newest:x?}");
}

fn readers_wake_by_number_and_by_bytes() {
    let event = every_fault(0).wakeup(20).open();
    let ring = Ring::new(&event, 8);
    event.ioctl(ENABLE, 0).unwrap();
    assert_eq!(event.ready(0), 0);
    faults(30);
    assert_eq!(event.ready(1000) & libc::POLLIN, libc::POLLIN);
    event.ioctl(DISABLE, 0).unwrap();
    drop((ring, event));
    let event = every_fault(WATERMARK).wakeup(1600).open();
    let _ring = Ring::new(&event, 8);
    event.ioctl(ENABLE, 0).unwrap();
    let at = map_alone(300);
    touch(at, 40);
    assert_eq!(event.ready(0) & libc::POLLIN, 0);
    touch(at, 300);
    assert_eq!(event.ready(1000) & libc::POLLIN, libc::POLLIN);
    // Without a buffer there is nothing to wait for.
    let bare = Attr::software(FAULTS).open();
    assert_eq!(bare.ready(0), libc::POLLHUP);
}

fn a_paused_buffer_takes_nothing() {
    let event = every_fault(0).open();
    let ring = Ring::new(&event, 8);
    event.ioctl(PAUSE_OUTPUT, 1).unwrap();
    event.ioctl(ENABLE, 0).unwrap();
    faults(50);
    assert_eq!(ring.head(), 0);
    event.ioctl(PAUSE_OUTPUT, 0).unwrap();
    faults(50);
    event.ioctl(DISABLE, 0).unwrap();
    assert!(ring.take().iter().filter(|r| r.kind == 9).count() >= 50);
}

fn events_can_share_a_buffer() {
    unthrottle();
    const IDENTIFIER: u64 = 1 << 16;
    let own = |config| {
        Attr::software(config).flags(DISABLED | EXCLUDE_KERNEL).sample(1, IDENTIFIER).open()
    };
    let (all, minor) = (own(FAULTS), own(MINOR));
    fails(minor.ioctl(SET_OUTPUT, all.0 as usize), EINVAL);
    let ring = Ring::new(&all, 8);
    minor.ioctl(SET_OUTPUT, all.0 as usize).unwrap();
    all.ioctl(ENABLE, 0).unwrap();
    minor.ioctl(ENABLE, 0).unwrap();
    faults(40);
    all.ioctl(DISABLE, 0).unwrap();
    minor.ioctl(DISABLE, 0).unwrap();
    let records = ring.take();
    let of = |event: &Event| {
        records.iter().filter(|r| r.kind == 9 && r.words[0] == event.id()).count() as u64
    };
    assert_eq!((of(&all), of(&minor)), (all.count(), minor.count()));
    minor.ioctl(SET_OUTPUT, -1i32 as usize).unwrap();
}

fn only_alike_events_share_a_buffer() {
    const USE_CLOCKID: u64 = 1 << 25;
    let base = || Attr::software(FAULTS).flags(DISABLED).sample(1, S_ADDR);
    let target = base().open();
    let _ring = Ring::new(&target, 2);
    let refused = |attr: Attr| {
        let other = attr.open();
        fails(other.ioctl(SET_OUTPUT, target.0 as usize), EINVAL);
    };
    refused(base().flags(WRITE_BACKWARD));
    refused(base().flags(USE_CLOCKID));
    // Of a CPU, and of a task: their buffers are written from elsewhere.
    let whole = Event(base().try_open(-1, 0, -1, 0).unwrap() as i32);
    fails(whole.ioctl(SET_OUTPUT, target.0 as usize), EINVAL);
    // One that has a mapped buffer of its own keeps it.
    let own = base().open();
    let own_ring = Ring::new(&own, 2);
    fails(own.ioctl(SET_OUTPUT, target.0 as usize), EINVAL);
    drop(own_ring);
    own.ioctl(SET_OUTPUT, target.0 as usize).unwrap();
    let not_an_event = sys::pipe().unwrap().0;
    fails(own.ioctl(SET_OUTPUT, not_an_event as usize), libc::EBADF);
}

fn the_reader_is_signalled_as_it_wishes() {
    use std::sync::atomic::AtomicI32;
    const F_SETSIG: i32 = 10;
    const F_OWNER_TID: i32 = 0;
    const POLL_IN: i32 = 1;
    const POLL_HUP: i32 = 6;
    static SEEN: [AtomicI32; 3] = [const { AtomicI32::new(0) }; 3];
    static BY: AtomicI32 = AtomicI32::new(0);
    extern "C" fn on(_: i32, info: *const libc::siginfo_t, _: usize) {
        // SAFETY: the kernel passes a siginfo; SIGPOLL's fields are band (8 bytes) and descriptor.
        let (code, fd) = unsafe { ((*info).si_code, *info.cast::<u8>().add(24).cast::<i32>()) };
        let which = match code {
            POLL_IN => 0,
            POLL_HUP => 1,
            _ => 2,
        };
        SEEN[which].fetch_add(1, Ordering::SeqCst);
        BY.store(fd, Ordering::SeqCst);
    }
    let signal = libc::SIGRTMIN() + 3;
    sys::on_signal_with(signal, on as *const () as usize, libc::SA_SIGINFO);
    let event = every_fault(0).wakeup(1).open();
    let _ring = Ring::new(&event, 8);
    const F_SETOWN_EX: i32 = 15;
    let owner = [F_OWNER_TID, sys::gettid()];
    sys!(libc::SYS_fcntl, event.0, F_SETOWN_EX, owner.as_ptr()).unwrap();
    sys!(libc::SYS_fcntl, event.0, F_SETSIG, signal).unwrap();
    sys!(libc::SYS_fcntl, event.0, libc::F_SETFL, libc::O_ASYNC).unwrap();
    let seen = |which: usize| SEEN[which].load(Ordering::SeqCst);
    let end = sys::monotonic() + 10_000_000_000;
    let until = |done: &dyn Fn() -> bool| {
        while !done() && sys::monotonic() < end {
            burn(1_000_000);
        }
        assert!(done(), "seen: {SEEN:?}");
    };
    event.ioctl(ENABLE, 0).unwrap();
    faults(1);
    until(&|| seen(0) > 0);
    event.ioctl(DISABLE, 0).unwrap();
    assert_eq!((seen(1), seen(2), BY.load(Ordering::SeqCst)), (0, 0, event.0));
    // The last one of a limit says that it was.
    event.ioctl(REFRESH, 2).unwrap();
    faults(5);
    until(&|| seen(1) > 0);
    assert_eq!((seen(1), seen(2)), (1, 0));
}

fn locked_memory_has_its_limit() {
    const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
    let before = std::fs::read_to_string(PARANOID).unwrap();
    std::fs::write(PARANOID, "2").unwrap();
    run(|| {
        let limit = [0u64; 2];
        sys!(libc::SYS_setrlimit, libc::RLIMIT_MEMLOCK, limit.as_ptr()).unwrap();
        sys!(libc::SYS_setresuid, 1001, 1001, 1001).unwrap();
        let event = Attr::software(FAULTS).flags(EXCLUDE_KERNEL).open();
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        assert_eq!(Ring::with(&event, 1 << 15, prot).err().map(|e| e.0), Some(EPERM));
        assert!(Ring::with(&event, 8, prot).is_ok());
    });
    std::fs::write(PARANOID, before.trim()).unwrap();
}
