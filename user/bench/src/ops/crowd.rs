//! Many processes and threads at once: what killing, ending and reaping each costs, however many there
//! are.

use std::ffi::c_void;
use std::ptr::null_mut;

use super::{Op, op};
use crate::clock::{Samples, cycles};
use crate::sys::{Error, Result, call, exit, fork, wrong};

pub const OPS: &[Op] = &[
    op("crowd/end_each_of_100_processes", || ended(100)),
    op("crowd/end_each_of_1000_processes", || ended(1_000)),
    op("crowd/end_each_of_10000_processes", || ended(10_000)),
    op("crowd/end_each_of_100_threads", || threads(100)),
    op("crowd/end_each_of_2000_threads", || threads(2_000)),
];

/// What the end of each of `count` processes takes: killed together, and waited for.
fn ended(count: usize) -> Result<Samples> {
    call("setpgid", libc::SYS_setpgid, [0, 0, 0])?;
    // SAFETY: no handler: the signal is ignored here, and has its default effect in the children.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let mut ended = Vec::new();
    for _ in 0..if count < 1000 { 5 } else { 2 } {
        for _ in 0..count {
            if fork()? == 0 {
                // SAFETY: as above.
                unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
                loop {
                    // SAFETY: waits for the signal that ends it.
                    unsafe { libc::pause() };
                }
            }
        }
        settle()?;
        let start = cycles();
        call("kill", libc::SYS_kill, [0, libc::SIGTERM as usize, 0])?;
        for _ in 0..count {
            let mut status = 0;
            // SAFETY: writes one integer of this frame.
            if unsafe { libc::waitpid(-1, &mut status, 0) } < 0 || !libc::WIFSIGNALED(status) {
                return wrong("a process ended otherwise");
            }
        }
        ended.push((cycles() - start) as f64 / count as f64);
    }
    // The first round finds the kernel's own stores empty.
    ended.remove(0);
    Ok(Samples::new(ended))
}

/// Lets all others run until they sleep.
fn settle() -> Result<()> {
    let pause = [0i64, 100_000_000];
    call("nanosleep", libc::SYS_nanosleep, [pause.as_ptr() as usize, 0, 0]).map(drop)
}

/// What the end of each of `count` threads takes, of a process that is killed and waited for.
fn threads(count: usize) -> Result<Samples> {
    extern "C" fn sleep(_: *mut c_void) -> *mut c_void {
        loop {
            // SAFETY: waits for the end.
            unsafe { libc::pause() };
        }
    }
    let mut taken = Vec::new();
    for _ in 0..4 {
        let child = fork()?;
        if child == 0 {
            // SAFETY: attributes that are initialised before use; the threads touch nothing.
            unsafe {
                let mut attr: libc::pthread_attr_t = std::mem::zeroed();
                libc::pthread_attr_init(&mut attr);
                libc::pthread_attr_setstacksize(&mut attr, 32768);
                let mut thread: libc::pthread_t = std::mem::zeroed();
                for _ in 0..count {
                    if libc::pthread_create(&mut thread, &attr, sleep, null_mut()) != 0 {
                        exit(1);
                    }
                }
                sleep(null_mut());
            }
        }
        for _ in 0..10 {
            settle()?;
        }
        let start = cycles();
        call("kill", libc::SYS_kill, [child, libc::SIGKILL as usize, 0])?;
        let mut status = 0;
        // SAFETY: writes one integer of this frame.
        unsafe { libc::waitpid(child as i32, &mut status, 0) };
        taken.push((cycles() - start) as f64 / count as f64);
        if !libc::WIFSIGNALED(status) {
            return Err(Error { what: "pthread_create", errno: libc::EAGAIN });
        }
    }
    taken.remove(0);
    Ok(Samples::new(taken))
}
