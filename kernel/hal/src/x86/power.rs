//! Power off, reset, and the debug exit of QEMU.

use x86_64::instructions::port::Port;

/// Writes to an I/O port.
pub fn outb(port: u16, value: u8) {
    // SAFETY: an I/O write named by ACPI or the chipset's documentation; no memory is involved.
    unsafe { Port::new(port).write(value) }
}

/// Writes 16 bits to an I/O port.
pub fn outw(port: u16, value: u16) {
    // SAFETY: as `outb`.
    unsafe { Port::new(port).write(value) }
}

/// Reads 16 bits from an I/O port.
pub fn inw(port: u16) -> u16 {
    // SAFETY: as `outb`.
    unsafe { Port::new(port).read() }
}

/// Reads from an I/O port.
pub fn inb(port: u16) -> u8 {
    // SAFETY: as `outb`.
    unsafe { Port::new(port).read() }
}

/// Reads 32 bits from an I/O port.
pub fn inl(port: u16) -> u32 {
    // SAFETY: as `outb`.
    unsafe { Port::new(port).read() }
}

/// Writes 32 bits to an I/O port.
pub fn outl(port: u16, value: u32) {
    // SAFETY: as `outb`.
    unsafe { Port::new(port).write(value) }
}

/// Resets the machine: the chipset's reset register, then a triple fault.
pub fn reset() -> ! {
    crate::irq::disable();
    outb(0xcf9, 0x02);
    outb(0xcf9, 0x06);
    for _ in 0..1_000_000 {
        core::hint::spin_loop();
    }
    // SAFETY: an empty IDT makes the next interrupt a triple fault, which resets.
    unsafe {
        let none = [0u64; 2];
        core::arch::asm!("lidt [{}]", "int3", in(reg) &none, options(noreturn));
    }
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: stops the CPU until an interrupt that is masked.
        unsafe { core::arch::asm!("cli", "hlt") };
    }
}
