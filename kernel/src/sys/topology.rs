//! Where each CPU sits: thread, core, die, package; and the caches, with who shares them.
//!
//! An APIC id is made of fields, one per level; how wide they are the booted CPU's CPUID tells
//! (leaves 0x1f, 0xb, or 1), and all others are taken to be like it.

use alloc::vec::Vec;
use hal::cpu::cpuid;
use numa::{CpuId, CpuMask};
use sync::Once;

/// Who made the CPU, as far as CPUID's leaves differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Amd,
    Other,
}

/// Bits of an APIC id below each level.
#[derive(Clone, Copy, Debug)]
struct Shifts {
    core: u32,
    die: u32,
    package: u32,
}

/// Where a CPU sits.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub apic_id: u32,
    /// Core within its package.
    pub core: u32,
    /// Dies and packages are numbered over the whole machine.
    pub die: u32,
    pub package: u32,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    Data,
    Instruction,
    Unified,
}

impl CacheKind {
    /// The word of the file `type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Instruction => "Instruction",
            Self::Unified => "Unified",
        }
    }
}

/// A cache of each CPU, alike on all.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    pub level: u32,
    pub kind: CacheKind,
    /// Bytes of a line.
    pub line: u64,
    pub ways: u64,
    pub sets: u64,
    pub partitions: u64,
    /// CPUs whose APIC ids agree above this bit have its number.
    shift: u32,
    shared: Shared,
}

/// Which CPUs share a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    /// Those for which it has the same number.
    ByNumber,
    /// AMD's last level: those whose APIC ids agree above this bit, on one node. Its number does not
    /// tell.
    ByNode(u32),
}

impl Cache {
    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.line * self.ways * self.sets * self.partitions
    }

    /// A number of this cache among those of its level.
    pub fn id(&self, cpu: CpuId) -> u32 {
        apic_id(cpu) >> self.shift
    }

    /// The CPUs that share it with `cpu`.
    pub fn shared_by(&self, cpu: CpuId) -> CpuMask {
        match self.shared {
            Shared::ByNumber => alike(cpu, |other| self.id(other)),
            Shared::ByNode(shift) => {
                alike(cpu, |other| (apic_id(other) >> shift, crate::machine().node_of(other)))
            }
        }
    }
}

fn leaf_exists(leaf: u32) -> bool {
    leaf <= cpuid(leaf & 0x8000_0000, 0)[0]
}

/// By the vendor's name.
pub fn vendor() -> Vendor {
    let [_, b, c, d] = cpuid(0, 0);
    let name = [b, d, c].map(u32::to_le_bytes).concat();
    if matches!(&name[..], b"AuthenticAMD" | b"HygonGenuine") { Vendor::Amd } else { Vendor::Other }
}

/// Bits that number `count` things.
fn bits_for(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

fn shifts() -> Shifts {
    static SHIFTS: Once<Shifts> = Once::new();
    *SHIFTS.get_or_init(|| {
        let known = [0x1f, 0xb].into_iter().filter(|&leaf| leaf_exists(leaf));
        for leaf in known {
            if let Some(found) = extended_shifts(leaf) {
                return found;
            }
        }
        // Leaf 1: threads of a package, without cores.
        let [_, b, _, d] = cpuid(1, 0);
        let threads = if d & 1 << 28 != 0 { b >> 16 & 0xff } else { 1 };
        let package = bits_for(threads);
        Shifts { core: 0, die: package, package }
    })
}

/// From leaf 0xb or 0x1f: one sub-leaf per level, with the width of all levels up to it.
fn extended_shifts(leaf: u32) -> Option<Shifts> {
    const SMT: u32 = 1;
    const DIE: u32 = 5;
    let mut found = Shifts { core: 0, die: 0, package: 0 };
    let mut has_die = false;
    for sub in 0..8 {
        let [a, b, c, _] = cpuid(leaf, sub);
        let (width, kind) = (a & 0x1f, c >> 8 & 0xff);
        if kind == 0 || b == 0 {
            break;
        }
        if kind == SMT {
            found.core = width;
        }
        if kind == DIE {
            has_die = true;
            found.die = found.package;
        }
        found.package = width;
    }
    if !has_die {
        found.die = found.package;
    }
    (found.package > 0 || cpuid(leaf, 0)[1] != 0).then_some(found)
}

fn apic_id(cpu: CpuId) -> u32 {
    hal::cpu_area::of(cpu).map_or(0, |area| area.apic_id())
}

/// Where `cpu` sits.
pub fn of(cpu: CpuId) -> Place {
    let (s, apic_id) = (shifts(), apic_id(cpu));
    let in_package = apic_id & ((1u64 << s.package) - 1) as u32;
    Place {
        apic_id,
        core: in_package >> s.core,
        die: apic_id >> s.die,
        package: apic_id >> s.package,
    }
}

/// The online CPUs for which `number` gives the same as for `cpu`.
fn alike<T: PartialEq>(cpu: CpuId, number: impl Fn(CpuId) -> T) -> CpuMask {
    let own = number(cpu);
    let mut mask = CpuMask::EMPTY;
    for other in crate::boot::cpus::online().iter().filter(|&other| number(other) == own) {
        mask.insert(other);
    }
    mask
}

/// Threads of the same core.
pub fn core_cpus(cpu: CpuId) -> CpuMask {
    alike(cpu, |c| apic_id(c) >> shifts().core)
}

/// CPUs of the same die.
pub fn die_cpus(cpu: CpuId) -> CpuMask {
    alike(cpu, |c| of(c).die)
}

/// CPUs of the same package.
pub fn package_cpus(cpu: CpuId) -> CpuMask {
    alike(cpu, |c| of(c).package)
}

/// CPUs that share the second level of cache: Linux's clusters.
pub fn cluster_cpus(cpu: CpuId) -> CpuMask {
    let second = caches().iter().find(|c| c.level == 2);
    second.map_or_else(|| core_cpus(cpu), |cache| cache.shared_by(cpu))
}

/// Cores in the package of `cpu`.
pub fn cores_of(cpu: CpuId) -> usize {
    let mut cores: Vec<u32> = package_cpus(cpu).iter().map(|c| of(c).core).collect();
    cores.sort_unstable();
    cores.dedup();
    cores.len()
}

/// True when some core has several threads.
pub fn has_threads() -> bool {
    crate::boot::cpus::online().iter().any(|cpu| core_cpus(cpu).count() > 1)
}

/// The caches of a CPU, nearest first.
pub fn caches() -> &'static [Cache] {
    static CACHES: Once<Vec<Cache>> = Once::new();
    CACHES.get_or_init(|| {
        const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
        match vendor() {
            Vendor::Amd
                if leaf_exists(0x8000_001d)
                    && cpuid(0x8000_0001, 0)[2] & TOPOLOGY_EXTENSIONS != 0 =>
            {
                described(0x8000_001d)
            }
            Vendor::Amd => amd_sizes(),
            Vendor::Other if leaf_exists(4) => described(4),
            Vendor::Other => Vec::new(),
        }
    })
}

/// One sub-leaf per cache (Intel's leaf 4, AMD's 0x8000001d).
fn described(leaf: u32) -> Vec<Cache> {
    let mut caches = Vec::new();
    for sub in 0..16 {
        let [a, b, c, _] = cpuid(leaf, sub);
        let kind = match a & 0x1f {
            1 => CacheKind::Data,
            2 => CacheKind::Instruction,
            3 => CacheKind::Unified,
            _ => break,
        };
        caches.push(Cache {
            level: a >> 5 & 7,
            kind,
            line: u64::from(b & 0xfff) + 1,
            partitions: u64::from(b >> 12 & 0x3ff) + 1,
            ways: u64::from(b >> 22) + 1,
            sets: u64::from(c) + 1,
            shift: bits_for((a >> 14 & 0xfff) + 1),
            shared: match a >> 5 & 7 {
                3 if vendor() == Vendor::Amd => Shared::ByNode(last_level_shift(Some(a))),
                _ => Shared::ByNumber,
            },
        });
    }
    caches
}

/// Bits of an APIC id below what tells AMD's last levels apart, as Linux takes them: up to family 0x16
/// each die has one, the first models of 0x17 one for each eight threads; later ones say it in the leaf.
fn last_level_shift(leaf: Option<u32>) -> u32 {
    let version = cpuid(1, 0)[0];
    let family = match version >> 8 & 0xf {
        0xf => 0xf + (version >> 20 & 0xff),
        family => family,
    };
    let model = version >> 4 & 0xf | version >> 12 & 0xf0;
    match (family, leaf) {
        (..=0x16, _) => shifts().die,
        (0x17, _) if model <= 0x1f => 3,
        (_, Some(leaf)) => bits_for((leaf >> 14 & 0xfff) + 1),
        (_, None) => shifts().die,
    }
}

/// AMD's older leaves: sizes alone, of caches that each thread has a number of its own for.
fn amd_sizes() -> Vec<Cache> {
    let mut caches = Vec::new();
    let mut add = |level, kind, kib: u32, ways: u32, line: u32, shared| {
        let (bytes, ways, line) = (u64::from(kib) * 1024, u64::from(ways), u64::from(line));
        if bytes > 0 && ways > 0 && line > 0 {
            let sets = bytes / (ways * line);
            caches.push(Cache { level, kind, line, ways, sets, partitions: 1, shift: 0, shared });
        }
    };
    if leaf_exists(0x8000_0005) {
        let [_, _, data, code] = cpuid(0x8000_0005, 0);
        for (kind, word) in [(CacheKind::Data, data), (CacheKind::Instruction, code)] {
            add(1, kind, word >> 24, word >> 16 & 0xff, word & 0xff, Shared::ByNumber);
        }
    }
    if leaf_exists(0x8000_0006) {
        let [_, _, second, third] = cpuid(0x8000_0006, 0);
        let ways =
            |code: u32| [0, 1, 2, 3, 4, 0, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0][code as usize];
        let line = |word: u32| word & 0xff;
        let mut unified = |level, kib, word: u32, shared| {
            add(level, CacheKind::Unified, kib, ways(word >> 12 & 0xf), line(word), shared);
        };
        unified(2, second >> 16, second, Shared::ByNumber);
        unified(3, (third >> 18) * 512, third, Shared::ByNode(last_level_shift(None)));
    }
    caches
}
