//! What ACPI's tables say about CPUs, memory and distances, from their bytes alone.
//!
//! Pure: the boot code hands over the tables it found; a table that cannot be right is left out
//! with a warning, and what remains is at worst one node with every CPU.
//! Source: ACPI 6.5, 5.2.12 (MADT), 5.2.16 (SRAT), 5.2.17 (SLIT).

use crate::hmat;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use numa::{Access, CpuId, CpuMask, Distances, MAX_CPUS, MAX_NODES, Machine, NodeId, NodeMask};

/// Bytes of a table's common header.
const HEADER: usize = 36;

/// An I/O APIC: registers' address and first interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicEntry {
    pub address: u64,
    pub gsi_base: u32,
}

/// An ISA interrupt that arrives elsewhere than its number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    pub isa: u8,
    pub gsi: u32,
    pub active_low: bool,
    pub level: bool,
}

/// The machine as the kernel uses it.
#[derive(Debug)]
pub struct Description {
    pub machine: Machine,
    /// APIC id of each CPU, by CPU number; CPU 0 is the one that booted.
    pub apic_ids: Vec<u32>,
    /// Memory by node: bytes `[start, end)`.
    pub affinity: Vec<(u64, u64, NodeId)>,
    pub io_apics: Vec<IoApicEntry>,
    pub overrides: Vec<Override>,
    /// How fast memory is, of the nodes of which firmware says it.
    pub accesses: Vec<(NodeId, Access)>,
    pub warnings: Vec<String>,
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// True when the bytes of a table sum to zero and it is as long as it says.
pub fn checksum_ok(table: &[u8]) -> bool {
    u32_at(table, 4).is_some_and(|len| len as usize == table.len() && table.len() >= HEADER)
        && table.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)) == 0
}

/// The records of a table's body that begins at `from`: type and bytes. Ends at the first record
/// that does not fit (and says so with None).
fn records(table: &[u8], from: usize) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    let mut at = from;
    let mut broken = false;
    core::iter::from_fn(move || {
        if broken || at >= table.len() {
            return None;
        }
        let len = table.get(at + 1).copied().unwrap_or(0) as usize;
        if len < 2 || at + len > table.len() {
            broken = true;
            return Some(None);
        }
        let record = &table[at..at + len];
        at += len;
        Some(Some((record[0], record)))
    })
}

#[derive(Default)]
struct Madt {
    apic_ids: Vec<u32>,
    io_apics: Vec<IoApicEntry>,
    overrides: Vec<Override>,
}

fn parse_madt(table: &[u8], warnings: &mut Vec<String>) -> Madt {
    let mut madt = Madt::default();
    for record in records(table, HEADER + 8) {
        let Some((kind, r)) = record else {
            warnings.push("MADT: a record does not fit; the rest is ignored".into());
            break;
        };
        // Enabled, or (bit 1) able to come later: only the enabled ones are started.
        let parsed = match kind {
            0 => u32_at(r, 4).map(|flags| {
                if flags & 1 != 0 {
                    madt.apic_ids.push(u32::from(r[3]));
                }
            }),
            9 => u32_at(r, 8).zip(u32_at(r, 4)).map(|(flags, id)| {
                if flags & 1 != 0 {
                    madt.apic_ids.push(id);
                }
            }),
            1 => u32_at(r, 4).zip(u32_at(r, 8)).map(|(address, gsi_base)| {
                madt.io_apics.push(IoApicEntry { address: u64::from(address), gsi_base });
            }),
            2 => u32_at(r, 4).zip(u16_at(r, 8)).map(|(gsi, flags)| {
                madt.overrides.push(Override {
                    isa: r[3],
                    gsi,
                    active_low: flags & 3 == 3,
                    level: flags >> 2 & 3 == 3,
                });
            }),
            _ => Some(()),
        };
        if parsed.is_none() {
            warnings.push(format!("MADT: a record of type {kind} is too short"));
        }
    }
    // A CPU that is named twice (by a local APIC and an x2APIC record, say) is one.
    let mut seen = Vec::new();
    madt.apic_ids.retain(|id| {
        !seen.contains(id) && {
            seen.push(*id);
            true
        }
    });
    madt
}

#[derive(Default)]
struct Srat {
    /// APIC id and domain.
    cpus: Vec<(u32, u32)>,
    /// Bytes and domain.
    memory: Vec<(u64, u64, u32)>,
    /// Domains in the order of their first mention, CPUs first.
    order: Vec<u32>,
}

fn parse_srat(table: &[u8]) -> Result<Srat, String> {
    let mut srat = Srat::default();
    for record in records(table, HEADER + 12) {
        let (kind, r) = record.ok_or("a record does not fit")?;
        let short = || format!("a record of type {kind} is too short");
        match kind {
            0 if u32_at(r, 4).ok_or_else(short)? & 1 != 0 => {
                let high = r.get(9..12).ok_or_else(short)?;
                let domain = u32::from_le_bytes([r[2], high[0], high[1], high[2]]);
                srat.cpus.push((u32::from(r[3]), domain));
            }
            1 if u32_at(r, 28).ok_or_else(short)? & 1 != 0 => {
                let domain = u32_at(r, 2).ok_or_else(short)?;
                let base = u64_at(r, 8).ok_or_else(short)?;
                let len = u64_at(r, 16).ok_or_else(short)?;
                let end = base.checked_add(len).ok_or("a memory range wraps around")?;
                if len > 0 {
                    srat.memory.push((base, end, domain));
                }
            }
            2 if u32_at(r, 12).ok_or_else(short)? & 1 != 0 => {
                let domain = u32_at(r, 4).ok_or_else(short)?;
                srat.cpus.push((u32_at(r, 8).ok_or_else(short)?, domain));
            }
            _ => {}
        }
    }
    let domains = srat.cpus.iter().map(|c| c.1).chain(srat.memory.iter().map(|m| m.2));
    for domain in domains {
        if !srat.order.contains(&domain) {
            srat.order.push(domain);
        }
    }
    if srat.order.len() > MAX_NODES {
        return Err(format!("{} nodes, at most {MAX_NODES} are supported", srat.order.len()));
    }
    let mut ranges: Vec<_> = srat.memory.iter().collect();
    ranges.sort_unstable();
    if ranges.windows(2).any(|p| p[1].0 < p[0].1 && p[0].2 != p[1].2) {
        return Err("memory ranges of two nodes overlap".into());
    }
    Ok(srat)
}

fn parse_slit(table: &[u8], order: &[u32]) -> Result<Distances, String> {
    let count = u64_at(table, HEADER).ok_or("too short")?;
    let n = usize::try_from(count).ok().filter(|&n| n <= 4096).ok_or("too many localities")?;
    let matrix = table.get(HEADER + 8..HEADER + 8 + n * n).ok_or("shorter than its matrix")?;
    let mut distances = Distances::flat();
    for (i, &from) in order.iter().enumerate() {
        for (j, &to) in order.iter().enumerate() {
            if (from as usize) < n && (to as usize) < n {
                let d = matrix[from as usize * n + to as usize];
                if (i == j && d != 10) || (i != j && d <= 10) {
                    return Err(format!("distance {d} between {from} and {to}"));
                }
                distances.set(NodeId::new(i as u16), NodeId::new(j as u16), d);
            }
        }
    }
    Ok(distances)
}

/// Puts the tables together. `ram` is what memory there is, in bytes `[start, end)`: a range of the
/// SRAT without any (for memory to be plugged in, say) makes no node with memory. `boot_apic` is the APIC id of the running CPU; `limit` the most CPUs
/// to use. Nodes are numbered as Linux does: by first mention in SRAT, CPUs before memory.
pub fn describe(
    madt: Option<&[u8]>,
    srat: Option<&[u8]>,
    slit: Option<&[u8]>,
    ram: &[(u64, u64)],
    boot_apic: u32,
    limit: usize,
) -> Description {
    let mut warnings = Vec::new();
    let mut cpus = match madt {
        Some(table) => parse_madt(table, &mut warnings),
        None => {
            warnings.push("no MADT: one CPU".into());
            Madt::default()
        }
    };
    // The CPU that booted is CPU 0, the others follow in the table's order.
    cpus.apic_ids.retain(|&id| id != boot_apic);
    cpus.apic_ids.insert(0, boot_apic);
    let limit = limit.clamp(1, MAX_CPUS);
    if cpus.apic_ids.len() > limit {
        warnings.push(format!("{} CPUs, using {limit}", cpus.apic_ids.len()));
        cpus.apic_ids.truncate(limit);
    }
    let all_cpus = CpuMask::first_n(cpus.apic_ids.len());

    let single = |why: String, warnings: &mut Vec<String>| {
        warnings.push(why);
        (Machine::single_node(all_cpus), vec![])
    };
    let (machine, affinity) = match srat.map(parse_srat) {
        None => single("no SRAT: one node".into(), &mut warnings),
        Some(Err(why)) => single(format!("SRAT: {why}: one node"), &mut warnings),
        Some(Ok(srat)) => {
            let node = |domain: u32| {
                let at = srat.order.iter().position(|&d| d == domain).unwrap_or(0);
                NodeId::new(at as u16)
            };
            let distances = match slit.map(|t| parse_slit(t, &srat.order)) {
                None => Distances::flat(),
                Some(Ok(distances)) => distances,
                Some(Err(why)) => {
                    warnings.push(format!("SLIT: {why}: distances 10 and 20"));
                    Distances::flat()
                }
            };
            let mut memory = NodeMask::EMPTY;
            let affinity: Vec<_> = srat
                .memory
                .iter()
                .map(|&(start, end, domain)| {
                    if ram.iter().any(|&(from, to)| from < end && start < to) {
                        memory.insert(node(domain));
                    }
                    (start, end, node(domain))
                })
                .collect();
            let placed: Vec<_> = cpus
                .apic_ids
                .iter()
                .enumerate()
                .map(|(i, id)| {
                    let domain = srat.cpus.iter().find(|c| c.0 == *id).map(|c| c.1);
                    if domain.is_none() {
                        warnings.push(format!("SRAT: CPU with APIC id {id} has no node: node 0"));
                    }
                    (CpuId::new(i as u16), domain.map_or(NodeId::new(0), node))
                })
                .collect();
            let named = NodeMask::first_n(srat.order.len());
            match Machine::new(memory, placed, named, &distances) {
                Ok(machine) => (machine, affinity),
                Err(why) => single(format!("SRAT: {why:?}: one node"), &mut warnings),
            }
        }
    };
    Description {
        machine,
        apic_ids: cpus.apic_ids,
        affinity,
        io_apics: cpus.io_apics,
        overrides: cpus.overrides,
        accesses: Vec::new(),
        warnings,
    }
}

/// Adds what the HMAT says of memory that is there. Domains are the SRAT's; a table that cannot be
/// right is left out with a warning.
pub fn add_accesses(description: &mut Description, srat: Option<&[u8]>, hmat: Option<&[u8]>) {
    let Some((Ok(srat), hmat)) = srat.map(parse_srat).zip(hmat) else { return };
    let targets = match hmat::parse(hmat) {
        Ok(targets) => targets,
        Err(why) => return description.warnings.push(format!("HMAT: {why}: ignored")),
    };
    let machine = &description.machine;
    let node = |domain| {
        let at = srat.order.iter().position(|&known| known == domain)?;
        Some(NodeId::new(at as u16)).filter(|&node| machine.nodes().contains(node))
    };
    description.accesses = targets
        .iter()
        .filter_map(|target| {
            let (memory, initiator) = (node(target.memory)?, node(target.initiator)?);
            let (latency, bandwidth) = (target.latency, target.bandwidth);
            let access = Access { initiator, latency, bandwidth };
            machine.memory_nodes().contains(memory).then_some((memory, access))
        })
        .collect();
}

/// A hardware register, by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// What the kernel takes from the FADT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fadt {
    /// I/O port of the power-management timer.
    pub pm_timer: Option<u16>,
    /// Physical address of the DSDT.
    pub dsdt: Option<u64>,
    /// PM1a control, or the sleep control register where the hardware is reduced.
    pub sleep_control: Option<Register>,
}

/// Reads a FADT of any revision, which is as long as its bytes. Source: ACPI 6.5, 5.2.9.
pub fn fadt(table: &[u8]) -> Fadt {
    const HARDWARE_REDUCED: u32 = 1 << 20;
    let register = |at: usize| {
        let address = u64_at(table, at + 4).filter(|&address| address != 0)?;
        match *table.get(at)? {
            0 => Some(Register::Memory(address)),
            1 => u16::try_from(address).ok().map(Register::Port),
            _ => None,
        }
    };
    let port = |at: usize| {
        u32_at(table, at).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)
    };
    let reduced = u32_at(table, 112).is_some_and(|flags| flags & HARDWARE_REDUCED != 0);
    let as_port = |register| match register {
        Some(Register::Port(port)) => Some(port),
        _ => None,
    };
    let x_dsdt = u64_at(table, 140).filter(|&at| at != 0);
    Fadt {
        pm_timer: if reduced { None } else { as_port(register(208)).or(port(76)) },
        dsdt: x_dsdt.or(u32_at(table, 40).map(u64::from).filter(|&at| at != 0)),
        sleep_control: if reduced {
            register(244)
        } else {
            register(172).or(port(64).map(Register::Port))
        },
    }
}

/// The address of the timer's registers in memory, out of the HPET table (IA-PC HPET specification 1.0a,
/// 3.2.4).
pub fn hpet(table: &[u8]) -> Option<u64> {
    const MEMORY: u8 = 0;
    let address = u64_at(table, 44).filter(|&address| address != 0)?;
    (*table.get(40)? == MEMORY).then_some(address)
}

/// SLP_TYPa of the `_S5_` package in the DSDT's byte code: what power-off writes.
///
/// A search for the name, not an interpreter: the package is constant on every machine.
pub fn find_s5(dsdt: &[u8]) -> Option<u16> {
    let at = dsdt.windows(4).position(|w| w == b"_S5_")?;
    let mut rest = dsdt.get(at + 4..)?;
    // PackageOp, package length (1 to 4 bytes), element count.
    rest = rest.strip_prefix(&[0x12])?;
    let lead = *rest.first()?;
    rest = rest.get(1 + (lead >> 6) as usize..)?.get(1..)?;
    // The first element: a byte constant or Zero / One.
    match *rest.first()? {
        0x0a => rest.get(1).map(|&b| u16::from(b)),
        value @ (0 | 1) => Some(u16::from(value)),
        _ => None,
    }
}
