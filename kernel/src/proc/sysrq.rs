//! /proc/sysrq-trigger: what an administrator may have a machine do that hardly answers any more.
//!
//! The letters are Linux's. Those that are not here ask for what this kernel does not have
//! (keyboards, disks), and print the list, as on Linux.

use crate::console;
use crate::task::table;
use abi::Errno;
use alloc::string::String;
use fs::pseudo::{Dir, Text};

const HELP: &str = "HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e) \
                    memory-full-oom-kill(f) kill-all-tasks(i) show-memory-usage(m) poweroff(o) \
                    sync(s) show-task-states(t)";

/// Makes the file, for root to write.
pub fn add(top: &Dir) {
    let store = |text: &[u8]| {
        if let Some(&letter) = text.first() {
            run(letter);
        }
        Ok(())
    };
    top.attribute("sysrq-trigger", 0o200, |_| Err(Errno::EIO), store);
}

/// Does what the letter stands for.
fn run(letter: u8) {
    let told = match letter {
        b'0'..=b'9' => "Changing Loglevel",
        b'b' => "Resetting",
        b'c' => "Trigger a crash",
        b'e' => "Terminate All Tasks",
        b'f' => "Manual OOM execution",
        b'i' => "Kill All Tasks",
        b'm' => "Show Memory",
        b'o' => "Power Off",
        b's' => "Emergency Sync",
        b't' => "Show State",
        _ => HELP,
    };
    log::info!("sysrq: {told}");
    match letter {
        b'0'..=b'9' => console::set_print_level(letter - b'0'),
        b'b' => {
            crate::panic::stop_others();
            hal::power::reset()
        }
        b'c' => {
            #[cfg(feature = "checks")]
            crate::provoke::on_sysrq();
            panic!("sysrq triggered crash")
        }
        b'e' => signal_all(15),
        b'f' => {
            crate::oom::end_somebody();
        }
        b'i' => signal_all(9),
        b'm' => {
            let mut text = Text::default();
            if super::memory::meminfo(&mut text).is_ok() {
                tell_lines(text.as_bytes());
            }
        }
        b'o' => {
            crate::panic::stop_others();
            hal::acpi::power_off()
        }
        // Past the log, and without memory: that may be why it is asked for.
        b't' => crate::sched::tell(console::print_emergency),
        // Nothing waits to be written out.
        _ => {}
    }
}

/// Signals every process but init and the kernel's own, the caller too.
fn signal_all(signal: i32) {
    let mut next = table::next_process(2);
    while let Some(process) = next {
        next = table::next_process(process.pid + 1);
        if process.mm.lock().is_some() {
            crate::signal::send_kernel(&process, signal);
        }
    }
}

fn tell_lines(text: &[u8]) {
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        log::info!("{}", String::from_utf8_lossy(line));
    }
}
