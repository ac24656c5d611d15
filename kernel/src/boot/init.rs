//! The first process.

use crate::clone::first_process;
use crate::exec::{self, Program};
use crate::signal::TaskSignals;
use crate::task::stack::KernelStack;
use crate::task::{NewTask, Task, current, table};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fs::mount::Path;
use fs::{FdTable, FsContext};
use hal::fpu::FpuState;
use hal::trap::TrapFrame;
use sync::Once;

/// The root directory of everything.
pub fn root() -> Path {
    static ROOT: Once<Path> = Once::new();
    ROOT.get_or_init(|| {
        let present: u64 =
            crate::machine().memory_nodes().iter().map(|n| frames::stats(n).present).sum();
        fs::tmpfs::set_memory(present * vm::PAGE);
        net::memory::set_memory(present);
        let sb = fs::tmpfs::Tmpfs::rootfs().expect("the root file system");
        fs::mount::Mount::new(sb, "rootfs", 0).expect("the root file system").top()
    })
    .clone()
}

/// Makes the first process, on the CPU that booted.
pub fn start() {
    let process = first_process();
    let stack = KernelStack::new(vm::env::local_node()).expect("no memory for init's stack");
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"init");
    let task = Task::create(NewTask {
        tid: process.pid,
        process: process.clone(),
        stack: Some(stack),
        params: sched::Params::new(sched::Class::default(), crate::sched::default_slice()),
        affinity: super::cpus::online(),
        numa: super::default_numa(),
        mm: None,
        fpu: FpuState::new(),
        bases: (0, 0),
        files: Arc::new(FdTable::new()),
        fs: Arc::new(FsContext::new(root())),
        creds: crate::creds::root(),
        signals: TaskSignals::default(),
        comm,
        kernel_thread: false,
    });
    process.place.lock().threads.join(task.clone());
    table::add_task(&task);
    let at = hal::switch::place_frame(task.stack_top(), &TrapFrame::default());
    let sp = hal::switch::new_stack(at, run, at);
    task.saved_sp.store(sp, Ordering::Release);
    crate::sched::start(&task);
}

/// Init's first function: finds its program and becomes it.
extern "C" fn run(frame: u64) -> ! {
    crate::sched::first_run();
    crate::rootfs::prepare();
    let mut first = TrapFrame::default();
    exec_init(&mut first);
    hal::switch::place_frame(current().stack_top(), &first);
    hal::switch::leave_to_user(frame, crate::trap::HANDLERS.return_to_user)
}

/// The words of the command line that Linux hands to init: those that the kernel does not know;
/// `name=value` go to the environment. Everything after `--` are arguments.
fn init_args() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    const OURS: [&str; 13] = [
        "console",
        "quiet",
        "debug",
        "loglevel",
        "panic",
        "init",
        "rdinit",
        "maxcpus",
        "nr_cpus",
        "ro",
        "rw",
        "root",
        "unknown_nmi_panic",
    ];
    let mut args = Vec::new();
    let mut env: Vec<Vec<u8>> = alloc::vec![b"HOME=/".to_vec(), b"TERM=linux".to_vec()];
    let mut rest = false;
    for word in super::cmdline::text().split_ascii_whitespace() {
        if rest {
            args.push(word.as_bytes().to_vec());
        } else if word == "--" {
            rest = true;
        } else {
            let name = word.split('=').next().unwrap_or(word);
            // Words with a dot are module parameters to Linux: nobody's here.
            if OURS.contains(&name) || name.contains('.') {
                continue;
            }
            if word.contains('=') {
                let key = [name.as_bytes(), b"="].concat();
                env.retain(|e| !e.starts_with(&key));
                env.push(word.as_bytes().to_vec());
            } else {
                args.push(word.as_bytes().to_vec());
            }
        }
    }
    (args, env)
}

fn exec_init(frame: &mut TrapFrame) {
    let (extra, env) = init_args();
    let try_exec = |path: &str, frame: &mut TrapFrame| {
        let name = path.as_bytes().to_vec();
        let file = exec::open(&name)?;
        let mut args = alloc::vec![name.clone()];
        args.extend(extra.iter().cloned());
        exec::exec(Program { file, name, args, env: env.clone() }, frame)
    };
    let asked = super::cmdline::value("rdinit").unwrap_or("/init");
    match try_exec(asked, frame) {
        Ok(()) => return,
        Err(error) => log::warn!("{asked}: {error}"),
    }
    if let Some(path) = super::cmdline::value("init") {
        match try_exec(path, frame) {
            Ok(()) => return,
            Err(error) => panic!("Requested init {path} failed (error {error})."),
        }
    }
    for path in ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"] {
        if try_exec(path, frame).is_ok() {
            return;
        }
    }
    panic!("No working init found. Try passing init= option to kernel.");
}
