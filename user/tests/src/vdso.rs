//! The functions that the kernel maps into every process.

/// `getcpu(unsigned *cpu, unsigned *node, void *)`.
type GetCpu = extern "C" fn(*mut u32, *mut u32, usize) -> i64;

fn word(at: usize) -> usize {
    crate::memory::get64(at) as usize
}

fn half(at: usize) -> usize {
    word(at & !7) >> ((at & 7) * 8) & 0xffff
}

/// The image as it lies in memory.
struct Image {
    /// From the addresses that it was made for to those it has.
    shift: usize,
    dynamic: usize,
}

impl Image {
    fn find() -> Option<Self> {
        let base = auxiliary(libc::AT_SYSINFO_EHDR)?;
        let (headers, count) = (base + word(base + 32), half(base + 56));
        let header = |kind| {
            let mut all = (0..count).map(|i| headers + i * 56);
            all.find(|header| word(*header) & 0xffff_ffff == kind)
        };
        let load = header(1)?;
        let shift = (base + word(load + 8)).wrapping_sub(word(load + 16));
        Some(Self { shift, dynamic: base + word(header(2)? + 8) })
    }

    /// The value of an entry of the dynamic section.
    fn entry(&self, tag: usize) -> Option<usize> {
        let mut pairs = (0..).map(|i| self.dynamic + i * 16).map(|at| (word(at), word(at + 8)));
        pairs.find(|(own, _)| *own == tag || *own == 0).filter(|(own, _)| *own == tag).map(|p| p.1)
    }

    /// The same as an address.
    fn place(&self, tag: usize) -> Option<usize> {
        self.entry(tag).map(|value| value.wrapping_add(self.shift))
    }

    fn text(&self, offset: usize) -> Option<String> {
        let at = self.place(5)? + offset;
        let bytes = (0..).map(|i| crate::memory::get(at + i)).take_while(|byte| *byte != 0);
        Some(bytes.map(char::from).collect())
    }
}

/// A function of the vDSO by its name.
pub fn function(name: &str) -> Option<usize> {
    let image = Image::find()?;
    let (strings, symbols) = (image.place(5)?, image.place(6)?);
    // Symbols end where the strings begin, in every vDSO that linkers make.
    let total = strings.saturating_sub(symbols) / 24;
    (1..total).map(|i| symbols + i * 24).find_map(|symbol| {
        let own = strings + (word(symbol) & 0xffff_ffff);
        let matches =
            name.bytes().chain([0]).enumerate().all(|(i, b)| crate::memory::get(own + i) == b);
        matches.then(|| word(symbol + 8).wrapping_add(image.shift))
    })
}

/// The names of the versions that the vDSO defines.
pub fn versions() -> Option<Vec<String>> {
    const DEFINITIONS: usize = 0x6fff_fffc;
    const COUNT: usize = 0x6fff_fffd;
    let image = Image::find()?;
    let mut at = image.place(DEFINITIONS)?;
    let mut names = Vec::new();
    for _ in 0..image.entry(COUNT)? {
        let low = |at: usize| half(at) | half(at + 2) << 16;
        names.push(image.text(low(at + low(at + 12)))?);
        at += low(at + 16);
    }
    Some(names)
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
