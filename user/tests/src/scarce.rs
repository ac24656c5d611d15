//! Much of one thing, and no memory left: the kernel lives, and ends whom it must.
//!
//! What the kernel keeps for a program may be larger than any block of memory in one piece.

use std::collections::HashSet;
use std::time::Instant;

use crate::child::{end_of, join, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    a_directory_holds_120000_names,
    smaps_of_4000_areas_is_whole,
    maps_of_56000_areas_is_whole,
    a_program_gets_135000_arguments,
    a_pipe_of_a_gigabyte_takes_what_is_spliced,
    untouched_mappings_cost_fork_nothing,
    a_sparse_terabyte_is_moved_protected_and_unmapped_at_once,
    who_fills_memory_with_page_tables_is_killed_alone,
    who_fills_memory_with_pipes_is_stopped_alone,
    sockets_in_each_others_queues_are_closed_however_deep,
    a_cycle_of_descriptors_in_flight_is_collected,
    two_thousand_threads_end_in_a_moment,
    thousands_of_processes_cost_no_more_each_than_hundreds,
    thousands_of_threads_cost_no_more_each_than_hundreds,
    who_is_killed_in_a_long_call_ends,
    a_call_moves_two_gigabytes_at_most,
    a_sparse_terabyte_moves_at_once,
];

fn limit(which: i32, value: u64) {
    let limits = [value, value];
    sys!(libc::SYS_setrlimit, which, limits.as_ptr()).unwrap();
}

fn a_directory_holds_120000_names() {
    const NAMES: usize = 120_000;
    let dir = format!("/tmp/many-{}", sys::getpid());
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(format!("{dir}/f"), b"x").unwrap();
    let fd = sys!(libc::SYS_open, sys::c(&dir).as_ptr(), libc::O_DIRECTORY).unwrap();
    for n in 1..NAMES {
        let name = sys::c(&format!("{n}"));
        sys!(libc::SYS_linkat, fd, c"f".as_ptr(), fd, name.as_ptr(), 0).unwrap();
    }
    let names: HashSet<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), NAMES);
    for name in names {
        let name = sys::c(name.to_str().unwrap());
        sys!(libc::SYS_unlinkat, fd, name.as_ptr(), 0).unwrap();
    }
    std::fs::remove_dir(&dir).unwrap();
}

/// Areas that cannot be one: readable and unreadable in turn.
fn areas(count: usize) -> usize {
    let start = mmap(0, count * PAGE, libc::PROT_READ, PRIVATE, -1, 0).unwrap();
    for at in (0..count).step_by(2) {
        mprotect(start + at * PAGE, 1, libc::PROT_NONE).unwrap();
    }
    start
}

fn count_lines(path: &str, what: &str) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| line.contains(what)).count()
}

fn smaps_of_4000_areas_is_whole() {
    let before = count_lines("/proc/self/smaps", "Private_Dirty:");
    areas(4000);
    let found = count_lines("/proc/self/smaps", "Private_Dirty:");
    assert!((before + 3998..before + 4008).contains(&found), "{before} and then {found}");
}

fn maps_of_56000_areas_is_whole() {
    let before = count_lines("/proc/self/maps", "-");
    areas(56_000);
    let found = count_lines("/proc/self/maps", "-");
    assert!((before + 55_998..before + 56_008).contains(&found), "{before} and then {found}");
}

fn a_program_gets_135000_arguments() {
    const WORDS: usize = 135_000;
    let end = end_of(|| {
        limit(libc::RLIMIT_STACK, 64 << 20);
        let mut words = vec!["a"; WORDS];
        words[0] = "count";
        panic!("execve: {}", crate::helper::exec(&words))
    });
    // The helper's exit code is the number of its words, of which a byte is told.
    assert_eq!(end, (WORDS & 255) as i32);
}

fn a_pipe_of_a_gigabyte_takes_what_is_spliced() {
    let (read, write) = sys::pipe().unwrap();
    // Linux wants ten MiB in a row of addresses for that, which a small machine may refuse.
    let size = sys!(libc::SYS_fcntl, write, libc::F_SETPIPE_SZ, 1 << 30);
    if size == Err(sys::Errno(libc::ENOMEM)) {
        sys!(libc::SYS_fcntl, write, libc::F_SETPIPE_SZ, 1 << 26).unwrap();
    } else {
        assert_eq!(size, Ok(1 << 30));
    }
    let (from, into) = sys::pipe().unwrap();
    let data = [7u8; PAGE];
    const TIMES: usize = 16_000;
    for _ in 0..TIMES {
        sys!(libc::SYS_write, into, data.as_ptr(), PAGE).unwrap();
        let moved = sys!(libc::SYS_splice, from, 0, write, 0, PAGE, 0).unwrap();
        assert_eq!(moved, PAGE);
    }
    let mut back = vec![0u8; PAGE];
    for _ in 0..TIMES {
        assert_eq!(sys!(libc::SYS_read, read, back.as_mut_ptr(), PAGE), Ok(PAGE));
        assert!(back == data);
    }
}

const GIB: usize = 1 << 30;

fn reserve(len: usize) -> usize {
    mmap(0, len, RW, PRIVATE | libc::MAP_NORESERVE, -1, 0).unwrap()
}

fn forks(times: usize) -> std::time::Duration {
    let start = Instant::now();
    for _ in 0..times {
        assert_eq!(join(spawn(|| {})), 0);
    }
    start.elapsed()
}

fn untouched_mappings_cost_fork_nothing() {
    forks(20);
    let without = forks(100);
    for _ in 0..8 {
        let at = reserve(125 * GIB);
        // Has a page, so that it is looked at, and is no one with its neighbour.
        madvise(at, 512, libc::MADV_NOHUGEPAGE).unwrap();
        put(at, 1);
    }
    let with = forks(100);
    // Tables are looked at where there are any, not each 2 MiB of addresses.
    assert!(with < without * 5, "{without:?} without, {with:?} with 1000 GiB");
}

fn a_sparse_terabyte_is_moved_protected_and_unmapped_at_once() {
    let start = Instant::now();
    for _ in 0..10 {
        let at = reserve(1 << 40);
        put(at, 1);
        put(at + (1 << 40) - PAGE, 2);
        sys!(libc::SYS_mprotect, at, 1usize << 40, libc::PROT_READ).unwrap();
        sys!(libc::SYS_madvise, at, 1usize << 40, libc::MADV_COLD).unwrap();
        sys!(libc::SYS_munmap, at, 1usize << 40).unwrap();
    }
    let took = start.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
}

/// The first to be killed for want of memory.
fn expendable() {
    std::fs::write("/proc/self/oom_score_adj", "1000").unwrap();
}

/// Two processes that are not to be killed, of which one fills memory.
fn alone(fill: impl FnOnce()) -> i32 {
    let page = map_shared(1);
    let witness = spawn(|| {
        let own = map(256);
        fill_and_wait(own, page);
    });
    let end = end_of(|| {
        expendable();
        fill();
    });
    word(page).store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(join(witness), 0, "the witness lives");
    end
}

fn fill_and_wait(own: usize, page: usize) {
    fill(own, 256, 1);
    while word(page).load(std::sync::atomic::Ordering::SeqCst) == 0 {
        let pause = [0i64, 10_000_000];
        let _ = sys!(libc::SYS_nanosleep, pause.as_ptr(), 0);
    }
    verify(own, 256, 1);
}

fn who_fills_memory_with_page_tables_is_killed_alone() {
    let end = alone(|| {
        // A table for each 2 MiB that are read: no memory of its own beside them.
        const STEP: usize = 2 << 20;
        loop {
            let Ok(at) = mmap(0, 1 << 40, libc::PROT_READ, PRIVATE | libc::MAP_NORESERVE, -1, 0)
            else {
                panic!("64 TiB of tables found room");
            };
            let _ = madvise(at, (1 << 40) / PAGE, libc::MADV_NOHUGEPAGE);
            for page in (at..at + (1 << 40)).step_by(STEP) {
                get(page);
            }
        }
    });
    assert_eq!(end, 128 + libc::SIGKILL);
}

fn who_fills_memory_with_pipes_is_stopped_alone() {
    let end = alone(|| {
        limit(libc::RLIMIT_NOFILE, 1 << 20);
        let data = vec![1u8; 65536];
        loop {
            let mut ends = [0i32; 2];
            if sys!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_NONBLOCK).is_err() {
                // ENOMEM or ENFILE is as good.
                sys::exit_group(128 + libc::SIGKILL);
            }
            let _ = sys!(libc::SYS_write, ends[1], data.as_ptr(), data.len());
        }
    });
    assert_eq!(end, 128 + libc::SIGKILL);
}

/// Sends `what` over `to`.
fn send(to: i32, what: i32) {
    let byte = [0u8];
    let iov = [byte.as_ptr().expose_provenance(), 1];
    let control = [20u64, (libc::SCM_RIGHTS as u64) << 32 | libc::SOL_SOCKET as u64, what as u64];
    let mut message: libc::msghdr = sys::zeroed();
    message.msg_iov = iov.as_ptr().cast_mut().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = 24;
    sys!(libc::SYS_sendmsg, to, &raw const message, 0).unwrap();
}

fn pair() -> [i32; 2] {
    let mut ends = [0i32; 2];
    sys!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()).unwrap();
    ends
}

fn sockets_in_each_others_queues_are_closed_however_deep() {
    const DEPTH: usize = 20_000;
    limit(libc::RLIMIT_NOFILE, 1 << 20);
    // The last one in holds the end of a pipe: it tells when everything is closed.
    let (read, write) = sys::pipe().unwrap();
    let [mut to, mut inner] = pair();
    send(to, write);
    sys::close(write);
    sys::close(to);
    for _ in 0..DEPTH {
        let [outer_to, outer] = pair();
        to = outer_to;
        send(to, inner);
        sys::close(inner);
        sys::close(to);
        inner = outer;
    }
    sys::close(inner);
    let mut byte = [0u8];
    assert_eq!(sys!(libc::SYS_read, read, byte.as_mut_ptr(), 1), Ok(0));
}

fn a_cycle_of_descriptors_in_flight_is_collected() {
    for length in [1, 2, 5] {
        let (read, write) = sys::pipe().unwrap();
        let pairs: Vec<_> = (0..length).map(|_| pair()).collect();
        for at in 0..length {
            // Each one's receiver waits in the next one's queue.
            send(pairs[(at + 1) % length][0], pairs[at][1]);
        }
        send(pairs[0][0], write);
        sys::close(write);
        for [to, from] in pairs {
            sys::close(to);
            sys::close(from);
        }
        // Any other socket's end looks for cycles.
        for _ in 0..2 {
            for fd in pair() {
                sys::close(fd);
            }
        }
        let mut byte = [0u8];
        assert_eq!(sys!(libc::SYS_read, read, byte.as_mut_ptr(), 1), Ok(0), "a cycle of {length}");
    }
}

fn two_thousand_threads_end_in_a_moment() {
    const THREADS: usize = 2000;
    let started = map_shared(1);
    let pid = spawn(|| {
        for _ in 0..THREADS {
            let sleeper = || loop {
                let _ = sys!(libc::SYS_pause);
            };
            std::thread::Builder::new().stack_size(32768).spawn(sleeper).unwrap();
        }
        word(started).store(1, std::sync::atomic::Ordering::SeqCst);
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    });
    while word(started).load(std::sync::atomic::Ordering::SeqCst) == 0 {
        let pause = [0i64, 10_000_000];
        let _ = sys!(libc::SYS_nanosleep, pause.as_ptr(), 0);
    }
    let start = Instant::now();
    sys!(libc::SYS_kill, pid, libc::SIGKILL).unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
    let took = start.elapsed();
    assert!(took.as_secs() < 8, "{took:?}");
}

fn wait_for(count: usize, at: usize) {
    while word(at).load(std::sync::atomic::Ordering::SeqCst) < count as u32 {
        let pause = [0i64, 1_000_000];
        let _ = sys!(libc::SYS_nanosleep, pause.as_ptr(), 0);
    }
}

fn sleep_for_ever() -> ! {
    loop {
        let _ = sys!(libc::SYS_pause);
    }
}

/// Microseconds for each of `count`: made, killed together and reaped. In a process of its own.
fn each(count: usize, make: impl Fn(usize, usize)) -> u32 {
    let ready = map_shared(1);
    let start = Instant::now();
    make(count, ready);
    (start.elapsed().as_micros() / count as u128) as u32
}

fn processes(count: usize, ready: usize) {
    let parent = spawn(|| {
        sys!(libc::SYS_setpgid, 0, 0).unwrap();
        crate::signal::ignore(libc::SIGTERM);
        for _ in 0..count {
            spawn(|| {
                sys::on_signal_with(libc::SIGTERM, libc::SIG_DFL, 0);
                word(ready).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                sleep_for_ever()
            });
        }
        wait_for(count, ready);
        sys::kill(0, libc::SIGTERM).unwrap();
        for _ in 0..count {
            let mut status = 0i32;
            sys!(libc::SYS_wait4, -1, &raw mut status, 0, 0).unwrap();
            assert_eq!(libc::WTERMSIG(status), libc::SIGTERM);
        }
    });
    assert_eq!(join(parent), 0);
}

fn threads(count: usize, ready: usize) {
    let pid = spawn(|| {
        for _ in 0..count {
            let sleeper = move || {
                word(ready).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                sleep_for_ever()
            };
            std::thread::Builder::new().stack_size(32768).spawn(sleeper).unwrap();
        }
        sleep_for_ever()
    });
    wait_for(count, ready);
    sys::kill(pid, libc::SIGKILL).unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
}

/// Ten times as many cost ten times as much each where the work grows by their square, and less
/// than half of that where it does not, also on a host that is elsewhere now and then.
fn is_linear(make: fn(usize, usize)) {
    let least = |count| (0..3).map(|_| each(count, make)).min().expect("three");
    let (few, many) = (least(200), least(2000));
    assert!(many < few * 5, "{few} us each of 200, {many} us each of 2000");
}

fn thousands_of_processes_cost_no_more_each_than_hundreds() {
    is_linear(processes);
}

fn thousands_of_threads_cost_no_more_each_than_hundreds() {
    is_linear(threads);
}

fn who_is_killed_in_a_long_call_ends() {
    const RANGES: usize = 1024;
    const LEN: usize = 16 << 20;
    type Call = fn(&[[usize; 2]], i32);
    let calls: [Call; 9] = [
        |ranges, _| {
            let (at, count) = (ranges.as_ptr(), ranges.len());
            let _ = sys!(libc::SYS_process_vm_readv, sys::getpid(), at, count, at, count, 0);
        },
        |ranges, _| {
            let (at, count) = (ranges.as_ptr(), ranges.len());
            let _ = sys!(libc::SYS_process_vm_writev, sys::getpid(), at, count, at, count, 0);
        },
        |ranges, _| {
            let fd = sys::open("/dev/urandom", 0, 0).unwrap();
            let _ = sys!(libc::SYS_readv, fd, ranges.as_ptr(), ranges.len());
        },
        |_, file| {
            let _ = sys!(libc::SYS_fallocate, file, 3, 0, i64::MAX);
            let _ = sys!(libc::SYS_fallocate, file, 0, 0, 1usize << 40);
        },
        |_, _| {
            // More than there is memory for.
            let at = reserve(1 << 40);
            let _ = madvise(at, (1 << 40) / PAGE, 23);
            let _ = munmap(at, (1 << 40) / PAGE);
        },
        |_, file| {
            sys!(libc::SYS_ftruncate, file, 1usize << 40).unwrap();
            let null = sys::open("/dev/null", libc::O_WRONLY, 0).unwrap();
            let _ = sys!(libc::SYS_sendfile, null, file, 0, 1usize << 40);
            sys::close(null);
        },
        |_, file| {
            sys!(libc::SYS_ftruncate, file, 1usize << 40).unwrap();
            let other = memfd(1);
            let _ = sys!(libc::SYS_copy_file_range, file, 0, other, 0, 1usize << 30, 0);
            sys::close(other);
        },
        |ranges, _| {
            // To and fro.
            for node in [1u64, 2] {
                let [at, len] = ranges[0];
                let (bind, moves) = (2, 2);
                let _ = sys!(libc::SYS_mbind, at, len, bind, &raw const node, 3, moves);
            }
        },
        |_, _| {
            let at = reserve(1 << 40);
            let all = (1 << 40) / PAGE;
            for advice in [libc::MADV_DONTNEED, 8, 20, 21] {
                let _ = madvise(at, all, advice);
            }
            let _ = sys!(libc::SYS_msync, at, 1usize << 40, libc::MS_SYNC);
            let mut resident = vec![0u8; 1 << 20];
            let _ = sys!(libc::SYS_mincore, at, PAGE << 20, resident.as_mut_ptr());
            let _ = munmap(at, all);
        },
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let started = map_shared(1);
        let child = spawn(|| {
            if number == 3 || number == 4 {
                expendable();
            }
            let file = memfd(1);
            let buffer = map(LEN / PAGE);
            touch(buffer, LEN / PAGE);
            let ranges = [[buffer, LEN]; RANGES];
            word(started).store(1, std::sync::atomic::Ordering::SeqCst);
            loop {
                call(&ranges, file);
            }
        });
        wait_for(1, started);
        let pause = [0i64, 100_000_000];
        sys!(libc::SYS_nanosleep, pause.as_ptr(), 0).unwrap();
        let start = Instant::now();
        sys::kill(child, libc::SIGKILL).unwrap();
        assert_eq!(join(child), 128 + libc::SIGKILL);
        assert!(start.elapsed().as_secs() < 4, "call {number}: {:?}", start.elapsed());
    }
}

fn a_call_moves_two_gigabytes_at_most() {
    const MOST: usize = 0x7fff_f000;
    let at = reserve(4 * GIB);
    let null = sys::open("/dev/null", libc::O_WRONLY, 0).unwrap();
    for ranges in [&[[at, GIB]; 4][..], &[[at, 3 * GIB], [at, 1]], &[[at, MOST], [at, PAGE]]] {
        let moved = sys!(libc::SYS_writev, null, ranges.as_ptr(), ranges.len());
        assert_eq!(moved, Ok(MOST));
    }
    let ranges = [[at, GIB], [at, MOST - GIB - 1]];
    assert_eq!(sys!(libc::SYS_writev, null, ranges.as_ptr(), 2), Ok(MOST - 1));
}

fn a_sparse_terabyte_moves_at_once() {
    let start = Instant::now();
    let (at, to) = (reserve(1 << 40), reserve(1 << 40));
    put(at + (1 << 39), 3);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    mremap(at, (1 << 40) / PAGE, (1 << 40) / PAGE, flags, to).unwrap();
    assert_eq!(get(to + (1 << 39)), 3);
    assert_eq!(get(to), 0);
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}
