//! The devices that every program expects, and the pseudo file systems' manners.

use libc::*;

use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, read, sys, write};

pub const TESTS: &[Test] = tests![
    null_takes_everything_and_gives_nothing,
    zero_gives_zeroes_and_full_is_full,
    random_devices_give_bytes_that_differ,
    tty_is_the_controlling_terminal_or_enxio,
    a_device_node_is_made_by_root_only,
    proc_is_read_in_small_pieces,
    proc_and_sysfs_are_not_filled_with_files,
    a_processs_memory_is_read_through_proc,
    pagemap_tells_what_is_present,
    mounts_come_and_go,
    memory_of_the_machine_is_not_given,
    a_devices_memory_is_read_through_dev_mem,
];

fn null_takes_everything_and_gives_nothing() {
    let fd = open("/dev/null", O_RDWR, 0).unwrap();
    assert_eq!(write(fd, &[1; 1000]), Ok(1000));
    assert_eq!(read(fd, &mut [0; 10]), Ok(0));
    assert_eq!(sys!(SYS_lseek, fd, 100, SEEK_SET), Ok(0));
}

fn zero_gives_zeroes_and_full_is_full() {
    let fd = open("/dev/zero", O_RDWR, 0).unwrap();
    let mut bytes = [1u8; 10_000];
    assert_eq!(read(fd, &mut bytes), Ok(10_000));
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(write(fd, &bytes), Ok(10_000));
    let fd = open("/dev/full", O_RDWR, 0).unwrap();
    fails(write(fd, b"x"), ENOSPC);
    assert_eq!(read(fd, &mut [1; 4]), Ok(4));
}

fn random_devices_give_bytes_that_differ() {
    for name in ["/dev/random", "/dev/urandom"] {
        let fd = open(name, O_RDWR, 0).unwrap();
        let (mut one, mut two) = ([0u8; 64], [0u8; 64]);
        assert_eq!((read(fd, &mut one), read(fd, &mut two)), (Ok(64), Ok(64)));
        assert_ne!(one, two);
        assert_eq!(write(fd, &one), Ok(64));
    }
}

fn tty_is_the_controlling_terminal_or_enxio() {
    crate::child::run(|| {
        sys!(SYS_setsid).unwrap();
        fails(open("/dev/tty", O_RDWR, 0), ENXIO);
    });
}

fn a_device_node_is_made_by_root_only() {
    let base = super::scratch();
    let directory = sys::c(&base);
    sys!(SYS_chmod, directory.as_ptr(), 0o1777).unwrap();
    let path = base + "/null";
    let name = sys::c(&path);
    // Major 1, minor 3.
    sys!(SYS_mknod, name.as_ptr(), S_IFCHR | 0o666, 1 << 8 | 3).unwrap();
    crate::child::run(|| {
        crate::task::credentials::become_nobody();
        let other = sys::c(&(path.clone() + "2"));
        fails(sys!(SYS_mknod, other.as_ptr(), S_IFCHR | 0o666, 1 << 8 | 3), EPERM);
    });
}

fn proc_is_read_in_small_pieces() {
    let fd = open("/proc/self/status", O_RDONLY, 0).unwrap();
    let mut text = Vec::new();
    let mut piece = [0u8; 7];
    loop {
        let length = read(fd, &mut piece).unwrap();
        if length == 0 {
            break;
        }
        text.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8(text).unwrap();
    for key in ["Name", "State", "Pid", "PPid", "Uid", "VmRSS", "Threads", "Cpus_allowed_list"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key}:"))), "no {key}");
    }
}

fn proc_and_sysfs_are_not_filled_with_files() {
    fails(open("/proc/new", O_CREAT | O_RDWR, 0o600), ENOENT);
    let error = open("/sys/new", O_CREAT | O_RDWR, 0o600).unwrap_err();
    assert!([EACCES, EPERM].contains(&error.0), "{error}");
    let path = sys::c("/proc/self/status");
    let result = sys!(SYS_unlinkat, AT_FDCWD, path.as_ptr(), 0);
    assert!(result.is_err_and(|error| error.0 == EPERM || error.0 == EACCES));
}

fn a_processs_memory_is_read_through_proc() {
    let value = std::hint::black_box([0x1122_3344_5566_7788u64]);
    let fd = open("/proc/self/mem", O_RDWR, 0).unwrap();
    let mut bytes = [0u8; 8];
    let at = value.as_ptr() as usize;
    assert_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 8, at), Ok(8));
    assert_eq!(u64::from_ne_bytes(bytes), value[0]);
    fails(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 8, 8), EIO);
}

fn pagemap_tells_what_is_present() {
    use crate::memory::*;
    let at = map(3);
    put(at + PAGE, 1);
    let fd = open("/proc/self/pagemap", O_RDONLY, 0).unwrap();
    let mut entries = [0u64; 3];
    let offset = at / PAGE * 8;
    assert_eq!(sys!(SYS_pread64, fd, entries.as_mut_ptr(), 24, offset), Ok(24));
    let present: Vec<bool> = entries.iter().map(|entry| entry >> 63 == 1).collect();
    assert_eq!(present, [false, true, false]);
    assert_ne!(entries[1] & ((1 << 55) - 1), 0, "root sees the frame's number");
}

fn mounts_come_and_go() {
    let path = super::scratch();
    let target = sys::c(&path);
    let kind = c"tmpfs".as_ptr();
    std::fs::write(path.clone() + "/below", "").unwrap();
    sys!(SYS_mount, kind, target.as_ptr(), kind, 0, 0).unwrap();
    fails(open(&(path.clone() + "/below"), O_RDONLY, 0), ENOENT);
    std::fs::write(path.clone() + "/above", "").unwrap();
    let listed = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(listed.lines().any(|line| line.split(' ').nth(1) == Some(&path)));
    let fd = open(&(path.clone() + "/above"), O_RDONLY, 0).unwrap();
    fails(sys!(SYS_umount2, target.as_ptr(), 0), EBUSY);
    sys::close(fd);
    sys!(SYS_umount2, target.as_ptr(), 0).unwrap();
    open(&(path.clone() + "/below"), O_RDONLY, 0).unwrap();
    fails(sys!(SYS_umount2, target.as_ptr(), 0), EINVAL);
    fails(sys!(SYS_mount, kind, target.as_ptr(), c"nosuchfs".as_ptr(), 0, 0), ENODEV);
}

const CAP_SYS_RAWIO: u64 = 1 << 17;

fn memory_of_the_machine_is_not_given() {
    let fd = open("/dev/mem", O_RDWR, 0).unwrap();
    // 32 MiB is memory on any machine.
    let (at, mut bytes) = (32 << 20, [0u8; 8]);
    fails(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 8, at), EPERM);
    fails(sys!(SYS_pwrite64, fd, bytes.as_ptr(), 8, at), EPERM);
    crate::child::run(|| {
        crate::task::credentials::drop_effective(CAP_SYS_RAWIO);
        fails(open("/dev/mem", O_RDONLY, 0), EPERM);
    });
}

/// The text of a file of a PCI function.
fn of_function(name: &str, file: &str) -> String {
    std::fs::read_to_string(format!("/sys/bus/pci/devices/{name}/{file}")).unwrap()
}

/// The disk controller that QEMU's q35 always has, without a driver: AHCI 1.3.1, 10.1.2 has its
/// registers.
fn a_devices_memory_is_read_through_dev_mem() {
    const AHCI: &str = "0x010601";
    const VERSION: u64 = 0x10;
    let functions = std::fs::read_dir("/sys/bus/pci/devices").unwrap();
    let names = functions.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = { names }.find(|name| of_function(name, "class").trim() == AHCI).unwrap();
    assert_eq!(of_function(&name, "vendor"), "0x8086\n");
    assert_eq!(of_function(&name, "device"), "0x2922\n");
    let config = std::fs::read(format!("/sys/bus/pci/devices/{name}/config")).unwrap();
    assert_eq!(config[..4], [0x86, 0x80, 0x22, 0x29]);
    let resource = of_function(&name, "resource");
    assert_eq!(resource.lines().count(), 13, "{resource}");
    let words = resource.lines().nth(5).unwrap().split(' ');
    let words: Vec<u64> = words.map(|word| u64::from_str_radix(&word[2..], 16).unwrap()).collect();
    // 4 KiB of memory, aligned to its size.
    assert_eq!((words[1] - words[0], words[2]), (0xfff, 0x40200));
    let fd = open("/dev/mem", O_RDONLY, 0).unwrap();
    let mut version = 0u32;
    let read = sys!(SYS_pread64, fd, &raw mut version, 4, words[0] + VERSION);
    // Linux reads no further than its memory goes, and lets the rest be mapped.
    if read.is_err_and(|error| error.0 == EFAULT) {
        let at = sys!(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, words[0]).unwrap();
        // SAFETY: within the page just mapped, aligned.
        version = unsafe { ((at + VERSION as usize) as *const u32).read_volatile() };
    }
    assert_eq!(version, 0x0001_0000);
}
