//! Which word a futex is: an address of one address space, or a place in a shared object.

use crate::task::current;
use abi::flags::Prot;
use abi::{Errno, Result};
use hal::VirtAddr;
use vm::PAGE;
use vm::fault::Access;

/// What the waiters of one word have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: Kind,
    /// Number of the address space or of the object.
    space: u64,
    /// Address, or byte in the object.
    offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// FUTEX_PRIVATE: no other process can mean it.
    Private,
    /// A shared operation on memory that is private all the same: private ones do not meet it.
    Alone,
    Object,
}

impl Key {
    /// The key of the word at `addr`. EINVAL when it is not aligned, EFAULT when a shared word is
    /// not mapped, or its page cannot be had.
    pub fn of(addr: VirtAddr, shared: bool) -> Result<Self> {
        let at = addr.raw();
        if !at.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !hal::user::range_ok(addr, 4) {
            return Err(Errno::EFAULT);
        }
        let task = current();
        let mm = task.mm().ok_or(Errno::EFAULT)?.clone();
        if !shared {
            return Ok(Self { kind: Kind::Private, space: mm.id(), offset: at });
        }
        let (key, write, present) = {
            let vmas = mm.vmas.read();
            let vma = vmas.find(at).ok_or(Errno::EFAULT)?;
            let write = vma.flags.prot().contains(Prot::WRITE);
            match vma.object() {
                Some(object) if vma.shared() => {
                    let offset = vma.index(at) * PAGE + at % PAGE;
                    let key = Self { kind: Kind::Object, space: object.id(), offset };
                    (key, write, peek(addr).is_some())
                }
                // Anonymous memory that cannot be written has no word to wait for.
                None if !write => return Err(Errno::EFAULT),
                _ => (Self { kind: Kind::Alone, space: mm.id(), offset: at }, write, false),
            }
        };
        if !present {
            make_present(addr, write)?;
        }
        Ok(key)
    }

    /// Spreads keys over buckets.
    pub fn hash(&self) -> usize {
        let mut h = self.space.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (self.offset >> 2);
        h = (h ^ h >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (h ^ h >> 32) as usize
    }
}

/// Reads the word if its page is there. Callable under a bucket's lock.
pub fn peek(addr: VirtAddr) -> Option<u32> {
    hal::user::read(addr).ok()
}

/// Makes the word's page present, for writing if `write`. Without locks. EFAULT.
pub fn make_present(addr: VirtAddr, write: bool) -> Result<()> {
    let mm = current().mm().ok_or(Errno::EFAULT)?.clone();
    mm.fault(addr.raw(), Access { write, exec: false }).map_err(|_| Errno::EFAULT)
}

/// Replaces the word if it is `old`: the value that was there. None when its page is missing or may
/// not be written. Callable under a bucket's lock.
pub fn exchange(addr: VirtAddr, old: u32, new: u32) -> Option<u32> {
    hal::usercopy::exchange_u32(addr, old, new).ok()
}
