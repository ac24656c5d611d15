//! Debug registers: addresses whose use raises a debug exception (Intel SDM volume 3, 18.2).

use core::arch::asm;

/// Bits of DR6: which of the four addresses was hit.
pub const HITS: u64 = 0xf;
/// Bit of DR6: a single step.
pub const STEP: u64 = 1 << 14;
/// DR6 with nothing to tell.
const IDLE: u64 = 0xffff_0ff0;
/// DR7 with nothing enabled.
const OFF: u64 = 0x400;

/// Watches user addresses as `control` (DR7) says, which sets neither reserved bits nor general detect.
pub fn load(addrs: [u64; 4], control: u64) {
    let [a, b, c, d] = addrs;
    // SAFETY: user addresses, so that no kernel code or data is watched; an exception that the
    // kernel's own access to one raises has a handler.
    unsafe {
        asm!(
            "mov dr7, {off}", "mov dr0, {a}", "mov dr1, {b}", "mov dr2, {c}", "mov dr3, {d}",
            "mov dr7, {control}",
            off = in(reg) OFF, a = in(reg) a, b = in(reg) b, c = in(reg) c, d = in(reg) d,
            control = in(reg) control,
            options(nostack),
        );
    }
}

/// Watches nothing any more.
pub fn unload() {
    // SAFETY: nothing is enabled.
    unsafe { asm!("mov dr7, {}", in(reg) OFF, options(nostack)) };
}

/// What DR6 says, which is empty from now on.
pub fn take_status() -> u64 {
    let status: u64;
    // SAFETY: reads and resets a status register.
    unsafe {
        asm!("mov {}, dr6", out(reg) status, options(nostack));
        asm!("mov dr6, {}", in(reg) IDLE, options(nostack));
    }
    status
}

/// Something is watched on this CPU.
pub fn is_in_use() -> bool {
    let control: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, dr7", out(reg) control, options(nostack)) };
    control & 0xff != 0
}
