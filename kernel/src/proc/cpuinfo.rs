//! /proc/cpuinfo, from CPUID and the topology. All CPUs are taken to be like the one that booted.

use super::{cpu_flags, put};
use crate::sys::topology::{self, Vendor};
use crate::sys::vulnerabilities;
use abi::Result;
use alloc::string::String;
use fs::pseudo::Text;
use hal::cpu::cpuid;

/// Family, model, stepping: leaf 1, with the extended fields where they count.
pub fn signature() -> (u32, u32, u32) {
    let eax = cpuid(1, 0)[0];
    let family = eax >> 8 & 0xf;
    let model = eax >> 4 & 0xf;
    let extended_model = if matches!(family, 6 | 0xf) { eax >> 16 & 0xf } else { 0 };
    let family = if family == 0xf { family + (eax >> 20 & 0xff) } else { family };
    (family, extended_model << 4 | model, eax & 0xf)
}

/// Text from CPUID registers.
fn text(words: impl IntoIterator<Item = u32>) -> String {
    let bytes: alloc::vec::Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().into()
}

fn model_name(max: u32) -> String {
    if max < 0x8000_0004 {
        return "unknown".into();
    }
    text((0x8000_0002..=0x8000_0004).flat_map(|leaf| cpuid(leaf, 0)))
}

/// KiB of the largest private cache, as Linux counts it: level 2 on AMD, the last on others.
fn cache_kib() -> u64 {
    let caches = topology::caches();
    let level = if topology::vendor() == Vendor::Amd { 2 } else { u32::MAX };
    caches.iter().filter(|c| c.level <= level).map(|c| c.bytes() / 1024).next_back().unwrap_or(0)
}

/// The file.
pub fn show(out: &mut Text) -> Result<()> {
    let [basic, b, c, d] = cpuid(0, 0);
    let extended = cpuid(0x8000_0000, 0)[0];
    let vendor = text([b, d, c]);
    let (family, model, stepping) = signature();
    let name = model_name(extended);
    let mut flags = String::new();
    cpu_flags::each(|flag| {
        flags.push(' ');
        flags.push_str(flag);
    });
    let mut bugs = String::new();
    vulnerabilities::each_bug(|bug| {
        bugs.push(' ');
        bugs.push_str(bug);
    });
    let khz = hal::time::tsc_hz() / 1000;
    let line_size = (cpuid(1, 0)[1] >> 8 & 0xff) * 8;
    let sizes = if extended >= 0x8000_0008 { cpuid(0x8000_0008, 0)[0] } else { 48 << 8 | 36 };
    let tlb = if extended >= 0x8000_0006 { cpuid(0x8000_0006, 0)[1] } else { 0 };
    for cpu in crate::boot::cpus::online().iter() {
        let place = topology::of(cpu);
        let siblings = topology::package_cpus(cpu).count();
        put!(out, "processor\t: {cpu}\nvendor_id\t: {vendor}\n");
        put!(out, "cpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n");
        put!(out, "stepping\t: {stepping}\n");
        put!(out, "cpu MHz\t\t: {}.{:03}\n", khz / 1000, khz % 1000);
        put!(out, "cache size\t: {} KB\n", cache_kib());
        put!(out, "physical id\t: {}\nsiblings\t: {siblings}\n", place.package);
        put!(out, "core id\t\t: {}\ncpu cores\t: {}\n", place.core, topology::cores_of(cpu));
        put!(out, "apicid\t\t: {}\ninitial apicid\t: {}\n", place.apic_id, place.apic_id);
        put!(out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {basic}\nwp\t\t: yes\n");
        put!(out, "flags\t\t:{flags}\nbugs\t\t:{bugs}\n");
        put!(out, "bogomips\t: {}.{:02}\n", khz / 500, khz / 5 % 100);
        if topology::vendor() == Vendor::Amd && tlb != 0 {
            put!(out, "TLB size\t: {} 4K pages\n", (tlb >> 16 & 0xfff) + (tlb & 0xfff));
        }
        put!(out, "clflush size\t: {line_size}\ncache_alignment\t: {line_size}\n");
        put!(out, "address sizes\t: {} bits physical, ", sizes & 0xff);
        put!(out, "{} bits virtual\npower management:\n\n", sizes >> 8 & 0xff);
    }
    Ok(())
}
