//! Processes and threads that come and go, and a signal to oneself.

use std::arch::asm;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{Op, op};
use crate::clock::{Samples, batched, samples};
use crate::memory::Region;
use crate::sys::{Error, Result, at, call, exit, fork, wait, wrong};

pub const OPS: &[Op] = &[
    op("process/fork_exit_wait", fork_exit),
    op("process/vfork_exec_wait", vfork_exec),
    op("process/thread_create_join", thread),
    op("process/signal_self", signal),
];

fn fork_exit() -> Result<Samples> {
    samples(60, 1, |clock| {
        clock.start();
        match fork()? {
            0 => exit(0),
            child => wait(child)?,
        }
        clock.stop();
        Ok(())
    })
}

/// This program again, which then ends at once: start-up of a static C program included.
fn vfork_exec() -> Result<Samples> {
    // SAFETY: asks for a word of the auxiliary vector, a path that lives as long as the process.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    let name = c"bench";
    let exit_arg = c"--exit";
    let argv = [name.as_ptr(), exit_arg.as_ptr(), std::ptr::null()];
    let empty = [std::ptr::null::<u8>()];
    let stack = Region::touched(4)?;
    let top = stack.start + stack.bytes();
    samples(40, 1, |clock| {
        clock.start();
        // SAFETY: the child gets its own stack and the path and vectors of this frame, which waits.
        let child = unsafe { vfork_and_exec(top, path, at(argv.as_ptr()), at(empty.as_ptr()))? };
        let mut status = 0;
        // SAFETY: writes one integer of this frame.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        clock.stop();
        if waited != child || status != 0 { wrong("the executed program failed") } else { Ok(()) }
    })
}

/// clone(CLONE_VM | CLONE_VFORK) on the stack that ends at `top`, execve there.
unsafe fn vfork_and_exec(top: usize, path: usize, argv: usize, envp: usize) -> Result<i32> {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize;
    let result: isize;
    // SAFETY: the child executes only what stands here, with no stack access, and never returns.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, {path}",
            "mov rsi, {argv}",
            "mov rdx, {envp}",
            "mov eax, {execve}",
            "syscall",
            "mov edi, 127",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            path = in(reg) path,
            argv = in(reg) argv,
            envp = in(reg) envp,
            execve = const libc::SYS_execve,
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone as isize => result,
            inlateout("rdi") flags => _,
            inlateout("rsi") top => _,
            inlateout("rdx") 0_usize => _,
            in("r10") 0_usize, in("r8") 0_usize,
            out("rcx") _, out("r11") _,
        );
    }
    if result < 0 {
        return Err(Error { what: "clone", errno: -result as i32 });
    }
    Ok(result as i32)
}

/// As the C library does it: stack mapped and unmapped, too.
fn thread() -> Result<Samples> {
    extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
        null_mut()
    }
    samples(100, 1, |clock| {
        // SAFETY: a handle that pthread_create fills in.
        let mut thread: libc::pthread_t = unsafe { std::mem::zeroed() };
        clock.start();
        // SAFETY: the thread's function touches nothing, and the thread is joined before going on.
        let result = unsafe {
            match libc::pthread_create(&mut thread, std::ptr::null(), nothing, null_mut()) {
                0 => libc::pthread_join(thread, null_mut()),
                error => error,
            }
        };
        clock.stop();
        if result == 0 { Ok(()) } else { Err(Error { what: "pthread_create", errno: result }) }
    })
}

/// tgkill, the handler, and the return from it.
fn signal() -> Result<Samples> {
    static CAUGHT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn caught(_: i32) {
        CAUGHT.fetch_add(1, SeqCst);
    }
    let handler: extern "C" fn(i32) = caught;
    // SAFETY: the handler adds to a counter, which any thread may do at any time.
    if unsafe { libc::signal(libc::SIGUSR1, handler as usize) } == libc::SIG_ERR {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Error { what: "rt_sigaction", errno });
    }
    let process = call("getpid", libc::SYS_getpid, [])?;
    let thread = call("gettid", libc::SYS_gettid, [])?;
    let result = batched(100, 10, || {
        call("tgkill", libc::SYS_tgkill, [process, thread, libc::SIGUSR1 as usize]).map(drop)
    })?;
    // 100 rounds and 27 of warm-up.
    if CAUGHT.load(SeqCst) == 1270 { Ok(result) } else { wrong("signals were lost") }
}
