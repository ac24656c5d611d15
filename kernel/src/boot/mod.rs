//! From the first instruction to a machine with memory, CPUs, interrupts and a first process.

pub mod cmdline;
pub mod cpus;
pub mod init;
pub mod memory;

use crate::signal::TaskSignals;
use crate::task::stack::KernelStack;
use crate::task::{NewTask, Process, Task, TaskRef};
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::FsContext;
use hal::firmware::Description;
use hal::fpu::FpuState;
use numa::policy::Interleaver;
use numa::{CpuId, CpuMask};
use sync::Once;
use vm::env::TaskNuma;

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

/// The process that the kernel's own tasks belong to: id 0, never seen from outside.
fn kernel_process() -> Arc<Process> {
    static KERNEL: Once<Arc<Process>> = Once::new();
    KERNEL.get_or_init(crate::clone::kernel_process).clone()
}

/// The policy of a task that has none: local, every node with memory.
pub fn default_numa() -> TaskNuma {
    TaskNuma { policy: None, turn: Interleaver::new(), allowed: crate::machine().memory_nodes() }
}

/// A task of the kernel, not started.
pub fn kernel_task(name: &str, stack: Option<KernelStack>, affinity: CpuMask, tid: i32) -> TaskRef {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name.as_bytes()[..len]);
    Task::create(NewTask {
        tid,
        process: kernel_process(),
        stack,
        params: sched::Params::new(sched::Class::default(), 3_000_000),
        affinity,
        numa: default_numa(),
        mm: None,
        fpu: FpuState::new(),
        bases: (0, 0),
        files: crate::files::no_files(),
        fs: Arc::new(FsContext::new(init::root())),
        creds: crate::creds::root(),
        signals: TaskSignals::default(),
        comm,
        kernel_thread: true,
    })
}

/// Makes every CPU's idle task and run queue; the running code becomes CPU 0's idle task.
pub fn start_scheduler(firmware: &Description) -> Vec<TaskRef> {
    sync::hooks::register(&crate::sched::hooks::Hooks);
    let idle: Vec<TaskRef> = (0..firmware.apic_ids.len())
        .map(|i| {
            let cpu = CpuId::new(i as u16);
            let node = firmware.machine.node_of(cpu);
            let stack = KernelStack::new(node).expect("no memory for an idle task's stack");
            let task = kernel_task("swapper", Some(stack), CpuMask::single(cpu), 0);
            crate::sched::start_cpu(cpu, task.clone());
            task
        })
        .collect();
    crate::task::current::set_current(&idle[0]);
    idle
}
