//! Sending and receiving.

use super::address::{self, Address};
use super::flight::{self, Cargo};
use super::space::{self, Charge};
use super::{DATAGRAMS, Phase, State, UnixSocket};
use crate::context::Caller;
use crate::env::{self, Ucred};
use crate::fasync::Band;
use crate::file::File;
use crate::socket::{Control, Kind, Received, msg};
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use frames::fallible::{Grow, filled};
use hal::user::{Sink, Source};

/// Sender when nobody asked for credentials (the overflow ids).
const UNKNOWN: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };

/// A message in an inbox.
pub(super) struct Message {
    data: Vec<u8>,
    /// Bytes of `data` that were read already (streams).
    start: usize,
    from: Option<Arc<Address>>,
    creds: Ucred,
    pub(super) cargo: Cargo,
    _charge: Charge,
    /// Of the first message of an inbox that is about to be emptied: the one to be emptied next.
    pub(super) next_inbox: VecDeque<Message>,
}

impl Message {
    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.data.len() - self.start
    }
}

/// Where a message goes.
enum Delivery {
    Done,
    /// No room: the message comes back.
    Full(Message),
    /// Refused; the message, until its files can be let go.
    Failed(Errno, Option<Message>),
}

/// A message's bytes before they are copied. ENOBUFS.
fn zeroes(len: usize) -> Result<Vec<u8>> {
    filled(0, len).map_err(|_| Errno::ENOBUFS)
}

impl UnixSocket {
    /// Puts a message in `to`'s inbox.
    fn deliver(&self, to: &Arc<Self>, mut message: Message) -> Delivery {
        if message.cargo.is_empty() {
            return self.hand_over(to, message);
        }
        let mut flight = flight::lock();
        message.cargo.fly(&mut flight);
        match self.hand_over(to, message) {
            Delivery::Full(mut message) => {
                message.cargo.land(&mut flight);
                Delivery::Full(message)
            }
            Delivery::Failed(error, refused) => {
                // Its files are let go without the lock.
                drop(flight);
                drop(refused);
                Delivery::Failed(error, None)
            }
            Delivery::Done => Delivery::Done,
        }
    }

    /// As [`UnixSocket::deliver`]: a message whose files are in flight.
    fn hand_over(&self, to: &Arc<Self>, message: Message) -> Delivery {
        let mut state = to.state.lock();
        if matches!(state.phase, Phase::Closed) {
            let gone = self.connection_oriented();
            let error = if gone { Errno::EPIPE } else { Errno::ECONNREFUSED };
            return Delivery::Failed(error, Some(message));
        }
        if state.read_shut {
            return Delivery::Failed(Errno::EPIPE, Some(message));
        }
        let stranger = self.kind == Kind::Datagram && !to.is_peer_of(&state, self);
        if stranger && matches!(state.phase, Phase::Connected(_)) {
            // It is connected to somebody else.
            return Delivery::Failed(Errno::EPERM, Some(message));
        }
        if stranger && state.inbox.len() > DATAGRAMS {
            state.stall(&self.me);
            return Delivery::Full(message);
        }
        if state.inbox.room_for(1).is_err() {
            return Delivery::Failed(Errno::ENOBUFS, Some(message));
        }
        state.inbox.push_back(message);
        drop(state);
        to.readable.wake_one();
        to.space.fasync.kill(Band::In);
        Delivery::Done
    }

    /// True when a datagram of a stranger need not wait any longer.
    fn takes(&self, to: &Arc<Self>) -> bool {
        let dead = {
            let state = to.state.lock();
            matches!(state.phase, Phase::Closed) || state.read_shut
        };
        dead || self.peer_has_room(to)
    }

    /// Sleeps until `ready`, or until nothing may be sent any more: EPIPE.
    fn wait_to_send(&self, timeout: Option<u64>, mut ready: impl FnMut() -> bool) -> Result<()> {
        let look = || {
            let shut = self.state.lock().write_shut;
            (shut || ready()).then_some(shut)
        };
        if self.sleep(&self.space.queue, timeout, look)? { Err(Errno::EPIPE) } else { Ok(()) }
    }

    /// Charges a message of `len` bytes to this socket, waiting for room if it may.
    fn charge(&self, len: usize, nonblocking: bool, timeout: Option<u64>) -> Result<Charge> {
        let bytes = space::cost(self.kind, len);
        loop {
            match self.space.charge(bytes) {
                Some(charge) => return Ok(charge),
                None if nonblocking => {
                    self.space.fasync.want_space();
                    return Err(Errno::EAGAIN);
                }
                None => self.wait_to_send(timeout, || self.space.has_room())?,
            }
        }
    }

    fn target(&self, to: Option<(&Caller<'_>, &[u8])>) -> Result<Arc<Self>> {
        // Packets go to the peer, whatever name is given.
        let named = |to: &(&Caller<'_>, &[u8])| !to.1.is_empty() && self.kind != Kind::SeqPacket;
        if let Some((caller, address)) = to.filter(named) {
            if self.connection_oriented() {
                let connected = matches!(self.state.lock().phase, Phase::Connected(_));
                return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
            }
            let target = address::find(caller, address)?;
            if target.kind != self.kind {
                return Err(Errno::EPROTOTYPE);
            }
            return Ok(target);
        }
        let state = self.state.lock();
        match &state.phase {
            Phase::Connected(peer) => match peer.upgrade() {
                Some(peer) => Ok(peer),
                None if self.connection_oriented() => Err(Errno::EPIPE),
                None => Err(Errno::ECONNREFUSED),
            },
            Phase::Orphaned(_) => Err(Errno::EPIPE),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// sendmsg(2).
    pub(super) fn send_message(
        &self,
        file: &File,
        src: &mut dyn Source,
        to: Option<(&Caller<'_>, &[u8])>,
        mut control: Control,
        flags: u32,
    ) -> Result<usize> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.take_error()?;
        let target = self.target(to)?;
        if self.state.lock().write_shut {
            return Err(Errno::EPIPE);
        }
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        // Whoever accepts the connection may want them.
        let wanted = self.options.lock().pass_creds
            || target.options.lock().pass_creds
            || target.embryo.load(Relaxed);
        let creds = match control.creds {
            Some(creds) => creds,
            None if wanted => env::env().ucred(),
            None => UNKNOWN,
        };
        let from = self.state.lock().address.clone();
        let timeout = self.options.lock().send_timeout;
        let whole = self.kind != Kind::Stream;
        if whole && src.left() > self.space.longest() {
            return Err(Errno::EMSGSIZE);
        }
        let mut done = 0;
        loop {
            if !whole && src.left() == 0 {
                return Ok(done);
            }
            let want = if whole { src.left() } else { src.left().min(self.space.piece()) };
            let charge = match self.charge(want, nonblocking, timeout) {
                Ok(charge) => charge,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            let mut data = match zeroes(want) {
                Ok(data) => data,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            let got = if want == 0 { Ok(0) } else { src.get(&mut data) };
            match got {
                Ok(n) if n == want => {}
                Ok(n) if !whole && n > 0 => data.truncate(n),
                Ok(_) | Err(_) if done > 0 => return Ok(done),
                Ok(_) => return Err(Errno::EFAULT),
                Err(error) => return Err(error),
            }
            let len = data.len();
            let cargo = Cargo::load(core::mem::take(&mut control.files))?;
            let from = from.clone();
            let mut message = Message {
                data,
                start: 0,
                from,
                creds,
                cargo,
                _charge: charge,
                next_inbox: VecDeque::new(),
            };
            loop {
                message = match self.deliver(&target, message) {
                    Delivery::Done => break,
                    Delivery::Failed(..) if done > 0 => return Ok(done),
                    Delivery::Failed(error, _) => return Err(error),
                    Delivery::Full(_) if nonblocking => return Err(Errno::EAGAIN),
                    Delivery::Full(message) => message,
                };
                self.wait_to_send(timeout, || self.takes(&target))?;
            }
            done += len;
            if whole {
                return Ok(done);
            }
        }
    }

    /// Waits for the inbox; false at the end of file.
    fn wait_readable(&self, nonblocking: bool) -> Result<bool> {
        let look = |state: &mut State| -> Option<Result<bool>> {
            if !state.inbox.is_empty() {
                return Some(Ok(true));
            }
            if let Some(error) = state.error.take() {
                return Some(Err(error));
            }
            if state.read_shut {
                return Some(Ok(false));
            }
            match state.phase {
                Phase::Connected(_) => None,
                Phase::Orphaned(_) | Phase::Closed => Some(Ok(false)),
                _ if self.connection_oriented() => {
                    let seq = self.kind == Kind::SeqPacket;
                    Some(Err(if seq { Errno::ENOTCONN } else { Errno::EINVAL }))
                }
                _ => None,
            }
        };
        if let Some(found) = look(&mut self.state.lock()) {
            return found;
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let timeout = self.options.lock().receive_timeout;
        self.sleep(&self.readable, timeout, || look(&mut self.state.lock()))?
    }

    /// Wakes strangers when the inbox takes their datagrams again.
    fn drained(&self) {
        let stalled = {
            let mut state = self.state.lock();
            if state.stalled.is_empty() || state.inbox.len() > DATAGRAMS {
                return;
            }
            core::mem::take(&mut state.stalled)
        };
        for sender in stalled.iter().filter_map(|sender| sender.upgrade()) {
            sender.space.queue.wake_one();
        }
    }

    /// recvmsg(2).
    pub(super) fn receive_message(
        &self,
        file: &File,
        dst: &mut dyn Sink,
        flags: u32,
    ) -> Result<Received> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        if self.kind == Kind::Stream {
            return self.receive_stream(dst, flags, nonblocking);
        }
        loop {
            if !self.wait_readable(nonblocking)? {
                return Ok(Received::default());
            }
            let _reading = self.reading.lock();
            let Some(mut message) = self.pop() else { continue };
            let full = message.len();
            let take = full.min(dst.room());
            let copied = if take == 0 { Ok(0) } else { dst.put(&message.data[..take]) };
            let mut received = Received::default();
            received.flags |= if take < full { msg::TRUNC } else { 0 };
            received.len = if flags & msg::TRUNC != 0 { full } else { take };
            // A nameless sender has no address at all, not an empty one.
            received.from =
                message.from.as_deref().map_or_else(Vec::new, |from| Address::encode(Some(from)));
            received.creds = self.options.lock().pass_creds.then_some(message.creds);
            if flags & msg::PEEK != 0 {
                received.files = message.cargo.copy();
                self.push_front(message);
            } else {
                received.files = message.cargo.take();
                self.drained();
            }
            return match copied {
                Ok(n) if n == take => Ok(received),
                _ => Err(Errno::EFAULT),
            };
        }
    }

    fn pop(&self) -> Option<Message> {
        let mut state = self.state.lock();
        if state.inbox.front()?.cargo.is_empty() {
            return state.inbox.pop_front();
        }
        drop(state);
        let mut flight = flight::lock();
        let mut state = self.state.lock();
        let mut message = state.inbox.pop_front()?;
        drop(state);
        message.cargo.land(&mut flight);
        Some(message)
    }

    fn push_front(&self, mut message: Message) {
        let mut flight = (!message.cargo.is_empty()).then(flight::lock);
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed) {
            drop(state);
            drop(flight);
            // Closed meanwhile: nobody will read it.
            drop(message);
            return;
        }
        if let Some(flight) = &mut flight {
            message.cargo.fly(flight);
        }
        state.inbox.push_front(message);
    }

    fn receive_stream(
        &self,
        dst: &mut dyn Sink,
        flags: u32,
        nonblocking: bool,
    ) -> Result<Received> {
        let mut received = Received::default();
        if dst.room() == 0 {
            return Ok(received);
        }
        let pass_creds = self.options.lock().pass_creds;
        let peek = flags & msg::PEEK != 0;
        let mut sender = None;
        loop {
            match self.wait_readable(nonblocking || (received.len > 0 && flags & msg::WAITALL == 0))
            {
                Ok(true) => {}
                Ok(false) => return Ok(received),
                Err(_) if received.len > 0 => return Ok(received),
                Err(error) => return Err(error),
            }
            let reading = self.reading.lock();
            // With MSG_PEEK messages are looked at in turn and put back in the end.
            let mut seen = Vec::new();
            let mut outcome = Ok(());
            let mut stop = false;
            while dst.room() > 0 && !stop {
                let Some(mut message) = self.pop() else { break };
                if received.len > 0 && pass_creds && sender != Some(message.creds) {
                    // Bytes of different senders do not mix.
                    self.push_front(message);
                    stop = true;
                    break;
                }
                sender = Some(message.creds);
                let take = message.len().min(dst.room());
                let copied = dst.put(&message.data[message.start..message.start + take]);
                let n = match copied {
                    Ok(n) => n,
                    Err(error) => {
                        self.push_front(message);
                        outcome = Err(error);
                        break;
                    }
                };
                received.len += n;
                stop = n < take;
                if !message.cargo.is_empty() {
                    // What came with files ends the read, so that they go with their bytes.
                    stop = true;
                    received.files = if peek { message.cargo.copy() } else { message.cargo.take() };
                }
                if peek {
                    seen.push(message);
                } else {
                    message.start += n;
                    if message.len() > 0 {
                        self.push_front(message);
                    }
                }
            }
            for message in seen.into_iter().rev() {
                self.push_front(message);
            }
            drop(reading);
            received.creds = pass_creds.then_some(sender).flatten();
            match outcome {
                Err(error) if received.len == 0 => return Err(error),
                Err(_) => return Ok(received),
                Ok(()) => {}
            }
            let waits = flags & msg::WAITALL != 0 && !peek && !stop && dst.room() > 0;
            if received.len > 0 && !waits {
                return Ok(received);
            }
        }
    }
}
