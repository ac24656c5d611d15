//! ptrace(2): tasks that watch and change others.
//!
//! * [`state`]: what a task keeps as a tracee, and its lock. [`links`]: who traces whom: attaching,
//!   letting go, children that get their maker's tracer, the ends of both.
//! * [`stop`]: the tracee's side: it stands still where its tracer wants to look. [`call`]: system
//!   calls and single steps. [`events`]: what else it stops for.
//! * [`request`]: the tracer's side, with [`registers`] and [`memory`]. [`waiting`]: what wait(2)
//!   reports of tracees. [`special`]: what a CPU has to load for a tracee.
//!
//! The decisions are the crate `ptrace`'s. Who traces whom changes with `table::TREE` locked; what a
//! tracee is asked, under its own lock, which comes after a process's `group` and `place` and before a
//! task's `entity`. Only who has that lock wakes a tracee from a stop: so a tracer that has it, and
//! has seen the tracee sleep, may look at its registers and change them.
//!
//! Who is not traced pays for nothing of this but two loads at a switch: a traced task's system calls
//! enter elsewhere (`hal::syscall`), and what it is to look at before user mode are bits of the word
//! that every task looks at.

pub mod call;
pub mod events;
pub mod links;
mod memory;
mod registers;
pub mod request;
pub mod special;
mod state;
pub mod stop;
pub mod waiting;

pub use state::{TaskTrace, Tracees};
