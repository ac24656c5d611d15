//! Workers: processes and threads that carry out the operations that name them when it is their
//! turn ([`crate::relay`]).

use std::sync::atomic::Ordering::SeqCst;

use crate::block::{self, slot};
use crate::ops::{Kind, Op, WORKERS};
use crate::relay::{self, Turn};
use crate::sys::{self, sys};
use crate::trace::Line;
use crate::{execute, observe, pool, probe};

/// Carries out operations for ever.
pub fn serve(number: usize) -> ! {
    let own = slot(number);
    own.alive.store(sys!(libc::SYS_gettid) as u32, SeqCst);
    own.ready.store(1, SeqCst);
    sys::futex_wake(&own.ready);
    loop {
        while own.go.swap(0, SeqCst) == 0 {
            sys::futex_wait(&own.go, 0, 1000);
        }
        work(number);
    }
}

/// As long as it is this worker's turn.
fn work(number: usize) {
    loop {
        match relay::next(Some(number)) {
            Turn::Own(op) => {
                answer(|line| {
                    execute::run(number, &op, line);
                    pool::observe(line);
                });
                execute::settle();
            }
            Turn::Other => return,
            Turn::Over => {
                // All workers are the coordinator's children; it looks at what there is when a
                // signal for a child comes.
                let coordinator = sys!(libc::SYS_getppid);
                sys!(libc::SYS_kill, coordinator, libc::SIGCHLD);
                return;
            }
        }
    }
}

fn answer(write: impl FnOnce(&mut Line)) {
    block::answer(|room| {
        let mut line = Line::new(room);
        write(&mut line);
        line.len()
    });
}

/// The new program's beginning, after [`Kind::Exec`].
pub fn resume(number: usize) -> ! {
    if number >= WORKERS || !block::attach() {
        sys::exit_group(96);
    }
    probe::install();
    let own = |op: &Op| op.kind == Kind::Exec && op.worker as usize == number;
    if block::current().as_ref().is_some_and(own) {
        relay::alone(number, sys!(libc::SYS_getpid) as i32);
        answer(|line| {
            line.put(format_args!("ok"));
            observe::own(line);
        });
        slot(number).go.store(1, SeqCst);
    }
    serve(number)
}
