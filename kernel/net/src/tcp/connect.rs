//! Connecting: finding the listener, making its end, and what is told of it.

use super::{ACCEPTED, BOUND, CONNECTED_SEND_ROOM, Phase, Port, SEND_ROOM, State, TcpSocket, flag};
use crate::address::{Endpoint, Named, Scope};
use crate::common::{Core, seed};
use crate::device::{self, Reach};
use crate::options::{IPPROTO_IPV6, SOL_SOCKET, ip6, so};
use crate::ports::Claim;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use frames::fallible::TryQueue;
use fs::File;
use fs::fasync::Band;

/// What a listener says to who comes.
enum Answer {
    Welcome,
    /// The backlog is full: wait.
    Full,
    /// There is no listener (any more).
    Nobody,
    /// Who asks does not want the connection any more.
    Left,
}

/// The listener that answers to an address; of several that share the port, the `pick`th.
fn listener_at(to: Endpoint, pick: u32) -> Option<Arc<TcpSocket>> {
    let found = BOUND.find(to.port, pick, |held| {
        if held.claim.listening { held.claim.scope.answers(to.ip) } else { None }
    });
    found?.upgrade()
}

impl TcpSocket {
    pub(super) fn connect_to(&self, file: &File, address: &[u8]) -> Result<()> {
        if address.len() >= 2 && address[..2] == [0, 0] {
            self.disconnect();
            return Ok(());
        }
        let nonblocking = file.nonblocking();
        if self.begun(nonblocking)? {
            return self.outcome();
        }
        let Named::To(to) = Endpoint::decode(address, self.core.v6)? else {
            return Err(Errno::EAFNOSUPPORT);
        };
        let (local, to) = self.way(to)?;
        let local = self.take_port_to(local, to)?;
        let _ = self.core.take_error();
        {
            let mut state = self.state.lock();
            state.local = Some(local);
            state.remote = Some(to);
            state.connecting = true;
        }
        self.flags.store(0, Relaxed);
        let Some(listener) = listener_at(to, seed()) else {
            self.refused(Errno::ECONNREFUSED);
            return if nonblocking { Err(Errno::EINPROGRESS) } else { self.outcome() };
        };
        self.ask(&listener)?;
        if nonblocking { Err(Errno::EINPROGRESS) } else { self.outcome() }
    }

    /// Whether a connect was begun earlier that this one goes on with. EALREADY, EISCONN.
    fn begun(&self, nonblocking: bool) -> Result<bool> {
        let state = self.state.lock();
        match state.phase {
            Phase::Waiting(_) if nonblocking => Err(Errno::EALREADY),
            Phase::Waiting(_) => Ok(true),
            Phase::Closed => Ok(state.connecting),
            Phase::Connected(_) if state.connecting => Ok(true),
            _ => Err(Errno::EISCONN),
        }
    }

    /// Waits for the outcome of a connect, and tells it.
    fn outcome(&self) -> Result<()> {
        let decided = || {
            let waits = matches!(self.state.lock().phase, Phase::Waiting(_));
            (!waits).then_some(())
        };
        Core::sleep(&self.core.writable, self.core.send_timeout(), decided).map_err(|error| {
            // As Linux has it: it goes on.
            if error == Errno::EAGAIN { Errno::EINPROGRESS } else { error }
        })?;
        let connected = {
            let mut state = self.state.lock();
            state.connecting = false;
            matches!(state.phase, Phase::Connected(_))
        };
        if connected {
            return Ok(());
        }
        let error = self.core.take_error().err().unwrap_or(Errno::ECONNABORTED);
        self.disconnect();
        Err(error)
    }

    /// The address that a connection to `to` comes from, and the one it goes to. ENETUNREACH.
    fn way(&self, to: Endpoint) -> Result<(core::net::IpAddr, Endpoint)> {
        let (reach, ip, from) = device::route(to.ip)?;
        let only = self.core.v6 && self.core.options.lock().is_on(IPPROTO_IPV6, ip6::V6ONLY);
        if reach == Reach::Broadcast || only && ip.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        let bound = self.state.lock().local.map(|local| local.ip);
        let from = match bound {
            Some(bound) if !bound.is_unspecified() => {
                if bound.is_ipv4() != ip.is_ipv4() {
                    return Err(Errno::EINVAL);
                }
                bound
            }
            _ => from,
        };
        Ok((from, Endpoint { ip, port: to.port }))
    }

    /// Makes sure of a port for a connection from `ip` to `to`. EADDRNOTAVAIL.
    fn take_port_to(&self, ip: core::net::IpAddr, to: Endpoint) -> Result<Endpoint> {
        let scope = Scope::of(ip, false, true);
        let now = sync::hooks::now();
        let port = self.state.lock().port;
        let ticket = match port {
            Some(port) => {
                port.table().connect(port.ticket, scope, to, now)?;
                port.ticket
            }
            None => {
                let claim =
                    Claim { scope, remote: Some(to), by_connect: true, ..self.core.claim(ip) };
                let ticket = BOUND.choose(seed(), claim, self.me.clone(), now)?;
                let mut state = self.state.lock();
                if state.port.is_some() {
                    drop(state);
                    BOUND.release(ticket);
                    return Err(Errno::EALREADY);
                }
                state.port = Some(Port { ticket, accepted: false, named: false });
                ticket
            }
        };
        Ok(Endpoint { ip, port: ticket.port })
    }

    /// Nobody took the connection.
    pub(super) fn refused(&self, error: Errno) {
        self.state.lock().phase = Phase::Closed;
        self.give_up_port();
        self.core.fail(error);
        self.set(flag::RESET | flag::SEND_SHUT | flag::RECV_SHUT);
        self.core.wake();
        self.core.fasync.kill(Band::Hup);
    }

    /// Asks a listener to take the connection, or enters its list of those who wait. ENOMEM.
    fn ask(&self, listener: &Arc<Self>) -> Result<()> {
        let server = match self.server_end(listener) {
            Ok(server) => server,
            Err(error) => {
                self.disconnect();
                return Err(error);
            }
        };
        match self.offer(listener, &server) {
            Answer::Welcome | Answer::Left => return Ok(()),
            Answer::Full => {
                self.state.lock().phase = Phase::Waiting(Arc::downgrade(listener));
                let mut state = listener.state.lock();
                if let Phase::Listening(open) = &mut state.phase {
                    open.waiting.retain(|client| client.strong_count() > 0);
                    if let Err(error) = open.waiting.try_push_back(self.me.clone()) {
                        drop(state);
                        self.disconnect();
                        return Err(error);
                    }
                    return Ok(());
                }
            }
            Answer::Nobody => {}
        }
        self.refused(Errno::ECONNREFUSED);
        Ok(())
    }

    /// A listener has room for who waited.
    pub(super) fn let_in(&self, listener: &Arc<Self>) {
        let waits = match &self.state.lock().phase {
            Phase::Waiting(on) => core::ptr::eq(on.as_ptr(), Arc::as_ptr(listener)),
            _ => false,
        };
        if waits && self.ask(listener).is_err() {
            self.refused(Errno::ENOBUFS);
        }
    }

    /// The listener's end of the connection, with the listener's options.
    fn server_end(&self, listener: &Arc<Self>) -> Result<Arc<Self>> {
        let server = Self::new(listener.core.v6)?;
        let (local, remote) = {
            let state = self.state.lock();
            let ends = state.local.zip(state.remote);
            ends.ok_or(Errno::EINVAL)?
        };
        let claim = Claim {
            scope: Scope::of(remote.ip, false, true),
            remote: Some(local),
            ..listener.core.claim(remote.ip)
        };
        let ticket = ACCEPTED.share(remote.port, claim, Arc::downgrade(&server))?;
        let options = listener.core.options.lock().clone();
        *server.core.options.lock() = options;
        let room = |socket: &Self| match listener.send_room_set.load(Relaxed) {
            true => listener.core.send_room.load(Relaxed),
            false => socket.core.send_room.load(Relaxed).max(CONNECTED_SEND_ROOM),
        };
        server.core.send_room.store(room(&server), Relaxed);
        server.send_room_set.store(listener.send_room_set.load(Relaxed), Relaxed);
        server.core.receive_room.store(listener.core.receive_room.load(Relaxed), Relaxed);
        server.low_water.store(listener.low_water.load(Relaxed), Relaxed);
        server.is_connected_now();
        *server.state.lock() = State {
            phase: Phase::Connected(self.me.clone()),
            local: Some(remote),
            remote: Some(local),
            port: Some(Port { ticket, accepted: true, named: false }),
            ..State::default()
        };
        Ok(server)
    }

    /// Puts the server's end into the backlog. This end is connected from before that on, since the
    /// server's may be accepted and closed at once.
    fn offer(&self, listener: &Arc<Self>, server: &Arc<Self>) -> Answer {
        let wanted = {
            let mut state = self.state.lock();
            // It may have been closed, dissolved or connected by another thread.
            let waits = matches!(state.phase, Phase::Closed | Phase::Waiting(_));
            let wanted = waits && state.connecting && !self.has(flag::GONE);
            if wanted {
                state.phase = Phase::Connected(Arc::downgrade(server));
            }
            wanted
        };
        if !wanted {
            let port = server.state.lock().port.take();
            if let Some(port) = port {
                port.release();
            }
            return Answer::Left;
        }
        self.is_connected_now();
        if !self.send_room_set.load(Relaxed) && self.core.send_room.load(Relaxed) == SEND_ROOM {
            self.core.send_room.store(CONNECTED_SEND_ROOM, Relaxed);
        }
        let answer = {
            let mut state = listener.state.lock();
            match &mut state.phase {
                Phase::Listening(open) if open.backlog.len() > open.limit => Answer::Full,
                Phase::Listening(open) => match open.backlog.try_push_back(server.clone()) {
                    Ok(()) => Answer::Welcome,
                    Err(_) => Answer::Nobody,
                },
                _ => Answer::Nobody,
            }
        };
        if matches!(answer, Answer::Welcome) {
            device::count(60);
            listener.core.came();
            self.core.wake();
            self.core.fasync.kill(Band::Out);
        } else {
            self.flags.store(0, Relaxed);
            let port = server.state.lock().port.take();
            if let Some(port) = port {
                port.release();
            }
        }
        answer
    }

    /// Tells the table of ports of a change of SO_REUSEADDR or SO_REUSEPORT.
    pub(super) fn say_again(&self) {
        let port = self.state.lock().port;
        let options = self.core.options.lock();
        let reuse = options.is_on(SOL_SOCKET, so::REUSEADDR);
        let reuse_port = options.is_on(SOL_SOCKET, so::REUSEPORT);
        drop(options);
        if let Some(port) = port {
            port.table().update(port.ticket, |claim| {
                (claim.reuse, claim.reuse_port) = (reuse, reuse_port);
            });
        }
    }
}
