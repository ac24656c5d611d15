//! /proc/proxima/locks: which locks were waited for, and how long.

use super::put;
use abi::Result;
use alloc::vec::Vec;
use fs::pseudo::Text;
use sync::contention::{Kind, counted};

/// A line for each class that was ever waited for, the longest waits altogether first.
pub fn show(out: &mut Text) -> Result<()> {
    let classes: Vec<_> = counted().collect();
    // References: a sort has room for 48 elements on the stack.
    let mut classes: Vec<_> = classes.iter().collect();
    classes.sort_unstable_by_key(|class| core::cmp::Reverse(class.waited));
    put!(out, "{:>10} {:>14} {:>12} {:<6} protects\n", "waits", "waited_ns", "longest_ns", "kind");
    for class in classes {
        let kind = match class.kind {
            Kind::Spin => "spin",
            Kind::Irq => "irq",
            Kind::Mutex => "mutex",
            Kind::Read => "read",
            Kind::Write => "write",
        };
        put!(out, "{:>10} {:>14} {:>12} ", class.times, class.waited, class.longest);
        put!(out, "{kind:<6} {}\n", class.protects);
    }
    Ok(())
}
