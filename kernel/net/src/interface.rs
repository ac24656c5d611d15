//! netdevice(7): the ioctls that tell of the loopback device, on any socket.

use crate::device::{self, INDEX, MTU, NAME, QUEUE, TYPE, flag};
use abi::{Errno, Result};
use core::net::Ipv4Addr;
use fs::Cap;
use fs::env::env;
use hal::VirtAddr;
use hal::user;

/// Bytes of `struct ifreq`, and of the name at its beginning.
const REQUEST: usize = 40;
const NAME_LEN: usize = 16;

const GIFNAME: u32 = 0x8910;
const GIFCONF: u32 = 0x8912;
const GIFFLAGS: u32 = 0x8913;
const SIFFLAGS: u32 = 0x8914;
const GIFADDR: u32 = 0x8915;
const GIFDSTADDR: u32 = 0x8917;
const GIFBRDADDR: u32 = 0x8919;
const GIFNETMASK: u32 = 0x891b;
const GIFMETRIC: u32 = 0x891d;
const GIFMTU: u32 = 0x8921;
const GIFHWADDR: u32 = 0x8927;
const GIFINDEX: u32 = 0x8933;
const GIFTXQLEN: u32 = 0x8942;
const GIFMAP: u32 = 0x8970;

/// `struct sockaddr_in` in 16 bytes.
fn address(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = crate::AF_INET as u8;
    bytes[4..8].copy_from_slice(&ip.octets());
    bytes
}

/// The request of an interface. ENODEV for another one than there is, ENOTTY for other requests.
pub fn ioctl(cmd: u32, arg: u64) -> Result<u64> {
    if cmd == GIFCONF {
        return configuration(arg);
    }
    let known = [
        GIFNAME, GIFFLAGS, SIFFLAGS, GIFADDR, GIFDSTADDR, GIFBRDADDR, GIFNETMASK, GIFMETRIC,
        GIFMTU, GIFHWADDR, GIFINDEX, GIFTXQLEN, GIFMAP,
    ];
    if !known.contains(&cmd) {
        return Err(Errno::ENOTTY);
    }
    let at = VirtAddr::new(arg);
    let mut request: [u8; REQUEST] = user::read(at)?;
    // As Linux has it: the last byte of the name is its end.
    request[NAME_LEN - 1] = 0;
    answer(cmd, &mut request)?;
    user::write(at, &request)?;
    Ok(0)
}

/// Fills the answer in.
fn answer(cmd: u32, request: &mut [u8; REQUEST]) -> Result<()> {
    let (name, value) = request.split_at_mut(NAME_LEN);
    if cmd == GIFNAME {
        let index = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
        if index != INDEX {
            return Err(Errno::ENODEV);
        }
        name.fill(0);
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        return Ok(());
    }
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
    if &name[..end] != NAME.as_bytes() {
        return Err(Errno::ENODEV);
    }
    let with_address = |ip: Ipv4Addr| {
        if device::is_up() { Ok(address(ip)) } else { Err(Errno::EADDRNOTAVAIL) }
    };
    match cmd {
        GIFFLAGS => value[..2].copy_from_slice(&(device::flags() as u16).to_le_bytes()),
        SIFFLAGS => {
            if !env().capable(Cap::NetAdmin) {
                return Err(Errno::EPERM);
            }
            device::set_up(u32::from(value[0]) & flag::UP != 0);
        }
        GIFADDR | GIFDSTADDR => value[..16].copy_from_slice(&with_address(Ipv4Addr::LOCALHOST)?),
        GIFBRDADDR => value[..16].copy_from_slice(&with_address(Ipv4Addr::UNSPECIFIED)?),
        GIFNETMASK => value[..16].copy_from_slice(&with_address(Ipv4Addr::new(255, 0, 0, 0))?),
        GIFMETRIC => value[..4].fill(0),
        GIFMTU => value[..4].copy_from_slice(&MTU.to_le_bytes()),
        GIFHWADDR => {
            value[..16].fill(0);
            value[..2].copy_from_slice(&TYPE.to_le_bytes());
        }
        GIFINDEX => value[..4].copy_from_slice(&INDEX.to_le_bytes()),
        GIFTXQLEN => value[..4].copy_from_slice(&QUEUE.to_le_bytes()),
        _ => value.fill(0),
    }
    Ok(())
}

/// SIOCGIFCONF: every interface with an IPv4 address, or how many bytes they need.
fn configuration(arg: u64) -> Result<u64> {
    let at = VirtAddr::new(arg);
    let [len, buffer]: [u64; 2] = user::read(at)?;
    let len = len as i32;
    let mut done = 0;
    if device::is_up() {
        if buffer == 0 {
            done = REQUEST as i32;
        } else if len >= REQUEST as i32 {
            let mut request = [0; REQUEST];
            request[..NAME.len()].copy_from_slice(NAME.as_bytes());
            request[NAME_LEN..2 * NAME_LEN].copy_from_slice(&address(Ipv4Addr::LOCALHOST));
            user::write(VirtAddr::new(buffer), &request)?;
            done = REQUEST as i32;
        }
    }
    user::write(at, &done)?;
    Ok(0)
}
