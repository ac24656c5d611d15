//! Names of UDP sockets: bind(2), and connect(2), which only names the other side.

use super::{BOUND, State, UdpSocket};
use crate::address::{Endpoint, Named, Scope};
use crate::common::seed;
use crate::device::{self, Reach};
use crate::options::{IPPROTO_IPV6, SOL_SOCKET, ip6, so};
use crate::tcp::name_of;
use abi::{Errno, Result};
use core::net::IpAddr;
use core::sync::atomic::Ordering::Relaxed;

impl UdpSocket {
    pub(super) fn bind_to(&self, address: &[u8]) -> Result<()> {
        let named = name_of(&self.core, address, true)?;
        if self.state.lock().port.is_some() {
            return Err(Errno::EINVAL);
        }
        self.take_port(named.ip, named.port)?;
        let mut state = self.state.lock();
        state.named = named.port != 0;
        state.address_named = !named.ip.is_unspecified();
        Ok(())
    }

    /// Takes a port (0: any) at an address. EADDRINUSE, EINVAL when it has one already.
    fn take_port(&self, ip: IpAddr, wanted: u16) -> Result<()> {
        let claim = self.core.claim(ip);
        let (me, now) = (self.me.clone(), sync::hooks::now());
        let ticket = match wanted {
            0 => BOUND.choose(seed(), claim, me, now)?,
            port => BOUND.claim(port, claim, me, now)?,
        };
        let mut state = self.state.lock();
        if state.port.is_some() {
            drop(state);
            BOUND.release(ticket);
            return Err(Errno::EINVAL);
        }
        state.port = Some(ticket);
        state.local = Some(Endpoint { ip, port: ticket.port });
        Ok(())
    }

    /// Makes sure of a port to send from. EAGAIN when there is none, as Linux has it.
    pub(super) fn has_port(&self) -> Result<()> {
        if self.state.lock().port.is_some() {
            return Ok(());
        }
        match self.take_port(Endpoint::nowhere(self.core.v6).ip, 0) {
            // Another thread was faster.
            Err(Errno::EINVAL) => Ok(()),
            Err(Errno::EADDRINUSE) => Err(Errno::EAGAIN),
            other => other,
        }
    }

    /// The way to an address: how far, where to, and where from. ENETUNREACH, EACCES.
    pub(super) fn way(&self, to: Endpoint) -> Result<(Reach, Endpoint, IpAddr)> {
        let (reach, ip, from) = device::route(to.ip)?;
        let options = self.core.options.lock();
        if self.core.v6 && ip.is_ipv4() && options.is_on(IPPROTO_IPV6, ip6::V6ONLY) {
            return Err(Errno::ENETUNREACH);
        }
        if reach == Reach::Broadcast && !options.is_on(SOL_SOCKET, so::BROADCAST) {
            return Err(Errno::EACCES);
        }
        drop(options);
        let bound = self.state.lock().local.map(|local| local.ip);
        let from = match bound {
            Some(bound) if !bound.is_unspecified() && !bound.is_multicast() => {
                if bound.is_ipv4() != ip.is_ipv4() {
                    return Err(Errno::ENETUNREACH);
                }
                bound
            }
            _ => from,
        };
        Ok((reach, Endpoint { ip, port: to.port }, from))
    }

    pub(super) fn connect_to(&self, address: &[u8]) -> Result<()> {
        let named = match Endpoint::decode(address, self.core.v6) {
            Err(Errno::EAFNOSUPPORT) if self.core.v6 => Endpoint::decode(address, false),
            other => other,
        }?;
        let Named::To(to) = named else {
            self.disconnect();
            return Ok(());
        };
        let (_, to, from) = self.way(to)?;
        self.has_port()?;
        let ticket = {
            let mut state = self.state.lock();
            let port = state.local.map_or(0, |local| local.port);
            if !state.address_named {
                state.local = Some(Endpoint { ip: from, port });
            }
            state.remote = Some(to);
            state.port
        };
        if let Some(ticket) = ticket {
            let scope = Scope::of(from, false, true);
            BOUND.connect(ticket, scope, to, sync::hooks::now())?;
        }
        Ok(())
    }

    /// connect(2) with AF_UNSPEC: hears everybody again. What the user did not name is given up.
    fn disconnect(&self) {
        let nowhere = Endpoint::nowhere(self.core.v6).ip;
        let (kept, given_up) = {
            let mut state = self.state.lock();
            state.remote = None;
            if !state.address_named
                && let Some(local) = &mut state.local
            {
                local.ip = nowhere;
            }
            let chosen = !state.named;
            if chosen {
                if let Some(local) = &mut state.local {
                    local.port = 0;
                }
                (None, state.port.take())
            } else {
                (state.port.zip(state.local), None)
            }
        };
        if let Some(ticket) = given_up {
            BOUND.release(ticket);
        }
        if let Some((ticket, local)) = kept {
            BOUND.disconnect(ticket, self.core.claim(local.ip).scope);
        }
    }

    /// Nobody has the socket any more.
    pub(super) fn close(&self) {
        let port = {
            let mut state = self.state.lock();
            let port = state.port;
            *state = State::default();
            port
        };
        if let Some(ticket) = port {
            BOUND.release(ticket);
        }
        let datagrams = {
            let mut inbox = self.inbox.lock();
            inbox.closed = true;
            inbox.used = 0;
            core::mem::take(&mut inbox.datagrams)
        };
        self.held.store(0, Relaxed);
        drop(datagrams);
    }

    /// Tells the table of ports of a change of SO_REUSEADDR or SO_REUSEPORT.
    pub(super) fn say_again(&self) {
        let port = self.state.lock().port;
        let options = self.core.options.lock();
        let reuse = options.is_on(SOL_SOCKET, so::REUSEADDR);
        let reuse_port = options.is_on(SOL_SOCKET, so::REUSEPORT);
        drop(options);
        if let Some(ticket) = port {
            BOUND.update(ticket, |claim| (claim.reuse, claim.reuse_port) = (reuse, reuse_port));
        }
    }
}
