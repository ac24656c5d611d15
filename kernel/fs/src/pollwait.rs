//! poll(2) and select(2) over a descriptor table.
//!
//! The first look registers nothing; only when nothing is ready and there is time to wait does the
//! second look enter the queues.

use crate::fdtable::FdTable;
use crate::poll::{PollMask, PollTable};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use frames::fallible::{arc, filled};
use sync::{Notify, WaitError, WaitQueue};

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollFd {
    /// Negative: ignored.
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Only look.
    Now,
    /// Until the monotonic time, ns.
    At(u64),
    Forever,
}

impl Timeout {
    /// From a duration in ns (None: for ever), counted from now.
    pub fn after(ns: Option<u64>) -> Self {
        match ns {
            None => Self::Forever,
            Some(0) => Self::Now,
            Some(ns) => Self::At(sync::hooks::now().saturating_add(ns)),
        }
    }
}

/// Wakes one sleeping poller.
struct Waker {
    told: AtomicBool,
    queue: WaitQueue,
}

impl Notify for Waker {
    fn notify(&self) {
        self.told.store(true, Release);
        self.queue.wake_all();
    }
}

/// Looks, and sleeps between looks, until `look` finds something (its count), time runs out (0) or
/// a signal comes (ERESTARTNOHAND).
fn wait(
    timeout: Timeout,
    mut look: impl FnMut(Option<&mut PollTable>) -> Result<usize>,
) -> Result<usize> {
    let count = look(None)?;
    if count > 0 || timeout == Timeout::Now {
        return Ok(count);
    }
    let deadline = match timeout {
        Timeout::At(deadline) => Some(deadline),
        _ => None,
    };
    let waker = arc(Waker { told: AtomicBool::new(false), queue: WaitQueue::new() })?;
    let mut table = PollTable::new(waker.clone());
    let mut count = look(Some(&mut table))?;
    if count == 0 && table.was_refused() {
        return Err(Errno::ENOMEM);
    }
    loop {
        if count > 0 {
            return Ok(count);
        }
        let told = || waker.told.swap(false, AcqRel).then_some(());
        match waker.queue.wait_interruptible(deadline, told) {
            Ok(()) => count = look(None)?,
            Err(WaitError::TimedOut) => return look(None),
            Err(WaitError::Interrupted) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}

/// poll(2): fills `revents`; how many are not zero.
pub fn poll(files: &FdTable, fds: &mut [PollFd], timeout: Timeout) -> Result<usize> {
    wait(timeout, |mut table| {
        let mut count = 0;
        for entry in fds.iter_mut() {
            entry.revents = 0;
            if entry.fd < 0 {
                continue;
            }
            let ready = match files.get(entry.fd) {
                Err(_) => PollMask::NVAL,
                Ok(file) => {
                    let always = PollMask::ALWAYS;
                    let wanted = PollMask::from_bits_truncate(entry.events as u32) | always;
                    // Nothing more needs to be watched once something is ready.
                    let table = if count == 0 { table.as_deref_mut() } else { None };
                    file.poll(wanted, table) & (wanted | PollMask::NVAL)
                }
            };
            entry.revents = ready.bits() as u16;
            count += usize::from(!ready.is_empty());
        }
        Ok(count)
    })
}

/// The three sets of select(2): bit N of word N / 64 is descriptor N.
#[derive(Default)]
pub struct SelectSets<'a> {
    pub read: Option<&'a mut [u64]>,
    pub write: Option<&'a mut [u64]>,
    pub except: Option<&'a mut [u64]>,
}

/// What makes a descriptor readable, writable, exceptional for select(2).
const SELECT_READ: PollMask =
    PollMask::READABLE.union(PollMask::RDBAND).union(PollMask::HUP).union(PollMask::ERR);
const SELECT_WRITE: PollMask = PollMask::WRITABLE.union(PollMask::WRBAND).union(PollMask::ERR);
const SELECT_EXCEPT: PollMask = PollMask::PRI;

/// select(2) over descriptors below `count`: leaves the ready ones in the sets; how many bits.
/// EBADF when a set names a closed descriptor. On an error the sets are unchanged.
pub fn select(
    files: &FdTable,
    count: usize,
    sets: &mut SelectSets<'_>,
    timeout: Timeout,
) -> Result<usize> {
    let words = count.div_ceil(64);
    let wanted = |set: &Option<&mut [u64]>| -> Result<Vec<u64>> {
        let mut copy = filled(0, words)?;
        for (to, from) in copy.iter_mut().zip(set.iter().flat_map(|set| set.iter())) {
            *to = *from;
        }
        if !count.is_multiple_of(64)
            && let Some(last) = copy.last_mut()
        {
            *last &= (1 << (count % 64)) - 1;
        }
        Ok(copy)
    };
    let want = [wanted(&sets.read)?, wanted(&sets.write)?, wanted(&sets.except)?];
    let kinds = [SELECT_READ, SELECT_WRITE, SELECT_EXCEPT];
    let mut found = [filled(0u64, words)?, filled(0, words)?, filled(0, words)?];
    let total = wait(timeout, |mut table| {
        let mut total = 0;
        for set in &mut found {
            set.fill(0);
        }
        for fd in 0..count {
            let (word, mask) = (fd / 64, 1u64 << (fd % 64));
            if (want[0][word] | want[1][word] | want[2][word]) & mask == 0 {
                continue;
            }
            let file = files.get(fd as i32)?;
            let mut interest = PollMask::ALWAYS;
            for (set, kind) in want.iter().zip(kinds) {
                if set[word] & mask != 0 {
                    interest |= kind;
                }
            }
            let table = if total == 0 { table.as_deref_mut() } else { None };
            let ready = file.poll(interest, table);
            for ((set, kind), out) in want.iter().zip(kinds).zip(&mut found) {
                if set[word] & mask != 0 && ready.intersects(kind) {
                    out[word] |= mask;
                    total += 1;
                }
            }
        }
        Ok(total)
    })?;
    for (set, found) in [&mut sets.read, &mut sets.write, &mut sets.except].into_iter().zip(&found)
    {
        if let Some(set) = set {
            let n = set.len().min(found.len());
            set[..n].copy_from_slice(&found[..n]);
        }
    }
    Ok(total)
}
