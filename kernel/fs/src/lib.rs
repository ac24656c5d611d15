//! Files: everything behind a file descriptor or a path.
//!
//! Typed operations without registers or system-call numbers: a [`Caller`] (credentials, root,
//! working directory) resolves paths and opens [`File`]s; an [`FdTable`] numbers them. Below stand
//! the [`Inode`] and [`FileOps`] traits, and their implementations: tmpfs, pipes, event and timer
//! descriptors, epoll, AF_UNIX sockets, terminals, devices, and a toolkit for procfs and sysfs.
//!
//! What this crate needs from the kernel above comes through [`env::Env`] (clock, entropy, who is
//! calling), [`timer::TimerService`] and [`tty::TtyHooks`].
//!
//! User memory is only touched through `Sink` and `Source`, never under a spinning lock.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

pub mod anon;
pub mod boot;
pub mod context;
pub mod creds;
pub mod dentry;
pub mod dev;
pub mod dirent;
pub mod env;
pub mod epoll;
pub mod eventfd;
pub mod fasync;
pub mod fdtable;
pub mod file;
pub mod initramfs;
pub mod inode;
pub mod locks;
pub mod memfd;
pub mod mount;
pub mod object;
pub mod p9;
pub mod pipe;
pub mod poll;
pub mod pollwait;
pub mod pseudo;
pub mod signalfd;
pub mod socket;
pub mod stat;
pub mod timer;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;
pub mod walk;

pub use context::{Caller, FsContext, FsView};
pub use creds::{Access, Cap, Creds};
pub use dentry::Dentry;
pub use fdtable::FdTable;
pub use file::{File, FileOps, MapTarget, Place, Whence};
pub use inode::{Inode, InodeBase, Link, NewNode, OpenArgs, SetAttr, TimeChange};
pub use mount::{FileSystem, Mount, Path};
pub use poll::{PollMask, PollTable};
pub use stat::{DevId, FileType, Metadata, Statfs};

/// Flags of open(2), as user space passes them.
pub mod oflag {
    pub use abi::raw::general::{
        O_ACCMODE, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_DSYNC, O_EXCL,
        O_LARGEFILE, O_NOATIME, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_SYNC,
        O_TMPFILE, O_TRUNC, O_WRONLY,
    };
    /// O_ASYNC (FASYNC), which the generated bindings name only by its BSD name.
    pub const O_ASYNC: u32 = 0o20000;
}
