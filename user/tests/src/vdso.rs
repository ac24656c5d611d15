//! The functions that the kernel maps into every process.

/// `getcpu(unsigned *cpu, unsigned *node, void *)`.
type GetCpu = extern "C" fn(*mut u32, *mut u32, usize) -> i64;

/// A function of the vDSO by its name.
pub fn function(name: &str) -> Option<usize> {
    let base = auxiliary(libc::AT_SYSINFO_EHDR)?;
    let word = |at: usize| crate::memory::get64(at) as usize;
    let half = |at: usize| word(at & !7) >> ((at & 7) * 8) & 0xffff;
    let (headers, count) = (base + word(base + 32), half(base + 56));
    let header = |i: usize| headers + i * 56;
    let kind = |i: usize| word(header(i)) & 0xffff_ffff;
    let load = (0..count).find(|i| kind(*i) == 1)?;
    let shift = (base + word(header(load) + 8)).wrapping_sub(word(header(load) + 16));
    let dynamic = (0..count).find(|i| kind(*i) == 2)?;
    let entries = base + word(header(dynamic) + 8);
    let entry = |tag: usize| {
        let mut pairs = (0..).map(|i| (word(entries + i * 16), word(entries + i * 16 + 8)));
        pairs.find(|(own, _)| *own == tag || *own == 0).filter(|(own, _)| *own == tag)
    };
    let strings = entry(5)?.1.wrapping_add(shift);
    let symbols = entry(6)?.1.wrapping_add(shift);
    // Symbols end where the strings begin, in every vDSO that linkers make.
    let total = strings.saturating_sub(symbols) / 24;
    (1..total).map(|i| symbols + i * 24).find_map(|symbol| {
        let own = strings + (word(symbol) & 0xffff_ffff);
        let matches =
            name.bytes().chain([0]).enumerate().all(|(i, b)| crate::memory::get(own + i) == b);
        matches.then(|| word(symbol + 8).wrapping_add(shift))
    })
}

fn auxiliary(kind: u64) -> Option<usize> {
    // SAFETY: looks a number up in the vector that the kernel gave at the start.
    let value = unsafe { libc::getauxval(kind) } as usize;
    (value != 0).then_some(value)
}

pub fn getcpu() -> Option<usize> {
    function("__vdso_getcpu")
}

/// CPU and node as the vDSO tells them.
pub fn call_getcpu(function: usize) -> (usize, usize) {
    let (mut cpu, mut node) = (u32::MAX, u32::MAX);
    // SAFETY: the address is that of `__vdso_getcpu`, whose signature this is.
    let getcpu: GetCpu = unsafe { std::mem::transmute(function) };
    assert_eq!(getcpu(&mut cpu, &mut node, 0), 0);
    (cpu as usize, node as usize)
}
