//! Descriptors in flight: files that wait in the inboxes of sockets.
//!
//! * A socket in flight may hold others in its inbox, to any depth. Inboxes are emptied one after
//!   the other by the task that closed the first ([`bury`]), never inside each other.
//! * Sockets that wait in each other's inboxes and nowhere else can be reached by nobody, and are
//!   closed ([`collect`]): those whose every reference is in flight, less those that an inbox of
//!   another socket holds, less what these hold in turn.
//!
//! Messages with files enter and leave inboxes under one lock, so that a collection sees each
//! reference exactly once.

use super::transfer::Message;
use super::{Phase, State, UnixSocket};
use crate::env;
use crate::file::File;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use sync::{Mutex, MutexGuard, SpinLock};

/// A socket's file of which references are in flight, and how many.
struct Entry {
    file: Weak<File>,
    count: usize,
}

/// The sockets in flight, by the address of their files.
#[derive(Default)]
pub(super) struct Flight {
    sockets: BTreeMap<usize, Entry>,
    /// Descriptors in flight, for each real user that has sent some.
    sent: BTreeMap<u32, u64>,
    /// Sockets closed since the last collection.
    closed: usize,
}

static FLIGHT: Mutex<Flight> =
    Mutex::new(Flight { sockets: BTreeMap::new(), sent: BTreeMap::new(), closed: 0 });

/// Files of a message. While they are in flight their sockets are counted.
#[derive(Default)]
pub(super) struct Cargo {
    files: Vec<Arc<File>>,
    /// The real user that sends them.
    sender: u32,
    flying: bool,
}

fn key(file: &Arc<File>) -> usize {
    Arc::as_ptr(file) as usize
}

impl Cargo {
    /// Files that are not in flight yet. ETOOMANYREFS when the running task's user has more than
    /// RLIMIT_NOFILE in flight.
    pub(super) fn load(files: Vec<Arc<File>>) -> Result<Self> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let (sender, most) = env::env().flight_limit();
        if FLIGHT.lock().sent.get(&sender).is_some_and(|&sent| sent > most) {
            return Err(Errno::ETOOMANYREFS);
        }
        Ok(Self { files, sender, flying: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files, once they have landed.
    pub(super) fn take(&mut self) -> Vec<Arc<File>> {
        debug_assert!(!self.flying);
        core::mem::take(&mut self.files)
    }

    /// The files again, for a look at them.
    pub(super) fn copy(&self) -> Vec<Arc<File>> {
        self.files.clone()
    }

    fn sockets(&self) -> impl Iterator<Item = &Arc<File>> {
        self.files.iter().filter(|file| file.ops_as::<UnixSocket>().is_some())
    }

    /// Their message enters an inbox.
    pub(super) fn fly(&mut self, flight: &mut Flight) {
        for file in self.sockets() {
            let new = || Entry { file: Arc::downgrade(file), count: 0 };
            flight.sockets.entry(key(file)).or_insert_with(new).count += 1;
        }
        if !self.files.is_empty() {
            *flight.sent.entry(self.sender).or_default() += self.files.len() as u64;
        }
        self.flying = true;
    }

    /// Their message has left its inbox.
    pub(super) fn land(&mut self, flight: &mut Flight) {
        for file in self.sockets() {
            if let Some(entry) = flight.sockets.get_mut(&key(file)) {
                entry.count -= 1;
                if entry.count == 0 {
                    flight.sockets.remove(&key(file));
                }
            }
        }
        if let Some(sent) = flight.sent.get_mut(&self.sender) {
            *sent = sent.saturating_sub(self.files.len() as u64);
            if *sent == 0 {
                flight.sent.remove(&self.sender);
            }
        }
        self.flying = false;
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        if self.flying && !self.files.is_empty() {
            self.land(&mut FLIGHT.lock());
        }
    }
}

/// What a message with files needs to enter or leave an inbox.
pub(super) fn lock() -> MutexGuard<'static, Flight> {
    FLIGHT.lock()
}

type Inbox = VecDeque<Message>;

/// Inboxes that a task has still to empty, for each task that does.
static GRAVES: SpinLock<Vec<(u64, Vec<Inbox>)>> = SpinLock::new(Vec::new());

fn this_task() -> u64 {
    #[cfg(target_os = "none")]
    return hal::percpu::current();
    #[cfg(not(target_os = "none"))]
    return 0;
}

/// Drops what is in an inbox. Inboxes of sockets that are closed by that come after it, so the
/// stack does not grow with their depth.
pub(super) fn bury(inbox: Inbox) {
    if inbox.is_empty() {
        return;
    }
    let me = this_task();
    {
        let mut graves = GRAVES.lock();
        if let Some((_, mine)) = graves.iter_mut().find(|(task, _)| *task == me) {
            mine.push(inbox);
            return;
        }
        graves.push((me, alloc::vec![inbox]));
    }
    loop {
        let next = {
            let mut graves = GRAVES.lock();
            let Some(at) = graves.iter().position(|(task, _)| *task == me) else { return };
            let next = graves[at].1.pop();
            if next.is_none() {
                graves.swap_remove(at);
            }
            next
        };
        let Some(inbox) = next else { return };
        drop(inbox);
    }
}

/// A socket that only messages hold.
struct Candidate {
    file: Arc<File>,
    /// References that are in no candidate's inbox.
    outside: usize,
    live: bool,
}

/// Calls `f` for every inbox that the socket keeps alive: its own, and those of connections that
/// nobody has accepted.
fn each_inbox(socket: &UnixSocket, f: &mut impl FnMut(&mut State)) {
    let mut state = socket.state.lock();
    f(&mut state);
    let waiting: Vec<_> = match &state.phase {
        Phase::Listening { backlog, .. } => backlog.iter().cloned().collect(),
        _ => return,
    };
    drop(state);
    for server in waiting {
        f(&mut server.state.lock());
    }
}

/// The sockets in flight that the inboxes of `file`'s socket hold.
fn held_by(file: &File) -> Vec<usize> {
    let mut held = Vec::new();
    if let Some(socket) = file.ops_as::<UnixSocket>() {
        each_inbox(socket, &mut |state| {
            for message in &state.inbox {
                held.extend(message.cargo.sockets().map(key));
            }
        });
    }
    held
}

impl Flight {
    /// The sockets that nobody can reach. The files go to `seen`, to be let go without the lock.
    fn unreachable(&self, seen: &mut Vec<Arc<File>>) -> Vec<Arc<File>> {
        let mut candidates = BTreeMap::new();
        for (&key, entry) in &self.sockets {
            let Some(file) = entry.file.upgrade() else { continue };
            // One is ours.
            if Arc::strong_count(&file) - 1 == entry.count {
                let candidate = Candidate { file, outside: entry.count, live: false };
                candidates.insert(key, candidate);
            } else {
                seen.push(file);
            }
        }
        let held: Vec<usize> =
            candidates.values().flat_map(|candidate| held_by(&candidate.file)).collect();
        for key in held {
            if let Some(candidate) = candidates.get_mut(&key) {
                candidate.outside = candidate.outside.saturating_sub(1);
            }
        }
        let reached = |candidate: &&mut Candidate| candidate.outside > 0;
        let mut work: Vec<Arc<File>> = Vec::new();
        for candidate in candidates.values_mut().filter(reached) {
            candidate.live = true;
            work.push(candidate.file.clone());
        }
        while let Some(file) = work.pop() {
            for key in held_by(&file) {
                if let Some(candidate) = candidates.get_mut(&key).filter(|found| !found.live) {
                    candidate.live = true;
                    work.push(candidate.file.clone());
                }
            }
            seen.push(file);
        }
        let (live, dead): (Vec<_>, Vec<_>) =
            candidates.into_values().partition(|candidate| candidate.live);
        seen.extend(live.into_iter().map(|candidate| candidate.file));
        dead.into_iter().map(|candidate| candidate.file).collect()
    }
}

/// Closes the sockets in flight that nobody can reach. Called when a socket was closed; looks only
/// once as many have been as a look is worth.
pub(super) fn collect() {
    let mut seen = Vec::new();
    let mut inboxes = VecDeque::new();
    let dead = {
        let mut flight = FLIGHT.lock();
        flight.closed += 1;
        if flight.sockets.is_empty() || flight.closed < flight.sockets.len() / 8 {
            return;
        }
        flight.closed = 0;
        let dead = flight.unreachable(&mut seen);
        for socket in dead.iter().filter_map(|file| file.ops_as::<UnixSocket>()) {
            each_inbox(socket, &mut |state| {
                inboxes.append(&mut state.inbox);
            });
        }
        dead
    };
    drop(seen);
    bury(inboxes);
    drop(dead);
}
