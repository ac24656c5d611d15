//! Tells the emulator's traffic plugin which task a CPU runs, if the command line asks for it
//! (`proxima.traffic`): switches, new tasks and ended ones, names, and where files' code is mapped.
//! Else each hook is a load of a word that nobody writes.

use crate::task::{Task, current};
use abi::doorbell::{Kind, MOST_ARGUMENTS};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use hal::doorbell::ring;
use hal::irq::IrqOff;
use vm::vma::{Vma, VmaFlags};

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
        drop(_irq);
        tell_code(None);
    }
}

/// Something was mapped at `addr`, or its access changed.
#[inline(always)]
pub fn mapped(addr: u64) {
    if TOLD.load(Relaxed) {
        tell_code(Some(addr));
    }
}

/// Which code the running task's memory has at `addr`, or everywhere.
#[cold]
fn tell_code(addr: Option<u64>) {
    let Some(mm) = current().mm().map(|mm| mm.clone()) else { return };
    let vmas = mm.vmas.read();
    let at = |addr| vmas.find(addr).into_iter();
    match addr {
        Some(addr) => at(addr).for_each(|vma| tell_area(mm.id(), vma)),
        None => vmas.iter().for_each(|vma| tell_area(mm.id(), vma)),
    }
}

/// Bytes of a path in one message.
const PART: usize = 8 * MOST_ARGUMENTS;

fn tell_area(space: u64, vma: &Vma) {
    if !vma.flags.contains(VmaFlags::EXEC) {
        return;
    }
    // Without memory for its name it is code of no file.
    let path = vma.file().and_then(|file| file.path().ok());
    let path = path.as_ref().map_or(&[][..], |path| path.as_bytes());
    let offset = if vma.object().is_some() { vma.pgoff * vm::PAGE } else { 0 };
    // The parts of a path belong to the message after them.
    let _irq = IrqOff::new();
    for part in path.chunks(PART) {
        let mut words = [0; MOST_ARGUMENTS];
        for (index, byte) in part.iter().enumerate() {
            words[index / 8] |= u64::from(*byte) << (56 - index % 8 * 8);
        }
        ring(Kind::PATH, &words);
    }
    ring(Kind::MAP, &[space, vma.start, vma.len(), offset]);
}

/// The running task has made `child`, which has not run yet.
#[inline(always)]
pub fn cloned(child: &Task) {
    if TOLD.load(Relaxed) {
        let _irq = IrqOff::new();
        ring(Kind::CLONE, &[child.tid() as u64]);
        let ids = [child, &current()].map(|t| t.switching_mm().as_ref().map(|mm| mm.id()));
        if let [Some(new), Some(old)] = ids
            && new != old
        {
            ring(Kind::FORK, &[new, old]);
        }
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
