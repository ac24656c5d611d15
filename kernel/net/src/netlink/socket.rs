//! Netlink sockets: a request is answered while it is sent; the answers wait to be received.

use super::message::{HEADER, Header, NLMSG_DONE, NLMSG_ERROR, RTM_BASE, Writer, flag};
use super::{AF_NETLINK, route};
use crate::common::Core;
use crate::memory::Charge;
use crate::options::{BUFFER_MAX, SOL_SOCKET, so, word};
use abi::raw::ioctl::FIONREAD;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed};
use frames::fallible::{TryMap, TryQueue, TryVec, filled, ready_arc};
use fs::env::env;
use fs::fasync::Fasync;
use fs::file::{FileOps, Seek};
use fs::inode::{Inode, InodeBase, OpenArgs};
use fs::socket::{Control, Received, Shutdown, SocketOps, msg};
use fs::{Caller, File, PollMask, PollTable};
use hal::user::{Sink, Source};
use sync::{Mutex, SpinLock};

/// SOL_NETLINK.
const SOL_NETLINK: u32 = 270;
/// Its options that are kept: NETLINK_CAP_ACK has an effect.
const NO_ENOBUFS: u32 = 5;
const CAP_ACK: u32 = 10;
const EXT_ACK: u32 = 11;
const STRICT: u32 = 12;
/// The longest request, bytes.
const LONGEST: usize = 64 * 1024;
/// What is charged for a message beside its bytes.
const OVERHEAD: usize = 768;

/// Sockets by their numbers.
static BOUND: SpinLock<BTreeMap<u32, Weak<NetlinkSocket>>> = SpinLock::new(BTreeMap::new());

/// A socket.
pub struct NetlinkSocket {
    me: Weak<NetlinkSocket>,
    core: Core,
    kind: u32,
    /// Its number, 0 without one.
    number: AtomicU32,
    groups: AtomicU32,
    /// Whom connect(2) named.
    peer: AtomicU32,
    options: AtomicU32,
    inbox: Mutex<Inbox>,
    held: AtomicUsize,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<(Vec<u8>, Charge)>,
    used: usize,
}

/// `struct sockaddr_nl`.
fn encode(number: u32, groups: u32) -> Vec<u8> {
    let mut bytes = [0; 12];
    bytes[0] = AF_NETLINK as u8;
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&groups.to_le_bytes());
    bytes.to_vec()
}

/// Number and groups. EINVAL.
fn decode(bytes: &[u8]) -> Result<(u32, u32)> {
    if bytes.len() < 12 || bytes[..2] != [AF_NETLINK as u8, 0] {
        return Err(Errno::EINVAL);
    }
    let word = |at| super::message::u32_at(bytes, at);
    Ok((word(4), word(8)))
}

impl NetlinkSocket {
    /// A socket without a number. ENOMEM.
    pub fn new(kind: u32) -> Result<Arc<Self>> {
        let core = Core::new(false, BUFFER_MAX as usize, BUFFER_MAX as usize)?;
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            core,
            kind,
            number: AtomicU32::new(0),
            groups: AtomicU32::new(0),
            peer: AtomicU32::new(0),
            options: AtomicU32::new(0),
            inbox: Mutex::new(Inbox::default()),
            held: AtomicUsize::new(0),
        }))
    }

    /// Takes a number: the one that is named, or the process's id, or else any. EADDRINUSE, EINVAL.
    fn take_number(&self, wanted: u32) -> Result<()> {
        let mut bound = BOUND.lock();
        let own = self.number.load(Relaxed);
        if own != 0 {
            return if wanted == 0 || wanted == own { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let free = |bound: &BTreeMap<u32, Weak<Self>>, number: u32| !bound.contains_key(&number);
        let number = match wanted {
            0 => {
                let pid = env().ucred().pid;
                let others = (0..u32::MAX / 2).map(|n| u32::MAX - 4096 - n);
                let mut all = core::iter::once(pid).chain(others);
                all.find(|&number| free(&bound, number)).ok_or(Errno::EADDRINUSE)?
            }
            wanted if free(&bound, wanted) => wanted,
            _ => return Err(Errno::EADDRINUSE),
        };
        bound.try_insert_in(number, self.me.clone())?;
        self.number.store(number, Relaxed);
        Ok(())
    }

    fn has(&self, option: u32) -> bool {
        self.options.load(Relaxed) & 1 << option != 0
    }

    /// Queues an answer; ENOBUFS is told when there is no room.
    fn queue(&self, message: Vec<u8>) {
        let room = self.core.receive_room.load(Relaxed);
        let mut inbox = self.inbox.lock();
        let cost = message.len() + OVERHEAD;
        let charged = Charge::new(cost).map(|charge| (message, charge));
        let is_full = inbox.used > room;
        let queued = |charged| inbox.messages.try_push_back(charged);
        if is_full || charged.and_then(queued).is_err() {
            drop(inbox);
            if !self.has(NO_ENOBUFS) {
                self.core.fail(Errno::ENOBUFS);
            }
            self.core.wake();
            return;
        }
        inbox.used += cost;
        self.held.store(inbox.messages.len(), Relaxed);
        drop(inbox);
        self.core.came();
    }

    /// Handles every request of a message.
    fn handle(&self, mut bytes: &[u8]) -> Result<()> {
        while let Some(header) = Header::read(bytes) {
            let whole = &bytes[..header.len];
            bytes = bytes.get(header.len.next_multiple_of(4)..).unwrap_or(&[]);
            if header.flags & flag::REQUEST == 0 || header.kind < RTM_BASE {
                if header.flags & flag::ACK != 0 {
                    self.acknowledge(&header, whole, None)?;
                }
                continue;
            }
            let mut header = header;
            header.port = self.number.load(Relaxed);
            let mut out = Writer::default();
            let dump = header.flags & flag::DUMP == flag::DUMP && header.kind % 4 == 2;
            match route::answer(&header, &whole[HEADER..], &mut out) {
                Ok(()) => {
                    let answers = out.take();
                    if !answers.is_empty() {
                        self.queue(answers);
                    }
                    if dump {
                        out.begin(NLMSG_DONE, flag::MULTI, &header, &[0; 4])?;
                        out.end();
                        self.queue(out.take());
                    } else if header.flags & flag::ACK != 0 {
                        self.acknowledge(&header, whole, None)?;
                    }
                }
                Err(error) => self.acknowledge(&header, whole, Some(error))?,
            }
        }
        Ok(())
    }

    /// NLMSG_ERROR: an error, or that there was none, with the request that it is about.
    fn acknowledge(&self, to: &Header, whole: &[u8], error: Option<Errno>) -> Result<()> {
        let mut out = Writer::default();
        let code = error.map_or(0, |error| -i32::from(error.code()));
        let capped = error.is_none() || self.has(CAP_ACK);
        let about = if capped { &whole[..HEADER] } else { whole };
        let mut own = Vec::with_room(4 + about.len())?;
        own.extend_from_slice(&code.to_le_bytes());
        own.extend_from_slice(about);
        out.begin(NLMSG_ERROR, if capped { flag::CAPPED } else { 0 }, to, &own)?;
        out.end();
        self.queue(out.take());
        Ok(())
    }

    fn close(&self) {
        let number = self.number.swap(0, Relaxed);
        if number != 0 {
            BOUND.lock().remove(&number);
        }
    }
}

impl Inode for NetlinkSocket {
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

impl FileOps for NetlinkSocket {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        self.receive(file, dst, 0).map(|received| received.len)
    }
    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.send(file, src, None, Control::default(), 0)
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
            table.watch(&self.core.readable);
        }
        let mut ready = PollMask::WRITABLE | PollMask::WRBAND;
        if self.held.load(Acquire) > 0 {
            ready |= PollMask::READABLE;
        }
        if self.core.has_error() {
            ready |= PollMask::ERR;
        }
        ready & (interest | PollMask::ALWAYS)
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        if cmd != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let first = self.inbox.lock().messages.front().map_or(0, |(message, _)| message.len());
        hal::user::write(hal::VirtAddr::new(arg), &(first as i32))?;
        Ok(0)
    }
}

impl SocketOps for NetlinkSocket {
    fn bind(&self, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        let (number, groups) = decode(address)?;
        self.take_number(number)?;
        self.groups.store(groups, Relaxed);
        Ok(())
    }
    fn listen(&self, _backlog: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn accept(&self, _file: &File, _flags: u32) -> Result<Arc<File>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn connect(&self, _file: &File, _caller: &Caller<'_>, address: &[u8]) -> Result<()> {
        if address.len() >= 2 && address[..2] == [0, 0] {
            self.peer.store(0, Relaxed);
            return Ok(());
        }
        let (number, groups) = decode(address)?;
        if groups != 0 || number != 0 && !env().capable(fs::Cap::NetAdmin) {
            return Err(Errno::EPERM);
        }
        self.take_number(0)?;
        self.peer.store(number, Relaxed);
        Ok(())
    }
    fn shutdown(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn local_address(&self) -> Vec<u8> {
        encode(self.number.load(Relaxed), self.groups.load(Relaxed))
    }
    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(encode(self.peer.load(Relaxed), 0))
    }

    fn send(
        &self,
        _file: &File,
        src: &mut dyn Source,
        to: Option<(&Caller<'_>, &[u8])>,
        _control: Control,
        flags: u32,
    ) -> Result<usize> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let len = src.left();
        if len == 0 {
            return Err(Errno::ENODATA);
        }
        let number = match to.filter(|(_, address)| !address.is_empty()) {
            Some((_, address)) => {
                let (number, groups) = decode(address)?;
                if (groups != 0 || number != 0) && !env().capable(fs::Cap::NetAdmin) {
                    return Err(Errno::EPERM);
                }
                number
            }
            None => self.peer.load(Relaxed),
        };
        self.take_number(0)?;
        if len > LONGEST.min(self.core.send_room.load(Relaxed)) {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = filled(0, len).map_err(|_| Errno::ENOBUFS)?;
        if src.get(&mut bytes)? < len {
            return Err(Errno::EFAULT);
        }
        if number != 0 {
            // Processes do not talk to each other by this protocol.
            return Err(Errno::ECONNREFUSED);
        }
        self.handle(&bytes)?;
        Ok(len)
    }

    fn receive(&self, file: &File, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        loop {
            self.core.take_error()?;
            let mut inbox = self.inbox.lock();
            if let Some((first, _)) = inbox.messages.front() {
                let full = first.len();
                let take = full.min(dst.room());
                let copied = if take == 0 { 0 } else { dst.put(&first[..take])? };
                if flags & msg::PEEK == 0 {
                    inbox.messages.pop_front();
                    inbox.used -= full + OVERHEAD;
                    self.held.store(inbox.messages.len(), Relaxed);
                }
                if copied < take {
                    return Err(Errno::EFAULT);
                }
                return Ok(Received {
                    len: if flags & msg::TRUNC != 0 { full } else { take },
                    flags: if take < full { msg::TRUNC } else { 0 },
                    from: encode(0, 0),
                    ..Received::default()
                });
            }
            drop(inbox);
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || {
                let news = self.held.load(Acquire) > 0 || self.core.has_error();
                news.then_some(())
            };
            Core::sleep(&self.core.readable, self.core.receive_timeout(), ready)?;
        }
    }

    fn option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, so::DOMAIN) => word(AF_NETLINK),
            (SOL_SOCKET, so::ACCEPTCONN) => word(0),
            (SOL_SOCKET, _) => self.core.option(level, name, self.kind, 0),
            (SOL_NETLINK, NO_ENOBUFS | CAP_ACK | EXT_ACK | STRICT) => {
                word(u32::from(self.has(name)))
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (SOL_SOCKET, _) => self.core.set_option(level, name, value),
            (SOL_NETLINK, NO_ENOBUFS | CAP_ACK | EXT_ACK | STRICT) => {
                let on = crate::options::int(value)? != 0;
                let bit = 1 << name;
                if on {
                    self.options.fetch_or(bit, Relaxed);
                } else {
                    self.options.fetch_and(!bit, Relaxed);
                }
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

/// A socket in /proc/net/netlink.
pub struct Row {
    pub number: u32,
    pub groups: u32,
    pub to_receive: usize,
    pub inode: u64,
}

/// All sockets with a number. ENOMEM.
pub fn rows() -> Result<Vec<Row>> {
    let mut sockets: Vec<Arc<NetlinkSocket>> = Vec::new();
    let mut outcome = Ok(());
    for socket in BOUND.lock().values().filter_map(Weak::upgrade) {
        outcome = outcome.and_then(|()| sockets.try_push(socket));
    }
    outcome?;
    Vec::gather(sockets.iter().map(|socket| Row {
        number: socket.number.load(Relaxed),
        groups: socket.groups.load(Relaxed),
        to_receive: socket.inbox.lock().used,
        inode: socket.core.base.ino,
    }))
}
