//! The last words of a run: what its programs asked the kernel for in vain, a line for each kind.
//!
//! The kernel remembers (/proc/proxima/missing, which Linux does not have); here it is told what this
//! machine would have had, and what to say to have it in the guest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use crate::guest::share;

/// The guest's file.
pub const FILE: &str = "/proc/proxima/missing";

/// Names shown in one line.
const SHOWN: usize = 5;

/// What a program looks for and does well without: caches, translations, settings of names.
const IDLE: &[&str] = &[
    "/etc/ld.so.",
    "/etc/localtime",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/usr/share/locale",
    "/usr/lib/locale",
    "/usr/lib/x86_64-linux-gnu/gconv",
];

/// What belongs to a person's settings is looked for by every shell, debugger and editor, and seldom
/// there: names that begin with a dot, and the same for all persons.
fn is_setting(path: &str) -> bool {
    const FOR_ALL: &[&str] =
        &["/etc/profile", "/etc/inputrc", "/etc/bash.bashrc", "/etc/environment"];
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with('.')
        || FOR_ALL.contains(&path)
        || name.ends_with("rc") && path.starts_with("/etc/")
}

/// File systems that Linux has as Debian packages it, and Proxima has not: another one is missing there
/// as well.
const FILE_SYSTEMS: &[&str] = &[
    "adfs",
    "affs",
    "afs",
    "autofs",
    "befs",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "ceph",
    "cgroup",
    "cgroup2",
    "cifs",
    "coda",
    "configfs",
    "cpuset",
    "cramfs",
    "debugfs",
    "ecryptfs",
    "efivarfs",
    "efs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fuse",
    "fuseblk",
    "fusectl",
    "gfs2",
    "hfs",
    "hfsplus",
    "hpfs",
    "iso9660",
    "jffs2",
    "jfs",
    "minix",
    "mqueue",
    "msdos",
    "nfs",
    "nfs4",
    "nfsd",
    "nilfs2",
    "ntfs3",
    "ocfs2",
    "omfs",
    "orangefs",
    "overlay",
    "pstore",
    "qnx4",
    "qnx6",
    "resctrl",
    "romfs",
    "rpc_pipefs",
    "securityfs",
    "smb3",
    "squashfs",
    "tracefs",
    "ubifs",
    "udf",
    "ufs",
    "vfat",
    "virtiofs",
    "xfs",
    "zonefs",
];

/// What Linux has in /proc and /sys and Proxima has not: patterns made by scripts/pseudo-files.sh.
const LINUX_ONLY: &str = include_str!("../../../sysroot/linux-only.txt");

/// Where names come and go: that this machine has one tells nothing.
const PASSING: &[&str] = &["/dev/shm/", "/dev/pts/", "/dev/mqueue/", "/dev/fd/"];

/// True if only Linux has this file of /proc or /sys. False too for what comes and goes with devices.
fn linux_has(path: &str) -> bool {
    static PATTERNS: OnceLock<BTreeSet<&str>> = OnceLock::new();
    PATTERNS.get_or_init(|| LINUX_ONLY.lines().collect()).contains(pattern(path).as_str())
}

/// A path as the list has it: `#` for a number, and for a component with a colon.
fn pattern(path: &str) -> String {
    let mut made = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        made.push('/');
        if part.contains(':') || part == "self" || part == "thread-self" {
            made.push('#');
            continue;
        }
        for c in part.chars() {
            match c {
                '0'..='9' if made.ends_with('#') => {}
                '0'..='9' => made.push('#'),
                c => made.push(c),
            }
        }
    }
    made
}

/// Lines for a person; `on_host` tells whether this machine has a path that programs may read.
pub fn lines(record: &str, on_host: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for line in record.lines() {
        let mut words = line.split(' ');
        let (Some(kind), Some(name), Some(who)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let name = match kind {
            "syscall" => syscall(name),
            "socket" => family(name),
            _ => name.to_string(),
        };
        let kind = match kind {
            "path" if name.starts_with("/proc/") || name.starts_with("/sys/") => {
                if !linux_has(&name) {
                    continue;
                }
                "pseudo"
            }
            "filesystem" if !FILE_SYSTEMS.contains(&name.as_str()) => continue,
            "path" if is_setting(&name) => continue,
            "path"
                if !on_host(Path::new(&name))
                    || IDLE.iter().chain(PASSING).any(|i| name.starts_with(i)) =>
            {
                continue;
            }
            // A device is no file that could be brought.
            "path" if name.starts_with("/dev/") => "pseudo",
            kind => kind,
        };
        kinds.entry(kind).or_default().push((name, who));
    }
    if let Some(paths) = kinds.get_mut("path") {
        // /bin is /usr/bin: one of the two is enough.
        let all: BTreeSet<String> = paths.iter().map(|(name, _)| name.clone()).collect();
        paths.retain(|(name, _)| !all.contains(&format!("/usr{name}")));
    }
    let told = |(kind, names): (&str, Vec<(String, &str)>)| {
        let asked = |(name, who): &(String, &str)| format!("{name} (asked for by {who})");
        let plain = |(name, _): &(String, &str)| name.clone();
        let (before, list, after) = match kind {
            "syscall" => {
                ("system calls that Proxima does not have", shown(&names, asked), String::new())
            }
            "socket" => ("sockets that Proxima does not have", shown(&names, asked), String::new()),
            "filesystem" => {
                ("file systems that Proxima does not have", shown(&names, plain), String::new())
            }
            "pseudo" => {
                ("files that Linux has and Proxima has not", shown(&names, asked), String::new())
            }
            "path" => (
                "files that were looked for and are on this machine",
                shown(&names, plain),
                bring(Path::new(&names[0].0)),
            ),
            _ => return None,
        };
        Some(format!("proxima: {before}: {list}{after}"))
    };
    kinds.into_iter().filter_map(told).collect()
}

/// What to say to have a file.
fn bring(path: &Path) -> String {
    let with = format!("; bring them with --with {}", path.display());
    // A share of all there is would leave the guest nothing of its own.
    match path.parent().filter(|dir| share::shares(&[dir.to_path_buf()]).is_ok()) {
        Some(dir) => format!("{with}, or --share {}", dir.display()),
        None => with,
    }
}

fn shown<T>(names: &[T], show: impl Fn(&T) -> String) -> String {
    let mut list = names.iter().take(SHOWN).map(show).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        list += &format!(" and {} more", names.len() - SHOWN);
    }
    list
}

fn syscall(number: &str) -> String {
    let known = number.parse().ok().and_then(syscalls::x86_64::Sysno::new);
    known.map_or_else(|| format!("number {number}"), |call| call.name().to_string())
}

/// Address families that programs ask for (socket.h).
fn family(number: &str) -> String {
    let name = match number {
        "2" => "AF_INET",
        "10" => "AF_INET6",
        "16" => "AF_NETLINK",
        "17" => "AF_PACKET",
        "38" => "AF_ALG",
        "40" => "AF_VSOCK",
        _ => return format!("of family {number}"),
    };
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_line_with_what_to_do() {
        let record = "syscall 425 fio\nsocket 2 redis\npath /usr/lib/x/a.so java\n\
                      path /usr/lib/x/none.so java\npath /etc/ld.so.cache java\n\
                      path /sys/fs/fuse numactl\npath /sys/devices/system/cpu/cpu0/none x\n\
                      path /bin/iconv gdb\npath /usr/bin/iconv gdb\n\
                      path /dev/fuse sshfs\npath /dev/shm/x y\n";
        let on_host = |path: &Path| !path.ends_with("none.so");
        assert_eq!(
            lines(record, on_host),
            [
                "proxima: files that were looked for and are on this machine: /usr/lib/x/a.so, \
                 /usr/bin/iconv; bring them with --with /usr/lib/x/a.so",
                "proxima: files that Linux has and Proxima has not: /sys/fs/fuse (asked for by \
                 numactl), /dev/fuse (asked for by sshfs)",
                "proxima: sockets that Proxima does not have: AF_INET (asked for by redis)",
                "proxima: system calls that Proxima does not have: io_uring_setup (asked for by fio)",
            ]
        );
    }

    #[test]
    fn what_linux_has_is_known_by_its_pattern() {
        assert!(linux_has("/sys/devices/system/cpu/cpu12/hotplug/state"));
        assert!(linux_has("/proc/self/autogroup") && linux_has("/sys/bus/pci/drivers/"));
        assert!(!linux_has("/sys/devices/system/cpu/cpu0/cpu_capacity"));
        assert_eq!(pattern("/sys/bus/pci/devices/0000:00:1f.2/x10y"), "/sys/bus/pci/devices/#/x#y");
    }

    #[test]
    fn long_lists_are_cut() {
        let record: String = (0..9).map(|i| format!("socket 9{i} prog\n")).collect();
        let told = lines(&record, |_| true);
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("of family 94 (asked for by prog) and 4 more"), "{}", told[0]);
    }

    #[test]
    fn what_linux_lacks_too_and_settings_are_not_told() {
        let record = "filesystem nosuchfs mount\nfilesystem xfs mount\npath /root/.profile sh\n\
                      path /etc/bash.bashrc bash\npath /etc/inputrc bash\n";
        assert_eq!(
            lines(record, |_| true),
            ["proxima: file systems that Proxima does not have: xfs"]
        );
    }

    #[test]
    fn a_file_can_be_brought_or_its_directory_be_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().canonicalize().unwrap().join("a");
        let (shown, share) = (file.display(), file.parent().unwrap().display());
        assert_eq!(bring(&file), format!("; bring them with --with {shown}, or --share {share}"));
        assert_eq!(bring(Path::new("/a")), "; bring them with --with /a");
    }

    #[test]
    fn what_is_no_record_says_nothing() {
        assert!(lines("", |_| true).is_empty());
        assert!(lines("nonsense\n", |_| true).is_empty());
    }
}
