//! /proc/sys/kernel, and the few of /proc/sys/net.

use super::Setting::{self, Fixed, Name, Read, Write};
use super::number;
use crate::perf::settings;
use crate::proc::put;
use crate::task::table;
use crate::uts;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use sync::Once;

/// The settings. Limits of System V objects and message queues are Linux's defaults; profiling's
/// say that everybody may profile what is theirs.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("kernel/arch", Fixed(uts::MACHINE)),
    ("kernel/auto_msgmni", Fixed("0")),
    ("kernel/cap_last_cap", Fixed("40")),
    ("kernel/core_pattern", Fixed("core")),
    ("kernel/core_uses_pid", Fixed("0")),
    ("kernel/dmesg_restrict", Fixed("1")),
    ("kernel/domainname", Name(&uts::DOMAIN, domainname, set_domainname)),
    ("kernel/hostname", Name(&uts::HOST, hostname, set_hostname)),
    ("kernel/kptr_restrict", Fixed("0")),
    ("kernel/msgmax", Fixed("8192")),
    ("kernel/msgmnb", Fixed("16384")),
    ("kernel/msgmni", Fixed("32000")),
    ("kernel/ngroups_max", Fixed("65536")),
    ("kernel/ns_last_pid", Read(last_tid)),
    ("kernel/numa_balancing", Fixed("0")),
    ("kernel/osrelease", Fixed(uts::RELEASE)),
    ("kernel/ostype", Fixed(uts::SYSNAME)),
    ("kernel/overflowgid", Fixed("65534")),
    ("kernel/overflowuid", Fixed("65534")),
    ("kernel/panic", Write(0o644, panic, set_panic)),
    ("kernel/panic_on_oops", Fixed("1")),
    // Samples are limited by their number, not by the time that they take.
    ("kernel/perf_cpu_time_max_percent", Fixed("0")),
    ("kernel/perf_event_max_contexts_per_stack", Fixed("8")),
    ("kernel/perf_event_max_sample_rate", Write(0o644, max_rate, set_max_rate)),
    ("kernel/perf_event_max_stack", Fixed("127")),
    ("kernel/perf_event_mlock_kb", Write(0o644, mlock_kb, set_mlock_kb)),
    ("kernel/perf_event_paranoid", Write(0o644, paranoid, set_paranoid)),
    ("kernel/pid_max", Read(pid_max)),
    ("kernel/printk", Write(0o644, printk, set_printk)),
    ("kernel/pty/max", Fixed("4096")),
    ("kernel/random/boot_id", Read(boot_id)),
    ("kernel/random/entropy_avail", Fixed("256")),
    ("kernel/random/poolsize", Fixed("256")),
    ("kernel/random/urandom_min_reseed_secs", Fixed("60")),
    ("kernel/random/uuid", Read(uuid)),
    ("kernel/random/write_wakeup_threshold", Fixed("256")),
    ("kernel/randomize_va_space", Fixed("0")),
    ("kernel/sched_rr_timeslice_ms", Fixed("100")),
    ("kernel/sched_rt_period_us", Fixed("1000000")),
    ("kernel/sched_rt_runtime_us", Fixed("-1")),
    ("kernel/sched_schedstats", Fixed("1")),
    ("kernel/sem", Fixed("32000\t1024000000\t500\t32000")),
    ("kernel/shm_rmid_forced", Fixed("0")),
    ("kernel/shmall", Fixed("18446744073692774399")),
    ("kernel/shmmax", Fixed("18446744073692774399")),
    ("kernel/shmmni", Fixed("4096")),
    ("kernel/tainted", Fixed("0")),
    ("kernel/threads-max", Write(0o644, threads_max, set_threads_max)),
    ("kernel/version", Fixed(uts::VERSION)),
];

fn named(out: &mut Text, name: &uts::Name) -> Result<()> {
    out.bytes(&name.get());
    out.bytes(b"\n");
    Ok(())
}

/// The text up to its newline.
fn line(data: &[u8]) -> &[u8] {
    data.split(|&b| b == b'\n' || b == 0).next().unwrap_or(data)
}

fn hostname(out: &mut Text) -> Result<()> {
    named(out, &uts::HOST)
}

fn set_hostname(data: &[u8]) -> Result<()> {
    uts::HOST.set(line(data))
}

fn domainname(out: &mut Text) -> Result<()> {
    named(out, &uts::DOMAIN)
}

fn set_domainname(data: &[u8]) -> Result<()> {
    uts::DOMAIN.set(line(data))
}

fn panic(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", crate::panic::REBOOT_AFTER.load(Ordering::Relaxed));
    Ok(())
}

fn set_panic(data: &[u8]) -> Result<()> {
    let seconds = number(data, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
    crate::panic::REBOOT_AFTER.store(seconds as i32, Ordering::Relaxed);
    Ok(())
}

fn pid_max(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", table::PID_MAX);
    Ok(())
}

fn last_tid(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", table::last_tid());
    Ok(())
}

fn threads_max(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", crate::limits::threads_max());
    Ok(())
}

fn set_threads_max(data: &[u8]) -> Result<()> {
    crate::limits::set_threads_max(number(data, 1..=i64::from(i32::MAX))? as u64);
    Ok(())
}

/// Level of the console, of messages without one, the lowest and the first level of the console.
fn printk(out: &mut Text) -> Result<()> {
    put!(out, "{}\t4\t1\t7\n", crate::console::print_level());
    Ok(())
}

/// Only the console's level can be changed.
fn set_printk(data: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let mut words = text.split_ascii_whitespace();
    let level = words.next().and_then(|word| word.parse().ok()).ok_or(Errno::EINVAL)?;
    if words.zip(["4", "1", "7"]).any(|(word, fixed)| word != fixed) {
        return Err(Errno::EINVAL);
    }
    crate::console::set_print_level(level);
    Ok(())
}

/// A random UUID (RFC 9562, version 4).
fn fresh_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    crate::random::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

fn write_uuid(out: &mut Text, bytes: &[u8; 16]) {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.bytes(b"-");
        }
        put!(out, "{byte:02x}");
    }
    out.bytes(b"\n");
}

fn uuid(out: &mut Text) -> Result<()> {
    write_uuid(out, &fresh_uuid());
    Ok(())
}

fn boot_id(out: &mut Text) -> Result<()> {
    static ID: Once<[u8; 16]> = Once::new();
    write_uuid(out, ID.get_or_init(fresh_uuid));
    Ok(())
}

fn max_rate(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", settings::MAX_RATE.load(Ordering::Relaxed));
    Ok(())
}

fn set_max_rate(data: &[u8]) -> Result<()> {
    settings::MAX_RATE.store(number(data, 1..=i64::from(i32::MAX))?, Ordering::Relaxed);
    Ok(())
}

fn mlock_kb(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", settings::MLOCK_KB.load(Ordering::Relaxed));
    Ok(())
}

fn set_mlock_kb(data: &[u8]) -> Result<()> {
    let all = i64::from(i32::MIN)..=i64::from(i32::MAX);
    settings::MLOCK_KB.store(number(data, all)?, Ordering::Relaxed);
    Ok(())
}

fn paranoid(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", settings::PARANOID.load(Ordering::Relaxed));
    Ok(())
}

fn set_paranoid(data: &[u8]) -> Result<()> {
    let all = i64::from(i32::MIN)..=i64::from(i32::MAX);
    settings::PARANOID.store(number(data, all)?, Ordering::Relaxed);
    Ok(())
}
