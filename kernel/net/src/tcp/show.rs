//! What /proc/net/tcp tells of each socket.

use super::info::state;
use super::{ACCEPTED, BOUND, TcpSocket};
use crate::address::{Endpoint, Scope};
use crate::ports::Table;
use abi::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use frames::fallible::TryVec;

/// A socket, or what is left of a connection.
pub struct Row {
    pub v6: bool,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub state: u8,
    /// Bytes to be sent and to be received (of a listener: its backlog).
    pub to_send: usize,
    pub to_receive: usize,
    pub uid: u32,
    /// 0 when nobody has it.
    pub inode: u64,
}

/// What the table holds: a live socket, or an ended connection's addresses.
enum Found {
    Live(Arc<TcpSocket>),
    Ended(Scope, u16, Endpoint),
}

fn row_of(socket: &TcpSocket) -> Row {
    let (local, remote) = {
        let state = socket.state.lock();
        (state.local, state.remote)
    };
    let nowhere = Endpoint::nowhere(socket.core.v6);
    let backlog = socket.backlog();
    Row {
        v6: socket.core.v6,
        local: local.unwrap_or(nowhere),
        remote: remote.unwrap_or(nowhere),
        state: socket.state_number(),
        to_send: match backlog {
            Some(_) => 0,
            None => socket.peer().map_or(0, |peer| socket.queued(&peer)),
        },
        to_receive: backlog.map_or_else(|| socket.there(), |(waiting, _)| waiting),
        uid: socket.core.base.uid(),
        inode: socket.core.base.ino,
    }
}

fn ended(scope: Scope, port: u16, remote: Endpoint) -> Row {
    let ip = match scope {
        Scope::V4(ip) => IpAddr::V4(ip),
        Scope::V6(ip) => IpAddr::V6(ip),
        Scope::Both => Endpoint::nowhere(true).ip,
    };
    Row {
        v6: ip.is_ipv6(),
        local: Endpoint { ip, port },
        remote,
        state: state::TIME_WAIT,
        to_send: 0,
        to_receive: 0,
        uid: 0,
        inode: 0,
    }
}

/// The rows of one bucket of ports; false when there is no such. ENOMEM.
pub fn rows(bucket: usize, out: &mut Vec<Row>) -> Result<bool> {
    let now = sync::hooks::now();
    let mut more = false;
    for table in [&BOUND, &ACCEPTED] {
        let mut found = Vec::new();
        more |= collect(table, bucket, now, &mut found)?;
        for one in found {
            out.try_push(match one {
                Found::Live(socket) => row_of(&socket),
                Found::Ended(scope, port, remote) => ended(scope, port, remote),
            })?;
        }
    }
    Ok(more)
}

fn collect(
    table: &Table<Weak<TcpSocket>>,
    bucket: usize,
    now: u64,
    found: &mut Vec<Found>,
) -> Result<bool> {
    let mut outcome = Ok(());
    let there = table.each(bucket, now, |port, held| {
        let one = match (held.until, held.claim.remote) {
            (Some(_), Some(remote)) => Found::Ended(held.claim.scope, port, remote),
            (Some(_), None) => return,
            (None, _) => match held.owner.upgrade() {
                // A bound socket that neither listens nor is connected is not shown.
                Some(socket) if held.claim.listening || held.claim.remote.is_some() => {
                    Found::Live(socket)
                }
                _ => return,
            },
        };
        outcome = outcome.and_then(|()| found.try_push(one));
    });
    outcome.map(|()| there)
}
