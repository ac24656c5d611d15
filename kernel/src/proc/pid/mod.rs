//! The directory of a process, and those of its threads.
//!
//! Inodes are made at each lookup and hold nothing alive: they name the process, and every read
//! finds it anew (ESRCH when it is gone).

mod attributes;
mod fd;
mod limits;
mod links;
mod memory;
mod mounts;
mod raw;
mod scheduling;
mod stat;
mod status;
mod task;
mod where_it_is;
mod who;

use memory::{Areas, OfAreas};
pub use stat::ticks;
pub use who::{Who, creds_of};

use crate::access::{self, Mode};
use crate::task::Process;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::FileOps;
use fs::file::Llseek;
use fs::inode::{Inode, InodeBase, Link, OpenArgs};
use fs::pseudo::{Access, DirSource, DynDir, DynLink, Listed, PseudoFs, Store, Text, TextFile};
use fs::stat::FileType;

type Show = fn(&Who, &mut Text) -> Result<()>;
type Set = fn(&Who, &[u8]) -> Result<()>;

/// What an entry is.
enum Make {
    /// Text that everybody may read.
    Text(Show),
    /// Text about its memory, for those who may look into the process; ESRCH when that is gone.
    OfMemory(Show),
    /// The same, about its areas: nothing when they are gone.
    Areas(&'static OfAreas),
    /// Text about what is mounted, of which changes are told.
    OfMounts(Show),
    /// Text that can be written.
    Attribute(Show, Set),
    /// A link to an object.
    Link(fn(&Who) -> Result<Link>),
    /// Anything else: made of the file system, whom it is about, and attributes.
    Other(fn(&Arc<PseudoFs>, Who, InodeBase) -> Arc<dyn Inode>),
}

/// In whose directories an entry stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Both,
    Process,
    Thread,
}

struct Entry {
    name: &'static str,
    mode: u32,
    place: In,
    make: Make,
}

const fn entry(name: &'static str, mode: u32, place: In, make: Make) -> Entry {
    Entry { name, mode, place, make }
}

const DIR: u32 = g::S_IFDIR;
const FILE: u32 = g::S_IFREG;
const LINK: u32 = g::S_IFLNK | 0o777;

const ENTRIES: &[Entry] = &[
    entry("task", DIR | 0o555, In::Process, Make::Other(task::directory)),
    entry("fd", DIR | 0o500, In::Both, Make::Other(fd::directory)),
    entry("fdinfo", DIR | 0o555, In::Both, Make::Other(fd::info_directory)),
    entry("net", DIR | 0o555, In::Both, Make::Other(crate::proc::net::directory)),
    entry("ns", DIR | 0o511, In::Both, Make::Other(links::namespaces)),
    entry("environ", FILE | 0o400, In::Both, Make::OfMemory(raw::environ)),
    entry("auxv", FILE | 0o400, In::Both, Make::OfMemory(raw::auxv)),
    entry("status", FILE | 0o444, In::Both, Make::Text(status::show)),
    entry("personality", FILE | 0o400, In::Both, Make::Text(attributes::personality)),
    entry("limits", FILE | 0o444, In::Both, Make::Text(limits::show)),
    entry("sched", FILE | 0o444, In::Both, Make::Text(scheduling::sched)),
    entry("comm", FILE | 0o644, In::Both, Make::Attribute(attributes::comm, attributes::set_comm)),
    entry("syscall", FILE | 0o400, In::Both, Make::Text(where_it_is::syscall)),
    entry("io", FILE | 0o400, In::Both, Make::Text(attributes::io)),
    entry("cmdline", FILE | 0o444, In::Both, Make::Text(raw::cmdline)),
    entry("stat", FILE | 0o444, In::Both, Make::Text(stat::show)),
    entry("statm", FILE | 0o444, In::Both, Make::Text(stat::statm)),
    entry("maps", FILE | 0o444, In::Both, Make::Areas(&memory::MAPS)),
    entry("numa_maps", FILE | 0o444, In::Both, Make::Areas(&memory::NUMA_MAPS)),
    entry("numa_pages", FILE | 0o444, In::Both, Make::Areas(&memory::NUMA_PAGES)),
    entry(
        "keep_memory",
        FILE | 0o600,
        In::Process,
        Make::Attribute(attributes::keep_memory, attributes::set_keep_memory),
    ),
    entry("smaps", FILE | 0o444, In::Both, Make::Areas(&memory::SMAPS)),
    entry("smaps_rollup", FILE | 0o444, In::Both, Make::OfMemory(memory::smaps_rollup)),
    entry("mem", FILE | 0o600, In::Both, Make::Other(raw::mem)),
    entry("pagemap", FILE | 0o400, In::Both, Make::Other(raw::pagemap)),
    entry("clear_refs", FILE | 0o200, In::Both, Make::Attribute(raw::no_text, raw::clear_refs)),
    entry("cwd", LINK, In::Both, Make::Link(links::cwd)),
    entry("root", LINK, In::Both, Make::Link(links::root)),
    entry("exe", LINK, In::Both, Make::Link(links::exe)),
    entry("mounts", FILE | 0o444, In::Both, Make::OfMounts(mounts::mounts)),
    entry("mountinfo", FILE | 0o444, In::Both, Make::OfMounts(mounts::mountinfo)),
    entry("wchan", FILE | 0o444, In::Both, Make::Text(where_it_is::wchan)),
    entry("stack", FILE | 0o400, In::Both, Make::Text(where_it_is::stack)),
    entry("schedstat", FILE | 0o444, In::Both, Make::Text(scheduling::schedstat)),
    entry("cpuset", FILE | 0o444, In::Both, Make::Text(attributes::cpuset)),
    entry("cgroup", FILE | 0o444, In::Both, Make::Text(attributes::cgroup)),
    #[cfg(feature = "checks")]
    entry("fail-nth", FILE | 0o644, In::Both, Make::Other(crate::proc::faults::fail_nth)),
    entry("oom_score", FILE | 0o444, In::Both, Make::Text(attributes::oom_score)),
    entry(
        "oom_score_adj",
        FILE | 0o644,
        In::Both,
        Make::Attribute(attributes::oom_score_adj, attributes::set_oom_score_adj),
    ),
    entry("loginuid", FILE | 0o444, In::Both, Make::Text(attributes::no_login)),
    entry("sessionid", FILE | 0o444, In::Both, Make::Text(attributes::no_login)),
    entry("coredump_filter", FILE | 0o444, In::Process, Make::Text(attributes::coredump_filter)),
    entry("uid_map", FILE | 0o444, In::Both, Make::Text(attributes::id_map)),
    entry("gid_map", FILE | 0o444, In::Both, Make::Text(attributes::id_map)),
    entry("projid_map", FILE | 0o444, In::Both, Make::Text(attributes::id_map)),
    entry("setgroups", FILE | 0o444, In::Both, Make::Text(attributes::setgroups)),
    entry(
        "timerslack_ns",
        FILE | 0o666,
        In::Process,
        Make::Attribute(attributes::timerslack, attributes::set_timerslack),
    ),
    entry("children", FILE | 0o444, In::Thread, Make::Text(task::children)),
];

/// Inode number of entry `index` (0: the directory itself) of whom it is about. Kinds of numbers
/// lie in ranges of their own, above those that the file system gives out.
pub fn ino(who: &Who, index: usize) -> u64 {
    let kind = if who.is_thread() { 1 << 46 } else { 1 << 40 };
    kind | (who.id() as u64) << 8 | index as u64
}

/// Attributes of an entry: the process's effective user owns it, or root where the process does
/// not want to be looked into.
fn base(fs: &Arc<PseudoFs>, who: &Who, number: u64, mode: u32) -> InodeBase {
    let (uid, gid) = who.owner(mode);
    fs.base_with(number, mode, uid, gid)
}

/// The directory of a process or thread.
pub fn directory(fs: &Arc<PseudoFs>, who: Who) -> Result<Arc<dyn Inode>> {
    let base = base(fs, &who, ino(&who, 0), DIR | 0o555);
    Ok(DynDir::new(base, Names { fs: fs.clone(), who }))
}

/// The process whose directory /proc/PID a file was opened on, ESRCH when it is gone; None for any
/// other file, a thread's directory included.
pub fn process_of_directory(file: &fs::File) -> Option<Result<Arc<Process>>> {
    let names = file.ops_as::<DynDir>()?.source_as::<Names>()?;
    (!names.who.is_thread()).then(|| names.who.find())
}

struct Names {
    fs: Arc<PseudoFs>,
    who: Who,
}

impl Names {
    fn stands_here(&self, entry: &Entry) -> bool {
        entry.place == In::Both || (entry.place == In::Thread) == self.who.is_thread()
    }

    fn make(&self, index: usize, entry: &Entry) -> Arc<dyn Inode> {
        let (fs, who) = (&self.fs, self.who.clone());
        let base = base(fs, &who, ino(&who, index + 1), entry.mode);
        match entry.make {
            Make::Text(show) => text(fs, base, place(entry.name), who, show, None),
            Make::OfMemory(show) => {
                let fs = fs.clone();
                let content = Told::Whole(show);
                Arc::new(Private { base, llseek: place(entry.name), fs, who, content })
            }
            Make::Areas(of) => {
                let (fs, content) = (fs.clone(), Told::Areas(of));
                Arc::new(Private { base, llseek: place(entry.name), fs, who, content })
            }
            Make::OfMounts(show) => {
                let access = Access::of_process(place(entry.name)).telling(&::fs::mount::NEWS);
                TextFile::with_base(fs, base, access, Box::new(move |out| show(&who, out)), None)
            }
            Make::Attribute(show, set) => text(fs, base, place(entry.name), who, show, Some(set)),
            Make::Link(target) => DynLink::with_base(base, 0, move || target(&who)),
            Make::Other(make) => make(fs, who, base),
        }
    }
}

/// A text for those who may look into the process. It tells of the memory that the process had when
/// the file was opened: nothing after an exec, which may have made it a more privileged one.
struct Private {
    base: InodeBase,
    llseek: Llseek,
    fs: Arc<PseudoFs>,
    who: Who,
    content: Told,
}

/// How a private text is made.
#[derive(Clone, Copy)]
enum Told {
    Whole(Show),
    Areas(&'static OfAreas),
}

impl Inode for Private {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        let process = self.who.find()?;
        let who = self.who.with_memory()?;
        // Of what has no memory there is nothing to be seen.
        if who.mm()?.is_some() || process.kept.lock().is_some() {
            access::check(&process, Mode::ReadFs)?;
        } else if matches!(self.content, Told::Whole(_)) {
            return Err(Errno::ESRCH);
        }
        let base = InodeBase::new(
            self.base.dev,
            self.base.ino,
            self.base.mode(),
            self.base.uid(),
            self.base.gid(),
        );
        let file = match self.content {
            Told::Whole(show) => text(&self.fs, base, self.llseek, who, show, None),
            Told::Areas(of) => {
                TextFile::pieces(&self.fs, base, Access::of_process(self.llseek), move || {
                    Ok(Box::new(Areas { who: who.clone(), of, next: Some(0) }))
                })
            }
        };
        file.open(args)
    }
}

/// Where an entry may be read: most are sequences.
fn place(name: &str) -> Llseek {
    match name {
        "environ" | "auxv" | "cmdline" | "loginuid" | "sessionid" | "coredump_filter" => {
            Llseek::Small
        }
        "oom_score_adj" => Llseek::File,
        _ => Llseek::Sequence,
    }
}

fn text(
    fs: &Arc<PseudoFs>,
    base: InodeBase,
    llseek: Llseek,
    who: Who,
    show: Show,
    set: Option<Set>,
) -> Arc<TextFile> {
    let writer = who.clone();
    let store = set.map(|set| -> Store { Box::new(move |data| set(&writer, data)) });
    let access = Access::of_process(llseek);
    TextFile::with_base(fs, base, access, Box::new(move |out| show(&who, out)), store)
}

impl DirSource for Names {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.who.find()?;
        ENTRIES
            .iter()
            .enumerate()
            .find(|(_, entry)| entry.name.as_bytes() == name && self.stands_here(entry))
            .map(|(index, entry)| self.make(index, entry))
            .ok_or(Errno::ENOENT)
    }

    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>> {
        if self.who.find().is_err() {
            return Ok(None);
        }
        let found = ENTRIES
            .iter()
            .enumerate()
            .skip(from as usize)
            .find(|(_, entry)| self.stands_here(entry));
        Ok(found.map(|(index, entry)| {
            let listed = Listed {
                name: entry.name.into(),
                ino: ino(&self.who, index + 1),
                kind: FileType::from_mode(entry.mode).unwrap_or(FileType::Regular),
            };
            (index as u64, listed)
        }))
    }
}
