//! `struct msghdr` of sendmsg(2) and recvmsg(2).

use abi::{Errno, Result};
use alloc::vec::Vec;
use hal::VirtAddr;
use hal::user::UserIo;

/// Bytes of an address at most (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;
/// Bytes of control data at most (net.core.optmem_max).
const CONTROL_MAX: u64 = 128 * 1024;
/// Ranges of data at most (UIO_MAXIOV).
const RANGES_MAX: u64 = 1024;

/// Where the fields that recvmsg stores stand.
const NAME_LEN: u64 = 8;
const CONTROL_LEN: u64 = 40;
const FLAGS: u64 = 48;

/// A message as the user describes it.
pub struct Header {
    name: u64,
    name_len: i32,
    iov: u64,
    count: u64,
    control: u64,
    control_len: u64,
}

impl Header {
    /// From user memory. EINVAL, EFAULT, EMSGSIZE.
    pub fn read(at: VirtAddr) -> Result<Self> {
        let [name, name_len, iov, count, control, control_len, _flags]: [u64; 7] =
            hal::user::read(at)?;
        let name_len = name_len as i32;
        if name_len < 0 {
            return Err(Errno::EINVAL);
        }
        if count > RANGES_MAX {
            return Err(Errno::EMSGSIZE);
        }
        Ok(Self { name, name_len, iov, count, control, control_len })
    }

    /// The address to send to, if there is one.
    pub fn address(&self) -> Result<Option<Vec<u8>>> {
        if self.name == 0 || self.name_len == 0 {
            return Ok(None);
        }
        let len = (self.name_len as usize).min(ADDRESS_MAX);
        hal::user::read_vec(VirtAddr::new(self.name), len).map(Some)
    }

    /// The data.
    pub fn data(&self) -> Result<UserIo> {
        UserIo::from_iovecs(VirtAddr::new(self.iov), self.count as usize)
    }

    /// The control data to send. ENOBUFS when it is too long.
    pub fn control(&self) -> Result<Vec<u8>> {
        if self.control_len > CONTROL_MAX {
            return Err(Errno::ENOBUFS);
        }
        if self.control_len == 0 {
            return Ok(Vec::new());
        }
        hal::user::read_vec(VirtAddr::new(self.control), self.control_len as usize)
    }

    /// Bytes of control data that can be received.
    pub fn control_room(&self) -> usize {
        if self.control == 0 { 0 } else { self.control_len.min(CONTROL_MAX) as usize }
    }

    /// Stores what came with a received message.
    pub fn store(&self, at: VirtAddr, from: &[u8], control: &[u8], flags: u32) -> Result<()> {
        if self.name != 0 {
            let len = from.len().min(self.name_len as usize);
            hal::user::copy_to(VirtAddr::new(self.name), &from[..len])?;
            hal::user::write(at + NAME_LEN, &(from.len() as u32))?;
        }
        if !control.is_empty() {
            hal::user::copy_to(VirtAddr::new(self.control), control)?;
        }
        hal::user::write(at + CONTROL_LEN, &(control.len() as u64))?;
        hal::user::write(at + FLAGS, &flags)
    }
}
