//! Objects that are descriptors and nothing else.

use super::each_fails;
use crate::harness::{Test, tests};
use crate::sys::{self, Errno, sys};

pub const TESTS: &[Test] = tests![
    pipe,
    a_pipe_is_written_and_read,
    a_pipe_is_made_larger,
    splice_and_tee,
    vmsplice,
    eventfd,
    timerfd,
    signalfd,
    inotify,
    pidfd,
    memfd,
    epoll,
    poll_of_many,
    poll_of_thousands,
    select_of_many,
    dup_far_away,
    a_pty,
    a_descriptor_asks_for_signals,
];

fn pipe() {
    each_fails(&[], |turn| {
        let (read, write) = turn.call(sys::pipe)?;
        sys::close(read);
        sys::close(write);
        Ok(())
    });
}

fn a_pipe_is_written_and_read() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let mut data = [7u8; 10_000];
        let result = turn.call(|| {
            let wrote = sys::write(write, &data)?;
            sys::read(read, &mut data[..wrote])
        });
        sys::close(read);
        sys::close(write);
        assert!(result.is_err() || result.is_ok_and(|count| count > 0));
        result.map(drop)
    });
}

fn a_pipe_is_made_larger() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        sys::write(write, b"stays")?;
        let result = turn.call(|| sys!(libc::SYS_fcntl, write, libc::F_SETPIPE_SZ, 1 << 20));
        let mut data = [0; 8];
        assert_eq!(sys::read(read, &mut data), Ok(5));
        sys::close(read);
        sys::close(write);
        result.map(drop)
    });
}

fn splice_and_tee() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let (from, into) = sys::pipe()?;
        sys::write(into, &[1; 5000])?;
        let result = turn.call(|| {
            sys!(libc::SYS_tee, from, write, 5000, 0)?;
            sys!(libc::SYS_splice, from, 0, write, 0, 5000, 0)
        });
        for fd in [read, write, from, into] {
            sys::close(fd);
        }
        result.map(drop)
    });
}

fn vmsplice() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let data = [3u8; 6000];
        let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let result = turn.call(|| sys!(libc::SYS_vmsplice, write, &raw const part, 1, 0));
        sys::close(read);
        sys::close(write);
        result.map(drop)
    });
}

fn eventfd() {
    each_fails(&[], |turn| {
        sys::close(turn.call(|| sys!(libc::SYS_eventfd2, 1, 0))? as i32);
        Ok(())
    });
}

fn timerfd() {
    each_fails(&[], |turn| {
        let fd = turn.call(|| {
            let fd = sys!(libc::SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0)?;
            let mut time: libc::itimerspec = sys::zeroed();
            time.it_value.tv_sec = 100;
            let set = sys!(libc::SYS_timerfd_settime, fd, 0, &raw const time, 0);
            if set.is_err() {
                sys::close(fd as i32);
            }
            set.map(|_| fd)
        })?;
        sys::close(fd as i32);
        Ok(())
    });
}

fn signalfd() {
    each_fails(&[], |turn| {
        let set = 1u64 << 9;
        sys::close(turn.call(|| sys!(libc::SYS_signalfd4, -1, &raw const set, 8, 0))? as i32);
        Ok(())
    });
}

fn inotify() {
    each_fails(&[], |turn| {
        let fd = turn.call(|| {
            let fd = sys!(libc::SYS_inotify_init1, 0)?;
            let watch = sys!(libc::SYS_inotify_add_watch, fd, c"/tmp".as_ptr(), libc::IN_CREATE);
            if watch.is_err() {
                sys::close(fd as i32);
            }
            watch.map(|_| fd)
        })?;
        sys::close(fd as i32);
        Ok(())
    });
}

fn pidfd() {
    each_fails(&[], |turn| {
        sys::close(turn.call(|| sys!(libc::SYS_pidfd_open, sys::getpid(), 0))? as i32);
        Ok(())
    });
}

fn memfd() {
    each_fails(&[libc::ENOSPC], |turn| {
        let fd = turn.call(|| sys!(libc::SYS_memfd_create, c"name".as_ptr(), 2))? as i32;
        let result = turn.call(|| {
            sys!(libc::SYS_ftruncate, fd, 100_000)?;
            sys!(libc::SYS_pwrite64, fd, c"text".as_ptr(), 4, 50_000)
        });
        sys::close(fd);
        result.map(drop)
    });
}

fn epoll() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let made = turn.call(|| sys!(libc::SYS_epoll_create1, 0));
        let result = made.and_then(|fd| {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
            let result = turn.call(|| {
                sys!(libc::SYS_epoll_ctl, fd, libc::EPOLL_CTL_ADD, read, &raw mut event)?;
                sys::write(write, b"x")?;
                sys!(libc::SYS_epoll_wait, fd, &raw mut event, 1, 1000)
            });
            sys::close(fd as i32);
            result
        });
        sys::close(read);
        sys::close(write);
        assert!(result.is_err() || result == Ok(1));
        result.map(drop)
    });
}

fn poll_of_many() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let mut all = [libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 }; 600];
        let result = turn.call(|| sys!(libc::SYS_poll, all.as_mut_ptr(), all.len(), 2));
        sys::close(read);
        sys::close(write);
        assert!(result.is_err() || result == Ok(0));
        result.map(drop)
    });
}

/// More than one block of the heap that may come from the reserve.
fn poll_of_thousands() {
    let limits = [4096u64; 2];
    sys!(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, limits.as_ptr()).unwrap();
    let (read, _write) = sys::pipe().unwrap();
    let mut all = vec![libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 }; 4000];
    let at = all.as_mut_ptr();
    each_fails(&[], |turn| {
        let result = turn.call(|| sys!(libc::SYS_poll, at, 4000, 2));
        assert!(result.is_err() || result == Ok(0));
        result.map(drop)
    });
}

fn select_of_many() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let far = sys!(libc::SYS_fcntl, read, libc::F_DUPFD, 700)? as i32;
        let mut set = [0u64; 16];
        set[far as usize / 64] = 1 << (far % 64);
        let time = sys::timespec(2_000_000);
        let result = turn
            .call(|| sys!(libc::SYS_pselect6, far + 1, set.as_mut_ptr(), 0, 0, &raw const time, 0));
        for fd in [read, write, far] {
            sys::close(fd);
        }
        assert!(result.is_err() || result == Ok(0));
        result.map(drop)
    });
}

/// The table of descriptors grows.
fn dup_far_away() {
    each_fails(&[], |turn| {
        // A table of its own for each time.
        let code = crate::child::end_of(|| {
            let faults = super::FailNth::open();
            let far = || sys!(libc::SYS_dup2, 0, 1000);
            let (result, failed) = faults.during(turn.n, far);
            turn.failed.set(failed);
            let code = match result {
                Ok(1000) => 0,
                Ok(_) => 1,
                Err(Errno(errno)) => errno,
            };
            sys::exit_group(if failed { 128 | code } else { code })
        });
        turn.failed.set(turn.n > 0 && code & 128 != 0);
        if code & 127 == 0 { Ok(()) } else { Err(Errno(code & 127)) }
    });
}

fn a_pty() {
    each_fails(&[], |turn| {
        let master = turn.call(|| sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0))?;
        let mut number = 0i32;
        sys!(libc::SYS_ioctl, master, libc::TIOCGPTN, &raw mut number)?;
        let unlock = 0i32;
        sys!(libc::SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlock)?;
        let path = format!("/dev/pts/{number}");
        let slave = turn.call(|| sys::open(&path, libc::O_RDWR | libc::O_NOCTTY, 0));
        let result = slave.and_then(|slave| {
            let mut data = [b'a'; 600];
            let result = turn.call(|| {
                sys::write(master, &data)?;
                sys::write(master, b"\n")?;
                sys::read(slave, &mut data)
            });
            sys::close(slave);
            result
        });
        sys::close(master);
        result.map(drop)
    });
}

fn a_descriptor_asks_for_signals() {
    each_fails(&[], |turn| {
        let (read, write) = sys::pipe()?;
        let result = turn.call(|| {
            sys!(libc::SYS_fcntl, read, libc::F_SETOWN, sys::getpid())?;
            sys!(libc::SYS_fcntl, read, libc::F_SETFL, libc::O_ASYNC)
        });
        sys::close(read);
        sys::close(write);
        result.map(drop)
    });
}
