//! What /proc/net/udp tells of each socket.

use super::{BOUND, UdpSocket};
use crate::address::Endpoint;
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::TryVec;

/// A socket that has a port.
pub struct Row {
    pub v6: bool,
    pub local: Endpoint,
    pub remote: Option<Endpoint>,
    /// Bytes charged for what waits.
    pub to_receive: usize,
    pub uid: u32,
    pub inode: u64,
    /// Datagrams that found no room.
    pub lost: u32,
}

/// The rows of one bucket of ports; false when there is no such. ENOMEM.
pub fn rows(bucket: usize, out: &mut Vec<Row>) -> Result<bool> {
    let mut found: Vec<Arc<UdpSocket>> = Vec::new();
    let mut outcome = Ok(());
    let more = BOUND.each(bucket, sync::hooks::now(), |_, held| {
        if let Some(socket) = held.owner.upgrade() {
            outcome = outcome.and_then(|()| found.try_push(socket));
        }
    });
    outcome?;
    for socket in found {
        let (local, remote) = {
            let state = socket.state.lock();
            (state.local, state.remote)
        };
        let (to_receive, lost) = {
            let inbox = socket.inbox.lock();
            (inbox.used, inbox.lost)
        };
        let v6 = socket.core.v6;
        out.try_push(Row {
            v6,
            local: local.unwrap_or(Endpoint::nowhere(v6)),
            remote,
            to_receive,
            uid: socket.core.base.uid(),
            inode: socket.core.base.ino,
            lost,
        })?;
    }
    Ok(more)
}
