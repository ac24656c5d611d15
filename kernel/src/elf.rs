//! ELF programs: headers, and mapping their segments.

use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{TryVec, filled};
use fs::File;
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR};
use goblin::elf64::header::{EM_X86_64, ET_DYN, ET_EXEC, Header};
use goblin::elf64::program_header::ProgramHeader;
use hal::VirtAddr;
use vm::map::{Place, What};
use vm::vma::VmaFlags;
use vm::{Mm, PAGE};

/// A loadable segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub addr: u64,
    pub file_size: u64,
    pub mem_size: u64,
    pub offset: u64,
    pub prot: Prot,
}

/// What the headers say.
#[derive(Debug)]
pub struct Image {
    pub entry: u64,
    /// May be placed anywhere (ET_DYN).
    pub relocatable: bool,
    pub segments: Vec<Segment>,
    pub interpreter: Option<Vec<u8>>,
    /// Address of the program headers in memory, unbiased.
    pub headers_at: u64,
    pub header_count: u64,
    pub executable_stack: bool,
}

impl Image {
    /// Lowest address.
    pub fn low(&self) -> u64 {
        self.segments.iter().map(|s| s.addr).min().unwrap_or(0)
    }
    /// One past the highest address.
    pub fn high(&self) -> u64 {
        self.segments.iter().map(|s| s.addr + s.mem_size).max().unwrap_or(0)
    }
    /// Extent of the executable segments.
    pub fn code(&self, bias: u64) -> (u64, u64) {
        self.extent(bias, |s| s.prot.contains(Prot::EXEC))
    }
    /// Extent of the writable segments.
    pub fn data(&self, bias: u64) -> (u64, u64) {
        self.extent(bias, |s| s.prot.contains(Prot::WRITE))
    }
    fn extent(&self, bias: u64, which: impl Fn(&&Segment) -> bool) -> (u64, u64) {
        let low = self.segments.iter().filter(&which).map(|s| s.addr).min();
        let high = self.segments.iter().filter(&which).map(|s| s.addr + s.file_size).max();
        (low.unwrap_or(0) + bias, high.unwrap_or(0) + bias)
    }
}

/// Reads the headers of `file`, whose first bytes are `head`. ENOEXEC for anything that is no
/// x86_64 program; never panics, whatever the file holds.
pub fn parse(file: &File, head: &[u8]) -> Result<Image> {
    let header: &[u8; 64] = head.get(..64).and_then(|h| h.try_into().ok()).ok_or(Errno::ENOEXEC)?;
    let header: &Header = Header::from_bytes(header);
    let right = header.e_ident.starts_with(b"\x7fELF\x02\x01")
        && header.e_machine == EM_X86_64
        && matches!(header.e_type, ET_EXEC | ET_DYN)
        && header.e_phentsize == 56
        && (1..=1024).contains(&header.e_phnum);
    if !right {
        return Err(Errno::ENOEXEC);
    }
    let mut bytes = filled(0u8, header.e_phnum as usize * 56)?;
    if file.read_kernel(&mut bytes, header.e_phoff)? != bytes.len() {
        return Err(Errno::ENOEXEC);
    }
    let headers = bytes.chunks_exact(56).map(|chunk| ProgramHeader::from_bytes(chunk, 1)[0]);
    let headers: Vec<ProgramHeader> = Vec::gather(headers)?;
    let mut image = Image {
        entry: header.e_entry,
        relocatable: header.e_type == ET_DYN,
        segments: Vec::new(),
        interpreter: None,
        headers_at: 0,
        header_count: u64::from(header.e_phnum),
        executable_stack: false,
    };
    for h in &headers {
        match h.p_type {
            PT_LOAD if h.p_memsz > 0 => {
                let end = h.p_vaddr.checked_add(h.p_memsz).ok_or(Errno::ENOEXEC)?;
                let fits = end <= hal::user::USER_END
                    && h.p_filesz <= h.p_memsz
                    && h.p_offset.checked_add(h.p_filesz).is_some()
                    && h.p_vaddr % PAGE == h.p_offset % PAGE;
                if !fits {
                    return Err(Errno::ENOEXEC);
                }
                let mut prot = Prot::empty();
                prot.set(Prot::READ, h.p_flags & PF_R != 0);
                prot.set(Prot::WRITE, h.p_flags & PF_W != 0);
                prot.set(Prot::EXEC, h.p_flags & PF_X != 0);
                let covers =
                    h.p_offset <= header.e_phoff && header.e_phoff < h.p_offset + h.p_filesz;
                if covers && image.headers_at == 0 {
                    image.headers_at = h.p_vaddr + (header.e_phoff - h.p_offset);
                }
                image.segments.try_push(Segment {
                    addr: h.p_vaddr,
                    file_size: h.p_filesz,
                    mem_size: h.p_memsz,
                    offset: h.p_offset,
                    prot,
                })?;
            }
            PT_PHDR => image.headers_at = h.p_vaddr,
            PT_INTERP => {
                if !(2..=4096).contains(&h.p_filesz) {
                    return Err(Errno::ENOEXEC);
                }
                let mut path = filled(0u8, h.p_filesz as usize)?;
                if file.read_kernel(&mut path, h.p_offset)? != path.len() || path.pop() != Some(0) {
                    return Err(Errno::ENOEXEC);
                }
                image.interpreter = Some(path);
            }
            PT_GNU_STACK => image.executable_stack = h.p_flags & PF_X != 0,
            _ => {}
        }
    }
    if image.segments.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(image)
}

/// Maps the segments of `image`, moved by `bias`, into the running task's memory `mm`.
pub fn map(mm: &Arc<Mm>, file: &Arc<File>, image: &Image, bias: u64) -> Result<()> {
    let object = crate::files::object_of(file).ok_or(Errno::ENOEXEC)?;
    for s in &image.segments {
        let start = (s.addr + bias) & !(PAGE - 1);
        let file_end = s.addr + bias + s.file_size;
        let mem_end = (s.addr + bias + s.mem_size).next_multiple_of(PAGE);
        let file_pages_end = file_end.next_multiple_of(PAGE);
        if s.file_size > 0 {
            let what = What::Object {
                object: object.clone(),
                file: Some(crate::files::mapped(file)),
                pgoff: (s.offset & !(PAGE - 1)) / PAGE,
                shared: false,
                may_write: true,
            };
            mm.map(Place::Fixed(start), file_pages_end - start, s.prot, VmaFlags::empty(), what)?;
        }
        let zero_start = if s.file_size > 0 { file_pages_end } else { start };
        if zero_start < mem_end {
            mm.map(
                Place::Fixed(zero_start),
                mem_end - zero_start,
                s.prot,
                VmaFlags::empty(),
                What::Anon,
            )?;
        }
        // The rest of the last file page is part of the zeroes, where it can be written.
        if s.mem_size > s.file_size
            && s.prot.contains(Prot::WRITE)
            && !file_end.is_multiple_of(PAGE)
        {
            hal::usercopy::clear(VirtAddr::new(file_end), (file_pages_end - file_end) as usize)?;
        }
    }
    Ok(())
}
