//! Firmware's tables: captured from QEMU's machines, cut off, and damaged.
//!
//! The files in `acpi/` are /sys/firmware/acpi/tables/{APIC,SRAT,SLIT} of the topologies that the
//! host tool ships under the same names.

use hal::firmware::{Description, Fadt, Register, checksum_ok, describe, fadt, find_s5};
use numa::{CpuId, NodeId};
use proptest::prelude::*;

/// Memory everywhere.
const ALL: &[(u64, u64)] = &[(0, u64::MAX)];

struct Captured {
    name: &'static str,
    madt: &'static [u8],
    srat: &'static [u8],
    slit: &'static [u8],
}

macro_rules! captured {
    ($name:literal) => {
        Captured {
            name: $name,
            madt: include_bytes!(concat!("acpi/", $name, ".apic")),
            srat: include_bytes!(concat!("acpi/", $name, ".srat")),
            slit: include_bytes!(concat!("acpi/", $name, ".slit")),
        }
    };
}

const MACHINES: [Captured; 4] =
    [captured!("ring-4"), captured!("memoryless"), captured!("cxl"), captured!("epyc-nps4-2s")];

fn machine(name: &str) -> Description {
    let found = MACHINES.iter().find(|m| m.name == name).unwrap();
    describe(Some(found.madt), Some(found.srat), Some(found.slit), ALL, 0, 256)
}

fn node(index: u16) -> NodeId {
    NodeId::new(index)
}

/// Bytes of memory that the tables put on a node.
fn memory_of(found: &Description, index: u16) -> u64 {
    found.affinity.iter().filter(|(_, _, n)| *n == node(index)).map(|(a, b, _)| b - a).sum()
}

#[test]
fn captured_tables_are_whole() {
    for m in &MACHINES {
        for table in [m.madt, m.srat, m.slit] {
            assert!(checksum_ok(table), "{}", m.name);
            assert!(!checksum_ok(&table[..table.len() - 1]), "{}", m.name);
            let mut damaged = table.to_vec();
            damaged[40] ^= 1;
            assert!(!checksum_ok(&damaged), "{}", m.name);
        }
    }
}

#[test]
fn a_ring_of_four_nodes() {
    let found = machine("ring-4");
    assert_eq!(found.warnings, Vec::<String>::new());
    assert_eq!(found.apic_ids, [0, 1, 2, 3, 4, 5, 6, 7]);
    let matrix = [[10, 16, 22, 16], [16, 10, 16, 22], [22, 16, 10, 16], [16, 22, 16, 10]];
    for from in 0..4u16 {
        assert_eq!(
            memory_of(&found, from),
            if from == 0 { (512 << 20) - (384 << 10) } else { 512 << 20 }
        );
        for cpu in [2 * from, 2 * from + 1] {
            assert_eq!(found.machine.node_of(CpuId::new(cpu)), node(from));
        }
        for to in 0..4u16 {
            let expected = matrix[from as usize][to as usize];
            assert_eq!(found.machine.distance(node(from), node(to)), expected);
        }
    }
    assert_eq!(found.io_apics.len(), 1);
    assert!(found.overrides.iter().any(|o| o.isa == 9 && o.level), "the SCI");
}

#[test]
fn nodes_without_memory_and_without_cpus() {
    let found = machine("memoryless");
    assert_eq!(found.warnings, Vec::<String>::new());
    assert_eq!(found.machine.nodes().iter().count(), 3);
    assert!(!found.machine.memory_nodes().contains(node(1)));
    assert!(found.machine.cpu_nodes().contains(node(1)));
    let found = machine("cxl");
    assert!(found.machine.memory_nodes().contains(node(2)));
    assert!(!found.machine.cpu_nodes().contains(node(2)));
    assert_eq!(found.machine.distance(node(1), node(2)), 28);
}

#[test]
fn two_sockets_of_four_nodes() {
    let found = machine("epyc-nps4-2s");
    assert_eq!(found.machine.nodes().iter().count(), 8);
    assert_eq!(found.apic_ids.len(), 16);
    assert_eq!(found.machine.distance(node(0), node(3)), 12);
    assert_eq!(found.machine.distance(node(0), node(4)), 32);
}

#[test]
fn a_range_without_memory_makes_no_node_with_memory() {
    let ring = &MACHINES[0];
    let ram = [(0, 1536 << 20)];
    let found = describe(Some(ring.madt), Some(ring.srat), Some(ring.slit), &ram, 0, 256);
    assert_eq!(found.warnings, Vec::<String>::new());
    assert!(found.machine.memory_nodes().contains(node(2)));
    assert!(!found.machine.memory_nodes().contains(node(3)));
    assert!(found.machine.cpu_nodes().contains(node(3)));
}

#[test]
fn two_nodes_at_ten_cost_the_distances_and_not_the_nodes() {
    let ring = &MACHINES[0];
    let mut slit = ring.slit.to_vec();
    slit[44 + 1] = 10;
    let found = describe(Some(ring.madt), Some(ring.srat), Some(&slit), ALL, 0, 256);
    assert_eq!(found.machine.nodes().iter().count(), 4);
    assert_eq!(found.machine.distance(node(0), node(1)), 20);
    assert_eq!(found.warnings.len(), 1);
}

#[test]
fn a_fadt_is_read_as_far_as_it_goes() {
    // Revision 1: 116 bytes.
    let mut table = vec![0u8; 116];
    table[40..44].copy_from_slice(&0x7fe_0000u32.to_le_bytes());
    table[64..68].copy_from_slice(&0x604u32.to_le_bytes());
    table[76..80].copy_from_slice(&0x608u32.to_le_bytes());
    let old = Fadt {
        pm_timer: Some(0x608),
        dsdt: Some(0x7fe_0000),
        sleep_control: Some(Register::Port(0x604)),
    };
    assert_eq!(fadt(&table), old);
    // Hardware-reduced, with a sleep control register in memory.
    table.resize(268, 0);
    table[114] = 1 << 4;
    table[248..256].copy_from_slice(&0xfea0_0200u64.to_le_bytes());
    let reduced = fadt(&table);
    assert_eq!(reduced.pm_timer, None);
    assert_eq!(reduced.sleep_control, Some(Register::Memory(0xfea0_0200)));
    for len in 0..table.len() {
        fadt(&table[..len]);
    }
}

#[test]
fn without_tables_there_is_one_node() {
    let found = describe(None, None, None, ALL, 7, 256);
    assert_eq!(found.apic_ids, [7]);
    assert_eq!(found.machine.nodes().iter().count(), 1);
    assert_eq!(found.warnings.len(), 2);
    let ring = &MACHINES[0];
    let found = describe(Some(ring.madt), None, Some(ring.slit), ALL, 0, 256);
    assert_eq!(found.apic_ids.len(), 8);
    assert_eq!(found.machine.nodes().iter().count(), 1);
    assert!(found.warnings.iter().any(|w| w.contains("no SRAT")));
}

#[test]
fn without_distances_nodes_are_ten_and_twenty() {
    let ring = &MACHINES[0];
    let found = describe(Some(ring.madt), Some(ring.srat), None, ALL, 0, 256);
    assert_eq!(found.machine.nodes().iter().count(), 4);
    assert_eq!(found.machine.distance(node(0), node(0)), 10);
    assert_eq!(found.machine.distance(node(0), node(2)), 20);
    // A distance below that of a node from itself is refused, and said.
    let mut slit = ring.slit.to_vec();
    slit[45] = 9;
    let found = describe(Some(ring.madt), Some(ring.srat), Some(&slit), ALL, 0, 256);
    assert_eq!(found.machine.distance(node(0), node(1)), 20);
    assert!(found.warnings.iter().any(|w| w.contains("SLIT")), "{:?}", found.warnings);
}

#[test]
fn memory_on_two_nodes_at_once_means_one_node() {
    let ring = &MACHINES[0];
    let mut srat = ring.srat.to_vec();
    let records: Vec<usize> = {
        let mut at = 48;
        let mut found = Vec::new();
        while at < srat.len() {
            if srat[at] == 1 && srat[at + 28] & 1 == 1 {
                found.push(at);
            }
            at += srat[at + 1] as usize;
        }
        found
    };
    let (first, last) = (records[0], records[records.len() - 1]);
    let range: Vec<u8> = srat[last + 8..last + 24].to_vec();
    srat[first + 8..first + 24].copy_from_slice(&range);
    let found = describe(Some(ring.madt), Some(&srat), Some(ring.slit), ALL, 0, 256);
    assert_eq!(found.machine.nodes().iter().count(), 1);
    assert!(found.warnings.iter().any(|w| w.contains("overlap")), "{:?}", found.warnings);
}

#[test]
fn the_limit_of_cpus_keeps_the_one_that_booted() {
    let ring = &MACHINES[0];
    let found = describe(Some(ring.madt), Some(ring.srat), Some(ring.slit), ALL, 5, 3);
    assert_eq!(found.apic_ids, [5, 0, 1]);
    assert_eq!(found.machine.node_of(CpuId::new(0)), node(2));
}

#[test]
fn the_power_off_value_is_found_in_byte_code() {
    let package = b"\x08_S5_\x12\x06\x04\x0a\x05\x00\x00";
    assert_eq!(find_s5(package), Some(5));
    assert_eq!(find_s5(b"_S5_\x12\x06\x04\x00"), Some(0));
    for end in 0..package.len() - 4 {
        assert!(find_s5(&package[..end]).is_none_or(|v| v == 5));
    }
    assert_eq!(find_s5(b"nothing"), None);
}

/// Whatever the tables say, the description holds together.
fn assert_sound(found: &Description) {
    let m = &found.machine;
    assert!(!found.apic_ids.is_empty() && found.apic_ids.len() <= 256);
    assert!(!m.memory_nodes().is_empty());
    for (i, id) in found.apic_ids.iter().enumerate() {
        assert!(m.nodes().contains(m.node_of(CpuId::new(i as u16))));
        assert!(!found.apic_ids[..i].contains(id), "CPU {id} twice");
    }
    for (start, end, node) in &found.affinity {
        assert!(start < end && m.memory_nodes().contains(*node));
    }
    for a in m.nodes().iter() {
        for b in m.nodes().iter() {
            let distance = m.distance(a, b);
            assert!(if a == b { distance == 10 } else { distance >= 10 }, "{a} {b}: {distance}");
        }
    }
}

proptest! {
    #[test]
    fn tables_cut_off_anywhere_do_no_harm(which in 0usize..4, madt in 0usize..300, srat in 0usize..800, slit in 0usize..120) {
        let m = &MACHINES[which];
        let cut = |table: &'static [u8], at: usize| &table[..at.min(table.len())];
        assert_sound(&describe(Some(cut(m.madt, madt)), Some(cut(m.srat, srat)), Some(cut(m.slit, slit)), ALL, 0, 256));
    }

    #[test]
    fn damaged_tables_do_no_harm(which in 0usize..4, damage in proptest::collection::vec((0usize..3, 36usize..800, any::<u8>()), 1..12)) {
        let m = &MACHINES[which];
        let mut tables = [m.madt.to_vec(), m.srat.to_vec(), m.slit.to_vec()];
        for (table, at, value) in damage {
            if let Some(byte) = tables[table].get_mut(at) {
                *byte = value;
            }
        }
        let [madt, srat, slit] = &tables;
        assert_sound(&describe(Some(madt), Some(srat), Some(slit), ALL, 0, 256));
    }

    #[test]
    fn any_bytes_are_no_table(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        assert_sound(&describe(Some(&bytes), Some(&bytes), Some(&bytes), ALL, 0, 256));
        let _ = find_s5(&bytes);
    }
}
