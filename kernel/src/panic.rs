//! The end: message, backtrace with names, where the other CPUs were, and a reset if the command
//! line asks for one.

use crate::console::print_emergency;
use crate::task::State;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use hal::VirtAddr;
use hal::trap::TrapFrame;
use numa::{AtomicCpuMask, CpuMask, MAX_CPUS};

/// `panic=`: seconds to wait before a reset, 0 for ever, negative at once.
pub static REBOOT_AFTER: AtomicI32 = AtomicI32::new(0);
/// `unknown_nmi_panic`: who holds the machine's NMI button wants to know why nothing happens.
pub static ON_UNKNOWN_NMI: AtomicBool = AtomicBool::new(false);
/// The CPU that panics, [`NOBODY`] before.
static PANICKING: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;
/// Faults inside the panic so far.
static AGAIN: AtomicU32 = AtomicU32::new(0);

/// Begins a panic. Only the first CPU that comes here returns; if it comes again, what told of the
/// panic has failed itself: that is said, and the machine ends as it was to.
fn begin(what: core::fmt::Arguments<'_>, at: u64) {
    hal::irq::disable();
    let me = hal::percpu::cpu().index() as u32;
    match PANICKING.compare_exchange(NOBODY, me, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        Err(cpu) if cpu != me => hal::power::halt(),
        Err(_) => {
            match AGAIN.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    print_emergency(format_args!("\nFault inside the panic: {what}, at {at:#x}\n"));
                    print_emergency(format_args!("---[ end Kernel panic ]---\n"));
                }
                1 => {}
                // Not even the end works.
                _ => hal::power::reset(),
            }
            reboot()
        }
    }
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    begin(format_args!("{}", info.message()), hal::trap::frame_pointer());
    freeze_others();
    print_emergency(format_args!("\nKernel panic - not syncing: {}\n", info.message()));
    if let Some(place) = info.location() {
        print_emergency(format_args!("  at {place}, CPU {}\n", hal::percpu::cpu()));
    }
    backtrace(hal::trap::frame_pointer(), 40);
    finish()
}

/// A panic with a message of its own and the registers of a trap.
pub fn fatal(frame: &TrapFrame, what: &str) -> ! {
    begin(format_args!("{what}, cr2 {:#x}", hal::trap::cr2()), frame.rip);
    freeze_others();
    print_emergency(format_args!(
        "\nKernel panic - not syncing: {what}\n  CPU {} error {:#x} cr2 {:#x}\nCall trace:\n",
        hal::percpu::cpu(),
        frame.error,
        hal::trap::cr2(),
    ));
    // The trace first: it is what whoever cuts the end off must not lose.
    print_symbol(frame.rip);
    backtrace(frame.rbp, 40);
    print_emergency(format_args!("{frame}"));
    finish()
}

/// Ends the machine, in one line, on a CPU without what the kernel or its programs must have.
pub fn unless_able() {
    if let Some(feature) = hal::cpu::missing() {
        print_emergency(format_args!("\nKernel panic - not syncing: this CPU lacks {feature}\n"));
        reboot()
    }
}

/// A panic that was asked for by NMI, most likely because the machine hangs: tells where every CPU
/// and every waiting task is.
pub fn asked(frame: &TrapFrame) -> ! {
    begin(format_args!("NMI from outside"), frame.rip);
    freeze_others();
    print_emergency(format_args!(
        "\nKernel panic - not syncing: NMI from outside\nCPU {} was at\n",
        hal::percpu::cpu()
    ));
    print_symbol(frame.rip);
    backtrace(frame.rbp, 40);
    crate::sched::tell(print_emergency);
    tell_the_tasks();
    finish()
}

/// Where every task waits that does not run.
fn tell_the_tasks() {
    let told = crate::task::table::try_each(|task| {
        let state = task.state();
        if state == State::Dead || !task.run_state.is_off_cpu() {
            return;
        }
        let comm = task.try_comm().unwrap_or_default();
        let name = comm.split(|&byte| byte == 0).next().and_then(|n| str::from_utf8(n).ok());
        print_emergency(format_args!(
            "task {} of process {} ({}), {state:?}, last on CPU {}\n",
            task.tid(),
            task.pid(),
            name.unwrap_or("?"),
            task.last_cpu()
        ));
        if let Some((rbp, rip)) = hal::switch::resumes_at(task.saved_sp.load(Ordering::Relaxed)) {
            print_symbol(rip);
            backtrace(rbp, 8);
        }
    });
    if !told {
        print_emergency(format_args!("the table of tasks is locked\n"));
    }
}

fn print_symbol(addr: u64) {
    match hal::symbols::lookup(addr) {
        Some((name, offset)) => print_emergency(format_args!("  {addr:#x} {name}+{offset:#x}\n")),
        None => print_emergency(format_args!("  {addr:#x}\n")),
    }
}

/// Prints up to `most` return addresses of a chain of frame pointers.
fn backtrace(mut rbp: u64, most: usize) {
    for _ in 0..most {
        let Some((next, ret)) = hal::trap::read_frame(VirtAddr::new(rbp)) else { break };
        print_symbol(ret);
        // Up, or from the stack of interrupts to what was interrupted.
        if next <= rbp && crate::task::stack::are_one(next, rbp) {
            break;
        }
        rbp = next;
    }
}

/// Where a CPU was when another one's panic stopped it: instruction and frame pointer; whether in
/// user mode.
struct Place {
    rip: AtomicU64,
    rbp: AtomicU64,
    in_user: AtomicBool,
}

static PLACES: [Place; MAX_CPUS] = [const {
    Place { rip: AtomicU64::new(0), rbp: AtomicU64::new(0), in_user: AtomicBool::new(false) }
}; MAX_CPUS];
/// CPUs whose place is told.
static FROZEN: AtomicCpuMask = AtomicCpuMask::new();
/// How long a panic waits for the others to stop.
const PATIENCE: u64 = 200_000_000;

/// Stops every other CPU by NMI, which reaches those that have interrupts off, too.
fn freeze_others() {
    let others = crate::boot::cpus::online().without(hal::percpu::cpu());
    for cpu in others.iter() {
        if let Some(area) = hal::cpu_area::of(cpu) {
            hal::apic::send_nmi(area.apic_id());
        }
    }
    let end = hal::time::now() + PATIENCE;
    while !(others - FROZEN.load(Ordering::Acquire)).is_empty() && hal::time::now() < end {
        core::hint::spin_loop();
    }
}

/// An NMI during a panic: says where this CPU was, and stops it.
pub fn freeze(frame: &TrapFrame) -> ! {
    let cpu = hal::percpu::cpu();
    let place = &PLACES[cpu.index()];
    place.rip.store(frame.rip, Ordering::Relaxed);
    place.rbp.store(frame.rbp, Ordering::Relaxed);
    place.in_user.store(frame.from_user(), Ordering::Relaxed);
    FROZEN.set(cpu, Ordering::Release);
    hal::power::halt()
}

/// Where the other CPUs were: those that run something, and who did not answer.
fn tell_the_others() {
    let frozen = FROZEN.load(Ordering::Acquire);
    let mut idle = CpuMask::EMPTY;
    for cpu in crate::boot::cpus::online().without(hal::percpu::cpu()).iter() {
        if !frozen.contains(cpu) {
            print_emergency(format_args!("CPU {cpu} does not answer\n"));
            continue;
        }
        let place = &PLACES[cpu.index()];
        let rip = place.rip.load(Ordering::Relaxed);
        if hal::symbols::lookup(rip).is_some_and(|(name, _)| name.contains("idle::run")) {
            idle.insert(cpu);
        } else if place.in_user.load(Ordering::Relaxed) {
            print_emergency(format_args!("CPU {cpu} was in user mode at {rip:#x}\n"));
        } else {
            print_emergency(format_args!("CPU {cpu} was at\n"));
            print_symbol(rip);
            backtrace(place.rbp.load(Ordering::Relaxed), 8);
        }
    }
    if !idle.is_empty() {
        print_emergency(format_args!("CPUs {idle} were idle\n"));
    }
}

fn finish() -> ! {
    tell_the_others();
    #[cfg(feature = "checks")]
    crate::provoke::in_panic();
    print_emergency(format_args!("---[ end Kernel panic ]---\n"));
    reboot()
}

/// Ends the machine as `panic=` says: halts it or resets it.
fn reboot() -> ! {
    match REBOOT_AFTER.load(Ordering::Relaxed) {
        0 => hal::power::halt(),
        n => {
            if n > 0 {
                hal::time::spin_ns(n as u64 * 1_000_000_000);
            }
            hal::power::reset()
        }
    }
}

/// A panic is under way.
pub fn is_panicking() -> bool {
    PANICKING.load(Ordering::Relaxed) != NOBODY
}

/// Stops every other CPU where it is (power-off, reset).
pub fn stop_others() {
    let _irq = hal::irq::IrqOff::new();
    let me = hal::percpu::cpu();
    for cpu in crate::boot::cpus::online().without(me).iter() {
        if let Some(area) = hal::cpu_area::of(cpu) {
            hal::apic::send_ipi(area, hal::apic::Ipi::Stop);
        }
    }
}
