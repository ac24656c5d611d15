//! The HMAT: captured from QEMU's machine of the topology `cxl`, cut off, and damaged.

use hal::firmware::{add_accesses, checksum_ok, describe};
use hal::hmat::{Target, parse};
use numa::{Access, NodeId};
use proptest::prelude::*;

const MADT: &[u8] = include_bytes!("acpi/cxl.apic");
const SRAT: &[u8] = include_bytes!("acpi/cxl.srat");
const SLIT: &[u8] = include_bytes!("acpi/cxl.slit");
const HMAT: &[u8] = include_bytes!("acpi/cxl.hmat");

#[test]
fn every_memory_has_its_nearest_cpus_and_their_latency() {
    assert!(checksum_ok(HMAT));
    let target =
        |memory, initiator, ns| Target { memory, initiator, latency: [ns; 2], bandwidth: [0; 2] };
    let want = [target(0, 0, 90), target(1, 1, 90), target(2, 0, 230)];
    assert_eq!(parse(HMAT).unwrap(), want);
}

#[test]
fn the_machine_has_what_the_table_says() {
    let ram = [(0, u64::MAX)];
    let mut found = describe(Some(MADT), Some(SRAT), Some(SLIT), &ram, 0, 256);
    assert_eq!(found.accesses, []);
    add_accesses(&mut found, Some(SRAT), Some(HMAT));
    let want = Access { initiator: NodeId::new(0), latency: [230; 2], bandwidth: [0; 2] };
    assert_eq!(found.accesses[2], (NodeId::new(2), want));
    assert!(found.warnings.is_empty());
    add_accesses(&mut found, Some(SRAT), Some(&HMAT[..HMAT.len() - 1]));
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
}

#[test]
fn bandwidths_and_single_directions_are_read() {
    let mut table = HMAT.to_vec();
    // The first of the structures of latencies is turned into others.
    let mut at = 40;
    while table[at] != 1 {
        at += u32::from_le_bytes(table[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    table[at + 9] = 2;
    assert_eq!(parse(&table).unwrap()[0].latency, [0, 90]);
    table[at + 9] = 4;
    assert_eq!(parse(&table).unwrap()[0].latency, [0, 0]);
    assert_eq!(parse(&table).unwrap()[0].bandwidth, [90_000, 0]);
    table[at + 8] = 1;
    assert_eq!(parse(&table).unwrap()[0].bandwidth, [0, 0]);
    table[8] = 1;
    assert!(parse(&table).is_err());
}

proptest! {
    #[test]
    fn no_table_does_harm(at in 0..HMAT.len(), byte: u8, cut in 0..=HMAT.len()) {
        let mut table = HMAT.to_vec();
        table[at] = byte;
        let _ = parse(&table);
        let _ = parse(&table[..cut]);
    }
}
