//! UDP on a loopback: a datagram goes into its receiver's inbox, or is lost where there is no room.

mod ancillary;
mod file;
mod names;
mod show;
mod transfer;

pub use show::{Row, rows};

use crate::address::Endpoint;
use crate::common::Core;
use crate::options::BUFFER_MAX;
use crate::ports::{Rules, Table, Ticket};
use abi::Result;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicUsize};
use frames::fallible::ready_arc;
use sync::{Mutex, SpinLock};
use transfer::Datagram;

static BOUND: Table<Weak<UdpSocket>> = Table::new(Rules::Datagrams);

/// A socket.
pub struct UdpSocket {
    me: Weak<UdpSocket>,
    core: Core,
    state: SpinLock<State>,
    inbox: Mutex<Inbox>,
    /// Datagrams in the inbox.
    held: AtomicUsize,
    read_shut: AtomicBool,
    write_shut: AtomicBool,
}

#[derive(Default)]
struct State {
    local: Option<Endpoint>,
    /// Whom it was connected to: where it sends to, and the only one that it hears.
    remote: Option<Endpoint>,
    port: Option<Ticket>,
    /// The user named the port, and the address.
    named: bool,
    address_named: bool,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagram>,
    /// Bytes charged for them.
    used: usize,
    /// Datagrams that found no room.
    lost: u32,
    closed: bool,
}

impl UdpSocket {
    /// A socket without a name. ENOMEM.
    pub fn new(v6: bool) -> Result<Arc<Self>> {
        let core = Core::new(v6, BUFFER_MAX as usize, BUFFER_MAX as usize)?;
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            core,
            state: SpinLock::new(State::default()),
            inbox: Mutex::new(Inbox::default()),
            held: AtomicUsize::new(0),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
        }))
    }
}
