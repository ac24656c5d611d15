//! Who asks: the part of a task's credentials that file permissions look at.

use crate::inode::{Inode, InodeBase};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;

/// Capabilities that file operations ask for (capabilities(7), Linux's numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cap {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    SysRawio = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    SysTtyConfig = 26,
    Mknod = 27,
    Lease = 28,
}

/// A view of credentials for permission checks.
#[derive(Clone, Debug, Default)]
pub struct Creds {
    /// User id for file access (fsuid).
    pub uid: u32,
    /// Group id for file access (fsgid).
    pub gid: u32,
    /// Supplementary groups; None is the empty list.
    pub groups: Option<Arc<[u32]>>,
    /// Effective capabilities, one bit per Linux capability number.
    pub caps: u64,
}

/// What is asked of a file: r = 4, w = 2, x = 1, as in a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub u32);

impl Access {
    pub const READ: Self = Self(4);
    pub const WRITE: Self = Self(2);
    pub const EXEC: Self = Self(1);
    /// Creating or removing names in a directory.
    pub const MODIFY_DIR: Self = Self(3);
}

impl Creds {
    /// Root with all capabilities: what the kernel itself uses.
    pub const fn root() -> Self {
        Self { uid: 0, gid: 0, groups: None, caps: u64::MAX }
    }

    /// An ordinary user.
    pub const fn user(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: None, caps: 0 }
    }

    /// True when the capability is effective.
    #[inline]
    pub const fn has(&self, cap: Cap) -> bool {
        self.caps & (1 << cap as u8) != 0
    }

    /// EPERM without the capability.
    pub fn require(&self, cap: Cap) -> Result<()> {
        if self.has(cap) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// True when `gid` is the caller's group or one of the supplementary groups.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.as_ref().is_some_and(|groups| groups.contains(&gid))
    }

    /// True for the file's owner or with CAP_FOWNER.
    pub fn owns(&self, inode: &InodeBase) -> bool {
        self.uid == inode.uid() || self.has(Cap::Fowner)
    }

    /// Checks the permission bits; EACCES.
    #[inline]
    pub fn check(&self, inode: &InodeBase, access: Access) -> Result<()> {
        let mode = inode.mode();
        let granted = if self.uid == inode.uid() {
            mode >> 6
        } else if mode & 0o070 != (mode & 0o007) << 3 && self.in_group(inode.gid()) {
            mode >> 3
        } else {
            // Group and other agree, or the caller is not in the group.
            mode
        };
        if access.0 & !granted & 7 == 0 { Ok(()) } else { self.check_caps(mode, access) }
    }

    /// As [`Creds::check`], of an inode that may grant more than its bits.
    #[inline]
    pub fn check_inode(&self, inode: &Arc<dyn Inode>, access: Access) -> Result<()> {
        self.check(inode.base(), access).or_else(|error| granted(inode, error))
    }

    #[cold]
    fn check_caps(&self, mode: u32, access: Access) -> Result<()> {
        let directory = mode & g::S_IFMT == g::S_IFDIR;
        // Execution needs an execute bit somewhere, whoever asks.
        if self.has(Cap::DacOverride)
            && (directory || access.0 & Access::EXEC.0 == 0 || mode & 0o111 != 0)
        {
            return Ok(());
        }
        let reading =
            if directory { access.0 & Access::WRITE.0 == 0 } else { access.0 == Access::READ.0 };
        if reading && self.has(Cap::DacReadSearch) {
            return Ok(());
        }
        Err(Errno::EACCES)
    }

    /// May the caller remove or rename `victim` from `dir`? EPERM for a sticky directory.
    pub fn check_sticky(&self, dir: &InodeBase, victim: &InodeBase) -> Result<()> {
        if dir.mode() & g::S_ISVTX == 0
            || self.uid == victim.uid()
            || self.uid == dir.uid()
            || self.has(Cap::Fowner)
        {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

#[cold]
fn granted(inode: &Arc<dyn Inode>, error: Errno) -> Result<()> {
    if inode.grants() { Ok(()) } else { Err(error) }
}
