//! Processes: clone, exec, exit, wait, ids.

use super::Ctx;
use crate::clone::{CloneArgs, clone as make_clone};
use crate::exec::{self, Program};
use crate::signal::SigInfo;
use crate::wait::{self, Options, Which};
use abi::raw::general as g;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;

crate::syscalls! {
    39 getpid() => getpid;
    56 clone(flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) => clone;
    57 fork() => fork;
    58 vfork() => vfork;
    59 execve(path: VirtAddr, argv: u64, envp: u64) => execve;
    60 exit(status: i32) => exit;
    61 wait4(pid: i32, status: VirtAddr, options: u32, rusage: VirtAddr) => wait4;
    110 getppid() => getppid;
    158 arch_prctl(code: u32, addr: u64) => arch_prctl;
    186 gettid() => gettid;
    218 set_tid_address(addr: u64) => set_tid_address;
    231 exit_group(status: i32) => exit_group;
    247 waitid(kind: i32, id: i32, info: VirtAddr, options: u32, rusage: VirtAddr) => waitid;
    309 getcpu(cpu: VirtAddr, node: VirtAddr) => getcpu;
    322 execveat(dirfd: i32, path: VirtAddr, argv: u64, envp: u64, flags: u32) => execveat;
    435 clone3(args: VirtAddr, size: usize) => clone3;
}

fn getpid(c: &mut Ctx<'_>) -> Result<i32> {
    Ok(c.task.pid())
}

fn gettid(c: &mut Ctx<'_>) -> Result<i32> {
    Ok(c.task.tid())
}

fn getppid(c: &mut Ctx<'_>) -> Result<i32> {
    Ok(c.task.process.ppid())
}

fn clone(
    c: &mut Ctx<'_>,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> Result<i32> {
    let args = CloneArgs {
        flags: flags & 0xffff_ff00,
        exit_signal: (flags & 0xff) as i32,
        stack,
        tls,
        parent_tid,
        child_tid,
        // clone(2) has no argument of its own for it.
        pidfd: parent_tid,
        cgroup: None,
    };
    let both = u64::from(g::CLONE_PIDFD | g::CLONE_PARENT_SETTID);
    if args.flags & both == both {
        return Err(Errno::EINVAL);
    }
    make_clone(args, c.frame)
}

fn fork(c: &mut Ctx<'_>) -> Result<i32> {
    make_clone(CloneArgs { exit_signal: 17, ..CloneArgs::default() }, c.frame)
}

fn vfork(c: &mut Ctx<'_>) -> Result<i32> {
    let flags = u64::from(g::CLONE_VM | g::CLONE_VFORK);
    make_clone(CloneArgs { flags, exit_signal: 17, ..CloneArgs::default() }, c.frame)
}

fn clone3(c: &mut Ctx<'_>, at: VirtAddr, size: usize) -> Result<i32> {
    const V0: usize = 64;
    /// CLONE_CLEAR_SIGHAND. Beside it only the flags of clone(2) are known.
    const CLEAR_SIGHAND: u64 = 1 << 32;
    const INTO_CGROUP: u64 = 1 << 33;
    /// With the descriptor of a group.
    const V2: usize = 88;
    if size > vm::PAGE as usize {
        return Err(Errno::E2BIG);
    }
    if size < V0 {
        return Err(Errno::EINVAL);
    }
    let mut words = [0u64; 11];
    let known = size.min(88);
    for (i, word) in words.iter_mut().enumerate().take(known / 8) {
        *word = hal::user::read(at + i as u64 * 8)?;
    }
    // What this kernel does not know must not be asked for.
    for i in known..size {
        if hal::user::read::<u8>(at + i as u64)? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        cgroup,
    ] = words;
    let thread_like = flags & u64::from(g::CLONE_THREAD | g::CLONE_PARENT) != 0;
    if flags & 0xff != 0
        || exit_signal > 64
        || thread_like && exit_signal != 0
        || (stack == 0) != (stack_size == 0)
        || flags & u64::from(g::CLONE_DETACHED) != 0
        || flags & !(u64::from(u32::MAX) | CLEAR_SIGHAND | INTO_CGROUP) != 0
        || flags & INTO_CGROUP != 0 && (cgroup > i32::MAX as u64 || size < V2)
        || flags & CLEAR_SIGHAND != 0 && flags & u64::from(g::CLONE_SIGHAND) != 0
    {
        return Err(Errno::EINVAL);
    }
    if set_tid != 0 || set_tid_size != 0 {
        return Err(Errno::EINVAL);
    }
    let group = if flags & INTO_CGROUP == 0 {
        None
    } else {
        let file = c.file(cgroup as i32)?;
        let creds = c.task.credentials();
        Some(crate::cgroup::birth::target(&file, &creds.fs)?)
    };
    let stack = if stack == 0 { 0 } else { stack.checked_add(stack_size).ok_or(Errno::EINVAL)? };
    let args = CloneArgs {
        flags,
        exit_signal: exit_signal as i32,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd,
        cgroup: group,
    };
    make_clone(args, c.frame)
}

fn execve(c: &mut Ctx<'_>, path: VirtAddr, argv: u64, envp: u64) -> Result<u64> {
    let name = hal::user::read_cstr(path, 4095)?;
    let mut total = 0;
    let args = exec::read_strings(argv, &mut total)?;
    let env = exec::read_strings(envp, &mut total)?;
    let file = exec::open(&name).inspect_err(|error| {
        if *error == Errno::ENOENT {
            crate::missing::note_path(&name, || c.as_caller(|caller| caller.cwd_text()));
        }
    })?;
    exec::exec(Program { file, name, args, env }, c.frame)?;
    Ok(c.frame.rax)
}

/// The name under which a program is run that was found through a descriptor.
fn name_at(dirfd: i32, path: &[u8]) -> alloc::vec::Vec<u8> {
    if dirfd == g::AT_FDCWD || path.first() == Some(&b'/') {
        return path.to_vec();
    }
    let mut name = alloc::format!("/dev/fd/{dirfd}").into_bytes();
    if !path.is_empty() {
        name.push(b'/');
        name.extend_from_slice(path);
    }
    name
}

fn execveat(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    argv: u64,
    envp: u64,
    flags: u32,
) -> Result<u64> {
    if flags & !exec::EXECVEAT_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let path = hal::user::read_cstr(path, 4095)?;
    let mut total = 0;
    let args = exec::read_strings(argv, &mut total)?;
    let env = exec::read_strings(envp, &mut total)?;
    let how = fs::context::Lookup {
        follow: flags & g::AT_SYMLINK_NOFOLLOW == 0,
        empty: flags & g::AT_EMPTY_PATH != 0,
        resolve: 0,
    };
    let start = c.start(dirfd, &path)?;
    let file = c.as_caller(|caller| caller.open_exec(start.at(), &path, how))?;
    let name = name_at(dirfd, &path);
    exec::exec(Program { file, name, args, env }, c.frame)?;
    Ok(c.frame.rax)
}

fn exit(_: &mut Ctx<'_>, status: i32) -> Result<()> {
    crate::exit::exit_thread((status & 0xff) << 8)
}

fn exit_group(_: &mut Ctx<'_>, status: i32) -> Result<()> {
    crate::exit::exit_group((status & 0xff) << 8)
}

fn wait4(
    _: &mut Ctx<'_>,
    pid: i32,
    status: VirtAddr,
    options: u32,
    rusage: VirtAddr,
) -> Result<i32> {
    const KNOWN: u32 =
        g::WNOHANG | g::WUNTRACED | g::WCONTINUED | g::__WNOTHREAD | g::__WALL | g::__WCLONE;
    if options & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    let own_group = crate::task::current().process.place.lock().pgid;
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(own_group),
        p if p < 0 => Which::Group(-p),
        p => Which::Pid(p),
    };
    let options = Options {
        exited: true,
        stopped: options & g::WUNTRACED != 0,
        continued: options & g::WCONTINUED != 0,
        no_hang: options & g::WNOHANG != 0,
        keep: false,
        own_thread: options & g::__WNOTHREAD != 0,
        clone_children: (options & g::__WALL == 0).then_some(options & g::__WCLONE != 0),
    };
    let Some(report) = wait::wait(which, options)? else { return Ok(0) };
    if status.raw() != 0 {
        hal::user::write(status, &report.status)?;
    }
    if rusage.raw() != 0 {
        hal::user::copy_to(rusage, hal::user::slice_bytes(&report.used.as_rusage()))?;
    }
    Ok(report.pid)
}

/// The fields of `siginfo_t` that waitid(2) fills in.
fn write_report(at: VirtAddr, report: Option<&wait::Report>) -> Result<()> {
    let mut words = [0i32; 7];
    if let Some(report) = report {
        let info = SigInfo::child(17, report.pid, report.uid, report.event, 0, 0);
        for (word, value) in words.iter_mut().zip(info.0) {
            *word = value as i32;
        }
    }
    // The padding before the ids is not written.
    hal::user::copy_to(at, hal::user::slice_bytes(&words[..3]))?;
    hal::user::copy_to(at + 16, hal::user::slice_bytes(&words[4..]))
}

fn waitid(
    c: &mut Ctx<'_>,
    kind: i32,
    id: i32,
    info: VirtAddr,
    options: u32,
    rusage: VirtAddr,
) -> Result<()> {
    const EVENTS: u32 = g::WEXITED | g::WSTOPPED | g::WCONTINUED;
    const KNOWN: u32 = EVENTS | g::WNOHANG | g::WNOWAIT | g::__WNOTHREAD | g::__WALL | g::__WCLONE;
    if options & !KNOWN != 0 || options & EVENTS == 0 {
        return Err(Errno::EINVAL);
    }
    let own_group = c.task.process.place.lock().pgid;
    let mut at_once = false;
    let which = match (kind as u32, id) {
        (g::P_PIDFD, fd) => {
            let file = c.file(fd)?;
            at_once = file.nonblocking() && options & g::WNOHANG == 0;
            Which::Pid(crate::pidfd::process_of(&file)?.pid)
        }
        (g::P_ALL, _) => Which::Any,
        (g::P_PID, id) if id > 0 => Which::Pid(id),
        (g::P_PGID, 0) => Which::Group(own_group),
        (g::P_PGID, id) if id > 0 => Which::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let options = Options {
        exited: options & g::WEXITED != 0,
        stopped: options & g::WSTOPPED != 0,
        continued: options & g::WCONTINUED != 0,
        no_hang: options & g::WNOHANG != 0 || at_once,
        keep: options & g::WNOWAIT != 0,
        own_thread: options & g::__WNOTHREAD != 0,
        clone_children: (options & g::__WALL == 0).then_some(options & g::__WCLONE != 0),
    };
    let report = wait::wait(which, options)?;
    if report.is_none() && at_once {
        return Err(Errno::EAGAIN);
    }
    if let Some(report) = &report
        && rusage.raw() != 0
    {
        hal::user::copy_to(rusage, hal::user::slice_bytes(&report.used.as_rusage()))?;
    }
    if info.raw() != 0 {
        write_report(info, report.as_ref())?;
    }
    Ok(())
}

fn set_tid_address(c: &mut Ctx<'_>, addr: u64) -> Result<i32> {
    c.task.clear_child_tid.store(addr, Ordering::Relaxed);
    Ok(c.task.tid())
}

fn arch_prctl(_: &mut Ctx<'_>, code: u32, addr: u64) -> Result<()> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    let (fs, gs) = hal::switch::read_user_bases();
    let check = || if addr >= hal::user::USER_END { Err(Errno::EPERM) } else { Ok(()) };
    match code {
        SET_FS => check().map(|()| hal::switch::load_user_bases(addr, gs)),
        SET_GS => check().map(|()| hal::switch::load_user_bases(fs, addr)),
        GET_FS => hal::user::write(VirtAddr::new(addr), &fs),
        GET_GS => hal::user::write(VirtAddr::new(addr), &gs),
        _ => Err(Errno::EINVAL),
    }
}

fn getcpu(_: &mut Ctx<'_>, cpu: VirtAddr, node: VirtAddr) -> Result<()> {
    tell_cpu(cpu, node)
}

/// getcpu(2), which asks nothing of the task.
#[inline(always)]
pub fn tell_cpu(cpu: VirtAddr, node: VirtAddr) -> Result<()> {
    let here = hal::percpu::cpu();
    // Of that CPU, even if the task goes elsewhere meanwhile.
    let near = vm::env::machine().node_of(here);
    if cpu.raw() != 0 {
        hal::user::write(cpu, &(here.index() as u32))?;
    }
    if node.raw() != 0 {
        hal::user::write(node, &(near.index() as u32))?;
    }
    Ok(())
}
