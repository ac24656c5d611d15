//! The guest's half of the fuzzer: sequences of operations on memory, policies and CPUs, made from
//! a seed ([`generate`]) or read as text ([`ops`]), carried out in lock step by processes and
//! threads ([`replay`], [`relay`], [`worker`]), each leaving one line that says what it did ([`trace`]).
//!
//! The same sequence leaves the same lines on every kernel that behaves as Linux does: addresses
//! lie in one fixed [`arena`], workers are pinned, and what Linux itself leaves open is not printed.
//! [`calls`] is the second mode: any system call with any arguments.

pub mod arena;
pub mod block;
pub mod call_args;
pub mod calls;
pub mod execute;
pub mod generate;
pub mod machine;
pub mod observe;
pub mod ops;
pub mod pool;
pub mod probe;
pub mod random;
pub mod relay;
pub mod replay;
pub mod starts;
pub mod sys;
pub mod thread;
pub mod trace;
pub mod worker;
