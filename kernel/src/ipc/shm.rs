//! Shared memory segments (shmget(2)): a memory object with a key.
//!
//! How often a segment is attached is the number of areas that map it, so fork, exec, exit and
//! munmap need not tell anybody. A segment that was removed lives in its mappings alone.

use super::{Object, Objects, Perm, cmd, now, write_words};
use crate::creds;
use crate::proc::put;
use crate::task::current;
use crate::task::process::limit;
use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use frames::fallible::{TryVec, arc, text};
use frames::hugetlb::subpool;
use fs::Cap;
use fs::pseudo::Text;
use hal::VirtAddr;
use sync::SpinLock;
use vm::commit;
use vm::map::{Place, What};
use vm::vma::VmaFlags;
use vm::{MappedFile, MemObject, ObjectKind, PAGE};

/// Limits, as Linux has them.
const MAX_BYTES: u64 = u64::MAX - (1 << 24);
const MAX_PAGES: u64 = u64::MAX - (1 << 24);
const MAX_SEGMENTS: usize = 4096;

/// Bits of the mode beyond permissions: removed but attached, locked.
const DEST: u32 = 0o1000;
const LOCKED: u32 = 0o2000;

/// Flags of shmat(2).
const RDONLY: u32 = 0o10000;
const RND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const EXEC: u32 = 0o100_000;

/// Of shmget(2): huge pages, whose size the bits from MAP_HUGE_SHIFT on name.
const HUGETLB: u32 = 0o4000;

/// SHM_LOCK, SHM_UNLOCK, SHM_STAT, SHM_INFO, SHM_STAT_ANY.
const LOCK: i32 = 11;
const UNLOCK: i32 = 12;
const STAT: i32 = 13;
const INFO: i32 = 14;
const STAT_ANY: i32 = 15;

static SEGMENTS: Objects<Segment> = Objects::new(MAX_SEGMENTS);

struct Segment {
    size: u64,
    creator: i32,
    object: Weak<MemObject>,
    state: SpinLock<State>,
}

struct State {
    perm: Perm,
    /// Keeps the memory until the segment is removed.
    keep: Option<Arc<MemObject>>,
    attached: i64,
    detached: i64,
    changed: i64,
    last: i32,
}

impl Object for Segment {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
    fn is_gone(&self) -> bool {
        self.object.strong_count() == 0
    }
}

impl Segment {
    fn attaches(&self) -> u64 {
        self.object.upgrade().map_or(0, |object| object.areas())
    }

    fn resident(&self) -> u64 {
        self.object.upgrade().map_or(0, |object| object.resident_pages())
    }

    fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE)
    }

    /// `struct shmid64_ds`.
    fn words(&self) -> [u64; 14] {
        let attaches = self.attaches();
        let state = self.state.lock();
        let mut words = [0; 14];
        words[..6].copy_from_slice(&state.perm.words());
        words[6] = self.size;
        words[7] = state.attached as u64;
        words[8] = state.detached as u64;
        words[9] = state.changed as u64;
        words[10] = u64::from(self.creator as u32) | u64::from(state.last as u32) << 32;
        words[11] = attaches;
        words
    }
}

/// The segment as maps shows it.
struct Name {
    key: i32,
    id: i32,
}

impl MappedFile for Name {
    fn path(&self) -> Result<String> {
        text(format_args!("/SYSV{:08x} (deleted)", self.key))
    }
    fn id(&self) -> (u64, u64) {
        (1, self.id as u64)
    }
    fn counts_areas(&self) -> bool {
        true
    }
}

/// shmget(2).
pub fn get(key: i32, size: u64, flags: u32) -> Result<i32> {
    let fits = |s: &Segment| if size > s.size { Err(Errno::EINVAL) } else { Ok(()) };
    let id = SEGMENTS.get(key, flags, fits, |perm| {
        if size == 0 || size > MAX_BYTES {
            return Err(Errno::EINVAL);
        }
        let used: u64 = SEGMENTS.all().map(|s| s.pages()).sum();
        if used.saturating_add(size.div_ceil(PAGE)) > MAX_PAGES {
            return Err(Errno::ENOSPC);
        }
        const NORESERVE: u32 = 0o10000;
        let object = if flags & HUGETLB != 0 {
            huge(size, flags, flags & NORESERVE == 0)?
        } else {
            let reserve = flags & NORESERVE == 0 || commit::mode() == commit::Mode::Never;
            MemObject::sized(ObjectKind::SysV, size.next_multiple_of(PAGE), reserve)?
        };
        let state = State {
            perm,
            keep: Some(object.clone()),
            attached: 0,
            detached: 0,
            changed: now(),
            last: 0,
        };
        Ok(Segment {
            size,
            creator: current().pid(),
            object: Arc::downgrade(&object),
            state: SpinLock::new(state),
        })
    })?;
    // Its inode's number is the id. (A private one is not to be found by others before this.)
    if let Some(object) = SEGMENTS.find(id).ok().and_then(|s| s.object.upgrade()) {
        object.set_number(id as u64);
    }
    Ok(id)
}

/// The memory of a segment of huge pages, reserved if `reserve`. EINVAL for a size of pages that
/// there is not, EPERM without CAP_IPC_LOCK and outside of vm.hugetlb_shm_group, ENOMEM.
fn huge(size: u64, flags: u32, reserve: bool) -> Result<Arc<MemObject>> {
    crate::hugetlb::check_size(flags)?;
    let size = size.checked_next_multiple_of(vm::HUGE).ok_or(Errno::ENOMEM)?;
    let group = vm::hugetlb::SHM_GROUP.load(Relaxed);
    if !creds::capable(Cap::IpcLock) && !current().credentials().fs.in_group(group) {
        return Err(Errno::EPERM);
    }
    let object = MemObject::of_huge_pages(ObjectKind::SysV, subpool::NONE, size)?;
    if let Some(huge) = object.huge().filter(|_| reserve) {
        huge.reserve(0, size / PAGE)?;
    }
    Ok(object)
}

/// shmat(2): where it is attached.
pub fn attach(id: i32, addr: u64, flags: u32) -> Result<u64> {
    let rounded = if flags & RND != 0 { addr & !(PAGE - 1) } else { addr };
    if rounded % PAGE != 0 || rounded == 0 && flags & REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let segment = SEGMENTS.find(id)?;
    let read_only = flags & RDONLY != 0;
    let wanted = if read_only { super::READ } else { super::READ | super::WRITE };
    let executes = if flags & EXEC != 0 { 0o111 } else { 0 };
    segment.perm().check(wanted | executes)?;
    let object = segment.object.upgrade().ok_or(Errno::EIDRM)?;
    let mut prot = if read_only { Prot::READ } else { Prot::READ | Prot::WRITE };
    if flags & EXEC != 0 {
        prot |= Prot::EXEC;
    }
    let place = match rounded {
        0 => Place::Hint(0),
        at if flags & REMAP != 0 => Place::Fixed(at),
        at => Place::FixedNoReplace(at),
    };
    let len = object.len();
    let name = Name { key: segment.perm().key, id };
    let what = What::Object {
        object,
        file: Some(arc(name)?),
        pgoff: 0,
        shared: true,
        may_write: !read_only,
    };
    let task = current();
    let mm = task.mm().ok_or(Errno::EINVAL)?.clone();
    let at = mm
        .map(place, len, prot, VmaFlags::empty(), what)
        .map_err(|e| if e == Errno::EEXIST { Errno::EINVAL } else { e })?;
    let mut state = segment.state.lock();
    state.attached = now();
    state.last = task.pid();
    Ok(at)
}

/// shmdt(2): every area that the attachment at `addr` is made of.
pub fn detach(addr: u64) -> Result<()> {
    let task = current();
    let mm = task.mm().ok_or(Errno::EINVAL)?.clone();
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let (parts, object) = {
        let vmas = mm.vmas.read();
        let mut found: Option<Arc<MemObject>> = None;
        let mut parts = Vec::new();
        for vma in vmas.iter().skip_while(|v| v.end <= addr) {
            let Some(object) = vma.object().filter(|o| o.kind() == ObjectKind::SysV) else {
                continue;
            };
            if vma.start.checked_sub(addr) != Some(vma.pgoff * PAGE) {
                continue;
            }
            match &found {
                Some(first) if first.id() != object.id() => continue,
                Some(first) if vma.start >= addr.saturating_add(first.len()) => break,
                Some(_) => {}
                None => found = Some(object.clone()),
            }
            parts.try_push((vma.start, vma.end))?;
        }
        (parts, found.ok_or(Errno::EINVAL)?)
    };
    for (start, end) in parts {
        mm.unmap(start, end - start)?;
    }
    let segment =
        SEGMENTS.all().find(|s| s.object.upgrade().is_some_and(|o| o.id() == object.id()));
    if let Some(segment) = segment {
        let mut state = segment.state.lock();
        state.detached = now();
        state.last = task.pid();
    }
    Ok(())
}

fn remove(id: i32, segment: &Segment) -> Result<()> {
    segment.perm().check_owner()?;
    let kept = {
        let mut state = segment.state.lock();
        state.perm.mode |= DEST;
        // Nobody finds it by its key any more.
        state.perm.key = super::PRIVATE;
        state.keep.take()
    };
    drop(kept);
    if segment.object.strong_count() == 0 {
        SEGMENTS.remove(id);
    }
    Ok(())
}

fn lock(segment: &Segment, on: bool) -> Result<()> {
    let task = current();
    let capable = creds::capable(Cap::IpcLock);
    if !capable {
        segment.perm().check_owner()?;
        if on && task.process.soft_limit(limit::MEMLOCK) == 0 {
            return Err(Errno::EPERM);
        }
    }
    let mut state = segment.state.lock();
    state.perm.mode = if on { state.perm.mode | LOCKED } else { state.perm.mode & !LOCKED };
    Ok(())
}

/// shmctl(2).
pub fn control(id: i32, command: i32, at: VirtAddr) -> Result<i32> {
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        cmd::INFO => {
            let limits =
                [MAX_BYTES, 1, MAX_SEGMENTS as u64, MAX_SEGMENTS as u64, MAX_PAGES, 0, 0, 0, 0];
            write_words(at, &limits)?;
            Ok(SEGMENTS.highest())
        }
        INFO => {
            let total = SEGMENTS.all().map(|s| s.pages()).sum();
            let resident = SEGMENTS.all().map(|s| s.resident()).sum();
            write_words(at, &[SEGMENTS.all().count() as u64, total, resident, 0, 0, 0])?;
            Ok(SEGMENTS.highest())
        }
        STAT | STAT_ANY => {
            let (id, segment) = SEGMENTS.at_slot(id)?;
            if command == STAT {
                segment.perm().check(super::READ)?;
            }
            write_words(at, &segment.words())?;
            Ok(id)
        }
        cmd::STAT => {
            let segment = SEGMENTS.find(id)?;
            segment.perm().check(super::READ)?;
            write_words(at, &segment.words())?;
            Ok(0)
        }
        cmd::SET => {
            let segment = SEGMENTS.find(id)?;
            let mut perm = segment.perm();
            perm.set_from(at)?;
            let mut state = segment.state.lock();
            state.perm = perm;
            state.changed = now();
            Ok(0)
        }
        cmd::RMID => remove(id, &*SEGMENTS.find(id)?).map(|()| 0),
        LOCK | UNLOCK => lock(&*SEGMENTS.find(id)?, command == LOCK).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// /proc/sysvipc/shm.
pub fn list(out: &mut Text) -> Result<()> {
    put!(out, "{:>10} {:>10} perms {:>21}  cpid  lpid nattch", "key", "shmid", "size");
    put!(
        out,
        "   uid   gid  cuid  cgid      atime      dtime      ctime {:>21} {:>21}\n",
        "rss",
        "swap"
    );
    for (id, segment) in SEGMENTS.with_ids() {
        let (attaches, resident) = (segment.attaches(), segment.resident() * PAGE);
        let state = segment.state.lock();
        let perm = &state.perm;
        put!(out, "{:>10} {id:>10}  {:>4o} {:>21}", perm.key, perm.mode, segment.size);
        put!(out, " {:>5} {:>5}  {attaches:>5}", segment.creator, state.last);
        put!(out, " {:>5} {:>5} {:>5} {:>5}", perm.uid, perm.gid, perm.cuid, perm.cgid);
        put!(out, " {:>10} {:>10} {:>10}", state.attached, state.detached, state.changed);
        put!(out, " {resident:>21} {:>21}\n", 0);
    }
    Ok(())
}
