//! Pseudo terminals: /dev/ptmx opens a master, devpts shows the slaves.

use super::file::TtyFile;
use super::{Tty, TtyDriver};
use crate::dev::{CharDevice, register_char};
use crate::env;
use crate::fasync::{Band, Fasync};
use crate::file::{File, FileOps, Llseek, Place, Seek};
use crate::inode::{Entry, Inode, InodeBase, OpenArgs};
use crate::mount::{FileSystem, Super};
use crate::poll::{PollMask, PollTable};
use crate::stat::{DevId, FileType, Statfs};
use crate::tmpfs::anonymous_dev;
use abi::raw::general as g;
use abi::raw::ioctl as i;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use frames::fallible::{TryMap, arc, text};
use hal::VirtAddr;
use hal::user::{self, Sink, Source};
use sync::{Once, SpinLock, WaitQueue};

/// Major number of slaves.
const SLAVE_MAJOR: u32 = 136;
/// Pseudo terminals at most (kernel.pty.max).
const MAX: u32 = 4096;
/// Bytes of output that wait for the master.
const OUTPUT: usize = 16 * 1024;

/// A pair.
struct Pty {
    index: u32,
    tty: Arc<Tty>,
    link: Arc<Link>,
    node: Arc<SlaveNode>,
}

/// What the slave's terminal sees as its hardware.
struct Link {
    output: SpinLock<VecDeque<u8>>,
    /// The slave may be opened.
    unlocked: AtomicBool,
    /// The slave was open and is not any more.
    slave_gone: AtomicBool,
    packet: AtomicBool,
    /// What packet mode has to tell.
    news: AtomicU8,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    /// Masters that want signals.
    fasync: Fasync,
}

impl TtyDriver for Link {
    fn write(&self, data: &[u8]) -> usize {
        let n = {
            let mut output = self.output.lock();
            let n = data.len().min(OUTPUT - output.len().min(OUTPUT));
            output.extend(&data[..n]);
            n
        };
        self.readable.wake_one();
        if n > 0 {
            self.fasync.kill(Band::In);
        }
        n
    }
    fn room(&self) -> usize {
        OUTPUT.saturating_sub(self.output.lock().len())
    }
    fn unthrottle(&self) {
        self.writable.wake_all();
        self.fasync.space();
    }
    fn flush_output(&self) {
        self.output.lock().clear();
    }
    fn tell(&self, news: u8, old: u8) {
        if news != 0 && self.packet.load(Relaxed) {
            let both = |bits: u8| Some(bits & !old | news);
            let _ = self.news.fetch_update(Release, Relaxed, both);
            self.readable.wake_all();
        }
    }
    fn is_pty(&self) -> bool {
        true
    }
    fn opened(&self) {
        self.slave_gone.store(false, Release);
    }
    fn closed(&self) {
        self.slave_gone.store(true, Release);
        self.readable.wake_all();
    }
}

static PAIRS: SpinLock<BTreeMap<u32, Arc<Pty>>> = SpinLock::new(BTreeMap::new());

/// Mode and group of new slaves, by devpts's mount options; the group is the opener's unless set.
static NODE_MODE: AtomicU32 = AtomicU32::new(0o600);
static NODE_GROUP: AtomicU32 = AtomicU32::new(u32::MAX);

fn device() -> DevId {
    static DEV: Once<DevId> = Once::new();
    *DEV.get_or_init(anonymous_dev)
}

/// Opens /dev/ptmx: a new pair; the description is its master.
pub(super) fn open_master(_args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
    let who = env::env().ucred();
    let link = arc(Link {
        output: SpinLock::new(VecDeque::new()),
        unlocked: AtomicBool::new(false),
        slave_gone: AtomicBool::new(false),
        packet: AtomicBool::new(false),
        news: AtomicU8::new(0),
        readable: arc(WaitQueue::new())?,
        writable: arc(WaitQueue::new())?,
        fasync: Fasync::default(),
    })?;
    let mut index = 0;
    loop {
        index = {
            let pairs = PAIRS.lock();
            (index..MAX).find(|index| !pairs.contains_key(index)).ok_or(Errno::ENOSPC)?
        };
        let rdev = DevId::new(SLAVE_MAJOR, index);
        let tty = Tty::new(rdev, text(format_args!("pts/{index}"))?, link.clone())?;
        let group = match NODE_GROUP.load(Relaxed) {
            u32::MAX => who.gid,
            group => group,
        };
        let mode = g::S_IFCHR | NODE_MODE.load(Relaxed);
        let ino = index as u64 + 3;
        let base = InodeBase::new(device(), ino, mode, who.uid, group).with_rdev(rdev);
        let node = arc(SlaveNode { base })?;
        let pty = arc(Pty { index, tty, link: link.clone(), node })?;
        let master = arc(Master { pty: pty.clone() })?;
        let mut pairs = PAIRS.lock();
        pairs.room_for_one()?;
        if let alloc::collections::btree_map::Entry::Vacant(slot) = pairs.entry(index) {
            slot.insert(pty);
            drop(pairs);
            return Ok(master);
        }
    }
}

/// TIOCGPTPEER: opens the slave of a master's description.
pub fn open_peer(file: &File, flags: u32, creds: &crate::Creds) -> Result<Arc<File>> {
    let pty = &file.ops_as::<Master>().ok_or(Errno::ENOTTY)?.pty;
    let place = Place::Anonymous(pty.node.clone());
    let args = OpenArgs { flags, place: &place, creds };
    let ops = TtyFile::open(pty.tty.clone(), &args, true)?;
    File::new(ops, place, flags)
}

/// The master side's operations.
struct Master {
    pty: Arc<Pty>,
}

impl Drop for Master {
    fn drop(&mut self) {
        let gone = PAIRS.lock().remove(&self.pty.index);
        self.pty.tty.hang_up();
        drop(gone);
    }
}

impl Master {
    /// Some when there is output, or the slave is gone (EIO).
    fn look(&self) -> Option<Result<()>> {
        let link = &self.pty.link;
        if link.news.load(Acquire) != 0 || !link.output.lock().is_empty() {
            return Some(Ok(()));
        }
        link.slave_gone.load(Acquire).then_some(Err(Errno::EIO))
    }
}

impl FileOps for Master {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        if dst.room() == 0 {
            return Ok(0);
        }
        let link = &self.pty.link;
        match self.look() {
            Some(outcome) => outcome?,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => link.readable.wait_interruptible(None, || self.look())??,
        }
        let mut done = 0;
        if link.packet.load(Relaxed) {
            let news = link.news.swap(0, Acquire);
            // 0 is TIOCPKT_DATA: ordinary output follows.
            done += dst.put(&[news])?;
            if news != 0 {
                return Ok(done);
            }
        }
        while dst.room() > 0 {
            let mut chunk = [0; 256];
            let mut n = 0;
            {
                let mut output = link.output.lock();
                let want = dst.room().min(chunk.len());
                while n < want {
                    let Some(byte) = output.pop_front() else { break };
                    chunk[n] = byte;
                    n += 1;
                }
            }
            if n == 0 {
                break;
            }
            match dst.put(&chunk[..n]) {
                Ok(put) => done += put,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.pty.tty.wake_writers();
        Ok(done)
    }

    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        let tty = &self.pty.tty;
        let mut done = 0;
        while src.left() > 0 {
            let mut chunk = [0; 256];
            let want = src.left().min(chunk.len());
            let n = match src.get(&mut chunk[..want]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            let mut sent = 0;
            while sent < n {
                let taken = tty.push(&chunk[sent..n]);
                sent += taken;
                done += taken;
                if taken > 0 {
                    continue;
                }
                if file.nonblocking() {
                    self.pty.link.fasync.want_space();
                    return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
                }
                let ready = || tty.accepts_input().then_some(());
                if let Err(error) = self.pty.link.writable.wait_interruptible(None, ready) {
                    return if done > 0 { Ok(done) } else { Err(error.into()) };
                }
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let link = &self.pty.link;
        if let Some(table) = table {
            table.watch(&link.readable);
            table.watch(&link.writable);
        }
        let mut ready = PollMask::empty();
        if !link.output.lock().is_empty() {
            ready |= PollMask::READABLE;
        }
        if link.news.load(Acquire) != 0 {
            ready |= PollMask::READABLE | PollMask::PRI;
        }
        if link.slave_gone.load(Acquire) {
            ready |= PollMask::HUP;
        }
        if self.pty.tty.accepts_input() {
            ready |= PollMask::WRITABLE;
        }
        ready & (interest | PollMask::ALWAYS)
    }

    fn pollable(&self) -> bool {
        true
    }
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [Some(&self.pty.link.fasync), None]
    }
    fn default_owner(&self) -> Option<u32> {
        Some(0)
    }

    fn ioctl(&self, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let at = VirtAddr::new(arg);
        let link = &self.pty.link;
        let tty = &self.pty.tty;
        match cmd {
            i::TIOCGPTN => user::write(at, &self.pty.index)?,
            i::TIOCSPTLCK => {
                let lock: i32 = user::read(at)?;
                link.unlocked.store(lock == 0, Relaxed);
            }
            i::TIOCGPTLCK => user::write(at, &i32::from(!link.unlocked.load(Relaxed)))?,
            i::TIOCPKT => {
                let on: i32 = user::read(at)?;
                if !link.packet.swap(on != 0, Relaxed) || on == 0 {
                    link.news.store(0, Relaxed);
                }
            }
            i::TIOCGPKT => user::write(at, &i32::from(link.packet.load(Relaxed)))?,
            i::TIOCSIG => {
                let signal = arg as u32;
                if !matches!(signal, 2 | 3 | 20) {
                    return Err(Errno::EINVAL);
                }
                tty.signal_foreground(signal);
            }
            i::FIONREAD => user::write(at, &(link.output.lock().len() as i32))?,
            i::TIOCGPGRP => user::write(at, &tty.foreground())?,
            i::TIOCGSID => match tty.session() {
                0 => return Err(Errno::ENOTTY),
                session => user::write(at, &session)?,
            },
            i::TCFLSH => {
                // Seen from the master, its output is the slave's input.
                let swapped = match arg {
                    0 => 1,
                    1 => 0,
                    other => other,
                };
                tty.flush(swapped)?;
            }
            // The master's input is the slave's output.
            i::TIOCSTI => {
                let byte = super::ioctl::faked_input(at)?;
                link.write(&[byte]);
            }
            i::TIOCSCTTY | i::TIOCNOTTY => return Err(Errno::ENOTTY),
            _ => return tty.ioctl(file, cmd, arg),
        }
        Ok(0)
    }
}

/// A slave's node in devpts.
struct SlaveNode {
    base: InodeBase,
}

impl Inode for SlaveNode {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn anonymous_name(&self) -> alloc::string::String {
        alloc::format!("/dev/pts/{}", self.base.rdev.minor)
    }
}

/// Opens slaves by their device number.
struct Slaves;

impl CharDevice for Slaves {
    fn open(&self, rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        let pty = PAIRS.lock().get(&rdev.minor).cloned().ok_or(Errno::EIO)?;
        if !pty.link.unlocked.load(Relaxed) {
            return Err(Errno::EIO);
        }
        TtyFile::open(pty.tty.clone(), args, true)
    }
}

pub(super) fn register() {
    register_char(DevId::new(SLAVE_MAJOR, 0), MAX, Arc::new(Slaves));
}

/// devpts's root directory: names come and go with the pairs.
struct Root {
    base: InodeBase,
    ptmx: Arc<SlaveNode>,
}

impl Inode for Root {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        // "007" is not the name of 7.
        let pty = PAIRS.lock().get(&index).filter(|_| index.to_string() == text).cloned();
        Ok(pty.ok_or(Errno::ENOENT)?.node.clone())
    }
    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let kind = FileType::Char;
        if from == 0 && !emit(Entry { name: b"ptmx", ino: self.ptmx.base.ino, kind, next: 1 }) {
            return Ok(());
        }
        let first = from.saturating_sub(1) as u32;
        let present: Vec<_> = PAIRS.lock().range(first..).map(|(&index, _)| index).collect();
        for index in present {
            let name = index.to_string();
            let (ino, next) = (index as u64 + 3, index as u64 + 2);
            if !emit(Entry { name: name.as_bytes(), ino, kind, next }) {
                break;
            }
        }
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for Root {
    fn llseek(&self) -> Llseek {
        Llseek::Sequence
    }
}

struct DevPts;

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }
    fn statfs(&self) -> Statfs {
        Statfs::plain(0x1cd1)
    }
    fn options(&self) -> alloc::string::String {
        let group = match NODE_GROUP.load(Relaxed) {
            u32::MAX => alloc::string::String::new(),
            group => alloc::format!(",gid={group}"),
        };
        alloc::format!("{group},mode={:03o},ptmxmode=000", NODE_MODE.load(Relaxed))
    }
}

/// The devpts instance (there is one), with mount options applied to slaves from now on.
pub fn devpts(options: &str) -> Result<Arc<Super>> {
    for word in options.split(',').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL);
        let decimal = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
        match name {
            "mode" => NODE_MODE.store(octal()? & 0o777, Relaxed),
            "gid" => NODE_GROUP.store(decimal()?, Relaxed),
            "uid" | "max" => {
                decimal()?;
            }
            "ptmxmode" => {
                octal()?;
            }
            "newinstance" => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    static INSTANCE: Once<Arc<Super>> = Once::new();
    let sb = INSTANCE.get_or_try_init(|| {
        let dev = device();
        let ptmx = InodeBase::new(dev, 2, g::S_IFCHR | 0o666, 0, 0).with_rdev(DevId::new(5, 2));
        let root = Root {
            base: InodeBase::new(dev, 1, g::S_IFDIR | 0o755, 0, 0),
            ptmx: arc(SlaveNode { base: ptmx })?,
        };
        Super::new(arc(DevPts)?, arc(root)?)
    })?;
    Ok(sb.clone())
}
