//! /proc/sysrq-trigger, with letters that leave the guest as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::sys;

pub const TESTS: &[Test] = tests![
    the_trigger_sets_the_console_level,
    an_unknown_letter_lists_the_known,
    only_root_triggers
];

const TRIGGER: &str = "/proc/sysrq-trigger";

fn console_level() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/printk").expect("printk");
    text.split_whitespace().next().expect("a level").into()
}

fn the_trigger_sets_the_console_level() {
    let before = console_level();
    for level in ["3", "5"] {
        // Only the first character counts.
        fs::write(TRIGGER, format!("{level}c")).expect("write");
        assert_eq!(console_level(), level);
    }
    fs::write(TRIGGER, before.clone()).expect("write");
    assert_eq!(console_level(), before);
}

fn an_unknown_letter_lists_the_known() {
    let told = || {
        let mut log = vec![0u8; 1 << 18];
        let n = sys!(libc::SYS_syslog, 3, log.as_mut_ptr(), log.len()).expect("syslog");
        String::from_utf8_lossy(&log[..n])
            .matches("sysrq: HELP : loglevel(0-9) reboot(b) crash(c)")
            .count()
    };
    let before = told();
    fs::write(TRIGGER, "?").expect("write");
    assert_eq!(told(), before + 1);
}

fn only_root_triggers() {
    assert_eq!(fs::metadata(TRIGGER).expect("metadata").mode() & 0o7777, 0o200);
    let read = fs::read(TRIGGER).expect_err("nothing to read");
    assert_eq!(read.raw_os_error(), Some(libc::EIO));
    run(|| {
        sys!(libc::SYS_setuid, 65534).expect("setuid");
        let refused = fs::write(TRIGGER, "?").expect_err("not for users");
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    });
}
