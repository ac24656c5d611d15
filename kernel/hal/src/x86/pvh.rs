//! The PVH start information: memory map, command line, initramfs, RSDP.
//!
//! Source: Xen's public `arch-x86/hvm/start_info.h` (layout facts).

use crate::{PhysAddr, phys};

const MAGIC: u32 = 0x336e_c578;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist: u64,
    cmdline: u64,
    rsdp: u64,
    memmap: u64,
    memmap_entries: u32,
    _reserved: u32,
}

/// Where the command line's address lies, for the boot code.
pub(super) const CMDLINE: usize = core::mem::offset_of!(StartInfo, cmdline);

#[repr(C)]
struct Module {
    paddr: u64,
    size: u64,
    cmdline: u64,
    _reserved: u64,
}

/// One range of the firmware's memory map.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MapEntry {
    pub addr: u64,
    pub size: u64,
    /// 1 RAM, 2 reserved, 3 ACPI tables (reclaimable), 4 ACPI NVS, others reserved (as E820).
    pub kind: u32,
    _reserved: u32,
}

/// What the boot loader said. Everything it points to lies below 1 GiB or is reached through the
/// direct map once that is complete.
#[derive(Clone, Copy)]
pub struct BootInfo {
    pub memory_map: &'static [MapEntry],
    pub cmdline: &'static str,
    /// Address and size of the initramfs, if one was given.
    pub initramfs: Option<(PhysAddr, usize)>,
    pub rsdp: Option<PhysAddr>,
}

/// Reads the start information at physical address `at`.
///
/// Panics when the magic is wrong: there is no memory map to go on with.
pub fn read(at: u64) -> BootInfo {
    // SAFETY: the loader passed the address in EBX; the early direct map covers the first GiB,
    // where QEMU and Xen place it. Nothing writes there afterwards.
    unsafe {
        let info = &*phys::ptr::<StartInfo>(PhysAddr::new(at));
        assert!(info.magic == MAGIC, "not booted by PVH (magic {:#x})", info.magic);
        let memory_map = if info.version >= 1 && info.memmap_entries > 0 {
            core::slice::from_raw_parts(
                phys::ptr::<MapEntry>(PhysAddr::new(info.memmap)),
                info.memmap_entries as usize,
            )
        } else {
            &[]
        };
        let cmdline = if info.cmdline == 0 {
            ""
        } else {
            let start = phys::ptr::<u8>(PhysAddr::new(info.cmdline));
            let mut len = 0;
            while *start.add(len) != 0 && len < 4096 {
                len += 1;
            }
            core::str::from_utf8(core::slice::from_raw_parts(start, len)).unwrap_or("")
        };
        let initramfs = (info.nr_modules > 0).then(|| {
            let module = &*phys::ptr::<Module>(PhysAddr::new(info.modlist));
            (PhysAddr::new(module.paddr), module.size as usize)
        });
        let rsdp = (info.rsdp != 0).then(|| PhysAddr::new(info.rsdp));
        BootInfo { memory_map, cmdline, initramfs, rsdp }
    }
}
