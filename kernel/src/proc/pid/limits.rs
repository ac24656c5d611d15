//! /proc/PID/limits.

use super::Who;
use crate::proc::put;
use crate::task::process::limit;
use abi::Result;
use alloc::format;
use fs::pseudo::Text;

/// Name, index and unit, in Linux's order.
const ROWS: [(&str, usize, &str); 16] = [
    ("Max cpu time", limit::CPU, "seconds"),
    ("Max file size", limit::FSIZE, "bytes"),
    ("Max data size", limit::DATA, "bytes"),
    ("Max stack size", limit::STACK, "bytes"),
    ("Max core file size", limit::CORE, "bytes"),
    ("Max resident set", limit::RSS, "bytes"),
    ("Max processes", limit::NPROC, "processes"),
    ("Max open files", limit::NOFILE, "files"),
    ("Max locked memory", limit::MEMLOCK, "bytes"),
    ("Max address space", limit::AS, "bytes"),
    ("Max file locks", limit::LOCKS, "locks"),
    ("Max pending signals", limit::SIGPENDING, "signals"),
    ("Max msgqueue size", limit::MSGQUEUE, "bytes"),
    ("Max nice priority", limit::NICE, ""),
    ("Max realtime priority", limit::RTPRIO, ""),
    ("Max realtime timeout", limit::RTTIME, "us"),
];

/// A table: limit, soft, hard, unit.
pub fn show(who: &Who, out: &mut Text) -> Result<()> {
    let limits = *who.find()?.limits.lock();
    let mut row = |name: &str, soft: &str, hard: &str, unit: &str| {
        put!(out, "{name:<25} {soft:<20} {hard:<20} ");
        if unit.is_empty() { put!(out, "\n") } else { put!(out, "{unit:<10}\n") }
    };
    let value = |v: u64| if v == u64::MAX { "unlimited".into() } else { format!("{v}") };
    row("Limit", "Soft Limit", "Hard Limit", "Units");
    for (name, which, unit) in ROWS {
        let (soft, hard) = limits[which];
        row(name, &value(soft), &value(hard), unit);
    }
    Ok(())
}
