//! Exceptions and interrupts: the IDT, the common entry, and the way back.
//!
//! Every entry builds a [`TrapFrame`] on the kernel stack. The kernel registers [`Handlers`] once;
//! until then any trap is fatal.

use super::alternatives::clac;
use super::gdt::{self, IST_DEBUG, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI};
use super::percpu;
use core::arch::{asm, global_asm, naked_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The user's or interrupted kernel's registers, as pushed by the entry code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Exception or interrupt vector; [`SYSCALL`] for a system call.
    pub vector: u64,
    /// The CPU's error code; for a system call, its number as the user gave it.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl core::fmt::Display for TrapFrame {
    /// The registers, three a line.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let registers = [
            ("rip", self.rip),
            ("rsp", self.rsp),
            ("rflags", self.rflags),
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
            ("cs", self.cs),
            ("ss", self.ss),
            ("vector", self.vector),
        ];
        for line in registers.chunks(3) {
            for (name, value) in line {
                write!(f, " {name:>6} {value:016x}")?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

/// `vector` of a frame that SYSCALL made.
pub const SYSCALL: u64 = 0x100;

/// Exception vectors that the kernel knows by name.
pub mod vector {
    pub const DIVIDE: u64 = 0;
    pub const DEBUG: u64 = 1;
    pub const NMI: u64 = 2;
    pub const BREAKPOINT: u64 = 3;
    pub const OVERFLOW: u64 = 4;
    pub const INVALID_OPCODE: u64 = 6;
    pub const DOUBLE_FAULT: u64 = 8;
    pub const GENERAL_PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const FLOATING_POINT: u64 = 16;
    pub const ALIGNMENT: u64 = 17;
    pub const MACHINE_CHECK: u64 = 18;
    pub const SIMD: u64 = 19;
    /// First vector of devices.
    pub const FIRST_IRQ: u64 = 32;
    /// Local APIC timer.
    pub const TIMER: u64 = 0xf0;
    /// One vector for all requests between CPUs; what is wanted is in the pending word.
    pub const IPI: u64 = 0xf1;
    /// A performance counter overflowed.
    pub const COUNTER: u64 = 0xf2;
    /// APIC error.
    pub const ERROR: u64 = 0xfe;
    pub const SPURIOUS: u64 = 0xff;
}

impl TrapFrame {
    /// True when user mode was interrupted.
    #[inline]
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// What the kernel does on each kind of entry. Interrupts are off on entry of each.
pub struct Handlers {
    /// A page fault: faulting address, error code. May turn interrupts on. A fault in a user copy
    /// that returns false is fixed up; any other kernel fault that returns false is fatal.
    pub page_fault: fn(&mut TrapFrame, u64) -> bool,
    /// Any other exception of user mode.
    pub user_exception: fn(&mut TrapFrame),
    /// A kernel exception that nothing explains: does not return.
    pub fatal: fn(&TrapFrame, &str) -> !,
    /// A device, timer or inter-CPU interrupt; runs with interrupts off.
    pub interrupt: fn(&mut TrapFrame),
    /// NMI.
    pub nmi: fn(&mut TrapFrame),
    /// Before returning to user mode: signals, rescheduling. Called with interrupts off, returns
    /// with interrupts off.
    pub return_to_user: fn(&mut TrapFrame),
    /// The preemption count reached zero, or an interrupt returns to preemptible kernel code, with
    /// a reschedule wanted.
    pub preempt: fn(),
    /// A system call. Interrupts are on.
    pub syscall: fn(&mut TrapFrame),
    /// The same, of a task that may be stopped there ([`super::syscall::set_traced`]).
    pub traced_syscall: fn(&mut TrapFrame),
    /// A debug exception in the kernel, by a debug register that watches user memory.
    pub kernel_debug: fn(),
}

static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(core::ptr::null_mut());

/// Registers the kernel's handlers.
pub fn register(handlers: &'static Handlers) {
    HANDLERS.store(core::ptr::from_ref(handlers).cast_mut(), Ordering::Release);
}

#[inline(always)]
pub(super) fn handlers() -> Option<&'static Handlers> {
    let p = HANDLERS.load(Ordering::Relaxed);
    // SAFETY: null or a `&'static Handlers` stored by `register`.
    unsafe { p.as_ref() }
}

/// Reschedules, if interrupts are on (with interrupts off, the next enabling exit does).
#[cold]
pub(super) fn preempt_point() {
    if crate::irq::enabled()
        && let Some(h) = handlers()
    {
        (h.preempt)();
    }
}

// One stub per vector pushes (error code or 0, vector) and joins the common path.
global_asm!(
    r#"
.section .text.entry, "ax"
.balign 16
.global trap_stubs
trap_stubs:
.set i, 0
.rept 256
    .balign 16
    .if (i == 8) || (i >= 10 && i <= 14) || (i == 17) || (i == 21) || (i == 29) || (i == 30)
    .else
        push 0
    .endif
    push i
    .if (i == 2) || (i == 8) || (i == 18)
        jmp trap_paranoid
    .elseif i == 1
        jmp trap_debug
    .else
        jmp trap_common
    .endif
    .set i, i + 1
.endr

.macro SAVE_REGS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm
.macro RESTORE_REGS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm

trap_common:
    test byte ptr [rsp + 24], 3     // CS of the interrupted code
    jz trap_swapped
    swapgs
trap_swapped:
    SAVE_REGS
    cld
"#,
    // User mode may have set AC; a fault inside a user copy comes with it set.
    clac!(),
    r#"
    xor ebp, ebp                    // frame-pointer chains end here
    mov rdi, rsp
    test byte ptr [rsp + 144], 3
    jnz 3f
    mov rbp, [rsp + 32]             // ... unless the kernel was interrupted
3:  call {dispatch}
.global trap_return
trap_return:
    test byte ptr [rsp + 144], 3
    jz 2f
    RESTORE_REGS
    add rsp, 16
    swapgs
    iretq
2:  RESTORE_REGS
    add rsp, 16
    iretq

// Debug exceptions begin on a stack of their own, for MOV SS delays one until after a SYSCALL: then it
// comes before the kernel has its stack and GS. One of user mode goes on where others do.
trap_debug:
    test byte ptr [rsp + 24], 3
    jz trap_paranoid
    swapgs
    push rdi
    mov rdi, rsp
    mov rsp, gs:[{kernel_stack}]
    push qword ptr [rdi + 56]
    push qword ptr [rdi + 48]
    push qword ptr [rdi + 40]
    push qword ptr [rdi + 32]
    push qword ptr [rdi + 24]
    push qword ptr [rdi + 16]
    push qword ptr [rdi + 8]
    mov rdi, [rdi]
    jmp trap_swapped

// NMI, double fault, machine check: may come between SWAPGS and its use, so look at GS itself.
// r12 remembers whether it was swapped (callee-saved, restored from the frame).
trap_paranoid:
    SAVE_REGS
    cld
"#,
    clac!(),
    r#"
    mov ecx, 0xc0000101
    rdmsr
    xor r12d, r12d
    test edx, edx
    js 2f                           // the kernel's base has the top bit set
    swapgs
    inc r12d
2:  xor ebp, ebp
    mov rdi, rsp
    call {paranoid}
    test r12d, r12d
    jz 3f
    swapgs
3:  RESTORE_REGS
    add rsp, 16
    iretq
.text
"#,
    dispatch = sym dispatch,
    paranoid = sym dispatch_paranoid,
    kernel_stack = const percpu::KERNEL_STACK,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

#[repr(C, align(16))]
struct Idt(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written once by the boot CPU before others run, read by hardware afterwards.
unsafe impl Sync for Idt {}
static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

/// Fills the IDT (boot CPU, once).
pub fn init() {
    // SAFETY: called once before other CPUs run; the stubs are 16 bytes apart by construction.
    unsafe {
        let table = &mut *IDT.0.get();
        let base = &raw const trap_stubs as u64;
        for (i, gate) in table.iter_mut().enumerate() {
            let at = base + 16 * i as u64;
            let ist = match i as u64 {
                vector::DOUBLE_FAULT => IST_DOUBLE_FAULT,
                vector::NMI => IST_NMI,
                vector::MACHINE_CHECK => IST_MACHINE_CHECK,
                vector::DEBUG => IST_DEBUG,
                _ => 0,
            };
            // Breakpoint and overflow may be raised by user instructions.
            let dpl: u64 =
                if matches!(i as u64, vector::BREAKPOINT | vector::OVERFLOW) { 3 } else { 0 };
            gate[0] = (at & 0xffff)
                | u64::from(gdt::KERNEL_CODE) << 16
                | u64::from(ist) << 32
                | (0x8e | dpl << 5) << 40
                | (at >> 16 & 0xffff) << 48;
            gate[1] = at >> 32;
        }
    }
}

/// Loads the IDT on this CPU.
pub fn load() {
    let pointer = gdt::Pointer { limit: 4095, base: IDT.0.get() as u64 };
    // SAFETY: the table was filled by `init` and lives for ever.
    unsafe { asm!("lidt [{}]", in(reg) &pointer) };
}

/// The faulting address of the last page fault on this CPU.
pub fn cr2() -> u64 {
    let v;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr2", out(reg) v, options(nomem, nostack)) };
    v
}

extern "C" fn dispatch(frame: &mut TrapFrame) {
    let Some(h) = handlers() else {
        early_fatal(frame);
    };
    match frame.vector {
        vector::PAGE_FAULT => {
            let addr = cr2();
            if !(h.page_fault)(frame, addr) && !frame.from_user() && !super::usercopy::fix_up(frame)
            {
                (h.fatal)(frame, "page fault in the kernel");
            }
        }
        v if v >= vector::FIRST_IRQ => {
            #[cfg(feature = "latency")]
            super::latency::begin(super::latency::Off::Interrupts, super::latency::here());
            // SAFETY: this CPU's own field, interrupts are off.
            unsafe { (*percpu::local()).irq_depth += 1 };
            if frame.from_user() {
                // This task's stack is empty.
                (h.interrupt)(frame);
            } else {
                // SAFETY: this CPU's own stack, which is free: interrupts are off until it is left.
                unsafe { on_stack((*percpu::local()).irq_stack, frame) };
            }
            // SAFETY: as above.
            unsafe { (*percpu::local()).irq_depth -= 1 };
            if !frame.from_user()
                && percpu::preempt_state() == (0, true)
                && frame.rflags & 0x200 != 0
            {
                (h.preempt)();
            }
        }
        _ if frame.from_user() => (h.user_exception)(frame),
        vector::DEBUG if super::debug::is_in_use() => (h.kernel_debug)(),
        v => {
            if !super::usercopy::fix_up(frame) {
                (h.fatal)(frame, name(v))
            }
        }
    }
    if frame.from_user() {
        crate::irq::disable();
        (h.return_to_user)(frame);
    }
    #[cfg(feature = "latency")]
    if frame.rflags & 0x200 != 0 {
        super::latency::end(super::latency::Off::Interrupts, super::latency::here());
    }
}

/// Runs [`run_interrupt`] on the stack that ends at `top`. Backtraces go on where it was called.
///
/// # Safety
/// The stack is mapped, and nobody uses it before this returns.
#[unsafe(naked)]
unsafe extern "C" fn on_stack(top: u64, frame: &mut TrapFrame) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rsi",
        "call {run}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        run = sym run_interrupt,
    )
}

extern "C" fn run_interrupt(frame: &mut TrapFrame) {
    if let Some(h) = handlers() {
        (h.interrupt)(frame);
    }
}

extern "C" fn dispatch_paranoid(frame: &mut TrapFrame) {
    let Some(h) = handlers() else {
        early_fatal(frame);
    };
    match frame.vector {
        vector::NMI => (h.nmi)(frame),
        vector::DEBUG if super::debug::is_in_use() => (h.kernel_debug)(),
        v => (h.fatal)(frame, name(v)),
    }
}

fn early_fatal(frame: &TrapFrame) -> ! {
    // Before the kernel's own console: say what happened on the first serial port.
    struct Raw;
    impl core::fmt::Write for Raw {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            super::serial::Uart::port(0).send(s.as_bytes());
            Ok(())
        }
    }
    let _ = core::fmt::Write::write_fmt(
        &mut Raw,
        format_args!("early trap {} at {:#x} cr2 {:#x}\n{frame}", frame.vector, frame.rip, cr2()),
    );
    // Nothing is known yet of what the machine is to do then: who started it sees it end.
    super::power::reset()
}

/// The manual's name of an exception.
pub fn name(v: u64) -> &'static str {
    match v {
        vector::DIVIDE => "divide error",
        vector::DEBUG => "debug exception",
        vector::NMI => "NMI",
        vector::BREAKPOINT => "breakpoint",
        vector::INVALID_OPCODE => "invalid opcode",
        vector::DOUBLE_FAULT => "double fault",
        vector::GENERAL_PROTECTION => "general protection fault",
        vector::PAGE_FAULT => "page fault",
        vector::MACHINE_CHECK => "machine check",
        _ => "unexpected exception",
    }
}

/// Goes to user mode with the registers of `frame`, for good: the first entry of a new task. The
/// kernel stack is empty afterwards.
///
/// # Safety
/// `frame` holds user selectors and this CPU's current task is set up; interrupts are off.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_user(frame: *const TrapFrame) -> ! {
    naked_asm!("mov rsp, rdi", "jmp trap_return")
}

/// Count of NMIs that arrived before anybody handled them.
pub static STRAY_NMIS: AtomicU64 = AtomicU64::new(0);

/// Executes an undefined instruction: for crashes on request.
pub fn undefined_instruction() {
    // SAFETY: the trap does not return, or to the next instruction.
    unsafe { asm!("ud2", options(nomem, nostack)) };
}

/// The caller's frame pointer.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack)) };
    rbp
}

/// Reads a stack frame (saved frame pointer, return address) if `at` can be one: aligned, in
/// kernel memory, and readable.
pub fn read_frame(at: crate::VirtAddr) -> Option<(u64, u64)> {
    if at.raw() < crate::phys::DIRECT_MAP || !at.raw().is_multiple_of(8) || at.raw() > u64::MAX - 16
    {
        return None;
    }
    let mut words = [0u64; 2];
    // SAFETY: the copy is fixed up if the address is not mapped.
    let left =
        unsafe { super::usercopy::raw_copy(words.as_mut_ptr().cast(), at.raw() as *const u8, 16) };
    (left == 0 && words[1] != 0).then_some((words[0], words[1]))
}
