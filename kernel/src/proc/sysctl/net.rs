//! /proc/sys/net.

use super::Setting::{self, Fixed, Read, Write};
use super::{number, put};
use abi::Result;
use core::sync::atomic::Ordering::Relaxed;
use fs::pseudo::Text;
use net::common::UNPRIVILEGED_FROM;
use net::tcp::SOMAXCONN;

pub const SETTINGS: &[(&str, Setting)] = &[
    ("net/core/somaxconn", Write(0o644, somaxconn, set_somaxconn)),
    ("net/core/optmem_max", Fixed("131072")),
    ("net/core/rmem_default", Fixed("212992")),
    ("net/core/rmem_max", Fixed("212992")),
    ("net/core/wmem_default", Fixed("212992")),
    ("net/core/wmem_max", Fixed("212992")),
    ("net/ipv4/ip_default_ttl", Fixed("64")),
    ("net/ipv4/ip_forward", Fixed("0")),
    ("net/ipv4/ip_local_port_range", Fixed("32768\t60999")),
    ("net/ipv4/ip_nonlocal_bind", Fixed("0")),
    ("net/ipv4/ip_unprivileged_port_start", Write(0o644, first_port, set_first_port)),
    ("net/ipv4/ping_group_range", Fixed("1\t0")),
    ("net/ipv4/tcp_available_congestion_control", Fixed("cubic")),
    ("net/ipv4/tcp_congestion_control", Fixed("cubic")),
    ("net/ipv4/tcp_fin_timeout", Fixed("60")),
    ("net/ipv4/tcp_keepalive_intvl", Fixed("75")),
    ("net/ipv4/tcp_keepalive_probes", Fixed("9")),
    ("net/ipv4/tcp_keepalive_time", Fixed("7200")),
    ("net/ipv4/tcp_max_tw_buckets", Fixed("8192")),
    ("net/ipv4/tcp_mem", Read(tcp_mem)),
    ("net/ipv4/tcp_rmem", Fixed("4096\t131072\t6291456")),
    ("net/ipv4/tcp_syn_retries", Fixed("6")),
    ("net/ipv4/tcp_tw_reuse", Fixed("2")),
    ("net/ipv4/tcp_wmem", Fixed("4096\t16384\t4194304")),
    ("net/ipv6/bindv6only", Fixed("0")),
    ("net/ipv6/conf/all/disable_ipv6", Fixed("0")),
    ("net/ipv6/conf/default/disable_ipv6", Fixed("0")),
    ("net/ipv6/conf/lo/disable_ipv6", Fixed("0")),
    ("net/unix/max_dgram_qlen", Fixed("10")),
];

fn somaxconn(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", SOMAXCONN.load(Relaxed));
    Ok(())
}

fn set_somaxconn(data: &[u8]) -> Result<()> {
    SOMAXCONN.store(number(data, 0..=i64::from(i32::MAX))? as u32, Relaxed);
    Ok(())
}

fn first_port(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", UNPRIVILEGED_FROM.load(Relaxed));
    Ok(())
}

/// Not within the range that the kernel chooses from, which starts at 32768.
fn set_first_port(data: &[u8]) -> Result<()> {
    UNPRIVILEGED_FROM.store(number(data, 0..=32_768)? as u32, Relaxed);
    Ok(())
}

/// Where thrift begins, where it is asked for, and the most, in pages.
fn tcp_mem(out: &mut Text) -> Result<()> {
    let most = net::memory::limit();
    put!(out, "{}\t{}\t{most}\n", most / 2, most / 3 * 2);
    Ok(())
}
