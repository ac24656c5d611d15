//! The vDSO: an ELF image around the functions of `hal::vdso`, and the clock data they read.

use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::user::KernelSource;
use sync::{IrqLock, Once};
use vm::map::{Place, What};
use vm::object::MemObject;
use vm::vma::{Label, VmaFlags};
use vm::{Mm, PAGE};

/// Pages of vvar, of which the first is there: the clock's data.
const DATA_PAGES: u64 = hal::vdso::DATA_PAGES;
/// Pages of the vDSO: headers, code.
const PAGES: u64 = 2;

static DATA: Once<Arc<MemObject>> = Once::new();
static IMAGE: Once<Arc<MemObject>> = Once::new();

/// A version definition with its one name (Elf64_Verdef, Elf64_Verdaux); the last has none behind.
fn definition(flags: u16, index: u16, name: &str, name_at: u64, last: bool) -> Vec<u8> {
    const DEFINITION: u32 = 20;
    const NAME: u32 = 8;
    // The hash of the System V ABI.
    let hash = name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        (hash ^ (hash & 0xf000_0000) >> 24) & 0x0fff_ffff
    });
    let mut out = Vec::new();
    for half in [1, flags, index, 1] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let next = if last { 0 } else { DEFINITION + NAME };
    for word in [hash, DEFINITION, next, name_at as u32, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out
}

/// The dynamic section's and the symbol table's contents, laid out behind the headers.
fn image() -> Vec<u8> {
    let exports = hal::vdso::exports();
    let mut strings = alloc::vec![0u8];
    let mut symbols = alloc::vec![[0u8; 24]];
    for (name, offset) in exports {
        let mut symbol = [0u8; 24];
        symbol[0..4].copy_from_slice(&(strings.len() as u32).to_le_bytes());
        symbol[4] = 0x12; // STB_GLOBAL, STT_FUNC
        symbol[6..8].copy_from_slice(&1u16.to_le_bytes()); // any section but undefined
        symbol[8..16].copy_from_slice(&(PAGE + offset).to_le_bytes());
        symbol[16..24].copy_from_slice(&64u64.to_le_bytes());
        symbols.push(symbol);
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let soname = strings.len() as u64;
    strings.extend_from_slice(b"linux-vdso.so.1\0");
    let version = strings.len() as u64;
    strings.extend_from_slice(b"LINUX_2.6\0");
    // Go's runtime looks for the version without asking whether there are any.
    let definitions: Vec<u8> = [
        definition(1, 1, "linux-vdso.so.1", soname, false),
        definition(0, 2, "LINUX_2.6", version, true),
    ]
    .concat();
    // The first symbol is none; all others are of that version.
    let versions = (0..symbols.len()).map(|i| if i == 0 { 0u16 } else { 2 });
    // One hash bucket that chains all symbols: there are a handful.
    let count = symbols.len() as u32;
    let mut hash = alloc::vec![1, count, 1, 0];
    hash.extend((1..count).map(|i| if i + 1 < count { i + 1 } else { 0 }));

    let dynamic_at = 64 + 2 * 56u64;
    let dynamic_len = 10 * 16u64;
    let symbols_at = dynamic_at + dynamic_len;
    let hash_at = symbols_at + symbols.len() as u64 * 24;
    let definitions_at = hash_at + hash.len() as u64 * 4;
    let versions_at = definitions_at + definitions.len() as u64;
    let strings_at = versions_at + symbols.len() as u64 * 2;
    let end = PAGE + hal::vdso::code().len() as u64;

    let mut out = Vec::with_capacity(2 * PAGE as usize);
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut word = |size: usize, value: u64| out.extend_from_slice(&value.to_le_bytes()[..size]);
    for (size, value) in [
        (2, 3),
        (2, 62),
        (4, 1),
        (8, 0),
        (8, 64),
        (8, 0),
        (4, 0),
        (2, 64),
        (2, 56),
        (2, 2),
        (2, 0),
        (2, 0),
        (2, 0),
    ] {
        word(size, value);
    }
    for header in [
        [1u64, 5, 0, 0, 0, end, end, PAGE],
        [2, 4, dynamic_at, dynamic_at, dynamic_at, dynamic_len, dynamic_len, 8],
    ] {
        word(4, header[0]);
        word(4, header[1]);
        for &value in &header[2..] {
            word(8, value);
        }
    }
    for (tag, value) in [
        (14u64, soname),
        (4, hash_at),
        (5, strings_at),
        (6, symbols_at),
        (10, strings.len() as u64),
        (11, 24),
        (0x6fff_fff0, versions_at),
        (0x6fff_fffc, definitions_at),
        (0x6fff_fffd, 2),
        (0, 0),
    ] {
        word(8, tag);
        word(8, value);
    }
    for symbol in &symbols {
        out.extend_from_slice(symbol);
    }
    for value in &hash {
        out.extend_from_slice(&(*value).to_le_bytes());
    }
    out.extend_from_slice(&definitions);
    for version in versions {
        out.extend_from_slice(&version.to_le_bytes());
    }
    out.extend_from_slice(&strings);
    out.resize(PAGE as usize, 0);
    out.extend_from_slice(hal::vdso::code());
    out
}

/// An object of `pages` that begins with `bytes`.
fn object(bytes: &[u8], pages: u64) -> Result<Arc<MemObject>> {
    let object = MemObject::of_kernel()?;
    object.write_at(0, &mut KernelSource(bytes), bytes.len())?;
    object.set_len(pages * PAGE)?;
    Ok(object)
}

fn data() -> Result<&'static Arc<MemObject>> {
    DATA.get_or_try_init(|| {
        let words = hal::vdso::data(&hal::time::parameters());
        object(hal::user::slice_bytes(&words), 1)
    })
}

/// Changes the clock: the kernel and all programs see the new one at once.
pub fn change_clock(change: impl FnOnce()) {
    /// One change at a time.
    static CHANGING: IrqLock<()> = IrqLock::new(());
    let page = data().and_then(|object| object.get(0));
    let _alone = CHANGING.lock();
    match page {
        Ok(page) => hal::vdso::write_data(page.bytes_mut(), || {
            change();
            hal::time::parameters()
        }),
        Err(_) => change(),
    }
}

/// Maps it into `mm`; where its ELF header lies.
pub fn map(mm: &Arc<Mm>) -> Result<u64> {
    let image = IMAGE.get_or_try_init(|| object(&image(), PAGES))?;
    let at = mm.reserve_gap((DATA_PAGES + PAGES) * PAGE)?;
    let part = |at: u64, pages: u64, object: &Arc<MemObject>, flags: VmaFlags, label: Label| {
        let what = What::Object {
            object: object.clone(),
            file: None,
            pgoff: 0,
            shared: false,
            // Debuggers set breakpoints in copies of its pages.
            may_write: label == Label::Vdso,
        };
        let flags = flags | VmaFlags::SPECIAL;
        mm.map_labelled(Place::Fixed(at), pages * PAGE, flags, what, label)
    };
    let frames = VmaFlags::PFN_MAP | VmaFlags::NEVER_EXEC | VmaFlags::DONT_DUMP;
    part(at, DATA_PAGES, data()?, VmaFlags::READ | frames, Label::Vvar)?;
    let start = at + DATA_PAGES * PAGE;
    part(start, PAGES, image, VmaFlags::READ | VmaFlags::EXEC, Label::Vdso)
}
