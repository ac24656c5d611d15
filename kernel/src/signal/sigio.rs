//! SIGIO: signals about files, to whom F_SETOWN named (fcntl(2)).

use super::info::SigInfo;
use super::send::{self, Sent};
use super::set::sig;
use crate::task::{Process, Task, TaskRef, current, table};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use fs::File;
use fs::fasync::{self, Band};

/// What an owner is: the types of `struct f_owner_ex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Thread = 0,
    Process = 1,
    Group = 2,
}

impl Kind {
    /// EINVAL.
    pub fn from_raw(raw: i32) -> Result<Self> {
        match raw {
            0 => Ok(Self::Thread),
            1 => Ok(Self::Process),
            2 => Ok(Self::Group),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// An owner, and the user who named it.
pub struct Owner {
    kind: Kind,
    /// 0 for nobody.
    id: i32,
    /// Of the process or thread: another may get the id later.
    process: Weak<Process>,
    uid: u32,
    euid: u32,
}

impl Owner {
    /// The owner with this id, named by the running task. ESRCH when nobody has the id.
    fn named(kind: Kind, id: i32) -> Result<Self> {
        let task = table::task(id);
        let leader = table::process(id);
        let known = task.is_some() || leader.is_some() || table::group(id).next().is_some();
        if id != 0 && !known {
            return Err(Errno::ESRCH);
        }
        let process = match kind {
            Kind::Thread => task.map(|task| task.process.clone()),
            Kind::Process => leader,
            Kind::Group => None,
        };
        let process = process.as_ref().map_or(Weak::new(), Arc::downgrade);
        let creds = current().credentials();
        Ok(Self { kind, id, process, uid: creds.uid, euid: creds.euid })
    }

    /// The thread, while it is there.
    fn task(&self) -> Option<TaskRef> {
        table::task(self.id).filter(|task| self.is_of(&task.process))
    }

    /// The process, until it is reaped.
    fn process(&self) -> Option<Arc<Process>> {
        table::process(self.id).filter(|process| self.is_of(process))
    }

    fn is_of(&self, process: &Arc<Process>) -> bool {
        self.process.as_ptr() == Arc::as_ptr(process)
    }

    /// Its id, or 0 when it is gone.
    fn id(&self) -> i32 {
        let there = match self.kind {
            Kind::Thread => self.task().is_some(),
            Kind::Process => self.process().is_some(),
            Kind::Group => table::group(self.id).next().is_some(),
        };
        if there { self.id } else { 0 }
    }

    /// Whoever named the owner may send it signals: he is root, or of the same user.
    fn permits(&self, (uid, suid): (u32, u32)) -> bool {
        self.euid == 0 || [self.uid, self.euid].iter().any(|id| *id == uid || *id == suid)
    }

    fn to_process(&self, process: &Process, signal: u32, band: Band, fd: i32) {
        if self.permits(send::target_ids(process)) {
            deliver(signal, band, fd, |info| send::to_process(process, info.into()));
        }
    }

    fn to_thread(&self, task: &Task, signal: u32, band: Band, fd: i32) {
        let creds = task.credentials();
        if self.permits((creds.uid, creds.suid)) {
            deliver(signal, band, fd, |info| send::to_thread(task, info.into()));
        }
    }
}

/// Sends `signal`; a plain SIGIO where it is 0, or the queue is full.
fn deliver(signal: u32, band: Band, fd: i32, send: impl Fn(SigInfo) -> Result<Sent>) {
    if signal == 0 || send(SigInfo::poll(signal as i32, band, fd)).is_err() {
        // Below the real-time signals and from the kernel: never refused.
        let _ = send(SigInfo::kernel(sig::IO));
    }
}

impl fasync::Owner for Owner {
    fn signal(&self, signal: u32, band: Band, fd: i32) {
        match self.kind {
            Kind::Thread => {
                if let Some(task) = self.task() {
                    self.to_thread(&task, signal, band, fd);
                }
            }
            Kind::Process => {
                if let Some(process) = self.process() {
                    self.to_process(&process, signal, band, fd);
                }
            }
            Kind::Group => {
                for process in table::group(self.id) {
                    self.to_process(&process, signal, band, fd);
                }
            }
        }
    }
}

/// F_SETOWN_EX. ESRCH when nobody has the id; 0 takes the owner away.
pub fn set_owner_ex(file: &File, kind: Kind, id: i32) -> Result<()> {
    let owner = Owner::named(kind, id)?;
    file.fown().set_owner(Arc::new(owner));
    Ok(())
}

/// F_SETOWN, FIOSETOWN: a process, or a negative process group.
pub fn set_owner(file: &File, id: i32) -> Result<()> {
    match id {
        i32::MIN => Err(Errno::EINVAL),
        group if group < 0 => set_owner_ex(file, Kind::Group, -group),
        process => set_owner_ex(file, Kind::Process, process),
    }
}

/// F_GETOWN_EX: the owner's kind, and its id or 0.
pub fn owner_ex(file: &File) -> (Kind, i32) {
    let owner = file.fown_if_used().and_then(|fown| fown.owner());
    let owner = owner.as_deref().and_then(|owner| (owner as &dyn Any).downcast_ref::<Owner>());
    owner.map_or((Kind::Thread, 0), |owner| (owner.kind, owner.id()))
}

/// F_GETOWN, FIOGETOWN.
pub fn owner(file: &File) -> i32 {
    match owner_ex(file) {
        (Kind::Group, id) => -id,
        (_, id) => id,
    }
}

/// O_ASYNC on or off, through `fd`: a terminal without an owner gets one. ENOTTY, ENOMEM.
pub fn set_async(file: &File, fd: i32, on: bool) -> Result<()> {
    let changed = file.set_async(fd, on)?;
    if changed
        && on
        && owner_ex(file).1 == 0
        && let Some(group) = file.ops().default_owner()
    {
        match group as i32 {
            0 => set_owner(file, current().pid())?,
            group => set_owner(file, -group)?,
        }
    }
    Ok(())
}
