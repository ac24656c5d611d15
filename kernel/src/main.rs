//! Proxima: a Linux-compatible kernel for NUMA. This file reads as the boot order.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod access;
mod boot;
mod cgroup;
mod chain;
mod clone;
mod console;
mod creds;
mod creds_calls;
mod devmem;
mod elf;
mod entry;
mod exec;
mod exit;
#[cfg(feature = "checks")]
mod faults;
mod files;
mod futex;
mod hugetlb;
mod interrupts;
mod ipc;
mod khugepaged;
mod kmsg;
mod limits;
mod missing;
mod oom;
mod panic;
mod pci;
mod perf;
mod pidfd;
mod proc;
#[cfg(feature = "checks")]
mod provoke;
mod ptrace;
mod random;
mod rootfs;
mod rseq;
mod sched;
mod shares;
mod signal;
mod sys;
mod syscalls;
mod task;
mod time;
mod traffic;
mod trap;
mod tty;
mod uts;
mod vdso;
mod wait;

use hal::pvh;
pub use vm::env::machine;

/// The kernel's first Rust function (called by `hal::boot` through [`entry`]).
pub fn main(start_info: u64) -> ! {
    boot::first_cpu();
    console::init();
    let info = boot::cmdline::keep(&pvh::read(start_info));
    console::configure(&info);
    panic::unless_able();
    traffic::init();
    log::info!("Proxima {} booting", env!("CARGO_PKG_VERSION"));
    let firmware = boot::memory::init(&info);
    boot::cpus::prepare(&firmware);
    #[cfg(feature = "checks")]
    provoke::early();
    hal::trap::register(&trap::HANDLERS);
    syscalls::quick::init();
    vm::env::set_environment(&task::env::Environment);
    // Made here, once: a frame that came second would be lost.
    vm::fault::zero_page();
    fs::env::register(&files::env::Environment);
    let idle = boot::start_scheduler(&firmware);
    frames::relief::register(&oom::Killer);
    hal::room::register(frames::fallible::ready_block);
    #[cfg(feature = "checks")]
    frames::faults::register(&faults::Injector);
    perf::hw::start_cpu(numa::CpuId::new(0));
    interrupts::route(&firmware, &[3, 4]);
    boot::cpus::start_others(&firmware, |cpu| idle[cpu.index()].stack_top(), secondary);
    boot::cpus::choose_clock();
    boot::report(&firmware);
    pci::init();
    vm::commit::init();
    hugetlb::init();
    sys::transparent::init();
    rootfs::remember(info, firmware);
    time::start();
    boot::init::start();
    time::worker::start();
    vm::compact::register(task::env::next_space);
    khugepaged::start();
    drop(idle);
    #[cfg(feature = "checks")]
    hal::latency::start();
    idle_loop()
}

/// Where the other CPUs arrive.
extern "C" fn secondary(cpu: u64) -> ! {
    let cpu = numa::CpuId::new(cpu as u16);
    boot::cpus::arrive(cpu);
    sched::adopt_idle(cpu);
    perf::hw::start_cpu(cpu);
    idle_loop()
}

/// The boot code of a CPU becomes its idle task.
fn idle_loop() -> ! {
    hal::percpu::preempt_enable_no_resched();
    sched::idle::run()
}
