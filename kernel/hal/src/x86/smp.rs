//! Starting the other CPUs: INIT, start-up, and a trampoline in low memory.

use super::{apic, cpu, paging, time};
use crate::{PhysAddr, phys};
use core::arch::global_asm;

// Real mode at page:0, then straight to long mode. Each CPU finds its APIC id in the table that
// follows the code, and with it its stack and argument.
global_asm!(
    r#"
.section .rodata.trampoline, "a"
.balign 16
.global ap_start
.global ap_end
.global ap_params
.code16
ap_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    movzx esi, ax
    shl esi, 4                          // physical base of this page
    lea eax, [esi + o_gdt]
    mov [o_gdt_ptr + 2], eax
    lea eax, [esi + o_long]
    mov [o_far], eax
    mov eax, cr4
    or eax, 0x20                        // PAE
    mov cr4, eax
    mov eax, [o_root]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901                       // SCE, LME, NXE
    wrmsr
    lgdt [o_gdt_ptr]
    mov eax, 0x80010001                 // PG, WP, PE: long mode at once
    mov cr0, eax
    .byte 0x66, 0xff, 0x2e              // jmp far [disp16], 32-bit offset
    .word ap_far - ap_start
.code64
ap_long:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    // APIC id: leaf 0xb where it exists (all 32 bits), else leaf 1 (8 bits).
    mov r8d, esi
    xor eax, eax
    cpuid
    cmp eax, 0xb
    jb 2f
    mov eax, 0xb
    xor ecx, ecx
    cpuid
    test ebx, ebx
    jz 2f
    mov edi, edx
    jmp 3f
2:  mov eax, 1
    cpuid
    shr ebx, 24
    mov edi, ebx
3:  mov rbx, [r8 + o_table]
    mov rcx, [r8 + o_count]
4:  test rcx, rcx
    jz 6f
    cmp edi, [rbx]
    je 5f
    add rbx, 24
    dec rcx
    jmp 4b
5:  mov rsp, [rbx + 8]
    mov rdi, [rbx + 16]
    xor ebp, ebp
    push 0
    mov rax, [r8 + o_entry]
    jmp rax
6:  cli
    hlt
    jmp 6b

.balign 8
ap_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
ap_gdt_ptr:
    .word 23
    .long 0
.balign 4
ap_far:
    .long 0
    .word 8
.balign 8
ap_params:
ap_root:  .quad 0
ap_table: .quad 0
ap_count: .quad 0
ap_entry: .quad 0
ap_end:
.set o_gdt_ptr, ap_gdt_ptr - ap_start
.set o_gdt, ap_gdt - ap_start
.set o_long, ap_long - ap_start
.set o_far, ap_far - ap_start
.set o_root, ap_root - ap_start
.set o_table, ap_table - ap_start
.set o_count, ap_count - ap_start
.set o_entry, ap_entry - ap_start
.text
"#
);

unsafe extern "C" {
    static ap_start: u8;
    static ap_end: u8;
    static ap_params: u8;
}

/// One CPU to start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub apic_id: u32,
    pub _pad: u32,
    /// Top of the stack it begins on.
    pub stack: u64,
    /// What `entry` gets.
    pub arg: u64,
}

/// Sends INIT and start-up to every CPU of `table` at once, and waits for them with `all_up`.
///
/// `page` is a free page below 1 MiB; the root is below 4 GiB and maps `page` at its own address
/// while this runs (done here). The waits are those of the manuals: 10 ms after INIT, 200 us
/// after the first start-up before a second one. Gives up 1 s after that; the caller asks which
/// CPUs stayed silent.
///
/// The caller's promises: the page is free; the stacks are mapped and unused; `entry` sets its CPU
/// up before it touches per-CPU data.
pub fn start_all(
    page: PhysAddr,
    table: &'static [Start],
    entry: extern "C" fn(u64) -> !,
    alloc: &mut dyn FnMut() -> crate::Pfn,
    all_up: impl Fn() -> bool,
) {
    // SAFETY: linker symbols of the trampoline above; `page` is free and mapped by the direct
    // map, the code fits in one page.
    unsafe {
        let start = &raw const ap_start;
        let len = (&raw const ap_end).offset_from(start) as usize;
        let to = phys::ptr::<u8>(page);
        core::ptr::copy_nonoverlapping(start, to, len);
        let params = to.add((&raw const ap_params).offset_from(start) as usize).cast::<u64>();
        params.write(paging::kernel_root().addr().raw());
        params.add(1).write(table.as_ptr() as u64);
        params.add(2).write(table.len() as u64);
        params.add(3).write(entry as usize as u64);
    }
    let low = crate::VirtAddr::new(page.raw());
    paging::Mapper::existing(alloc).map(low, page, 4096, paging::Pte::WRITABLE);
    for cpu in table {
        apic::send_init(cpu.apic_id);
    }
    time::spin_ns(10_000_000);
    for round in 0..2 {
        for cpu in table {
            apic::send_startup(cpu.apic_id, (page.raw() >> 12) as u8);
        }
        let end = time::now() + if round == 0 { 200_000 } else { 1_000_000_000 };
        while time::now() < end {
            if all_up() {
                break;
            }
            core::hint::spin_loop();
        }
        if all_up() {
            break;
        }
    }
    // The trampoline is cleared and its mapping goes: low addresses are the users'.
    phys::zero(crate::Pfn::containing(page));
    paging::Slot::of(paging::kernel_root(), 0).store(paging::Pte::EMPTY);
    paging::flush_all();
}

/// Sets this CPU's registers up (control registers, FPU, IDT, APIC, SYSCALL). The per-CPU data is
/// installed before.
pub fn init_this_cpu() {
    cpu::init_control_registers();
    super::fpu::init();
    super::trap::load();
    apic::init();
    super::syscall::init();
    if cpu::features().rdtscp() {
        let aux = super::percpu::node().index() as u64 * 4096 + super::percpu::cpu().index() as u64;
        // SAFETY: IA32_TSC_AUX exists with RDTSCP; the value is CPU and node as Linux packs them.
        unsafe { cpu::wrmsr(0xc000_0103, aux) };
    }
}
