//! Taking a name, listening, and accepting.

use super::{ACCEPTED, BOUND, Listener, Phase, Port, SOMAXCONN, TcpSocket, flag};
use crate::address::{Endpoint, Named};
use crate::common::{Core, may_bind, seed};
use crate::device;
use crate::options::{IPPROTO_IP, IPPROTO_IPV6, ip, ip6};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::net::IpAddr;
use core::sync::atomic::Ordering::Relaxed;
use fs::File;
use fs::oflag;

/// The address that bind(2) of a socket names. EINVAL, EAFNOSUPPORT, EADDRNOTAVAIL, EACCES.
pub fn name_of(core: &Core, address: &[u8], datagram: bool) -> Result<Endpoint> {
    let named = match Endpoint::decode(address, core.v6)? {
        Named::To(named) => named,
        // BSD: of IPv4, the unspecified address of no family is that of this one.
        Named::Nobody if !core.v6 && address.len() >= 16 && address[4..8] == [0; 4] => {
            let port = u16::from_be_bytes([address[2], address[3]]);
            Endpoint { port, ..Endpoint::nowhere(false) }
        }
        Named::Nobody if core.v6 && address.len() < 24 => return Err(Errno::EINVAL),
        Named::Nobody if address.len() < 16 => return Err(Errno::EINVAL),
        Named::Nobody => return Err(Errno::EAFNOSUPPORT),
    };
    let options = core.options.lock();
    if core.v6 && named.ip.is_ipv4() && options.is_on(IPPROTO_IPV6, ip6::V6ONLY) {
        return Err(Errno::EINVAL);
    }
    if !options.is_on(IPPROTO_IP, ip::FREEBIND) {
        device::bindable(named.ip, datagram)?;
    }
    drop(options);
    may_bind(named.port)?;
    Ok(named)
}

impl TcpSocket {
    pub(super) fn bind_to(&self, address: &[u8]) -> Result<()> {
        let named = name_of(&self.core, address, false)?;
        {
            let state = self.state.lock();
            if state.port.is_some() || !matches!(state.phase, Phase::Closed) {
                return Err(Errno::EINVAL);
            }
        }
        self.take_port(named.ip, named.port)
    }

    /// Takes a port (0: any) at an address. EADDRINUSE, EINVAL when it has one already.
    fn take_port(&self, ip: IpAddr, wanted: u16) -> Result<()> {
        let claim = self.core.claim(ip);
        let (me, now) = (self.me.clone(), sync::hooks::now());
        let ticket = match wanted {
            0 => BOUND.choose(seed(), claim, me, now)?,
            port => BOUND.claim(port, claim, me, now)?,
        };
        // Connections that were accepted at a port hold it, be their listener gone.
        if wanted != 0 && ACCEPTED.is_taken(wanted, &claim, now) {
            BOUND.release(ticket);
            return Err(Errno::EADDRINUSE);
        }
        let mut state = self.state.lock();
        if state.port.is_some() {
            drop(state);
            BOUND.release(ticket);
            return Err(Errno::EINVAL);
        }
        state.port = Some(Port { ticket, accepted: false, named: wanted != 0 });
        state.local = Some(Endpoint { ip, port: ticket.port });
        Ok(())
    }

    pub(super) fn start_listening(&self, backlog: i32) -> Result<()> {
        // A negative number is a huge one.
        let limit = (backlog as u32).min(SOMAXCONN.load(Relaxed)) as usize;
        {
            let mut state = self.state.lock();
            let connecting = state.connecting;
            match &mut state.phase {
                Phase::Listening(listener) => {
                    listener.limit = limit;
                    return Ok(());
                }
                Phase::Closed if !connecting => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        let (port, local) = {
            let state = self.state.lock();
            (state.port, state.local)
        };
        if port.is_none() {
            self.take_port(local.unwrap_or(Endpoint::nowhere(self.core.v6)).ip, 0)?;
        }
        let port = self.state.lock().port.ok_or(Errno::EINVAL)?;
        port.table().listen(port.ticket, true)?;
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Listening(Listener { limit, ..Listener::default() });
        }
        Ok(())
    }

    /// accept(2): the next connection, opened with `flags` (O_NONBLOCK). EINVAL, EAGAIN.
    pub(super) fn take_in(&self, file: &File, flags: u32) -> Result<Arc<File>> {
        let next = || {
            let mut state = self.state.lock();
            match &mut state.phase {
                Phase::Listening(listener) => listener.backlog.pop_front().map(Ok),
                _ => Some(Err(Errno::EINVAL)),
            }
        };
        let server = match next() {
            Some(server) => server?,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => Core::sleep(&self.core.readable, self.core.receive_timeout(), next)??,
        };
        self.admit();
        server.core.reads_here();
        let flags = oflag::O_RDWR | (flags & oflag::O_NONBLOCK);
        File::anonymous(server.clone(), flags).inspect_err(|_| server.abandon(true))
    }

    /// Lets in who waits, as far as there is room.
    fn admit(&self) {
        loop {
            let client = {
                let mut state = self.state.lock();
                let Phase::Listening(listener) = &mut state.phase else { return };
                if listener.waiting.is_empty() || listener.backlog.len() > listener.limit {
                    return;
                }
                listener.waiting.pop_front()
            };
            let (Some(client), Some(me)) = (client.and_then(|c| c.upgrade()), self.me.upgrade())
            else {
                continue;
            };
            client.let_in(&me);
        }
    }

    /// Connections that wait to be accepted, and how many may.
    pub(super) fn backlog(&self) -> Option<(usize, usize)> {
        match &self.state.lock().phase {
            Phase::Listening(listener) => Some((listener.backlog.len(), listener.limit)),
            _ => None,
        }
    }

    /// Marks it as one that is connected.
    pub(super) fn is_connected_now(&self) {
        self.set(flag::CONNECTED);
    }
}
