//! Drivers by major number, terminals' drivers, and the console.

use super::put;
use abi::Result;
use fs::pseudo::Text;

/// /proc/devices.
pub fn devices(out: &mut Text) -> Result<()> {
    out.bytes(b"Character devices:\n");
    for (major, name) in [
        (1, "mem"),
        (4, "ttyS"),
        (5, "/dev/tty"),
        (5, "/dev/console"),
        (5, "/dev/ptmx"),
        (128, "ptm"),
        (136, "pts"),
    ] {
        put!(out, "{major:>3} {name}\n");
    }
    out.bytes(b"\nBlock devices:\n");
    Ok(())
}

/// /proc/tty/drivers: name, node, major, minors, kind.
pub fn tty_drivers(out: &mut Text) -> Result<()> {
    for (name, node, major, minors, kind) in [
        ("/dev/tty", "/dev/tty", 5, "0", "system:/dev/tty"),
        ("/dev/console", "/dev/console", 5, "1", "system:console"),
        ("/dev/ptmx", "/dev/ptmx", 5, "2", "system"),
        ("serial", "/dev/ttyS", 4, "64-67", "serial"),
        ("pty_slave", "/dev/pts", 136, "0-1048575", "pty:slave"),
        ("pty_master", "/dev/ptm", 128, "0-1048575", "pty:master"),
    ] {
        put!(out, "{name:<20} {node:<12} {major:>3} {minors:>7} {kind}\n");
    }
    Ok(())
}

/// /proc/consoles: the serial port that takes the kernel's messages.
pub fn consoles(out: &mut Text) -> Result<()> {
    let port = crate::console::port();
    let name = alloc::format!("ttyS{port}");
    put!(out, "{name:<20} -W- (EC  p a) {:>4}:{}\n", 4, 64 + port);
    Ok(())
}
