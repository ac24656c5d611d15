//! Memory objects: pages by index that any number of address spaces map, and that files read and
//! write. tmpfs files, memfds, System V segments and shared anonymous mappings are all objects.
//!
//! A page is in the object from its first use until it is truncated, punched out or the object
//! goes; holes read as zeroes. Pages are placed by the object's policy of that index, else by the
//! task that first touches them.

use crate::commit::{self, Promise};
use crate::hugetlb::HugePages;
use crate::place::{self, At};
use crate::shared_policy::SharedPolicy;
use crate::transparent::shared::{self, Mount, Wish};
use crate::{PAGE, env};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use frames::compound::FRAMES;
use frames::fallible::{TryMap, arc};
use frames::meta::flag;
use frames::{Kind, Page};
use hal::user::{Sink, Source};
use numa::policy::Policy;
use sync::SpinLock;

mod groups;

/// What an object serves as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file of tmpfs or ramfs.
    Tmpfs,
    /// memfd_create(2).
    Memfd,
    /// shmget(2).
    SysV,
    /// mmap(2) with MAP_SHARED and MAP_ANONYMOUS.
    SharedAnon,
    /// A file of hugetlbfs, or huge pages that no file names.
    Hugetlbfs,
}

/// An address space that maps an object, as the object sees it: to take pages out of it.
pub trait Mapper: Send + Sync {
    /// Unmaps the pages `[start, end)` of `object` wherever they are mapped shared, and private
    /// copies too if `even_copies` (truncation).
    fn unmap_object(&self, object: &MemObject, start: u64, end: u64, even_copies: bool);
    /// True when a shared mapping of `object` here can be written, or made so.
    fn maps_writable(&self, object: &MemObject) -> bool;
    /// A number of its own.
    fn id(&self) -> u64;
    /// The address space itself, for those who know its type.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// An address space, and how many of its areas map the object.
type MapperCount = (Weak<dyn Mapper>, usize);

/// Pages by index.
pub struct MemObject {
    id: u64,
    kind: ObjectKind,
    /// Its inode's number, or what serves as one.
    number: AtomicU64,
    len: AtomicU64,
    /// shmget(2)'s key.
    pub key: AtomicU32,
    pages: SpinLock<BTreeMap<u64, Page>>,
    policy: SpinLock<SharedPolicy>,
    /// Address spaces that map it, with the number of areas that do.
    mappers: SpinLock<BTreeMap<u64, MapperCount>>,
    account: Account,
    /// Its pages are huge ones of the pool.
    huge: Option<HugePages>,
    /// Of a file: the mounted file system that it is on.
    mount: Option<Arc<Mount>>,
    /// It has had transparent huge pages.
    groups: AtomicBool,
}

/// How the memory of an object counts as promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Account {
    /// Each page from when it is made.
    Pages,
    /// So many pages, whether they are there or not.
    Whole(u64),
    /// Not at all: the kernel's own.
    Never,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A number for an object without a name: one row for memfds and shared anonymous memory, as the
/// inodes of Linux's internal tmpfs have.
pub fn next_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Takes a page out of its object: from now on nobody maps it who has found it before.
fn take_out(pages: &mut BTreeMap<u64, Page>, index: u64) -> Option<Page> {
    let page = pages.remove(&index)?;
    page.frame().set_owner(0, 0);
    Some(page)
}

impl MemObject {
    /// An empty object, whose pages are promised one by one as they are made. ENOMEM.
    pub fn new(kind: ObjectKind) -> Result<Arc<Self>> {
        Self::build(kind, Account::Pages, None, None)
    }

    /// As [`MemObject::new`], of a file on `mount`.
    pub fn on(mount: Arc<Mount>) -> Result<Arc<Self>> {
        Self::build(ObjectKind::Tmpfs, Account::Pages, None, Some(mount))
    }

    /// An object of `len` bytes, promised as a whole if `reserve`. ENOMEM.
    pub fn sized(kind: ObjectKind, len: u64, reserve: bool) -> Result<Arc<Self>> {
        let account = if reserve {
            let pages = len.div_ceil(PAGE);
            commit::promise_to_task(pages)?.keep();
            Account::Whole(pages)
        } else {
            Account::Pages
        };
        let object = Self::build(kind, account, None, None)?;
        object.set_len(len)?;
        Ok(object)
    }

    /// An empty object of the kernel's own, which programs may map. ENOMEM.
    pub fn of_kernel() -> Result<Arc<Self>> {
        Self::build(ObjectKind::SharedAnon, Account::Never, None, None)
    }

    /// An empty object for a file's contents that could be fetched again, which nobody is promised.
    /// ENOMEM.
    pub fn of_cache() -> Result<Arc<Self>> {
        Self::build(ObjectKind::Tmpfs, Account::Never, None, None)
    }

    /// An empty object of huge pages. ENOMEM.
    pub(crate) fn build_huge(kind: ObjectKind, huge: HugePages) -> Result<Arc<Self>> {
        Self::build(kind, Account::Never, Some(huge), None)
    }

    fn build(
        kind: ObjectKind,
        account: Account,
        huge: Option<HugePages>,
        mount: Option<Arc<Mount>>,
    ) -> Result<Arc<Self>> {
        arc(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            kind,
            number: AtomicU64::new(if kind == ObjectKind::SharedAnon { next_number() } else { 0 }),
            len: AtomicU64::new(0),
            key: AtomicU32::new(0),
            pages: SpinLock::new(BTreeMap::new()),
            policy: SpinLock::new(SharedPolicy::new()),
            mappers: SpinLock::new(BTreeMap::new()),
            account,
            huge,
            mount,
            groups: AtomicBool::new(false),
        })
    }

    /// The promise of so many pages more: ENOSPC when there may be none, as for a file system that is
    /// full.
    fn promise_pages(&self, pages: u64) -> Result<Promise> {
        match self.account {
            Account::Pages => commit::promise_to_task(pages).map_err(|_| Errno::ENOSPC),
            Account::Whole(_) | Account::Never => Ok(Promise::NONE),
        }
    }

    /// `pages` are gone that were there.
    fn give_back_promise(&self, pages: usize) {
        if self.account == Account::Pages {
            commit::give_back(pages as u64);
        }
    }

    /// A number that no other object ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its inode's number: interleaving counts from there, so that small objects do not all begin
    /// on one node.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Gives it its inode's number, before it has pages.
    pub fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// What it serves as.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Makes it as long as `len` if it is shorter.
    pub fn grow_len(&self, len: u64) {
        self.len.fetch_max(len, Ordering::AcqRel);
    }

    /// True when it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has beside its pages if they are huge ones.
    #[inline]
    pub fn huge(&self) -> Option<&HugePages> {
        self.huge.as_ref()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        if self.huge.is_some() { crate::HUGE } else { PAGE }
    }

    /// Memory that it holds, in pages of 4 KiB.
    pub fn resident_pages(&self) -> u64 {
        self.pages.lock().len() as u64 * (self.page_size() / PAGE)
    }

    /// Adds a page where none is. ENOMEM.
    pub(crate) fn add_page(&self, index: u64, page: &Page) -> Result<()> {
        self.pages.lock().try_insert_in(index, page.clone()).map(|_| ())
    }

    /// The page at `index`, if it is there.
    pub fn lookup(&self, index: u64) -> Option<Page> {
        self.pages.lock().get(&index).cloned()
    }

    /// Removes the first page that is there at `index` or above, up to `end`, with its index.
    pub(crate) fn remove_next(&self, index: u64, end: u64) -> Option<(u64, Page)> {
        let mut pages = self.pages.lock();
        let (&index, _) = pages.range(index..end).next()?;
        pages.remove(&index).map(|page| (index, page))
    }

    /// The first page that is there at `index` or above, with its index.
    pub fn next_resident(&self, index: u64) -> Option<(u64, Page)> {
        self.pages.lock().range(index..).next().map(|(&i, p)| (i, p.clone()))
    }

    /// The first page at `index` or above, up to `end`, that has been used.
    pub fn next_used(&self, index: u64, end: u64) -> Option<(u64, Page)> {
        let pages = self.pages.lock();
        let mut range = pages.range(index..end.max(index));
        range.find(|(_, p)| !p.frame().has(flag::RESERVED)).map(|(&i, p)| (i, p.clone()))
    }

    /// The policy of the page at `index`.
    pub fn policy_at(&self, index: u64) -> Option<Arc<Policy>> {
        self.policy.lock().get(index).cloned()
    }

    /// Sets or removes the policy of the pages `[start, end)`.
    pub fn set_policy(&self, start: u64, end: u64, policy: Option<Arc<Policy>>) {
        self.policy.lock().set(start, end, policy);
    }

    /// The page at `index`, made (zeroed) if it is not there. The offset for interleaving is the
    /// index plus the object's number.
    ///
    /// ENOMEM when the policy's nodes are full, ENOSPC when no page more may be promised.
    pub fn get(&self, index: u64) -> Result<Page> {
        self.get_wishing(index, &Wish::default())
    }

    /// As [`MemObject::get`], by who may want a huge page.
    pub fn get_wishing(&self, index: u64, wish: &Wish) -> Result<Page> {
        if let Some(page) = self.lookup(index) {
            page.frame().clear(flag::RESERVED);
            return Ok(page);
        }
        if shared::ever_wanted()
            && let Some(page) = self.make_huge(index, wish)
        {
            return Ok(page);
        }
        let promise = self.promise_pages(1)?;
        let policy = self.policy_at(index);
        let page = place::zeroed(
            policy.as_deref(),
            At::Offset(index.wrapping_add(self.number())),
            Kind::Shared,
        )
        .ok_or(Errno::ENOMEM)?;
        page.frame().set_owner(self.id, index);
        let mut pages = self.pages.lock();
        pages.room_for_one()?;
        match pages.entry(index) {
            Entry::Vacant(place) => {
                promise.keep();
                Ok(place.insert(page).clone())
            }
            // Another one was quicker: ours goes back.
            Entry::Occupied(place) => {
                let theirs = place.get().clone();
                drop(pages);
                Ok(theirs)
            }
        }
    }

    /// Replaces the page at `index` by `new` if it is `old` and `frozen` succeeds under the
    /// object's lock (a migration). True when it was replaced.
    pub fn replace(
        &self,
        index: u64,
        old: hal::Pfn,
        new: &Page,
        frozen: impl FnOnce() -> bool,
    ) -> bool {
        let mut pages = self.pages.lock();
        match pages.get_mut(&index) {
            Some(slot) if slot.pfn() == old && frozen() => {
                // The object's reference to the old page was frozen away with the others.
                let _frozen_reference = core::mem::replace(slot, new.clone()).into_raw();
                if self.groups.load(Ordering::Relaxed) {
                    groups::parted(&pages, index, old);
                }
                true
            }
            _ => false,
        }
    }

    /// Sets the length, freeing the pages beyond and zeroing the rest of the last one.
    pub fn set_len(&self, len: u64) -> Result<()> {
        let old = self.len.swap(len, Ordering::AcqRel);
        if len < old {
            let first = len.div_ceil(PAGE);
            self.drop_pages(first, u64::MAX, true);
            if !len.is_multiple_of(PAGE)
                && let Some(page) = self.lookup(len / PAGE)
            {
                page.bytes_mut()[(len % PAGE) as usize..].fill(0);
            }
        }
        Ok(())
    }

    /// Frees the whole pages inside `[off, off + len)` and zeroes the rest of it.
    pub fn punch_hole(&self, off: u64, len: u64) -> Result<()> {
        let end = off.checked_add(len).ok_or(Errno::EFBIG)?;
        if self.huge.is_some() {
            self.punch_huge(off, end);
            return Ok(());
        }
        let (first, last) = (off.div_ceil(PAGE), end / PAGE);
        if first < last {
            self.drop_pages(first, last, false);
        }
        // What is left are parts of two pages, or of one: a hole may be larger than any memory.
        let (head, tail) = (end.min(first.saturating_mul(PAGE)), off.max(last * PAGE));
        self.zero_in_page(off, head);
        self.zero_in_page(tail, end);
        Ok(())
    }

    /// Zeroes `[start, end)`, which lies in one page, if that page is there.
    fn zero_in_page(&self, start: u64, end: u64) {
        if start < end
            && let Some(page) = self.lookup(start / PAGE)
        {
            let from = (start % PAGE) as usize;
            page.bytes_mut()[from..from + (end - start) as usize].fill(0);
        }
    }

    /// Makes every page of `[off, off + len)` present (fallocate), or none more: EINTR for who has
    /// been killed, ENOMEM.
    pub fn reserve(&self, off: u64, len: u64) -> Result<()> {
        let end = off.checked_add(len).ok_or(Errno::EFBIG)?;
        let first = off / PAGE;
        for index in first..end.div_ceil(PAGE) {
            if self.lookup(index).is_some() {
                continue;
            }
            let wish = Wish { len: self.len().max(end), reserved: true, ..Wish::default() };
            let page =
                if env::killed() { Err(Errno::EINTR) } else { self.get_wishing(index, &wish) };
            match page {
                Ok(page) => _ = page.frame().set(flag::RESERVED),
                Err(error) => {
                    self.give_back(first, index);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Frees those of the pages `[start, end)` that are only reserved. All of them may be there.
    fn give_back(&self, start: u64, end: u64) {
        const BATCH: u64 = 64;
        for at in (start..end).step_by(BATCH as usize) {
            let stop = end.min(at + BATCH);
            let mut gone = [const { None::<Page> }; BATCH as usize];
            {
                let mut pages = self.pages.lock();
                for (slot, index) in gone.iter_mut().zip(at..stop) {
                    let reserved = |page: &Page| page.frame().has(flag::RESERVED);
                    if pages.get(&index).is_some_and(reserved) {
                        self.part(&pages, index, true);
                        *slot = take_out(&mut pages, index);
                    }
                }
            }
            self.give_back_promise(gone.iter().flatten().count());
            self.unmap(at, stop, false);
        }
    }

    /// Unmaps and frees the pages `[start, end)`, a few at a time: what frees memory must not need
    /// any.
    pub(crate) fn drop_pages(&self, start: u64, end: u64, even_copies: bool) {
        const BATCH: usize = 64;
        if let Some(huge) = &self.huge {
            return self.drop_huge(huge, (start, end), even_copies);
        }
        loop {
            let mut gone = [const { None::<Page> }; BATCH];
            let (mut first, mut last) = (start, start);
            // Out of the object first, so that a fault meanwhile makes a fresh page (or SIGBUS).
            {
                let mut pages = self.pages.lock();
                for (taken, slot) in gone.iter_mut().enumerate() {
                    let Some((&index, _)) = pages.range(start..end).next() else { break };
                    let begin = index & !(FRAMES - 1);
                    self.part(&pages, index, start <= begin && begin.saturating_add(FRAMES) <= end);
                    *slot = take_out(&mut pages, index);
                    first = if taken == 0 { index } else { first };
                    last = index + 1;
                }
            }
            self.give_back_promise(gone.iter().flatten().count());
            let more = gone[BATCH - 1].is_some();
            let range = if more { (first, last) } else { (start, end) };
            self.unmap(range.0, range.1, even_copies);
            if !more {
                break;
            }
        }
    }

    /// Reads from `off` up to the end of the object or `max` bytes; holes read as zeroes.
    pub fn read_at(&self, off: u64, dst: &mut dyn Sink, max: usize) -> Result<usize> {
        const ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];
        let len = self.len();
        let mut done = 0;
        while done < max {
            let at = off + done as u64;
            if at >= len {
                break;
            }
            let from = (at % PAGE) as usize;
            let step =
                (PAGE as usize - from).min(max - done).min((len - at) as usize).min(dst.room());
            if step == 0 {
                break;
            }
            let (page, offset) = match self.huge {
                None => (self.lookup(at / PAGE), from as u64),
                Some(_) => self.lookup_huge(at),
            };
            let bytes = page.as_ref().map_or(&ZEROES[from..], |p| p.bytes_at(offset));
            let put = match dst.put(&bytes[..step]) {
                Ok(put) => put,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += put;
            if put < step || done < max && env::killed() {
                break;
            }
        }
        Ok(done)
    }

    /// Writes at `off`, extending the object.
    pub fn write_at(&self, off: u64, src: &mut dyn Source, max: usize) -> Result<usize> {
        let mut done = 0;
        while done < max && src.left() > 0 {
            let at = off.checked_add(done as u64).ok_or(Errno::EFBIG)?;
            let from = (at % PAGE) as usize;
            let step = (PAGE as usize - from).min(max - done).min(src.left());
            let end = at.saturating_add((max - done) as u64).min(i64::MAX as u64);
            let wish = Wish { len: self.len().max(end), ..Wish::default() };
            let page = match self.get_wishing(at / PAGE, &wish) {
                Ok(page) => page,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let got = match src.get(&mut page.bytes_mut()[from..from + step]) {
                Ok(got) => got,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            page.frame().set(flag::DIRTY);
            done += got;
            self.len.fetch_max(at + got as u64, Ordering::AcqRel);
            if got < step || done < max && env::killed() {
                break;
            }
        }
        Ok(done)
    }

    /// An area of `mapper` maps this object now.
    pub fn add_mapper(&self, id: u64, mapper: Weak<dyn Mapper>) {
        self.mappers.lock().entry(id).or_insert((mapper, 0)).1 += 1;
    }

    /// One area less of address space `id` maps it.
    pub fn remove_mapper(&self, id: u64) {
        let mut mappers = self.mappers.lock();
        if let Some(entry) = mappers.get_mut(&id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                mappers.remove(&id);
            }
        }
    }

    /// True when some shared mapping of it can be written (a write seal must wait).
    pub fn is_mapped_writable(&self) -> bool {
        let mut last = 0;
        while let Some((id, mapper)) = self.next_mapper(last) {
            last = id;
            if mapper.maps_writable(self) {
                return true;
            }
        }
        false
    }

    /// Areas that map it, over all address spaces.
    pub fn areas(&self) -> u64 {
        self.mappers.lock().values().map(|(_, areas)| *areas as u64).sum()
    }

    /// The first address space that maps it whose number is above `after`, with its number.
    pub fn next_mapper(&self, after: u64) -> Option<(u64, Arc<dyn Mapper>)> {
        let mappers = self.mappers.lock();
        mappers.range(after + 1..).find_map(|(&id, (mapper, _))| Some((id, mapper.upgrade()?)))
    }

    /// Unmaps the pages `[start, end)` everywhere.
    pub(crate) fn unmap(&self, start: u64, end: u64, even_copies: bool) {
        let mut last = 0;
        while let Some((id, mapper)) = self.next_mapper(last) {
            last = id;
            mapper.unmap_object(self, start, end, even_copies);
        }
    }
}

impl Drop for MemObject {
    fn drop(&mut self) {
        match self.account {
            Account::Pages => commit::give_back(self.pages.get_mut().len() as u64),
            Account::Whole(pages) => commit::give_back(pages),
            Account::Never => {}
        }
        if let Some(huge) = &self.huge {
            huge.forget(0, u64::MAX, self.pages.get_mut().len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hal::user::{KernelSink, KernelSource};
    use numa::{CpuMask, Machine, NodeId};
    use std::sync::Once;
    use std::vec;

    fn memory() {
        static START: Once = Once::new();
        START.call_once(|| {
            let node = NodeId::new(0);
            crate::env::set_machine(Machine::single_node(CpuMask::first_n(1)));
            let range = (hal::Pfn::new(0x1000), hal::Pfn::new(0x9000));
            let memory = frames::node::NodeMemory {
                id: node,
                present: 0x8000,
                free: vec![range],
                span: range,
                early: 0,
            };
            frames::node::init(vec![memory]);
            frames::node::start_caches(1);
        });
    }

    #[test]
    fn bytes_written_are_read_back_and_holes_are_zeroes() {
        memory();
        let object = MemObject::new(ObjectKind::Tmpfs).unwrap();
        let data: std::vec::Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        let wrote = object.write_at(5000, &mut KernelSource(&data), data.len());
        assert_eq!(wrote, Ok(10_000));
        assert_eq!(object.len(), 15_000);
        let mut back = vec![0xffu8; 20_000];
        let read = object.read_at(0, &mut KernelSink::new(&mut back), 20_000);
        assert_eq!(read, Ok(15_000));
        assert!(back[..5000].iter().all(|&b| b == 0));
        assert_eq!(&back[5000..15_000], &data[..]);
    }

    #[test]
    fn truncation_frees_pages_and_zeroes_the_tail() {
        memory();
        let object = MemObject::new(ObjectKind::Tmpfs).unwrap();
        let data = [7u8; 3 * PAGE as usize];
        object.write_at(0, &mut KernelSource(&data), data.len()).expect("room");
        object.set_len(PAGE + 100).expect("shorter");
        assert_eq!(object.resident_pages(), 2);
        object.set_len(2 * PAGE).expect("longer again");
        let mut back = vec![1u8; 2 * PAGE as usize];
        object.read_at(0, &mut KernelSink::new(&mut back), 2 * PAGE as usize).expect("readable");
        assert_eq!(back[PAGE as usize + 99], 7);
        assert!(back[PAGE as usize + 100..].iter().all(|&b| b == 0));
        object.punch_hole(10, PAGE).expect("punched");
        object.read_at(0, &mut KernelSink::new(&mut back), 2 * PAGE as usize).expect("readable");
        assert!(back[10..PAGE as usize + 10].iter().all(|&b| b == 0));
        assert_eq!(back[9], 7);
    }

    #[test]
    fn a_hole_larger_than_any_memory_is_punched_at_once() {
        memory();
        let object = MemObject::new(ObjectKind::Tmpfs).unwrap();
        let data = [7u8; 3 * PAGE as usize];
        object.write_at(0, &mut KernelSource(&data), data.len()).expect("room");
        object.punch_hole(100, (1 << 62) + 50).expect("punched");
        assert_eq!(object.resident_pages(), 1);
        object.punch_hole(20, 30).expect("punched");
        let mut back = vec![1u8; data.len()];
        object.read_at(0, &mut KernelSink::new(&mut back), data.len()).expect("readable");
        let kept = |at: usize| at < 20 || (50..100).contains(&at);
        assert!(back.iter().enumerate().all(|(at, &b)| (b == 7) == kept(at)));
    }
}
