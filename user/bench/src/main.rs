//! What operations of a kernel cost, the same static program on Proxima and on Linux.
//!
//! `bench --list` prints the operations' names; `bench [NAME...]` measures those (or all), each in
//! a process of its own, so that one that fails or dies takes no other along. Standard output:
//!
//! ```text
//! begin NAME
//! result NAME median=N p99=N n=N min=N max=N      cycles per operation, see `clock`
//! missing NAME CALL                               the kernel has no such call
//! failed NAME WHY
//! ```
//!
//! Cycles are the time-stamp counter's. Under QEMU's `-icount shift=0` that is instructions, of all
//! CPUs together, and CPUs take turns on one thread: whatever waits here waits in the kernel or
//! executes PAUSE, which ends a CPU's turn.

#![no_main]

mod clock;
mod memory;
mod ops;
mod place;
mod sys;
mod vdso;

use std::ffi::{CStr, c_char, c_int};

use ops::Op;

/// Argument of the process that the exec operation starts: it ends at once.
const EXIT_ARG: &str = "--exit";

/// The C library's entry, not Rust's: what exec starts should be the program, not a runtime.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let args: Vec<&str> = (1..argc as usize)
        // SAFETY: argv holds argc strings that live as long as the process.
        .map(|at| unsafe { CStr::from_ptr(*argv.add(at)) }.to_str().unwrap_or(""))
        .collect();
    match args.first() {
        Some(&EXIT_ARG) => return 0,
        Some(&"--list") => {
            for op in ops::all() {
                println!("{}", op.name);
            }
            return 0;
        }
        _ => {}
    }
    if let Some(unknown) = args.iter().find(|name| !ops::all().iter().any(|op| op.name == **name)) {
        eprintln!("bench: there is no operation {unknown:?} (see --list)");
        return 2;
    }
    place::settle();
    for op in ops::all() {
        if args.is_empty() || args.contains(&op.name) {
            run(&op);
        }
    }
    0
}

/// Measures one operation in a child process; whatever happens there, a line says so.
fn run(op: &Op) {
    say(&format!("begin {}", op.name));
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => say(&format!("failed {} fork: {}", op.name, std::io::Error::last_os_error())),
        0 => {
            report(op);
            sys::exit(0)
        }
        child => {
            let mut status = 0;
            // SAFETY: status is an integer of this frame.
            let got = unsafe { libc::waitpid(child, &mut status, 0) };
            if got != child {
                say(&format!("failed {} waitpid: {}", op.name, std::io::Error::last_os_error()));
            } else if libc::WIFSIGNALED(status) {
                say(&format!("failed {} killed by signal {}", op.name, libc::WTERMSIG(status)));
            } else if status != 0 {
                say(&format!("failed {} wait status {status:#x}", op.name));
            }
        }
    }
}

fn report(op: &Op) {
    let measured = place::pin(place::machine().home).and_then(|()| (op.run)());
    match measured {
        Ok(mut samples) => say(&format!("result {} {}", op.name, samples.summary())),
        Err(error) if error.errno == libc::ENOSYS => {
            say(&format!("missing {} {}", op.name, error.what));
        }
        Err(error) => say(&format!("failed {} {error}", op.name)),
    }
}

/// A line, and waits until it has left the serial port: its interrupts must not fall into the next
/// measurement.
fn say(line: &str) {
    println!("{line}");
    // SAFETY: acts on a descriptor only; on something else than a terminal it is an error without
    // consequence.
    unsafe { libc::tcdrain(1) };
}
