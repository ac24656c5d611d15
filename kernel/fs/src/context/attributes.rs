//! Operations on attributes: stat, chmod, chown, utimens, truncate, access, readlink, statfs; and
//! mount(2).

use super::{At, Caller, Lookup};
use crate::creds::{Access, Cap, Creds};
use crate::env;
use crate::file::Place;
use crate::inode::{Inode, InodeBase, SetAttr, TimeChange};
use crate::mount::{self, Path};
use crate::stat::{FileType, Metadata, Statfs};
use abi::raw::general as g;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// New owners for chown(2); None stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ownership {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

fn check_writable(place: &Place) -> Result<()> {
    place.path().map_or(Ok(()), |path| path.mount.check_writable())
}

/// The mode that is left after a change of contents or owner by somebody unprivileged: without
/// set-user-id, and without set-group-id, which stays only where it is no right to execute and for a
/// `member`: somebody who is in the file's group or has CAP_FSETID.
fn without_privileges(mode: u32, member: bool) -> u32 {
    let mode = mode & !g::S_ISUID;
    if mode & 0o010 != 0 || !member { mode & !g::S_ISGID } else { mode }
}

impl Caller<'_> {
    /// stat(2), lstat(2), fstatat(2), statx(2).
    #[inline]
    pub fn stat(&self, at: At<'_>, path: &[u8], how: Lookup) -> Result<Metadata> {
        Ok(self.lookup(at, path, how)?.metadata())
    }

    /// readlink(2). EINVAL for what is no symbolic link, ENOENT for an empty path unless it means
    /// an O_PATH descriptor of a link, ENAMETOOLONG where /proc would tell more than a page.
    pub fn readlink(&self, at: At<'_>, path: &[u8]) -> Result<Vec<u8>> {
        let how = Lookup { follow: false, empty: true, resolve: 0 };
        let place = self.lookup(at, path, how)?;
        let inode = place.inode();
        if inode.base().file_type() != FileType::Symlink {
            return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
        }
        let link = inode.follow()?;
        if let Place::Path(path) = &place {
            path.accessed();
        }
        match link {
            crate::Link::Path(text) => Ok(text),
            crate::Link::Jump(place) => {
                let text = place.text(Some(&self.view.root))?;
                // The place is where it is; its name is told as far as a page holds it, with its end.
                if text.len() < PAGE_SIZE { Ok(text) } else { Err(Errno::ENAMETOOLONG) }
            }
        }
    }

    /// access(2), faccessat2(2). `creds`: the real ids, or the effective ones with AT_EACCESS.
    pub fn access(
        &self,
        creds: &Creds,
        at: At<'_>,
        path: &[u8],
        mode: u32,
        how: Lookup,
    ) -> Result<()> {
        if mode & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        let by = Caller { creds, view: self.view.clone() };
        let place = by.lookup(at, path, how)?;
        let base = place.inode().base();
        let regular = base.file_type() == FileType::Regular;
        if mode & 1 != 0 && regular && place.path().is_some_and(|path| path.mount.noexec()) {
            return Err(Errno::EACCES);
        }
        creds.check_inode(place.inode(), Access(mode))?;
        if mode & 2 != 0 && matches!(base.file_type(), FileType::Regular | FileType::Directory) {
            check_writable(&place)?;
        }
        Ok(())
    }

    /// chmod(2) and its relatives, on a place. EOPNOTSUPP for a symbolic link.
    pub fn chmod(&self, place: &Place, mode: u32) -> Result<()> {
        check_writable(place)?;
        let inode = place.inode();
        let base = inode.base();
        if base.file_type() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.creds.owns(base) {
            return Err(Errno::EPERM);
        }
        let mut mode = mode & 0o7777;
        if !self.creds.in_group(base.gid()) && !self.creds.has(Cap::Fsetid) {
            mode &= !g::S_ISGID;
        }
        inode.setattr(&SetAttr { mode: Some(mode), ..SetAttr::default() })
    }

    /// chown(2) and its relatives, on a place.
    pub fn chown(&self, place: &Place, to: Ownership) -> Result<()> {
        check_writable(place)?;
        let inode = place.inode();
        let base = inode.base();
        if !self.creds.has(Cap::Chown) {
            let mine = self.creds.uid == base.uid();
            if to.uid.is_some_and(|uid| uid != base.uid() || !mine) {
                return Err(Errno::EPERM);
            }
            if to.gid.is_some_and(|gid| !mine || !(gid == base.gid() || self.creds.in_group(gid))) {
                return Err(Errno::EPERM);
            }
        }
        let old = base.mode() & 0o7777;
        let member = |gid| self.creds.in_group(gid) || self.creds.has(Cap::Fsetid);
        // The bits go whoever asks, but for directories.
        let mut mode =
            if base.is_dir() { old } else { without_privileges(old, member(base.gid())) };
        if mode != old && !member(to.gid.unwrap_or(base.gid())) {
            mode &= !g::S_ISGID;
        }
        let mode = (mode != old).then_some(mode);
        inode.setattr(&SetAttr { uid: to.uid, gid: to.gid, mode, ..SetAttr::default() })
    }

    /// utimensat(2). EPERM for explicit times by others than the owner, EACCES for "now" by
    /// somebody who may not write.
    pub fn set_times(&self, place: &Place, atime: TimeChange, mtime: TimeChange) -> Result<()> {
        if atime == TimeChange::Keep && mtime == TimeChange::Keep {
            return Ok(());
        }
        check_writable(place)?;
        let inode = place.inode();
        if !self.creds.owns(inode.base()) {
            if atime != TimeChange::Now || mtime != TimeChange::Now {
                return Err(Errno::EPERM);
            }
            self.creds.check(inode.base(), Access::WRITE)?;
        }
        inode.setattr(&SetAttr { atime, mtime, ..SetAttr::default() })
    }

    /// truncate(2).
    pub fn truncate(&self, path: &[u8], len: u64) -> Result<()> {
        let place = self.lookup(At::Cwd, path, Lookup::FOLLOW)?;
        let inode = place.inode();
        match inode.base().file_type() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        check_writable(&place)?;
        self.creds.check(inode.base(), Access::WRITE)?;
        if len > env::env().file_size_limit() {
            return Err(Errno::EFBIG);
        }
        inode.base().get_writer()?;
        let mtime = TimeChange::Now;
        let done = inode.setattr(&SetAttr { size: Some(len), mtime, ..SetAttr::default() });
        inode.base().put_writer();
        done
    }

    /// statfs(2).
    pub fn statfs(&self, path: &[u8]) -> Result<Statfs> {
        Ok(statfs_of(&self.lookup(At::Cwd, path, Lookup::FOLLOW)?))
    }

    /// mount(2) with its flag word: new mounts, MS_BIND, MS_MOVE, MS_REMOUNT; changes of
    /// propagation are accepted (there is one namespace and nothing propagates).
    pub fn mount(
        &self,
        source: &[u8],
        target: &[u8],
        kind: &str,
        flags: u32,
        options: &str,
    ) -> Result<()> {
        let at = self.lookup_path(At::Cwd, target, Lookup::FOLLOW)?;
        self.creds.require(Cap::SysAdmin)?;
        // The old magic number in the upper half is dropped, as Linux does.
        let flags = if flags & 0xffff_0000 == 0xc0ed_0000 { flags & 0xffff } else { flags };
        if flags & g::MS_REMOUNT != 0 {
            return mount::remount(&at, flags, options, flags & g::MS_BIND != 0);
        }
        if flags & g::MS_BIND != 0 {
            let from = self.lookup_path(At::Cwd, source, Lookup::FOLLOW)?;
            return mount::bind(&from, &at, flags & g::MS_REC != 0).map(|_| ());
        }
        if flags & (g::MS_SHARED | g::MS_PRIVATE | g::MS_SLAVE | g::MS_UNBINDABLE) != 0 {
            let top = Arc::ptr_eq(&at.dentry, at.mount.root());
            return if top { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if flags & g::MS_MOVE != 0 {
            let from = self.lookup_path(At::Cwd, source, Lookup::FOLLOW)?;
            return mount::relocate(&from, &at);
        }
        let source = core::str::from_utf8(source).map_err(|_| Errno::EINVAL)?;
        let sb = mount::instantiate(kind, source, options)?;
        // Without another wish, access times follow the relatime rule.
        let atime = flags & (g::MS_NOATIME | g::MS_STRICTATIME) == 0;
        let flags = if atime { flags | g::MS_RELATIME } else { flags };
        let source = if source.is_empty() { "none" } else { source };
        mount::attach(sb, source, flags, &at).map(|_| ())
    }

    /// umount2(2): `lazy` is MNT_DETACH, `nofollow` UMOUNT_NOFOLLOW.
    pub fn umount(&self, target: &[u8], lazy: bool, nofollow: bool) -> Result<()> {
        let how = Lookup { follow: !nofollow, ..Lookup::NOFOLLOW };
        let at: Path = self.lookup_path(At::Cwd, target, how)?;
        self.creds.require(Cap::SysAdmin)?;
        mount::detach(at, lazy)
    }
}

/// statfs(2) of an opened or found place.
pub fn statfs_of(place: &Place) -> Statfs {
    match place {
        Place::Path(path) => path.mount.statfs(),
        Place::Anonymous(inode) => Statfs::plain(anonymous_magic(inode)),
    }
}

fn anonymous_magic(inode: &Arc<dyn Inode>) -> u32 {
    match inode.base().file_type() {
        FileType::Fifo => 0x5049_5045,
        FileType::Socket => 0x534f_434b,
        FileType::Regular if inode.object().is_some() => 0x0102_1994,
        _ => 0x0904_1934,
    }
}

/// Drops set-user-id and set-group-id of a file that the running task, without CAP_FSETID, changed.
pub(crate) fn drop_setid(base: &InodeBase) {
    let member = env::env().in_group(base.gid());
    base.set_mode(without_privileges(base.mode() & 0o7777, member));
}
