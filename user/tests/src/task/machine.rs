//! What a process asks of the kernel about itself and the machine.

use std::sync::atomic::Ordering::SeqCst;

use libc::{EBUSY, EFAULT, EINVAL, EPERM};

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    uname_names_a_linux_of_this_machine,
    getrandom_gives_bytes_that_differ,
    sysinfo_agrees_with_meminfo,
    the_process_name_is_set_and_read,
    prctl_refuses_what_it_does_not_know,
    dumpable_is_kept_and_lost_with_the_user,
    arch_prctl_tells_the_thread_pointer,
    membarrier_must_be_registered_for,
    membarrier_orders_the_others_stores,
    rseq_keeps_the_cpu_and_node_up_to_date,
    rseq_refuses_what_it_must,
    unknown_calls_are_enosys,
    other_processes_memory_is_read_and_written,
    a_personality_is_kept,
];

fn uname_names_a_linux_of_this_machine() {
    let mut names = [[0u8; 65]; 6];
    sys!(libc::SYS_uname, names.as_mut_ptr()).unwrap();
    let text = |i: usize| {
        let end = names[i].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8_lossy(&names[i][..end]).into_owned()
    };
    assert_eq!((text(0).as_str(), text(4).as_str()), ("Linux", "x86_64"));
    assert_eq!(text(2), std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(text(1), host.trim());
    fails(sys!(libc::SYS_uname, 8), EFAULT);
}

fn getrandom_gives_bytes_that_differ() {
    let fill = |flags: u32| {
        let mut bytes = [0u8; 64];
        assert_eq!(sys!(libc::SYS_getrandom, bytes.as_mut_ptr(), 64, flags), Ok(64));
        bytes
    };
    let (one, two) = (fill(0), fill(libc::GRND_NONBLOCK));
    assert_ne!(one, two);
    let distinct = (0..=255).filter(|byte| one.contains(byte)).count();
    assert!(distinct > 30, "{distinct} different bytes of 64");
    fails(sys!(libc::SYS_getrandom, one.as_ptr(), 64, 0x80), EINVAL);
    fails(sys!(libc::SYS_getrandom, 8, 64, 0), EFAULT);
    assert_ne!(crate::child::ask(|| u32::from(fill(0)[0]) << 8 | u32::from(fill(0)[1])), u32::MAX);
}

fn sysinfo_agrees_with_meminfo() {
    let mut info: libc::sysinfo = sys::zeroed();
    sys!(libc::SYS_sysinfo, &raw mut info).unwrap();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(info.totalram * u64::from(info.mem_unit) / 1024, total);
    assert!(info.freeram <= info.totalram && info.freeram > 0);
    assert!(info.procs >= 2);
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!((seconds - info.uptime as f64).abs() <= 2.0);
}

fn the_process_name_is_set_and_read() {
    let mut name = [0u8; 16];
    sys!(libc::SYS_prctl, libc::PR_SET_NAME, c"proxima".as_ptr(), 0, 0, 0).unwrap();
    sys!(libc::SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0).unwrap();
    assert_eq!(&name[..8], b"proxima\0");
    assert_eq!(std::fs::read_to_string("/proc/self/comm").unwrap(), "proxima\n");
    assert_eq!(crate::signal::status_field("Name").as_deref(), Some("proxima"));
}

fn prctl_refuses_what_it_does_not_know() {
    fails(sys!(libc::SYS_prctl, 0x7fff_0000, 0, 0, 0, 0), EINVAL);
    fails(sys!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 999, 0, 0, 0), EINVAL);
    fails(sys!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 7, 0, 0, 0), EINVAL);
}

fn dumpable_is_kept_and_lost_with_the_user() {
    let get = || sys!(libc::SYS_prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0);
    assert_eq!(get(), Ok(1));
    sys!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0).unwrap();
    assert_eq!(get(), Ok(0));
    sys!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).unwrap();
    crate::task::credentials::become_nobody();
    assert_eq!(get(), Ok(0));
}

fn arch_prctl_tells_the_thread_pointer() {
    let mut base = 0usize;
    // ARCH_GET_FS; the library keeps the pointer itself at its start.
    sys!(libc::SYS_arch_prctl, 0x1003, &raw mut base).unwrap();
    assert_eq!(get64(base) as usize, base);
    fails(sys!(libc::SYS_arch_prctl, 0x7777, 0), EINVAL);
    // ARCH_SET_GS and ARCH_GET_GS.
    sys!(libc::SYS_arch_prctl, 0x1001, 0x1234_5000usize).unwrap();
    std::thread::yield_now();
    sys!(libc::SYS_arch_prctl, 0x1004, &raw mut base).unwrap();
    assert_eq!(base, 0x1234_5000);
    fails(sys!(libc::SYS_arch_prctl, 0x1001, 1usize << 63), EPERM);
}

fn membarrier_must_be_registered_for() {
    const QUERY: i32 = 0;
    const PRIVATE_EXPEDITED: i32 = 1 << 3;
    const REGISTER: i32 = 1 << 4;
    let call = |command: i32| sys!(libc::SYS_membarrier, command, 0, 0);
    let known = call(QUERY).unwrap() as i32;
    assert_eq!(known & (PRIVATE_EXPEDITED | REGISTER | 1), PRIVATE_EXPEDITED | REGISTER | 1);
    fails(call(PRIVATE_EXPEDITED), EPERM);
    assert_eq!(call(REGISTER), Ok(0));
    assert_eq!(call(PRIVATE_EXPEDITED), Ok(0));
    assert_eq!(call(1), Ok(0));
    fails(call(1 << 20), EINVAL);
    fails(sys!(libc::SYS_membarrier, QUERY, 1, 0), EINVAL);
}

fn membarrier_orders_the_others_stores() {
    // Dekker's pattern with the barrier on one side only: both must never read 0.
    let at = map(3);
    let (x, y, turn) = (word(at), word(at + PAGE), word(at + 2 * PAGE));
    sys!(libc::SYS_membarrier, 1 << 4, 0, 0).unwrap();
    let cpus = crate::child::affinity(0);
    if cpus.len() < 2 {
        crate::harness::skip!("needs two CPUs");
    }
    use std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let light = scope.spawn(|| {
            crate::child::pin(cpus[0]);
            let mut seen = Vec::new();
            for round in 1..=500 {
                while turn.load(SeqCst) < round * 2 - 1 {}
                x.store(round, Relaxed);
                std::sync::atomic::compiler_fence(SeqCst);
                seen.push(y.load(Relaxed) >= round);
                while turn.load(SeqCst) < round * 2 {}
            }
            seen
        });
        crate::child::pin(cpus[1]);
        let mut seen = Vec::new();
        for round in 1..=500 {
            turn.store(round * 2 - 1, SeqCst);
            y.store(round, Relaxed);
            sys!(libc::SYS_membarrier, 1 << 3, 0, 0).unwrap();
            seen.push(x.load(Relaxed) == round);
            turn.store(round * 2, SeqCst);
        }
        let light = light.join().unwrap();
        assert!(light.iter().zip(&seen).all(|(one, two)| *one || *two));
    });
}

/// cpu_id_start, cpu_id, rseq_cs, flags, node_id, mm_cid: 32 bytes, aligned.
fn rseq(at: usize, length: usize, flags: i32, signature: u32) -> sys::Result<usize> {
    sys!(libc::SYS_rseq, at, length, flags, signature)
}

fn rseq_keeps_the_cpu_and_node_up_to_date() {
    let at = map(1);
    rseq(at, 32, 0, 0x53).unwrap();
    for cpu in crate::child::affinity(0) {
        crate::child::pin(cpu);
        let (start, now) = (word(at).load(SeqCst), word(at + 4).load(SeqCst));
        assert_eq!((start as usize, now as usize), (cpu, cpu));
        assert_eq!(word(at + 20).load(SeqCst) as usize, crate::child::getcpu().1);
    }
    rseq(at, 32, 1, 0x53).unwrap();
    assert_eq!(word(at + 4).load(SeqCst), u32::MAX);
}

fn rseq_refuses_what_it_must() {
    let at = map(1);
    fails(rseq(at, 16, 0, 0x53), EINVAL);
    fails(rseq(at + 8, 32, 0, 0x53), EINVAL);
    fails(rseq(at, 32, 1, 0x53), EINVAL);
    fails(rseq(at, 32, 8, 0x53), EINVAL);
    rseq(at, 32, 0, 0x53).unwrap();
    fails(rseq(at, 32, 0, 0x53), EBUSY);
    fails(rseq(at, 32, 0, 0x54), EPERM);
    fails(rseq(at + 32, 32, 0, 0x53), EINVAL);
    fails(rseq(at, 32, 1, 0x54), EPERM);
    rseq(at, 32, 1, 0x53).unwrap();
}

fn unknown_calls_are_enosys() {
    for number in [1000, 511, 5000, -1] {
        fails(sys!(number), libc::ENOSYS);
    }
}

fn other_processes_memory_is_read_and_written() {
    let at = map(2);
    put64(at, 5);
    let steps = crate::child::Steps::new();
    let child = crate::child::spawn(|| {
        put64(at, 6);
        steps.reach(1);
        steps.await_(2);
        assert_eq!(get64(at + 8), 77);
    });
    steps.await_(1);
    let mut value = [0u64, 77];
    let local = [value.as_mut_ptr() as usize, 8];
    let remote = [at, 8];
    let nr = libc::SYS_process_vm_readv;
    assert_eq!(sys!(nr, child, local.as_ptr(), 1, remote.as_ptr(), 1, 0), Ok(8));
    assert_eq!(std::hint::black_box(&value)[0], 6);
    let local = [value.as_mut_ptr() as usize + 8, 8];
    let remote = [at + 8, 8];
    let nr = libc::SYS_process_vm_writev;
    assert_eq!(sys!(nr, child, local.as_ptr(), 1, remote.as_ptr(), 1, 0), Ok(8));
    steps.reach(2);
    assert_eq!(crate::child::join(child), 0);
}

fn a_personality_is_kept() {
    assert_eq!(sys!(libc::SYS_personality, 0xffff_ffffu32), Ok(0));
}
