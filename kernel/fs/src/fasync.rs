//! O_ASYNC: signals instead of waiting (fcntl(2), F_SETOWN and F_SETSIG).
//!
//! A description's owner is in its [`Fown`]. What may become ready (a side of a pipe, a socket, a
//! terminal) has an [`Fasync`]: the owners of the descriptions that armed it, which hold no
//! reference to these. A description takes its entries back when it is closed. Signals are sent in
//! task context, under no spinning lock.

use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use sync::SpinLock;

/// What happened to a file, with the `si_code` of its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// POLL_IN: there is something to read.
    In = 1,
    /// POLL_OUT: there is room to write.
    Out = 2,
    /// POLL_HUP: the other side is gone.
    Hup = 6,
}

impl Band {
    /// `si_band`: the events of poll(2) that it stands for.
    pub fn events(self) -> u64 {
        match self {
            Self::In => 0x41,
            Self::Out => 0x304,
            Self::Hup => 0x18,
        }
    }
}

/// Whom F_SETOWN named, and with whose rights.
pub trait Owner: Any + Send + Sync {
    /// Sends `signal` (0: SIGIO that tells nothing) about the descriptor `fd`.
    fn signal(&self, signal: u32, band: Band, fd: i32);
}

/// A description's owner and signal (Linux's `fown_struct`).
#[derive(Default)]
pub struct Fown {
    owner: SpinLock<Option<Arc<dyn Owner>>>,
    /// F_SETSIG.
    signal: AtomicU32,
    /// One at a time arms and disarms.
    pub(crate) arming: SpinLock<()>,
}

impl Fown {
    /// F_GETOWN.
    pub fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.lock().clone()
    }

    /// F_SETOWN.
    pub fn set_owner(&self, owner: Arc<dyn Owner>) {
        let old = self.owner.lock().replace(owner);
        drop(old);
    }

    /// F_GETSIG.
    pub fn signal(&self) -> u32 {
        self.signal.load(Relaxed)
    }

    /// F_SETSIG.
    pub fn set_signal(&self, signal: u32) {
        self.signal.store(signal, Relaxed);
    }

    fn tell(&self, band: Band, fd: i32) {
        if let Some(owner) = self.owner() {
            owner.signal(self.signal(), band, fd);
        }
    }
}

struct Entry {
    id: u64,
    fown: Arc<Fown>,
    /// The descriptor that armed it.
    fd: i32,
}

#[derive(Default)]
struct List {
    next_id: u64,
    /// By rising id.
    entries: Vec<Entry>,
}

/// The descriptions that armed something.
#[derive(Default)]
pub struct Fasync {
    /// Their number: where there is none, nothing else is looked at.
    armed: AtomicUsize,
    /// A writer went away for want of room.
    wants_space: AtomicBool,
    list: SpinLock<List>,
}

impl Fasync {
    /// True when somebody is to be told.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Relaxed) != 0
    }

    /// Tells everybody of `band` (Linux's `kill_fasync`). Task context.
    #[inline]
    pub fn kill(&self, band: Band) {
        if self.is_armed() {
            self.tell(band);
        }
    }

    /// Notes that a writer found no room.
    pub fn want_space(&self) {
        if self.is_armed() {
            self.wants_space.store(true, Relaxed);
        }
    }

    /// Tells of room, once, if a writer wanted some.
    #[inline]
    pub fn space(&self) {
        if self.is_armed() && self.wants_space.swap(false, Relaxed) {
            self.tell(Band::Out);
        }
    }

    /// One after the other, as the list may change meanwhile; not who comes after the event.
    #[cold]
    fn tell(&self, band: Band) {
        let end = self.list.lock().next_id;
        let mut from = 0;
        loop {
            let (id, fown, fd) = {
                let list = self.list.lock();
                let at = list.entries.partition_point(|entry| entry.id < from);
                match list.entries.get(at) {
                    Some(entry) if entry.id < end => (entry.id, entry.fown.clone(), entry.fd),
                    _ => return,
                }
            };
            fown.tell(band, fd);
            from = id + 1;
        }
    }

    /// Enters a description, by its owner. ENOMEM.
    pub(crate) fn insert(&self, fown: &Arc<Fown>, fd: i32) -> Result<()> {
        let mut list = self.list.lock();
        list.entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let id = list.next_id;
        list.next_id += 1;
        list.entries.push(Entry { id, fown: fown.clone(), fd });
        self.armed.store(list.entries.len(), Relaxed);
        Ok(())
    }

    /// Takes a description out; false if it was not there.
    pub(crate) fn remove(&self, fown: &Arc<Fown>) -> bool {
        let gone = {
            let mut list = self.list.lock();
            let at = list.entries.iter().position(|entry| Arc::ptr_eq(&entry.fown, fown));
            let gone = at.map(|at| list.entries.remove(at));
            if list.entries.is_empty() {
                self.wants_space.store(false, Relaxed);
            }
            self.armed.store(list.entries.len(), Relaxed);
            gone
        };
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::Pipe;
    use hal::user::KernelSource;

    #[derive(Default)]
    struct Log(SpinLock<Vec<(u32, Band, i32)>>);

    impl Owner for Log {
        fn signal(&self, signal: u32, band: Band, fd: i32) {
            self.0.lock().push((signal, band, fd));
        }
    }

    #[test]
    fn whoever_armed_a_pipe_is_told_until_it_is_closed() {
        let (reader, writer) = Pipe::pair(0).expect("a pipe");
        let log = Arc::new(Log::default());
        reader.fown().set_owner(log.clone());
        reader.fown().set_signal(40);
        reader.set_async(7, true).expect("arming");
        writer.write(&mut KernelSource(b"x")).expect("room");
        assert_eq!(core::mem::take(&mut *log.0.lock()), [(40, Band::In, 7)]);
        let fown = Arc::downgrade(reader.fown());
        drop(reader);
        assert!(fown.upgrade().is_none());
        assert!(log.0.lock().is_empty());
        assert_eq!(Arc::strong_count(&log), 1);
    }

    #[test]
    fn arming_twice_is_arming_once() {
        let (reader, writer) = Pipe::pair(0).expect("a pipe");
        let log = Arc::new(Log::default());
        reader.fown().set_owner(log.clone());
        for on in [true, true, false, false, true] {
            reader.set_async(3, on).expect("arming");
        }
        writer.write(&mut KernelSource(b"x")).expect("room");
        assert_eq!(log.0.lock().len(), 1);
        reader.set_async(3, false).expect("disarming");
        writer.write(&mut KernelSource(b"x")).expect("room");
        assert_eq!(log.0.lock().len(), 1);
    }
}
