//! rtnetlink(7): the answers about the loopback device, its addresses and their routes.

use super::message::{Header, Writer, attributes, flag, u32_at};
use crate::device::{self, BROADCAST, INDEX, MTU, NAME, QUEUE, TYPE};
use crate::{AF_INET, AF_INET6};
use abi::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use fs::Cap;
use fs::env::env;

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const GETNEIGH: u16 = 30;
const NEWRULE: u16 = 32;
const GETRULE: u16 = 34;
const NEWQDISC: u16 = 36;
const GETQDISC: u16 = 38;
/// The highest type that rtnetlink knows.
const MAX: u16 = 123;

/// Bytes of the families' own headers.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// Tables of routes.
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;

/// Answers a request: EPERM, EOPNOTSUPP, ENODEV, EINVAL. The messages of a dump do not include its
/// end.
pub fn answer(request: &Header, body: &[u8], out: &mut Writer) -> Result<()> {
    if request.kind > MAX {
        return Err(Errno::EOPNOTSUPP);
    }
    // Types come in fours: new, del, get, set.
    let asks = request.kind % 4 == 2;
    if !asks && !env().capable(Cap::NetAdmin) {
        return Err(Errno::EPERM);
    }
    // A dump may be asked for with one byte, the family.
    let family = u32::from(*body.first().ok_or(Errno::EINVAL)?);
    let dump = request.flags & flag::DUMP == flag::DUMP;
    match request.kind {
        GETLINK if dump => link(request, flag::MULTI, out),
        GETLINK => {
            named_link(body)?;
            link(request, 0, out)
        }
        NEWLINK => change_link(body),
        GETADDR if dump => addresses(request, family, out),
        GETROUTE if dump => routes(request, family, out),
        GETROUTE => way(request, family, body, out),
        GETNEIGH if dump => Ok(()),
        GETRULE if dump => rules(request, family, out),
        GETQDISC if dump => discipline(request, out),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Checks that a request about a link means the one that there is. EINVAL, ENODEV.
fn named_link(body: &[u8]) -> Result<()> {
    const IFNAME: u16 = 3;
    const ALT_IFNAME: u16 = 53;
    if body.len() < LINK_HEADER {
        return Err(Errno::EINVAL);
    }
    let index = u32_at(body, 4);
    let mut name = None;
    for (kind, value) in attributes(&body[LINK_HEADER..]) {
        if matches!(kind, IFNAME | ALT_IFNAME) {
            name = Some(value.split(|&byte| byte == 0).next().unwrap_or(value));
        }
    }
    match (index, name) {
        (INDEX, _) => Ok(()),
        (0, Some(name)) if name == NAME.as_bytes() => Ok(()),
        (0, None) => Err(Errno::EINVAL),
        _ => Err(Errno::ENODEV),
    }
}

/// RTM_NEWLINK of the link that there is: up or down. EOPNOTSUPP for all else.
fn change_link(body: &[u8]) -> Result<()> {
    named_link(body).map_err(|error| match error {
        // It would be made.
        Errno::ENODEV => Errno::EOPNOTSUPP,
        other => other,
    })?;
    let (flags, change) = (u32_at(body, 8), u32_at(body, 12));
    let up = device::flag::UP;
    if change & !up != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if change & up != 0 {
        device::set_up(flags & up != 0);
    }
    Ok(())
}

/// `struct rtnl_link_stats64` of packets and bytes.
fn statistics() -> [u64; 25] {
    let (packets, bytes) = device::counted();
    let mut all = [0; 25];
    (all[0], all[1], all[2], all[3]) = (packets, packets, bytes, bytes);
    all
}

/// `struct ifinfomsg` and the attributes of the link.
fn link(to: &Header, flags: u16, out: &mut Writer) -> Result<()> {
    let mut own = [0; LINK_HEADER];
    own[2..4].copy_from_slice(&TYPE.to_le_bytes());
    own[4..8].copy_from_slice(&INDEX.to_le_bytes());
    own[8..12].copy_from_slice(&device::flags().to_le_bytes());
    out.begin(NEWLINK, flags, to, &own)?;
    out.attribute(3, b"lo\0")?;
    out.word(13, QUEUE)?;
    // Operational state unknown (down: down), mode default.
    out.attribute(16, &[if device::is_up() { 0 } else { 2 }])?;
    out.attribute(17, &[0])?;
    out.word(4, MTU)?;
    out.word(50, 0)?;
    out.word(51, 0)?;
    // Group, promiscuity, queues, carrier.
    out.word(27, 0)?;
    out.word(30, 0)?;
    out.word(31, 1)?;
    out.word(32, 1)?;
    out.attribute(33, &[1])?;
    let discipline: &[u8] = if device::is_up() { b"noqueue\0" } else { b"noop\0" };
    out.attribute(6, discipline)?;
    out.attribute(1, &[0; 6])?;
    out.attribute(2, &[0; 6])?;
    let all = statistics();
    let mut bytes = [0; 200];
    for (to, value) in bytes.chunks_exact_mut(8).zip(all) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    out.attribute(23, &bytes)?;
    let mut short = [0; 96];
    for (to, value) in short.chunks_exact_mut(4).zip(all) {
        to.copy_from_slice(&(value as u32).to_le_bytes());
    }
    out.attribute(7, &short)?;
    out.end();
    Ok(())
}

/// `struct ifa_cacheinfo` of an address that stays.
fn forever() -> [u8; 16] {
    let mut bytes = [0xff; 16];
    bytes[8..].fill(0);
    bytes
}

fn addresses(to: &Header, family: u32, out: &mut Writer) -> Result<()> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const LABEL: u16 = 3;
    const CACHEINFO: u16 = 6;
    const FLAGS: u16 = 8;
    const PROTO: u16 = 11;
    /// IFA_F_PERMANENT; RT_SCOPE_HOST; IFAPROT_KERNEL_LO.
    const PERMANENT: u32 = 0x80;
    const SCOPE_HOST: u8 = 254;
    const KERNEL_LO: u8 = 1;
    if !device::is_up() {
        return Ok(());
    }
    let header = |family: u32, prefix: u8| {
        let mut own = [0; ADDRESS_HEADER];
        own[..4].copy_from_slice(&[family as u8, prefix, PERMANENT as u8, SCOPE_HOST]);
        own[4..].copy_from_slice(&INDEX.to_le_bytes());
        own
    };
    if matches!(family, 0 | AF_INET) {
        out.begin(NEWADDR, flag::MULTI, to, &header(AF_INET, 8))?;
        let ip = Ipv4Addr::LOCALHOST.octets();
        out.attribute(ADDRESS, &ip)?;
        out.attribute(LOCAL, &ip)?;
        out.attribute(LABEL, b"lo\0")?;
        out.word(FLAGS, PERMANENT)?;
        out.attribute(CACHEINFO, &forever())?;
        out.end();
    }
    if matches!(family, 0 | AF_INET6) {
        out.begin(NEWADDR, flag::MULTI, to, &header(AF_INET6, 128))?;
        out.attribute(ADDRESS, &Ipv6Addr::LOCALHOST.octets())?;
        out.attribute(CACHEINFO, &forever())?;
        out.word(FLAGS, PERMANENT)?;
        out.attribute(PROTO, &[KERNEL_LO])?;
        out.end();
    }
    Ok(())
}

/// A route: destination with the length of its prefix, its table, type and scope, its metric.
struct Route<'a> {
    family: u32,
    to: &'a [u8],
    prefix: u8,
    table: u8,
    kind: u8,
    scope: u8,
    source: Option<&'a [u8]>,
    metric: Option<u32>,
}

const KIND_LOCAL: u8 = 2;
const KIND_BROADCAST: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

const DST: u16 = 1;
const OIF: u16 = 4;
const PRIORITY: u16 = 6;
const PREFSRC: u16 = 7;
const CACHEINFO: u16 = 12;
const TABLE: u16 = 15;
const PREF: u16 = 20;
const UID: u16 = 25;

fn routes(to: &Header, family: u32, out: &mut Writer) -> Result<()> {
    if !device::is_up() {
        return Ok(());
    }
    let own = Ipv4Addr::LOCALHOST.octets();
    let (net, all) = (Ipv4Addr::new(127, 0, 0, 0).octets(), BROADCAST.octets());
    let v4 = |to, prefix, kind, scope| Route {
        family: AF_INET,
        to,
        prefix,
        table: TABLE_LOCAL,
        kind,
        scope,
        source: Some(&own[..]),
        metric: None,
    };
    let loopback = Ipv6Addr::LOCALHOST.octets();
    let v6 = Route {
        family: AF_INET6,
        to: &loopback[..],
        prefix: 128,
        table: TABLE_LOCAL,
        kind: KIND_LOCAL,
        scope: SCOPE_UNIVERSE,
        source: None,
        metric: Some(0),
    };
    let all = [
        v4(&net[..], 8, KIND_LOCAL, SCOPE_HOST),
        v4(&own[..], 32, KIND_LOCAL, SCOPE_HOST),
        v4(&all[..], 32, KIND_BROADCAST, SCOPE_LINK),
        v6,
    ];
    for route in all.iter().filter(|route| family == 0 || family == route.family) {
        one_route(to, route, out)?;
    }
    Ok(())
}

fn one_route(to: &Header, route: &Route<'_>, out: &mut Writer) -> Result<()> {
    /// RTPROT_KERNEL.
    const KERNEL: u8 = 2;
    let mut own = [0; ROUTE_HEADER];
    own[..2].copy_from_slice(&[route.family as u8, route.prefix]);
    own[4..8].copy_from_slice(&[route.table, KERNEL, route.scope, route.kind]);
    out.begin(NEWROUTE, flag::MULTI, to, &own)?;
    out.word(TABLE, u32::from(route.table))?;
    out.attribute(DST, route.to)?;
    if let Some(metric) = route.metric {
        out.word(PRIORITY, metric)?;
    }
    if let Some(source) = route.source {
        out.attribute(PREFSRC, source)?;
    }
    out.word(OIF, INDEX)?;
    if route.metric.is_some() {
        out.attribute(CACHEINFO, &[0; 32])?;
        out.attribute(PREF, &[0])?;
    }
    out.end();
    Ok(())
}

/// RTM_GETROUTE of one address: the way to it. ENETUNREACH, EINVAL.
fn way(to: &Header, family: u32, body: &[u8], out: &mut Writer) -> Result<()> {
    /// RTM_F_CLONED with RTCF_LOCAL.
    const CACHED_LOCAL: u32 = 0x8000_0200;
    if body.len() < ROUTE_HEADER {
        return Err(Errno::EINVAL);
    }
    let wanted = attributes(&body[ROUTE_HEADER..]).find(|(kind, _)| *kind == DST);
    let value = wanted.map_or(&[][..], |(_, value)| value);
    let ip = match family {
        AF_INET => {
            let bytes: [u8; 4] = if value.is_empty() { [0; 4] } else { sized(value)? };
            IpAddr::V4(Ipv4Addr::from(bytes))
        }
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(sized::<16>(value)?)),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let (_, ip, from) = device::route(ip)?;
    let mut own = [0; ROUTE_HEADER];
    own[..2].copy_from_slice(&[family as u8, if ip.is_ipv4() { 32 } else { 128 }]);
    // As Linux tells it: an IPv4 route by the name of the main table.
    let table = if ip.is_ipv4() { TABLE_MAIN } else { TABLE_LOCAL };
    own[4..8].copy_from_slice(&[table, 0, SCOPE_UNIVERSE, KIND_LOCAL]);
    let flags = if ip.is_ipv4() { CACHED_LOCAL } else { 0 };
    own[8..].copy_from_slice(&flags.to_le_bytes());
    out.begin(NEWROUTE, 0, to, &own)?;
    out.word(TABLE, u32::from(table))?;
    let mut put = |kind, ip: IpAddr| match ip {
        IpAddr::V4(ip) => out.attribute(kind, &ip.octets()),
        IpAddr::V6(ip) => out.attribute(kind, &ip.octets()),
    };
    put(DST, ip)?;
    put(PREFSRC, from)?;
    out.word(OIF, INDEX)?;
    out.word(UID, env().ucred().uid)?;
    out.attribute(CACHEINFO, &[0; 32])?;
    out.end();
    Ok(())
}

fn sized<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    value.try_into().map_err(|_| Errno::EINVAL)
}

/// The rules that every host has: the local table, the main one, the default one.
fn rules(to: &Header, family: u32, out: &mut Writer) -> Result<()> {
    const PRIORITY: u16 = 6;
    /// FR_ACT_TO_TBL; RTPROT_KERNEL in FRA_PROTOCOL; FRA_SUPPRESS_PREFIXLEN.
    const TO_TABLE: u8 = 1;
    const PROTOCOL: u16 = 21;
    const SUPPRESS: u16 = 14;
    for own_family in
        [AF_INET, AF_INET6].into_iter().filter(|own| matches!(family, 0) || family == *own)
    {
        for (priority, table) in [(0, TABLE_LOCAL), (32_766, TABLE_MAIN), (32_767, 253)] {
            if own_family == AF_INET6 && table == 253 {
                continue;
            }
            let mut own = [0; ROUTE_HEADER];
            own[0] = own_family as u8;
            (own[4], own[7]) = (table, TO_TABLE);
            out.begin(NEWRULE, flag::MULTI, to, &own)?;
            out.word(TABLE, u32::from(table))?;
            out.word(SUPPRESS, u32::MAX)?;
            out.attribute(PROTOCOL, &[2])?;
            if priority > 0 {
                out.word(PRIORITY, priority)?;
            }
            out.end();
        }
    }
    Ok(())
}

/// The queueing discipline of the link: none.
fn discipline(to: &Header, out: &mut Writer) -> Result<()> {
    let mut own = [0; 20];
    own[4..8].copy_from_slice(&INDEX.to_le_bytes());
    own[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    own[16..].copy_from_slice(&2u32.to_le_bytes());
    out.begin(NEWQDISC, flag::MULTI, to, &own)?;
    out.attribute(1, b"noqueue\0")?;
    out.end();
    Ok(())
}
