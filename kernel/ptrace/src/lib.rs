//! ptrace(2) without tasks in it: what a tracer has asked of a tracee, in which stop that stands, what
//! wait(2) reports of it, and which registers may be set to what.
//!
//! - [`Tracee`]: the state machine. Every change of it is one call here, under the kernel's lock of
//!   that tracee; what follows (waking, signals, the way to user mode) is the kernel's business.
//! - [`Stop`]: the kinds of stops, with the code that wait(2) gives.
//! - [`Options`], [`Event`]: what PTRACE_SETOPTIONS sets, and what it makes the tracee stop for.
//! - [`regs`]: `struct user` of x86-64, and what a tracer may write there.
//! - [`debug`]: the debug registers, by Intel SDM volume 3, 18.2.
//!
//! Rules and errors are those of Linux 6.12 (ptrace(2), and a booted kernel where that says nothing).
#![no_std]
#![forbid(unsafe_code)]

pub mod debug;
mod options;
pub mod regs;
pub mod request;
mod stop;
mod tracee;

pub use options::{Event, Options};
pub use stop::{Call, Kind, Stop};
pub use tracee::{Attach, Mode, Tracee, checked_signal};
