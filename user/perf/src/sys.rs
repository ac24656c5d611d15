//! The system calls: opening events, their requests, their buffers. The one module with `unsafe`.
#![allow(unsafe_code, reason = "system calls and shared memory; see SAFETY")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct perf_event_attr` up to the version that every tool of the last years reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    pub kind: u32,
    pub size: u32,
    pub config: u64,
    pub sample_period: u64,
    pub sample_type: u64,
    pub read_format: u64,
    pub flags: u64,
    pub wakeup: u32,
    pub bp_type: u32,
    pub config1: u64,
    pub config2: u64,
    pub branch_sample_type: u64,
    pub sample_regs_user: u64,
    pub sample_stack_user: u32,
    pub clockid: i32,
    pub sample_regs_intr: u64,
    pub aux_watermark: u32,
    pub sample_max_stack: u16,
    pub reserved: u16,
    pub aux_sample_size: u32,
    pub reserved2: u32,
    pub sig_data: u64,
}

/// Bytes of the structure.
pub const ATTR_SIZE: usize = 128;
const _: () = assert!(size_of::<Attr>() == ATTR_SIZE);

impl Attr {
    /// Its bytes, as in memory and in files.
    pub fn bytes(&self) -> [u8; ATTR_SIZE] {
        // SAFETY: integers without padding, of exactly this size.
        unsafe { std::mem::transmute(*self) }
    }

    /// From bytes of any version: what is missing is 0.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut all = [0; ATTR_SIZE];
        let known = bytes.len().min(ATTR_SIZE);
        all[..known].copy_from_slice(&bytes[..known]);
        // SAFETY: integers without padding: every value is valid.
        unsafe { std::mem::transmute(all) }
    }
}

fn check(value: i64) -> io::Result<i64> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// perf_event_open(2), close-on-exec.
pub fn open(attr: &Attr, pid: i32, cpu: i32, group: i32) -> io::Result<OwnedFd> {
    const CLOEXEC: u64 = 8;
    // SAFETY: the attribute lives during the call; the result is a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_perf_event_open, attr, pid, cpu, group, CLOEXEC);
        Ok(OwnedFd::from_raw_fd(check(fd)? as i32))
    }
}

/// Requests.
pub const ENABLE: u64 = 0x2400;
pub const DISABLE: u64 = 0x2401;
pub const SET_OUTPUT: u64 = 0x2405;

/// A request with a number.
pub fn request(fd: &OwnedFd, what: u64, arg: i32) -> io::Result<()> {
    // SAFETY: none of the requests above takes a pointer.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), what as _, arg) };
    check(done.into()).map(|_| ())
}

/// The event's id.
pub fn id(fd: &OwnedFd) -> io::Result<u64> {
    let mut id = 0u64;
    // SAFETY: the request writes 8 bytes.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), 0x8008_2407u64 as _, &mut id) };
    check(done.into()).map(|_| id)
}

/// Waits until one of `fds` is ready or `timeout` (ms) has passed; false when all have hung up.
pub fn poll(fds: &[&OwnedFd], timeout: i32) -> io::Result<bool> {
    let mut list: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: the list has as many entries as said.
    let ready = unsafe { libc::poll(list.as_mut_ptr(), list.len() as _, timeout) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(true) } else { Err(error) };
    }
    Ok(list.iter().any(|p| p.revents & libc::POLLHUP == 0))
}

/// A buffer that the kernel fills.
pub struct Ring {
    base: *mut u8,
    len: usize,
    data: usize,
}

const HEAD: usize = 1024;
const TAIL: usize = 1032;

impl Ring {
    /// Maps the buffer of `fd` with `pages` (a power of two) of data.
    pub fn new(fd: &OwnedFd, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let len = (pages + 1) * page;
        // SAFETY: a fresh mapping.
        let base = unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), len, data: pages * page })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: aligned, inside the control page, which lives as long as `self`.
        unsafe { &*self.base.add(at).cast::<AtomicU64>() }
    }

    /// Takes all whole records that are there.
    pub fn drain(&mut self, out: &mut Vec<u8>) {
        let head = self.word(HEAD).load(Ordering::Acquire);
        let tail = self.word(TAIL).load(Ordering::Relaxed);
        let mut at = tail;
        while at < head {
            let offset = (at % self.data as u64) as usize;
            let step = (self.data - offset).min((head - at) as usize);
            // SAFETY: the kernel does not write between tail and head; the range is in the data.
            let piece = unsafe {
                let start = self.base.add(self.len - self.data + offset);
                std::slice::from_raw_parts(start, step)
            };
            out.extend_from_slice(piece);
            at += step as u64;
        }
        self.word(TAIL).store(head, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: no arguments that could be wrong.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// A pipe: read end, write end, close-on-exec.
pub fn pipe() -> io::Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which are new.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC).into())?;
        Ok((File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])))
    }
}

/// A program that waits, between fork and exec, to be let go.
pub struct Child {
    pub pid: i32,
    name: String,
    go: Option<File>,
    failed: File,
}

/// How a child ended: exit status as wait(2) gives it, and its CPU times in seconds.
pub struct End {
    pub status: i32,
    pub user: f64,
    pub system: f64,
}

/// Forks a child that will execute `argv`, found by PATH.
pub fn spawn(argv: &[String]) -> io::Result<Child> {
    use std::ffi::CString;
    use std::io::{Read, Write};
    let strings: Vec<CString> =
        argv.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let (mut wait, go) = pipe()?;
    let (failed, mut tell) = pipe()?;
    // SAFETY: this process has one thread; the child only reads, executes, writes and exits.
    unsafe {
        let pid = check(libc::fork().into())? as i32;
        if pid == 0 {
            drop(go);
            drop(failed);
            let mut byte = [0];
            if wait.read_exact(&mut byte).is_ok() {
                libc::execvp(pointers[0], pointers.as_ptr());
                let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                let _ = tell.write_all(&error.to_le_bytes());
            }
            libc::_exit(127);
        }
        Ok(Child { pid, name: argv[0].clone(), go: Some(go), failed })
    }
}

impl Child {
    /// Lets it execute its program; why it cannot.
    pub fn start(&mut self) -> Result<(), String> {
        self.try_start().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no program '{}'", self.name),
            _ => format!("cannot execute '{}': {error}", self.name),
        })
    }

    fn try_start(&mut self) -> io::Result<()> {
        use std::io::{Read, Write};
        if let Some(mut go) = self.go.take() {
            go.write_all(&[1])?;
        }
        let mut error = [0; 4];
        match self.failed.read(&mut error)? {
            4 => Err(io::Error::from_raw_os_error(i32::from_le_bytes(error))),
            _ => Ok(()),
        }
    }

    /// Waits for its end; None when `block` is false and it runs.
    pub fn wait(&self, block: bool) -> io::Result<Option<End>> {
        let mut status = 0;
        // SAFETY: both places live during the call, and any bytes make an rusage.
        let (got, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let flags = if block { 0 } else { libc::WNOHANG };
            let got = loop {
                let got = libc::wait4(self.pid, &mut status, flags, &mut usage);
                if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                    break got;
                }
            };
            (check(got.into())?, usage)
        };
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        let end = End { status, user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) };
        Ok((got != 0).then_some(end))
    }
}

/// The exit code that a shell would give for a wait status.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Has SIGINT end waits instead of this process: what was measured so far is still told.
pub fn catch_interrupt() {
    extern "C" fn note(_: i32) {
        INTERRUPTED.store(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        libc::signal(libc::SIGINT, note as *const () as libc::sighandler_t);
    }
}

static INTERRUPTED: AtomicU64 = AtomicU64::new(0);

/// SIGINT came.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) != 0
}
