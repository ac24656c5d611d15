//! Message queues (msgget(2)).

use super::{NOWAIT, Object, Objects, Perm, cmd, now, write_words};
use crate::creds;
use crate::proc::put;
use crate::task::current;
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use frames::fallible::Grow;
use fs::Cap;
use fs::pseudo::Text;
use hal::VirtAddr;
use sync::{SpinLock, WaitQueue};

/// Limits, as Linux has them.
const MAX_QUEUES: usize = 32000;
const MAX_MESSAGE: u64 = 8192;
const MAX_BYTES: u64 = 16384;

/// MSG_NOERROR, MSG_EXCEPT, MSG_COPY.
const NOERROR: u32 = 0o10000;
const EXCEPT: u32 = 0o20000;
const COPY: u32 = 0o40000;

/// MSG_STAT, MSG_INFO, MSG_STAT_ANY.
const STAT: i32 = 11;
const INFO: i32 = 12;
const STAT_ANY: i32 = 13;

static QUEUES: Objects<Queue> = Objects::new(MAX_QUEUES);

struct Queue {
    state: SpinLock<State>,
    changed: WaitQueue,
    removed: AtomicBool,
}

#[derive(Clone)]
struct Message {
    kind: i64,
    text: Vec<u8>,
}

struct State {
    perm: Perm,
    messages: VecDeque<Message>,
    bytes: u64,
    max_bytes: u64,
    sent: i64,
    received: i64,
    changed: i64,
    last_sender: i32,
    last_receiver: i32,
}

impl Object for Queue {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

/// msgget(2).
pub fn get(key: i32, flags: u32) -> Result<i32> {
    QUEUES.get(
        key,
        flags,
        |_| Ok(()),
        |perm| {
            let state = State {
                perm,
                messages: VecDeque::new(),
                bytes: 0,
                max_bytes: MAX_BYTES,
                sent: 0,
                received: 0,
                changed: now(),
                last_sender: 0,
                last_receiver: 0,
            };
            Ok(Queue {
                state: SpinLock::new(state),
                changed: WaitQueue::new(),
                removed: AtomicBool::new(false),
            })
        },
    )
}

impl Queue {
    /// Sleeps until `attempt` gives something, or the queue is removed (EIDRM).
    fn wait<R>(&self, mut attempt: impl FnMut(&mut State) -> Option<Result<R>>) -> Result<R> {
        let outcome = self.changed.wait_interruptible(None, || {
            if self.removed.load(Ordering::Acquire) {
                return Some(Err(Errno::EIDRM));
            }
            attempt(&mut self.state.lock())
        });
        let result = outcome.map_err(|_| Errno::ERESTARTNOHAND)?;
        if result.is_ok() {
            self.changed.wake_all();
        }
        result
    }
}

/// msgsnd(2).
pub fn send(id: i32, at: VirtAddr, size: u64, flags: u32) -> Result<()> {
    let kind: i64 = hal::user::read(at)?;
    if size > MAX_MESSAGE || kind < 1 || id < 0 {
        return Err(Errno::EINVAL);
    }
    let text: Vec<u8> = hal::user::read_vec(at + 8, size as usize)?;
    let queue = QUEUES.find(id)?;
    queue.perm().check(super::WRITE)?;
    let pid = current().pid();
    let mut message = Some(Message { kind, text });
    queue.wait(|state| {
        let fits = state.bytes + size <= state.max_bytes
            && (state.messages.len() as u64) < state.max_bytes;
        if !fits {
            return (flags & NOWAIT != 0).then_some(Err(Errno::EAGAIN));
        }
        if let Err(error) = state.messages.room_for(1) {
            return Some(Err(error));
        }
        state.messages.extend(message.take());
        state.bytes += size;
        state.sent = now();
        state.last_sender = pid;
        Some(Ok(()))
    })
}

/// The place of the message that `wanted` means: any, this kind (or not), or the lowest up to it.
fn choose(state: &State, wanted: i64, flags: u32) -> Option<usize> {
    let messages = state.messages.iter().enumerate();
    if flags & COPY != 0 {
        return usize::try_from(wanted).ok().filter(|&at| at < state.messages.len());
    }
    match wanted {
        0 => (!state.messages.is_empty()).then_some(0),
        kind if kind > 0 && flags & EXCEPT != 0 => {
            messages.into_iter().find(|(_, m)| m.kind != kind).map(|(i, _)| i)
        }
        kind if kind > 0 => messages.into_iter().find(|(_, m)| m.kind == kind).map(|(i, _)| i),
        limit => {
            let limit = limit.checked_neg().unwrap_or(i64::MAX);
            messages
                .into_iter()
                .filter(|(_, m)| m.kind <= limit)
                .min_by_key(|(_, m)| m.kind)
                .map(|(i, _)| i)
        }
    }
}

/// msgrcv(2): bytes of the message's text.
pub fn receive(id: i32, at: VirtAddr, room: u64, wanted: i64, flags: u32) -> Result<usize> {
    if id < 0 || room > isize::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if flags & COPY != 0 && (flags & EXCEPT != 0 || flags & NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let queue = QUEUES.find(id)?;
    queue.perm().check(super::READ)?;
    let pid = current().pid();
    let message = queue.wait(|state| {
        let Some(place) = choose(state, wanted, flags) else {
            return (flags & NOWAIT != 0).then_some(Err(Errno::ENOMSG));
        };
        if state.messages[place].text.len() as u64 > room && flags & NOERROR == 0 {
            return Some(Err(Errno::E2BIG));
        }
        if flags & COPY != 0 {
            return Some(Ok(state.messages[place].clone()));
        }
        let message = state.messages.remove(place)?;
        state.bytes -= message.text.len() as u64;
        state.received = now();
        state.last_receiver = pid;
        Some(Ok(message))
    })?;
    let len = message.text.len().min(room as usize);
    hal::user::write(at, &message.kind)?;
    hal::user::copy_to(at + 8, &message.text[..len])?;
    Ok(len)
}

/// `struct msqid64_ds`.
fn words(queue: &Queue) -> [u64; 15] {
    let state = queue.state.lock();
    let mut words = [0; 15];
    words[..6].copy_from_slice(&state.perm.words());
    words[6] = state.sent as u64;
    words[7] = state.received as u64;
    words[8] = state.changed as u64;
    words[9] = state.bytes;
    words[10] = state.messages.len() as u64;
    words[11] = state.max_bytes;
    words[12] = u64::from(state.last_sender as u32) | u64::from(state.last_receiver as u32) << 32;
    words
}

fn info(at: VirtAddr, used: bool) -> Result<i32> {
    let (pool, map, total) = if used {
        let sum =
            |f: fn(&State) -> u64| QUEUES.all().map(|q| f(&q.state.lock())).sum::<u64>() as u32;
        (QUEUES.all().count() as u32, sum(|s| s.messages.len() as u64), sum(|s| s.bytes))
    } else {
        let pool = (MAX_QUEUES as u64 * MAX_BYTES / 1024) as u32;
        (pool, MAX_BYTES as u32, MAX_BYTES as u32)
    };
    // Pool, map, longest message, bytes of a queue, queues, segment size, messages, segments.
    let words =
        [pool, map, MAX_MESSAGE as u32, MAX_BYTES as u32, MAX_QUEUES as u32, 16, total, 0xffff];
    hal::user::write(at, &words)?;
    Ok(QUEUES.highest())
}

fn set(id: i32, at: VirtAddr) -> Result<()> {
    let queue = QUEUES.find(id)?;
    let mut perm = queue.perm();
    perm.set_from(at)?;
    let max_bytes: u64 = hal::user::read(at + 88)?;
    if max_bytes > MAX_BYTES && !creds::capable(Cap::SysResource) {
        return Err(Errno::EPERM);
    }
    {
        let mut state = queue.state.lock();
        state.perm = perm;
        state.max_bytes = max_bytes;
        state.changed = now();
    }
    queue.changed.wake_all();
    Ok(())
}

/// msgctl(2).
pub fn control(id: i32, command: i32, at: VirtAddr) -> Result<i32> {
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        cmd::INFO | INFO => info(at, command == INFO),
        STAT | STAT_ANY => {
            let (id, queue) = QUEUES.at_slot(id)?;
            if command == STAT {
                queue.perm().check(super::READ)?;
            }
            write_words(at, &words(&queue))?;
            Ok(id)
        }
        cmd::STAT => {
            let queue = QUEUES.find(id)?;
            queue.perm().check(super::READ)?;
            write_words(at, &words(&queue))?;
            Ok(0)
        }
        cmd::SET => set(id, at).map(|()| 0),
        cmd::RMID => {
            let queue = QUEUES.find(id)?;
            queue.perm().check_owner()?;
            queue.removed.store(true, Ordering::Release);
            QUEUES.remove(id);
            queue.changed.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// /proc/sysvipc/msg.
pub fn list(out: &mut Text) -> Result<()> {
    put!(out, "{:>10} {:>10} perms {:>11} {:>10} lspid lrpid", "key", "msqid", "cbytes", "qnum");
    out.bytes(b"   uid   gid  cuid  cgid      stime      rtime      ctime\n");
    for (id, queue) in QUEUES.with_ids() {
        let state = queue.state.lock();
        let perm = &state.perm;
        put!(out, "{:>10} {id:>10}  {:>4o}  {:>10}", perm.key, perm.mode, state.bytes);
        put!(
            out,
            " {:>10} {:>5} {:>5}",
            state.messages.len(),
            state.last_sender,
            state.last_receiver
        );
        put!(out, " {:>5} {:>5} {:>5} {:>5}", perm.uid, perm.gid, perm.cuid, perm.cgid);
        put!(out, " {:>10} {:>10} {:>10}\n", state.sent, state.received, state.changed);
    }
    Ok(())
}
