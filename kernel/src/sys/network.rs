//! /sys/class/net: the loopback device.

use super::{fixed, line};
use crate::proc::put;
use fs::pseudo::Dir;
use net::device::{self, INDEX, MTU, NAME, QUEUE, TYPE};

/// Enters /sys/devices/virtual/net/lo and its link.
pub fn fill(root: &Dir) {
    let dir = root.dir("devices").dir("virtual").dir("net").dir(NAME);
    root.dir("class").dir("net").link(NAME, "../../devices/virtual/net/lo");
    dir.link("subsystem", "../../../../class/net");
    for (name, text) in [
        ("addr_assign_type", "0"),
        ("addr_len", "6"),
        ("address", "00:00:00:00:00:00"),
        ("broadcast", "00:00:00:00:00:00"),
        ("dev_id", "0x0"),
        ("dev_port", "0"),
        ("dormant", "0"),
        ("ifalias", ""),
        ("link_mode", "0"),
        ("name_assign_type", "2"),
        ("netdev_group", "0"),
        ("uevent", "INTERFACE=lo\nIFINDEX=1"),
    ] {
        fixed(&dir, name, text);
    }
    line(&dir, "carrier", |out| put!(out, "1"));
    line(&dir, "flags", |out| {
        put!(out, "{:#x}", device::flags() & 0xffff & !device::flag::RUNNING)
    });
    line(&dir, "ifindex", |out| put!(out, "{INDEX}"));
    line(&dir, "iflink", |out| put!(out, "{INDEX}"));
    line(&dir, "mtu", |out| put!(out, "{MTU}"));
    line(&dir, "operstate", |out| {
        put!(out, "{}", if device::is_up() { "unknown" } else { "down" });
    });
    line(&dir, "tx_queue_len", |out| put!(out, "{QUEUE}"));
    line(&dir, "type", |out| put!(out, "{TYPE}"));
    let statistics = dir.dir("statistics");
    for name in ["rx_packets", "tx_packets"] {
        line(&statistics, name, |out| put!(out, "{}", device::counted().0));
    }
    for name in ["rx_bytes", "tx_bytes"] {
        line(&statistics, name, |out| put!(out, "{}", device::counted().1));
    }
    for name in ["rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "collisions", "multicast"] {
        fixed(&statistics, name, "0");
    }
}
