//! The functions of the first PCI bus as firmware set them up: where their memory and ports are. No
//! driver is behind them; /sys/bus/pci shows them, and /dev/mem gives their memory.

use alloc::vec::Vec;
use frames::{Kind, Usage};
use hal::pci::Address;
use hal::{PhysAddr, phys};
use sync::{Once, SpinLock};

/// Base address registers of an ordinary function.
const REGISTERS: u8 = 6;
const FIRST_REGISTER: u8 = 0x10;
const COMMAND: u8 = 0x04;
/// What of the command register lets a function answer at its ports and memory.
const ANSWERS: u32 = 3;

/// What a base address register describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    /// Bytes, a power of two.
    pub len: u64,
    /// The register's low bits: 1 ports, 4 of 64 bits, 8 prefetchable.
    pub kind: u32,
}

impl Region {
    /// From a register's halves, and what was read back after all ones were written. None where
    /// there is nothing, or firmware gave it no place.
    fn new(low: u32, high: u32, size_low: u32, size_high: u32) -> Option<Self> {
        let kind = if low & 1 != 0 { 1 } else { low & 0xf };
        let mask = if kind & 1 != 0 { 0x3 } else { 0xf };
        let (start, len) = if kind & 4 != 0 && kind & 1 == 0 {
            let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low & !mask);
            (wide(low, high), wide(size_low, size_high).wrapping_neg())
        } else {
            // Ports may have but 16 bits of address.
            let size = (size_low & !mask).wrapping_neg();
            let size = if kind & 1 != 0 { size & 0xffff } else { size };
            (u64::from(low & !mask), u64::from(size))
        };
        (start != 0 && len.is_power_of_two()).then_some(Self { start, len, kind })
    }

    /// Memory, not ports.
    pub fn is_memory(self) -> bool {
        self.kind & 1 == 0
    }

    /// Reading it has no effects.
    pub fn is_prefetchable(self) -> bool {
        self.is_memory() && self.kind & 8 != 0
    }
}

/// A function.
pub struct Function {
    pub address: Address,
    pub regions: [Option<Region>; REGISTERS as usize],
}

static FUNCTIONS: Once<Vec<Function>> = Once::new();
/// The address and data ports belong together.
static PORTS: SpinLock<()> = SpinLock::new(());

/// The functions that are there.
pub fn functions() -> &'static [Function] {
    FUNCTIONS.get().map_or(&[], Vec::as_slice)
}

/// Reads an aligned word of a function's configuration.
pub fn read(address: Address, offset: u8) -> u32 {
    let _alone = PORTS.lock();
    address.read(offset)
}

/// Looks what there is, and maps memory of whole pages in the direct map. At boot.
pub fn init() {
    FUNCTIONS.get_or_init(|| {
        let found: Vec<Function> =
            addresses().map(|address| Function { address, regions: regions(address) }).collect();
        let mut table = || {
            let nodes = crate::machine().memory_nodes();
            let mut nodes = nodes.iter();
            let frame = nodes.find_map(|n| frames::alloc_one(n, Kind::PageTable, Usage::Kernel));
            let frame = frame.expect("no memory for a page table");
            phys::zero(frame);
            frame
        };
        for region in found.iter().flat_map(Function::memory) {
            let at = PhysAddr::new(region.start);
            hal::pci::map(at, region.len, region.is_prefetchable(), &mut table);
        }
        found
    });
}

impl Function {
    /// Its memory, of whole pages, where nothing of the machine's own is.
    pub fn memory(&self) -> impl Iterator<Item = Region> + '_ {
        /// Below are memory and firmware, and from here to 4 GiB the interrupt controllers.
        const BELOW: u64 = 0xc000_0000;
        const CONTROLLERS: core::ops::Range<u64> = 0xfec0_0000..1 << 32;
        self.regions.iter().flatten().copied().filter(|region| {
            region.is_memory()
                && region.len >= vm::PAGE
                && region.start >= BELOW
                && (region.start + region.len <= CONTROLLERS.start
                    || region.start >= CONTROLLERS.end)
        })
    }
}

/// Whom there is: of a device that has one function only the first is asked for.
fn addresses() -> impl Iterator<Item = Address> {
    const NONE: u32 = u32::MAX;
    const HEADER: u8 = 0x0c;
    const SEVERAL: u32 = 1 << 23;
    (0..32).flat_map(|device| {
        let first = Address { device, function: 0 };
        let count = match read(first, 0) {
            NONE => 0,
            _ if read(first, HEADER) & SEVERAL != 0 => 8,
            _ => 1,
        };
        (0..count)
            .map(move |function| Address { device, function })
            .filter(|address| read(*address, 0) != NONE)
    })
}

/// A function's regions. While their sizes are asked for it answers nowhere.
fn regions(address: Address) -> [Option<Region>; REGISTERS as usize] {
    const HEADER: u8 = 0x0c;
    const KIND: u32 = 0x7f << 16;
    let mut regions = [None; REGISTERS as usize];
    let _alone = PORTS.lock();
    // Bridges have other registers there.
    if address.read(HEADER) & KIND != 0 {
        return regions;
    }
    let at = |register: u8| FIRST_REGISTER + register * 4;
    let command = address.read(COMMAND) & 0xffff;
    if command & ANSWERS == 0 {
        return regions;
    }
    let mut register = 0;
    while register < REGISTERS {
        let low = address.read(at(register));
        let wide = low & 7 == 4 && register + 1 < REGISTERS;
        if low & !0xf != 0 || wide {
            address.write(COMMAND, command & !ANSWERS);
            let size = |register: u8| {
                let value = address.read(at(register));
                address.write(at(register), u32::MAX);
                let size = address.read(at(register));
                address.write(at(register), value);
                (value, size)
            };
            let (low, size_low) = size(register);
            let (high, size_high) = if wide { size(register + 1) } else { (0, 0) };
            address.write(COMMAND, command);
            regions[usize::from(register)] = Region::new(low, high, size_low, size_high);
        }
        register += if wide { 2 } else { 1 };
    }
    regions
}

/// A function's capability `id`: where it begins (PCI Local Bus 3.0, 6.7).
fn capability(address: Address, id: u8) -> Option<u8> {
    const LIST: u32 = 1 << 20;
    const POINTER: u8 = 0x34;
    /// As many as there is room for.
    const MOST: usize = 48;
    if address.read(COMMAND) & LIST == 0 {
        return None;
    }
    let mut at = address.read(POINTER) as u8 & !3;
    for _ in 0..MOST {
        let head = address.read(at);
        if at == 0 || head as u8 == id {
            break;
        }
        at = (head >> 8) as u8 & !3;
    }
    (at != 0).then_some(at)
}

impl Function {
    /// Lets the function reach memory, and send the first of its MSI-X interrupts to the boot CPU as
    /// `vector` (PCI Local Bus 3.0, 6.8.2). None where it has none.
    pub fn enable_msix(&self, vector: u8) -> Option<()> {
        const MSIX: u8 = 0x11;
        const ENABLE: u32 = 1 << 31;
        const MASTER: u32 = 1 << 2;
        const NO_PIN: u32 = 1 << 10;
        /// Where messages to the interrupt controllers go, with the controller's id from bit 12.
        const MESSAGES: u32 = 0xfee0_0000;
        let boot = hal::cpu_area::of(numa::CpuId::new(0))?.apic_id();
        let _alone = PORTS.lock();
        let at = capability(self.address, MSIX)?;
        let table = self.address.read(at + 4);
        let region = self.regions.get(table as usize & 7).copied().flatten()?;
        let entry = region.start + u64::from(table & !7);
        if !self.memory().any(|own| own == region) || entry + 16 > region.start + region.len {
            return None;
        }
        for (offset, value) in [(0, MESSAGES | boot << 12), (4, 0), (8, vector.into()), (12, 0)] {
            hal::pci::store(PhysAddr::new(entry + offset), value);
        }
        self.address.write(at, self.address.read(at) | ENABLE);
        let command = self.address.read(COMMAND) & 0xffff;
        self.address.write(COMMAND, command | MASTER | NO_PIN);
        Some(())
    }
}
