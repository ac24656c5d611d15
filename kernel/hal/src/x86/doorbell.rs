//! The kernel's end of the doorbell that the emulator's traffic plugin hears ([`abi::doorbell`]).

use abi::doorbell::{Kind, send};
use core::arch::asm;

/// Any readable page does: nothing is read from it but its address.
#[repr(align(4096))]
struct Page([u8; 4096]);

static PAGE: Page = Page([0; 4096]);

/// Rings once.
macro_rules! load {
    ($kind:expr, $value:expr) => {{
        let base = PAGE.0.as_ptr() as u64 + u64::from($value);
        // SAFETY: a load of one byte of the page above; `value` is below the page's size.
        unsafe {
            asm!(
                ".byte 0x0f, 0xb6, 0x81",
                ".long {displacement}",
                displacement = const $kind.displacement(),
                in("rcx") base.wrapping_sub($kind.displacement() as u64),
                out("eax") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }};
}

/// Sends a message. Interrupts must be off, or it may mix with another one of this CPU.
#[inline(never)]
pub fn ring(command: Kind, arguments: &[u64]) {
    send(command, arguments, &mut |kind, value| {
        let value = value & 0xfff;
        match kind {
            Kind::PIECE => load!(Kind::PIECE, value),
            Kind::ARGUMENT => load!(Kind::ARGUMENT, value),
            Kind::SWITCH => load!(Kind::SWITCH, value),
            Kind::CLONE => load!(Kind::CLONE, value),
            Kind::EXIT => load!(Kind::EXIT, value),
            Kind::NAME => load!(Kind::NAME, value),
            Kind::TIME => load!(Kind::TIME, value),
            Kind::PATH => load!(Kind::PATH, value),
            Kind::MAP => load!(Kind::MAP, value),
            Kind::FORK => load!(Kind::FORK, value),
            // The others are init's.
            _ => {}
        }
    });
}
