//! Semaphore sets (semget(2)).

use super::{NOWAIT, Object, Objects, Perm, cmd, now, write_words};
use crate::proc::put;
use crate::task::{Process, current};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use frames::fallible::{TryMap, TryVec, copied, filled};
use fs::pseudo::Text;
use hal::VirtAddr;
use sync::{SpinLock, WaitError, WaitQueue};

/// Limits, as Linux has them.
const MAX_SETS: usize = 32000;
const MAX_IN_SET: u32 = 32000;
const MAX_ALL: u64 = 1_024_000_000;
const MAX_OPS: usize = 500;
const MAX_VALUE: i32 = 32767;
/// SEM_UNDO.
const UNDO: u32 = 0x1000;

static SETS: Objects<Set> = Objects::new(MAX_SETS);
/// Undo lists that there are: while there are none, an exit looks for none.
static UNDOS: AtomicUsize = AtomicUsize::new(0);

struct Set {
    state: SpinLock<State>,
    changed: WaitQueue,
    removed: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Sem {
    value: i32,
    /// Process of the last operation.
    pid: i32,
}

struct State {
    perm: Perm,
    sems: Vec<Sem>,
    /// What each process's end adds to each semaphore.
    undo: BTreeMap<i32, Vec<i32>>,
    /// Who sleeps for which semaphore: to become 0, or to rise.
    waiting: Vec<(u16, bool)>,
    operated: i64,
    changed: i64,
}

impl Object for Set {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        UNDOS.fetch_sub(self.state.get_mut().undo.len(), Ordering::Relaxed);
    }
}

/// `struct sembuf`.
#[derive(Clone, Copy)]
pub struct Op {
    num: u16,
    by: i16,
    flags: u32,
}

/// semget(2).
pub fn get(key: i32, count: i32, flags: u32) -> Result<i32> {
    if !(0..=MAX_IN_SET as i32).contains(&count) {
        return Err(Errno::EINVAL);
    }
    let fits = |s: &Set| {
        if count as usize > s.state.lock().sems.len() { Err(Errno::EINVAL) } else { Ok(()) }
    };
    SETS.get(key, flags, fits, |perm| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let state = State {
            perm,
            sems: filled(Sem::default(), count as usize)?,
            undo: BTreeMap::new(),
            waiting: Vec::new(),
            operated: 0,
            changed: now(),
        };
        Ok(Set {
            state: SpinLock::new(state),
            changed: WaitQueue::new(),
            removed: AtomicBool::new(false),
        })
    })
}

/// Where operations stand.
enum Tried {
    Done,
    /// This one has to wait.
    Blocked(Op),
}

impl State {
    /// Does all operations or none.
    fn operate(&mut self, ops: &[Op], pid: i32) -> Result<Tried> {
        let mut values: Vec<(u16, i32)> = Vec::with_room(ops.len())?;
        let mut undo: Vec<(u16, i32)> = Vec::with_room(ops.len())?;
        for op in ops {
            let at = values.iter().position(|(num, _)| *num == op.num).unwrap_or_else(|| {
                values.push((op.num, self.sems[op.num as usize].value));
                values.len() - 1
            });
            let value = values[at].1;
            let by = i32::from(op.by);
            if by == 0 && value != 0 || value + by < 0 {
                return Ok(Tried::Blocked(*op));
            }
            if value + by > MAX_VALUE {
                return Err(Errno::ERANGE);
            }
            values[at].1 = value + by;
            if op.flags & UNDO != 0 && by != 0 {
                undo.push((op.num, -by));
            }
        }
        if !undo.is_empty() {
            if !self.undo.contains_key(&pid) {
                self.undo.try_insert_in(pid, filled(0, self.sems.len())?)?;
                UNDOS.fetch_add(1, Ordering::Relaxed);
            }
            let Some(list) = self.undo.get_mut(&pid) else { return Err(Errno::ENOMEM) };
            for (num, by) in undo {
                let sum = list[num as usize] + by;
                if sum.abs() > MAX_VALUE {
                    return Err(Errno::ERANGE);
                }
                list[num as usize] = sum;
            }
        }
        for (num, value) in values {
            self.sems[num as usize] = Sem { value, pid };
        }
        self.operated = now();
        Ok(Tried::Done)
    }

    /// A value that was set directly is nobody's to undo.
    fn forget_undo(&mut self, num: usize) {
        for list in self.undo.values_mut() {
            list[num] = 0;
        }
    }
}

/// Reads `count` operations. E2BIG, EINVAL, EFAULT.
pub fn read_ops(at: VirtAddr, count: usize) -> Result<Vec<Op>> {
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    if count > MAX_OPS {
        return Err(Errno::E2BIG);
    }
    let words: Vec<[u16; 3]> = hal::user::read_vec(at, count)?;
    Vec::gather(words.iter().map(|w| Op { num: w[0], by: w[1] as i16, flags: u32::from(w[2]) }))
}

/// semop(2) and semtimedop(2), until `deadline`. EAGAIN, EIDRM, EINTR, EFBIG, ERANGE, EACCES.
pub fn operate(id: i32, ops: &[Op], deadline: Option<u64>) -> Result<()> {
    let set = SETS.find(id)?;
    let pid = current().pid();
    let alters = ops.iter().any(|op| op.by != 0);
    set.perm().check(if alters { super::WRITE } else { super::READ })?;
    {
        let state = set.state.lock();
        if ops.iter().any(|op| op.num as usize >= state.sems.len()) {
            return Err(Errno::EFBIG);
        }
    }
    let mut asleep: Option<(u16, bool)> = None;
    let mut attempt = || {
        if set.removed.load(Ordering::Acquire) {
            return Some(Err(Errno::EIDRM));
        }
        let mut state = set.state.lock();
        if let Some(mine) = asleep.take()
            && let Some(at) = state.waiting.iter().position(|w| *w == mine)
        {
            state.waiting.swap_remove(at);
        }
        match state.operate(ops, pid) {
            Ok(Tried::Done) => Some(Ok(())),
            Err(error) => Some(Err(error)),
            Ok(Tried::Blocked(op)) if op.flags & NOWAIT != 0 => Some(Err(Errno::EAGAIN)),
            Ok(Tried::Blocked(op)) => {
                let mine = (op.num, op.by == 0);
                state.waiting.push(mine);
                asleep = Some(mine);
                None
            }
        }
    };
    let outcome = set.changed.wait_interruptible(deadline, &mut attempt);
    if let Some(mine) = asleep {
        let mut state = set.state.lock();
        if let Some(at) = state.waiting.iter().position(|w| *w == mine) {
            state.waiting.swap_remove(at);
        }
    }
    match outcome {
        Ok(result) => {
            if alters && result.is_ok() {
                set.changed.wake_all();
            }
            result
        }
        Err(WaitError::TimedOut) => Err(Errno::EAGAIN),
        Err(WaitError::Interrupted) => Err(Errno::EINTR),
    }
}

/// The process ends: what it asked to have undone is.
pub fn on_process_end(process: &Process) {
    if UNDOS.load(Ordering::Relaxed) == 0 {
        return;
    }
    for set in SETS.all() {
        let changed = {
            let mut state = set.state.lock();
            let Some(list) = state.undo.remove(&process.pid) else { continue };
            UNDOS.fetch_sub(1, Ordering::Relaxed);
            for (sem, by) in state.sems.iter_mut().zip(&list).filter(|(_, by)| **by != 0) {
                sem.value = (sem.value + by).clamp(0, MAX_VALUE);
                sem.pid = process.pid;
            }
            state.operated = now();
            true
        };
        if changed {
            set.changed.wake_all();
        }
    }
}

/// `struct semid64_ds`.
fn words(set: &Set) -> [u64; 13] {
    let state = set.state.lock();
    let mut words = [0; 13];
    words[..6].copy_from_slice(&state.perm.words());
    words[6] = state.operated as u64;
    words[8] = state.changed as u64;
    words[10] = state.sems.len() as u64;
    words
}

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const STAT: i32 = 18;
const INFO: i32 = 19;
const STAT_ANY: i32 = 20;

/// semctl(2). `arg` is the value of SETVAL, or an address.
pub fn control(id: i32, num: i32, command: i32, arg: u64) -> Result<i32> {
    let at = VirtAddr::new(arg);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        cmd::INFO | INFO => {
            let (used, total) = if command == INFO {
                let sems = SETS.all().map(|set| set.state.lock().sems.len() as u32).sum();
                (SETS.all().count() as u32, sems)
            } else {
                (20, MAX_VALUE as u32)
            };
            let limits = [
                MAX_ALL as u32,
                MAX_SETS as u32,
                MAX_ALL as u32,
                MAX_ALL as u32,
                MAX_IN_SET,
                MAX_OPS as u32,
                MAX_OPS as u32,
                used,
                MAX_VALUE as u32,
                total,
            ];
            hal::user::write(at, &limits)?;
            Ok(SETS.highest())
        }
        STAT | STAT_ANY => {
            let (id, set) = SETS.at_slot(id)?;
            if command == STAT {
                set.perm().check(super::READ)?;
            }
            write_words(at, &words(&set))?;
            Ok(id)
        }
        cmd::STAT => {
            let set = SETS.find(id)?;
            set.perm().check(super::READ)?;
            write_words(at, &words(&set))?;
            Ok(0)
        }
        cmd::SET => {
            let set = SETS.find(id)?;
            let mut perm = set.perm();
            perm.set_from(at)?;
            let mut state = set.state.lock();
            state.perm = perm;
            state.changed = now();
            Ok(0)
        }
        cmd::RMID => {
            let set = SETS.find(id)?;
            set.perm().check_owner()?;
            set.removed.store(true, Ordering::Release);
            SETS.remove(id);
            set.changed.wake_all();
            Ok(0)
        }
        SETVAL | SETALL => write_values(id, num, command == SETALL, arg),
        GETALL | GETPID | GETVAL | GETNCNT | GETZCNT => read_values(id, num, command, at),
        _ => Err(Errno::EINVAL),
    }
}

fn write_values(id: i32, num: i32, all: bool, arg: u64) -> Result<i32> {
    let set = SETS.find(id)?;
    let count = set.state.lock().sems.len();
    set.perm().check(super::WRITE)?;
    let values: Vec<(usize, i32)> = if all {
        let words: Vec<u16> = hal::user::read_vec(VirtAddr::new(arg), count)?;
        Vec::gather(words.iter().enumerate().map(|(i, &v)| (i, i32::from(v))))?
    } else {
        let num = usize::try_from(num).ok().filter(|n| *n < count).ok_or(Errno::EINVAL)?;
        copied(&[(num, arg as i32)])?
    };
    if values.iter().any(|(_, v)| !(0..=MAX_VALUE).contains(v)) {
        return Err(Errno::ERANGE);
    }
    {
        let pid = current().pid();
        let mut state = set.state.lock();
        for (i, value) in values {
            state.sems[i] = Sem { value, pid };
            state.forget_undo(i);
        }
        state.changed = now();
    }
    set.changed.wake_all();
    Ok(0)
}

fn read_values(id: i32, num: i32, command: i32, at: VirtAddr) -> Result<i32> {
    let set = SETS.find(id)?;
    set.perm().check(super::READ)?;
    if command == GETALL {
        let values = Vec::gather(set.state.lock().sems.iter().map(|s| s.value as u16))?;
        hal::user::copy_to(at, hal::user::slice_bytes(&values))?;
        return Ok(0);
    }
    let state = set.state.lock();
    let sem = usize::try_from(num).ok().and_then(|n| state.sems.get(n)).ok_or(Errno::EINVAL)?;
    let waiting = |zero: bool| {
        state.waiting.iter().filter(|w| i32::from(w.0) == num && w.1 == zero).count() as i32
    };
    Ok(match command {
        GETVAL => sem.value,
        GETPID => sem.pid,
        GETNCNT => waiting(false),
        _ => waiting(true),
    })
}

/// /proc/sysvipc/sem.
pub fn list(out: &mut Text) -> Result<()> {
    put!(out, "{:>10} {:>10} perms {:>10}", "key", "semid", "nsems");
    out.bytes(b"   uid   gid  cuid  cgid      otime      ctime\n");
    for (id, set) in SETS.with_ids() {
        let state = set.state.lock();
        let perm = &state.perm;
        put!(out, "{:>10} {id:>10}  {:>4o} {:>10}", perm.key, perm.mode, state.sems.len());
        put!(out, " {:>5} {:>5} {:>5} {:>5}", perm.uid, perm.gid, perm.cuid, perm.cgid);
        put!(out, " {:>10} {:>10}\n", state.operated, state.changed);
    }
    Ok(())
}
