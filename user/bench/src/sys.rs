//! System calls without a library between, so that both kernels are asked for exactly the same.

use std::arch::asm;
use std::fmt;

/// What did not work, and the kernel's errno (0: it worked, but had the wrong effect).
#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub what: &'static str,
    pub errno: i32,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            0 => f.write_str(self.what),
            errno => write!(f, "{}: {}", self.what, std::io::Error::from_raw_os_error(errno)),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// An effect that did not come.
pub fn wrong<T>(what: &'static str) -> Result<T> {
    Err(Error { what, errno: 0 })
}

/// The call `number`, named `what` in errors. Addresses among `args` are the caller's to answer
/// for: each is of memory that the measuring process owns and nobody else uses.
#[inline(always)]
pub fn call<const N: usize>(
    what: &'static str,
    number: libc::c_long,
    args: [usize; N],
) -> Result<usize> {
    let mut words = [0; 6];
    words[..N].copy_from_slice(&args);
    let result: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11; about memory see above.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") words[0], in("rsi") words[1], in("rdx") words[2],
            in("r10") words[3], in("r8") words[4], in("r9") words[5],
            out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    if (-4095..0).contains(&result) {
        Err(Error { what, errno: -result as i32 })
    } else {
        Ok(result as usize)
    }
}

pub fn exit(code: usize) -> ! {
    loop {
        let _ = call("exit_group", libc::SYS_exit_group, [code]);
    }
}

/// The address of a value that a call reads or writes.
pub fn at<T>(value: *const T) -> usize {
    value.expose_provenance()
}

/// fork(2): 0 in the child.
pub fn fork() -> Result<usize> {
    call("fork", libc::SYS_fork, [])
}

pub fn wait(child: usize) -> Result<()> {
    call("wait4", libc::SYS_wait4, [child, 0, 0, 0]).map(drop)
}

/// A pipe's two ends.
pub fn pipe() -> Result<[usize; 2]> {
    let mut ends = [0_i32; 2];
    call("pipe2", libc::SYS_pipe2, [at(&raw mut ends), 0])?;
    Ok(ends.map(|fd| fd as usize))
}

#[inline(always)]
pub fn write_byte(fd: usize) -> Result<()> {
    let byte = 1_u8;
    call("write", libc::SYS_write, [fd, at(&raw const byte), 1]).map(drop)
}

/// False at the end of the file.
#[inline(always)]
pub fn read_byte(fd: usize) -> Result<bool> {
    let mut byte = 0_u8;
    Ok(call("read", libc::SYS_read, [fd, at(&raw mut byte), 1])? == 1)
}

pub fn close(fd: usize) -> Result<()> {
    call("close", libc::SYS_close, [fd]).map(drop)
}
