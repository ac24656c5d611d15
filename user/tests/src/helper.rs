//! What this program does when a test executes it again: `tests --helper NAME ARGS...`.
//!
//! Helpers answer by their exit code, or in what they print; they have no report to give.

use std::ffi::CStr;

use crate::sys::{self, sys};
use crate::{child, numa};

pub const FLAG: &str = "--helper";

pub fn run(args: &[String]) -> ! {
    let word = |at: usize| args.get(at).map_or("", String::as_str);
    let number = |at: usize| word(at).parse::<i32>().unwrap_or(-1);
    let code = match word(0) {
        "exit" => number(1),
        "count" => args.len() as i32,
        // Functions of known weight, for so many milliseconds in so many threads.
        "busy" => {
            crate::perf::sample::keep_busy(number(1) as u64, number(2).max(1) as usize);
            0
        }
        "pause" => loop {
            let _ = sys!(libc::SYS_pause);
        },
        // As the interpreter of a script: the words behind the script's path.
        path if path.starts_with('/') => run(&args[1..]),
        // Exit code 0 if the descriptor is open.
        "fd-open" => i32::from(sys!(libc::SYS_fcntl, number(1), libc::F_GETFD).is_err()),
        "arguments" => i32::from(args[1..] != ["one", "", "three words here"]),
        "environment" => {
            i32::from(std::env::vars().collect::<Vec<_>>() != [("A".into(), "b=c".into())])
        }
        // Mode in the exit code if the mask is that of the argument.
        "policy" => {
            let (mode, nodes) = numa::policy();
            if nodes == numa::list(word(1)) { mode } else { 100 }
        }
        "page-on" => {
            let page = crate::memory::map(1);
            crate::memory::put(page, 1);
            i32::from(numa::node_at(page) != number(1))
        }
        "cpu" => child::getcpu().0 as i32,
        "affinity" => i32::from(child::affinity(0) != numa::list(word(1))),
        // Policy and nice value.
        "class" => {
            let class = sys!(libc::SYS_sched_getscheduler, 0).map_or(-1, |class| class as i32);
            let nice = sys!(libc::SYS_getpriority, libc::PRIO_PROCESS, 0);
            i32::from((class, nice.map_or(99, |n| 20 - n as i32)) != (number(1), number(2)))
        }
        "ignored" => {
            let mut action: libc::sigaction = sys::zeroed();
            // SAFETY: asks for the present action only.
            unsafe { libc::sigaction(number(1), std::ptr::null(), &mut action) };
            i32::from(action.sa_sigaction != libc::SIG_IGN)
        }
        "blocked" => i32::from(!crate::signal::is_blocked(number(1))),
        "euid" => sys!(libc::SYS_geteuid).map_or(-1, |id| id as i32),
        "death-signal" => {
            let mut signal = 0i32;
            let at = &raw mut signal;
            sys!(libc::SYS_prctl, libc::PR_GET_PDEATHSIG, at).map_or(-1, |_| signal)
        }
        "pid" => i32::from(sys::getpid() != number(1)),
        "name" => {
            let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
            i32::from(name.trim() != word(1))
        }
        "capabilities" => i32::from(crate::signal::effective_capabilities() != 0),
        "threads" => {
            let tasks = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
            i32::from(tasks != 1)
        }
        // Exit code 0 if the failure that was asked for has come, 100 if not.
        "fail-nth" => {
            let left = crate::faults::FailNth::open().left();
            if left == 0 { 0 } else { 100 }
        }
        _ => 99,
    };
    sys::exit_group(code)
}

/// Executes this program as a helper in the calling process; returns only when it cannot.
pub fn exec(args: &[&str]) -> sys::Errno {
    exec_with(args, &[])
}

pub fn exec_with(args: &[&str], environment: &[&str]) -> sys::Errno {
    execute(c"/proc/self/exe", args, environment)
}

/// The same with a copy of this program.
pub fn exec_file(path: &CStr, args: &[&str]) -> sys::Errno {
    execute(path, args, &[])
}

fn execute(path: &CStr, args: &[&str], environment: &[&str]) -> sys::Errno {
    let words: Vec<_> = ["tests", FLAG].iter().chain(args).map(|word| sys::c(word)).collect();
    let variables: Vec<_> = environment.iter().map(|word| sys::c(word)).collect();
    let mut argv: Vec<*const i8> = words.iter().map(|word| word.as_ptr()).collect();
    let mut envp: Vec<*const i8> = variables.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    envp.push(std::ptr::null());
    let result = sys!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    result.expect_err("execve returns errors only")
}

/// The exit code of a helper run in a child process.
#[track_caller]
pub fn call(args: &[&str]) -> i32 {
    child::end_of(|| panic!("execve: {}", exec(args)))
}
