//! A UDP socket as a file and as a socket.

use super::UdpSocket;
use crate::options::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, ip, ip6, so, word};
use abi::raw::ioctl::FIONREAD;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use fs::fasync::Fasync;
use fs::file::{FileOps, Seek};
use fs::inode::{Inode, InodeBase, OpenArgs};
use fs::socket::{Control, Received, Shutdown, SocketOps};
use fs::{Caller, File, PollMask, PollTable};
use hal::user::{Sink, Source};

/// IPPROTO_UDP.
pub const IPPROTO_UDP: u32 = 17;

impl Inode for UdpSocket {
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

impl FileOps for UdpSocket {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        self.receive_datagram(file, dst, 0).map(|received| received.len)
    }
    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.send_datagram(src, None, &Control::default(), 0)
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
        let mut ready = PollMask::WRITABLE | PollMask::WRBAND;
        if self.held.load(Relaxed) > 0 {
            ready |= PollMask::READABLE;
        }
        let read_shut = self.read_shut.load(Relaxed);
        if read_shut {
            ready |= PollMask::READABLE | PollMask::RDHUP;
        }
        if read_shut && self.write_shut.load(Relaxed) {
            ready |= PollMask::HUP;
        }
        if self.core.has_error() {
            ready |= PollMask::ERR;
        }
        ready & (interest | PollMask::ALWAYS)
    }

    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// SIOCOUTQ, which is TIOCOUTQ.
        const OUTQ: u32 = 0x5411;
        let bytes = match cmd {
            FIONREAD => self.inbox.lock().first_len(),
            // What is sent is with its receiver at once.
            OUTQ => 0,
            _ => return Err(Errno::ENOTTY),
        };
        hal::user::write(hal::VirtAddr::new(arg), &(bytes as i32))?;
        Ok(0)
    }
}

impl SocketOps for UdpSocket {
    fn bind(&self, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        self.bind_to(address)
    }
    fn listen(&self, _backlog: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn accept(&self, _file: &File, _flags: u32) -> Result<Arc<File>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn connect(&self, _file: &File, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        self.connect_to(address)
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        // It takes effect even where it is refused, as on Linux.
        self.read_shut.fetch_or(how.read, Relaxed);
        self.write_shut.fetch_or(how.write, Relaxed);
        self.core.wake();
        let connected = self.state.lock().remote.is_some();
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }
    fn local_address(&self) -> Vec<u8> {
        self.core.show(self.state.lock().local)
    }
    fn peer_address(&self) -> Result<Vec<u8>> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(self.core.show(Some(remote)))
    }
    fn send(
        &self,
        _file: &File,
        src: &mut dyn Source,
        to: Option<(&Caller<'_>, &[u8])>,
        control: Control,
        flags: u32,
    ) -> Result<usize> {
        self.send_datagram(src, to.map(|(_, address)| address), &control, flags)
    }
    fn receive(&self, file: &File, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        self.receive_datagram(file, dst, flags)
    }
    fn option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, so::ACCEPTCONN) => word(0),
            (IPPROTO_IPV6, _) if !self.core.v6 => Err(Errno::EOPNOTSUPP),
            (IPPROTO_IP, ip::MTU) | (IPPROTO_IPV6, ip6::MTU) => match self.state.lock().remote {
                Some(_) => word(crate::device::MTU),
                None => Err(Errno::ENOTCONN),
            },
            (SOL_SOCKET | IPPROTO_IP | IPPROTO_IPV6, _) => {
                self.core.option(level, name, 2, IPPROTO_UDP)
            }
            (IPPROTO_UDP, _) => Err(Errno::ENOPROTOOPT),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (IPPROTO_IPV6, _) if !self.core.v6 => return Err(Errno::ENOPROTOOPT),
            (IPPROTO_IPV6, ip6::V6ONLY) if self.state.lock().port.is_some() => {
                return Err(Errno::EINVAL);
            }
            (SOL_SOCKET | IPPROTO_IP | IPPROTO_IPV6, _) => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        self.core.set_option(level, name, value)?;
        if level == SOL_SOCKET && matches!(name, so::REUSEADDR | so::REUSEPORT) {
            self.say_again();
        }
        Ok(())
    }
}
