//! clone(2) and clone3(2): what parent and child share, flag by flag.

use std::arch::asm;
use std::sync::atomic::Ordering::SeqCst;

use libc::*;

use crate::child::{Steps, join};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, Errno, fails, sys};

pub const TESTS: &[Test] = tests![
    memory_is_shared_with_clone_vm_only,
    descriptors_are_shared_with_clone_files_only,
    the_working_directory_is_shared_with_clone_fs_only,
    handlers_are_shared_with_clone_sighand_only,
    flags_that_need_others_are_refused_without,
    the_ids_are_written_where_asked_for,
    a_threads_end_clears_its_id_and_wakes,
    the_thread_pointer_is_set,
    clone_parent_makes_a_sibling,
    another_exit_signal_needs_wall,
    clone_pidfd_gives_a_descriptor,
    clone3_forks,
    clone3_refuses_sizes_and_flags_it_does_not_know,
    clone3_needs_stack_and_size_together,
    unshare_parts_the_descriptors,
];

/// What a raw clone runs: without a thread pointer of its own it may use system calls and atomics,
/// and must not panic. Its result is the exit code.
pub type Body = extern "C" fn(usize) -> i32;

/// The top of a new stack.
pub fn stack() -> usize {
    map(16) + 16 * PAGE
}

/// Flags, stack, the places for ids, the thread pointer.
#[derive(Default)]
pub struct Call {
    pub flags: i32,
    pub stack: usize,
    pub parent_tid: usize,
    pub child_tid: usize,
    pub tls: usize,
}

impl Call {
    pub fn run(&self, body: Body, arg: usize) -> sys::Result<i32> {
        let result: isize;
        // SAFETY: the child leaves the block only by exit; the parent goes on as after any call.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "and rsp, -16",
                "mov rdi, r12",
                "call r13",
                "mov edi, eax",
                "mov eax, 60",
                "syscall",
                "ud2",
                "2:",
                inlateout("rax") SYS_clone as isize => result,
                in("rdi") self.flags as isize,
                in("rsi") self.stack,
                in("rdx") self.parent_tid,
                in("r10") self.child_tid,
                in("r8") self.tls,
                in("r12") arg,
                in("r13") body,
                out("rcx") _, out("r11") _,
            );
        }
        if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as i32) }
    }
}

pub fn raw(flags: i32, stack: usize, body: Body, arg: usize) -> sys::Result<i32> {
    Call { flags, stack, ..Call::default() }.run(body, arg)
}

extern "C" fn write_one(at: usize) -> i32 {
    put(at, 1);
    0
}

extern "C" fn nothing(_: usize) -> i32 {
    0
}

fn memory_is_shared_with_clone_vm_only() {
    let at = map(1);
    let child = raw(SIGCHLD, stack(), write_one, at).unwrap();
    assert_eq!((join(child), get(at)), (0, 0));
    let child = raw(SIGCHLD | CLONE_VM, stack(), write_one, at).unwrap();
    assert_eq!((join(child), get(at)), (0, 1));
}

fn descriptors_are_shared_with_clone_files_only() {
    extern "C" fn duplicate(to: usize) -> i32 {
        i32::from(sys!(SYS_dup2, 0, to).is_err())
    }
    let open = |fd: i32| sys!(SYS_fcntl, fd, F_GETFD).is_ok();
    let child = raw(SIGCHLD, stack(), duplicate, 333).unwrap();
    assert_eq!((join(child), open(333)), (0, false));
    let child = raw(SIGCHLD | CLONE_FILES, stack(), duplicate, 334).unwrap();
    assert_eq!((join(child), open(334)), (0, true));
}

fn the_working_directory_is_shared_with_clone_fs_only() {
    extern "C" fn change(_: usize) -> i32 {
        i32::from(sys!(SYS_chdir, c"/tmp".as_ptr()).is_err())
    }
    let now = || std::env::current_dir().unwrap().to_str() == Some("/tmp");
    std::env::set_current_dir("/").unwrap();
    let child = raw(SIGCHLD, stack(), change, 0).unwrap();
    assert_eq!((join(child), now()), (0, false));
    let child = raw(SIGCHLD | CLONE_FS, stack(), change, 0).unwrap();
    assert_eq!((join(child), now()), (0, true));
}

fn handlers_are_shared_with_clone_sighand_only() {
    extern "C" fn ignore(_: usize) -> i32 {
        // The kernel's own form: handler, flags, restorer, mask.
        let action = [SIG_IGN, 0, 0, 0];
        i32::from(sys!(SYS_rt_sigaction, SIGUSR1, action.as_ptr(), 0, 8).is_err())
    }
    let handler = || {
        let mut action = [0usize; 4];
        sys!(SYS_rt_sigaction, SIGUSR1, 0, action.as_mut_ptr(), 8).unwrap();
        action[0]
    };
    let child = raw(SIGCHLD | CLONE_VM, stack(), ignore, 0).unwrap();
    assert_eq!((join(child), handler()), (0, SIG_DFL));
    let child = raw(SIGCHLD | CLONE_VM | CLONE_SIGHAND, stack(), ignore, 0).unwrap();
    assert_eq!((join(child), handler()), (0, SIG_IGN));
}

fn flags_that_need_others_are_refused_without() {
    for flags in [CLONE_SIGHAND, CLONE_THREAD, CLONE_THREAD | CLONE_VM] {
        fails(raw(flags | SIGCHLD, stack(), nothing, 0), EINVAL);
    }
    let clear = (CLONE_SIGHAND | 0x1_0000_0000i64 as i32) as i64 | 0x1_0000_0000;
    let args = [clear as u64, 0, 0, 0, SIGCHLD as u64, 0, 0, 0];
    fails(sys!(SYS_clone3, args.as_ptr(), 64), EINVAL);
}

fn the_ids_are_written_where_asked_for() {
    extern "C" fn check(at: usize) -> i32 {
        let own = sys!(SYS_gettid).unwrap_or(0) as u32;
        i32::from(word(at + 4).load(SeqCst) != own)
    }
    let at = map_shared(1);
    let call = Call {
        flags: SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
        stack: stack(),
        parent_tid: at,
        child_tid: at + 4,
        ..Call::default()
    };
    let child = call.run(check, at).unwrap();
    assert_eq!(word(at).load(SeqCst), child as u32);
    assert_eq!(join(child), 0);
}

fn a_threads_end_clears_its_id_and_wakes() {
    let at = map(1);
    word(at).store(1, SeqCst);
    let flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_FILES;
    let call = Call {
        flags: flags | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID,
        stack: stack(),
        parent_tid: at,
        child_tid: at,
        ..Call::default()
    };
    let tid = call.run(nothing, 0).unwrap() as u32;
    while word(at).load(SeqCst) != 0 {
        let _ = sys!(SYS_futex, at, FUTEX_WAIT, tid, 0, 0, 0);
    }
    fails(sys!(SYS_wait4, tid, 0, __WALL, 0), ECHILD);
}

fn the_thread_pointer_is_set() {
    extern "C" fn read(at: usize) -> i32 {
        let value: usize;
        // SAFETY: the thread pointer was given as `at`.
        unsafe { asm!("mov {}, fs:[8]", out(reg) value) };
        i32::from(value != 4711 || get64(at + 8) != 4711)
    }
    let at = map(1);
    put64(at + 8, 4711);
    let call = Call {
        flags: SIGCHLD | CLONE_VM | CLONE_SETTLS,
        stack: stack(),
        tls: at,
        ..Call::default()
    };
    let child = call.run(read, at).unwrap();
    assert_eq!(join(child), 0);
}

fn clone_parent_makes_a_sibling() {
    extern "C" fn report(at: usize) -> i32 {
        word(at).store(sys!(SYS_getppid).unwrap_or(0) as u32, SeqCst);
        9
    }
    let at = map_shared(1);
    crate::child::run(|| {
        raw(SIGCHLD | CLONE_PARENT, stack(), report, at).unwrap();
        fails(sys!(SYS_wait4, -1, 0, 0, 0), ECHILD);
    });
    assert_eq!(join(-1), 9);
    assert_eq!(word(at).load(SeqCst) as i32, sys::getpid());
}

fn another_exit_signal_needs_wall() {
    crate::signal::block(&[SIGUSR1]);
    let child = raw(SIGUSR1, stack(), nothing, 0).unwrap();
    crate::signal::take(&[SIGUSR1], 20_000_000_000).unwrap();
    fails(sys!(SYS_wait4, child, 0, 0, 0), ECHILD);
    assert_eq!(sys!(SYS_wait4, child, 0, __WCLONE, 0), Ok(child as usize));
}

fn clone_pidfd_gives_a_descriptor() {
    let at = map_shared(1);
    let call =
        Call { flags: SIGCHLD | CLONE_PIDFD, stack: stack(), parent_tid: at, ..Call::default() };
    let child = call.run(nothing, 0).unwrap();
    let fd = word(at).load(SeqCst) as i32;
    let mut info: siginfo_t = sys::zeroed();
    sys!(SYS_waitid, P_PIDFD, fd, &raw mut info, WEXITED, 0).unwrap();
    // SAFETY: filled by waitid.
    assert_eq!(unsafe { info.si_pid() }, child);
    assert_eq!(sys!(SYS_fcntl, fd, F_GETFD), Ok(FD_CLOEXEC as usize));
}

fn clone3_forks() {
    let args = [0u64, 0, 0, 0, SIGCHLD as u64, 0, 0, 0, 0, 0, 0];
    let steps = Steps::new();
    match sys!(SYS_clone3, args.as_ptr(), size_of_val(&args)).unwrap() {
        0 => {
            steps.reach(5);
            sys::exit_group(12)
        }
        child => assert_eq!(join(child as i32), 12),
    }
    assert_eq!(steps.now(), 5);
}

fn clone3_refuses_sizes_and_flags_it_does_not_know() {
    let mut args = [0u64; 16];
    args[4] = SIGCHLD as u64;
    fails(sys!(SYS_clone3, args.as_ptr(), 63), EINVAL);
    fails(sys!(SYS_clone3, args.as_ptr(), 8192), E2BIG);
    args[13] = 1;
    fails(sys!(SYS_clone3, args.as_ptr(), 128), E2BIG);
    args[13] = 0;
    args[0] = SIGCHLD as u64;
    fails(sys!(SYS_clone3, args.as_ptr(), 88), EINVAL);
    args[0] = 0;
    args[4] = 1000;
    fails(sys!(SYS_clone3, args.as_ptr(), 88), EINVAL);
    fails(sys!(SYS_clone3, 8, 88), EFAULT);
}

fn clone3_needs_stack_and_size_together() {
    let args = [0u64, 0, 0, 0, SIGCHLD as u64, stack() as u64, 0, 0];
    fails(sys!(SYS_clone3, args.as_ptr(), 64), EINVAL);
    let args = [0u64, 0, 0, 0, SIGCHLD as u64, 0, 4096, 0];
    fails(sys!(SYS_clone3, args.as_ptr(), 64), EINVAL);
}

fn unshare_parts_the_descriptors() {
    let at = map_shared(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sys!(SYS_unshare, CLONE_FILES).unwrap();
            sys!(SYS_dup2, 0, 444).unwrap();
            word(at).store(1, SeqCst);
        });
    });
    assert_eq!(word(at).load(SeqCst), 1);
    fails(sys!(SYS_fcntl, 444, F_GETFD), EBADF);
}
