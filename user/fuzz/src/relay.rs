//! Whose turn it is: operations are carried out one after the other, each by the worker that it
//! names. A worker goes on as long as they are its own, then wakes the next one's worker.
//!
//! A worker that an operation names but that does not live (it was never made, or has ended) makes
//! the line `-`: any part of a sequence is a sequence again, which is what shrinking needs.

use std::sync::atomic::Ordering::SeqCst;

use crate::block::{self, slot};
use crate::ops::{Kind, Op, WORKERS};
use crate::sys;

/// What is to be done next.
pub enum Turn {
    /// By the caller itself.
    Own(Op),
    /// By a worker that has been woken for it.
    Other,
    /// Nothing: that was the last operation.
    Over,
}

/// The next turn, as seen by worker `number`, or by the coordinator, which is none.
pub fn next(number: Option<usize>) -> Turn {
    loop {
        let Some(op) = block::current() else { return Turn::Over };
        let worker = op.worker as usize;
        if !possible(&op) {
            put("-");
        } else if number == Some(worker) {
            return Turn::Own(op);
        } else {
            slot(worker).go.store(1, SeqCst);
            sys::futex_wake(&slot(worker).go);
            return Turn::Other;
        }
    }
}

/// Puts a line down for the operation at hand.
pub fn put(text: &str) {
    block::answer(|room| {
        let bytes = &text.as_bytes()[..text.len().min(room.len())];
        room[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    });
}

/// The worker lives, and who is to be made does not.
fn possible(op: &Op) -> bool {
    let lives = |worker: usize| slot(worker).process.load(SeqCst) != 0;
    let makes = matches!(op.kind, Kind::Fork | Kind::Clone);
    lives(op.worker as usize) && !(makes && lives(op.args[0] as usize % WORKERS))
}

/// Before worker `new` is made by worker `number`.
pub fn expect(new: usize, number: usize) {
    for word in [&slot(new).go, &slot(new).ready, &slot(new).alive] {
        word.store(0, SeqCst);
    }
    slot(new).home.store(slot(number).home.load(SeqCst), SeqCst);
}

/// Worker `new` was made, in this process: it is waited for, for operations may name it now.
pub fn welcome(new: usize, process: i32) {
    slot(new).process.store(process, SeqCst);
    while slot(new).ready.load(SeqCst) == 0 {
        sys::futex_wait(&slot(new).ready, 0, 1000);
    }
}

/// A process is gone, and all its threads with it.
pub fn forget(process: i32) {
    for slot in (0..WORKERS).map(slot).filter(|own| own.process.load(SeqCst) == process) {
        slot.process.store(0, SeqCst);
        slot.alive.store(0, SeqCst);
    }
}

/// Worker `number` has become its process's only thread.
pub fn alone(number: usize, process: i32) {
    forget(process);
    slot(number).process.store(process, SeqCst);
    slot(number).alive.store(process as u32, SeqCst);
}
