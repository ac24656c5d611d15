//! AF_UNIX sockets.
//!
//! Messages stand in the receiver's inbox. Peers know each other weakly; each socket's state is
//! under one spinlock, and no two of these are held at once. What a socket has sent is charged to it
//! until it is received. Whoever finds an inbox with too many datagrams of strangers enters its
//! `stalled` list and is woken through his own queue when the inbox has drained.

mod address;
mod file;
mod flight;
mod options;
mod space;
mod transfer;

use super::{Control, Counted, Kind, Received, Shutdown, SocketOps};
use crate::context::Caller;
use crate::env::{self, Ucred};
use crate::fasync::Band;
use crate::file::File;
use crate::inode::InodeBase;
use crate::mount::Path;
use abi::raw::general as g;
use abi::{Errno, Result};
use address::Address;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use frames::fallible::{TryQueue, arc, ready_arc};
use hal::user::{Sink, Source};
use options::Options;
use space::{BUFFER, Space};
use sync::{Mutex, SpinLock, WaitError, WaitQueue};
use transfer::Message;

/// Datagrams from strangers that may wait in an inbox (net.unix.max_dgram_qlen).
const DATAGRAMS: usize = 10;
/// Longest backlog (net.core.somaxconn).
const SOMAXCONN: usize = 4096;

/// A socket.
pub struct UnixSocket {
    me: Weak<UnixSocket>,
    base: InodeBase,
    kind: Kind,
    state: SpinLock<State>,
    options: SpinLock<Options>,
    /// Held by the one who takes messages out.
    reading: Mutex<()>,
    /// Something to receive or accept, an end of file, a change of state.
    readable: Arc<WaitQueue>,
    /// Room to send, or a change of state.
    space: Arc<Space>,
    /// Made by a connect and not accepted yet.
    embryo: AtomicBool,
    _counted: Counted,
}

#[derive(Default)]
struct State {
    address: Option<Arc<Address>>,
    /// The name in the file system stays reachable.
    bound_at: Option<Path>,
    phase: Phase,
    /// No more will be sent; none will be taken.
    write_shut: bool,
    /// Nothing more comes; what is there can be read.
    read_shut: bool,
    peer_creds: Ucred,
    /// SO_ERROR: reported once.
    error: Option<Errno>,
    inbox: VecDeque<Message>,
    stalled: Vec<Weak<UnixSocket>>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Listening {
        backlog: VecDeque<Arc<UnixSocket>>,
        limit: usize,
        creds: Ucred,
    },
    Connected(Weak<UnixSocket>),
    /// Was connected; the peer is gone, and had this name.
    Orphaned(Option<Arc<Address>>),
    Closed,
}

impl UnixSocket {
    /// An unconnected socket.
    pub fn new(kind: Kind) -> Result<Arc<Self>> {
        let readable = arc(WaitQueue::new())?;
        let space = Space::new()?;
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            base: InodeBase::anonymous(8, g::S_IFSOCK | 0o777),
            kind,
            state: SpinLock::new(State::default()),
            options: SpinLock::new(Options::default()),
            reading: Mutex::new(()),
            readable,
            space,
            embryo: AtomicBool::new(false),
            _counted: Counted::new(),
        }))
    }

    /// Two sockets connected to each other.
    pub fn pair(kind: Kind) -> Result<(Arc<Self>, Arc<Self>)> {
        let (a, b) = (Self::new(kind)?, Self::new(kind)?);
        let creds = env::env().ucred();
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.phase = Phase::Connected(Arc::downgrade(other));
            state.peer_creds = creds;
        }
        Ok((a, b))
    }

    fn wake(&self) {
        self.readable.wake_all();
        self.space.queue.wake_all();
    }

    fn connection_oriented(&self) -> bool {
        self.kind != Kind::Datagram
    }

    /// The peer, when it is there.
    fn peer(&self) -> Option<Arc<Self>> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => peer.upgrade(),
            _ => None,
        }
    }

    fn take_error(&self) -> Result<()> {
        self.state.lock().error.take().map_or(Ok(()), Err)
    }

    /// Sleeps on `queue` for `ready`, at most as long as the option `timeout` (ns; None: no limit)
    /// says: EAGAIN then. An interrupted wait restarts only without a limit.
    fn sleep<R>(
        &self,
        queue: &WaitQueue,
        timeout: Option<u64>,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let deadline = timeout.map(|ns| sync::hooks::now().saturating_add(ns));
        queue.wait_interruptible(deadline, ready).map_err(|error| match error {
            WaitError::TimedOut => Errno::EAGAIN,
            WaitError::Interrupted if timeout.is_some() => Errno::EINTR,
            WaitError::Interrupted => Errno::ERESTARTSYS,
        })
    }

    /// The last description is gone.
    fn close(&self) {
        let mut old = {
            let mut state = self.state.lock();
            core::mem::replace(&mut *state, State { phase: Phase::Closed, ..State::default() })
        };
        if let Some(address) = &old.address {
            address::unbind(address, &self.me);
        }
        let unread = !old.inbox.is_empty();
        match core::mem::replace(&mut old.phase, Phase::Closed) {
            Phase::Connected(peer) if self.connection_oriented() => {
                if let Some(peer) = peer.upgrade() {
                    peer.peer_closed(unread, old.address.clone());
                }
            }
            Phase::Listening { backlog, .. } => {
                // Those who connected and were not accepted: reset.
                for server in backlog {
                    if let Some(client) = server.peer() {
                        client.peer_closed(true, old.address.clone());
                    }
                    server.close();
                }
            }
            _ => {}
        }
        for sender in old.stalled.drain(..).filter_map(|sender| sender.upgrade()) {
            sender.space.queue.wake_all();
        }
        self.wake();
        // Files in flight in the inbox are closed here, outside of every lock.
        flight::drop_inbox(core::mem::take(&mut old.inbox));
        drop(old);
        flight::collect();
    }

    /// The peer, whose name was `address`, is gone.
    fn peer_closed(&self, reset: bool, address: Option<Arc<Address>>) {
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Connected(_)) {
                return;
            }
            state.phase = Phase::Orphaned(address);
            state.read_shut = true;
            state.write_shut = true;
            if reset {
                state.error = Some(Errno::ECONNRESET);
            }
        }
        self.wake();
        self.space.fasync.kill(Band::Hup);
    }

    fn connect_stream(self: &Arc<Self>, file: &File, listener: &Arc<Self>) -> Result<()> {
        if !matches!(self.state.lock().phase, Phase::Idle) {
            let connected = matches!(self.state.lock().phase, Phase::Connected(_));
            return Err(if connected { Errno::EISCONN } else { Errno::EINVAL });
        }
        let server = Self::new(self.kind)?;
        server.embryo.store(true, Relaxed);
        let creds = env::env().ucred();
        let nonblocking = file.nonblocking();
        let attempt = || {
            let mut state = listener.state.lock();
            let address = state.address.clone();
            if state.read_shut {
                return Some(Err(Errno::ECONNREFUSED));
            }
            let Phase::Listening { backlog, limit, creds: theirs } = &mut state.phase else {
                return Some(Err(Errno::ECONNREFUSED));
            };
            if backlog.len() > *limit {
                return nonblocking.then_some(Err(Errno::EAGAIN));
            }
            let theirs = *theirs;
            // Nobody else knows the server's socket yet, nor holds two locks: this nesting is
            // safe.
            *server.state.lock() = State {
                address,
                phase: Phase::Connected(Arc::downgrade(self)),
                peer_creds: creds,
                ..State::default()
            };
            match backlog.try_push_back(server.clone()) {
                Ok(()) => Some(Ok(theirs)),
                Err(error) => Some(Err(error)),
            }
        };
        let timeout = self.options.lock().send_timeout;
        let theirs = self.sleep(&listener.space.queue, timeout, attempt)??;
        {
            let mut state = self.state.lock();
            state.phase = Phase::Connected(Arc::downgrade(&server));
            state.peer_creds = theirs;
        }
        listener.readable.wake_one();
        listener.space.fasync.kill(Band::In);
        self.wake();
        Ok(())
    }

    fn connect_datagram(&self, peer: Option<&Arc<Self>>) {
        let mut state = self.state.lock();
        state.phase = match peer {
            Some(peer) => Phase::Connected(Arc::downgrade(peer)),
            None => Phase::Idle,
        };
        drop(state);
        self.wake();
    }

    /// True when the peer's inbox takes another message; enters its stalled list if it does not.
    fn peer_has_room(&self, peer: &Arc<Self>) -> bool {
        if self.kind != Kind::Datagram {
            return true;
        }
        let mut state = peer.state.lock();
        let full = !peer.is_peer_of(&state, self) && state.inbox.len() > DATAGRAMS;
        if full {
            state.stall(&self.me);
        }
        !full
    }

    fn is_peer_of(&self, state: &State, other: &Self) -> bool {
        matches!(&state.phase, Phase::Connected(peer) if peer.ptr_eq(&other.me))
    }
}

impl State {
    fn stall(&mut self, sender: &Weak<UnixSocket>) {
        if !self.stalled.iter().any(|known| known.ptr_eq(sender)) {
            self.stalled.push(sender.clone());
        }
    }
}

impl SocketOps for UnixSocket {
    fn bind(&self, caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        if self.state.lock().address.is_some() {
            return Err(Errno::EINVAL);
        }
        ready_arc::<Address>()?;
        let (bound, at) = address::bind(caller, address, self.base.mode(), &self.me)?;
        let mut state = self.state.lock();
        if state.address.is_some() {
            drop(state);
            address::unbind(&bound, &self.me);
            return Err(Errno::EINVAL);
        }
        state.address = Some(Arc::new(bound));
        state.bound_at = at;
        Ok(())
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        if !self.connection_oriented() {
            return Err(Errno::EOPNOTSUPP);
        }
        let creds = env::env().ucred();
        // A negative number is a huge one, as on Linux.
        let limit = (backlog as u32 as usize).min(SOMAXCONN);
        let mut state = self.state.lock();
        if state.address.is_none() {
            return Err(Errno::EINVAL);
        }
        match &mut state.phase {
            Phase::Idle => {
                state.phase = Phase::Listening { backlog: VecDeque::new(), limit, creds };
            }
            Phase::Listening { limit: old, .. } => *old = limit,
            _ => return Err(Errno::EINVAL),
        }
        drop(state);
        self.space.queue.wake_all();
        Ok(())
    }

    fn accept(&self, file: &File, flags: u32) -> Result<Arc<File>> {
        if !self.connection_oriented() {
            return Err(Errno::EOPNOTSUPP);
        }
        let next = || {
            let mut state = self.state.lock();
            let shut = state.read_shut;
            match &mut state.phase {
                Phase::Listening { backlog, .. } => {
                    backlog.pop_front().map(Ok).or(shut.then_some(Err(Errno::EINVAL)))
                }
                _ => Some(Err(Errno::EINVAL)),
            }
        };
        let server = match next() {
            Some(server) => server?,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => {
                let timeout = self.options.lock().receive_timeout;
                self.sleep(&self.readable, timeout, next)??
            }
        };
        self.space.queue.wake_all();
        if self.options.lock().pass_creds {
            server.options.lock().pass_creds = true;
        }
        server.embryo.store(false, Relaxed);
        let flags = crate::oflag::O_RDWR | (flags & crate::oflag::O_NONBLOCK);
        File::anonymous(server, flags)
    }

    fn connect(&self, file: &File, caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        if address.len() >= 2 && address[..2] == [0, 0] && self.kind == Kind::Datagram {
            // AF_UNSPEC dissolves the association.
            self.connect_datagram(None);
            return Ok(());
        }
        let target = address::find(caller, address)?;
        if target.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.connection_oriented() {
            me.connect_stream(file, &target)
        } else {
            self.connect_datagram(Some(&target));
            Ok(())
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let peer = {
            let mut state = self.state.lock();
            if self.connection_oriented() && matches!(state.phase, Phase::Idle) {
                return Err(Errno::ENOTCONN);
            }
            state.read_shut |= how.read;
            state.write_shut |= how.write;
            match &state.phase {
                Phase::Connected(peer) if self.connection_oriented() => peer.upgrade(),
                _ => None,
            }
        };
        if let Some(peer) = peer {
            {
                let mut state = peer.state.lock();
                state.read_shut |= how.write;
                state.write_shut |= how.read;
            }
            peer.wake();
            match how {
                Shutdown { read: true, write: true } => peer.space.fasync.kill(Band::Hup),
                Shutdown { write: true, .. } => peer.space.fasync.kill(Band::In),
                _ => {}
            }
        }
        self.wake();
        Ok(())
    }

    fn local_address(&self) -> Vec<u8> {
        Address::encode(self.state.lock().address.as_deref())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        if let Phase::Orphaned(address) = &self.state.lock().phase {
            return Ok(Address::encode(address.as_deref()));
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        Ok(peer.local_address())
    }

    fn send(
        &self,
        file: &File,
        src: &mut dyn Source,
        to: Option<(&Caller<'_>, &[u8])>,
        control: Control,
        flags: u32,
    ) -> Result<usize> {
        self.send_message(file, src, to, control, flags)
    }

    fn receive(&self, file: &File, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        self.receive_message(file, dst, flags)
    }

    fn option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        self.get_option(level, name)
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        self.put_option(level, name, value)
    }
}

/// The socket that hangs on an inode or name.
fn downcast(any: Arc<dyn Any + Send + Sync>) -> Option<Arc<UnixSocket>> {
    any.downcast().ok()
}
