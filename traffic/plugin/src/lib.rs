//! The QEMU plugin: hands every memory access to [`traffic::recorder`], and writes what it counted
//! when QEMU ends.
//!
//! Arguments are `key=value`: `out` (the file), `memory` and `cpus` (bytes and CPUs' nodes, with
//! `+` between), `distances` (rows with `/` between), and what is not the default of `caches`,
//! `sample`, `user`, `turns`. A CPU's counts are its thread's own; the callbacks for accesses neither lock
//! nor allocate.

mod arguments;
mod codes;
mod flush;
mod qemu;

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use abi::doorbell::Kind;
use qemu::{Block, Callbacks, Id, Info, LONGEST, MemInfo};
use traffic::raw::{self, Code};
use traffic::recorder::{Access, Cpu, Recorder, Seen};
use traffic::sums::Who;

const MOST_CPUS: usize = 256;

struct Plugin {
    recorder: Recorder,
    codes: codes::Codes,
    out: PathBuf,
    /// All CPUs are on one thread, and take turns.
    turns: bool,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();
/// Each is used by the thread of its CPU only, and by the last callback when all have stopped.
static CPUS: [AtomicPtr<Cpu>; MOST_CPUS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST_CPUS];

thread_local! {
    /// The CPU of this thread, once it has rung.
    static HERE: Cell<Option<c_uint>> = const { Cell::new(None) };
}
/// The CPU that made the last access, where CPUs take turns.
static TURN: AtomicU32 = AtomicU32::new(0);

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
    let (wish, out, turns) = match arguments::parse(&words) {
        Ok(parsed) => parsed,
        Err(why) => {
            eprintln!("traffic plugin: {why}");
            return 1;
        }
    };
    let recorder = Recorder::new(wish);
    let plugin = Plugin { recorder, codes: codes::Codes::default(), out, turns };
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

/// What the code at `address` is that this thread's CPU is about to run.
fn code(plugin: &Plugin, address: u64) -> Code {
    let here = if plugin.turns { Some(TURN.load(Ordering::Relaxed)) } else { HERE.get() };
    // SAFETY: QEMU translates on the thread of the CPU that needs the code.
    let space = here.and_then(|number| unsafe { cpu(number) }).map_or(0, |cpu| cpu.space);
    if address >> 63 != 0 {
        return Code::Address { space: 0, address };
    }
    match plugin.recorder.registry().code(space, address) {
        Some((object, offset)) => Code::File { object, offset },
        None => Code::Address { space, address },
    }
}

extern "C" fn translated(_id: Id, block: *mut Block) {
    let Some(plugin) = PLUGIN.get() else { return };
    let mut buffer = [0; LONGEST];
    let callback = callback(plugin);
    // SAFETY: QEMU's block, during its callback.
    for instruction in unsafe { qemu::instructions(block) } {
        let address = instruction.address();
        let kernel = if address >> 63 != 0 { KERNEL } else { 0 };
        let size = instruction.bytes(&mut buffer);
        let bytes = &buffer[..size];
        if let Some(kind) = Kind::of(bytes) {
            instruction.watch(rung, kernel | usize::from(kind.0));
            continue;
        }
        if kernel != 0 && flush::flushes(bytes) {
            instruction.watch_runs(flushed);
        }
        if kernel != 0 && plugin.recorder.wish.user_only {
            continue;
        }
        let data = kernel | plugin.codes.number(code(plugin, address)) as usize;
        instruction.watch(callback, data);
    }
}

fn who(data: *mut c_void) -> Who {
    if data as usize & KERNEL != 0 { Who::Kernel } else { Who::User }
}

extern "C" fn rung(number: c_uint, info: MemInfo, address: u64, data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    HERE.set(Some(number));
    // SAFETY: QEMU calls on the CPU's thread, one access after the other.
    let Some(cpu) = (unsafe { cpu(number) }) else { return };
    // SAFETY: this is the access's callback.
    let reported = unsafe { qemu::physical(info, address) };
    cpu.ring(&plugin.recorder, Kind(data as usize as u8), who(data), address, reported);
}

extern "C" fn flushed(number: c_uint, _data: *mut c_void) {
    // SAFETY: QEMU calls on the CPU's thread, one instruction after the other.
    if let Some(cpu) = unsafe { cpu(number) } {
        cpu.forget();
    }
}

/// A load or a store, with caches or without, where nothing is left out.
extern "C" fn accessed<const CACHES: bool>(
    number: c_uint,
    info: MemInfo,
    address: u64,
    data: *mut c_void,
) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: QEMU calls on the CPU's thread, one access after the other.
    let Some(cpu) = (unsafe { cpu(number) }) else { return };
    let seen = Seen { who: who(data), code: data as usize as u32, kind: info, address };
    if !cpu.quick(&plugin.recorder, &seen, CACHES) {
        accessed_anew(number, info, address, data);
    }
}

/// Any load or store.
#[inline(never)]
extern "C" fn accessed_anew(number: c_uint, info: MemInfo, address: u64, data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: QEMU calls on the CPU's thread, one access after the other.
    let Some(cpu) = (unsafe { cpu(number) }) else { return };
    if plugin.turns {
        TURN.store(number, Ordering::Relaxed);
    }
    // What the CPU itself does at an interrupt counts for the instruction that it came at.
    let who = if address >> 63 != 0 { Who::Kernel } else { who(data) };
    if !cpu.wants(&plugin.recorder, who) {
        return;
    }
    let (code, size, store) = (data as usize as u32, qemu::size(info), qemu::is_store(info));
    let access = Access { who, code, kind: info, address, size, store };
    // SAFETY: this is the access's callback.
    cpu.access(&plugin.recorder, &access, || unsafe { qemu::physical(info, address) });
}

/// What is called for each access.
fn callback(plugin: &Plugin) -> qemu::MemCallback {
    let wish = &plugin.recorder.wish;
    match (wish.sample > 1 || plugin.turns, wish.caches.is_some()) {
        (true, _) => accessed_anew,
        (false, false) => accessed::<false>,
        (false, true) => accessed::<true>,
    }
}

extern "C" fn end(_id: Id, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let cpus: Vec<&Cpu> = CPUS
        .iter()
        // SAFETY: QEMU has stopped its CPUs, and whatever is still counted is not measured.
        .filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_mut() })
        .map(|cpu| {
            cpu.forget();
            &*cpu
        })
        .collect();
    let written = File::create(&plugin.out).and_then(|file| {
        let mut file = BufWriter::new(file);
        raw::write(&plugin.recorder, &cpus, &plugin.codes.all(), &mut file)?;
        file.flush()
    });
    if let Err(error) = written {
        eprintln!("traffic plugin: {}: {error}", plugin.out.display());
    }
}
