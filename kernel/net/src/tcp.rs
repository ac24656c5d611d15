//! TCP on a loopback.
//!
//! No packets are made: what one end sends is put into the other's inbox, in pages of the node of
//! whoever reads there, and what packets would have told (the end of the stream, a reset, room) is
//! written into the other end's state. Ends know each other weakly. Of the locks (`state` is a
//! spinlock, `inbox` a sleeping one, held while user memory is copied) no two of different sockets are
//! held at once, except that a listener's state is never taken with another one's.

mod connect;
mod end;
mod file;
mod info;
mod listen;
mod options;
mod show;
mod transfer;

pub use listen::name_of;
pub use show::{Row, rows};

use crate::address::Endpoint;
use crate::common::Core;
use crate::ports::{Rules, Table, Ticket};
use crate::queue::Queue;
use abi::Result;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use frames::fallible::ready_arc;
use sync::{Mutex, SpinLock};

/// SO_SNDBUF and SO_RCVBUF at first (net.ipv4.tcp_wmem, tcp_rmem), and the first of a connection: ten
/// packets of the loopback, twice.
pub const SEND_ROOM: usize = 16_384;
pub const RECEIVE_ROOM: usize = 131_072;
const CONNECTED_SEND_ROOM: usize = 2_626_560;
/// Longest backlog (net.core.somaxconn).
pub static SOMAXCONN: AtomicU32 = AtomicU32::new(4096);

/// Who has which port: sockets that were bound or have connected, and accepted ones, which have their
/// listener's.
static BOUND: Table<Weak<TcpSocket>> = Table::new(Rules::Streams);
static ACCEPTED: Table<Weak<TcpSocket>> = Table::new(Rules::Streams);

/// What has become of a connection, bit by bit.
mod flag {
    /// The other end sends no more.
    pub const FIN: u32 = 1;
    /// This end sends no more.
    pub const SEND_SHUT: u32 = 2;
    /// This end wants no more.
    pub const RECV_SHUT: u32 = 4;
    /// It was reset.
    pub const RESET: u32 = 8;
    /// This end sent its end first.
    pub const FIRST: u32 = 16;
    /// Nobody has a descriptor of it any more.
    pub const GONE: u32 = 32;
    /// It is, or was, connected.
    pub const CONNECTED: u32 = 64;
}

/// A socket.
pub struct TcpSocket {
    me: Weak<TcpSocket>,
    core: Core,
    state: SpinLock<State>,
    flags: AtomicU32,
    inbox: Mutex<Queue>,
    /// Bytes in the inbox.
    held: AtomicUsize,
    /// SO_RCVLOWAT, bytes.
    low_water: AtomicUsize,
    /// The other end waits for room in the inbox.
    starved: AtomicBool,
    /// Readers that sleep: a wake-up that is passed on must not reach pollers, for whom it would be
    /// an event.
    asleep: AtomicU32,
    /// The user set SO_SNDBUF.
    send_room_set: AtomicBool,
    /// Bytes that came and went.
    received: AtomicU64,
    sent: AtomicU64,
}

#[derive(Default)]
struct State {
    phase: Phase,
    local: Option<Endpoint>,
    remote: Option<Endpoint>,
    port: Option<Port>,
    /// A connect was begun and its outcome is not told yet.
    connecting: bool,
    /// The port of the other end, which closed first: it waits.
    orphan: Option<Port>,
}

impl State {
    fn is_with(&self, other: &TcpSocket) -> bool {
        matches!(&self.phase, Phase::Connected(peer) if core::ptr::eq(peer.as_ptr(), other))
    }
}

/// A port that a socket has.
#[derive(Clone, Copy)]
struct Port {
    ticket: Ticket,
    /// It is its listener's.
    accepted: bool,
    /// The user named it.
    named: bool,
}

impl Port {
    fn table(&self) -> &'static Table<Weak<TcpSocket>> {
        if self.accepted { &ACCEPTED } else { &BOUND }
    }
    fn release(&self) {
        self.table().release(self.ticket);
    }
    /// The connection has ended, and the port waits (TIME_WAIT).
    fn retire(&self) {
        self.table().retire(self.ticket, Weak::new(), sync::hooks::now());
    }
}

#[derive(Default)]
enum Phase {
    #[default]
    Closed,
    /// In the list of a listener whose backlog is full.
    Waiting(Weak<TcpSocket>),
    Listening(Listener),
    Connected(Weak<TcpSocket>),
}

#[derive(Default)]
struct Listener {
    backlog: VecDeque<Arc<TcpSocket>>,
    limit: usize,
    /// Those that could not be taken in yet.
    waiting: VecDeque<Weak<TcpSocket>>,
}

impl TcpSocket {
    /// A socket of nobody. ENOMEM.
    pub fn new(v6: bool) -> Result<Arc<Self>> {
        let core = Core::new(v6, SEND_ROOM, RECEIVE_ROOM)?;
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            core,
            state: SpinLock::new(State::default()),
            flags: AtomicU32::new(0),
            inbox: Mutex::new(Queue::new(crate::memory::Pool::Streams)),
            held: AtomicUsize::new(0),
            low_water: AtomicUsize::new(1),
            starved: AtomicBool::new(false),
            asleep: AtomicU32::new(0),
            send_room_set: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }))
    }

    #[inline]
    fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    #[inline]
    fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    fn set(&self, flag: u32) -> u32 {
        self.flags.fetch_or(flag, Ordering::AcqRel)
    }

    /// The other end, while it is there.
    #[inline]
    fn peer(&self) -> Option<Arc<Self>> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => peer.upgrade(),
            _ => None,
        }
    }

    /// True while `other` is the other end: not any more when this one has been connected anew.
    fn is_with(&self, other: &Self) -> bool {
        self.state.lock().is_with(other)
    }

    /// Bytes that may wait in the inbox and count as received: half of SO_RCVBUF, as Linux has it.
    fn window(&self) -> usize {
        self.core.receive_room.load(Ordering::Relaxed) / 2
    }
}
