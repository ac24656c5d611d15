//! Whom a file is about: a process or one thread of it, by name rather than by reference.

use crate::task::{Creds, Process, Task, TaskRef, table};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use vm::Mm;

/// A process, or a thread.
#[derive(Clone)]
pub struct Who {
    process: Weak<Process>,
    pid: i32,
    tid: Option<i32>,
    /// The address space that alone is meant; None for the present one.
    memory: Option<Weak<Mm>>,
}

impl Who {
    /// A process as a whole.
    pub fn process(process: &Arc<Process>) -> Self {
        Self { process: Arc::downgrade(process), pid: process.pid, tid: None, memory: None }
    }

    /// One of its threads.
    pub fn thread(process: &Arc<Process>, tid: i32) -> Self {
        Self { tid: Some(tid), ..Self::process(process) }
    }

    /// The same, bound to the address space of now; what it does not have is an address space that
    /// is gone.
    pub fn with_memory(&self) -> Result<Self> {
        let memory = self.mm()?.map_or_else(Weak::new, |mm| Arc::downgrade(&mm));
        Ok(Self { memory: Some(memory), ..self.clone() })
    }

    /// True for a thread's own directory.
    pub fn is_thread(&self) -> bool {
        self.tid.is_some()
    }

    /// The number that the directory is named by.
    pub fn id(&self) -> i32 {
        self.tid.unwrap_or(self.pid)
    }

    /// The process; ESRCH when it was reaped, or the thread has ended.
    pub fn find(&self) -> Result<Arc<Process>> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let present = table::process(self.pid).is_some_and(|p| Arc::ptr_eq(&p, &process));
        if !present || self.tid.is_some() && self.thread_of(&process).is_none() {
            return Err(Errno::ESRCH);
        }
        Ok(process)
    }

    fn thread_of(&self, process: &Process) -> Option<TaskRef> {
        let place = process.place.lock();
        let wanted = self.id();
        let exact = place.threads.get(wanted).cloned();
        match self.tid {
            Some(_) => exact,
            // A first thread that ended before the others leaves them to speak for the process.
            None => exact.or_else(|| place.threads.first().cloned()),
        }
    }

    /// The thread, or the process's first; None for a zombie.
    pub fn living(&self) -> Result<(Arc<Process>, Option<TaskRef>)> {
        let process = self.find()?;
        let task = self.thread_of(&process);
        Ok((process, task))
    }

    /// The thread, or the process's first; ESRCH for a zombie.
    pub fn task(&self) -> Result<TaskRef> {
        self.living()?.1.ok_or(Errno::ESRCH)
    }

    /// The address space; None for a zombie.
    pub fn mm(&self) -> Result<Option<Arc<Mm>>> {
        let present = self.find()?.mm.lock().clone();
        let mm = match &self.memory {
            Some(memory) => memory.upgrade(),
            None => present,
        };
        Ok(mm.filter(|mm| mm.users() > 0))
    }

    /// The name.
    pub fn comm(&self) -> Result<[u8; 16]> {
        let (process, task) = self.living()?;
        let remains = || process.remains.lock().as_ref().map_or([0; 16], |r| r.comm);
        Ok(task.map_or_else(remains, |t| *t.comm.lock()))
    }

    /// Who owns a file of this mode. A directory that all may enter belongs to the process's user
    /// in any case.
    pub fn owner(&self, mode: u32) -> (u32, u32) {
        let Ok(process) = self.find() else { return (0, 0) };
        let open_dir = mode == g::S_IFDIR | 0o555;
        // As on Linux, what has no memory left counts with those who do not want to be looked into.
        let open = || process.dumpable.load(Ordering::Relaxed) == 1 && process.mm.lock().is_some();
        if !open_dir && !open() {
            return (0, 0);
        }
        creds_of(&process).map_or((0, 0), |creds| (creds.euid, creds.egid))
    }
}

/// The credentials that stand for a process: its first thread's, or its last one's.
pub fn creds_of(process: &Process) -> Option<Arc<Creds>> {
    let first: Option<TaskRef> = process.place.lock().threads.first().cloned();
    first
        .map(|task| Task::credentials(&task))
        .or_else(|| process.remains.lock().as_ref().map(|r| r.creds.clone()))
}

/// The bytes of a name.
pub fn name_bytes(comm: &[u8; 16]) -> &[u8] {
    let len = comm.iter().position(|&b| b == 0).unwrap_or(comm.len());
    &comm[..len]
}
