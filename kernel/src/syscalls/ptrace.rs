//! ptrace(2).

use super::Ctx;
use crate::ptrace::request;
use abi::Result;

crate::syscalls! {
    101 ptrace(request: u64, pid: i32, addr: u64, data: u64) => ptrace;
}

fn ptrace(_: &mut Ctx<'_>, request: u64, pid: i32, addr: u64, data: u64) -> Result<u64> {
    request::ptrace(request, pid, addr, data)
}
