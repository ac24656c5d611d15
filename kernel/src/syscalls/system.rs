//! The machine as a whole: its names, its load, switching it off.

use super::Ctx;
use crate::creds;
use crate::uts;
use abi::{Errno, Result};
use fs::Cap;
use hal::VirtAddr;
use hal::user;

crate::syscalls! {
    63 uname(buf: VirtAddr) => uname;
    99 sysinfo(info: VirtAddr) => sysinfo;
    169 reboot(magic1: u32, magic2: u32, cmd: u32, arg: VirtAddr) => reboot;
    170 sethostname(name: VirtAddr, len: i32) => sethostname;
    171 setdomainname(name: VirtAddr, len: i32) => setdomainname;
}

fn uname(_: &mut Ctx<'_>, buf: VirtAddr) -> Result<()> {
    const FIELD: usize = 65;
    let mut out = [0u8; 6 * FIELD];
    let (host, domain) = (uts::HOST.get(), uts::DOMAIN.get());
    let fields: [&[u8]; 6] = [
        uts::SYSNAME.as_bytes(),
        &host,
        uts::RELEASE.as_bytes(),
        uts::VERSION.as_bytes(),
        uts::MACHINE.as_bytes(),
        &domain,
    ];
    for (i, text) in fields.into_iter().enumerate() {
        let len = text.len().min(FIELD - 1);
        out[i * FIELD..i * FIELD + len].copy_from_slice(&text[..len]);
    }
    user::copy_to(buf, &out)
}

fn set_name(name: &uts::Name, at: VirtAddr, len: i32) -> Result<()> {
    if !creds::capable(Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|&n| n <= uts::NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut text = alloc::vec![0u8; len];
    user::copy_from(&mut text, at)?;
    name.set(&text)
}

fn sethostname(_: &mut Ctx<'_>, name: VirtAddr, len: i32) -> Result<()> {
    set_name(&uts::HOST, name, len)
}

fn setdomainname(_: &mut Ctx<'_>, name: VirtAddr, len: i32) -> Result<()> {
    set_name(&uts::DOMAIN, name, len)
}

/// `struct sysinfo`: uptime, three loads with 16 bits of fraction, memory in bytes.
fn sysinfo(_: &mut Ctx<'_>, info: VirtAddr) -> Result<()> {
    let (mut total, mut free, mut shared) = (0, 0, 0);
    for node in crate::machine().memory_nodes().iter() {
        let stats = frames::stats(node);
        total += stats.managed * vm::PAGE;
        free += stats.free * vm::PAGE;
        shared += (stats.used[frames::Kind::Shared as usize]
            + stats.used[frames::Kind::SharedHuge as usize])
            * vm::PAGE;
    }
    let loads = crate::proc::averages().map(|load| load * ((1 << 16) / crate::proc::LOAD_ONE));
    let processes = crate::task::table::task_count().min(u16::MAX as usize) as u64;
    let words: [u64; 14] = [
        hal::time::now() / 1_000_000_000,
        loads[0],
        loads[1],
        loads[2],
        total,
        free,
        shared,
        0,
        0,
        0,
        processes,
        0,
        0,
        1, // mem_unit, and padding behind it
    ];
    user::copy_to(info, user::slice_bytes(&words))
}

fn reboot(_: &mut Ctx<'_>, magic1: u32, magic2: u32, cmd: u32, arg: VirtAddr) -> Result<()> {
    const MAGIC1: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const RESTART: u32 = 0x0123_4567;
    const HALT: u32 = 0xcdef_0123;
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;
    const POWER_OFF: u32 = 0x4321_fedc;
    const RESTART2: u32 = 0xa1b2_c3d4;
    if !creds::has(22) {
        return Err(Errno::EPERM);
    }
    if magic1 != MAGIC1 || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match cmd {
        // There is no keyboard, so Ctrl-Alt-Del never comes.
        CAD_ON | CAD_OFF => Ok(()),
        POWER_OFF => {
            log::info!("reboot: Power down");
            crate::panic::stop_others();
            hal::acpi::power_off()
        }
        HALT => {
            log::info!("reboot: System halted");
            crate::panic::stop_others();
            hal::power::halt()
        }
        RESTART | RESTART2 => {
            if cmd == RESTART2 {
                user::read_cstr(arg, 255)?;
            }
            log::info!("reboot: Restarting system");
            crate::panic::stop_others();
            hal::power::reset()
        }
        _ => Err(Errno::EINVAL),
    }
}
