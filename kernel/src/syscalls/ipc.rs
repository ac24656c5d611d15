//! System V IPC.

use super::Ctx;
use crate::ipc::{msg, sem, shm};
use abi::Result;
use abi::uapi::Timespec;
use hal::VirtAddr;

crate::syscalls! {
    29 shmget(key: i32, size: u64, flags: u32) => shmget;
    30 shmat(id: i32, addr: u64, flags: u32) => shmat;
    31 shmctl(id: i32, command: i32, buf: VirtAddr) => shmctl;
    64 semget(key: i32, count: i32, flags: u32) => semget;
    65 semop(id: i32, ops: VirtAddr, count: u32) => semop;
    66 semctl(id: i32, num: i32, command: i32, arg: u64) => semctl;
    67 shmdt(addr: u64) => shmdt;
    68 msgget(key: i32, flags: u32) => msgget;
    69 msgsnd(id: i32, message: VirtAddr, size: u64, flags: u32) => msgsnd;
    70 msgrcv(id: i32, message: VirtAddr, size: u64, kind: i64, flags: u32) => msgrcv;
    71 msgctl(id: i32, command: i32, buf: VirtAddr) => msgctl;
    220 semtimedop(id: i32, ops: VirtAddr, count: u32, timeout: VirtAddr) => semtimedop;
}

fn shmget(_: &mut Ctx<'_>, key: i32, size: u64, flags: u32) -> Result<i32> {
    shm::get(key, size, flags)
}

fn shmat(_: &mut Ctx<'_>, id: i32, addr: u64, flags: u32) -> Result<u64> {
    shm::attach(id, addr, flags)
}

fn shmdt(_: &mut Ctx<'_>, addr: u64) -> Result<()> {
    shm::detach(addr)
}

fn shmctl(_: &mut Ctx<'_>, id: i32, command: i32, buf: VirtAddr) -> Result<i32> {
    shm::control(id, command, buf)
}

fn semget(_: &mut Ctx<'_>, key: i32, count: i32, flags: u32) -> Result<i32> {
    sem::get(key, count, flags)
}

fn semop(_: &mut Ctx<'_>, id: i32, ops: VirtAddr, count: u32) -> Result<()> {
    sem::operate(id, &sem::read_ops(ops, count as usize)?, None)
}

fn semtimedop(
    _: &mut Ctx<'_>,
    id: i32,
    ops: VirtAddr,
    count: u32,
    timeout: VirtAddr,
) -> Result<()> {
    let deadline = if timeout.raw() == 0 {
        None
    } else {
        let time: Timespec = hal::user::read(timeout)?;
        Some(hal::time::now().saturating_add(time.to_ns()?))
    };
    sem::operate(id, &sem::read_ops(ops, count as usize)?, deadline)
}

fn semctl(_: &mut Ctx<'_>, id: i32, num: i32, command: i32, arg: u64) -> Result<i32> {
    sem::control(id, num, command, arg)
}

fn msgget(_: &mut Ctx<'_>, key: i32, flags: u32) -> Result<i32> {
    msg::get(key, flags)
}

fn msgsnd(_: &mut Ctx<'_>, id: i32, message: VirtAddr, size: u64, flags: u32) -> Result<()> {
    msg::send(id, message, size, flags)
}

fn msgrcv(
    _: &mut Ctx<'_>,
    id: i32,
    message: VirtAddr,
    size: u64,
    kind: i64,
    flags: u32,
) -> Result<usize> {
    msg::receive(id, message, size, kind, flags)
}

fn msgctl(_: &mut Ctx<'_>, id: i32, command: i32, buf: VirtAddr) -> Result<i32> {
    msg::control(id, command, buf)
}
