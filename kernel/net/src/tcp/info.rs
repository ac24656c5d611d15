//! `struct tcp_info` (TCP_INFO): what there is to tell of a connection without packets.

use super::options::SEGMENT;
use super::{Phase, TcpSocket, flag};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// States of a connection, as Linux numbers them.
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LISTEN: u8 = 10;
}

/// Bytes of `struct tcp_info`, and where what is told stands in it.
const LEN: usize = 248;
const OPTIONS: usize = 5;
const SEND_SEGMENT: usize = 16;
const RECEIVE_SEGMENT: usize = 20;
const PATH_MTU: usize = 60;
const ADVERTISED: usize = 88;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
const NOT_SENT: usize = 144;
const BYTES_SENT: usize = 200;

impl TcpSocket {
    /// The state of the connection.
    pub(super) fn state_number(&self) -> u8 {
        let flags = self.flags();
        match self.state.lock().phase {
            Phase::Listening(_) => return state::LISTEN,
            Phase::Waiting(_) => return state::SYN_SENT,
            Phase::Closed => return state::CLOSE,
            Phase::Connected(_) => {}
        }
        match (flags & flag::SEND_SHUT != 0, flags & flag::FIN != 0) {
            _ if flags & flag::RESET != 0 => state::CLOSE,
            (false, false) => state::ESTABLISHED,
            (true, false) => state::FIN_WAIT2,
            (false, true) => state::CLOSE_WAIT,
            (true, true) => state::CLOSE,
        }
    }

    pub(super) fn info(&self) -> Vec<u8> {
        let mut out = [0; LEN];
        out[0] = self.state_number();
        let peer = self.peer();
        if peer.is_some() {
            // Time stamps, selective acknowledgements and scaled windows would be agreed on.
            out[OPTIONS] = 7;
            let segment = SEGMENT.to_le_bytes();
            for at in [SEND_SEGMENT, RECEIVE_SEGMENT, ADVERTISED] {
                out[at..at + 4].copy_from_slice(&segment);
            }
            out[PATH_MTU..PATH_MTU + 4].copy_from_slice(&crate::device::MTU.to_le_bytes());
        }
        let queued = peer.map_or(0, |peer| self.queued(&peer)) as u64;
        let sent = self.sent.load(Relaxed);
        let received = self.received.load(Relaxed);
        for (at, value) in
            [(BYTES_ACKED, sent - queued.min(sent)), (BYTES_RECEIVED, received), (BYTES_SENT, sent)]
        {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out[NOT_SENT..NOT_SENT + 4].copy_from_slice(&(queued as u32).to_le_bytes());
        out.to_vec()
    }
}
