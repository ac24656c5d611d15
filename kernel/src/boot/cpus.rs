//! Per-CPU areas, and the start of the other CPUs.

use super::cmdline;
use crate::task::stack::KernelStack;
use alloc::vec::Vec;
use core::mem::forget;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use frames::{Kind, Usage};
use hal::cpu_area::{self, Stacks};
use hal::firmware::Description;
use hal::smp::Start;
use hal::{PhysAddr, phys};
use numa::{AtomicCpuMask, CpuId, CpuMask};

/// CPUs that run.
static ONLINE: AtomicCpuMask = AtomicCpuMask::new();
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// What the clock goes by is chosen: the other CPUs may go on.
static CLOCK_CHOSEN: AtomicBool = AtomicBool::new(false);
/// The page where the other CPUs begin, in the first MiB (which is never given out).
const START_PAGE: u64 = 0x8000;

/// CPUs that run, as a snapshot.
pub fn online() -> CpuMask {
    ONLINE.load(Ordering::Acquire)
}

/// Makes every CPU's area on its own node, and the boot CPU a full CPU.
pub fn prepare(firmware: &Description) {
    for (i, &apic_id) in firmware.apic_ids.iter().enumerate() {
        let cpu = CpuId::new(i as u16);
        let node = firmware.machine.node_of(cpu);
        let near = firmware.machine.fallback(node);
        let frame = near
            .iter()
            .find_map(|n| frames::alloc_one(n, Kind::Kernel, Usage::Kernel))
            .expect("no memory for a CPU's own data");
        phys::zero(frame);
        let stack = || {
            let stack = KernelStack::new(node).expect("no memory for interrupt stacks");
            let top = stack.top();
            forget(stack);
            top
        };
        let stacks = Stacks { ist: [stack(), stack(), stack(), stack()], interrupts: stack() };
        cpu_area::prepare(frame, cpu, node, apic_id, &stacks);
    }
    cpu_area::enter(CpuId::new(0));
    hal::smp::init_this_cpu();
    ONLINE.set(CpuId::new(0), Ordering::Release);
}

/// Starts the other CPUs, all at once; each runs `entry(cpu)` on its stack.
pub fn start_others(
    firmware: &Description,
    stack_of: impl Fn(CpuId) -> u64,
    entry: extern "C" fn(u64) -> !,
) {
    let table: Vec<Start> = firmware
        .apic_ids
        .iter()
        .enumerate()
        .skip(1)
        .map(|(i, &apic_id)| Start {
            apic_id,
            _pad: 0,
            stack: stack_of(CpuId::new(i as u16)),
            arg: i as u64,
        })
        .collect();
    if table.is_empty() {
        return;
    }
    let count = table.len();
    let table: &'static [Start] = Vec::leak(table);
    let mut alloc = || {
        let frame = crate::machine()
            .memory_nodes()
            .iter()
            .find_map(|n| frames::alloc_one(n, Kind::PageTable, Usage::Kernel))
            .expect("no memory for a page table");
        phys::zero(frame);
        frame
    };
    let all_up = || {
        hal::warp::look_while_waiting();
        STARTED.load(Ordering::Acquire) == count
    };
    hal::smp::start_all(PhysAddr::new(START_PAGE), table, entry, &mut alloc, all_up);
    for i in 1..=count {
        if !online().contains(CpuId::new(i as u16)) {
            log::error!("CPU {i} (APIC id {}) does not answer: left out", firmware.apic_ids[i]);
        }
    }
}

/// The first thing another CPU does.
pub fn arrive(cpu: CpuId) {
    cpu_area::enter(cpu);
    hal::smp::init_this_cpu();
    hal::warp::look_for_a_moment();
    ONLINE.set(cpu, Ordering::Release);
    STARTED.fetch_add(1, Ordering::Release);
    while !CLOCK_CHOSEN.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    hal::time::start_cpu();
}

/// Chooses what the clock goes by, when all CPUs have looked at their counters, and lets them go on.
/// The command line's words are Linux's.
pub fn choose_clock() {
    let mut found = hal::time::find_sources();
    if found.warped {
        log::warn!("TSC: CPUs differ by {} cycles", hal::warp::widest());
    }
    match cmdline::value("tsc") {
        Some("unstable") => found.warped = true,
        Some("reliable") => (found.warped, found.invariant) = (false, true),
        _ => {}
    }
    found.kvm_clock &= !cmdline::has("no-kvmclock");
    found.hpet &= cmdline::value("hpet") != Some("disable");
    let source = found.choose(cmdline::value("clocksource"));
    hal::time::go_by(source, &found);
    log::info!("clocksource: {}", source.name());
    CLOCK_CHOSEN.store(true, Ordering::Release);
}
