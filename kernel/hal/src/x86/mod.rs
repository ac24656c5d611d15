//! x86_64.

pub mod acpi;
mod alternatives;
pub mod apic;
pub mod boot;
pub mod cpu;
pub mod cpu_area;
pub mod debug;
pub mod doorbell;
pub mod fpu;
pub mod gdt;
pub mod hpet;
pub mod ioapic;
pub mod kvmclock;
#[cfg(feature = "latency")]
pub mod latency;
pub mod paging;
pub mod pci;
pub mod percpu;
pub mod pmu;
pub mod power;
pub mod pvh;
pub mod serial;
pub mod smp;
pub mod switch;
pub mod symbols;
pub mod syscall;
pub mod time;
pub mod trap;
pub mod user_tables;
pub mod usercopy;
pub mod vdso;
pub mod virtio;
pub mod warp;
