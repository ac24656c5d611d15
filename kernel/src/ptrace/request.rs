//! The system call: what a tracer asks.

use super::state::{Inner, Traced, is_asleep};
use super::{links, memory, registers, special};
use crate::signal::attention::SIGNAL;
use crate::signal::{self, SigInfo, sig};
use crate::task::{Task, TaskRef, current, table};
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::fallible::filled;
use hal::VirtAddr;
use hal::user::slice_bytes;
use ptrace::regs::{COUNT, FP_SIZE, Words};
use ptrace::request as r;
use ptrace::{Attach, Call, Kind, Mode, Options};
use sync::SpinGuard;

pub use super::registers::forget_debug_registers;

/// `NT_PRSTATUS`, `NT_PRFPREG`, `NT_X86_XSTATE`.
const NOTES: [u64; 3] = [1, 2, 0x202];
/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;
/// Bytes of `struct ptrace_syscall_info`, and of its parts: what all have, an entry's, an exit's.
const INFO_SIZES: [usize; 4] = [88, 24, 80, 33];
/// PTRACE_PEEKSIGINFO_SHARED.
const SHARED: u32 = 1;

/// ptrace(2). ESRCH for what is no stopped tracee of the caller's.
pub fn ptrace(request: u64, tid: i32, addr: u64, data: u64) -> Result<u64> {
    if request == r::TRACEME {
        return links::trace_me().map(|()| 0);
    }
    let Some(task) = table::task(tid) else {
        // What has ended and was not reaped is there, but not to be attached to.
        let attaches = matches!(request, r::ATTACH | r::SEIZE) && table::process(tid).is_some();
        return Err(if attaches { Errno::EPERM } else { Errno::ESRCH });
    };
    match request {
        r::ATTACH => links::attach(&task, Attach::Stopping, Options::default()).map(|()| 0),
        r::SEIZE => {
            if addr != 0 || !Options::are_known(data) {
                return Err(Errno::EIO);
            }
            links::attach(&task, Attach::Seizing, Options::new(data)?).map(|()| 0)
        }
        r::INTERRUPT => links::interrupt(&task).map(|()| 0),
        r::KILL => kill(&task).map(|()| 0),
        r::DETACH => {
            drop(hold(&task)?);
            links::detach(&task, data).map(|()| 0)
        }
        _ => of_stopped(request, &task, addr, data),
    }
}

fn is_mine(traced: &Traced) -> bool {
    core::ptr::eq(&*traced.tracer.0, &*current())
}

/// PTRACE_KILL: no more than a SIGKILL, whatever the tracee does.
fn kill(task: &TaskRef) -> Result<()> {
    if !task.trace.lock().now.as_ref().is_some_and(|traced| is_mine(traced)) {
        return Err(Errno::ESRCH);
    }
    signal::send_kernel(&task.process, sig::KILL);
    Ok(())
}

/// A stopped tracee of the running task's: it stays where it is while this is there.
struct Held<'a> {
    task: &'a TaskRef,
    inner: SpinGuard<'a, Inner>,
}

impl Held<'_> {
    fn traced(&mut self) -> Result<&mut Traced> {
        self.inner.now.as_deref_mut().ok_or(Errno::ESRCH)
    }
}

/// Holds `task`, once it sleeps in its stop. ESRCH.
fn hold(task: &TaskRef) -> Result<Held<'_>> {
    let mut tries = 0;
    loop {
        {
            let mut inner = task.trace.lock();
            let traced = inner.now.as_mut().filter(|traced| is_mine(traced)).ok_or(Errno::ESRCH)?;
            traced.state.stopped()?;
            if signal::killed(task) {
                return Err(Errno::ESRCH);
            }
            if is_asleep(task) {
                return Ok(Held { task, inner });
            }
        }
        wait_for_sleep(tries);
        tries += 1;
    }
}

/// Gives a task that is about to sleep the time for that: this CPU first.
fn wait_for_sleep(tries: u32) {
    /// Nanoseconds: a few switches.
    const PAUSE: u64 = 50_000;
    if tries < 4 {
        return crate::sched::yield_now();
    }
    let never = sync::WaitQueue::new();
    let until = hal::time::now() + PAUSE;
    // It ends with the time, or with the caller.
    let _ended =
        signal::killable(&current(), || never.wait_interruptible(Some(until), || None::<()>));
}

fn of_stopped(request: u64, task: &TaskRef, addr: u64, data: u64) -> Result<u64> {
    let at = VirtAddr::new(data);
    match request {
        r::PEEKTEXT | r::PEEKDATA => {
            let mm = memory::of(task, hold(task)?.traced()?)?;
            hal::user::write(at, &memory::peek(&mm, addr)?)?;
        }
        r::POKETEXT | r::POKEDATA => {
            let mm = memory::of(task, hold(task)?.traced()?)?;
            memory::poke(&mm, addr, data)?;
        }
        r::PEEKUSER => {
            let word = registers::peek_user(task, hold(task)?.traced()?, addr)?;
            hal::user::write(at, &word)?;
        }
        r::POKEUSER => registers::poke_user(task, hold(task)?.traced()?, addr, data)?,
        r::CONT => resume(task, Mode::Cont, data)?,
        r::SYSCALL => resume(task, Mode::Syscall, data)?,
        r::SYSEMU => resume(task, Mode::Emulate, data)?,
        r::SINGLESTEP => resume(task, Mode::Step, data)?,
        r::SYSEMU_SINGLESTEP => resume(task, Mode::EmulateStep, data)?,
        r::GETREGS => hal::user::write(at, &read_registers(task)?)?,
        r::SETREGS => {
            drop(hold(task)?);
            write_registers(task, &hal::user::read::<Words>(at)?)?;
        }
        r::GETFPREGS => {
            let image = vectors(task)?;
            hal::user::copy_to(at, &image[..FP_SIZE])?;
        }
        r::SETFPREGS => {
            drop(hold(task)?);
            set_vectors(task, &hal::user::read_vec::<u8>(at, FP_SIZE)?)?;
        }
        r::GETREGSET | r::SETREGSET => register_set(request == r::SETREGSET, task, addr, at)?,
        r::SETOPTIONS | r::OLDSETOPTIONS => {
            let mut held = hold(task)?;
            held.traced()?.state.options = Options::new(data)?;
        }
        r::GETEVENTMSG => {
            let message = hold(task)?.traced()?.state.stopped()?.message;
            hal::user::write(at, &message)?;
        }
        r::GETSIGINFO => {
            let info = hold(task)?.traced()?.state.stopped()?.info.ok_or(Errno::EINVAL)?;
            hal::user::write(at, &info.0)?;
        }
        r::SETSIGINFO => {
            drop(hold(task)?);
            let info = SigInfo(hal::user::read(at)?);
            let mut held = hold(task)?;
            let stop = held.traced()?.state.stopped()?;
            stop.info.as_mut().map(|slot| *slot = info).ok_or(Errno::EINVAL)?;
        }
        r::LISTEN => listen(task)?,
        r::PEEKSIGINFO => return peek_signals(task, VirtAddr::new(addr), at),
        r::GETSIGMASK | r::SETSIGMASK => mask(request == r::SETSIGMASK, task, addr, at)?,
        r::GET_SYSCALL_INFO => return call_info(task, addr, at),
        r::GET_RSEQ_CONFIGURATION => return rseq(task, addr, at),
        r::ARCH_PRCTL => arch_prctl(task, data, addr)?,
        _ => {
            drop(hold(task)?);
            return Err(Errno::EIO);
        }
    }
    Ok(0)
}

/// PTRACE_CONT and its kin. EIO for what is no signal.
fn resume(task: &TaskRef, mode: Mode, signal: u64) -> Result<()> {
    let mut held = hold(task)?;
    let traced = held.traced()?;
    traced.state.resume(mode, signal)?;
    traced.set_step(mode.steps());
    special::set_calls(task, mode.stops_at_entry() || mode.steps());
    super::state::wake(held.task);
    Ok(())
}

/// PTRACE_LISTEN. EIO for a tracee that was not seized, or not in a stop of that kind.
fn listen(task: &TaskRef) -> Result<()> {
    let mut held = hold(task)?;
    if held.traced()?.state.listen()? {
        super::state::wake(held.task);
    }
    Ok(())
}

fn read_registers(task: &TaskRef) -> Result<Words> {
    Ok(registers::read(task, hold(task)?.traced()?))
}

fn write_registers(task: &TaskRef, words: &[u64]) -> Result<()> {
    registers::write_all(task, hold(task)?.traced()?, words)
}

/// The tracee's vector state, in the format of XSAVE, every component written out.
fn vectors(task: &TaskRef) -> Result<Vec<u8>> {
    let mut image = filled(0u8, hal::fpu::size())?;
    let _held = hold(task)?;
    task.fpu.switching().copy_whole(&mut image);
    Ok(image)
}

/// EINVAL for what a CPU would not load.
fn set_vectors(task: &TaskRef, image: &[u8]) -> Result<()> {
    let _held = hold(task)?;
    if task.fpu.switching().set_checked(image) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// PTRACE_GETREGSET and PTRACE_SETREGSET, with a `struct iovec` whose length becomes what was
/// copied. EINVAL for a set that is not there, or a part of a word.
fn register_set(set: bool, task: &TaskRef, note: u64, at: VirtAddr) -> Result<()> {
    drop(hold(task)?);
    let [base, len] = hal::user::read::<[u64; 2]>(at)?;
    let [status, float, xstate] = NOTES;
    let size = match note {
        n if n == status => COUNT * 8,
        n if n == float => FP_SIZE,
        n if n == xstate && hal::cpu::features().xsave() => hal::fpu::size(),
        _ => return Err(Errno::EINVAL),
    };
    if !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let len = (len as usize).min(size);
    let base = VirtAddr::new(base);
    match (set, note == status) {
        (false, true) => {
            let words = read_registers(task)?;
            hal::user::copy_to(base, &slice_bytes(&words)[..len])?;
        }
        (false, false) => hal::user::copy_to(base, &vectors(task)?[..len])?,
        (true, true) => {
            let words = hal::user::read_vec::<u64>(base, len / 8)?;
            write_registers(task, &words)?;
        }
        (true, false) => {
            if len != size {
                return Err(if note == float { Errno::EINVAL } else { Errno::EFAULT });
            }
            set_vectors(task, &hal::user::read_vec::<u8>(base, len)?)?;
        }
    }
    hal::user::write(at + 8, &(len as u64))
}

/// PTRACE_PEEKSIGINFO: how many of the pending signals, from one on, were copied.
fn peek_signals(task: &TaskRef, args: VirtAddr, at: VirtAddr) -> Result<u64> {
    drop(hold(task)?);
    let from: u64 = hal::user::read(args)?;
    let [flags, count] = hal::user::read::<[u32; 2]>(args + 8)?;
    if flags & !SHARED != 0 || (count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let pending =
        if flags & SHARED != 0 { &task.process.signals.pending } else { &task.signals.pending };
    let mut copied = 0;
    while copied < u64::from(count) {
        let Some(info) = from.checked_add(copied).and_then(|n| pending.peek(n as usize)) else {
            break;
        };
        if let Err(error) = hal::user::write(at + copied * 128, &info.0) {
            return if copied > 0 { Ok(copied) } else { Err(error) };
        }
        copied += 1;
        if signal::interrupts(&current()) {
            break;
        }
    }
    Ok(copied)
}

/// PTRACE_GETSIGMASK and PTRACE_SETSIGMASK. EINVAL for another size than a set's.
fn mask(set: bool, task: &TaskRef, size: u64, at: VirtAddr) -> Result<()> {
    drop(hold(task)?);
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    if !set {
        let mask = {
            let _held = hold(task)?;
            task.signals.mask_to_come()
        };
        return hal::user::write(at, &mask);
    }
    let mask = hal::user::read(at)?;
    let _held = hold(task)?;
    task.signals.replace_mask(mask);
    task.signals.ask(SIGNAL);
    Ok(())
}

/// PTRACE_GET_SYSCALL_INFO: its size, of which `room` bytes at most are copied.
fn call_info(task: &TaskRef, room: u64, at: VirtAddr) -> Result<u64> {
    let (kind, frame) = {
        let mut held = hold(task)?;
        let traced = held.traced()?;
        (traced.state.stopped()?.kind, traced.frame)
    };
    let mut words = [0u64; 11];
    words[1] = frame.rip;
    words[2] = frame.rsp;
    let op = match kind {
        Kind::Call { at: Call::Entry, marked: true } => {
            words[3..10].copy_from_slice(&[
                frame.error,
                frame.rdi,
                frame.rsi,
                frame.rdx,
                frame.r10,
                frame.r8,
                frame.r9,
            ]);
            1
        }
        Kind::Call { at: Call::Exit, marked: true } => {
            words[3] = frame.rax;
            // The last 4095 values are errors.
            words[4] = u64::from(frame.rax > u64::MAX - 4095);
            2
        }
        _ => 0,
    };
    words[0] = op | u64::from(ARCH) << 32;
    let size = match op {
        0 => INFO_SIZES[1],
        1 => INFO_SIZES[2],
        _ => INFO_SIZES[3],
    };
    let len = size.min(usize::try_from(room).unwrap_or(usize::MAX));
    hal::user::copy_to(at, &slice_bytes(&words)[..len])?;
    Ok(size as u64)
}

/// PTRACE_GET_RSEQ_CONFIGURATION: the size of what was copied. EINVAL for another one.
fn rseq(task: &TaskRef, size: u64, at: VirtAddr) -> Result<u64> {
    const SIZE: u64 = 24;
    let area = {
        let _held = hold(task)?;
        *task.rseq.lock()
    };
    if size != SIZE {
        return Err(Errno::EINVAL);
    }
    let (addr, len, signature) = area;
    let words = [addr, u64::from(len) | u64::from(signature) << 32, 0];
    hal::user::write(at, &words)?;
    Ok(SIZE)
}

/// PTRACE_ARCH_PRCTL: the two bases. EINVAL; EPERM beyond user addresses.
fn arch_prctl(task: &TaskRef, code: u64, addr: u64) -> Result<()> {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    let held = hold(task)?;
    let (fs, gs) = *task.bases.switching();
    let new = match code {
        SET_FS => (addr, gs),
        SET_GS => (fs, addr),
        GET_FS | GET_GS => {
            drop(held);
            let base = if code == GET_FS { fs } else { gs };
            return hal::user::write(VirtAddr::new(addr), &base);
        }
        _ => return Err(Errno::EINVAL),
    };
    if addr >= hal::user::USER_END {
        return Err(Errno::EPERM);
    }
    *task.bases.switching() = new;
    Ok(())
}

/// A debug exception of the running task: what the debug registers say of it. True if an address was
/// hit.
pub fn note_hits(task: &Task, dr6: u64) -> bool {
    task.trace.debug.lock().note(dr6)
}
