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

/// A new descriptor. `flags`: MFD_CLOEXEC (the table's business), MFD_ALLOW_SEALING,
/// MFD_NOEXEC_SEAL, MFD_EXEC. EINVAL for others (MFD_HUGETLB among them: there are no huge pages)
/// and for a name that is too long.
pub fn create(name: &[u8], flags: u32) -> Result<Arc<File>> {
    let known = g::MFD_CLOEXEC | g::MFD_ALLOW_SEALING | g::MFD_NOEXEC_SEAL | g::MFD_EXEC;
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
    let inode = TmpInode::nameless(mode, seals, &text, ObjectKind::Memfd)?;
    let flags = oflag::O_RDWR | oflag::O_LARGEFILE;
    File::new(inode.clone(), Place::Anonymous(inode), flags)
}
