//! KVM's paravirtual clock (Documentation/virt/kvm/x86/msr.rst, cpuid.rst): each CPU names a place
//! where KVM keeps the host's time beside that CPU's time-stamp counter.

use super::boot::KERNEL_BASE;
use super::cpu::{cpuid, features, wrmsr};
use super::percpu;
use crate::clock::PvTime;
use crate::irq::IrqOff;
use crate::phys;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// MSR_KVM_SYSTEM_TIME_NEW.
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const ENABLE: u64 = 1;

/// What KVM writes: `struct pvclock_vcpu_time_info`.
#[repr(C, align(32))]
pub struct Place {
    /// Odd while it is written.
    version: AtomicU32,
    _pad: u32,
    tsc: AtomicU64,
    system_time: AtomicU64,
    mult: AtomicU32,
    /// Shift (signed, 8 bits), flags (8 bits).
    rest: AtomicU32,
}

impl Place {
    pub(super) const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            _pad: 0,
            tsc: AtomicU64::new(0),
            system_time: AtomicU64::new(0),
            mult: AtomicU32::new(0),
            rest: AtomicU32::new(0),
        }
    }
}

/// KVM's leaf of features; None where the host is another.
fn leaf() -> Option<u32> {
    const SIGNATURE: [u32; 3] = [
        u32::from_le_bytes(*b"KVMK"),
        u32::from_le_bytes(*b"VMKV"),
        u32::from_le_bytes(*b"M\0\0\0"),
    ];
    if !features().hypervisor() {
        return None;
    }
    let [_, b, c, d] = cpuid(0x4000_0000, 0);
    ([b, c, d] == SIGNATURE).then(|| cpuid(0x4000_0001, 0)[0])
}

/// The host is KVM.
pub fn is_host() -> bool {
    leaf().is_some()
}

/// The clock is offered.
pub fn is_offered() -> bool {
    const CLOCKSOURCE2: u32 = 1 << 3;
    leaf().is_some_and(|leaf| leaf & CLOCKSOURCE2 != 0)
}

/// KVM's word about the counters is in the flags.
fn flags_are_true() -> bool {
    const STABLE: u32 = 1 << 24;
    leaf().is_some_and(|leaf| leaf & STABLE != 0)
}

/// Has KVM keep this CPU's time. Where [`is_offered`].
pub fn start_cpu() {
    let place = core::ptr::from_ref(place()) as u64;
    // A CPU's area lies in the direct map, the first one of all in the image.
    let physical = place.checked_sub(KERNEL_BASE).unwrap_or(place - phys::DIRECT_MAP);
    // SAFETY: the MSR is offered; KVM writes to this CPU's place alone, which stays for ever.
    unsafe { wrmsr(SYSTEM_TIME, physical | ENABLE) };
}

fn place() -> &'static Place {
    // SAFETY: a field of atomics in this CPU's data, which lives for ever.
    unsafe { &(*percpu::local()).kvm_time }
}

/// This CPU's structure with its counter at that moment. Interrupts are off.
fn sample() -> (PvTime, u64) {
    let place = place();
    loop {
        let version = place.version.load(Ordering::Acquire);
        let rest = place.rest.load(Ordering::Relaxed);
        let time = PvTime {
            tsc: place.tsc.load(Ordering::Relaxed),
            system_time: place.system_time.load(Ordering::Relaxed),
            mult: place.mult.load(Ordering::Relaxed),
            shift: rest as i8,
            flags: (rest >> 8) as u8,
        };
        core::sync::atomic::fence(Ordering::Acquire);
        let tsc = super::cpu::rdtsc_ordered();
        if version & 1 == 0 && place.version.load(Ordering::Acquire) == version {
            return (time, tsc);
        }
        core::hint::spin_loop();
    }
}

/// The host's time, ns. Never less than any CPU has been told before.
pub fn now() -> u64 {
    /// The latest that was told.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (time, tsc) = {
        let _here = IrqOff::new();
        sample()
    };
    let now = time.at(tsc);
    now.max(LAST.fetch_max(now, Ordering::AcqRel))
}

/// KVM promises that all CPUs' counters are one. After [`start_cpu`].
pub fn is_stable() -> bool {
    let _here = IrqOff::new();
    flags_are_true() && sample().0.flags & PvTime::STABLE != 0
}

/// The frequency of the time-stamp counter by KVM's word. After [`start_cpu`].
pub fn tsc_hz() -> Option<u64> {
    let _here = IrqOff::new();
    sample().0.hz()
}
