//! execve(2): replacing the running program.
//!
//! First everything that can fail without harm (the file, its headers, arguments); then the point
//! of no return: the other threads end, the old memory goes, and what fails now kills the task.

use crate::elf::{self, Image};
use crate::task::process::{Exe, limit};
use crate::task::{current, table};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use frames::fallible::{TryVec, arc, copied, filled};
use fs::inode::DenyWrite;
use fs::{Caller, File};
use hal::VirtAddr;
use hal::trap::TrapFrame;
use hal::user::USER_END;
use vm::map::{Place, What};
use vm::vma::{Label, VmaFlags};
use vm::{Mm, PAGE};

/// Bytes that arguments and environment may take together (Linux: a quarter of the stack limit,
/// at least this).
const ARG_MAX: usize = 2 << 20;
/// The longest single string (Linux: 32 pages with its NUL).
const ARG_STRLEN_MAX: usize = 32 * 4096 - 1;
/// Where position-independent programs go, without randomization.
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Highest address of the stack.
const STACK_TOP: u64 = USER_END;
/// Depth of interpreters of interpreters.
const MAX_SCRIPTS: usize = 5;

/// A program to execute.
pub struct Program {
    pub file: Arc<File>,
    /// Name as given: AT_EXECFN, and the start of comm.
    pub name: Vec<u8>,
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
}

/// Copies a NULL-terminated array of strings. E2BIG, EFAULT.
pub fn read_strings(at: u64, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if at == 0 {
        return Ok(strings);
    }
    loop {
        let entry = VirtAddr::new(at.wrapping_add(strings.len() as u64 * 8));
        let pointer: u64 = hal::user::read(entry)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let text = hal::user::read_one_of_many(VirtAddr::new(pointer), ARG_STRLEN_MAX)
            .map_err(|e| if e == Errno::ENAMETOOLONG { Errno::E2BIG } else { e })?;
        *total += text.len() + 1 + 8;
        if *total > ARG_MAX {
            return Err(Errno::E2BIG);
        }
        strings.try_push(text)?;
    }
}

/// Follows `#!` lines to the program that is really run; false if the caller may not read one of
/// them.
fn resolve_scripts(mut program: Program) -> Result<(Program, Vec<u8>, bool)> {
    let mut readable = true;
    for _ in 0..=MAX_SCRIPTS {
        let mut head = filled(0u8, 256)?;
        let got = program.file.read_kernel(&mut head, 0)?;
        head.truncate(got);
        readable &= may_read(&program.file);
        if !head.starts_with(b"#!") {
            return Ok((program, head, readable));
        }
        let line_end = head.iter().position(|&b| b == b'\n');
        // A line that does not end within the first bytes is taken only if the name does.
        let line = &head[2..line_end.unwrap_or(head.len())];
        let line = line.trim_ascii();
        let split = line.iter().position(|b| b" \t\0".contains(b)).unwrap_or(line.len());
        let (interpreter, rest) = line.split_at(split);
        if interpreter.is_empty() || (line_end.is_none() && got == 256 && rest.is_empty()) {
            return Err(Errno::ENOEXEC);
        }
        let rest = rest.trim_ascii();
        let mut args = Vec::with_room(program.args.len() + 3)?;
        args.push(copied(interpreter)?);
        if !rest.is_empty() {
            args.push(copied(rest)?);
        }
        args.push(copied(&program.name)?);
        args.extend(program.args.into_iter().skip(1));
        let interpreter = copied(interpreter)?;
        program = Program { file: open(&interpreter)?, name: program.name, args, env: program.env };
    }
    Err(Errno::ELOOP)
}

/// Opens a program by path for execution.
pub fn open(path: &[u8]) -> Result<Arc<File>> {
    let task = current();
    let creds = task.credentials().fs.clone();
    let context = task.fs.lock().clone();
    Caller::new(&creds, &context).open_exec(fs::context::At::Cwd, path, fs::context::Lookup::FOLLOW)
}

/// Replaces the running task's program; `frame` becomes the new program's first registers.
pub fn exec(program: Program, frame: &mut TrapFrame) -> Result<()> {
    if crate::limits::refuses_exec() {
        return Err(Errno::EAGAIN);
    }
    let (mut program, head, readable) = resolve_scripts(program)?;
    if program.args.is_empty() {
        program.args.try_push(Vec::new())?;
    }
    let image = elf::parse(&program.file, &head)?;
    drop(head);
    let interpreter = match &image.interpreter {
        None => None,
        Some(path) => {
            let file = open(path)?;
            let mut head = filled(0u8, 256)?;
            let got = file.read_kernel(&mut head, 0)?;
            head.truncate(got);
            let image = elf::parse(&file, &head)
                .map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
            Some((file, image))
        }
    };
    let readable = readable && interpreter.as_ref().is_none_or(|(file, _)| may_read(file));
    let closed = DenyWrite::new(program.file.inode())?;
    // Before anything of the new program is allocated: that lies where it will run.
    crate::sched::on_exec();
    let mm = Mm::new(None)?;
    if let Some(old) = current().mm() {
        let disabled = old.no_huge_pages.load(Ordering::Relaxed);
        mm.no_huge_pages.store(disabled, Ordering::Relaxed);
    }
    let (old_tid, number) = (current().tid(), frame.error);
    // From here on there is no way back.
    if crate::signal::end_other_threads().is_err() {
        mm_unused(&mm);
        return Err(Errno::EINTR);
    }
    // The old memory's locks are given up while it is there.
    crate::futex::on_exec();
    switch_memory(&mm);
    let task = current();
    let closed_files = close_on_exec();
    let secure = crate::creds_calls::on_exec(&program.file, readable);
    let exe = Arc::new(Exe { file: program.file.clone(), _closed: closed });
    let before = task.process.exe.lock().replace(exe);
    drop(before);
    let loaded = closed_files
        .and_then(|()| load(&mm, &program, &image, interpreter.as_ref(), secure, frame));
    if let Err(error) = loaded {
        log::info!("{}: exec failed past the point of no return: {error}", task.name());
        // Nothing of this function is unwound.
        drop((program, image, interpreter, mm, task));
        crate::exit::exit_group(9);
    }
    let base = program.name.rsplit(|&b| b == b'/').next().unwrap_or(&program.name);
    task.set_name(base);
    task.process.place.lock().has_execed = true;
    // What its parent wanted to hear of the old program is not what the new one says, and its
    // children's signals are not what the new one expects.
    task.process.exit_signal.store(17, Ordering::Relaxed);
    task.process.execs.fetch_add(1, Ordering::Relaxed);
    crate::time::posix::forget(&task.process);
    crate::signal::on_exec();
    crate::ptrace::request::forget_debug_registers();
    task.clear_child_tid.store(0, Ordering::Relaxed);
    task.robust_list.store(0, Ordering::Relaxed);
    *task.rseq.lock() = (0, 0, 0);
    task.process.membarrier.store(0, Ordering::Relaxed);
    {
        // The scheduler saves into the same place.
        let _stay = hal::preempt::PreemptGuard::new();
        let mut fpu = task.fpu();
        fpu.reset();
        fpu.restore();
    }
    hal::switch::load_user_bases(0, 0);
    crate::perf::on_exec();
    crate::traffic::executed();
    if task.process.dumpable.load(Ordering::Relaxed) != 1 {
        crate::perf::forget();
    }
    if secure {
        task.parent_death_signal.store(0, Ordering::Relaxed);
    }
    if let Some(done) = task.vfork_done.lock().take() {
        done.complete();
    }
    // As on Linux a tracer sees the call under way in the new program's registers.
    (frame.vector, frame.error) = (hal::trap::SYSCALL, number);
    frame.rax = Errno::ENOSYS.to_ret();
    crate::ptrace::events::executed(frame, old_tid);
    frame.rax = 0;
    Ok(())
}

/// Returns whether the running task may read the contents of what it executes.
fn may_read(file: &File) -> bool {
    current().credentials().fs.check(file.inode().base(), fs::Access::READ).is_ok()
}

/// Closes what is marked, in a table of the caller's own: others that share it keep theirs.
fn close_on_exec() -> Result<()> {
    let task = current();
    let files = task.files.lock().clone();
    // This function's and the task's.
    if Arc::strong_count(&files) > 2 {
        let own = arc(files.duplicate()?)?;
        *task.files.lock() = own.clone();
        drop(files);
        own.close_on_exec();
    } else {
        files.close_on_exec();
    }
    Ok(())
}

fn mm_unused(mm: &Arc<Mm>) {
    mm.quit();
}

/// Makes `mm` the running task's and its process's memory.
fn switch_memory(mm: &Arc<Mm>) {
    let task = current();
    let limits = *task.process.limits.lock();
    mm.limits.stack.store(limits[limit::STACK].0, Ordering::Relaxed);
    mm.limits.address_space.store(limits[limit::AS].0, Ordering::Relaxed);
    mm.limits.data.store(limits[limit::DATA].0, Ordering::Relaxed);
    mm.limits.data_hard.store(limits[limit::DATA].1, Ordering::Relaxed);
    mm.limits.locked.store(limits[limit::MEMLOCK].0, Ordering::Relaxed);
    let old = task.set_mm(Some(mm.clone()));
    *task.process.mm.lock() = Some(mm.clone());
    {
        let _irq = hal::irq::IrqOff::new();
        vm::tlb::switch(Some(mm));
    }
    if let Some(old) = old {
        old.quit();
    }
    let _ = table::last_tid();
}

/// Maps the program, its interpreter and its stack, and sets the registers.
fn load(
    mm: &Arc<Mm>,
    program: &Program,
    image: &Image,
    interpreter: Option<&(Arc<File>, Image)>,
    secure: bool,
    frame: &mut TrapFrame,
) -> Result<()> {
    let stack_limit = mm.limits.stack.load(Ordering::Relaxed).clamp(128 << 20, USER_END / 6 * 5);
    mm.layout.lock().mmap_base =
        (STACK_TOP - stack_limit - PAGE).min(STACK_TOP - (128 << 20)) & !(PAGE - 1);
    let bias =
        if image.relocatable { PIE_BASE.saturating_sub(image.low() & !(PAGE - 1)) } else { 0 };
    elf::map(mm, &program.file, image, bias)?;
    let (entry, base) = match interpreter {
        None => (image.entry + bias, 0),
        Some((file, linker)) => {
            let size = linker.high() - (linker.low() & !(PAGE - 1));
            let at = mm.reserve_gap(size)?;
            let base = at - (linker.low() & !(PAGE - 1));
            elf::map(mm, file, linker, base)?;
            (linker.entry + base, base)
        }
    };
    let vdso = crate::vdso::map(mm)?;
    let brk = (image.high() + bias).next_multiple_of(PAGE);
    {
        let mut layout = mm.layout.lock();
        layout.brk_start = brk;
        layout.brk = brk;
        layout.code = image.code(bias);
        layout.data = image.data(bias);
        layout.vdso = vdso;
    }
    let stack = Stack::build(mm, program, image, bias, base, vdso, secure)?;
    *frame = TrapFrame {
        rip: entry,
        rsp: stack,
        cs: u64::from(hal::gdt::USER_CODE),
        ss: u64::from(hal::gdt::USER_DATA),
        rflags: 0x202,
        ..TrapFrame::default()
    };
    Ok(())
}

/// Builds the initial stack from its top down.
struct Stack {
    at: u64,
}

impl Stack {
    fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        self.at -= bytes.len() as u64;
        hal::user::copy_to(VirtAddr::new(self.at), bytes)?;
        Ok(self.at)
    }

    fn push_string(&mut self, text: &[u8]) -> Result<u64> {
        self.push(&[0])?;
        self.push(text)
    }

    /// The stack pointer of the new program: argc, argv, envp, auxv (System V ABI, AMD64).
    fn build(
        mm: &Arc<Mm>,
        program: &Program,
        image: &Image,
        bias: u64,
        base: u64,
        vdso: u64,
        secure: bool,
    ) -> Result<u64> {
        let task = current();
        let strings: usize = program.args.iter().chain(&program.env).map(|s| s.len() + 9).sum();
        let size = (strings as u64 + 128 * 1024 + 4 * PAGE).next_multiple_of(PAGE);
        let exec = if image.executable_stack { VmaFlags::EXEC } else { VmaFlags::empty() };
        mm.map_labelled(
            Place::Fixed(STACK_TOP - size),
            size,
            VmaFlags::READ | VmaFlags::WRITE | VmaFlags::GROWS_DOWN | exec,
            What::Anon,
            Label::Stack,
        )?;
        let mut stack = Self { at: STACK_TOP - 8 };
        hal::user::write(VirtAddr::new(stack.at), &0u64)?;
        let execfn = stack.push_string(&program.name)?;
        let env_end = stack.at;
        let mut env = Vec::with_room(program.env.len())?;
        for text in program.env.iter().rev() {
            env.push(stack.push_string(text)?);
        }
        env.reverse();
        let args_end = stack.at;
        let mut args = Vec::with_room(program.args.len())?;
        for text in program.args.iter().rev() {
            args.push(stack.push_string(text)?);
        }
        args.reverse();
        let args_start = stack.at;
        let platform = stack.push_string(b"x86_64")?;
        let mut random = [0u8; 16];
        crate::random::fill(&mut random);
        let random = stack.push(&random)?;
        let creds = task.credentials();
        let auxv: Vec<(u64, u64)> = [
            (33, vdso),                                // AT_SYSINFO_EHDR
            (51, 0xd30),                               // AT_MINSIGSTKSZ
            (16, u64::from(hal::cpu::cpuid(1, 0)[3])), // AT_HWCAP
            (6, PAGE),                                 // AT_PAGESZ
            (17, 100),                                 // AT_CLKTCK
            (3, image.headers_at + bias),              // AT_PHDR
            (4, 56),                                   // AT_PHENT
            (5, image.header_count),                   // AT_PHNUM
            (7, base),                                 // AT_BASE
            (8, 0),                                    // AT_FLAGS
            (9, image.entry + bias),                   // AT_ENTRY
            (11, u64::from(creds.uid)),
            (12, u64::from(creds.euid)),
            (13, u64::from(creds.gid)),
            (14, u64::from(creds.egid)),
            (23, u64::from(secure)), // AT_SECURE
            (25, random),            // AT_RANDOM
            (26, if hal::cpu::features().fsgsbase() { 2 } else { 0 }), // AT_HWCAP2: FSGSBASE
            (31, execfn),            // AT_EXECFN
            (15, platform),          // AT_PLATFORM
            (27, u64::from(crate::rseq::FEATURE_SIZE)), // AT_RSEQ_FEATURE_SIZE
            (28, 32),                // AT_RSEQ_ALIGN
            (0, 0),
        ]
        .to_vec();
        let words = 1 + args.len() + 1 + env.len() + 1 + auxv.len() * 2;
        stack.at = (stack.at - words as u64 * 8) & !15;
        let mut block: Vec<u64> = Vec::with_room(words)?;
        block.push(args.len() as u64);
        block.extend(&args);
        block.push(0);
        block.extend(&env);
        block.push(0);
        block.extend(auxv.iter().flat_map(|&(k, v)| [k, v]));
        hal::user::copy_to(VirtAddr::new(stack.at), hal::user::slice_bytes(&block))?;
        let mut layout = mm.layout.lock();
        layout.stack_start = stack.at;
        layout.args = (args_start, args_end);
        layout.env = (args_end, env_end);
        layout.auxv = auxv;
        Ok(stack.at)
    }
}

/// AT_* flags that execveat(2) knows.
pub const EXECVEAT_FLAGS: u32 = g::AT_EMPTY_PATH | g::AT_SYMLINK_NOFOLLOW;
