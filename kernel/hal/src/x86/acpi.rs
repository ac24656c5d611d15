//! Finding ACPI's tables in memory, with the `acpi` crate, and switching the power off.

use super::{power, pvh::BootInfo};
use crate::firmware::Register;
use crate::memory_devices::{self, MemoryDevice, Slots};
use crate::{PhysAddr, firmware, phys};
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// Tables as bytes, and the few ports that the kernel uses.
#[derive(Default)]
pub struct Tables {
    pub madt: Option<Vec<u8>>,
    pub srat: Option<Vec<u8>>,
    pub slit: Option<Vec<u8>>,
    pub hmat: Option<Vec<u8>>,
    /// I/O port of the power-management timer.
    pub pm_timer: Option<u16>,
    /// Address of the High Precision Event Timer's registers.
    pub hpet: Option<u64>,
    /// Address of a sleep control register in memory: its page must be mapped.
    pub sleep_page: Option<u64>,
    /// DIMMs that are plugged in; the SRAT says so already.
    pub memory_devices: Vec<MemoryDevice>,
    pub warnings: Vec<String>,
}

/// Physical memory is always mapped: the direct map covers the tables.
#[derive(Clone)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let virt = NonNull::new(phys::ptr::<T>(PhysAddr::new(at as u64))).expect("not null");
        // SAFETY: the direct map covers all memory of the firmware's map.
        unsafe { PhysicalMapping::new(at, virt, size, size, Self) }
    }
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

macro_rules! table {
    ($name:ident, $signature:expr) => {
        #[repr(transparent)]
        struct $name(SdtHeader);
        // SAFETY: only the header is named; the bytes behind it are taken as bytes.
        unsafe impl AcpiTable for $name {
            const SIGNATURE: Signature = $signature;
            fn header(&self) -> &SdtHeader {
                &self.0
            }
        }
    };
}
/// A signature that the crate has no name for.
// SAFETY: `Signature` is a transparent wrapper of four bytes.
const HMAT: Signature = unsafe { core::mem::transmute::<[u8; 4], Signature>(*b"HMAT") };

table!(Madt, Signature::MADT);
table!(Srat, Signature::SRAT);
table!(Slit, Signature::SLIT);
table!(Hmat, HMAT);
table!(Facp, Signature::FADT);
table!(Hpet, Signature::HPET);

fn bytes_of<T: AcpiTable>(
    tables: &AcpiTables<DirectMap>,
    warnings: &mut Vec<String>,
) -> Option<Vec<u8>> {
    let found = tables.find_table::<T>().ok()?;
    // SAFETY: the crate validated length and checksum of the table at this address.
    let bytes = unsafe {
        core::slice::from_raw_parts(
            found.virtual_start().as_ptr().cast::<u8>(),
            found.get().header().length as usize,
        )
    };
    if !firmware::checksum_ok(bytes) {
        warnings.push(alloc::format!("{}: checksum is wrong, ignored", T::SIGNATURE));
        return None;
    }
    Some(bytes.to_vec())
}

/// The register that switches the machine off: its address (0: none), and whether that is a port.
static SLEEP_AT: AtomicU64 = AtomicU64::new(0);
static SLEEP_IS_PORT: AtomicBool = AtomicBool::new(false);
/// What S5 is in it.
static SLEEP_TYPE: AtomicU16 = AtomicU16::new(0);

/// True when the bytes `[at, at + len)` lie in a range of the firmware's map, and so in the direct
/// map: a pointer out of a corrupt table must not be followed elsewhere.
fn mapped(info: &BootInfo, at: u64, len: u64) -> bool {
    info.memory_map
        .iter()
        .any(|e| at >= e.addr && at.checked_add(len).is_some_and(|end| end <= e.addr + e.size))
}

/// The bytes of the DSDT at `at`, if they lie in mapped firmware memory.
fn dsdt(info: &BootInfo, at: u64) -> Option<&'static [u8]> {
    if !mapped(info, at, 36) {
        return None;
    }
    let header = phys::ptr::<u8>(PhysAddr::new(at));
    // SAFETY: the header lies in mapped firmware memory (checked), its length word too.
    let len = unsafe { header.add(4).cast::<u32>().read_unaligned() };
    // SAFETY: checked just now; firmware's tables stay as they are.
    mapped(info, at, u64::from(len))
        .then(|| unsafe { core::slice::from_raw_parts(header, len as usize) })
}

/// Asks which slots have a device, as the firmware's byte code would.
fn plugged_in(slots: Slots) -> Vec<MemoryDevice> {
    const ENABLED: u8 = 1;
    let register = |offset: u16| slots.port.wrapping_add(offset);
    let wide = |offset: u16| {
        let (low, high) = (power::inl(register(offset)), power::inl(register(offset + 4)));
        u64::from(high) << 32 | u64::from(low)
    };
    let device = |slot: u8| {
        power::outl(register(0), slot.into());
        let there = power::inb(register(0x14)) & ENABLED != 0;
        let device = there.then(|| MemoryDevice::new(wide(0), wide(8), power::inl(register(0x10))));
        device.flatten()
    };
    (0..slots.count).filter_map(device).collect()
}

/// Reads the tables. Without a usable root the result is empty, with a warning.
pub fn find(info: &BootInfo) -> Tables {
    let mut out = Tables::default();
    let Some(rsdp) = info.rsdp else {
        out.warnings.push("no ACPI root pointer".into());
        return out;
    };
    // SAFETY: the loader named this address; the crate checks signature and checksum.
    let tables = match unsafe { AcpiTables::from_rsdp(DirectMap, rsdp.raw() as usize) } {
        Ok(tables) => tables,
        Err(why) => {
            out.warnings.push(alloc::format!("ACPI root: {why:?}"));
            return out;
        }
    };
    out.madt = bytes_of::<Madt>(&tables, &mut out.warnings);
    out.srat = bytes_of::<Srat>(&tables, &mut out.warnings);
    out.slit = bytes_of::<Slit>(&tables, &mut out.warnings);
    out.hmat = bytes_of::<Hmat>(&tables, &mut out.warnings);
    out.hpet = bytes_of::<Hpet>(&tables, &mut out.warnings).and_then(|t| firmware::hpet(&t));
    if let Some(fadt) = bytes_of::<Facp>(&tables, &mut out.warnings).map(|t| firmware::fadt(&t)) {
        out.pm_timer = fadt.pm_timer;
        let dsdt = fadt.dsdt.and_then(|at| dsdt(info, at));
        if let Some(slots) = dsdt.and_then(memory_devices::slots) {
            out.memory_devices = plugged_in(slots);
        }
        if let Some(srat) = out.srat.as_mut().filter(|_| !out.memory_devices.is_empty()) {
            *srat = memory_devices::with_devices(srat, &out.memory_devices);
        }
        // Some firmware has it in a secondary table.
        let kind = dsdt.and_then(firmware::find_s5).or_else(|| {
            tables.ssdts().find_map(|table| {
                let (at, len) = (table.address as u64, table.length);
                let code = mapped(info, at, len.into())
                    .then(|| phys::range(PhysAddr::new(at), len as usize));
                code.and_then(firmware::find_s5)
            })
        });
        if let Some(kind) = kind {
            SLEEP_TYPE.store(kind, Ordering::Relaxed);
            match fadt.sleep_control {
                Some(Register::Memory(at)) => {
                    out.sleep_page = Some(at);
                    SLEEP_AT.store(at, Ordering::Relaxed);
                }
                Some(Register::Port(port)) => {
                    SLEEP_IS_PORT.store(true, Ordering::Relaxed);
                    SLEEP_AT.store(u64::from(port), Ordering::Relaxed);
                }
                None => {}
            }
        }
    }
    out
}

/// Switches the machine off; halts where ACPI gave no way to.
pub fn power_off() -> ! {
    crate::irq::disable();
    let kind = SLEEP_TYPE.load(Ordering::Relaxed);
    match (SLEEP_AT.load(Ordering::Relaxed), SLEEP_IS_PORT.load(Ordering::Relaxed)) {
        (0, _) => {}
        (port, true) => power::outw(port as u16, kind << 10 | 1 << 13),
        // SAFETY: the register of hardware-reduced ACPI; boot mapped its page.
        (at, false) => unsafe {
            let value = (kind as u8) << 2 | 1 << 5;
            phys::ptr::<u8>(PhysAddr::new(at)).write_volatile(value);
        },
    }
    power::halt()
}
