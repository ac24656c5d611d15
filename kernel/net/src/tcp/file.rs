//! A TCP socket as a file and as a socket.

use super::{Phase, TcpSocket, flag};
use abi::raw::ioctl::FIONREAD;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Release;
use fs::fasync::Fasync;
use fs::file::{FileOps, Seek};
use fs::inode::{Inode, InodeBase, OpenArgs};
use fs::socket::{Control, Received, Shutdown, SocketOps};
use fs::{Caller, File, PollMask, PollTable};
use hal::user::{Sink, Source};

impl Inode for TcpSocket {
    fn base(&self) -> &InodeBase {
        &self.core.base
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn anonymous_name(&self) -> String {
        alloc::format!("socket:[{}]", self.core.base.ino)
    }
    fn released(&self, _file: &File) {
        self.close();
    }
}

impl FileOps for TcpSocket {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        self.receive_bytes(file, dst, 0).map(|received| received.len)
    }
    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.send_bytes(file, src, 0)
    }
    fn pollable(&self) -> bool {
        true
    }
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [Some(&self.core.fasync), None]
    }
    fn as_socket(&self) -> Option<&dyn SocketOps> {
        Some(self)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            if interest.intersects(PollMask::READ_SIDE) {
                table.watch(&self.core.readable);
            }
            if interest.intersects(PollMask::WRITE_SIDE.difference(PollMask::ALWAYS)) {
                table.watch(&self.core.writable);
            }
        }
        let peer = match &self.state.lock().phase {
            Phase::Listening(listener) if listener.backlog.is_empty() => return PollMask::empty(),
            Phase::Listening(_) => return PollMask::READABLE & interest,
            // Only its outcome will be told.
            Phase::Waiting(_) => return PollMask::empty(),
            Phase::Closed => None,
            Phase::Connected(peer) => Some(peer.upgrade()),
        };
        let flags = self.flags();
        let mut ready = PollMask::empty();
        let ended = flags & (flag::FIN | flag::RECV_SHUT | flag::RESET) != 0;
        let shut = flags & flag::SEND_SHUT != 0;
        if peer.is_none() || ended && shut {
            ready |= PollMask::HUP;
        }
        if ended {
            ready |= PollMask::READABLE | PollMask::RDHUP;
        } else if self.is_readable() {
            ready |= PollMask::READABLE;
        }
        let room = shut
            || match peer {
                Some(Some(peer)) => self.wait_for_room(&peer, interest),
                _ => true,
            };
        if room {
            ready |= PollMask::WRITABLE;
        }
        if self.core.has_error() {
            ready |= PollMask::ERR;
        }
        ready & (interest | PollMask::ALWAYS)
    }

    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// SIOCOUTQ, which is TIOCOUTQ, and SIOCOUTQNSD.
        const OUTQ: u32 = 0x5411;
        const OUTQNSD: u32 = 0x894b;
        const ATMARK: u32 = 0x8905;
        let listens = || self.backlog().is_some();
        let bytes = match cmd {
            FIONREAD | OUTQ | OUTQNSD if listens() => return Err(Errno::EINVAL),
            FIONREAD => self.there(),
            OUTQ | OUTQNSD => self.peer().map_or(0, |peer| self.queued(&peer)),
            ATMARK => 0,
            _ => return Err(Errno::ENOTTY),
        };
        hal::user::write(hal::VirtAddr::new(arg), &(bytes as i32))?;
        Ok(0)
    }
}

impl TcpSocket {
    /// Whether there is room to send; if not, and it is asked for, the other end tells of some.
    fn wait_for_room(&self, peer: &Arc<Self>, interest: PollMask) -> bool {
        if self.is_writable(peer) {
            return true;
        }
        if !interest.intersects(PollMask::WRITABLE) {
            return false;
        }
        self.core.fasync.want_space();
        peer.starved.store(true, Release);
        // It may have been emptied before that was seen.
        self.is_writable(peer)
    }
}

impl SocketOps for TcpSocket {
    fn bind(&self, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        self.bind_to(address)
    }
    fn listen(&self, backlog: i32) -> Result<()> {
        self.start_listening(backlog)
    }
    fn accept(&self, file: &File, flags: u32) -> Result<Arc<File>> {
        self.take_in(file, flags)
    }
    fn connect(&self, file: &File, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        self.connect_to(file, address)
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut(how)
    }
    fn local_address(&self) -> Vec<u8> {
        self.core.show(self.state.lock().local)
    }
    fn peer_address(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        match state.phase {
            Phase::Connected(_) if !self.over() => Ok(self.core.show(state.remote)),
            _ => Err(Errno::ENOTCONN),
        }
    }
    fn accepted_from(&self) -> Result<Vec<u8>> {
        Ok(self.core.show(self.state.lock().remote))
    }
    fn send(
        &self,
        file: &File,
        src: &mut dyn Source,
        _to: Option<(&Caller<'_>, &[u8])>,
        _control: Control,
        flags: u32,
    ) -> Result<usize> {
        self.send_bytes(file, src, flags)
    }
    fn receive(&self, file: &File, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        self.receive_bytes(file, dst, flags)
    }
    fn option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        self.get_option(level, name)
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        self.put_option(level, name, value)
    }
}
