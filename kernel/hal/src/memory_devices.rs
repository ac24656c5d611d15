//! Memory devices (DIMMs that can be plugged in) as QEMU's firmware describes them: its byte code asks a
//! few ports, and so does the kernel, which runs none. From bytes alone.
//!
//! Sources: QEMU's docs/specs/acpi_mem_hotplug.rst; ACPI 6.5, 5.2.16.2, 20.2 (byte code).

use alloc::vec::Vec;

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryDevice {
    /// Bytes `[start, end)`.
    pub start: u64,
    pub end: u64,
    pub domain: u32,
}

impl MemoryDevice {
    /// A device of `len` bytes, if that is a range of whole pages.
    pub fn new(start: u64, len: u64, domain: u32) -> Option<Self> {
        let end = start.checked_add(len)?;
        let whole = (start | len).is_multiple_of(abi::PAGE_SIZE as u64);
        (whole && len > 0).then_some(Self { start, end, domain })
    }
}

/// The ports that tell of devices: the first one, and how many slots they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    pub port: u16,
    pub count: u8,
}

/// Looks for the ports in byte code: `OperationRegion (HPMR, SystemIO, PORT, ...)`, `Name (MDNR, COUNT)`.
pub fn slots(dsdt: &[u8]) -> Option<Slots> {
    const REGION: &[u8] = b"\x5b\x80HPMR\x01\x0b";
    const COUNT: &[u8] = b"\x08MDNR";
    let behind = |what: &[u8]| {
        dsdt.windows(what.len()).position(|w| w == what).and_then(|at| dsdt.get(at + what.len()..))
    };
    let port = behind(REGION)?.first_chunk::<2>()?;
    let count = match *behind(COUNT)?.first_chunk::<2>()? {
        [0x0a, count] => count,
        // Zero and One have codes of their own.
        [count @ 0..=1, _] => count,
        _ => return None,
    };
    Some(Slots { port: u16::from_le_bytes(*port), count })
}

/// The SRAT with a record for each device, in place of those of what can be plugged in.
pub fn with_devices(srat: &[u8], devices: &[MemoryDevice]) -> Vec<u8> {
    const HEADER: usize = 48;
    const MEMORY: u8 = 1;
    const LEN: usize = 40;
    const ENABLED: u32 = 1;
    const CAN_BE_PLUGGED: u8 = 2;
    let mut out = srat.get(..HEADER).unwrap_or(srat).to_vec();
    let mut rest = srat.get(HEADER..).unwrap_or(&[]);
    while let Some(&len) = rest.get(1)
        && let Some((record, behind)) = rest.split_at_checked(usize::from(len).max(2))
    {
        let plugged =
            record[0] == MEMORY && record.get(28).is_some_and(|f| f & CAN_BE_PLUGGED != 0);
        if !plugged {
            out.extend_from_slice(record);
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    for device in devices {
        let mut record = [0; LEN];
        record[0] = MEMORY;
        record[1] = LEN as u8;
        record[2..6].copy_from_slice(&device.domain.to_le_bytes());
        record[8..16].copy_from_slice(&device.start.to_le_bytes());
        record[16..24].copy_from_slice(&(device.end - device.start).to_le_bytes());
        record[28..32].copy_from_slice(&ENABLED.to_le_bytes());
        out.extend_from_slice(&record);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::describe;
    use numa::NodeId;

    #[test]
    fn the_ports_are_found_in_byte_code() {
        let code = b"\x10\x20\x08MDNR\x0a\x02...\x5b\x80HPMR\x01\x0b\x00\x0a\x0a\x18";
        assert_eq!(slots(code), Some(Slots { port: 0xa00, count: 2 }));
        assert_eq!(slots(&code[..code.len() - 4]), None);
        assert_eq!(
            slots(b"\x08MDNR\x01\x5b\x80HPMR\x01\x0b\x00\x0a\x0a\x18").map(|s| s.count),
            Some(1)
        );
        assert_eq!(slots(b""), None);
    }

    #[test]
    fn a_devices_memory_belongs_to_its_own_node() {
        const MEMORY: &[u8] = include_bytes!("../tests/acpi/ring-4.srat");
        let (from, to) = (64 << 30, (64 << 30) + (512 << 20));
        let device = MemoryDevice::new(from, to - from, 1).unwrap();
        // What can be plugged in is said to be the last node's.
        let mut srat = with_devices(MEMORY, &[MemoryDevice { domain: 3, ..device }]);
        let at = srat.len() - 40 + 28;
        srat[at] = 3;
        let srat = with_devices(&srat, &[device]);
        let ram = [(0, 3 << 30), (from, to)];
        let found = describe(None, Some(&srat), None, &ram, 0, 8);
        assert_eq!(found.affinity.last(), Some(&(from, to, NodeId::new(1))));
        assert_eq!(found.affinity.iter().filter(|range| range.1 > from).count(), 1);
        assert_eq!(MemoryDevice::new(from, 0, 1), None);
        assert_eq!(MemoryDevice::new(from, 5, 1), None);
    }
}
