//! syslog(2): the kernel's log, as dmesg(1) reads it.

use super::Ctx;
use crate::{console, creds};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use hal::{VirtAddr, user};

crate::syscalls! {
    103 syslog(action: i32, buf: VirtAddr, len: i32) => syslog;
}

/// Messages before this place were cleared away (SYSLOG_ACTION_CLEAR).
static CLEARED: AtomicU64 = AtomicU64::new(0);
/// The console's level before it was turned off; u8::MAX for none.
static LEVEL_BEFORE: AtomicU8 = AtomicU8::new(u8::MAX);
/// The level of a console that is turned off: only emergencies.
const OFF: u8 = 1;

/// CAP_SYSLOG.
const SYSLOG: u32 = 34;

/// The last `room` bytes of the log since the last clearing, in whole messages.
fn tail(room: usize) -> Vec<u8> {
    let end = console::log_end();
    let mut at = CLEARED.load(Ordering::Relaxed).max(console::log_start());
    let mut text = Vec::new();
    loop {
        text.clear();
        // Older messages are left out until the rest fits.
        let next = console::read_log(at, usize::MAX, &mut text);
        if text.len() <= room || next >= end && text.is_empty() {
            return text;
        }
        at += text.iter().position(|&b| b == b'\n').map_or(text.len(), |i| i + 1) as u64;
    }
}

fn syslog(_: &mut Ctx<'_>, action: i32, buf: VirtAddr, len: i32) -> Result<i32> {
    if !creds::has(SYSLOG) && !creds::capable(fs::Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let read_all = || {
        let room = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if buf.raw() == 0 {
            return Err(Errno::EINVAL);
        }
        let text = tail(room);
        user::copy_to(buf, &text)?;
        Ok(text.len() as i32)
    };
    let clear = || CLEARED.store(console::log_end(), Ordering::Relaxed);
    match action {
        // Opening and closing do nothing.
        0 | 1 => Ok(0),
        2 => {
            let room = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if buf.raw() == 0 {
                return Err(Errno::EINVAL);
            }
            let text = crate::proc::read_messages(room, true)?;
            user::copy_to(buf, &text)?;
            Ok(text.len() as i32)
        }
        3 => read_all(),
        4 => read_all().inspect(|_| clear()),
        5 => {
            clear();
            Ok(0)
        }
        6 => {
            if LEVEL_BEFORE.load(Ordering::Relaxed) == u8::MAX {
                LEVEL_BEFORE.store(console::print_level(), Ordering::Relaxed);
            }
            console::set_print_level(OFF);
            Ok(0)
        }
        7 => {
            let before = LEVEL_BEFORE.swap(u8::MAX, Ordering::Relaxed);
            if before != u8::MAX {
                console::set_print_level(before);
            }
            Ok(0)
        }
        8 => {
            let level = u8::try_from(len).ok().filter(|l| (1..=8).contains(l));
            console::set_print_level(level.ok_or(Errno::EINVAL)?);
            LEVEL_BEFORE.store(u8::MAX, Ordering::Relaxed);
            Ok(0)
        }
        9 => Ok(crate::proc::unread_messages() as i32),
        10 => Ok(console::LOG_SIZE as i32),
        _ => Err(Errno::EINVAL),
    }
}
