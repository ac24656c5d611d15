//! memfd_create(2): nameless tmpfs files with seals.

use crate::file::{File, Place};
use crate::object::ObjectKind;
use crate::oflag;
use crate::tmpfs::TmpInode;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::TryVec;

/// Longest name, bytes ("memfd:" and it make a file name).
const NAME_MAX: usize = 249;

/// log2 of a huge page's bytes.
const HUGE_SHIFT: u32 = vm::HUGE.trailing_zeros();

/// A new descriptor. `flags`: MFD_CLOEXEC (the table's business), MFD_ALLOW_SEALING,
/// MFD_NOEXEC_SEAL, MFD_EXEC, MFD_HUGETLB with a size. EINVAL for others and for a name that is too
/// long, ENODEV for a size of huge pages that there is not.
pub fn create(name: &[u8], flags: u32) -> Result<Arc<File>> {
    let huge = flags & g::MFD_HUGETLB != 0;
    let size = if huge { g::MFD_HUGE_MASK << g::MFD_HUGE_SHIFT } else { 0 };
    let known = g::MFD_CLOEXEC
        | g::MFD_ALLOW_SEALING
        | g::MFD_NOEXEC_SEAL
        | g::MFD_EXEC
        | g::MFD_HUGETLB
        | size;
    let both = g::MFD_NOEXEC_SEAL | g::MFD_EXEC;
    if flags & !known != 0 || flags & both == both || name.len() > NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let mut seals = g::F_SEAL_SEAL;
    let mut mode = 0o777;
    if flags & g::MFD_NOEXEC_SEAL != 0 {
        mode = 0o666;
        seals = g::F_SEAL_EXEC;
    } else if flags & g::MFD_ALLOW_SEALING != 0 {
        seals = 0;
    }
    let mut text = Vec::with_room(NAME_MAX + 32)?;
    for part in [b"/memfd:" as &[u8], name, b" (deleted)"] {
        text.try_extend(part)?;
    }
    let inode = if huge {
        if !matches!((flags & size) >> g::MFD_HUGE_SHIFT, 0 | HUGE_SHIFT) {
            return Err(Errno::ENODEV);
        }
        TmpInode::nameless_huge(mode, seals, &text)?
    } else {
        TmpInode::nameless(mode, seals, &text, ObjectKind::Memfd)?
    };
    let flags = oflag::O_RDWR | oflag::O_LARGEFILE;
    File::new(inode.clone(), Place::Anonymous(inode), flags)
}
