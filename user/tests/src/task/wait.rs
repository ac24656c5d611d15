//! wait4(2) and waitid(2).

use libc::{ECHILD, EINVAL, WNOHANG};

use crate::child::{Steps, join, spawn};
use crate::harness::{Test, tests};
use crate::signal;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    without_children_there_is_nothing_to_wait_for,
    a_child_is_waited_for_once,
    wnohang_returns_nothing_while_the_child_runs,
    any_child_is_found,
    children_are_waited_for_by_group,
    unknown_options_are_refused,
    waitid_tells_exits_and_kills,
    wnowait_leaves_the_child_to_be_waited_for,
    waitid_waits_for_a_pidfd,
    stops_and_continues_are_told_where_asked_for,
    a_stopped_child_does_nothing_and_then_goes_on,
    a_child_told_to_stop_and_at_once_to_go_on_goes_on,
    a_dead_child_neither_stops_nor_goes_on,
    a_stopped_child_is_killed_all_the_same,
    children_of_one_who_ignores_sigchld_vanish,
    children_that_vanish_are_not_in_rusage_children,
    the_end_of_a_child_is_signalled,
    the_stop_of_a_child_is_signalled_unless_unwanted,
    a_childs_use_of_resources_comes_with_the_wait,
    a_thread_waits_for_its_siblings_child,
];

fn sleeper() -> i32 {
    spawn(|| {
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    })
}

/// Pid and status word.
fn wait4(pid: i32, flags: i32) -> sys::Result<(i32, i32)> {
    let mut status = -1i32;
    sys!(libc::SYS_wait4, pid, &raw mut status, flags, 0).map(|pid| (pid as i32, status))
}

fn waitid(kind: u32, id: i32, flags: i32) -> sys::Result<libc::siginfo_t> {
    let mut info: libc::siginfo_t = sys::zeroed();
    sys!(libc::SYS_waitid, kind, id, &raw mut info, flags, 0).map(|_| info)
}

/// Pid and status of a siginfo about a child.
fn about(info: &libc::siginfo_t) -> (i32, i32, i32) {
    // SAFETY: the kernel filled the fields of a child's siginfo, or left them zero.
    unsafe { (info.si_pid(), info.si_code, info.si_status()) }
}

fn without_children_there_is_nothing_to_wait_for() {
    fails(wait4(-1, 0), ECHILD);
    fails(wait4(1, 0), ECHILD);
    fails(waitid(libc::P_ALL, 0, libc::WEXITED), ECHILD);
}

fn a_child_is_waited_for_once() {
    let child = spawn(|| ());
    assert_eq!(wait4(child, 0).map(|found| found.0), Ok(child));
    fails(wait4(child, 0), ECHILD);
}

fn wnohang_returns_nothing_while_the_child_runs() {
    let child = sleeper();
    assert_eq!(wait4(child, WNOHANG).map(|found| found.0), Ok(0));
    let info = waitid(libc::P_PID, child, libc::WEXITED | WNOHANG).unwrap();
    assert_eq!(about(&info).0, 0);
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}

fn any_child_is_found() {
    let mut children: Vec<i32> = (0..5).map(|n| spawn(|| sys::exit_group(n))).collect();
    for _ in 0..5 {
        let (pid, status) = wait4(-1, 0).unwrap();
        let at = children.iter().position(|own| *own == pid).expect("one of the children");
        children.remove(at);
        assert!(libc::WIFEXITED(status));
    }
    fails(wait4(-1, 0), ECHILD);
}

fn children_are_waited_for_by_group() {
    let own = spawn(|| sys::exit_group(1));
    let steps = Steps::new();
    let other = spawn(|| {
        steps.await_(1);
        sys::exit_group(2);
    });
    sys!(libc::SYS_setpgid, other, other).unwrap();
    assert_eq!(wait4(0, 0).map(|found| found.0), Ok(own));
    fails(wait4(0, 0), ECHILD);
    steps.reach(1);
    assert_eq!(wait4(-other, 0), Ok((other, 2 << 8)));
}

fn unknown_options_are_refused() {
    fails(wait4(-1, 0x100), EINVAL);
    fails(waitid(libc::P_ALL, 0, 0), EINVAL);
    fails(waitid(libc::P_ALL, 0, libc::WEXITED | 0x100), EINVAL);
    fails(waitid(99, 0, libc::WEXITED), EINVAL);
}

fn waitid_tells_exits_and_kills() {
    let child = spawn(|| sys::exit_group(300));
    let info = waitid(libc::P_PID, child, libc::WEXITED).unwrap();
    assert_eq!(about(&info), (child, libc::CLD_EXITED, 44));
    assert_eq!(info.si_signo, libc::SIGCHLD);
    let child = sleeper();
    sys::kill(child, libc::SIGKILL).unwrap();
    let info = waitid(libc::P_PID, child, libc::WEXITED).unwrap();
    assert_eq!(about(&info), (child, libc::CLD_KILLED, libc::SIGKILL));
}

fn wnowait_leaves_the_child_to_be_waited_for() {
    let child = spawn(|| sys::exit_group(3));
    for _ in 0..3 {
        let info = waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT).unwrap();
        assert_eq!(about(&info), (child, libc::CLD_EXITED, 3));
        assert_eq!(crate::child::state_of(child), Some('Z'));
    }
    assert_eq!(join(child), 3);
    assert_eq!(crate::child::state_of(child), None);
}

fn waitid_waits_for_a_pidfd() {
    let child = spawn(|| sys::exit_group(3));
    let fd = sys!(libc::SYS_pidfd_open, child, 0).unwrap() as i32;
    let info = waitid(libc::P_PIDFD, fd, libc::WEXITED).unwrap();
    assert_eq!(about(&info).0, child);
}

fn stops_and_continues_are_told_where_asked_for() {
    let child = sleeper();
    sys::kill(child, libc::SIGSTOP).unwrap();
    let (pid, status) = wait4(child, libc::WUNTRACED).unwrap();
    assert_eq!(pid, child);
    assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGSTOP);
    assert_eq!(crate::child::state_of(child), Some('T'));
    // Told once.
    assert_eq!(wait4(child, libc::WUNTRACED | WNOHANG).map(|found| found.0), Ok(0));
    sys::kill(child, libc::SIGCONT).unwrap();
    let (_, status) = wait4(child, libc::WCONTINUED).unwrap();
    assert!(libc::WIFCONTINUED(status));
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}

fn a_stopped_child_does_nothing_and_then_goes_on() {
    let at = crate::memory::map_shared(1);
    let count = || crate::memory::word64(at).load(std::sync::atomic::Ordering::SeqCst);
    let child = spawn(|| {
        loop {
            crate::memory::word64(at).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    while count() == 0 {}
    sys::kill(child, libc::SIGSTOP).unwrap();
    wait4(child, libc::WUNTRACED).unwrap();
    let stopped = count();
    for _ in 0..1000 {
        std::thread::yield_now();
    }
    assert_eq!(count(), stopped);
    sys::kill(child, libc::SIGCONT).unwrap();
    while count() == stopped {}
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}

fn a_child_told_to_stop_and_at_once_to_go_on_goes_on() {
    for _ in 0..300 {
        let child = sleeper();
        for signal in [libc::SIGSTOP, libc::SIGCONT, libc::SIGTERM] {
            sys::kill(child, signal).unwrap();
        }
        assert_eq!(join(child), 128 + libc::SIGTERM);
    }
    // Without an end: a stop is not told once SIGCONT was sent.
    for _ in 0..300 {
        let child = sleeper();
        sys::kill(child, libc::SIGSTOP).unwrap();
        sys::kill(child, libc::SIGCONT).unwrap();
        assert_eq!(wait4(child, libc::WUNTRACED | WNOHANG), Ok((0, -1)));
        sys::kill(child, libc::SIGKILL).unwrap();
        join(child);
    }
}

fn a_dead_child_neither_stops_nor_goes_on() {
    let child = spawn(|| {});
    let ended = libc::WEXITED | libc::WNOWAIT;
    waitid(libc::P_PID, child, ended).unwrap();
    for flags in [libc::WSTOPPED, libc::WCONTINUED, libc::WSTOPPED | libc::WCONTINUED] {
        fails(waitid(libc::P_ALL, 0, flags), ECHILD);
        fails(waitid(libc::P_PID, child, flags | WNOHANG), ECHILD);
    }
    assert_eq!(join(child), 0);
}

fn a_stopped_child_is_killed_all_the_same() {
    let child = sleeper();
    sys::kill(child, libc::SIGSTOP).unwrap();
    wait4(child, libc::WUNTRACED).unwrap();
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}

fn children_of_one_who_ignores_sigchld_vanish() {
    signal::ignore(libc::SIGCHLD);
    let child = spawn(|| ());
    fails(wait4(child, 0), ECHILD);
    assert_eq!(crate::child::state_of(child), None);
}

fn children_that_vanish_are_not_in_rusage_children() {
    let of_children = || {
        let mut usage: libc::rusage = sys::zeroed();
        sys!(libc::SYS_getrusage, libc::RUSAGE_CHILDREN, &raw mut usage).unwrap();
        (usage.ru_utime.tv_sec * 1_000_000 + usage.ru_utime.tv_usec, usage.ru_minflt)
    };
    let compute = || {
        let id = libc::CLOCK_PROCESS_CPUTIME_ID;
        while sys::clock(id) < 50_000_000 {}
    };
    signal::ignore(libc::SIGCHLD);
    let child = spawn(compute);
    fails(wait4(child, 0), ECHILD);
    assert_eq!(of_children(), (0, 0));
    sys::on_signal_with(libc::SIGCHLD, libc::SIG_DFL, 0);
    assert_eq!(join(spawn(compute)), 0);
    let (user, faults) = of_children();
    assert!(user > 0 && faults > 0, "{user} us, {faults} faults");
}

fn the_end_of_a_child_is_signalled() {
    signal::block(&[libc::SIGCHLD]);
    let child = spawn(|| sys::exit_group(5));
    let info = signal::take(&[libc::SIGCHLD], 20_000_000_000).unwrap();
    assert_eq!(about(&info), (child, libc::CLD_EXITED, 5));
    assert_eq!(join(child), 5);
}

fn the_stop_of_a_child_is_signalled_unless_unwanted() {
    signal::block(&[libc::SIGCHLD]);
    let child = sleeper();
    sys::kill(child, libc::SIGSTOP).unwrap();
    let info = signal::take(&[libc::SIGCHLD], 20_000_000_000).unwrap();
    assert_eq!(about(&info), (child, libc::CLD_STOPPED, libc::SIGSTOP));
    sys::kill(child, libc::SIGCONT).unwrap();
    wait4(child, libc::WCONTINUED).unwrap();
    let info = signal::take(&[libc::SIGCHLD], 20_000_000_000).unwrap();
    assert_eq!(about(&info).1, libc::CLD_CONTINUED);
    signal::catch(libc::SIGCHLD, libc::SA_NOCLDSTOP);
    sys::kill(child, libc::SIGSTOP).unwrap();
    wait4(child, libc::WUNTRACED).unwrap();
    fails(signal::take(&[libc::SIGCHLD], 0).map(|info| info.si_signo), libc::EAGAIN);
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}

fn a_childs_use_of_resources_comes_with_the_wait() {
    let child = spawn(|| {
        let at = crate::memory::map(1024);
        crate::memory::touch(at, 1024);
    });
    let mut usage: libc::rusage = sys::zeroed();
    sys!(libc::SYS_wait4, child, 0, 0, &raw mut usage).unwrap();
    assert!(usage.ru_minflt >= 1024, "{} faults", usage.ru_minflt);
    assert!(usage.ru_maxrss >= 4096);
}

fn a_thread_waits_for_its_siblings_child() {
    let child = spawn(|| sys::exit_group(4));
    let status = std::thread::scope(|scope| scope.spawn(|| join(child)).join().unwrap());
    assert_eq!(status, 4);
    let child = spawn(|| ());
    std::thread::scope(|scope| {
        scope.spawn(|| fails(wait4(child, libc::__WNOTHREAD), ECHILD));
    });
    assert_eq!(join(child), 0);
}
