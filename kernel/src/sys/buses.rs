//! Terminals and memory devices as sysfs shows them, and the directories that programs expect.

use super::line;
use crate::proc::put;
use alloc::format;
use fs::pseudo::Dir;

/// Major, minor, class and name of the devices.
const DEVICES: [(u32, u32, &str, &str); 9] = [
    (1, 1, "mem", "mem"),
    (1, 3, "mem", "null"),
    (1, 5, "mem", "zero"),
    (1, 7, "mem", "full"),
    (1, 8, "mem", "random"),
    (1, 9, "mem", "urandom"),
    (5, 0, "tty", "tty"),
    (5, 1, "tty", "console"),
    (5, 2, "tty", "ptmx"),
];

/// Enters /sys/{block,bus,class,dev} and /sys/devices/virtual.
pub fn fill(root: &Dir) {
    root.dir("block");
    root.dir("firmware");
    root.dir("module");
    root.dir("power");
    let bus = root.dir("bus");
    bus.dir("event_source").dir("devices");
    bus.dir("cpu").dir("devices");
    bus.dir("node").dir("devices");
    let numbers = root.dir("dev");
    numbers.dir("block");
    let numbers = numbers.dir("char");
    let all = root.dir("devices").dir("virtual");
    let classes = root.dir("class");
    let enter = |major: u32, minor: u32, class: &'static str, name: &str| {
        let dir = all.dir(class).dir(name);
        line(&dir, "dev", move |out| put!(out, "{major}:{minor}"));
        let node = format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}");
        line(&dir, "uevent", move |out| put!(out, "{node}"));
        dir.link("subsystem", &format!("../../../../class/{class}"));
        let path = format!("../../devices/virtual/{class}/{name}");
        classes.dir(class).link(name, &path);
        numbers.link(&format!("{major}:{minor}"), &path);
        dir
    };
    for (major, minor, class, name) in DEVICES {
        let dir = enter(major, minor, class, name);
        if name == "console" {
            line(&dir, "active", |out| put!(out, "ttyS{}", crate::console::port()));
        }
    }
    for name in crate::tty::names() {
        let port: Option<u32> = name.strip_prefix("ttyS").and_then(|n| n.parse().ok());
        if let Some(port) = port {
            enter(4, 64 + port, "tty", name);
        }
    }
}
