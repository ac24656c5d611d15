//! mmap and its family.

use super::Ctx;
use abi::flags::Prot;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use fs::Cap;
use hal::VirtAddr;
use hal::user::USER_END;
use vm::advice::Advice;
use vm::commit;
use vm::map::{Place, What};
use vm::remap::Remap;
use vm::vma::VmaFlags;

crate::syscalls! {
    9 mmap(addr: u64, len: u64, prot: u32, flags: u32, fd: i32, off: u64) => mmap;
    10 mprotect(addr: u64, len: u64, prot: u32) => mprotect;
    11 munmap(addr: u64, len: u64) => munmap;
    12 brk(addr: u64) => brk;
    25 mremap(old: u64, old_len: u64, new_len: u64, flags: u32, to: u64) => mremap;
    26 msync(addr: u64, len: u64, flags: u32) => msync;
    27 mincore(addr: u64, len: u64, vec: VirtAddr) => mincore;
    28 madvise(addr: u64, len: u64, advice: i32) => madvise;
    149 mlock(addr: u64, len: u64) => mlock;
    150 munlock(addr: u64, len: u64) => munlock;
    151 mlockall(flags: u32) => mlockall;
    152 munlockall() => munlockall;
    325 mlock2(addr: u64, len: u64, flags: u32) => mlock2;
}

const PAGE: u64 = vm::PAGE;

/// A page-aligned range from address and length: EINVAL when the address is not aligned, `wrapped`
/// when the end lies beyond the user half.
fn range(addr: u64, len: u64, wrapped: Errno) -> Result<(u64, u64)> {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_add(PAGE - 1).ok_or(wrapped)? & !(PAGE - 1);
    let end = addr.checked_add(len).ok_or(wrapped)?;
    Ok((addr, end))
}

/// The flags that MAP_SHARED_VALIDATE takes: those from before it was there.
const KNOWN: u32 = g::MAP_TYPE
    | g::MAP_FIXED
    | g::MAP_ANONYMOUS
    | g::MAP_32BIT
    | g::MAP_GROWSDOWN
    | g::MAP_DENYWRITE
    | g::MAP_EXECUTABLE
    | g::MAP_LOCKED
    | g::MAP_NORESERVE
    | g::MAP_POPULATE
    | g::MAP_NONBLOCK
    | g::MAP_STACK
    | g::MAP_HUGETLB
    | (21 | 30) << g::MAP_HUGE_SHIFT;

fn mmap(
    c: &mut Ctx<'_>,
    addr: u64,
    len: u64,
    prot: u32,
    flags: u32,
    fd: i32,
    off: u64,
) -> Result<u64> {
    // Linux's order: the file, the length, the place, and only then the kind of mapping.
    if !off.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let prot = Prot::from_bits_truncate(prot & 7);
    let anonymous = flags & g::MAP_ANONYMOUS != 0;
    // What is made of huge pages is mapped by whole ones.
    let mut align = PAGE;
    if !anonymous {
        let file = c.task.files.lock().clone().get(fd)?;
        align = file.inode().object().map_or(PAGE, |object| object.page_size());
        if flags & g::MAP_HUGETLB != 0 && align == PAGE {
            return Err(Errno::EINVAL);
        }
    } else if flags & g::MAP_HUGETLB != 0 {
        crate::hugetlb::check_size(flags)?;
        align = vm::HUGE;
    }
    let len = if align > PAGE { len.wrapping_add(align - 1) & !(align - 1) } else { len };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let place = if flags & g::MAP_FIXED_NOREPLACE != 0 {
        Place::FixedNoReplace(addr)
    } else if flags & g::MAP_FIXED != 0 {
        Place::Fixed(addr)
    } else if flags & g::MAP_32BIT != 0 {
        Place::Low
    } else {
        Place::Hint(addr)
    };
    let mm = c.mm();
    mm.check_place(place, len, align)?;
    let mut vma = mm.future_flags();
    if flags & g::MAP_GROWSDOWN != 0 {
        vma |= VmaFlags::GROWS_DOWN;
    }
    // Strict accounting is not for huge pages.
    let strict = align == PAGE && commit::mode() == commit::Mode::Never;
    if flags & g::MAP_NORESERVE != 0 && !strict {
        vma |= VmaFlags::NO_RESERVE;
    }
    if flags & g::MAP_STACK != 0 {
        vma |= VmaFlags::NO_HUGE;
    }
    if flags & g::MAP_LOCKED != 0 {
        if mm.limits.locked.load(Ordering::Relaxed) == 0 && !crate::creds::capable(Cap::IpcLock) {
            return Err(Errno::EPERM);
        }
        vma |= VmaFlags::LOCKED;
    }
    let grows = vma.contains(VmaFlags::GROWS_DOWN);
    let what = match flags & g::MAP_TYPE {
        kind @ (g::MAP_PRIVATE | g::MAP_SHARED) if anonymous && align > PAGE && !grows => {
            crate::hugetlb::anonymous(len, off / PAGE, kind == g::MAP_SHARED)?
        }
        g::MAP_PRIVATE if anonymous && align == PAGE => What::Anon,
        g::MAP_SHARED if anonymous && !grows && align == PAGE => What::SharedAnon,
        _ if anonymous => return Err(Errno::EINVAL),
        // MAP_SHARED_VALIDATE takes only flags that are known: these are what Linux knows here.
        g::MAP_SHARED_VALIDATE if flags & !KNOWN != 0 => return Err(Errno::EOPNOTSUPP),
        kind @ (g::MAP_SHARED | g::MAP_SHARED_VALIDATE | g::MAP_PRIVATE) => {
            let shared = kind != g::MAP_PRIVATE;
            let file = c.file(fd)?;
            if file.path().is_some_and(|path| path.mount.noexec()) {
                vma |= VmaFlags::NEVER_EXEC;
            }
            match file.ops_as::<crate::perf::file::PerfFile>() {
                // A buffer's shape is in the length, and children do not get it.
                Some(event) => {
                    vma |= VmaFlags::DONT_FORK | VmaFlags::DONT_DUMP;
                    event.map(&file, len, off, shared, prot.contains(Prot::WRITE))?
                }
                None => crate::files::map_target(c, fd, prot, shared, off)?,
            }
        }
        _ => return Err(Errno::EINVAL),
    };
    if grows && !anonymous {
        return Err(Errno::EINVAL);
    }
    let addr = mm.map(place, len, prot, vma, what)?;
    crate::perf::on_map(addr);
    crate::traffic::mapped(addr);
    let end = addr + ((len + PAGE - 1) & !(PAGE - 1));
    let populate = flags & g::MAP_POPULATE != 0 && flags & g::MAP_NONBLOCK == 0
        || vma.contains(VmaFlags::LOCKED) && !vma.contains(VmaFlags::LOCK_ON_FAULT);
    if populate {
        // As Linux: what cannot be had now is had, or fails, at the fault.
        let _ = mm.populate(addr, end, None);
    }
    Ok(addr)
}

fn munmap(c: &mut Ctx<'_>, addr: u64, len: u64) -> Result<()> {
    c.mm().unmap(addr, len)
}

fn brk(c: &mut Ctx<'_>, addr: u64) -> Result<u64> {
    Ok(c.mm().set_brk(addr))
}

fn mprotect(c: &mut Ctx<'_>, addr: u64, len: u64, prot: u32) -> Result<()> {
    if Prot::from_bits_truncate(prot).contains(Prot::GROWSDOWN | Prot::GROWSUP) {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(addr, len, Errno::ENOMEM)?;
    if len == 0 {
        return Ok(());
    }
    let prot = Prot::from_bits(prot).ok_or(Errno::EINVAL)?;
    c.mm().protect(start, end, prot)?;
    crate::perf::on_map(start);
    crate::traffic::mapped(start);
    Ok(())
}

fn mremap(
    c: &mut Ctx<'_>,
    old: u64,
    old_len: u64,
    new_len: u64,
    flags: u32,
    to: u64,
) -> Result<u64> {
    if flags & !(g::MREMAP_MAYMOVE | g::MREMAP_FIXED | g::MREMAP_DONTUNMAP) != 0 {
        return Err(Errno::EINVAL);
    }
    let how = Remap {
        may_move: flags & g::MREMAP_MAYMOVE != 0,
        to: (flags & g::MREMAP_FIXED != 0).then_some(to),
        hint: to,
        keep_old: flags & g::MREMAP_DONTUNMAP != 0,
    };
    c.mm().remap(old, old_len, new_len, how)
}

fn msync(c: &mut Ctx<'_>, addr: u64, len: u64, flags: u32) -> Result<()> {
    let (sync, asynchronous) = (flags & g::MS_SYNC != 0, flags & g::MS_ASYNC != 0);
    if flags & !(g::MS_SYNC | g::MS_ASYNC | g::MS_INVALIDATE) != 0 || sync && asynchronous {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(addr, len, Errno::ENOMEM)?;
    if start == end {
        return Ok(());
    }
    c.mm().sync_range(start, end, flags & g::MS_INVALIDATE != 0)
}

fn mincore(c: &mut Ctx<'_>, addr: u64, len: u64, vec: VirtAddr) -> Result<()> {
    let (start, end) = range(addr, len, Errno::ENOMEM)?;
    if end > USER_END {
        return Err(Errno::ENOMEM);
    }
    if vec.raw().checked_add((end - start) / PAGE).is_none_or(|end| end > USER_END) {
        return Err(Errno::EFAULT);
    }
    let mm = c.mm();
    // In pieces of 2 MiB, so that the answer's buffer stays small.
    let (mut at, mut to) = (start, vec);
    while at < end {
        let stop = end.min(at + (2 << 20));
        if vm::env::killed() {
            return Err(Errno::EINTR);
        }
        let bytes = mm.resident(at, stop)?;
        hal::user::copy_to(to, &bytes)?;
        to = to + bytes.len() as u64;
        at = stop;
    }
    Ok(())
}

fn madvise(c: &mut Ctx<'_>, addr: u64, len: u64, advice: i32) -> Result<()> {
    let advice = Advice::from_number(advice)?;
    let (start, end) = range(addr, len, Errno::EINVAL)?;
    if start == end {
        return Ok(());
    }
    c.mm().advise(start, end, advice)
}

/// mlock rounds the address down, unlike its relatives, and a length that wraps becomes none.
fn lock_range(addr: u64, len: u64) -> Result<(u64, u64)> {
    let start = addr & !(PAGE - 1);
    let len = len.wrapping_add(addr - start).wrapping_add(PAGE - 1) & !(PAGE - 1);
    Ok((start, start.checked_add(len).ok_or(Errno::EINVAL)?))
}

fn set_locked(c: &Ctx<'_>, addr: u64, len: u64, flags: VmaFlags) -> Result<()> {
    let (start, end) = lock_range(addr, len)?;
    if start == end {
        return Ok(());
    }
    c.mm().set_locked(start, end, flags, crate::creds::capable(Cap::IpcLock))
}

fn mlock(c: &mut Ctx<'_>, addr: u64, len: u64) -> Result<()> {
    set_locked(c, addr, len, VmaFlags::LOCKED)
}

fn munlock(c: &mut Ctx<'_>, addr: u64, len: u64) -> Result<()> {
    set_locked(c, addr, len, VmaFlags::empty())
}

fn mlock2(c: &mut Ctx<'_>, addr: u64, len: u64, flags: u32) -> Result<()> {
    const ONFAULT: u32 = 1;
    match flags {
        0 => mlock(c, addr, len),
        ONFAULT => set_locked(c, addr, len, VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT),
        _ => Err(Errno::EINVAL),
    }
}

fn mlockall(c: &mut Ctx<'_>, flags: u32) -> Result<()> {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ONFAULT: u32 = 4;
    if flags == 0 || flags & !7 != 0 || flags == ONFAULT {
        return Err(Errno::EINVAL);
    }
    let mm = c.mm();
    let privileged = crate::creds::capable(Cap::IpcLock);
    let limit = mm.limits.locked.load(Ordering::Relaxed);
    if !privileged && limit == 0 {
        return Err(Errno::EPERM);
    }
    if !privileged && flags & CURRENT != 0 && mm.total.load(Ordering::Relaxed) as u64 * PAGE > limit
    {
        return Err(Errno::ENOMEM);
    }
    let mut bits = VmaFlags::LOCKED;
    if flags & ONFAULT != 0 {
        bits |= VmaFlags::LOCK_ON_FAULT;
    }
    let future = if flags & FUTURE != 0 { bits } else { VmaFlags::empty() };
    mm.future_lock.store(future.bits(), Ordering::Relaxed);
    if flags & CURRENT != 0 {
        lock_all(&mm, bits);
    }
    Ok(())
}

fn munlockall(c: &mut Ctx<'_>) -> Result<()> {
    let mm = c.mm();
    mm.future_lock.store(0, Ordering::Relaxed);
    lock_all(&mm, VmaFlags::empty());
    Ok(())
}

/// Locks or unlocks every area; holes and areas without access do not matter.
fn lock_all(mm: &Arc<vm::Mm>, flags: VmaFlags) {
    let mut at = 0;
    loop {
        let next = mm.vmas.read().first_above(at).map(|v| (v.start.max(at), v.end));
        let Some((start, end)) = next else { break };
        // An area that cannot be made present now is locked all the same, as on Linux.
        let _ = mm.set_locked(start, end, flags, true);
        at = end;
    }
}
