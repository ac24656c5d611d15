//! eventfd, timerfd, epoll, poll and select.

mod common;

use abi::Errno;
use abi::raw::general as g;
use common::{World, err, get, put};
use fs::epoll::{self, Control, EVENT_SIZE};
use fs::eventfd::{EFD_SEMAPHORE, EventFd};
use fs::oflag::*;
use fs::pipe::Pipe;
use fs::pollwait::{PollFd, SelectSets, Timeout, poll, select};
use fs::timerfd::{self, Clock, Setting, TimerFd};
use fs::{FdTable, File};
use hal::user::KernelSink;
use std::sync::Arc;
use std::thread;

const MS: u64 = 1_000_000;

fn events(ep: &File, max: usize, timeout: Timeout) -> Vec<(u32, u64)> {
    let mut buf = vec![0; max * EVENT_SIZE];
    let n = epoll::wait(ep, &mut KernelSink::new(&mut buf), max, timeout).unwrap();
    buf.chunks(EVENT_SIZE)
        .take(n)
        .map(|e| {
            let data = u64::from_le_bytes(e[4..].try_into().unwrap());
            (u32::from_le_bytes(e[..4].try_into().unwrap()), data)
        })
        .collect()
}

fn add(ep: &Arc<File>, target: &Arc<File>, events: u32, data: u64) -> abi::Result<()> {
    epoll::control(ep, data as i32, target, Control::Add { events, data })
}

#[test]
fn counters_count_and_block() {
    let e = EventFd::open(3, O_NONBLOCK).unwrap();
    put(&e, &4u64.to_le_bytes()).unwrap();
    assert_eq!(get(&e, 8).unwrap(), 7u64.to_le_bytes());
    assert_eq!(err(get(&e, 8)), Errno::EAGAIN);
    assert_eq!(err(get(&e, 7)), Errno::EINVAL);
    assert_eq!(err(put(&e, &u64::MAX.to_le_bytes())), Errno::EINVAL);
    put(&e, &(u64::MAX - 1).to_le_bytes()).unwrap();
    assert_eq!(err(put(&e, &1u64.to_le_bytes())), Errno::EAGAIN);
    let s = EventFd::open(2, EFD_SEMAPHORE | O_NONBLOCK).unwrap();
    assert_eq!(get(&s, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!(get(&s, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!(err(get(&s, 8)), Errno::EAGAIN);
    assert_eq!(err(EventFd::open(0, 0xff00)), Errno::EINVAL);
    let b = EventFd::open(0, 0).unwrap();
    let other = b.clone();
    let reader = thread::spawn(move || get(&other, 8).unwrap());
    put(&b, &9u64.to_le_bytes()).unwrap();
    assert_eq!(reader.join().unwrap(), 9u64.to_le_bytes());
}

#[test]
fn level_triggered_events_last_until_the_cause_is_gone() {
    let ep = epoll::create(0).unwrap();
    let (r, w) = Pipe::pair(0).unwrap();
    add(&ep, &r, g::EPOLLIN, 1).unwrap();
    assert_eq!(err(add(&ep, &r, g::EPOLLIN, 1)), Errno::EEXIST);
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    put(&w, b"abc").unwrap();
    for _ in 0..3 {
        assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 1)]);
    }
    get(&r, 9).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    drop(w);
    assert_eq!(events(&ep, 8, Timeout::Forever), [(g::EPOLLHUP, 1)]);
    epoll::control(&ep, 1, &r, Control::Delete).unwrap();
    assert_eq!(err(epoll::control(&ep, 1, &r, Control::Delete)), Errno::ENOENT);
    assert_eq!(events(&ep, 8, Timeout::Now), []);
}

#[test]
fn edge_triggered_events_come_once_per_change() {
    let ep = epoll::create(0).unwrap();
    let (r, w) = Pipe::pair(0).unwrap();
    add(&ep, &r, g::EPOLLIN | g::EPOLLET, 1).unwrap();
    put(&w, b"a").unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 1)]);
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    // A partial read is no event, more data is.
    put(&w, b"bc").unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 1)]);
    get(&r, 1).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    // Changing the interest looks anew.
    let again = Control::Modify { events: g::EPOLLIN | g::EPOLLET, data: 5 };
    epoll::control(&ep, 1, &r, again).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 5)]);
}

#[test]
fn oneshot_events_sleep_until_they_are_armed_again() {
    let ep = epoll::create(0).unwrap();
    let e = EventFd::open(1, 0).unwrap();
    add(&ep, &e, g::EPOLLIN | g::EPOLLONESHOT, 1).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 1)]);
    put(&e, &1u64.to_le_bytes()).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    let arm = Control::Modify { events: g::EPOLLIN | g::EPOLLONESHOT, data: 1 };
    epoll::control(&ep, 1, &e, arm).unwrap();
    assert_eq!(events(&ep, 8, Timeout::Now), [(g::EPOLLIN, 1)]);
}

#[test]
fn closing_a_description_takes_it_out() {
    let ep = epoll::create(0).unwrap();
    let e = EventFd::open(1, 0).unwrap();
    add(&ep, &e, g::EPOLLIN, 1).unwrap();
    let twin = e.clone();
    drop(e);
    // A duplicate keeps the description watched.
    assert_eq!(events(&ep, 8, Timeout::Now).len(), 1);
    drop(twin);
    assert_eq!(events(&ep, 8, Timeout::Now), []);
    let mut info = String::new();
    ep.ops().fdinfo(&mut info);
    assert_eq!(info, "");
}

#[test]
fn several_ready_descriptions_share_a_small_buffer_fairly() {
    let ep = epoll::create(0).unwrap();
    let files: Vec<_> = (0..5).map(|_| EventFd::open(1, 0).unwrap()).collect();
    for (n, file) in files.iter().enumerate() {
        add(&ep, file, g::EPOLLIN, n as u64).unwrap();
    }
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..3 {
        seen.extend(events(&ep, 2, Timeout::Now).iter().map(|e| e.1));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 0]);
}

#[test]
fn epolls_nest_but_not_in_circles() {
    let (a, b, c) =
        (epoll::create(0).unwrap(), epoll::create(0).unwrap(), epoll::create(0).unwrap());
    let e = EventFd::open(0, 0).unwrap();
    add(&a, &b, g::EPOLLIN, 10).unwrap();
    add(&b, &c, g::EPOLLIN, 20).unwrap();
    add(&c, &e, g::EPOLLIN, 30).unwrap();
    assert_eq!(err(add(&c, &a, g::EPOLLIN, 1)), Errno::ELOOP);
    assert_eq!(err(add(&a, &a, g::EPOLLIN, 1)), Errno::EINVAL);
    assert_eq!(events(&a, 8, Timeout::Now), []);
    put(&e, &1u64.to_le_bytes()).unwrap();
    assert_eq!(events(&a, 8, Timeout::Now), [(g::EPOLLIN, 10)]);
    get(&e, 8).unwrap();
    assert_eq!(events(&a, 8, Timeout::Now), []);
    let w = World::new();
    w.write("/f", "x").unwrap();
    let file = w.open("/f", O_RDONLY).unwrap();
    assert_eq!(err(add(&a, &file, g::EPOLLIN, 1)), Errno::EPERM);
    assert_eq!(err(add(&file, &e, g::EPOLLIN, 1)), Errno::EINVAL);
    assert_eq!(err(add(&a, &b, g::EPOLLIN | g::EPOLLEXCLUSIVE, 77)), Errno::EINVAL);
}

#[test]
fn sleepers_are_woken_by_events_and_by_time() {
    let ep = epoll::create(0).unwrap();
    let (r, w) = Pipe::pair(0).unwrap();
    add(&ep, &r, g::EPOLLIN, 1).unwrap();
    let sleeper = {
        let ep = ep.clone();
        thread::spawn(move || events(&ep, 8, Timeout::Forever))
    };
    put(&w, b"x").unwrap();
    assert_eq!(sleeper.join().unwrap(), [(g::EPOLLIN, 1)]);
    get(&r, 1).unwrap();
    let until = sync::hooks::now() + 5 * MS;
    assert_eq!(events(&ep, 8, Timeout::At(until)), []);
    assert!(sync::hooks::now() >= until);
}

#[test]
fn many_threads_drain_an_edge_triggered_crowd_without_losing_any() {
    const FILES: u64 = 16;
    const ROUNDS: u64 = 500;
    let ep = epoll::create(0).unwrap();
    let files: Vec<_> =
        (0..FILES).map(|_| EventFd::open(0, EFD_SEMAPHORE | O_NONBLOCK).unwrap()).collect();
    for (n, file) in files.iter().enumerate() {
        add(&ep, file, g::EPOLLIN | g::EPOLLET, n as u64).unwrap();
    }
    let stop = EventFd::open(0, 0).unwrap();
    add(&ep, &stop, g::EPOLLIN, 99).unwrap();
    let files = Arc::new(files);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (ep, files) = (ep.clone(), files.clone());
            thread::spawn(move || {
                let mut taken = 0u64;
                loop {
                    for (_, data) in events(&ep, 4, Timeout::Forever) {
                        if data == 99 {
                            return taken;
                        }
                        while get(&files[data as usize], 8).is_ok() {
                            taken += 1;
                        }
                    }
                }
            })
        })
        .collect();
    for round in 0..ROUNDS {
        for file in files.iter() {
            put(file, &(1 + round % 2).to_le_bytes()).unwrap();
        }
    }
    // Everything is taken in the end: wait for that, then stop.
    let done = |file: &Arc<File>| !file.poll(fs::PollMask::IN, None).contains(fs::PollMask::IN);
    while !files.iter().all(done) {
        thread::yield_now();
    }
    put(&stop, &1u64.to_le_bytes()).unwrap();
    let total: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(total, FILES * (ROUNDS + ROUNDS / 2));
}

#[test]
fn timers_expire_and_repeat() {
    let t = TimerFd::open(Clock::Monotonic, O_NONBLOCK).unwrap();
    let timer = t.ops_as::<TimerFd>().unwrap();
    assert_eq!(timer.get(), Setting::default());
    assert_eq!(err(get(&t, 8)), Errno::EAGAIN);
    timer.set(0, Setting { value: 3 * MS, interval: 2 * MS }).unwrap();
    let left = timer.get();
    assert!(left.value > 0 && left.value <= 3 * MS && left.interval == 2 * MS);
    let files = FdTable::new();
    let fd = files.insert(t.clone(), false, 100).unwrap();
    let mut fds = [PollFd { fd, events: g::POLLIN as u16, revents: 0 }];
    let before = sync::hooks::now();
    assert_eq!(poll(&files, &mut fds, Timeout::Forever), Ok(1));
    assert!(sync::hooks::now() - before >= 2 * MS);
    let ticks = u64::from_le_bytes(get(&t, 8).unwrap().try_into().unwrap());
    assert!(ticks >= 1);
    // The next period is armed by the read.
    assert_eq!(poll(&files, &mut fds, Timeout::Forever), Ok(1));
    timer.set(0, Setting::default()).unwrap();
    assert_eq!(err(get(&t, 8)), Errno::EAGAIN);
    assert_eq!(poll(&files, &mut fds, Timeout::Now), Ok(0));
    // An absolute time in the past is due at once.
    timer.set(timerfd::ABSTIME, Setting { value: 1, interval: 0 }).unwrap();
    assert_eq!(get(&t, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!(err(get(&t, 8)), Errno::EAGAIN);
    assert_eq!(err(timer.set(8, Setting::default())), Errno::EINVAL);
    let wall = TimerFd::open(Clock::Realtime, O_NONBLOCK).unwrap();
    let flags = timerfd::ABSTIME | timerfd::CANCEL_ON_SET;
    let far = Setting { value: u64::MAX / 2, interval: 0 };
    wall.ops_as::<TimerFd>().unwrap().set(flags, far).unwrap();
    timerfd::clock_was_set();
    assert_eq!(err(get(&wall, 8)), Errno::ECANCELED);
    assert_eq!(err(get(&wall, 8)), Errno::EAGAIN);
}

#[test]
fn poll_reports_what_is_asked_and_what_is_wrong() {
    let files = FdTable::new();
    let (r, w) = Pipe::pair(0).unwrap();
    let (r, w) = files.insert_pair((r, w), false, 100).unwrap();
    let entry = |fd, events: u32| PollFd { fd, events: events as u16, revents: 0xffff };
    let mut fds = [entry(r, g::POLLIN), entry(w, g::POLLOUT), entry(-1, g::POLLIN), entry(50, 0)];
    assert_eq!(poll(&files, &mut fds, Timeout::Forever), Ok(2));
    let got = fds.map(|f| f.revents as u32);
    assert_eq!(got, [0, g::POLLOUT, 0, g::POLLNVAL]);
    files.close(w).unwrap();
    let mut fds = [entry(r, 0)];
    assert_eq!(poll(&files, &mut fds, Timeout::Forever), Ok(1));
    assert_eq!(fds[0].revents as u32, g::POLLHUP);
}

#[test]
fn select_fills_its_sets() {
    let files = FdTable::new();
    let (r, w) = Pipe::pair(0).unwrap();
    let keep = w.clone();
    let (r, w) = files.insert_pair((r, w), false, 100).unwrap();
    let (mut read, mut write) = ([1u64 << r], [1u64 << w]);
    let run = |read: &mut [u64], write: &mut [u64], n, timeout| {
        let mut sets = SelectSets { read: Some(read), write: Some(write), except: None };
        select(&files, n, &mut sets, timeout)
    };
    assert_eq!(run(&mut read, &mut write, 10, Timeout::Forever), Ok(1));
    assert_eq!((read, write), ([0], [1 << w]));
    let (mut read, mut write) = ([1u64 << r], [0u64]);
    let until = Timeout::after(Some(3 * MS));
    assert_eq!(run(&mut read, &mut write, 10, until), Ok(0));
    assert_eq!(read, [0]);
    read = [1 << r];
    let sleeper = thread::spawn(move || put(&keep, b"x").unwrap());
    assert_eq!(run(&mut read, &mut write, 10, Timeout::Forever), Ok(1));
    assert_eq!(read, [1 << r]);
    sleeper.join().unwrap();
    read = [1 << 40];
    assert_eq!(run(&mut read, &mut write, 64, Timeout::Now), Err(Errno::EBADF));
    assert_eq!(read, [1 << 40]);
    // Descriptors at and above the count are not looked at.
    assert_eq!(run(&mut read, &mut write, 40, Timeout::Now), Ok(0));
}
