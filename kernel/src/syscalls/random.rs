//! getrandom(2).

use super::Ctx;
use super::io::MAX_RW;
use abi::raw::general as g;
use abi::{Errno, Result};
use hal::VirtAddr;
use hal::user::UserIo;

crate::syscalls! {
    318 getrandom(buf: VirtAddr, len: usize, flags: u32) => getrandom;
}

/// The generator is seeded before the first process: no flag makes a difference.
fn getrandom(_: &mut Ctx<'_>, buf: VirtAddr, len: usize, flags: u32) -> Result<usize> {
    let both = g::GRND_RANDOM | g::GRND_INSECURE;
    if flags & !(g::GRND_NONBLOCK | both) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    fs::dev::random::fill(&mut UserIo::new(buf, len.min(MAX_RW))?)
}
