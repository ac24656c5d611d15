//! A CPU's own memory: per-CPU data, descriptor tables, and its interrupt stacks.

use super::gdt::Tables;
use super::percpu::{self, CpuLocal};
use crate::{Pfn, phys};
use core::sync::atomic::{AtomicPtr, Ordering};
use numa::{CpuId, MAX_CPUS, NodeId};

static LOCALS: [AtomicPtr<CpuLocal>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

#[repr(C, align(4096))]
struct Area {
    local: CpuLocal,
    tables: Tables,
}

/// The tops of a CPU's own stacks.
pub struct Stacks {
    /// Of double faults, NMIs, machine checks and debug exceptions.
    pub ist: [u64; 4],
    /// Of interrupts that come while the kernel runs.
    pub interrupts: u64,
}

/// Prepares CPU `cpu`'s area in `frame` (a zeroed frame of the CPU's node, its own for ever).
pub fn prepare(frame: Pfn, cpu: CpuId, node: NodeId, apic_id: u32, stacks: &Stacks) {
    const { assert!(size_of::<Area>() <= 4096) };
    let area = phys::ptr::<Area>(frame.addr());
    let cpu_node = cpu.index() as u32 | (node.index() as u32) << 12;
    // SAFETY: the frame is the caller's to give, and nobody knows it yet.
    unsafe {
        area.write(Area {
            local: CpuLocal::new(cpu, node, apic_id, stacks.interrupts),
            tables: Tables::new(stacks.ist, cpu_node),
        });
        LOCALS[cpu.index()].store(&raw mut (*area).local, Ordering::Release);
    }
}

/// Makes the running CPU `cpu`: per-CPU data, segments. Its preemption count starts at 1.
pub fn enter(cpu: CpuId) {
    let local = LOCALS[cpu.index()].load(Ordering::Acquire);
    assert!(!local.is_null(), "CPU {cpu} has no area");
    let area = local.cast::<Area>();
    // SAFETY: prepared above for this CPU, which calls this once.
    unsafe {
        percpu::install(local);
        Tables::load(&raw mut (*area).tables);
    }
}

/// The data of any CPU (for interrupts to it); None before it is prepared.
#[inline]
pub fn of(cpu: CpuId) -> Option<&'static CpuLocal> {
    // SAFETY: null, or a prepared area that lives for ever; only atomic fields are used by others.
    unsafe { LOCALS[cpu.index()].load(Ordering::Acquire).as_ref() }
}
