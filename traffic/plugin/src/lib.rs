//! The QEMU plugin: hands every memory access to [`traffic::recorder`], and writes what it counted
//! when QEMU ends.
//!
//! Arguments are `key=value`: `out` (the file), `memory` and `cpus` (bytes and CPUs' nodes, with
//! `+` between), `distances` (rows with `/` between), and what is not the default of `caches`,
//! `sample`, `user`. A CPU's counts are its thread's own; the callbacks for accesses neither lock
//! nor allocate.

mod arguments;
mod codes;
mod qemu;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use abi::doorbell::{Kind, OPCODE};
use qemu::{Block, Callbacks, Id, Info, MemInfo};
use traffic::raw;
use traffic::recorder::{Access, Cpu, Recorder};
use traffic::sums::Who;

const MOST_CPUS: usize = 256;

struct Plugin {
    recorder: Recorder,
    codes: codes::Codes,
    out: PathBuf,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();
/// Each is used by the thread of its CPU only, and by the last callback when all have stopped.
static CPUS: [AtomicPtr<Cpu>; MOST_CPUS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST_CPUS];

/// QEMU calls this when it loads the plugin.
///
/// # Safety
/// The arguments are as QEMU's documentation says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU gives `argc` strings.
    let words = unsafe { arguments::words(argc, argv) };
    let (wish, out) = match arguments::parse(&words) {
        Ok(parsed) => parsed,
        Err(why) => {
            eprintln!("traffic plugin: {why}");
            return 1;
        }
    };
    let plugin = Plugin { recorder: Recorder::new(wish), codes: codes::Codes::default(), out };
    if PLUGIN.set(plugin).is_err() {
        return 1;
    }
    let callbacks = Callbacks { cpu: cpu_starts, translated, end };
    // SAFETY: QEMU's own arguments, passed on.
    unsafe { qemu::start(id, info, &callbacks) };
    0
}

extern "C" fn cpu_starts(_id: Id, number: c_uint) {
    let (Some(plugin), Some(slot)) = (PLUGIN.get(), CPUS.get(number as usize)) else { return };
    if slot.load(Ordering::Acquire).is_null() {
        let cpu = Box::new(Cpu::new(&plugin.recorder, number as usize));
        slot.store(Box::into_raw(cpu), Ordering::Release);
    }
}

/// The CPU's counts.
///
/// # Safety
/// On the CPU's own thread, once at a time.
#[inline(always)]
unsafe fn cpu<'a>(number: c_uint) -> Option<&'a mut Cpu> {
    let slot = CPUS.get(number as usize)?;
    // SAFETY: made in `cpu_starts` and never freed; nobody else has it, as promised.
    unsafe { slot.load(Ordering::Relaxed).as_mut() }
}

const KERNEL: usize = 1 << 32;

extern "C" fn translated(_id: Id, block: *mut Block) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: QEMU's block, during its callback.
    for instruction in unsafe { qemu::instructions(block) } {
        let address = instruction.address();
        let kernel = if address >> 63 != 0 { KERNEL } else { 0 };
        let bell = instruction.bytes::<7>().filter(|_| instruction.size() == 7);
        if let Some(kind) = bell.filter(|b| b[..3] == OPCODE).and_then(|bytes| Kind::of(&bytes)) {
            instruction.watch(rung, kernel | usize::from(kind.0));
            continue;
        }
        let code = plugin.codes.number(address);
        instruction.watch(accessed, kernel | code as usize);
    }
}

fn who(data: *mut c_void) -> Who {
    if data as usize & KERNEL != 0 { Who::Kernel } else { Who::User }
}

extern "C" fn rung(number: c_uint, info: MemInfo, address: u64, data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: QEMU calls on the CPU's thread, one access after the other.
    let Some(cpu) = (unsafe { cpu(number) }) else { return };
    // SAFETY: this is the access's callback.
    let reported = unsafe { qemu::physical(info, address) };
    cpu.ring(&plugin.recorder, Kind(data as usize as u8), who(data), address, reported);
}

extern "C" fn accessed(number: c_uint, info: MemInfo, address: u64, data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: QEMU calls on the CPU's thread, one access after the other.
    let Some(cpu) = (unsafe { cpu(number) }) else { return };
    let who = who(data);
    if !cpu.wants(&plugin.recorder, who) {
        return;
    }
    // SAFETY: this is the access's callback.
    let reported = unsafe { qemu::physical(info, address) };
    let access = Access {
        who,
        code: data as usize as u32,
        address,
        size: qemu::size(info),
        store: qemu::is_store(info),
    };
    cpu.access(&plugin.recorder, &access, reported);
}

extern "C" fn end(_id: Id, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let cpus: Vec<&Cpu> = CPUS
        .iter()
        // SAFETY: QEMU has stopped its CPUs, and whatever is still counted is not measured.
        .filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() })
        .collect();
    let raw = raw::collect(&plugin.recorder, &cpus, &plugin.codes.all());
    let written = File::create(&plugin.out).and_then(|file| {
        let mut file = BufWriter::new(file);
        raw.write(&mut file)?;
        file.flush()
    });
    if let Err(error) = written {
        eprintln!("traffic plugin: {}: {error}", plugin.out.display());
    }
}
