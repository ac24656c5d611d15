//! Descriptors of events: reading, requests, polling, mapping.

use super::buffer::Buffer;
use super::event::Event;
use super::settings::{self, Charge};
use ::perf::attr::{Attr, flag, format, kind, size_to_read};
use ::perf::counter::State;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use frames::fallible::lossy;
use fs::fasync::Fasync;
use fs::file::Seek;
use fs::{File, FileOps, PollMask, PollTable};
use hal::VirtAddr;
use hal::user::Sink;
use sync::Mutex;
use vm::map::What;
use vm::{MappedFile, PAGE};

/// What stands behind the descriptor: with it the event goes.
pub struct PerfFile {
    pub event: Arc<Event>,
    /// One mapping, or change of output, at a time.
    mapping: Mutex<()>,
}

impl PerfFile {
    /// Around a new event.
    pub fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self { event, mapping: Mutex::new(()) })
    }
}

impl Drop for PerfFile {
    fn drop(&mut self) {
        self.event.close();
    }
}

/// Requests (`_IO('$', n)` and relatives).
mod request {
    pub const ENABLE: u32 = 0x2400;
    pub const DISABLE: u32 = 0x2401;
    pub const REFRESH: u32 = 0x2402;
    pub const RESET: u32 = 0x2403;
    pub const PERIOD: u32 = 0x4008_2404;
    pub const SET_OUTPUT: u32 = 0x2405;
    pub const SET_FILTER: u32 = 0x4008_2406;
    pub const ID: u32 = 0x8008_2407;
    pub const SET_BPF: u32 = 0x4004_2408;
    pub const PAUSE_OUTPUT: u32 = 0x4004_2409;
    pub const QUERY_BPF: u32 = 0xc008_240a;
    pub const MODIFY_ATTRIBUTES: u32 = 0x4008_240b;
}

/// The argument bit that means the whole group.
const GROUP: u64 = 1;

impl PerfFile {
    /// Calls `f` for the event, or all of its group, and everything inherited from them.
    fn each(&self, group: bool, f: impl Fn(&Arc<Event>)) -> Result<()> {
        let leader = match &self.event.leader {
            Some(leader) if group => leader.clone(),
            _ => self.event.clone(),
        };
        let one = |event: &Arc<Event>| {
            event.each_of_family(&f);
            refresh_page(event);
        };
        if group {
            leader.members()?.iter().for_each(one)
        } else {
            one(&leader)
        }
        Ok(())
    }

    fn set_enabled(&self, group: bool, on: bool) -> Result<()> {
        self.each(group, |event| {
            if let Some(context) = event.context() {
                context.set_enabled(event.id, on);
            }
        })
    }

    fn set_period(&self, value: u64) -> Result<()> {
        let attr = &self.event.attr;
        if !attr.is_sampling() || value == 0 {
            return Err(Errno::EINVAL);
        }
        Attr { sample_period: value, ..*attr }.check_rate(settings::max_rate())?;
        self.event.each_of_family(|event| {
            event.rate.store(value, Relaxed);
            if let Some(context) = event.context() {
                context.set_period(event.id, value);
            }
        });
        Ok(())
    }

    fn set_output(&self, other: Option<&PerfFile>) -> Result<()> {
        let _one = self.mapping.lock();
        let event = &self.event;
        if event.output().is_some_and(|b| b.maps.load(Relaxed) > 0 && owns(event, &b)) {
            return Err(Errno::EINVAL);
        }
        let Some(other) = other else {
            event.set_output(None);
            return Ok(());
        };
        let target = &other.event;
        let same_task = match (event.context(), target.context()) {
            (Some(a), Some(b)) => a.same_target(&b),
            _ => false,
        };
        let clocks = |e: &Event| (e.attr.has(flag::USE_CLOCKID), e.attr.clockid);
        let backward = |e: &Event| e.attr.has(flag::WRITE_BACKWARD);
        if Arc::ptr_eq(event, target)
            || event.cpu != target.cpu
            || event.cpu.is_none() && !same_task
            || clocks(event) != clocks(target)
            || backward(event) != backward(target)
        {
            return Err(Errno::EINVAL);
        }
        let buffer = target.output().ok_or(Errno::EINVAL)?;
        event.set_output(Some(buffer));
        Ok(())
    }

    /// What mmap(2) maps: `len` bytes from offset `off`. EINVAL for a shape that a buffer cannot
    /// have, EPERM above the limit of locked memory.
    pub fn map(
        &self,
        file: &Arc<File>,
        len: u64,
        off: u64,
        shared: bool,
        write: bool,
    ) -> Result<What> {
        let event = &self.event;
        if event.cpu.is_none() && event.attr.has(flag::INHERIT) || !shared || off != 0 {
            return Err(Errno::EINVAL);
        }
        let pages = len.div_ceil(PAGE);
        let data = pages.checked_sub(1).ok_or(Errno::EINVAL)?;
        if data != 0 && !data.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let _one = self.mapping.lock();
        let present = event.output();
        let (buffer, charge) = match present {
            Some(buffer) if buffer.data_pages() != data => return Err(Errno::EINVAL),
            Some(buffer) => (buffer, None),
            None => {
                let charge = Charge::new(pages)?;
                let buffer = Buffer::new(event, data, write)?;
                event.set_output(Some(buffer.clone()));
                (buffer, Some(charge))
            }
        };
        buffer.maps.fetch_add(1, AcqRel);
        refresh_page(event);
        let object = buffer.pages.object.clone();
        let mapping = Mapping { file: file.clone(), event: event.clone(), buffer, _charge: charge };
        let may_write = write;
        Ok(What::Object { object, file: Some(Arc::new(mapping)), pgoff: 0, shared, may_write })
    }
}

/// The event's buffer was mapped through the event itself, not through another's.
fn owns(event: &Arc<Event>, buffer: &Arc<Buffer>) -> bool {
    buffer.owner.load(Relaxed) == event.id
}

/// Brings an event's control page up to date, if it has one of its own.
fn refresh_page(event: &Arc<Event>) {
    if let Some(buffer) = event.output()
        && owns(event, &buffer)
    {
        // Without memory the page tells what it told.
        if let Ok(now) = event.read() {
            buffer.update(now.value, now.enabled, now.running);
        }
    }
}

/// A mapping of a buffer, as its area keeps it. With the last one the buffer leaves the event.
struct Mapping {
    file: Arc<File>,
    event: Arc<Event>,
    buffer: Arc<Buffer>,
    _charge: Option<Charge>,
}

impl MappedFile for Mapping {
    fn path(&self) -> Result<String> {
        lossy(self.file.place().text(None)?)
    }
    fn id(&self) -> (u64, u64) {
        let meta = self.file.metadata();
        (meta.dev.encode(), meta.ino)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.buffer.maps.fetch_sub(1, AcqRel) == 1 {
            self.event.drop_output(&self.buffer);
        }
    }
}

impl FileOps for PerfFile {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, _file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        let event = &self.event;
        let pinned = event.attr.has(flag::PINNED);
        if pinned && event.context().and_then(|c| c.state_of(event.id)) == Some(State::Error) {
            return Ok(0);
        }
        let group = event.attr.read_format & format::GROUP != 0;
        let members = if group { event.members()?.len() } else { 1 };
        if dst.room() < event.attr.read_size(members) {
            return Err(Errno::ENOSPC);
        }
        let words = event.words()?;
        dst.put_all(hal::user::slice_bytes(&words))?;
        refresh_page(event);
        Ok(words.len() * 8)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let event = &self.event;
        let buffer = event.output();
        if let Some(table) = table {
            table.watch(&event.waiters);
            if let Some(buffer) = &buffer {
                table.watch(&buffer.waiters);
            }
        }
        if event.hup.load(Relaxed) {
            return PollMask::HUP;
        }
        match buffer {
            None => PollMask::HUP,
            Some(buffer) => buffer.take_ready() & (interest | PollMask::ALWAYS),
        }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [Some(&self.event.fasync), None]
    }

    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let event = &self.event;
        let group = arg & GROUP != 0;
        match cmd {
            request::ENABLE => self.set_enabled(group, true)?,
            request::DISABLE => self.set_enabled(group, false)?,
            request::RESET => {
                self.each(group, |event| match event.context() {
                    Some(context) => context.reset(event),
                    None => event.count.store(0, Relaxed),
                })?;
            }
            request::REFRESH => {
                if event.attr.has(flag::INHERIT) || !event.attr.is_sampling() {
                    return Err(Errno::EINVAL);
                }
                event.limit.fetch_add(i64::from(arg as i32), Relaxed);
                self.set_enabled(false, true)?;
            }
            request::PERIOD => self.set_period(hal::user::read(VirtAddr::new(arg))?)?,
            request::ID => hal::user::write(VirtAddr::new(arg), &event.id)?,
            request::SET_OUTPUT if arg as i32 == -1 => self.set_output(None)?,
            request::SET_OUTPUT => {
                let files = crate::task::current().files.lock().clone();
                let other = files.get(arg as i32)?;
                self.set_output(Some(other.ops_as::<PerfFile>().ok_or(Errno::EBADF)?))?;
            }
            request::PAUSE_OUTPUT => {
                let buffer = event.output().filter(|b| b.data_pages() > 0).ok_or(Errno::EINVAL)?;
                buffer.pause(arg != 0);
            }
            request::MODIFY_ATTRIBUTES => {
                let attr = read_attr(VirtAddr::new(arg))?;
                // Only breakpoints can be changed, and there are none.
                let differs = attr.kind != event.attr.kind || attr.kind == kind::BREAKPOINT;
                return Err(if differs { Errno::EINVAL } else { Errno::EOPNOTSUPP });
            }
            // There are no tracepoints to filter, and no programs to attach.
            request::SET_FILTER | request::SET_BPF | request::QUERY_BPF => {
                return Err(Errno::EINVAL);
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

/// Reads a caller's attribute; a size that does not fit gets the known one written back (E2BIG).
pub fn read_attr(at: VirtAddr) -> Result<Attr> {
    let told: u32 = hal::user::read(at + 4)?;
    let read = || -> Result<Attr> {
        let size = size_to_read(told)?;
        let mut bytes = alloc::vec![0; size as usize];
        hal::user::copy_from(&mut bytes, at)?;
        Attr::parse(&bytes)
    };
    read().inspect_err(|error| {
        if *error == Errno::E2BIG {
            // The caller's structure was readable; if it cannot be written the error says enough.
            let _ = hal::user::write(at + 4, &::perf::attr::SIZE);
        }
    })
}
