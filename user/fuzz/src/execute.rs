//! Carrying out one operation: the call as the operation says it, then what it did.
//!
//! `shape` in an operation says how its pointer is: 0 as it should be, 1 null, 2 where nothing is
//! mapped, 3 in the kernel's half; for masks also 4 with a bit beyond all nodes (bit 1000), 5 with
//! only that bit.

use std::cell::UnsafeCell;
use std::sync::atomic::Ordering::SeqCst;

use crate::arena::{self, PAGE};
use crate::block::{OBJECT_FD, OBJECTS, shared, slot};
use crate::observe;
use crate::ops::{Kind, Op, WORKERS};
use crate::probe::{self, Fault};
use crate::sys::{self, failed, sys};
use crate::trace::Line;
use crate::worker::serve;
use crate::{pool, relay, thread, trace};

const SYS_HOME_NODE: i64 = 450;
const MOVE: i32 = 2;
/// An address with nothing at it in any worker.
const UNMAPPED: u64 = 0x30_0000_0000;
const KERNEL: u64 = 0xffff_8000_0000_1000;
/// Pages of one move_pages call.
const MOVED: usize = 512;
/// Numbers are tried up to here to find a good one: Linux's segments have multiples of 840 close
/// together, and then none for 6208.
const TRIES: usize = 8192;

type Mask = [u64; 16];

pub fn run(number: usize, op: &Op, line: &mut Line) {
    let a = &op.args;
    match op.kind {
        Kind::Mmap => mmap(a, line),
        Kind::Munmap => {
            line.outcome(sys!(libc::SYS_munmap, a[0], a[1]));
            observe::range(line, a[0], a[1]);
        }
        Kind::Mremap => mremap(a, line),
        Kind::Mprotect => {
            line.outcome(sys!(libc::SYS_mprotect, a[0], a[1], a[2]));
            observe::range(line, a[0], a[1]);
        }
        Kind::Madvise => {
            line.outcome(sys!(libc::SYS_madvise, a[0], a[1], a[2]));
            observe::range(line, a[0], a[1]);
        }
        Kind::Mlock => {
            line.outcome(match a[2] {
                0 => sys!(libc::SYS_mlock, a[0], a[1]),
                1 => sys!(libc::SYS_munlock, a[0], a[1]),
                how => sys!(libc::SYS_mlock2, a[0], a[1], how - 1),
            });
            observe::range(line, a[0], a[1]);
        }
        Kind::Mincore => mincore(a, line),
        Kind::Touch => touch(a, line),
        Kind::Setpol => {
            let mut words = [0; 16];
            let mask = mask(&mut words, a[1], a[2]);
            line.outcome(sys!(libc::SYS_set_mempolicy, a[0], mask, a[3]));
            observe::own(line);
        }
        Kind::Getpol => getpol(a, line),
        Kind::Mbind => {
            let mut words = [0; 16];
            let mask = mask(&mut words, a[3], a[4]);
            line.outcome(sys!(libc::SYS_mbind, a[0], a[1], a[2], mask, a[5], a[6]));
            observe::range(line, a[0], a[1]);
        }
        Kind::Home => {
            line.outcome(sys!(SYS_HOME_NODE, a[0], a[1], a[2], a[3]));
            observe::range(line, a[0], a[1]);
        }
        Kind::Movepages => movepages(a, line),
        Kind::Migrate => {
            let (mut first, mut second) = ([0; 16], [0; 16]);
            let from = mask(&mut first, a[1], a[3]);
            let to = mask(&mut second, a[2], a[3]);
            line.value(sys!(libc::SYS_migrate_pages, process(a[0]), a[4], from, to));
            observe::everything(line);
        }
        Kind::Object => object(a, line),
        Kind::Truncate => {
            line.outcome(sys!(libc::SYS_ftruncate, OBJECT_FD + a[0], a[1]));
        }
        Kind::Fallocate => {
            line.outcome(sys!(libc::SYS_fallocate, OBJECT_FD + a[0], a[1], a[2], a[3]));
        }
        Kind::Transfer => transfer(a, line),
        Kind::Shmat => {
            let id = shared().segments[a[0] as usize % OBJECTS].load(SeqCst) - 1;
            let result = sys!(libc::SYS_shmat, id, a[1], a[2]);
            place(result, a[1], line);
            if !failed(result) && result as u64 != a[1] {
                sys!(libc::SYS_shmdt, result);
            }
            observe::range(line, a[1], 64 * PAGE);
        }
        Kind::Shmdt => {
            line.outcome(sys!(libc::SYS_shmdt, a[0]));
            observe::range(line, a[0], PAGE);
        }
        Kind::Fork => {
            empty_lists();
            let new = a[0] as usize % WORKERS;
            relay::expect(new, number);
            let result = sys::fork(true);
            if result == 0 {
                // The waiting parent's line is not this worker's: it has operations of its own.
                serve(new);
            }
            line.outcome(result);
            if !failed(result) {
                shared().forked.store(1, SeqCst);
                relay::welcome(new, result as i32);
            }
        }
        Kind::Clone => {
            let new = a[0] as usize % WORKERS;
            relay::expect(new, number);
            let result = thread::start(new, &slot(new).alive);
            line.outcome(result);
            if !failed(result) {
                relay::welcome(new, slot(number).process.load(SeqCst));
            }
        }
        Kind::Exec => exec(number, line),
        Kind::Exit => sys::exit_group(0),
        Kind::Pin => {
            let result = sys::pin(0, a[0]);
            line.outcome(result);
            if !failed(result) {
                slot(number).home.store(a[0] as u32, SeqCst);
            }
            observe::own(line);
        }
        Kind::Affinity => affinity(number, a, line),
        Kind::Maps => observe::maps(line),
        Kind::Pool => pool::set(a[0], a[1], line),
        Kind::Thp => {
            let without = u64::from(a[0] == 0);
            line.outcome(sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, without, 0, 0, 0));
        }
    }
}

/// A page that nobody touches.
#[repr(C, align(4096))]
struct Untouched(UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: it is never read nor written; it is an area to name in a call.
unsafe impl Sync for Untouched {}

static UNTOUCHED: Untouched = Untouched(UnsafeCell::new([0; PAGE as usize]));

/// Makes Linux put away what this CPU's lists of pages hold, or it copies a page that is no longer
/// shared because a list has it. After each operation once a sequence has forked: so no list of
/// any CPU holds a page when the next operation begins. MADV_COLD begins with that, even where
/// there is no page.
pub fn settle() {
    if shared().forked.load(SeqCst) != 0 {
        sys!(libc::SYS_madvise, UNTOUCHED.0.get().cast::<u8>(), PAGE, libc::MADV_COLD);
    }
}

/// The same for the lists of all CPUs, which takes much longer: move_pages(2) begins with that,
/// even if it moves nothing.
fn empty_lists() {
    let (address, node) = (UNMAPPED, 0i32);
    let mut status = 0i32;
    let (from, to) = (&raw const address, &raw const node);
    sys!(libc::SYS_move_pages, 0, 1, from, to, &raw mut status, MOVE);
}

/// A pointer of the given shape; None: the thing itself.
fn pointer(shape: u64) -> Option<u64> {
    match shape {
        1 => Some(0),
        2 => Some(UNMAPPED),
        3 => Some(KERNEL),
        _ => None,
    }
}

fn mask(words: &mut Mask, low: u64, shape: u64) -> u64 {
    words[0] = if shape == 5 { 0 } else { low };
    if shape == 4 || shape == 5 {
        words[1000 / 64] |= 1 << (1000 % 64);
    }
    pointer(shape).unwrap_or_else(|| words.as_ptr().expose_provenance() as u64)
}

fn process(who: u64) -> i32 {
    match who {
        0 => 0,
        other if other <= WORKERS as u64 => {
            // The worker may be gone: nobody has this id then.
            match slot(other as usize - 1).alive.load(SeqCst) {
                0 => 4_000_000,
                tid => tid as i32,
            }
        }
        101 => -1,
        _ => 4_000_000,
    }
}

/// Where a mapping went, as far as kernels agree on it.
fn place(result: i64, wanted: u64, line: &mut Line) {
    if failed(result) || result as u64 == wanted {
        line.outcome(result);
    } else {
        line.put(format_args!("elsewhere"));
    }
}

fn mmap(a: &[u64; 8], line: &mut Line) {
    let fd = match a[4] {
        0 => -1,
        100 => 999,
        object => (OBJECT_FD + object - 1) as i32,
    };
    if a[6] > 1 {
        align(a[6]);
    }
    let result = sys!(libc::SYS_mmap, a[0], a[1], a[2], a[3], fd, a[5]);
    place(result, a[0], line);
    if !failed(result) && result as u64 != a[0] {
        sys!(libc::SYS_munmap, result, a[1]);
    }
    observe::range(line, a[0], a[1]);
}

fn mremap(a: &[u64; 8], line: &mut Line) {
    let fixed = a[3] & libc::MREMAP_FIXED as u64 != 0;
    let result = sys!(libc::SYS_mremap, a[0], a[1], a[2], a[3], a[4]);
    place(result, if fixed { a[4] } else { a[0] }, line);
    if !failed(result) && !arena::holds(result as u64) {
        // Looked at where it went, then taken away: nobody could name it again.
        observe::nodes(line, result as u64, a[2].div_ceil(PAGE));
        sys!(libc::SYS_munmap, result, a[2]);
    }
    observe::range(line, a[0], a[1].max(a[2]));
    if fixed {
        observe::range(line, a[4], a[2]);
    }
}

fn mincore(a: &[u64; 8], line: &mut Line) {
    const MOST: usize = 1024;
    let mut vector = [0u8; MOST];
    let pages = (a[1].div_ceil(PAGE) as usize).min(MOST);
    // Longer ranges only where they are refused: the vector would be overrun.
    let to = if a[1] > (MOST as u64) * PAGE { KERNEL } else { vector.as_mut_ptr() as u64 };
    let result = sys!(libc::SYS_mincore, a[0], a[1], to);
    line.outcome(result);
    if result == 0 {
        line.put(format_args!(" "));
        let mut present = [0i32; MOST];
        for (page, byte) in vector[..pages].iter().enumerate() {
            present[page] = i32::from(byte & 1);
        }
        line.runs(&present[..pages]);
    }
}

fn touch(a: &[u64; 8], line: &mut Line) {
    let (mut done, mut hash) = (0, 0);
    let mut fault: Option<(u64, Fault)> = None;
    for page in 0..a[1] {
        let address = a[0] + page * a[2] * PAGE;
        let result = match a[3] {
            0 => probe::write(address, a[4]),
            _ => probe::read(address).map(|value| hash = trace::digest(hash, &value.to_le_bytes())),
        };
        match result {
            Ok(()) => done += 1,
            Err(why) => {
                fault.get_or_insert((page, why));
            }
        }
    }
    line.put(format_args!("{done}"));
    if let Some((page, Fault { signal, code })) = fault {
        let name = if signal == libc::SIGBUS { "BUS" } else { "SEGV" };
        line.put(format_args!(" {name}.{code}@{page}"));
    }
    if a[3] != 0 {
        line.put(format_args!(" ={:x}", hash & 0xffff));
    }
    observe::range(line, a[0], (a[1].max(1) - 1) * a[2] * PAGE + 1);
}

fn getpol(a: &[u64; 8], line: &mut Line) {
    let mut mode = -1i32;
    let mut words: Mask = [u64::MAX; 16];
    let to = pointer(a[2]).unwrap_or(words.as_mut_ptr() as u64);
    let result = sys!(libc::SYS_get_mempolicy, &raw mut mode, to, a[3], a[1], a[0]);
    line.outcome(result);
    // The task's next node moves with the kernel's own allocations too: it is not comparable.
    let next = a[0] & 3 == observe::F_NODE as u64;
    if result == 0 && !next {
        line.put(format_args!(" {mode:x}:{:x}:{:x}", words[0], words[1]));
    }
    if a[0] & observe::F_ADDR as u64 != 0 {
        observe::range(line, a[1], PAGE);
    }
}

fn movepages(a: &[u64; 8], line: &mut Line) {
    let count = (a[2] as usize).min(MOVED);
    let mut addresses = [0u64; MOVED];
    let mut targets = [0i32; MOVED];
    let mut status = [-9999i32; MOVED];
    for page in 0..count {
        addresses[page] = a[1].wrapping_add(page as u64 * a[3] * PAGE);
        targets[page] = (a[4] as i32).wrapping_add((page as i32 % 4).wrapping_mul(a[5] as i32));
    }
    // shape: 1 no targets (a question), 2 to 4 one bad pointer each, 5 a count beyond all sense.
    let bad = |own: u64, good: u64| if a[7] == own { UNMAPPED } else { good };
    let pages = bad(2, addresses.as_ptr() as u64);
    let nodes = if a[7] == 1 { 0 } else { bad(3, targets.as_ptr() as u64) };
    let to = bad(4, status.as_mut_ptr() as u64);
    let asked = if a[7] == 5 { 1 << 62 } else { count as u64 };
    let result = sys!(libc::SYS_move_pages, process(a[0]), asked, pages, nodes, to, a[6]);
    line.value(result);
    line.put(format_args!(" "));
    line.runs(&status[..count]);
    if a[0] != 0 && a[3] > 0 {
        observe::range(line, a[1], count as u64 * a[3] * PAGE);
    }
}

/// Uses up inode numbers, so that the next anonymous object's is a multiple of `modulus`:
/// interleaving over shared memory begins at the node that the number says.
fn align(modulus: u64) {
    for _ in 0..TRIES {
        let fd = sys!(libc::SYS_memfd_create, c"align".as_ptr(), 0);
        let number = inode(fd);
        sys!(libc::SYS_close, fd);
        // Linux hands numbers out in batches of 1024 a CPU.
        if (number + 1).is_multiple_of(modulus) && !(number + 1).is_multiple_of(1024) {
            return;
        }
    }
}

fn inode(fd: i64) -> u64 {
    // SAFETY: a stat structure is integers only.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    sys!(libc::SYS_fstat, fd, &raw mut stat);
    stat.st_ino
}

fn object(a: &[u64; 8], line: &mut Line) {
    let number = a[0] as usize % OBJECTS;
    let bytes = a[2] * PAGE;
    if a[1] == 2 {
        return segment(number, bytes, a[3], line);
    }
    let fd = if a[1] == 3 {
        sys!(libc::SYS_memfd_create, c"object".as_ptr(), libc::MFD_HUGETLB)
    } else if a[1] == 0 {
        if a[3] > 1 {
            align(a[3]);
        }
        sys!(libc::SYS_memfd_create, c"object".as_ptr(), 2)
    } else {
        file(a[3])
    };
    if failed(fd) {
        return line.outcome(fd);
    }
    sys!(libc::SYS_dup2, fd, OBJECT_FD + a[0]);
    sys!(libc::SYS_close, fd);
    line.outcome(sys!(libc::SYS_ftruncate, OBJECT_FD + a[0], bytes));
}

fn file(modulus: u64) -> i64 {
    let mut fd = -1;
    for _ in 0..TRIES {
        let path = c"/tmp/fuzz-object";
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        fd = sys!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600);
        sys!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
        if modulus <= 1 || inode(fd).is_multiple_of(modulus) {
            break;
        }
        sys!(libc::SYS_close, fd);
    }
    fd
}

fn segment(number: usize, bytes: u64, modulus: u64, line: &mut Line) {
    let old = shared().segments[number].swap(0, SeqCst);
    if old > 0 {
        sys!(libc::SYS_shmctl, old - 1, libc::IPC_RMID, 0);
    }
    for _ in 0..TRIES {
        let id = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, bytes, 0o600);
        if failed(id) {
            return line.outcome(id);
        }
        if modulus <= 1 || (id as u64).is_multiple_of(modulus) {
            shared().segments[number].store(id as i32 + 1, SeqCst);
            return line.outcome(0);
        }
        sys!(libc::SYS_shmctl, id, libc::IPC_RMID, 0);
    }
    line.put(format_args!("none"));
}

/// Reads or writes pages of an object through its descriptor.
fn transfer(a: &[u64; 8], line: &mut Line) {
    let mut page = [0u64; 512];
    let (mut done, mut hash, mut last) = (0, 0, 0);
    for index in 0..a[2] {
        let offset = (a[1] + index) * PAGE;
        let fd = OBJECT_FD + a[0];
        last = if a[3] == 0 {
            page.fill(a[4]);
            sys!(libc::SYS_pwrite64, fd, page.as_ptr(), PAGE, offset)
        } else {
            page.fill(0);
            let got = sys!(libc::SYS_pread64, fd, page.as_mut_ptr(), PAGE, offset);
            hash = trace::digest(hash, &page[0].to_le_bytes());
            got
        };
        if last <= 0 {
            break;
        }
        done += last;
    }
    line.put(format_args!("{done} "));
    line.value(last);
    if a[3] != 0 {
        line.put(format_args!(" ={:x}", hash & 0xffff));
    }
}

fn exec(number: usize, line: &mut Line) {
    // "worker N" for N below ten.
    let digit = [b'0' + number as u8, 0];
    let argv = [c"fuzz".as_ptr(), c"worker".as_ptr(), digit.as_ptr().cast(), std::ptr::null()];
    let envp = [std::ptr::null::<i8>()];
    let path = c"/proc/self/exe";
    let result = sys!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    line.outcome(result);
}

fn affinity(number: usize, a: &[u64; 8], line: &mut Line) {
    let tid = process(a[0]);
    let mut words = [0; 16];
    let mask = mask(&mut words, a[1], a[2]);
    let result = sys!(libc::SYS_sched_setaffinity, tid, a[3], mask);
    line.outcome(result);
    observe::affinity(line, tid);
    if tid == 0 && result == 0 {
        // Which of several CPUs it is is the scheduler's affair; that it is one of them is not.
        let (mut cpu, mut node) = (0u32, 0u32);
        sys!(libc::SYS_getcpu, &raw mut cpu, &raw mut node, 0);
        let inside = cpu < 64 && a[1] >> cpu & 1 == 1 || a[2] == 4;
        line.put(format_args!(" {}", if inside { "inside" } else { "outside" }));
    }
    // Back to one CPU: what follows must find the same one on every kernel.
    let who = if tid == 0 { number } else { (a[0] as usize).wrapping_sub(1) % WORKERS };
    sys::pin(tid, u64::from(slot(who).home.load(SeqCst)));
}
