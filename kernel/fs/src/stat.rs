//! File metadata, and the byte layouts in which Linux hands it to user space
//! (`struct stat`, `struct statx`, `struct statfs` of x86_64).

use abi::raw::general as g;

/// A device number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevId {
    /// Major number (12 bits).
    pub major: u32,
    /// Minor number (20 bits).
    pub minor: u32,
}

impl DevId {
    /// From its parts.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
    /// As `st_dev`, `st_rdev` and mknod(2) encode it.
    pub const fn encode(self) -> u64 {
        ((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)) as u64
    }
    /// From mknod(2)'s encoding.
    pub const fn decode(dev: u64) -> Self {
        let dev = dev as u32;
        Self { major: (dev & 0xfff00) >> 8, minor: (dev & 0xff) | ((dev >> 12) & 0xfff00) }
    }
}

/// The type bits of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Fifo,
    Char,
    Directory,
    Block,
    Regular,
    Symlink,
    Socket,
}

impl FileType {
    /// From `st_mode`; None for an invalid type.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & g::S_IFMT {
            g::S_IFIFO => Self::Fifo,
            g::S_IFCHR => Self::Char,
            g::S_IFDIR => Self::Directory,
            g::S_IFBLK => Self::Block,
            g::S_IFREG => Self::Regular,
            g::S_IFLNK => Self::Symlink,
            g::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }
    /// The `S_IF*` bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Fifo => g::S_IFIFO,
            Self::Char => g::S_IFCHR,
            Self::Directory => g::S_IFDIR,
            Self::Block => g::S_IFBLK,
            Self::Regular => g::S_IFREG,
            Self::Symlink => g::S_IFLNK,
            Self::Socket => g::S_IFSOCK,
        }
    }
    /// `d_type` of getdents64(2).
    pub const fn d_type(self) -> u8 {
        (self.bits() >> 12) as u8
    }
}

/// What stat(2) tells. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub dev: DevId,
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: DevId,
    /// Bytes.
    pub size: u64,
    /// Preferred size of a transfer, bytes.
    pub blksize: u32,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    /// Creation time.
    pub btime: i64,
    /// Id of the mount it was reached through (statx only; 0 without one).
    pub mount_id: u64,
    /// It is the root of a mount (statx only).
    pub mount_root: bool,
}

const SECOND: i64 = 1_000_000_000;

fn put32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
fn put64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Metadata {
    /// The file type; regular for a nonsensical mode.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }

    /// `struct stat`.
    #[inline]
    pub fn stat_bytes(&self) -> [u8; 144] {
        let mut out = [0; 144];
        put64(&mut out, 0, self.dev.encode());
        put64(&mut out, 8, self.ino);
        put64(&mut out, 16, self.nlink as u64);
        put32(&mut out, 24, self.mode);
        put32(&mut out, 28, self.uid);
        put32(&mut out, 32, self.gid);
        put64(&mut out, 40, self.rdev.encode());
        put64(&mut out, 48, self.size);
        put64(&mut out, 56, self.blksize as u64);
        put64(&mut out, 64, self.blocks);
        for (at, time) in [(72, self.atime), (88, self.mtime), (104, self.ctime)] {
            put64(&mut out, at, time.div_euclid(SECOND) as u64);
            put64(&mut out, at + 8, time.rem_euclid(SECOND) as u64);
        }
        out
    }

    /// `struct statx`, with the basic fields, btime and mount id whatever the mask asked for (as
    /// Linux fills what it has at hand).
    pub fn statx_bytes(&self) -> [u8; 256] {
        let mut out = [0; 256];
        let mask = g::STATX_BASIC_STATS | g::STATX_BTIME | g::STATX_MNT_ID;
        put32(&mut out, 0, mask);
        put32(&mut out, 4, self.blksize);
        let attributes = if self.mount_root { g::STATX_ATTR_MOUNT_ROOT } else { 0 };
        put64(&mut out, 8, attributes as u64);
        put32(&mut out, 16, self.nlink);
        put32(&mut out, 20, self.uid);
        put32(&mut out, 24, self.gid);
        out[28..30].copy_from_slice(&(self.mode as u16).to_le_bytes());
        put64(&mut out, 32, self.ino);
        put64(&mut out, 40, self.size);
        put64(&mut out, 48, self.blocks);
        put64(&mut out, 56, (g::STATX_ATTR_MOUNT_ROOT | g::STATX_ATTR_AUTOMOUNT) as u64);
        let times = [(64, self.atime), (80, self.btime), (96, self.ctime), (112, self.mtime)];
        for (at, time) in times {
            put64(&mut out, at, time.div_euclid(SECOND) as u64);
            put32(&mut out, at + 8, time.rem_euclid(SECOND) as u32);
        }
        put32(&mut out, 128, self.rdev.major);
        put32(&mut out, 132, self.rdev.minor);
        put32(&mut out, 136, self.dev.major);
        put32(&mut out, 140, self.dev.minor);
        put64(&mut out, 144, self.mount_id);
        out
    }
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statfs {
    /// The file system's magic number.
    pub magic: u32,
    /// Bytes in a block.
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: u64,
    /// Longest file name.
    pub namelen: u64,
    /// `ST_*` flags of the mount.
    pub flags: u64,
}

impl Statfs {
    /// A file system without blocks (procfs, sysfs, ...).
    pub fn plain(magic: u32) -> Self {
        Self { magic, bsize: 4096, namelen: 255, ..Self::default() }
    }

    /// `struct statfs`.
    pub fn bytes(&self) -> [u8; 120] {
        let mut out = [0; 120];
        let words = [
            self.magic as u64,
            self.bsize,
            self.blocks,
            self.bfree,
            self.bavail,
            self.files,
            self.ffree,
            self.fsid,
            self.namelen,
            self.bsize,
            // ST_VALID: the flags are meaningful.
            self.flags | 0x20,
        ];
        for (index, word) in words.into_iter().enumerate() {
            put64(&mut out, index * 8, word);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_encoding() {
        for (major, minor) in [(1, 3), (4, 64), (136, 0), (0, 27), (4095, 0xfffff), (8, 257)] {
            let dev = DevId::new(major, minor);
            assert_eq!(DevId::decode(dev.encode()), dev);
        }
        assert_eq!(DevId::new(1, 3).encode(), 0x103);
    }

    #[test]
    fn times_before_1970_keep_a_positive_nanosecond() {
        let meta = Metadata { mtime: -1, ..Metadata::default() };
        let bytes = meta.stat_bytes();
        assert_eq!(i64::from_le_bytes(bytes[88..96].try_into().expect("8")), -1);
        assert_eq!(i64::from_le_bytes(bytes[96..104].try_into().expect("8")), 999_999_999);
    }
}
