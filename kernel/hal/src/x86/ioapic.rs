//! The I/O APIC, for the few ISA interrupts the kernel uses; and the old PIC, silenced.

use super::power::outb;
use crate::{PhysAddr, phys};

/// One I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    address: PhysAddr,
    gsi_base: u32,
}

impl IoApic {
    /// The I/O APIC whose registers are at `address` (mapped uncached), serving interrupts from
    /// `gsi_base` on.
    pub fn new(address: PhysAddr, gsi_base: u32) -> Self {
        Self { address, gsi_base }
    }

    fn write(self, reg: u32, value: u32) {
        // SAFETY: the page is mapped; select-then-window as documented; callers serialize (boot).
        unsafe {
            phys::ptr::<u32>(self.address).write_volatile(reg);
            phys::ptr::<u32>(self.address + 0x10).write_volatile(value);
        }
    }

    /// Routes `gsi` to `vector` on the CPU with `apic_id` (below 256).
    pub fn route(self, gsi: u32, vector: u8, apic_id: u32, level: bool, active_low: bool) {
        let pin = gsi - self.gsi_base;
        let low = u32::from(vector) | u32::from(level) << 15 | u32::from(active_low) << 13;
        self.write(0x10 + pin * 2 + 1, apic_id << 24);
        self.write(0x10 + pin * 2, low);
    }
}

/// Moves the PIC's interrupts out of the exceptions' way and masks them all.
pub fn silence_pic() {
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ] {
        outb(port, value);
    }
}
