//! khugepaged: the thread that puts huge pages in the place of small ones, process by process.
//!
//! What it looks for and how it does that is `vm::transparent`'s matter; here is its way through the
//! processes. As on Linux it goes on where it has stopped, and in one turn begins anew at most once.

use crate::task::table;
use core::sync::atomic::Ordering::Relaxed;
use sched::{Class, FairKind, Nice, Params};
use vm::transparent::khugepaged::{ALLOC_SLEEP, FULL_SCANS, PAGES_TO_SCAN, SCAN_SLEEP, Stop, wait};

/// Where to go on: a process, or those behind it if it is gone, and an address in it.
#[derive(Default)]
struct Place {
    pid: i32,
    addr: u64,
}

/// Looks at as many pages as one turn has.
fn turn(place: &mut Place) {
    let mut budget = u64::from(PAGES_TO_SCAN.get());
    let (mut begun, mut patient) = (false, true);
    while budget > 0 {
        if place.pid == 0 && core::mem::replace(&mut begun, true) {
            return;
        }
        let Some(process) = table::next_process(place.pid) else {
            FULL_SCANS.fetch_add(1, Relaxed);
            *place = Place::default();
            continue;
        };
        if process.pid != place.pid {
            *place = Place { pid: process.pid, addr: 0 };
        }
        let mm = process.mm.lock().clone();
        match mm.map_or(Stop::Through, |mm| mm.scan_for_huge(place.addr, &mut budget)) {
            Stop::Through => *place = Place { pid: process.pid + 1, addr: 0 },
            Stop::At(addr) => place.addr = addr,
            Stop::NoMemory(addr) => {
                place.addr = addr;
                if !core::mem::replace(&mut patient, false) {
                    return;
                }
                wait(ALLOC_SLEEP.get());
            }
        }
    }
}

extern "C" fn run(_: u64) -> ! {
    crate::sched::first_run();
    let mut place = Place::default();
    wait(0);
    loop {
        turn(&mut place);
        wait(SCAN_SLEEP.get());
    }
}

/// Starts it, once, after the first process was made.
pub fn start() {
    let everywhere = crate::boot::cpus::online();
    let thread = crate::clone::spawn_kernel("khugepaged", everywhere, run, 0)
        .expect("no memory for a thread of the kernel");
    let class = Class::Fair { kind: FairKind::Normal, nice: Nice::clamped(19) };
    crate::sched::set_params(&thread, Params::new(class, 3_000_000));
}
