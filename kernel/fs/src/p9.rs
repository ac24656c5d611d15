//! 9p: files of the host, read only, over whatever carries messages ([`Channel`]): a request, then its
//! reply (9P2000.L, as QEMU's virtio-9p devices speak it).
//!
//! What was once seen of the host stays: a directory's names are read as a whole when it is first
//! looked into, so that names that are not there cost nothing; attributes are those of the first
//! lookup; contents come when they are first read, a piece at a time, and lie where their reader's
//! policy puts them. A file that is mapped is fetched as a whole first, so that no page fault waits
//! for the host.
//!
//! Contents are kept up to a quarter of memory, names and inodes up to an eighth. Beyond it, and when
//! memory is out, what nobody has open is forgotten, the oldest first. What is open stays: where that
//! alone is too much, reads ask the host each time, and new mappings and names are refused (ENOMEM).
//!
//! No path leaves the shared directory: the server knows only names below it, one component at a
//! time, and a symbolic link is followed here, in the guest's own tree of names.

mod contents;
mod message;
mod node;
mod session;

use crate::dentry::Lru;
use crate::mount::{FileSystem, Super};
use crate::stat::{DevId, Statfs};
use crate::tmpfs;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::{arc, copied};
use session::Client;

/// V9FS_MAGIC.
const MAGIC: u32 = 0x0102_1997;

/// Bytes of the longest reply: a piece of a file and what stands before it.
pub const LONGEST_REPLY: usize = 256 * 1024;
/// Bytes of the longest request: some names of 255 bytes.
pub const LONGEST_REQUEST: usize = 4096;

/// What carries messages to one server.
pub trait Channel: Send + Sync {
    /// Waits for the right to send, which one task has at a time. EINTR for who is killed.
    fn claim(&self) -> Result<()>;
    /// Gives the right back.
    fn release(&self);
    /// Sends a request and waits for its reply, which `take` may look at. Whose turn it is calls this.
    /// EINTR for who is killed; the reply is then dropped when it comes, before the next request goes.
    fn call(&self, request: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

/// Finds the channel of a tag for a mount, which has it to itself: ENOENT, EBUSY.
pub type Find = fn(tag: &[u8]) -> Result<Box<dyn Channel>>;

/// Files that were opened, and bytes of them that were fetched, since boot.
pub static OPENED: AtomicU64 = AtomicU64::new(0);
pub static FETCHED: AtomicU64 = AtomicU64::new(0);
/// What is kept of all shares, and the part of memory that it may take.
static CONTENTS: Kept = Kept { bytes: AtomicU64::new(0), part: 4 };
static NAMES: Kept = Kept { bytes: AtomicU64::new(0), part: 8 };
/// Entries of all shares.
static ENTRIES: Lru = Lru::new();

/// Bytes that are kept.
struct Kept {
    bytes: AtomicU64,
    part: u64,
}

impl Kept {
    fn fits(&self, more: u64) -> bool {
        let all = self.bytes.load(Relaxed).checked_add(more);
        all.is_some_and(|all| all <= tmpfs::memory() / self.part)
    }

    /// Forgets old entries until `more` bytes fit; the work is in proportion to them. ENOMEM where
    /// they do not.
    fn make_room(&self, more: u64) -> Result<()> {
        /// Entries that are looked at for each page, and besides.
        const LOOKS: u64 = 64;
        if !self.fits(more) {
            ENTRIES.shrink(LOOKS + more / abi::PAGE_SIZE as u64, &|| self.fits(more));
        }
        if self.fits(more) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Counts `more` bytes. ENOMEM where they would be too many.
    fn add(&self, more: u64) -> Result<()> {
        self.make_room(more)?;
        self.bytes.fetch_add(more, Relaxed);
        Ok(())
    }

    /// So many are gone, or did not come about.
    fn take_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// Forgets some of what nobody has open, for want of memory, until there is `enough`. True if
/// something was forgotten. Does not wait.
pub fn shrink(enough: &dyn Fn() -> bool) -> bool {
    /// Entries that one task looks at before it says how it went.
    const LOOKS: u64 = 4096;
    ENTRIES.try_shrink(LOOKS, enough)
}

/// A mounted share.
struct P9 {
    dev: DevId,
    client: Client,
}

/// Mounts the share `tag`. Of the options only `trans` has a meaning here: EINVAL for another carrier
/// than virtio.
pub fn mount(tag: &str, options: &str, find: Find) -> Result<Arc<Super>> {
    let mut words = options.split(',').filter_map(|word| word.strip_prefix("trans="));
    if words.any(|carrier| carrier != "virtio") {
        return Err(Errno::EINVAL);
    }
    let client = Client::new(find(tag.as_bytes())?);
    let attributes = client.start()?;
    let fs = arc(P9 { dev: tmpfs::anonymous_dev(), client })?;
    let root = node::Node::new(fs.clone(), Box::default(), &attributes, Box::default())?;
    Super::new(fs, root)
}

impl FileSystem for P9 {
    fn name(&self) -> &'static str {
        "9p"
    }
    fn statfs(&self) -> Statfs {
        let mut out = Statfs::plain(MAGIC);
        out.fsid = self.dev.encode();
        out
    }
    fn options(&self) -> String {
        String::from(",cache=loose,access=client,trans=virtio")
    }
}

/// The path of `name` in the directory `path`. ENAMETOOLONG, ENOMEM.
fn below(path: &[u8], name: &[u8]) -> Result<Box<[u8]>> {
    /// PATH_MAX: nobody can name more.
    const LONGEST: usize = 4096;
    if path.len() + 1 + name.len() > LONGEST {
        return Err(Errno::ENAMETOOLONG);
    }
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    let mut whole = copied(path)?;
    frames::fallible::TryVec::try_extend(&mut whole, slash)?;
    frames::fallible::TryVec::try_extend(&mut whole, name)?;
    frames::fallible::boxed_slice(&whole)
}
