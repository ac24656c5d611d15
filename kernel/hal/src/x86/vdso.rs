//! Code that user space runs: clock_gettime, gettimeofday, time and getcpu without a system call.
//!
//! The functions are position independent and find their data in the first of the pages before the image. The
//! kernel builds the ELF image around them (see the kernel's `vdso` module). Data layout (u64 words):
//! 0 sequence (odd while changing, and as long as the clock does not go by the TSC), 1 TSC at monotonic
//! 0, 2 multiplier (ns x 2^32 per cycle), 3 wall-clock ns at monotonic 0, 4 not 0: the clock does not go
//! by the TSC, and a system call tells it.

use super::time::Parameters;
use core::arch::global_asm;

/// Pages before the image. As on Linux only the first is there: others are for virtual machines'
/// clocks and time namespaces.
pub const DATA_PAGES: u64 = 4;

// The image is one page of headers, then these functions.
global_asm!(
    r#"
.section .vdso.text, "ax"
.balign 16
vdso_code:
// rax = monotonic ns, r8 = wall-clock base; clobbers rcx, rdx, r9, r10, r11
vdso_read:
    lea r9, [rip + vdso_code - {data}]
2:  mov r11, [r9]
    test r11d, 1
    jnz 3f
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [r9 + 8]
    jb 4f
    mul qword ptr [r9 + 16]
    shrd rax, rdx, 32
    mov r8, [r9 + 24]
    cmp r11, [r9]
    jne 2b
    ret
3:  cmp qword ptr [r9 + 32], 0
    jne 5f
    pause
    jmp 2b
5:  push rdi
    push rsi
    sub rsp, 16
    mov edi, 1                      // monotonic
    mov rsi, rsp
    mov eax, 228
    syscall
    imul rax, [rsp], 1000000000
    add rax, [rsp + 8]
    add rsp, 16
    pop rsi
    pop rdi
    mov r8, [r9 + 24]
    ret
4:  xor eax, eax
    mov r8, [r9 + 24]
    ret

.global vdso_clock_gettime
vdso_clock_gettime:
    // Monotonic: 1, raw 4, coarse 6, boottime 7. Realtime: 0, coarse 5, TAI 11.
    cmp edi, 11
    ja 9f
    mov eax, 0x8d2                  // bits 1, 4, 6, 7, 11
    bt eax, edi
    jc 5f
    test edi, edi
    jz 5f
    cmp edi, 5
    jne 9f
5:  call vdso_read
    test edi, edi
    jz 6f
    cmp edi, 5
    je 6f
    cmp edi, 11
    jne 7f
6:  add rax, r8
7:  xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    ret
9:  mov eax, 228
    syscall
    ret

.balign 16
.global vdso_gettimeofday
vdso_gettimeofday:
    test rdi, rdi
    jz 2f
    call vdso_read
    add rax, r8
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rdi], rax
    mov rax, rdx
    xor edx, edx
    mov ecx, 1000
    div rcx
    mov [rdi + 8], rax
2:  test rsi, rsi
    jz 3f
    mov qword ptr [rsi], 0
3:  xor eax, eax
    ret

.balign 16
.global vdso_time
vdso_time:
    call vdso_read
    add rax, r8
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    test rdi, rdi
    jz 2f
    mov [rdi], rax
2:  ret

.balign 16
.global vdso_getcpu
vdso_getcpu:
    mov eax, 0x7b
    lsl eax, eax
    mov ecx, eax
    and ecx, 0xfff
    shr eax, 12
    test rdi, rdi
    jz 2f
    mov [rdi], ecx
2:  test rsi, rsi
    jz 3f
    mov [rsi], eax
3:  xor eax, eax
    ret

.balign 16
.global vdso_clock_getres
vdso_clock_getres:
    cmp edi, 11
    ja 9f
    mov eax, 0x893                  // bits 0, 1, 4, 7, 11
    bt eax, edi
    jnc 9f
    test rsi, rsi
    jz 2f
    mov qword ptr [rsi], 0
    mov qword ptr [rsi + 8], 1
2:  xor eax, eax
    ret
9:  mov eax, 229
    syscall
    ret

// Where a signal handler returns to when the program gave no restorer.
.balign 16
.global vdso_rt_sigreturn
vdso_rt_sigreturn:
    mov eax, 15
    syscall
    ud2
.text
"#,
    data = const (DATA_PAGES + 1) * 4096,
);

unsafe extern "C" {
    static __vdso_start: u8;
    static __vdso_end: u8;
    fn vdso_clock_gettime();
    fn vdso_gettimeofday();
    fn vdso_time();
    fn vdso_getcpu();
    fn vdso_clock_getres();
    fn vdso_rt_sigreturn();
}

/// The code, to be placed one page after the image's start.
pub fn code() -> &'static [u8] {
    // SAFETY: linker symbols around the section.
    unsafe {
        let start = &raw const __vdso_start;
        core::slice::from_raw_parts(start, (&raw const __vdso_end).offset_from(start) as usize)
    }
}

/// Exported names and their offsets into [`code`].
pub fn exports() -> [(&'static str, u64); 6] {
    let offset = |f: unsafe extern "C" fn()| f as usize as u64 - code().as_ptr() as u64;
    [
        ("__vdso_clock_gettime", offset(vdso_clock_gettime)),
        ("__vdso_gettimeofday", offset(vdso_gettimeofday)),
        ("__vdso_time", offset(vdso_time)),
        ("__vdso_getcpu", offset(vdso_getcpu)),
        ("__vdso_clock_getres", offset(vdso_clock_getres)),
        ("__vdso_rt_sigreturn", offset(vdso_rt_sigreturn)),
    ]
}

/// The data page's words.
pub fn data(clock: &Parameters) -> [u64; 5] {
    let otherwise = u64::from(!clock.by_tsc);
    [otherwise, clock.base, clock.mult, clock.wall, otherwise]
}

/// Writes the clock's parameters, as `change` gives them, into the data page. Readers never see a
/// mixture, and wait while `change` runs. One writer at a time.
pub fn write_data(page: &mut [u8], change: impl FnOnce() -> Parameters) {
    use core::sync::atomic::{AtomicU64, Ordering};
    let words = page.as_mut_ptr().cast::<AtomicU64>();
    // SAFETY: a page holds more than five aligned words; readers only load them.
    unsafe {
        let sequence = (*words).fetch_or(1, Ordering::AcqRel) | 1;
        let clock = change();
        for (i, value) in data(&clock).into_iter().enumerate().skip(1) {
            (*words.add(i)).store(value, Ordering::Relaxed);
        }
        let next = if clock.by_tsc { sequence + 1 } else { sequence };
        (*words).store(next, Ordering::Release);
    }
}
