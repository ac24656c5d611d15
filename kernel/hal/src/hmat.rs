//! How fast memory is, as firmware's HMAT says: pure, from its bytes alone.
//!
//! Source: ACPI 6.5, 5.2.27. Taken is what Linux shows in /sys/devices/system/node/nodeN/access0: of
//! each domain with memory the domain that is named as its initiator, and what holds between the two.
//! Revision 2 alone, whose units are picoseconds and MB/s.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

/// Bytes of the table before its first structure, and its revision's place.
const HEADER: usize = 40;
const REVISION_AT: usize = 8;
/// What an entry that says nothing is.
const UNKNOWN: u16 = 0xffff;

/// Memory of a domain. What is not said is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub memory: u32,
    pub initiator: u32,
    /// Nanoseconds, of reads and of writes.
    pub latency: [u32; 2],
    /// MB/s, of reads and of writes.
    pub bandwidth: [u32; 2],
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at.checked_add(2)?)?.try_into().ok()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Reads the table, of which the checksum is right.
///
/// Errors: what is wrong with it, in words; nothing of it holds then.
pub fn parse(table: &[u8]) -> Result<Vec<Target>, String> {
    let revision = table.get(REVISION_AT).copied().unwrap_or(0);
    if revision != 2 {
        return Err(format!("revision {revision} is not known"));
    }
    let structures = structures(table)?;
    let mut targets: Vec<Target> = vec![];
    // Initiators first, wherever they stand.
    for (_, body) in structures.iter().filter(|(kind, _)| *kind == 0) {
        let short = || "a proximity domain's attributes are too short".to_string();
        let flags = u16_at(body, 8).ok_or_else(short)?;
        let initiator = u32_at(body, 12).ok_or_else(short)?;
        let memory = u32_at(body, 16).ok_or_else(short)?;
        if flags & 1 != 0 && !targets.iter().any(|target| target.memory == memory) {
            targets.push(Target { memory, initiator, ..Target::default() });
        }
    }
    for (_, body) in structures.iter().filter(|(kind, _)| *kind == 1) {
        locality(body, &mut targets).ok_or("latencies or bandwidths do not fit")?;
    }
    Ok(targets)
}

/// Kinds and bytes of all structures.
fn structures(table: &[u8]) -> Result<Vec<(u16, &[u8])>, String> {
    let mut out = vec![];
    let mut rest = table.get(HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        let kind = u16_at(rest, 0).ok_or("a structure does not fit")?;
        let len = u32_at(rest, 4).filter(|&len| len >= 8).ok_or("a structure has no length")?;
        let body = rest.get(..len as usize).ok_or("a structure does not fit")?;
        out.push((kind, body));
        rest = &rest[body.len()..];
    }
    Ok(out)
}

/// System Locality Latency and Bandwidth Information (5.2.27.4).
fn locality(body: &[u8], targets: &mut [Target]) -> Option<()> {
    let (hierarchy, data) = (body.get(8)? & 0xf, *body.get(9)?);
    let count = |at| Some(u32_at(body, at)? as usize);
    let (initiators, memories) = (count(12)?, count(16)?);
    let base = u64_at(body, 24)?;
    let lists = initiators.checked_add(memories)?.checked_mul(4)?;
    let entries = 32usize.checked_add(lists)?;
    let end = entries.checked_add(initiators.checked_mul(memories)?.checked_mul(2)?)?;
    if end > body.len() {
        return None;
    }
    // Caches of memory are not memory.
    if hierarchy != 0 {
        return Some(());
    }
    for target in targets {
        let place = |list: usize, count: usize, domain: u32| {
            (0..count).find(|index| u32_at(body, list + 4 * index) == Some(domain))
        };
        let from = place(32, initiators, target.initiator);
        let to = place(32 + 4 * initiators, memories, target.memory);
        let Some((from, to)) = from.zip(to) else { continue };
        let entry = u16_at(body, entries + 2 * (from * memories + to))?;
        if entry == 0 || entry == UNKNOWN {
            continue;
        }
        let Some(value) = u64::from(entry).checked_mul(base) else { continue };
        let value = if data < 3 { value.div_ceil(1000) } else { value };
        let Ok(value) = u32::try_from(value) else { continue };
        match data {
            0 => target.latency = [value; 2],
            1 | 2 => target.latency[usize::from(data) - 1] = value,
            3 => target.bandwidth = [value; 2],
            4 | 5 => target.bandwidth[usize::from(data) - 4] = value,
            _ => {}
        }
    }
    Some(())
}
