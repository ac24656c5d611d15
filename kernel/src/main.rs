//! Proxima: a Linux-compatible kernel for NUMA. This file reads as the boot order.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod boot;
mod console;
mod entry;
mod panic;

use hal::pvh;

/// The kernel's first Rust function (called by `hal::boot` through [`entry`]).
pub fn main(start_info: u64) -> ! {
    boot::first_cpu();
    console::init();
    let info = boot::cmdline::keep(&pvh::read(start_info));
    console::configure(&info);
    log::info!("Proxima {} booting", env!("CARGO_PKG_VERSION"));
    let firmware = boot::memory::init(&info);
    boot::cpus::init(&firmware);
    boot::report(&firmware);
    hal::acpi::power_off()
}
