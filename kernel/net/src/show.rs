//! The tables of /proc/net, in Linux 6.12's forms.

use crate::address::{Endpoint, octets};
use crate::memory::Pool;
use crate::{device, netlink, tcp, udp};
use abi::Result;
use alloc::vec::Vec;
use core::net::IpAddr;
use fs::pseudo::Text;

/// What makes a file's text.
pub type Show = fn(&mut Text) -> Result<()>;

/// Every file by its name.
pub const FILES: &[(&str, Show)] = &[
    ("arp", arp),
    ("dev", dev),
    ("if_inet6", if_inet6),
    ("netlink", netlinks),
    ("raw", raw),
    ("raw6", raw6),
    ("route", route),
    ("sockstat", sockstat),
    ("sockstat6", sockstat6),
    ("tcp", |out| tcp(out, false)),
    ("tcp6", |out| tcp(out, true)),
    ("udp", |out| udp(out, false)),
    ("udp6", |out| udp(out, true)),
];

/// Columns of a line of the socket tables of IPv4.
const WIDTH_TCP: usize = 149;
const WIDTH_UDP: usize = 127;

/// An address as words in this machine's order, with its port.
fn endpoint(out: &mut Text, endpoint: &Endpoint, v6: bool) {
    match endpoint.ip {
        IpAddr::V4(ip) if !v6 => {
            out.put(format_args!("{:08X}", u32::from_le_bytes(ip.octets())));
        }
        ip => {
            for word in octets(ip).chunks_exact(4) {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                out.put(format_args!("{word:08X}"));
            }
        }
    }
    out.put(format_args!(":{:04X}", endpoint.port));
}

/// Fills a line up with blanks and ends it; `start` is where it began.
fn end_line(out: &mut Text, start: usize, width: usize) {
    let len = out.as_bytes().len() - start;
    for _ in len..width {
        out.bytes(b" ");
    }
    out.bytes(b"\n");
}

/// What a row of any of the tables has in common.
struct Row<'a> {
    local: &'a Endpoint,
    remote: &'a Endpoint,
    state: u8,
    to_send: usize,
    to_receive: usize,
    uid: u32,
    inode: u64,
}

fn row(out: &mut Text, number: usize, width: usize, v6: bool, row: &Row<'_>) {
    if width == WIDTH_TCP {
        out.put(format_args!("{number:4}: "));
    } else {
        out.put(format_args!("{number:5}: "));
    }
    endpoint(out, row.local, v6);
    out.bytes(b" ");
    endpoint(out, row.remote, v6);
    out.put(format_args!(
        " {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5}        0 {}",
        row.state, row.to_send, row.to_receive, row.uid, row.inode
    ));
}

fn tcp(out: &mut Text, v6: bool) -> Result<()> {
    let start = out.as_bytes().len();
    if v6 {
        out.bytes(
            b"  sl  local_address                         remote_address                        ",
        );
        out.bytes(b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n");
    } else {
        out.bytes(b"  sl  local_address rem_address   st tx_queue ");
        out.bytes(b"rx_queue tr tm->when retrnsmt   uid  timeout inode");
        end_line(out, start, WIDTH_TCP);
    }
    let mut number = 0;
    each(tcp::rows, |one: tcp::Row| {
        if one.v6 != v6 {
            return;
        }
        let start = out.as_bytes().len();
        let common = Row {
            local: &one.local,
            remote: &one.remote,
            state: one.state,
            to_send: one.to_send,
            to_receive: one.to_receive,
            uid: one.uid,
            inode: one.inode,
        };
        row(out, number, WIDTH_TCP, v6, &common);
        number += 1;
        if one.inode == 0 {
            out.bytes(b" 3 0000000000000000");
        } else {
            out.bytes(b" 1 0000000000000000 100 0 0 10 0");
        }
        if v6 { out.bytes(b"\n") } else { end_line(out, start, WIDTH_TCP) }
    })
}

fn udp(out: &mut Text, v6: bool) -> Result<()> {
    /// A socket without a peer is closed, one with one established.
    const CONNECTED: u8 = 1;
    const UNCONNECTED: u8 = 7;
    let start = out.as_bytes().len();
    if v6 {
        out.bytes(
            b"  sl  local_address                         remote_address                        ",
        );
        out.bytes(
            b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
        );
    } else {
        out.bytes(b"   sl  local_address rem_address   st tx_queue ");
        out.bytes(b"rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops");
        end_line(out, start, WIDTH_UDP);
    }
    each(udp::rows, |one: udp::Row| {
        if one.v6 != v6 {
            return;
        }
        let start = out.as_bytes().len();
        let nowhere = Endpoint::nowhere(v6);
        let common = Row {
            local: &one.local,
            remote: one.remote.as_ref().unwrap_or(&nowhere),
            state: if one.remote.is_some() { CONNECTED } else { UNCONNECTED },
            to_send: 0,
            to_receive: one.to_receive,
            uid: one.uid,
            inode: one.inode,
        };
        row(out, usize::from(one.local.port), WIDTH_UDP, v6, &common);
        out.put(format_args!(" 2 0000000000000000 {}", one.lost));
        if v6 { out.bytes(b"\n") } else { end_line(out, start, WIDTH_UDP) }
    })
}

/// Looks at all rows of a table, bucket by bucket.
fn each<R>(rows: fn(usize, &mut Vec<R>) -> Result<bool>, mut look: impl FnMut(R)) -> Result<()> {
    let mut bucket = 0;
    loop {
        let mut found = Vec::new();
        if !rows(bucket, &mut found)? {
            return Ok(());
        }
        found.into_iter().for_each(&mut look);
        bucket += 1;
    }
}

fn raw(out: &mut Text) -> Result<()> {
    out.bytes(b"  sl  local_address rem_address   st tx_queue ");
    out.bytes(b"rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n");
    Ok(())
}

fn raw6(out: &mut Text) -> Result<()> {
    out.bytes(
        b"  sl  local_address                         remote_address                        ",
    );
    out.bytes(
        b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    );
    Ok(())
}

fn arp(out: &mut Text) -> Result<()> {
    out.bytes(b"IP address       HW type     Flags       HW address            Mask     Device\n");
    Ok(())
}

fn dev(out: &mut Text) -> Result<()> {
    out.bytes(b"Inter-|   Receive                                                |  Transmit\n");
    out.bytes(
        b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets ",
    );
    out.bytes(b"errs drop fifo colls carrier compressed\n");
    let (packets, bytes) = device::counted();
    let name = device::NAME;
    out.put(format_args!(
        "{name:>6}: {bytes:7} {packets:7}    0    0    0     0          0         0 "
    ));
    out.put(format_args!("{bytes:8} {packets:7}    0    0    0     0       0          0\n"));
    Ok(())
}

fn if_inet6(out: &mut Text) -> Result<()> {
    if device::is_up() {
        out.bytes(b"00000000000000000000000000000001 01 80 10 80       lo\n");
    }
    Ok(())
}

/// The main table, which is empty: addresses of the loopback have their routes in the local one.
fn route(out: &mut Text) -> Result<()> {
    let start = out.as_bytes().len();
    out.bytes(
        b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    );
    end_line(out, start, WIDTH_UDP);
    Ok(())
}

/// How many there are of each sort: of streams in use and waiting, of datagram sockets.
fn counts(v6: bool) -> Result<(usize, usize, usize)> {
    let (mut streams, mut waiting, mut datagrams) = (0, 0, 0);
    each(tcp::rows, |row: tcp::Row| {
        if row.inode == 0 {
            waiting += 1;
        } else if row.v6 == v6 {
            streams += 1;
        }
    })?;
    each(udp::rows, |row: udp::Row| datagrams += usize::from(row.v6 == v6))?;
    Ok((streams, waiting, datagrams))
}

fn sockstat(out: &mut Text) -> Result<()> {
    let (streams, waiting, datagrams) = counts(false)?;
    let (streams6, _, _) = counts(true)?;
    out.put(format_args!("sockets: used {}\n", fs::socket::count()));
    out.put(format_args!("TCP: inuse {streams} orphan 0 tw {waiting} "));
    out.put(format_args!("alloc {} mem {}\n", streams + streams6, Pool::Streams.used()));
    let used = Pool::Messages.used();
    out.put(format_args!("UDP: inuse {datagrams} mem {used}\nUDPLITE: inuse 0\nRAW: inuse 0\n"));
    out.bytes(b"FRAG: inuse 0 memory 0\n");
    Ok(())
}

fn sockstat6(out: &mut Text) -> Result<()> {
    let (streams, _, datagrams) = counts(true)?;
    out.put(format_args!("TCP6: inuse {streams}\nUDP6: inuse {datagrams}\nUDPLITE6: inuse 0\n"));
    out.bytes(b"RAW6: inuse 0\nFRAG6: inuse 0 memory 0\n");
    Ok(())
}

fn netlinks(out: &mut Text) -> Result<()> {
    out.bytes(b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    ");
    out.bytes(b"Drops    Inode\n");
    for row in netlink::rows()? {
        let (number, groups) = (row.number, row.groups);
        out.put(format_args!(
            "0000000000000000 0   {number:<10} {groups:08x} {:<8} ",
            row.to_receive
        ));
        out.put(format_args!("0        0     2        0        {:<8}\n", row.inode));
    }
    Ok(())
}
