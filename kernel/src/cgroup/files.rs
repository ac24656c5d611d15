//! The files of a group: what there is where, and reading, writing and waiting for them.

use super::{CHANGES, Groups, groups, show, store};
use abi::{Errno, PAGE_SIZE, Result};
use alloc::sync::Arc;
use cgroup::{Controller, Id, ROOT};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use frames::fallible::{arc, filled};
use fs::file::{File, Llseek};
use fs::inode::{Inode, InodeBase, OpenArgs, SetAttr};
use fs::poll::{PollMask, PollTable};
use fs::pseudo::{News, Text};
use fs::{Creds, FileOps};
use hal::user::{Sink, Source};
use sync::Mutex;

/// Where a file stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum In {
    All,
    NotRoot,
}

type Show = fn(&Groups, Id, &mut Text) -> Result<()>;
type Store = fn(&Write<'_>, &str) -> Result<()>;

/// A kind of file.
pub struct Entry {
    pub name: &'static str,
    pub mode: u32,
    place: In,
    pub controller: Option<Controller>,
    show: Option<Show>,
    store: Option<Store>,
    news: Option<fn(&super::dir::GroupDir) -> &News>,
}

/// What a write is about.
pub struct Write<'a> {
    pub group: Id,
    /// Who opened the file.
    pub creds: &'a Creds,
}

const fn text(name: &'static str, place: In, show: Show) -> Entry {
    Entry { name, mode: 0o444, place, controller: None, show: Some(show), store: None, news: None }
}

const fn setting(name: &'static str, place: In, show: Show, store: Store) -> Entry {
    Entry { mode: 0o644, store: Some(store), ..text(name, place, show) }
}

const fn of(controller: Controller, entry: Entry) -> Entry {
    Entry { controller: Some(controller), ..entry }
}

const CPUSET: Controller = Controller::Cpuset;
const PIDS: Controller = Controller::Pids;

/// The files, in the order in which they are listed.
pub const ENTRIES: &[Entry] = &[
    text("cgroup.controllers", In::All, show::controllers),
    Entry { news: Some(|dir| &dir.events), ..text("cgroup.events", In::NotRoot, show::events) },
    setting("cgroup.freeze", In::NotRoot, show::freeze, store::freeze),
    Entry {
        mode: 0o200,
        show: None,
        ..setting("cgroup.kill", In::NotRoot, show::events, store::kill)
    },
    setting("cgroup.max.depth", In::All, show::max_depth, store::max_depth),
    setting("cgroup.max.descendants", In::All, show::max_descendants, store::max_descendants),
    setting("cgroup.procs", In::All, show::procs, store::procs),
    text("cgroup.stat", In::All, show::stat),
    setting("cgroup.subtree_control", In::All, show::subtree_control, store::subtree_control),
    setting("cgroup.threads", In::All, show::threads, store::threads),
    setting("cgroup.type", In::NotRoot, show::kind, store::kind),
    of(CPUSET, setting("cpuset.cpus", In::NotRoot, show::cpus, store::cpus)),
    of(CPUSET, text("cpuset.cpus.effective", In::All, show::cpus_effective)),
    of(CPUSET, setting("cpuset.mems", In::NotRoot, show::mems, store::mems)),
    of(CPUSET, text("cpuset.mems.effective", In::All, show::mems_effective)),
    of(PIDS, text("pids.current", In::NotRoot, show::pids_current)),
    of(
        PIDS,
        Entry {
            news: Some(|dir| &dir.pids_events),
            ..text("pids.events", In::NotRoot, show::pids_events)
        },
    ),
    of(PIDS, text("pids.events.local", In::NotRoot, show::pids_events_local)),
    of(PIDS, setting("pids.max", In::NotRoot, show::pids_max, store::pids_max)),
    of(PIDS, text("pids.peak", In::NotRoot, show::pids_peak)),
];

impl Entry {
    /// Whether a group has this file.
    pub fn is_in(&self, groups: &Groups, id: Id) -> bool {
        let here = match self.place {
            In::All => true,
            In::NotRoot => id != ROOT,
        };
        here && self.controller.is_none_or(|controller| groups.controllers(id).has(controller))
    }
}

/// A file of a group.
pub struct GroupFile {
    pub base: InodeBase,
    pub group: Id,
    pub entry: &'static Entry,
    /// The group has lost the controller since.
    ended: AtomicBool,
}

impl Inode for GroupFile {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        // Truncation (of "echo x > file") means nothing.
        self.base.apply(change);
        Ok(())
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        // What cannot be read or written says so then, not here.
        let groups = groups();
        self.check(&groups).map_err(|_| Errno::ENOENT)?;
        let group = groups.group(self.group)?;
        let seen = AtomicU64::new(self.news(&group.data.dir).map_or(0, News::seen));
        let opened = Opened {
            file: self,
            creds: args.creds.clone(),
            text: Mutex::new(Text::default()),
            seen,
        };
        Ok(arc(opened)?)
    }
}

impl GroupFile {
    /// A file of a group.
    pub const fn new(base: InodeBase, group: Id, entry: &'static Entry) -> Self {
        Self { base, group, entry, ended: AtomicBool::new(false) }
    }

    /// Its controller is gone; another file of this name may come.
    pub fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    fn news<'a>(&self, dir: &'a super::dir::GroupDir) -> Option<&'a News> {
        self.entry.news.map(|news| news(dir))
    }

    /// ENODEV when the group has the file no more.
    fn check(&self, groups: &Groups) -> Result<()> {
        groups.group(self.group)?;
        let there = !self.ended.load(Relaxed) && self.entry.is_in(groups, self.group);
        if there { Ok(()) } else { Err(Errno::ENODEV) }
    }
}

/// One opening.
struct Opened {
    file: Arc<GroupFile>,
    creds: Creds,
    /// What was made of the text when it was read from its begin.
    text: Mutex<Text>,
    /// Changes that were read.
    seen: AtomicU64,
}

impl FileOps for Opened {
    fn llseek(&self) -> Llseek {
        Llseek::Sequence
    }

    fn pollable(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let show = self.file.entry.show.ok_or(Errno::EINVAL)?;
        let mut text = self.text.lock();
        if at == 0 {
            let groups = groups();
            self.file.check(&groups)?;
            if let Some(news) = self.file.news(&groups.group(self.file.group)?.data.dir) {
                self.seen.store(news.seen(), Relaxed);
            }
            *text = Text::default();
            show(&groups, self.file.group, &mut text)?;
            text.whole()?;
        }
        let rest = text.as_bytes().get(at as usize..).unwrap_or_default();
        if rest.is_empty() { Ok(0) } else { dst.put(rest) }
    }

    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        let store = self.file.entry.store.ok_or(Errno::EINVAL)?;
        let mut data = filled(0, src.left().min(PAGE_SIZE))?;
        if data.is_empty() {
            return Ok(0);
        }
        let n = src.get(&mut data)?;
        // As a string of C: what is behind a zero is not looked at.
        let end = data[..n].iter().position(|byte| *byte == 0).unwrap_or(n);
        let text = core::str::from_utf8(&data[..end]).map_err(|_| Errno::EINVAL)?;
        {
            let _changes = CHANGES.lock();
            self.file.check(&groups())?;
            store(&Write { group: self.file.group, creds: &self.creds }, text.trim())?;
        }
        store::after(self.file.entry.name, file);
        Ok(n)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let ready = PollMask::READABLE | PollMask::WRITABLE;
        let dir = groups().group(self.file.group).map(|group| group.data.dir.clone());
        let Ok(dir) = dir else { return PollMask::ERR | PollMask::PRI | (ready & interest) };
        let Some(news) = self.file.news(&dir) else { return ready & interest };
        if let Some(table) = table {
            news.watch(table);
        }
        let changed = news.seen() != self.seen.load(Relaxed);
        let told = if changed { PollMask::ERR | PollMask::PRI } else { PollMask::empty() };
        (ready | told) & (interest | PollMask::ALWAYS)
    }
}
