//! Finding ACPI's tables in memory, with the `acpi` crate, and switching the power off.

use super::{power, pvh::BootInfo};
use crate::{PhysAddr, firmware, phys};
use acpi::fadt::Fadt;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// Tables as bytes, and the few ports that the kernel uses.
#[derive(Default)]
pub struct Tables {
    pub madt: Option<Vec<u8>>,
    pub srat: Option<Vec<u8>>,
    pub slit: Option<Vec<u8>>,
    /// I/O port of the power-management timer.
    pub pm_timer: Option<u16>,
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
    ($name:ident, $signature:ident) => {
        #[repr(transparent)]
        struct $name(SdtHeader);
        // SAFETY: only the header is named; the bytes behind it are taken as bytes.
        unsafe impl AcpiTable for $name {
            const SIGNATURE: Signature = Signature::$signature;
            fn header(&self) -> &SdtHeader {
                &self.0
            }
        }
    };
}
table!(Madt, MADT);
table!(Srat, SRAT);
table!(Slit, SLIT);

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

static PM1A: AtomicU32 = AtomicU32::new(0);
static SLEEP_TYPE: AtomicU32 = AtomicU32::new(0);

/// True when the bytes `[at, at + len)` lie in a range of the firmware's map, and so in the direct
/// map: a pointer out of a corrupt table must not be followed elsewhere.
fn mapped(info: &BootInfo, at: u64, len: u64) -> bool {
    info.memory_map
        .iter()
        .any(|e| at >= e.addr && at.checked_add(len).is_some_and(|end| end <= e.addr + e.size))
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
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        out.pm_timer = fadt
            .pm_timer_block()
            .ok()
            .flatten()
            .and_then(|block| u16::try_from(block.address).ok());
        if let (Ok(block), Ok(dsdt)) = (fadt.pm1a_control_block(), fadt.dsdt_address())
            && mapped(info, dsdt as u64, 36)
        {
            let header = phys::ptr::<u8>(PhysAddr::new(dsdt as u64));
            // SAFETY: the header lies in mapped firmware memory (checked), its length word too.
            let len = unsafe { header.add(4).cast::<u32>().read_unaligned() };
            if mapped(info, dsdt as u64, u64::from(len)) {
                // SAFETY: checked just now.
                let dsdt = unsafe { core::slice::from_raw_parts(header, len as usize) };
                if let Some(kind) = firmware::find_s5(dsdt) {
                    PM1A.store(block.address as u32, Ordering::Relaxed);
                    SLEEP_TYPE.store(u32::from(kind), Ordering::Relaxed);
                }
            }
        }
    }
    out
}

/// Switches the machine off; halts where ACPI gave no way to.
pub fn power_off() -> ! {
    crate::irq::disable();
    let port = PM1A.load(Ordering::Relaxed) as u16;
    if port != 0 {
        power::outw(port, (SLEEP_TYPE.load(Ordering::Relaxed) as u16) << 10 | 1 << 13);
    }
    power::halt()
}
