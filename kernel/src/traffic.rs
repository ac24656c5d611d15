//! Tells the emulator's traffic plugin which task a CPU runs, if the command line asks for it
//! (`proxima.traffic`): switches, new tasks and ended ones, and names. Else each hook is a load of
//! a word that nobody writes.

use crate::task::{Task, current};
use abi::doorbell::Kind;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use hal::doorbell::ring;
use hal::irq::IrqOff;

static TOLD: AtomicBool = AtomicBool::new(false);

/// Reads the command line.
pub fn init() {
    let mut words = crate::boot::cmdline::text().split_ascii_whitespace();
    TOLD.store(words.any(|word| word == "proxima.traffic"), Relaxed);
}

/// `next` has this CPU from now on. Interrupts are off.
#[inline(always)]
pub fn switched(next: &Task) {
    if TOLD.load(Relaxed) {
        tell_switch(next);
    }
}

#[cold]
fn tell_switch(next: &Task) {
    ring(Kind::TIME, &[hal::time::now()]);
    // A task of the kernel, the idle ones among them, is nobody.
    let (tid, pid) = if next.kernel_thread { (0, 0) } else { (next.tid(), next.pid()) };
    let space = next.switching_mm().as_ref().map_or(0, |mm| mm.id());
    ring(Kind::SWITCH, &[tid as u64, pid as u64, space]);
}

/// The running task has another program, and so another address space, a name, maybe a number.
#[inline(always)]
pub fn executed() {
    if TOLD.load(Relaxed) {
        let _irq = IrqOff::new();
        tell_switch(&current());
        tell_name(&current());
    }
}

/// The running task has made `child`, which has not run yet.
#[inline(always)]
pub fn cloned(child: &Task) {
    if TOLD.load(Relaxed) {
        let _irq = IrqOff::new();
        ring(Kind::CLONE, &[child.tid() as u64]);
    }
}

/// A task has another name.
#[inline(always)]
pub fn renamed(task: &Task) {
    if TOLD.load(Relaxed) {
        let _irq = IrqOff::new();
        tell_name(task);
    }
}

#[cold]
fn tell_name(task: &Task) {
    let name = task.try_comm().unwrap_or_default();
    let (first, second) = name.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    ring(Kind::NAME, &[task.tid() as u64, word(first), word(second)]);
}

/// The running task ends.
#[inline(always)]
pub fn ended() {
    if TOLD.load(Relaxed) {
        let _irq = IrqOff::new();
        ring(Kind::EXIT, &[]);
    }
}
