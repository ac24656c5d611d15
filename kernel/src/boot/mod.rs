//! From the first instruction to a machine with memory, CPUs and interrupts.

pub mod cmdline;
pub mod cpus;
pub mod memory;

use hal::firmware::Description;

/// The boot CPU's registers, traps and per-CPU data: from here on locks work.
pub fn first_cpu() {
    hal::boot::init_first_cpu();
    hal::cpu::init_control_registers();
    hal::trap::init();
    hal::trap::load();
}

/// Says what was found.
pub fn report(firmware: &Description) {
    let machine = &firmware.machine;
    for node in machine.nodes().iter() {
        let stats = frames::stats(node);
        log::info!(
            "node {node}: CPUs {}, {} MiB, {} MiB free, fallback {:?}",
            machine.cpus_of(node),
            stats.present / 256,
            stats.free / 256,
            machine.fallback(node),
        );
    }
}
