//! Descriptors in flight: files that wait in the inboxes of sockets.
//!
//! * A socket in flight may hold others in its inbox, to any depth. Inboxes are emptied one after
//!   the other by the task that closed the first ([`drop_inbox`]), never inside each other.
//! * Sockets that wait in each other's inboxes and nowhere else can be reached by nobody, and are
//!   closed ([`collect`]): those whose every reference is in flight, less those that an inbox of
//!   another socket holds, less what these hold in turn.
//!
//! Messages with files enter and leave inboxes under one lock, so that a collection sees each
//! reference exactly once.

use super::transfer::Message;
use super::{Phase, UnixSocket};
use crate::env;
use crate::file::File;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use frames::fallible::{Grow, TryMap, TryVec};
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

/// Inboxes that a task has still to empty, for each task that does: a list through their first
/// messages, which needs no memory.
static GRAVES: SpinLock<Vec<(u64, Inbox)>> = SpinLock::new(Vec::new());

fn this_task() -> u64 {
    #[cfg(target_os = "none")]
    return hal::percpu::current();
    #[cfg(not(target_os = "none"))]
    return 0;
}

/// Drops what is in an inbox. Inboxes of sockets that are closed by that come after it, so the
/// stack does not grow with their depth.
pub(super) fn drop_inbox(inbox: Inbox) {
    if inbox.is_empty() {
        return;
    }
    let me = this_task();
    {
        let mut graves = GRAVES.lock();
        let mine = graves.iter().position(|(task, _)| *task == me);
        let at = mine.unwrap_or_else(|| {
            graves.push((me, Inbox::new()));
            graves.len() - 1
        });
        let waits = core::mem::replace(&mut graves[at].1, inbox);
        if let Some(first) = graves[at].1.front_mut() {
            first.next_inbox = waits;
        }
        if mine.is_some() {
            return;
        }
    }
    loop {
        let inbox = {
            let mut graves = GRAVES.lock();
            let Some(at) = graves.iter().position(|(task, _)| *task == me) else { return };
            let mut inbox = core::mem::take(&mut graves[at].1);
            match inbox.front_mut() {
                Some(first) => graves[at].1 = core::mem::take(&mut first.next_inbox),
                None => {
                    graves.swap_remove(at);
                    return;
                }
            }
            inbox
        };
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

/// Connections that nobody has accepted: the socket keeps their inboxes alive, too.
fn waiting(socket: &UnixSocket) -> impl Iterator<Item = Arc<UnixSocket>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let state = socket.state.lock();
        let Phase::Listening { backlog, .. } = &state.phase else { return None };
        let server = backlog.get(at).cloned()?;
        at += 1;
        Some(server)
    })
}

/// The sockets in flight that the inboxes of `file`'s socket hold. ENOMEM.
fn held_by(file: &File) -> Result<Vec<usize>> {
    let mut held = Vec::new();
    let mut outcome = Ok(());
    if let Some(socket) = file.ops_as::<UnixSocket>() {
        let mut look = |socket: &UnixSocket| {
            let state = socket.state.lock();
            for socket in state.inbox.iter().flat_map(|message| message.cargo.sockets()) {
                outcome = outcome.and_then(|()| held.try_push(key(socket)));
            }
        };
        look(socket);
        waiting(socket).for_each(|server| look(&server));
    }
    outcome.map(|()| held)
}

/// A search for what nobody can reach: files that must be let go without the lock.
#[derive(Default)]
struct Search {
    candidates: BTreeMap<usize, Candidate>,
    seen: Vec<Arc<File>>,
    work: Vec<Arc<File>>,
    dead: Vec<Arc<File>>,
}

impl Flight {
    /// Finds the sockets that nobody can reach: they are `dead` then. ENOMEM.
    fn find_unreachable(&self, search: &mut Search) -> Result<()> {
        let Search { candidates, seen, work, dead } = search;
        for (&key, entry) in &self.sockets {
            seen.room_for(1)?;
            candidates.room_for_one()?;
            let Some(file) = entry.file.upgrade() else { continue };
            // One is ours.
            if Arc::strong_count(&file) - 1 == entry.count {
                let candidate = Candidate { file, outside: entry.count, live: false };
                candidates.insert(key, candidate);
            } else {
                seen.push(file);
            }
        }
        let mut next = 0;
        while let Some((&at, candidate)) = candidates.range(next..).next() {
            next = at + 1;
            for key in held_by(&candidate.file)? {
                if let Some(candidate) = candidates.get_mut(&key) {
                    candidate.outside = candidate.outside.saturating_sub(1);
                }
            }
        }
        // Each candidate is put there once at most, and goes to one of the others in the end.
        work.room_for(candidates.len())?;
        seen.room_for(2 * candidates.len())?;
        dead.room_for(candidates.len())?;
        let reached = |candidate: &&mut Candidate| candidate.outside > 0;
        for candidate in candidates.values_mut().filter(reached) {
            candidate.live = true;
            work.push(candidate.file.clone());
        }
        while let Some(file) = work.pop() {
            let held = held_by(&file);
            seen.push(file);
            for key in held? {
                if let Some(candidate) = candidates.get_mut(&key).filter(|found| !found.live) {
                    candidate.live = true;
                    work.push(candidate.file.clone());
                }
            }
        }
        for candidate in core::mem::take(candidates).into_values() {
            if candidate.live {
                seen.push(candidate.file);
            } else {
                dead.push(candidate.file);
            }
        }
        Ok(())
    }
}

/// Closes the sockets in flight that nobody can reach. Called when a socket was closed; looks only
/// once as many have been as a look is worth.
pub(super) fn collect() {
    let mut search = Search::default();
    {
        let mut flight = FLIGHT.lock();
        flight.closed += 1;
        if flight.sockets.is_empty() || flight.closed < flight.sockets.len() / 8 {
            return;
        }
        flight.closed = 0;
        // Without memory for it the next time finds more.
        if flight.find_unreachable(&mut search).is_err() {
            drop(flight);
            return;
        }
    }
    // What nobody can reach stays so: these are the only references outside its own inboxes.
    let empty = |socket: &UnixSocket| {
        let inbox = core::mem::take(&mut socket.state.lock().inbox);
        drop_inbox(inbox);
    };
    for socket in search.dead.iter().filter_map(|file| file.ops_as::<UnixSocket>()) {
        empty(socket);
        waiting(socket).for_each(|server| empty(&server));
    }
}
