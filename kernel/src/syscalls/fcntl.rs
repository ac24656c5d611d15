//! fcntl(2): flags, owners, record locks, pipe sizes, seals.

use super::Ctx;
use crate::signal::sigio;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use fs::locks::{self, Kind, Owner, Record};
use fs::pipe::PipeEnd;
use fs::{Cap, File};
use hal::VirtAddr;

crate::syscalls! {
    72 fcntl(fd: i32, cmd: u32, arg: u64) => fcntl;
}

const F_GETOWN_EX: u32 = 16;
const F_SETOWN_EX: u32 = 15;
const F_DUPFD_QUERY: u32 = 1027;
const F_CREATED_QUERY: u32 = 1028;

fn fcntl(c: &mut Ctx<'_>, fd: i32, cmd: u32, arg: u64) -> Result<i64> {
    let file = c.file(fd)?;
    match cmd {
        g::F_DUPFD => duplicate(c, file, arg, false),
        g::F_DUPFD_CLOEXEC => duplicate(c, file, arg, true),
        F_DUPFD_QUERY => {
            let other = c.file(arg as i32);
            Ok(other.is_ok_and(|other| Arc::ptr_eq(&file, &other)).into())
        }
        g::F_GETFD => c.fd_table().cloexec(fd).map(i64::from),
        g::F_SETFD => c.fd_table().set_cloexec(fd, arg & u64::from(g::FD_CLOEXEC) != 0).map(|()| 0),
        g::F_GETFL => Ok(i64::from(file.flags())),
        _ if file.is_path_only() => Err(Errno::EBADF),
        F_CREATED_QUERY => Err(Errno::EINVAL),
        g::F_SETFL => set_flags(c, fd, &file, arg as u32).map(|()| 0),
        g::F_SETOWN => sigio::set_owner(&file, arg as i32).map(|()| 0),
        g::F_GETOWN => Ok(i64::from(sigio::owner(&file))),
        F_SETOWN_EX => set_owner_ex(&file, VirtAddr::new(arg)).map(|()| 0),
        F_GETOWN_EX => get_owner_ex(&file, VirtAddr::new(arg)).map(|()| 0),
        g::F_SETSIG if arg > 64 => Err(Errno::EINVAL),
        g::F_SETSIG => {
            file.fown().set_signal(arg as u32);
            Ok(0)
        }
        g::F_GETSIG => Ok(file.fown_if_used().map_or(0, |fown| i64::from(fown.signal()))),
        g::F_GETLK | g::F_OFD_GETLK => test_lock(c, &file, cmd, VirtAddr::new(arg)).map(|()| 0),
        g::F_SETLK | g::F_SETLKW | g::F_OFD_SETLK | g::F_OFD_SETLKW => {
            set_lock(c, &file, cmd, VirtAddr::new(arg)).map(|()| 0)
        }
        g::F_GETLEASE => Ok(i64::from(g::F_UNLCK)),
        g::F_GETPIPE_SZ => Ok(pipe(&file)?.capacity() as i64),
        g::F_SETPIPE_SZ => {
            let bytes = arg as u32 as usize;
            let privileged = crate::creds::capable(Cap::SysResource);
            Ok(pipe(&file)?.set_capacity(bytes, privileged)? as i64)
        }
        g::F_GET_SEALS => file.inode().seals().map(i64::from).ok_or(Errno::EINVAL),
        g::F_ADD_SEALS => add_seals(&file, arg as u32).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

fn duplicate(c: &Ctx<'_>, file: Arc<File>, from: u64, cloexec: bool) -> Result<i64> {
    let limit = c.fd_limit();
    if from as u32 as u64 >= limit {
        return Err(Errno::EINVAL);
    }
    c.fd_table().insert_from(from as i32, file, cloexec, limit).map(i64::from)
}

fn set_flags(c: &Ctx<'_>, fd: i32, file: &Arc<File>, flags: u32) -> Result<()> {
    let noatime = flags & !file.flags() & fs::oflag::O_NOATIME != 0;
    if noatime && !c.task.credentials().fs.owns(file.inode().base()) {
        return Err(Errno::EPERM);
    }
    file.set_flags(flags)?;
    match sigio::set_async(file, fd, flags & fs::oflag::O_ASYNC != 0) {
        // Without signals the flag stays as it is.
        Err(Errno::ENOTTY) => Ok(()),
        outcome => outcome,
    }
}

/// `struct f_owner_ex`: a type (thread, process, group) and an id.
fn set_owner_ex(file: &File, at: VirtAddr) -> Result<()> {
    let [kind, id]: [i32; 2] = hal::user::read(at)?;
    sigio::set_owner_ex(file, sigio::Kind::from_raw(kind)?, id)
}

fn get_owner_ex(file: &File, at: VirtAddr) -> Result<()> {
    let (kind, id) = sigio::owner_ex(file);
    hal::user::write(at, &[kind as i32, id])
}

fn pipe(file: &File) -> Result<&PipeEnd> {
    file.ops_as::<PipeEnd>().ok_or(Errno::EBADF)
}

fn add_seals(file: &File, seals: u32) -> Result<()> {
    if !file.writable() {
        return Err(Errno::EPERM);
    }
    file.inode().add_seals(seals)
}

/// `struct flock` of x86_64.
struct UserLock {
    kind: u16,
    whence: u16,
    start: i64,
    len: i64,
    pid: i32,
}

impl UserLock {
    /// Bytes, padding included.
    const SIZE: usize = 32;

    fn read(at: VirtAddr) -> Result<Self> {
        let words: [u64; 4] = hal::user::read(at)?;
        Ok(Self {
            kind: words[0] as u16,
            whence: (words[0] >> 16) as u16,
            start: words[1] as i64,
            len: words[2] as i64,
            pid: words[3] as i32,
        })
    }

    fn bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..2].copy_from_slice(&self.kind.to_le_bytes());
        out[2..4].copy_from_slice(&self.whence.to_le_bytes());
        out[8..16].copy_from_slice(&self.start.to_le_bytes());
        out[16..24].copy_from_slice(&self.len.to_le_bytes());
        out[24..28].copy_from_slice(&self.pid.to_le_bytes());
        out
    }

    fn kind(&self) -> Result<Option<Kind>> {
        match u32::from(self.kind) {
            g::F_RDLCK => Ok(Some(Kind::Read)),
            g::F_WRLCK => Ok(Some(Kind::Write)),
            g::F_UNLCK => Ok(None),
            _ => Err(Errno::EINVAL),
        }
    }

    fn range(&self, file: &File) -> Result<core::ops::RangeInclusive<u64>> {
        let base = match self.whence {
            0 => 0,
            1 => *file.position(),
            2 => file.metadata().size,
            _ => return Err(Errno::EINVAL),
        };
        locks::lock_range(base, self.start, self.len)
    }
}

fn owner(c: &Ctx<'_>, file: &File, cmd: u32) -> Owner {
    match cmd {
        g::F_OFD_GETLK | g::F_OFD_SETLK | g::F_OFD_SETLKW => Owner::of_file(file),
        _ => Owner::Process(c.fd_table().id()),
    }
}

fn set_lock(c: &Ctx<'_>, file: &File, cmd: u32, at: VirtAddr) -> Result<()> {
    let lock = UserLock::read(at)?;
    let (kind, range) = (lock.kind()?, lock.range(file)?);
    let owner = owner(c, file, cmd);
    if matches!(owner, Owner::Description(_)) && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let wait = matches!(cmd, g::F_SETLKW | g::F_OFD_SETLKW);
    locks::fcntl_lock(file, owner, c.task.pid() as u32, kind, range, wait)
}

fn test_lock(c: &Ctx<'_>, file: &File, cmd: u32, at: VirtAddr) -> Result<()> {
    let mut lock = UserLock::read(at)?;
    let owner = owner(c, file, cmd);
    if matches!(owner, Owner::Description(_)) && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = lock.kind()?.ok_or(Errno::EINVAL)?;
    let want = Record { owner, pid: c.task.pid() as u32, kind, range: lock.range(file)? };
    match file.inode().base().locks().test(&want) {
        None => lock.kind = g::F_UNLCK as u16,
        Some(held) => {
            lock.kind = if held.kind == Kind::Read { g::F_RDLCK } else { g::F_WRLCK } as u16;
            lock.whence = 0;
            lock.start = *held.range.start() as i64;
            let last = *held.range.end();
            lock.len =
                if last >= i64::MAX as u64 { 0 } else { (last - held.range.start() + 1) as i64 };
            lock.pid =
                if matches!(held.owner, Owner::Description(_)) { -1 } else { held.pid as i32 };
        }
    }
    hal::user::copy_to(at, &lock.bytes())
}
