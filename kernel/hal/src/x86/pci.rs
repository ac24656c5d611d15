//! PCI configuration space, by the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0, 3.2.2.3.2).

use super::power::{inl, outl};
use crate::addr::VirtAddr;
use crate::paging::{Mapper, Pte};
use crate::{Pfn, PhysAddr, phys};

/// A function of a device on the first bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl Address {
    fn select(self, offset: u8) {
        let function = u32::from(self.device) << 11 | u32::from(self.function) << 8;
        outl(0xcf8, 1 << 31 | function | u32::from(offset & 0xfc));
    }

    /// Reads the aligned word at `offset`; all ones where there is no function. Callers serialize.
    pub fn read(self, offset: u8) -> u32 {
        self.select(offset);
        inl(0xcfc)
    }

    /// Writes the aligned word at `offset`. Callers serialize, and know what the word does.
    pub fn write(self, offset: u8, value: u32) {
        self.select(offset);
        outl(0xcfc, value);
    }
}

/// Maps whole pages of a device's memory in the direct map: `cached` where reading has no effects.
/// (Where the firmware's MTRRs say that they are a device's they stay uncached all the same.)
pub fn map(start: PhysAddr, len: u64, cached: bool, table: &mut dyn FnMut() -> Pfn) {
    let kind = if cached { 0 } else { Pte::UNCACHED | Pte::WRITE_THROUGH };
    let bits = Pte::WRITABLE | Pte::NO_EXEC | Pte::GLOBAL | kind;
    Mapper::existing(table).map(VirtAddr::new(phys::DIRECT_MAP + start.raw()), start, len, bits);
}

/// Writes a register in a device's memory that was mapped by [`map`]. The caller knows what it does.
pub fn store(at: PhysAddr, value: u32) {
    // SAFETY: the direct map has it, as a device's memory; no memory of the machine's own is there.
    unsafe { phys::ptr::<u32>(at).write_volatile(value) }
}
