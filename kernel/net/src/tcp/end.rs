//! How connections end: by an end of each stream, by a reset, by nobody having the socket any more.

use super::{Listener, Phase, State, TcpSocket, flag};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use fs::fasync::Band;
use fs::socket::Shutdown;

impl TcpSocket {
    /// The other end, `from`, sends no more.
    pub(super) fn finished(&self, from: &Self) {
        let before = {
            // Who is connected anew meanwhile is told nothing of the old connection.
            let state = self.state.lock();
            if !state.is_with(from) {
                return;
            }
            self.set(flag::FIN)
        };
        self.core.wake();
        let both = before & flag::SEND_SHUT != 0;
        self.core.fasync.kill(if both { Band::Hup } else { Band::In });
    }

    /// The other end has thrown the connection away. What came before can still be read.
    pub(super) fn reset(&self) {
        self.was_reset(self.set_reset());
    }

    /// The same, done by the other end `from`.
    fn reset_by(&self, from: &Self) {
        let before = {
            let state = self.state.lock();
            if !state.is_with(from) {
                return;
            }
            self.set_reset()
        };
        self.was_reset(before);
    }

    /// Marks the connection as thrown away; its flags until then. Why is there to be told before who
    /// looks at the flags can see that.
    fn set_reset(&self) -> u32 {
        let flags = self.flags();
        let closed = flags & flag::FIN != 0;
        let ended = closed && flags & flag::SEND_SHUT != 0;
        if flags & (flag::RESET | flag::GONE) == 0 && !ended {
            self.core.fail(if closed { Errno::EPIPE } else { Errno::ECONNRESET });
        }
        self.set(flag::RESET | flag::SEND_SHUT | flag::RECV_SHUT)
    }

    fn was_reset(&self, before: u32) {
        if before & (flag::RESET | flag::GONE) != 0 {
            return;
        }
        self.give_up_port();
        self.core.wake();
        self.core.fasync.kill(Band::Hup);
    }

    /// Gives back a port that the kernel chose.
    pub(super) fn give_up_port(&self) {
        let port = {
            let mut state = self.state.lock();
            let chosen = state.port.is_some_and(|port| !port.named);
            if chosen && matches!(state.phase, Phase::Closed) {
                // What it was bound to stays, without the port.
                if let Some(local) = &mut state.local {
                    local.port = 0;
                }
            }
            if chosen { state.port.take() } else { None }
        };
        if let Some(port) = port {
            port.release();
        }
    }

    /// This end sends no more: tells the other one. Whoever is first waits in the end.
    fn finish(&self) {
        let before = self.set(flag::SEND_SHUT);
        if before & (flag::SEND_SHUT | flag::RESET) != 0 {
            return;
        }
        if before & flag::FIN == 0 {
            self.set(flag::FIRST);
        }
        if let Some(peer) = self.peer() {
            peer.finished(self);
        }
    }

    /// shutdown(2). ENOTCONN.
    pub(super) fn shut(&self, how: Shutdown) -> Result<()> {
        let listener = {
            let mut state = self.state.lock();
            match &mut state.phase {
                Phase::Closed | Phase::Waiting(_) => return Err(Errno::ENOTCONN),
                Phase::Connected(_) if self.over() => return Err(Errno::ENOTCONN),
                Phase::Listening(_) if !how.read => return Ok(()),
                Phase::Listening(listener) => {
                    let listener = core::mem::take(listener);
                    state.phase = Phase::Closed;
                    Some((listener, state.port))
                }
                Phase::Connected(_) => None,
            }
        };
        match listener {
            Some((listener, port)) => {
                if let Some(port) = port {
                    // To stop listening never fails.
                    let _ = port.table().listen(port.ticket, false);
                }
                self.give_up_port();
                self.turn_away(listener);
            }
            None => {
                if how.read {
                    self.set(flag::RECV_SHUT);
                }
                if how.write {
                    self.finish();
                }
            }
        }
        self.core.wake();
        Ok(())
    }

    /// True when nothing goes either way any more: the kernel has forgotten the connection.
    pub(super) fn over(&self) -> bool {
        let flags = self.flags();
        let ended = flag::FIN | flag::SEND_SHUT;
        flags & flag::RESET != 0 || flags & ended == ended
    }

    /// Refuses all who wait for a listener that is no more.
    fn turn_away(&self, listener: Listener) {
        for server in listener.backlog {
            server.abandon(true);
        }
        for client in listener.waiting.iter().filter_map(|client| client.upgrade()) {
            client.refused(Errno::ECONNREFUSED);
        }
    }

    /// The last description is gone.
    pub(super) fn close(&self) {
        let [lingers, seconds] = self.core.options.lock().linger;
        self.abandon(lingers != 0 && seconds == 0);
    }

    /// Nobody has the socket any more: it ends as close(2) ends it, or by a reset.
    pub(super) fn abandon(&self, reset: bool) {
        let unread = {
            let mut inbox = self.inbox.lock();
            self.set(flag::GONE);
            let unread = !inbox.is_empty();
            inbox.clear();
            self.held.store(0, Relaxed);
            unread
        };
        let old = core::mem::take(&mut *self.state.lock());
        let State { phase, port, orphan, .. } = old;
        match phase {
            Phase::Connected(peer) => {
                let flags = self.flags();
                let peer = peer.upgrade();
                let reset = (reset || unread) && flags & flag::RESET == 0;
                if reset || flags & flag::RESET != 0 {
                    if let Some(port) = port {
                        port.release();
                    }
                    if let Some(orphan) = orphan {
                        orphan.release();
                    }
                    if let Some(peer) = peer.filter(|_| reset) {
                        peer.reset_by(self);
                    }
                    self.core.wake();
                    return;
                }
                let first = flags & flag::FIRST != 0 || flags & (flag::FIN | flag::SEND_SHUT) == 0;
                self.set(flag::SEND_SHUT);
                if let Some(port) = port {
                    // Who ended first waits, be it for the other's end.
                    if first {
                        port.retire()
                    } else {
                        port.release()
                    }
                    if let Some(peer) = peer.as_ref().filter(|_| first) {
                        let mut theirs = peer.state.lock();
                        if theirs.is_with(self) {
                            theirs.orphan = Some(port);
                        }
                    }
                }
                if let Some(orphan) = orphan {
                    orphan.retire();
                }
                if let Some(peer) = peer.filter(|_| flags & flag::SEND_SHUT == 0) {
                    peer.finished(self);
                }
            }
            phase => {
                if let Some(port) = port {
                    port.release();
                }
                if let Phase::Listening(listener) = phase {
                    self.turn_away(listener);
                }
            }
        }
        self.core.wake();
    }

    /// connect(2) with AF_UNSPEC: the connection is thrown away, and the socket is as new.
    pub(super) fn disconnect(&self) {
        let (old, named) = {
            let mut state = self.state.lock();
            let named = state.port.is_some_and(|port| port.named);
            let mut fresh = State::default();
            if named {
                (fresh.port, fresh.local) = (state.port, state.local);
            }
            (core::mem::replace(&mut *state, fresh), named)
        };
        let live = !self.over();
        let mut error = None;
        match old.phase {
            Phase::Connected(peer) if live => {
                if let Some(peer) = peer.upgrade() {
                    peer.reset_by(self);
                }
                error = Some(Errno::ECONNRESET);
            }
            Phase::Listening(listener) => {
                if let Some(port) = old.port {
                    // To stop listening never fails.
                    let _ = port.table().listen(port.ticket, false);
                }
                self.turn_away(listener);
            }
            _ => {}
        }
        if let Some(port) = old.port.filter(|_| !named) {
            port.release();
        }
        if let Some(port) = old.orphan {
            port.release();
        }
        {
            let mut inbox = self.inbox.lock();
            inbox.clear();
            self.held.store(0, Relaxed);
            self.flags.store(0, Relaxed);
        }
        match error {
            // This end is told of it, too.
            Some(error) => self.core.fail(error),
            None => drop(self.core.take_error()),
        }
        self.core.wake();
    }
}
