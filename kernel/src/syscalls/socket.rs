//! Sockets: making and connecting them, sending and receiving.

use super::Ctx;
use super::io::or_signal;
use super::message::Header;
use abi::uapi::Timespec;
use abi::{Errno, Result};
use alloc::vec::Vec;
use fs::oflag;
use fs::socket::{self, Control, Shutdown, msg};
use hal::VirtAddr;
use hal::user::UserIo;

crate::syscalls! {
    41 socket(family: u32, kind: u32, protocol: u32) => socket;
    42 connect(fd: i32, addr: VirtAddr, len: i32) => connect;
    43 accept(fd: i32, addr: VirtAddr, len: VirtAddr) => accept;
    44 sendto(fd: i32, buf: VirtAddr, size: usize, flags: u32, addr: VirtAddr, len: i32) => sendto;
    45 recvfrom(fd: i32, buf: VirtAddr, size: usize, flags: u32, addr: VirtAddr, len: VirtAddr) => recvfrom;
    46 sendmsg(fd: i32, message: VirtAddr, flags: u32) => sendmsg;
    47 recvmsg(fd: i32, message: VirtAddr, flags: u32) => recvmsg;
    48 shutdown(fd: i32, how: u32) => shutdown;
    49 bind(fd: i32, addr: VirtAddr, len: i32) => bind;
    50 listen(fd: i32, backlog: i32) => listen;
    51 getsockname(fd: i32, addr: VirtAddr, len: VirtAddr) => getsockname;
    52 getpeername(fd: i32, addr: VirtAddr, len: VirtAddr) => getpeername;
    53 socketpair(family: u32, kind: u32, protocol: u32, fds: VirtAddr) => socketpair;
    54 setsockopt(fd: i32, level: u32, name: u32, value: VirtAddr, len: i32) => setsockopt;
    55 getsockopt(fd: i32, level: u32, name: u32, value: VirtAddr, len: VirtAddr) => getsockopt;
    288 accept4(fd: i32, addr: VirtAddr, len: VirtAddr, flags: u32) => accept4;
    299 recvmmsg(fd: i32, messages: VirtAddr, count: u32, flags: u32, timeout: VirtAddr) => recvmmsg;
    307 sendmmsg(fd: i32, messages: VirtAddr, count: u32, flags: u32) => sendmmsg;
}

/// Bytes of `struct sockaddr_storage`.
const ADDRESS_MAX: i32 = 128;
/// Messages that one sendmmsg or recvmmsg handles at most (UIO_MAXIOV).
const BATCH: u32 = 1024;
/// Bytes of `struct mmsghdr`, and where its length stands.
const MMSGHDR: u64 = 64;
const MMSGHDR_LEN: u64 = 56;

fn address(at: VirtAddr, len: i32) -> Result<Vec<u8>> {
    if !(0..=ADDRESS_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    hal::user::read_vec(at, len as usize)
}

/// Stores an address as far as the user's buffer goes, and its whole length.
fn store_address(address: &[u8], at: VirtAddr, len_at: VirtAddr) -> Result<()> {
    let room: i32 = hal::user::read(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    hal::user::copy_to(at, &address[..address.len().min(room)])?;
    hal::user::write(len_at, &(address.len() as u32))
}

fn socket(c: &mut Ctx<'_>, family: u32, kind: u32, protocol: u32) -> Result<i32> {
    let made = net::create(family, kind, protocol);
    let made = made.unwrap_or_else(|| socket::create(family, kind, protocol));
    let file = made.inspect_err(|error| {
        if *error == Errno::EAFNOSUPPORT {
            crate::missing::note(crate::missing::Asked::SocketFamily(family), b"");
        }
    })?;
    c.install(file, kind & oflag::O_CLOEXEC != 0)
}

fn socketpair(c: &mut Ctx<'_>, family: u32, kind: u32, protocol: u32, fds: VirtAddr) -> Result<()> {
    if let Some(made) = net::create(family, kind, protocol) {
        return made.and(Err(Errno::EOPNOTSUPP));
    }
    let pair = socket::pair(family, kind, protocol)?;
    c.install_pair(pair, kind & oflag::O_CLOEXEC != 0, fds)
}

fn bind(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: i32) -> Result<()> {
    let file = c.real_file(fd)?;
    let socket = socket::of(&file)?;
    let address = address(addr, len)?;
    c.as_caller(|caller| socket.bind(caller, &address))
}

fn connect(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: i32) -> Result<()> {
    let file = c.real_file(fd)?;
    let address = address(addr, len)?;
    let socket = socket::of(&file)?;
    c.as_caller(|caller| socket.connect(&file, caller, &address))
}

fn listen(c: &mut Ctx<'_>, fd: i32, backlog: i32) -> Result<()> {
    socket::of(&*c.real_file(fd)?)?.listen(backlog)
}

fn accept(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: VirtAddr) -> Result<i32> {
    accept4(c, fd, addr, len, 0)
}

fn accept4(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: VirtAddr, flags: u32) -> Result<i32> {
    if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = c.real_file(fd)?;
    let new = socket::of(&file)?.accept(&file, flags & oflag::O_NONBLOCK)?;
    if addr.raw() != 0 {
        let peer = socket::of(&new)?.accepted_from().map_err(|_| Errno::ECONNABORTED)?;
        store_address(&peer, addr, len)?;
    }
    c.install(new, flags & oflag::O_CLOEXEC != 0)
}

fn getsockname(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: VirtAddr) -> Result<()> {
    let file = c.real_file(fd)?;
    store_address(&socket::of(&file)?.local_address(), addr, len)
}

fn getpeername(c: &mut Ctx<'_>, fd: i32, addr: VirtAddr, len: VirtAddr) -> Result<()> {
    let file = c.real_file(fd)?;
    store_address(&socket::of(&file)?.peer_address()?, addr, len)
}

fn shutdown(c: &mut Ctx<'_>, fd: i32, how: u32) -> Result<()> {
    socket::of(&*c.real_file(fd)?)?.shutdown(Shutdown::from_raw(how)?)
}

fn setsockopt(
    c: &mut Ctx<'_>,
    fd: i32,
    level: u32,
    name: u32,
    value: VirtAddr,
    len: i32,
) -> Result<()> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let file = c.real_file(fd)?;
    let socket = socket::of(&file)?;
    // No option is longer.
    let value: Vec<u8> = hal::user::read_vec(value, len.min(256))?;
    socket.set_option(level, name, &value)
}

fn getsockopt(
    c: &mut Ctx<'_>,
    fd: i32,
    level: u32,
    name: u32,
    value: VirtAddr,
    len_at: VirtAddr,
) -> Result<()> {
    let file = c.real_file(fd)?;
    let socket = socket::of(&file)?;
    let room: i32 = hal::user::read(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let option = socket.option(level, name)?;
    let len = option.len().min(room);
    hal::user::copy_to(value, &option[..len])?;
    hal::user::write(len_at, &(len as u32))
}

/// A send's result: EPIPE comes with SIGPIPE unless MSG_NOSIGNAL.
fn sent(result: Result<usize>, flags: u32) -> Result<usize> {
    if flags & msg::NOSIGNAL != 0 { result } else { or_signal(result) }
}

fn sendto(
    c: &mut Ctx<'_>,
    fd: i32,
    buf: VirtAddr,
    size: usize,
    flags: u32,
    addr: VirtAddr,
    len: i32,
) -> Result<usize> {
    let mut data = UserIo::new(buf, size.min(super::io::MAX_RW))?;
    let file = c.real_file(fd)?;
    let socket = socket::of(&file)?;
    let done = if addr.raw() == 0 {
        socket.send(&file, &mut data, None, Control::default(), flags)
    } else {
        let to = address(addr, len)?;
        c.as_caller(|caller| {
            socket.send(&file, &mut data, Some((caller, &to)), Control::default(), flags)
        })
    };
    sent(done, flags)
}

fn recvfrom(
    c: &mut Ctx<'_>,
    fd: i32,
    buf: VirtAddr,
    size: usize,
    flags: u32,
    addr: VirtAddr,
    len: VirtAddr,
) -> Result<usize> {
    let mut data = UserIo::new(buf, size.min(super::io::MAX_RW))?;
    let file = c.real_file(fd)?;
    let received = socket::of(&file)?.receive(&file, &mut data, flags)?;
    if addr.raw() != 0 {
        store_address(&received.from, addr, len)?;
    }
    Ok(received.len)
}

fn send_one(c: &Ctx<'_>, fd: i32, at: VirtAddr, flags: u32) -> Result<usize> {
    let file = c.real_file(fd)?;
    let socket = socket::of(&file)?;
    let header = Header::read(at)?;
    let to = header.address()?;
    let mut data = header.data()?;
    let bytes = header.control()?;
    let control = if bytes.is_empty() {
        Control::default()
    } else {
        let creds = c.task.credentials().fs.clone();
        socket::cmsg::parse(&bytes, &c.fd_table(), &creds)?
    };
    let done = match &to {
        None => socket.send(&file, &mut data, None, control, flags),
        Some(to) => {
            c.as_caller(|caller| socket.send(&file, &mut data, Some((caller, to)), control, flags))
        }
    };
    sent(done, flags)
}

fn receive_one(c: &Ctx<'_>, fd: i32, at: VirtAddr, flags: u32) -> Result<usize> {
    let file = c.real_file(fd)?;
    let header = Header::read(at)?;
    let mut data = header.data()?;
    let mut received = socket::of(&file)?.receive(&file, &mut data, flags)?;
    let cloexec = flags & msg::CMSG_CLOEXEC;
    let room = header.control_room();
    let control =
        socket::cmsg::build(&mut received, &c.fd_table(), c.fd_limit(), room, cloexec != 0);
    header.store(at, &received.from, &control, received.flags | cloexec)?;
    Ok(received.len)
}

fn sendmsg(c: &mut Ctx<'_>, fd: i32, message: VirtAddr, flags: u32) -> Result<usize> {
    send_one(c, fd, message, flags)
}

fn recvmsg(c: &mut Ctx<'_>, fd: i32, message: VirtAddr, flags: u32) -> Result<usize> {
    receive_one(c, fd, message, flags)
}

/// Handles messages until one fails: how many, or the first one's error.
fn batch(
    at: VirtAddr,
    count: u32,
    mut one: impl FnMut(VirtAddr, u32) -> Result<Option<usize>>,
) -> Result<u32> {
    let mut done = 0;
    while done < count.min(BATCH) {
        let header = at + u64::from(done) * MMSGHDR;
        let step = match one(header, done) {
            Ok(None) => break,
            Ok(Some(len)) => hal::user::write(header + MMSGHDR_LEN, &(len as u32)),
            Err(error) => Err(error),
        };
        match step {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn sendmmsg(c: &mut Ctx<'_>, fd: i32, messages: VirtAddr, count: u32, flags: u32) -> Result<u32> {
    socket::of(&*c.real_file(fd)?)?;
    batch(messages, count, |at, _| send_one(c, fd, at, flags).map(Some))
}

/// The timeout is looked at between messages only, as on Linux.
fn recvmmsg(
    c: &mut Ctx<'_>,
    fd: i32,
    messages: VirtAddr,
    count: u32,
    flags: u32,
    timeout: VirtAddr,
) -> Result<u32> {
    socket::of(&*c.real_file(fd)?)?;
    let until = match timeout.raw() {
        0 => None,
        _ => {
            let span = hal::user::read::<Timespec>(timeout)?.to_ns()?;
            Some(sync::hooks::now().saturating_add(span))
        }
    };
    let over = || until.is_some_and(|until| sync::hooks::now() >= until);
    let done = batch(messages, count, |at, nth| {
        if nth > 0 && over() {
            return Ok(None);
        }
        let wait = if nth > 0 && flags & msg::WAITFORONE != 0 { msg::DONTWAIT } else { 0 };
        receive_one(c, fd, at, (flags & !msg::WAITFORONE) | wait).map(Some)
    })?;
    if let Some(until) = until {
        let left = until.saturating_sub(sync::hooks::now());
        hal::user::write(timeout, &Timespec::from_ns(left))?;
    }
    Ok(done)
}
