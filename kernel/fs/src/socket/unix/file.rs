//! A socket as a file: reading, writing, readiness.

use super::transfer::Message;
use super::{Phase, UnixSocket};
use crate::fasync::Fasync;
use crate::file::{File, FileOps, Seek};
use crate::inode::{Inode, InodeBase, OpenArgs};
use crate::poll::{PollMask, PollTable};
use crate::socket::{Control, Kind, SocketOps};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use hal::user::{Sink, Source};

impl Inode for UnixSocket {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn anonymous_name(&self) -> String {
        alloc::format!("socket:[{}]", self.base.ino)
    }
    fn released(&self, _file: &File) {
        self.close();
    }
}

impl FileOps for UnixSocket {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        if dst.room() == 0 {
            return Ok(0);
        }
        self.receive(file, dst, 0).map(|received| received.len)
    }
    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.send(file, src, None, Control::default(), 0)
    }
    fn pollable(&self) -> bool {
        true
    }
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [Some(&self.space.fasync), None]
    }
    fn as_socket(&self) -> Option<&dyn SocketOps> {
        Some(self)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            if interest.intersects(PollMask::READ_SIDE) {
                table.watch(&self.readable);
            }
            if interest.intersects(PollMask::WRITE_SIDE.difference(PollMask::ALWAYS)) {
                table.watch(&self.space.queue);
            }
        }
        let mut ready = PollMask::empty();
        let (peer, listening) = {
            let state = self.state.lock();
            if state.error.is_some() {
                ready |= PollMask::ERR;
            }
            if !state.inbox.is_empty() {
                ready |= PollMask::READABLE;
            }
            if state.read_shut {
                ready |= PollMask::READABLE | PollMask::RDHUP;
            }
            if state.read_shut && state.write_shut {
                ready |= PollMask::HUP;
            }
            match &state.phase {
                Phase::Idle | Phase::Closed if self.connection_oriented() => {
                    ready |= PollMask::HUP;
                    (None, false)
                }
                Phase::Listening { backlog, .. } => {
                    if !backlog.is_empty() {
                        ready |= PollMask::READABLE;
                    }
                    (None, true)
                }
                Phase::Connected(peer) => (peer.upgrade(), false),
                _ => (None, false),
            }
        };
        let wants_out = interest.intersects(PollMask::WRITABLE);
        if wants_out
            && !listening
            && self.space.mostly_free()
            && peer.is_none_or(|peer| self.peer_has_room(&peer))
        {
            ready |= PollMask::WRITABLE | PollMask::WRBAND;
        } else if wants_out && self.kind != Kind::Stream {
            self.space.fasync.want_space();
        }
        ready & (interest | PollMask::ALWAYS)
    }

    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// SIOCOUTQ, which is TIOCOUTQ.
        const OUTQ: u32 = 0x5411;
        let bytes = match cmd {
            abi::raw::ioctl::FIONREAD => {
                let state = self.state.lock();
                if matches!(state.phase, Phase::Listening { .. }) {
                    return Err(Errno::EINVAL);
                }
                match self.kind {
                    Kind::Datagram => state.inbox.front().map_or(0, Message::len),
                    _ => state.inbox.iter().map(Message::len).sum(),
                }
            }
            OUTQ => {
                if matches!(self.state.lock().phase, Phase::Listening { .. }) {
                    return Err(Errno::EINVAL);
                }
                self.space.used()
            }
            _ => return Err(Errno::ENOTTY),
        };
        hal::user::write(hal::VirtAddr::new(arg), &(bytes as i32))?;
        Ok(0)
    }
}
