//! The end: message, backtrace with names, and a reset if the command line asks for one.

use crate::console::print_emergency;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use hal::VirtAddr;

/// `panic=`: seconds to wait before a reset, 0 for ever, negative at once.
pub static REBOOT_AFTER: AtomicI32 = AtomicI32::new(0);
static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    hal::irq::disable();
    if PANICKING.swap(true, Ordering::SeqCst) {
        hal::power::halt();
    }
    stop_others();
    print_emergency(format_args!("\nKernel panic - not syncing: {}\n", info.message()));
    if let Some(place) = info.location() {
        print_emergency(format_args!("  at {place}, CPU {}\n", hal::percpu::cpu()));
    }
    backtrace(hal::trap::frame_pointer());
    finish()
}

/// A panic with a message of its own and the registers of a trap.
pub fn fatal(frame: &hal::trap::TrapFrame, what: &str) -> ! {
    hal::irq::disable();
    if PANICKING.swap(true, Ordering::SeqCst) {
        hal::power::halt();
    }
    stop_others();
    print_emergency(format_args!(
        "\nKernel panic - not syncing: {what}\n  CPU {} error {:#x} cr2 {:#x}\n{frame:#x?}\n",
        hal::percpu::cpu(),
        frame.error,
        hal::trap::cr2(),
    ));
    print_emergency(format_args!("Call trace:\n"));
    print_symbol(frame.rip);
    backtrace(frame.rbp);
    finish()
}

fn print_symbol(addr: u64) {
    match hal::symbols::lookup(addr) {
        Some((name, offset)) => print_emergency(format_args!("  {addr:#x} {name}+{offset:#x}\n")),
        None => print_emergency(format_args!("  {addr:#x}\n")),
    }
}

/// Prints the return addresses of a chain of frame pointers.
fn backtrace(mut rbp: u64) {
    for _ in 0..40 {
        let Some((next, ret)) = hal::trap::read_frame(VirtAddr::new(rbp)) else { break };
        print_symbol(ret);
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

fn finish() -> ! {
    print_emergency(format_args!("---[ end Kernel panic ]---\n"));
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
    PANICKING.load(Ordering::Relaxed)
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
