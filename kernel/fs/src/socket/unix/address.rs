//! Names of AF_UNIX sockets: paths, and the abstract space.

use super::{UnixSocket, downcast};
use crate::context::{At, Caller, Lookup};
use crate::creds::Access;
use crate::mount::Path;
use crate::stat::{DevId, FileType};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use frames::fallible::{TryMap, copied, text};
use sync::SpinLock;

/// Longest path or abstract name, bytes (`sun_path`).
const PATH_MAX: usize = 108;

/// A bound name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A path, without its NUL.
    Path(Vec<u8>),
    /// An abstract name, without the NUL before it.
    Abstract(Vec<u8>),
}

static ABSTRACT: SpinLock<BTreeMap<Vec<u8>, Weak<UnixSocket>>> = SpinLock::new(BTreeMap::new());

impl Address {
    /// `struct sockaddr_un`; without a name only the family.
    pub(super) fn encode(address: Option<&Self>) -> Vec<u8> {
        let mut out = Vec::from([1, 0]);
        match address {
            None => {}
            Some(Self::Path(path)) => {
                out.extend_from_slice(path);
                out.push(0);
            }
            Some(Self::Abstract(name)) => {
                out.push(0);
                out.extend_from_slice(name);
            }
        }
        out
    }

    /// None for an address without a name. EINVAL for a wrong family or length.
    fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.len() < 2 || bytes.len() > 2 + PATH_MAX || bytes[..2] != [1, 0] {
            return Err(Errno::EINVAL);
        }
        Ok(match &bytes[2..] {
            [] => None,
            [0, name @ ..] => Some(Self::Abstract(copied(name)?)),
            path => {
                let end = path.iter().position(|&b| b == 0).unwrap_or(path.len());
                Some(Self::Path(copied(&path[..end])?))
            }
        })
    }
}

fn claim(name: &[u8], socket: &Weak<UnixSocket>) -> Result<()> {
    let mut names = ABSTRACT.lock();
    if names.get(name).is_some_and(|held| held.strong_count() > 0) {
        return Err(Errno::EADDRINUSE);
    }
    names.try_insert_in(copied(name)?, socket.clone())?;
    Ok(())
}

/// Gives a socket a name: makes a socket node, or enters the abstract space (an address without a
/// name gets a free abstract one). A node gets the socket's own `mode`, less the umask. EADDRINUSE.
pub(super) fn bind(
    caller: &Caller<'_>,
    address: &[u8],
    mode: u32,
    socket: &Weak<UnixSocket>,
) -> Result<(Address, Option<Path>)> {
    match Address::decode(address)? {
        Some(Address::Path(path)) => {
            let mode = g::S_IFSOCK | mode & 0o7777;
            let made = caller.make_node(At::Cwd, &path, mode, DevId::default());
            let at = made.map_err(|error| match error {
                Errno::EEXIST => Errno::EADDRINUSE,
                other => other,
            })?;
            let strong = socket.upgrade().ok_or(Errno::EINVAL)?;
            at.dentry.inode().base().attach_with(|| Ok(strong))?;
            Ok((Address::Path(path), Some(at)))
        }
        Some(Address::Abstract(name)) => {
            claim(&name, socket)?;
            Ok((Address::Abstract(name), None))
        }
        None => {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            // Five hexadecimal digits, as Linux chooses them.
            for _ in 0..=0xfffffu32 {
                let number = NEXT.fetch_add(1, Relaxed) & 0xfffff;
                let name = text(format_args!("{number:05x}"))?.into_bytes();
                match claim(&name, socket) {
                    Ok(()) => return Ok((Address::Abstract(name), None)),
                    Err(Errno::EADDRINUSE) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(Errno::ENOSPC)
        }
    }
}

/// Frees an abstract name (a path stays until it is unlinked).
pub(super) fn unbind(address: &Address, socket: &Weak<UnixSocket>) {
    if let Address::Abstract(name) = address {
        let mut names = ABSTRACT.lock();
        if names.get(name).is_some_and(|held| held.ptr_eq(socket)) {
            names.remove(name);
        }
    }
}

/// The socket that has a name. ECONNREFUSED when nobody has it, ENOENT and EACCES by its path.
pub(super) fn find(caller: &Caller<'_>, address: &[u8]) -> Result<Arc<UnixSocket>> {
    match Address::decode(address)?.ok_or(Errno::EINVAL)? {
        Address::Path(path) => {
            let place = caller.lookup(At::Cwd, &path, Lookup::FOLLOW)?;
            let inode = place.inode();
            caller.creds.check(inode.base(), Access::WRITE)?;
            if inode.base().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            inode.base().attached().and_then(downcast).ok_or(Errno::ECONNREFUSED)
        }
        Address::Abstract(name) => {
            let found = ABSTRACT.lock().get(&name).and_then(Weak::upgrade);
            found.ok_or(Errno::ECONNREFUSED)
        }
    }
}
