//! What the kernel does on each trap: the handlers that `hal` calls.

use crate::signal::{self, Fault};
use crate::task::{current, stack};
use core::sync::atomic::Ordering;
use hal::apic::Ipi;
use hal::percpu;
use hal::trap::{Handlers, TrapFrame, vector};
use vm::fault::{Access, FaultError};

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// Registered once at boot.
pub static HANDLERS: Handlers = Handlers {
    page_fault,
    user_exception,
    fatal,
    interrupt,
    nmi,
    return_to_user,
    preempt: crate::sched::preempt,
    syscall: crate::syscalls::enter,
    traced_syscall: crate::syscalls::enter_traced,
    kernel_debug,
};

/// Bits of a page fault's error code.
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

fn page_fault(frame: &mut TrapFrame, addr: u64) -> bool {
    let from_user = frame.from_user();
    if from_user {
        crate::sched::charge_kernel(&current());
    } else if addr >= hal::user::USER_END || !hal::usercopy::has_fix_up(frame.rip) {
        return false;
    } else if percpu::preempt_state().0 > 0 {
        // A user copy under a spinning lock: report the bug where it is.
        return false;
    }
    // From here on this is ordinary task context.
    if frame.rflags & 0x200 != 0 {
        hal::irq::allow();
    }
    let task = current();
    let access = Access { write: frame.error & WRITE != 0, exec: frame.error & FETCH != 0 };
    crate::perf::fault_begins(&task, addr);
    let outcome = match task.mm() {
        Some(mm) if addr < hal::user::USER_END => mm.fault(addr, access),
        _ => Err(FaultError::NoArea),
    };
    task.counters.minor_faults.fetch_add(1, Ordering::Relaxed);
    crate::interrupts::count_fault();
    crate::perf::fault_ends(&task, frame, addr, outcome.is_ok());
    let Err(error) = outcome else { return true };
    let (signal, code) = match error {
        FaultError::NoArea => (SIGSEGV, 1),
        FaultError::NoAccess => (SIGSEGV, 2),
        FaultError::BeyondEnd => (SIGBUS, 2),
        FaultError::NoMemory => {
            #[cfg(feature = "checks")]
            if task.faults.take_failed() {
                // Nothing is full: the access is repeated, as Linux does.
                return true;
            }
            // With room elsewhere its policy's nodes are full: it ends itself. Otherwise the
            // right one is ended, and the access repeated.
            let made = !crate::oom::has_room(0) && crate::oom::make_room(0);
            if !made {
                crate::exit::out_of_memory();
            }
            return made || from_user;
        }
    };
    if from_user {
        signal::fault(frame, Fault { signal, code, addr });
    }
    from_user
}

/// A stack that overflows has no room for the page fault that says so: mostly it is a double fault.
fn fatal(frame: &TrapFrame, what: &str) -> ! {
    let overflow = matches!(frame.vector, vector::PAGE_FAULT | vector::DOUBLE_FAULT)
        && stack::is_guard(hal::trap::cr2());
    crate::panic::fatal(frame, if overflow { "kernel stack overflow" } else { what })
}

/// What the debug registers say of a debug exception: true if an address was hit, and no step done.
fn debug_hit(dr6: u64) -> bool {
    let hit = dr6 & hal::debug::HITS != 0;
    if hit {
        crate::ptrace::request::note_hits(&current(), dr6);
    }
    hit && dr6 & hal::debug::STEP == 0
}

/// The kernel touched what the running task watches: no trap comes of that, as on Linux.
fn kernel_debug() {
    hal::debug::take_status();
}

fn user_exception(frame: &mut TrapFrame) {
    crate::sched::charge_kernel(&current());
    // Before another task can run here and have its own.
    let dr6 = if frame.vector == vector::DEBUG { hal::debug::take_status() } else { 0 };
    hal::irq::allow();
    let (signal, code, addr) = match frame.vector {
        vector::DIVIDE => (SIGFPE, 1, frame.rip),
        // A step, or a hit of a debug register: TRAP_TRACE, TRAP_HWBKPT.
        vector::DEBUG => (SIGTRAP, if debug_hit(dr6) { 4 } else { 2 }, frame.rip),
        vector::BREAKPOINT => (SIGTRAP, 0x80, 0),
        vector::OVERFLOW => (SIGSEGV, 0x80, 0),
        vector::INVALID_OPCODE => (SIGILL, 2, frame.rip),
        vector::FLOATING_POINT | vector::SIMD => {
            (SIGFPE, signal::frame::float_code(frame.vector == vector::SIMD), frame.rip)
        }
        vector::ALIGNMENT => (SIGBUS, 1, 0),
        _ => (SIGSEGV, 0x80, 0),
    };
    signal::fault(frame, Fault { signal, code, addr });
}

fn interrupt(frame: &mut TrapFrame) {
    if frame.from_user() {
        crate::sched::charge_kernel(&current());
    }
    crate::perf::interrupted(frame);
    match frame.vector {
        vector::TIMER => {
            crate::interrupts::count_timer();
            hal::apic::end_of_interrupt();
            crate::sched::timers::on_interrupt();
        }
        vector::IPI => {
            hal::apic::end_of_interrupt();
            let asked = hal::apic::take_ipis();
            if asked & 1 << Ipi::Stop as u32 != 0 {
                hal::power::halt();
            }
            if asked & 1 << Ipi::Flush as u32 != 0 {
                crate::interrupts::count_flush();
                vm::tlb::on_request();
            }
            if asked & 1 << Ipi::Reschedule as u32 != 0 {
                crate::interrupts::count_reschedule();
                hal::percpu::set_need_resched();
            }
            if asked & 1 << Ipi::Look as u32 != 0 {
                crate::interrupts::count_reschedule();
                crate::sched::look_again();
            }
            if asked & 1 << Ipi::Perf as u32 != 0 {
                crate::perf::notify::on_interrupt();
            }
            if asked & 1 << Ipi::Call as u32 != 0 {
                crate::interrupts::count_call();
                crate::interrupts::run_calls();
            }
        }
        vector::COUNTER => {
            crate::interrupts::count_counter();
            hal::apic::end_of_interrupt();
            crate::perf::hw::on_interrupt();
        }
        vector::SPURIOUS => {}
        vector::ERROR => hal::apic::end_of_interrupt(),
        v => {
            crate::interrupts::device(v as u8);
            hal::apic::end_of_interrupt();
        }
    }
}

fn nmi(frame: &mut TrapFrame) {
    if crate::panic::is_panicking() {
        crate::panic::freeze(frame);
    }
    if crate::panic::ON_UNKNOWN_NMI.load(Ordering::Relaxed) {
        crate::panic::asked(frame);
    }
    hal::trap::STRAY_NMIS.fetch_add(1, Ordering::Relaxed);
}

/// Interrupts are off on entry and on return; what has to be done may turn them on.
fn return_to_user(frame: &mut TrapFrame) {
    loop {
        let task = current();
        if percpu::preempt_state().1 {
            hal::irq::allow();
            crate::sched::preempt();
        } else if task.signals.attention.load(Ordering::Acquire) != 0 {
            hal::irq::allow();
            signal::deliver(frame);
        } else {
            crate::sched::charge_return(&task);
            return;
        }
        hal::irq::disable();
    }
}
