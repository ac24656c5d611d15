//! File descriptors: numbers for open file descriptions.
//!
//! Shared by the threads of a process (and by whoever cloned with CLONE_FILES). `get` is a lock, an
//! index and a reference count. Descriptions are dropped outside the lock: the last close may
//! sleep.

use crate::file::File;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::{Grow, TryVec, copied};
use sync::SpinLock;

/// Descriptors that the table can ever hold (Linux's default `fs.nr_open`).
pub const NR_OPEN: usize = 1 << 20;

/// A table of file descriptors.
pub struct FdTable {
    /// Identifies the table as the owner of POSIX record locks.
    id: u64,
    inner: SpinLock<Slots>,
}

#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<File>>>,
    /// One bit per descriptor: close on exec. Bits of free descriptors are 0.
    cloexec: Vec<u64>,
    /// One bit per descriptor in use.
    used: Vec<u64>,
    /// No free descriptor below this one.
    lowest: usize,
}

fn bit(fd: usize) -> (usize, u64) {
    (fd / 64, 1 << (fd % 64))
}

impl Slots {
    fn find_free(&self, from: usize) -> usize {
        let mut fd = from.max(self.lowest);
        while let Some(word) = self.used.get(fd / 64) {
            let free = !word & (u64::MAX << (fd % 64));
            if free != 0 {
                return fd / 64 * 64 + free.trailing_zeros() as usize;
            }
            fd = (fd / 64 + 1) * 64;
        }
        fd
    }

    /// Room for descriptor `fd`: grows by doubling, in whole words.
    fn reserve(&mut self, fd: usize) -> Result<()> {
        if fd < self.files.len() {
            return Ok(());
        }
        let want = (fd + 1).next_power_of_two().max(64);
        self.files.room_for(want - self.files.len())?;
        self.used.room_for(want / 64 - self.used.len())?;
        self.cloexec.room_for(want / 64 - self.cloexec.len())?;
        self.files.resize_with(want, || None);
        self.used.resize(want / 64, 0);
        self.cloexec.resize(want / 64, 0);
        Ok(())
    }

    fn put(&mut self, fd: usize, file: Arc<File>, cloexec: bool) -> Option<Arc<File>> {
        let (word, mask) = bit(fd);
        self.used[word] |= mask;
        if cloexec {
            self.cloexec[word] |= mask;
        } else {
            self.cloexec[word] &= !mask;
        }
        self.files[fd].replace(file)
    }

    fn take(&mut self, fd: usize) -> Option<Arc<File>> {
        let file = self.files.get_mut(fd)?.take()?;
        let (word, mask) = bit(fd);
        self.used[word] &= !mask;
        self.cloexec[word] &= !mask;
        self.lowest = self.lowest.min(fd);
        Some(file)
    }

    fn alloc(&mut self, from: usize, limit: usize) -> Result<usize> {
        let fd = self.find_free(from);
        if fd >= limit.min(NR_OPEN) {
            return Err(Errno::EMFILE);
        }
        self.reserve(fd)?;
        if from <= self.lowest {
            self.lowest = fd + 1;
        }
        Ok(fd)
    }
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT.fetch_add(1, Relaxed), inner: SpinLock::new(Slots::default()) }
    }

    /// The table's identity as owner of POSIX record locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The description of `fd`; EBADF. Descriptions opened with O_PATH are returned too: what
    /// they cannot do they refuse themselves.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        // A negative number becomes a huge index.
        match self.inner.lock().files.get(fd as usize) {
            Some(Some(file)) => Ok(file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Gives `file` the lowest free number at or above `from` and below `limit` (RLIMIT_NOFILE);
    /// EMFILE.
    pub fn insert_from(
        &self,
        from: i32,
        file: Arc<File>,
        cloexec: bool,
        limit: u64,
    ) -> Result<i32> {
        let limit = limit.min(NR_OPEN as u64) as usize;
        let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        if from >= limit && from > 0 {
            // fcntl(F_DUPFD) tells a start beyond the limit from a full table.
            return Err(Errno::EINVAL);
        }
        let mut slots = self.inner.lock();
        let fd = slots.alloc(from, limit)?;
        slots.put(fd, file, cloexec);
        Ok(fd as i32)
    }

    /// EMFILE when there is no free number below `limit`: asked before a file is created for one.
    pub fn check_room(&self, limit: u64) -> Result<()> {
        let limit = limit.min(NR_OPEN as u64) as usize;
        if self.inner.lock().find_free(0) < limit { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Gives `file` the lowest free number; EMFILE.
    #[inline]
    pub fn insert(&self, file: Arc<File>, cloexec: bool, limit: u64) -> Result<i32> {
        self.insert_from(0, file, cloexec, limit)
    }

    /// Gives two files numbers, or none of them (pipe(2), socketpair(2)).
    pub fn insert_pair(
        &self,
        pair: (Arc<File>, Arc<File>),
        cloexec: bool,
        limit: u64,
    ) -> Result<(i32, i32)> {
        let first = self.insert(pair.0, cloexec, limit)?;
        match self.insert(pair.1, cloexec, limit) {
            Ok(second) => Ok((first, second)),
            Err(error) => {
                self.close(first)?;
                Err(error)
            }
        }
    }

    /// dup2(2), dup3(2) without their special case of equal numbers: `file` becomes `fd`, whatever
    /// was there is closed. EBADF beyond the limit.
    pub fn insert_at(&self, fd: i32, file: Arc<File>, cloexec: bool, limit: u64) -> Result<()> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if at as u64 >= limit.min(NR_OPEN as u64) {
            return Err(Errno::EBADF);
        }
        let mut slots = self.inner.lock();
        slots.reserve(at)?;
        let old = slots.put(at, file, cloexec);
        drop(slots);
        if let Some(old) = old {
            self.released(&old);
        }
        Ok(())
    }

    /// close(2); EBADF.
    pub fn close(&self, fd: i32) -> Result<()> {
        let file = self.inner.lock().take(fd as usize).ok_or(Errno::EBADF)?;
        self.released(&file);
        Ok(())
    }

    /// The close-on-exec flag; EBADF.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let slots = self.inner.lock();
        match slots.files.get(fd as usize) {
            Some(Some(_)) => {
                let (word, mask) = bit(fd as usize);
                Ok(slots.cloexec[word] & mask != 0)
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets the close-on-exec flag; EBADF.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result<()> {
        let mut slots = self.inner.lock();
        match slots.files.get(fd as usize) {
            Some(Some(_)) => {
                let (word, mask) = bit(fd as usize);
                if on {
                    slots.cloexec[word] |= mask;
                } else {
                    slots.cloexec[word] &= !mask;
                }
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// close_range(2) on this table: closes, or with `cloexec` only marks, `first..=last`.
    pub fn close_range(&self, first: u32, last: u32, cloexec: bool) {
        let mut fd = first as usize;
        loop {
            let mut slots = self.inner.lock();
            let end = (last as usize).min(slots.files.len().wrapping_sub(1));
            if slots.files.is_empty() || fd > end {
                return;
            }
            if cloexec {
                for at in fd..=end {
                    let (word, mask) = bit(at);
                    slots.cloexec[word] |= mask & slots.used[word];
                }
                return;
            }
            let taken = (fd..=end).find_map(|at| slots.take(at).map(|file| (at, file)));
            drop(slots);
            match taken {
                Some((at, file)) => {
                    self.released(&file);
                    fd = at + 1;
                }
                None => return,
            }
        }
    }

    /// Closes what is marked close-on-exec (execve).
    pub fn close_on_exec(&self) {
        loop {
            let mut slots = self.inner.lock();
            let Some(word) = slots.cloexec.iter().position(|&word| word != 0) else { return };
            let fd = word * 64 + slots.cloexec[word].trailing_zeros() as usize;
            let file = slots.take(fd);
            drop(slots);
            if let Some(file) = file {
                self.released(&file);
            }
        }
    }

    /// A copy for fork: the same descriptions under the same numbers.
    pub fn duplicate(&self) -> Result<Self> {
        self.duplicate_below(u32::MAX)
    }

    /// A copy of the descriptors below `end` (close_range(2) with CLOSE_RANGE_UNSHARE).
    /// ENOMEM.
    pub fn duplicate_below(&self, end: u32) -> Result<Self> {
        let copy = Self::new();
        {
            let slots = self.inner.lock();
            let used = (0..slots.files.len().min(end as usize))
                .rev()
                .find(|&fd| slots.files[fd].is_some())
                .map_or(0, |fd| fd + 1);
            let size = if used == 0 { 0 } else { used.next_power_of_two().max(64) };
            let mut other = copy.inner.lock();
            other.files = Vec::with_room(size)?;
            other.files.extend_from_slice(&slots.files[..used]);
            other.files.resize_with(size, || None);
            other.used = copied(&slots.used[..size / 64])?;
            other.cloexec = copied(&slots.cloexec[..size / 64])?;
            for fd in used..size {
                let (word, mask) = bit(fd);
                other.used[word] &= !mask;
                other.cloexec[word] &= !mask;
            }
            other.lowest = slots.lowest.min(used);
        }
        Ok(copy)
    }

    /// The first descriptor in use from `from` on (for /proc/PID/fd).
    pub fn next_used(&self, from: i32) -> Option<i32> {
        let slots = self.inner.lock();
        let mut rest = from.max(0) as usize..slots.files.len();
        rest.find(|&fd| slots.files[fd].is_some()).map(|fd| fd as i32)
    }

    /// Descriptors that the table has room for (FDSize of /proc/PID/status).
    pub fn capacity(&self) -> usize {
        self.inner.lock().files.len().max(64)
    }

    /// Closing any descriptor of a file drops the process's POSIX record locks on it.
    fn released(&self, file: &Arc<File>) {
        if let Some(table) = file.inode().base().locks_if_used() {
            table.release_posix(self.id);
        }
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.inner.get_mut().files);
        for file in files.into_iter().flatten() {
            self.released(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventfd::EventFd;

    fn file() -> Arc<File> {
        EventFd::open(0, 0).expect("eventfd")
    }

    fn numbers(table: &FdTable) -> Vec<i32> {
        let after = |&fd: &i32| table.next_used(fd + 1);
        core::iter::successors(table.next_used(0), after).collect()
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let table = FdTable::new();
        for want in 0..200 {
            assert_eq!(table.insert(file(), false, 1024), Ok(want));
        }
        table.close(150).expect("close");
        table.close(3).expect("close");
        assert_eq!(table.insert(file(), false, 1024), Ok(3));
        assert_eq!(table.insert_from(10, file(), false, 1024), Ok(150));
        assert_eq!(table.insert(file(), false, 1024), Ok(200));
        assert_eq!(table.insert(file(), false, 201).err(), Some(Errno::EMFILE));
        assert_eq!(table.insert_from(300, file(), false, 300).err(), Some(Errno::EINVAL));
        assert_eq!(table.get(-1).err(), Some(Errno::EBADF));
        assert_eq!(table.close(9999).err(), Some(Errno::EBADF));
    }

    #[test]
    fn exec_closes_what_is_marked_and_fork_copies_the_rest() {
        let table = FdTable::new();
        for n in 0..100 {
            table.insert(file(), n % 3 == 0, 1024).expect("insert");
        }
        let copy = table.duplicate().expect("memory");
        assert!(Arc::ptr_eq(&copy.get(5).expect("5"), &table.get(5).expect("5")));
        copy.close_on_exec();
        assert_eq!(numbers(&copy).len(), 66);
        assert_eq!(numbers(&table).len(), 100);
        assert_eq!(copy.insert(file(), false, 1024), Ok(0));
        assert_eq!(copy.insert(file(), false, 1024), Ok(3));
        table.close_range(10, u32::MAX, false);
        assert_eq!(numbers(&table), (0..10).collect::<Vec<_>>());
        let low = table.duplicate_below(4).expect("memory");
        assert_eq!(numbers(&low), [0, 1, 2, 3]);
        assert_eq!(low.insert(file(), false, 1024), Ok(4));
    }
}
