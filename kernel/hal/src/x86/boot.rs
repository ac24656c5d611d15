//! From the PVH entry (32-bit protected mode, paging off) to Rust in the higher half.
//!
//! The early tables map the first GiB three times with one page directory: at 0 (so that the next
//! instruction exists when paging goes on), in the direct map and at the kernel's base. They last
//! until [`crate::paging`] has built the real ones.

use core::arch::global_asm;

/// What `-2 GiB` is as an address: a symbol's virtual address less its physical one.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Bytes of the boot CPU's first stack (later its idle task's stack takes over).
/// Boot moves tables of the whole machine about by value.
const BOOT_STACK: usize = 192 * 1024;

global_asm!(
    r#"
.section .note.pvh, "a"
    .long 4, 4, 18              // namesz, descsz, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry_phys

.section .boot.text, "ax"
.code32
.global pvh_entry_phys
pvh_entry_phys:
    cli
    cld
    mov esp, offset boot_stack_phys_top
    mov ebp, ebx                // start_info, kept across cpuid
    // Without long mode or NX the tables below cannot be used, without CMOV the code behind them.
    mov esi, offset boot_no_lm
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb boot_refuse
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc boot_refuse
    mov esi, offset boot_no_nx
    bt edx, 20
    jnc boot_refuse
    mov esi, offset boot_no_cmov
    mov eax, 1
    cpuid
    bt edx, 15
    jnc boot_refuse
    // Page directory: 512 large pages.
    mov edi, offset boot_pd
    mov eax, 0x83               // present, writable, large
    mov ecx, 512
2:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    loop 2b
    mov eax, offset boot_pd + 3
    mov [boot_pdpt_low], eax            // 0 and the direct map: entry 0
    mov [boot_pdpt_high + 510*8], eax   // the kernel's base: entry 510
    mov eax, offset boot_pdpt_low + 3
    mov [boot_pml4], eax
    mov [boot_pml4 + 256*8], eax
    mov eax, offset boot_pdpt_high + 3
    mov [boot_pml4 + 511*8], eax
    // PAE, then EFER.LME and NXE, then paging.
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901               // SCE, LME, NXE
    wrmsr
    mov eax, cr0
    or eax, 0x80010001          // PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdt_ptr]
    push 8
    mov eax, offset boot_long
    push eax
    retf

// Says the text at esi on the first serial port, and resets where the command line has a panic=
// other than 0.
boot_refuse:
2:  lodsb
    test al, al
    jz 4f
    mov bl, al
    mov dx, 0x3fd
3:  in al, dx
    test al, 0x20               // the transmitter is empty
    jz 3b
    mov dx, 0x3f8
    mov al, bl
    out dx, al
    jmp 2b
4:  mov esi, [ebp + {cmdline}]
    test esi, esi
    jz 7f
5:  cmp byte ptr [esi], 0
    je 7f
    cmp dword ptr [esi], 0x696e6170     // "pani"
    jne 6f
    cmp word ptr [esi + 4], 0x3d63      // "c="
    jne 6f
    cmp byte ptr [esi + 6], 0x30        // "0"
    je 7f
    lidt [boot_no_idt]
    int3
6:  inc esi
    jmp 5b
7:  hlt
    jmp 7b

.code64
boot_long:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    movabs rsp, offset boot_stack_top
    mov edi, ebp
    xor ebp, ebp
    movabs rax, offset {entry}
    push 0
    jmp rax

.section .boot.data, "aw"
.balign 4096
.global boot_pml4
boot_pml4:      .skip 4096
boot_pdpt_low:  .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4096
.balign 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 64-bit code
    .quad 0x00cf93000000ffff    // data
.global boot_gdt_ptr
boot_gdt_ptr:
    .word 23
    .long boot_gdt
    .long 0
boot_no_idt:
    .quad 0
boot_no_cmov:
    .asciz "\nKernel panic - not syncing: this CPU lacks cmov\n"
boot_no_lm:
    .asciz "\nKernel panic - not syncing: this CPU lacks lm\n"
boot_no_nx:
    .asciz "\nKernel panic - not syncing: this CPU lacks nx\n"
    .balign 16
    .skip 64
boot_stack_phys_top:

.section .bss.boot_stack, "aw", @nobits
.balign 4096
    .skip {stack}
.global boot_stack_top
boot_stack_top:
.text
"#,
    stack = const BOOT_STACK,
    entry = sym rust_entry,
    cmdline = const super::pvh::CMDLINE,
);

unsafe extern "Rust" {
    /// The kernel's first Rust function (kernel/src/main.rs).
    fn kernel_main(start_info: u64) -> !;
}

extern "C" fn rust_entry(start_info: u64) -> ! {
    // SAFETY: defined by the kernel crate with this signature.
    unsafe { kernel_main(start_info) }
}

unsafe extern "C" {
    static __boot_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __data_end: u8;
    static __ksyms_start: u8;
}

/// Physical extents of the kernel's image, page aligned: start of all, text, end of read-only
/// data, end of data, end of the symbols (= end of all).
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub start: u64,
    pub text: u64,
    pub text_end: u64,
    pub rodata_end: u64,
    pub data_end: u64,
    pub end: u64,
}

/// Where the kernel lies in physical memory.
pub fn image() -> Image {
    let phys = |symbol: &u8| core::ptr::from_ref(symbol) as u64 - KERNEL_BASE;
    // SAFETY: linker-made symbols; only their addresses are taken.
    let (start, text, text_end, rodata_end, data_end, ksyms) = unsafe {
        (
            phys(&__boot_start),
            phys(&__text_start),
            phys(&__text_end),
            phys(&__rodata_end),
            phys(&__data_end),
            phys(&__ksyms_start),
        )
    };
    let end = (ksyms + crate::symbols::blob_len() as u64).next_multiple_of(4096);
    Image { start, text, text_end, rodata_end, data_end, end }
}

/// The boot CPU's per-CPU data until memory is known.
struct FirstLocal(core::cell::UnsafeCell<super::percpu::CpuLocal>);
// SAFETY: used by the boot CPU alone, before others run.
unsafe impl Sync for FirstLocal {}

/// Installs per-CPU data for the boot CPU, so that locks and the preemption count work.
pub fn init_first_cpu() {
    static mut FIRST: core::mem::MaybeUninit<FirstLocal> = core::mem::MaybeUninit::uninit();
    // The boot segments lie at low addresses, which the kernel's own tables do not map: reach them
    // through the direct map, so that a trap before the real ones are loaded finds them.
    let mut gdt = super::gdt::Pointer { limit: 0, base: 0 };
    // SAFETY: the same table at another of its addresses.
    unsafe {
        core::arch::asm!("sgdt [{}]", in(reg) &mut gdt);
        if gdt.base < crate::phys::DIRECT_MAP {
            gdt.base += crate::phys::DIRECT_MAP;
        }
        core::arch::asm!("lgdt [{}]", in(reg) &gdt);
    }
    let local = super::percpu::CpuLocal::new(numa::CpuId::new(0), numa::NodeId::new(0), 0, 0);
    super::alternatives::apply();
    // SAFETY: called once, first thing on the boot CPU; the static is used for nothing else.
    unsafe {
        let first = &raw mut FIRST;
        (*first).write(FirstLocal(core::cell::UnsafeCell::new(local)));
        super::percpu::install((*(*first).as_ptr()).0.get());
    }
}

/// Makes the tables of `mapper` the kernel's own.
///
/// They must map the image, all memory in use, and the boot stack (in the image): the kernel's
/// boot code maps all RAM and the image before it calls this.
pub fn use_tables(mapper: super::paging::Mapper<'_>) {
    // SAFETY: see above; a missing mapping would fault at once, at boot, on every machine.
    unsafe { mapper.activate() }
}
