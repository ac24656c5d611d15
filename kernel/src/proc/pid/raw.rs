//! An address space's bytes and page table: mem, pagemap, and the texts that lie in it.

use super::Who;
use crate::access::{self, Mode};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{TryVec, arc, filled};
use fs::file::Llseek;
use fs::inode::{Inode, InodeBase, OpenArgs, SetAttr};
use fs::pseudo::{PseudoFs, Text};
use fs::{Cap, File, FileOps};
use hal::user::{Sink, Source, USER_END};
use vm::{Mm, PAGE};

/// The most that cmdline and environ show of what a program put there.
const TEXT_MAX: u64 = 2 << 20;

fn read(mm: &Mm, (start, end): (u64, u64)) -> Result<Vec<u8>> {
    let mut bytes = filled(0, end.saturating_sub(start).min(TEXT_MAX) as usize)?;
    let got = mm.read_remote(start, &mut bytes, true);
    bytes.truncate(got);
    Ok(bytes)
}

/// The arguments, each ended by a NUL; a program that overwrote them with one long string (its
/// last NUL is gone) may have gone on into the environment.
pub fn cmdline(who: &Who, out: &mut Text) -> Result<()> {
    let Some(mm) = who.mm()? else { return Ok(()) };
    let (args, env) = {
        let layout = mm.layout.lock();
        (layout.args, layout.env)
    };
    let mut text = read(&mm, args)?;
    if text.last().is_some_and(|&b| b != 0) {
        text.try_extend(&read(&mm, env)?)?;
        let end = text.iter().position(|&b| b == 0).map_or(text.len(), |at| at + 1);
        text.truncate(end);
    }
    out.bytes(&text);
    Ok(())
}

/// The environment that the program was started with.
pub fn environ(who: &Who, out: &mut Text) -> Result<()> {
    let Some(mm) = who.mm()? else { return Ok(()) };
    let env = mm.layout.lock().env;
    out.bytes(&read(&mm, env)?);
    Ok(())
}

/// The auxiliary vector, as pairs of words.
pub fn auxv(who: &Who, out: &mut Text) -> Result<()> {
    let Some(mm) = who.mm()? else { return Ok(()) };
    let auxv = mm.layout.lock().auxv.clone();
    for word in auxv.into_iter().flat_map(|(key, value)| [key, value]) {
        out.bytes(&word.to_ne_bytes());
    }
    Ok(())
}

/// The address space as a file.
struct MemFile {
    base: InodeBase,
    who: Who,
}

/// /proc/PID/mem.
pub fn mem(_fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    Arc::new(MemFile { base, who })
}

impl Inode for MemFile {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        self.base.apply(change);
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        access::check(&*self.who.find()?, Mode::AttachFs)?;
        let mm = self.who.mm()?.ok_or(Errno::ESRCH)?;
        Ok(arc(OpenMem(mm))?)
    }
}

/// The address space that was there when the file was opened: exec does not change what it shows.
struct OpenMem(Arc<Mm>);

impl OpenMem {
    fn mm(&self) -> Option<&Mm> {
        Some(&*self.0).filter(|mm| mm.users() > 0)
    }
}

impl FileOps for OpenMem {
    fn llseek(&self) -> Llseek {
        Llseek::Address
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let Some(mm) = self.mm() else { return Ok(0) };
        let mut page = filled(0, PAGE as usize)?;
        let mut done = 0;
        while dst.room() > 0 {
            let want = dst.room().min(page.len());
            let got = mm.read_remote(at.wrapping_add(done as u64), &mut page[..want], true);
            if got == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            done += dst.put(&page[..got])?;
        }
        Ok(done)
    }

    fn write(&self, _file: &File, src: &mut dyn Source, at: u64) -> Result<usize> {
        let Some(mm) = self.mm() else { return Ok(0) };
        let mut page = filled(0, PAGE as usize)?;
        let mut done = 0;
        while src.left() > 0 {
            let want = src.left().min(page.len());
            let got = src.get(&mut page[..want])?;
            let wrote = mm.write_remote(at.wrapping_add(done as u64), &page[..got], true);
            done += wrote;
            if wrote < got {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
        }
        Ok(done)
    }
}

/// One word per page (Linux's pagemap.rst).
struct Pagemap {
    base: InodeBase,
    who: Who,
}

/// /proc/PID/pagemap.
pub fn pagemap(_fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    Arc::new(Pagemap { base, who })
}

impl Inode for Pagemap {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        access::check(&*self.who.find()?, Mode::ReadFs)?;
        let with_frames = args.creds.has(Cap::SysAdmin);
        let mm = self.who.mm()?.ok_or(Errno::ESRCH)?;
        Ok(arc(OpenPagemap { mm: OpenMem(mm), with_frames })?)
    }
}

struct OpenPagemap {
    mm: OpenMem,
    /// Frame numbers are shown to those who could read all of memory anyway.
    with_frames: bool,
}

impl FileOps for OpenPagemap {
    fn llseek(&self) -> Llseek {
        Llseek::Address
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        const WORD: usize = 8;
        if !at.is_multiple_of(WORD as u64) || !dst.room().is_multiple_of(WORD) {
            return Err(Errno::EINVAL);
        }
        let Some(mm) = self.mm.mm() else { return Ok(0) };
        let mut done = 0;
        let mut words = Vec::with_room(PAGE as usize)?;
        while dst.room() > 0 {
            words.clear();
            let first = (at + done as u64) / WORD as u64;
            let count = (dst.room() / WORD).min(PAGE as usize / WORD) as u64;
            for page in first..first + count {
                let Some(addr) = page.checked_mul(PAGE).filter(|&addr| addr < USER_END) else {
                    break;
                };
                words.extend(mm.pagemap_entry(addr, self.with_frames).to_ne_bytes());
            }
            if words.is_empty() {
                break;
            }
            done += dst.put(&words)?;
        }
        Ok(done)
    }
}

/// A file that can only be written.
pub fn no_text(_: &Who, _: &mut Text) -> Result<()> {
    Err(Errno::EINVAL)
}

/// 1, 2, 3: all pages, private ones, or those of objects are unreferenced now. 5: the highest
/// resident size is forgotten. Linux's 4, for pages written since, is not offered: EINVAL.
pub fn clear_refs(who: &Who, data: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let Some(mm) = who.mm()? else { return Ok(()) };
    match text.trim() {
        "1" => mm.clear_referenced(true, true),
        "2" => mm.clear_referenced(true, false),
        "3" => mm.clear_referenced(false, true),
        "5" => mm.forget_peak(),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
