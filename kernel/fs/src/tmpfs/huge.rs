//! hugetlbfs: files of huge pages. A tmpfs in all that names and attributes are; what differs in the
//! files stands here.

use super::options::number;
use super::{Options, TmpInode, Tmpfs};
use crate::env;
use crate::mount::Super;
use crate::stat::Statfs;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::fmt;
use frames::fallible::{boxed_slice, text};
use frames::hugetlb::{self, subpool};
use sync::Once;

/// hugetlbfs's magic number.
pub const HUGETLBFS_MAGIC: u32 = 0x9584_58f6;

/// A size as `size=` and `min_size=` give it.
#[derive(Clone, Copy)]
enum Size {
    Bytes(u64),
    /// Of the pool as it is when the file system is made.
    Percent(u64),
}

impl Size {
    fn parse(text: &str) -> Result<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().map(Self::Percent).map_err(|_| Errno::EINVAL),
            None => number(text).map(Self::Bytes),
        }
    }

    fn pages(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes / hugetlb::SIZE,
            Self::Percent(percent) => hugetlb::size().saturating_mul(percent) / 100,
        }
    }
}

impl Tmpfs {
    /// A hugetlbfs with mount options ("size=", "min_size=", "pagesize=", "nr_inodes=", "mode=",
    /// "uid=", "gid="). EINVAL for others, ENOMEM when the least size cannot be reserved.
    pub fn hugetlbfs(options: &str) -> Result<Arc<Super>> {
        let who = env::env().ucred();
        let mut out = Options { mode: 0o755, uid: who.uid, gid: who.gid, ..Options::unlimited() };
        let (mut most, mut least) = (None, None);
        for word in options.split(',').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').ok_or(Errno::EINVAL)?;
            match name {
                "size" => most = Some(Size::parse(value)?),
                "min_size" => least = Some(Size::parse(value)?),
                "nr_inodes" => out.inodes = number(value)?,
                "pagesize" if number(value)? == hugetlb::SIZE => {}
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    out.mode = mode & 0o1777;
                }
                "uid" => out.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => out.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        let (most, least) = (most.map(Size::pages), least.map(Size::pages));
        if most.is_some_and(|most| least.is_some_and(|least| least > most)) {
            return Err(Errno::EINVAL);
        }
        out.text = text(format_args!("{}", Shown { options: &out, most, least }))?;
        out.share = Some(subpool::open(most, least, vm::hugetlb::reservable())?);
        Self::instance("hugetlbfs", HUGETLBFS_MAGIC, &out)
    }

    /// The file system of the files that no name leads to.
    pub(super) fn nameless_huge() -> Result<Arc<Self>> {
        static INTERNAL: Once<Arc<Tmpfs>> = Once::new();
        let options = Options { share: Some(subpool::NONE), ..Options::unlimited() };
        INTERNAL.get_or_try_init(|| Self::build("hugetlbfs", HUGETLBFS_MAGIC, &options)).cloned()
    }

    /// What statfs(2) tells of huge pages.
    pub(super) fn statfs_huge(&self, share: u64, out: &mut Statfs) {
        out.bsize = hugetlb::SIZE;
        let (blocks, free) = subpool::room(share).unwrap_or((0, 0));
        (out.blocks, out.bfree, out.bavail) = (blocks, free, free);
    }
}

/// The options as /proc/mounts has them.
struct Shown<'a> {
    options: &'a Options,
    most: Option<u64>,
    least: Option<u64>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options;
        for (name, id) in [("uid", options.uid), ("gid", options.gid)] {
            if id != 0 {
                write!(f, ",{name}={id}")?;
            }
        }
        if options.mode != 0o755 {
            write!(f, ",mode={:o}", options.mode)?;
        }
        if options.inodes != u64::MAX {
            write!(f, ",nr_inodes={}", options.inodes)?;
        }
        f.write_str(",pagesize=2M")?;
        for (name, pages) in [("size", self.most), ("min_size", self.least)] {
            if let Some(pages) = pages {
                write!(f, ",{name}={}", pages * hugetlb::SIZE)?;
            }
        }
        Ok(())
    }
}

impl TmpInode {
    /// A file of huge pages without a name: EINVAL for a length in between is the caller's to say.
    /// `label`: what /proc/PID/fd and maps show. ENOMEM.
    pub fn nameless_huge(mode: u32, seals: u32, label: &[u8]) -> Result<Arc<Self>> {
        let fs = Tmpfs::nameless_huge()?;
        let who = env::env().ucred();
        let base = fs.base(g::S_IFREG | mode, who.uid, who.gid)?;
        base.set_nlink(0);
        let label = boxed_slice(label)?;
        let object = fs.new_object()?;
        Self::file(fs, base, seals, Some(label), object)
    }
}
