//! Brings the loopback device up, as every Linux system has it before its first program.

use std::fs;

use rustix::io::Result;
use rustix::ioctl::{Setter, ioctl};
use rustix::net::{AddressFamily, SocketType, socket};

/// netdevice(7): the interface is up, and its resources are there.
const UP_AND_RUNNING: i16 = 0x1 | 0x40;

/// `struct ifreq` with the interface's flags in its union.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Does nothing on a kernel without network devices.
pub fn bring_up() -> Result<()> {
    // Listed and not opened by name: what is asked for in vain is told to the user.
    let mut classes = fs::read_dir("/sys/class").into_iter().flatten().flatten();
    if !classes.any(|class| class.file_name() == "net") {
        return Ok(());
    }
    let mut request = Request { name: [0; 16], flags: UP_AND_RUNNING, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: SIOCSIFFLAGS (0x8914) reads a `struct ifreq`, which has this shape and size.
    unsafe { ioctl(any, Setter::<0x8914, Request>::new(request)) }
}
