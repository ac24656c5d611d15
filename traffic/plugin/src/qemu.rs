//! QEMU's plugin interface, as its documentation describes it, and all that differs between its
//! versions: 1 (QEMU 4.2 to 8.2), 2 and 3 (9.0, 9.1), 4 and later (9.2 on).
//!
//! Version 3 changed `qemu_plugin_insn_data` from returning a pointer to filling a buffer; from
//! version 2 on the numbers of CPUs are asked for otherwise, which this plugin does not need.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Opaque: a block under translation, an instruction in it, where an access went.
pub enum Block {}
pub enum Insn {}
pub enum HwAddr {}

/// `qemu_plugin_id_t`.
pub type Id = u64;
/// `qemu_plugin_meminfo_t`.
pub type MemInfo = u32;

/// `qemu_info_t`, as far as all versions agree.
#[repr(C)]
pub struct Info {
    pub target_name: *const c_char,
    pub version_min: c_int,
    pub version_current: c_int,
    pub system_emulation: bool,
    pub smp_cpus: c_int,
    pub max_cpus: c_int,
}

pub type MemCallback = extern "C" fn(cpu: c_uint, info: MemInfo, address: u64, data: *mut c_void);
pub type ExecCallback = extern "C" fn(cpu: c_uint, data: *mut c_void);

/// `QEMU_PLUGIN_CB_NO_REGS`, `QEMU_PLUGIN_MEM_RW`. (QEMU 7.2 calls for loads and stores alike,
/// whichever is asked for.)
const NO_REGS: c_int = 0;
const MEM_RW: c_int = 3;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(id: Id, callback: extern "C" fn(Id, c_uint));
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: extern "C" fn(Id, *mut Block));
    fn qemu_plugin_register_atexit_cb(
        id: Id,
        callback: extern "C" fn(Id, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Insn;
    fn qemu_plugin_insn_size(insn: *const Insn) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const Insn) -> u64;
    // Twice the same function: which of the types it has depends on the version.
    fn qemu_plugin_insn_data(insn: *const Insn, to: *mut c_void, size: usize) -> usize;
    fn qemu_plugin_register_vcpu_mem_cb(
        insn: *mut Insn,
        callback: MemCallback,
        flags: c_int,
        kinds: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut Insn,
        callback: ExecCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_mem_size_shift(info: MemInfo) -> c_uint;
    fn qemu_plugin_mem_is_store(info: MemInfo) -> bool;
    fn qemu_plugin_get_hwaddr(info: MemInfo, address: u64) -> *const HwAddr;
    fn qemu_plugin_hwaddr_is_io(address: *const HwAddr) -> bool;
    fn qemu_plugin_hwaddr_phys_addr(address: *const HwAddr) -> u64;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The version that this plugin says it is made for. QEMU looks at it before it calls anything, and
/// refuses versions that it does not know: so the right one is chosen when the library is loaded.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is QEMU's")]
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

#[used]
#[unsafe(link_section = ".init_array")]
static CHOOSE: extern "C" fn() = choose;

extern "C" fn choose() {
    let has = |name: &CStr| {
        // SAFETY: a null handle is RTLD_DEFAULT; the name ends with a zero.
        !unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }.is_null()
    };
    let version = match (has(c"qemu_plugin_num_vcpus"), has(c"qemu_plugin_read_memory_vaddr")) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) => 4,
    };
    qemu_plugin_version.store(version, Relaxed);
}

/// The version that QEMU has, from [`start`] on.
static CURRENT: AtomicI32 = AtomicI32::new(1);

/// What the plugin wants to hear of.
pub struct Callbacks {
    pub cpu: extern "C" fn(Id, c_uint),
    pub translated: extern "C" fn(Id, *mut Block),
    pub end: extern "C" fn(Id, *mut c_void),
}

/// Registers the callbacks.
///
/// # Safety
/// `id` and `info` are what QEMU gave to `qemu_plugin_install`, which is running.
pub unsafe fn start(id: Id, info: *const Info, callbacks: &Callbacks) {
    // SAFETY: as promised.
    unsafe {
        CURRENT.store((*info).version_current, Relaxed);
        qemu_plugin_register_vcpu_init_cb(id, callbacks.cpu);
        qemu_plugin_register_vcpu_tb_trans_cb(id, callbacks.translated);
        qemu_plugin_register_atexit_cb(id, callbacks.end, std::ptr::null_mut());
    }
}

/// An instruction that is being translated.
#[derive(Clone, Copy)]
pub struct Instruction(*mut Insn);

/// The instructions of a block.
///
/// # Safety
/// `block` is what QEMU gave to the callback for translation, which is running.
pub unsafe fn instructions(block: *mut Block) -> impl Iterator<Item = Instruction> {
    // SAFETY: as promised.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    (0..count).map(move |index| {
        // SAFETY: as promised; the index is below the count.
        Instruction(unsafe { qemu_plugin_tb_get_insn(block, index) })
    })
}

impl Instruction {
    pub fn address(self) -> u64 {
        // SAFETY: a handle is only made in, and used during, the callback that it is valid for.
        unsafe { qemu_plugin_insn_vaddr(self.0) }
    }

    pub fn size(self) -> usize {
        // SAFETY: as above.
        unsafe { qemu_plugin_insn_size(self.0) }
    }

    /// The instruction's bytes, into a buffer; how many there are.
    pub fn bytes(self, buffer: &mut [u8; LONGEST]) -> usize {
        type Pointer = unsafe extern "C" fn(*const Insn) -> *const c_void;
        let size = self.size().min(LONGEST);
        // SAFETY: before version 3 the function returns a pointer to all the instruction's bytes,
        // of which there are `size`; from then on it fills the buffer with at most so many.
        unsafe {
            if CURRENT.load(Relaxed) >= 3 {
                return qemu_plugin_insn_data(self.0, buffer.as_mut_ptr().cast(), size).min(size);
            }
            let function: unsafe extern "C" fn(*const Insn, *mut c_void, usize) -> usize =
                qemu_plugin_insn_data;
            let function: Pointer = std::mem::transmute(function);
            std::ptr::copy_nonoverlapping(function(self.0).cast(), buffer.as_mut_ptr(), size);
        }
        size
    }

    /// Has accesses of the instruction told to `callback`.
    pub fn watch(self, callback: MemCallback, data: usize) {
        let data = data as *mut c_void;
        // SAFETY: as above; the data is a number to QEMU.
        unsafe { qemu_plugin_register_vcpu_mem_cb(self.0, callback, NO_REGS, MEM_RW, data) };
    }

    /// Has `callback` called before each time that the instruction runs.
    pub fn watch_runs(self, callback: ExecCallback) {
        let data = std::ptr::null_mut();
        // SAFETY: as above.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(self.0, callback, NO_REGS, data) };
    }
}

/// Bytes of an x86 instruction, at most.
pub const LONGEST: usize = 15;

/// Bytes of an access.
#[inline(always)]
pub fn size(info: MemInfo) -> u64 {
    // SAFETY: a function of a number.
    1 << (unsafe { qemu_plugin_mem_size_shift(info) } & 7)
}

#[inline(always)]
pub fn is_store(info: MemInfo) -> bool {
    // SAFETY: a function of a number.
    unsafe { qemu_plugin_mem_is_store(info) }
}

/// What QEMU calls the physical address of an access; None for devices.
///
/// # Safety
/// In the callback of that access only.
#[inline(always)]
pub unsafe fn physical(info: MemInfo, address: u64) -> Option<u64> {
    // SAFETY: the handle, if there is one, is valid until the callback ends.
    unsafe {
        let place = qemu_plugin_get_hwaddr(info, address);
        if place.is_null() || qemu_plugin_hwaddr_is_io(place) {
            return None;
        }
        Some(qemu_plugin_hwaddr_phys_addr(place))
    }
}
