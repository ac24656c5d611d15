//! Making, finding and removing groups.

use libc::{EACCES, EAGAIN, EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, EPERM, ERANGE};

use super::{Group, TOP, mkdir, read, write};
use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};
use crate::task::credentials::{NOBODY, become_nobody};

pub const TESTS: &[Test] = tests![
    a_group_has_files_of_its_controllers,
    files_have_their_modes,
    groups_are_made_and_removed_as_directories,
    groups_with_children_or_tasks_stay,
    nothing_else_can_be_made_there,
    odd_names,
    a_removed_group_is_gone_for_who_has_its_files_open,
    depth_and_number_are_limited,
    limits_are_read_as_numbers,
    a_deep_tree_is_built_and_taken_down,
    a_user_needs_to_be_given_a_group,
    owners_of_files_stay,
    the_statistics_count_groups,
    mounts_take_no_unknown_options,
];

fn names(group: &Group) -> Vec<String> {
    let entries = std::fs::read_dir(&group.0).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn a_group_has_files_of_its_controllers() {
    let group = Group::new("files");
    let all = names(&group);
    let has = |name: &str| all.iter().any(|own| own == name);
    for name in [
        "cgroup.controllers",
        "cgroup.events",
        "cgroup.kill",
        "cgroup.max.depth",
        "cgroup.max.descendants",
        "cgroup.procs",
        "cgroup.stat",
        "cgroup.subtree_control",
        "cgroup.threads",
        "cgroup.type",
        "cpuset.cpus",
        "cpuset.cpus.effective",
        "cpuset.mems",
        "cpuset.mems.effective",
        "pids.current",
        "pids.events",
        "pids.max",
        "pids.peak",
    ] {
        assert!(has(name), "{name} is not among {all:?}");
    }
    assert!(!std::path::Path::new(&format!("{TOP}/cgroup.events")).exists());
    assert!(!std::path::Path::new(&format!("{TOP}/cgroup.type")).exists());
    assert!(!std::path::Path::new(&format!("{TOP}/cpuset.cpus")).exists());
    assert!(!std::path::Path::new(&format!("{TOP}/pids.max")).exists());
    let child = group.child("child");
    assert!(!names(&child).iter().any(|name| name.starts_with("cpuset.") || name == "pids.max"));
    assert_eq!(child.read("cgroup.controllers"), "");
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    assert_eq!(child.read("cgroup.controllers"), "cpuset");
    assert_eq!(child.read("cpuset.cpus"), "");
    let open = sys::open(&child.path("cpuset.mems"), libc::O_RDWR, 0).unwrap();
    group.write("cgroup.subtree_control", "-cpuset").unwrap();
    fails(read(&child.path("cpuset.cpus")), ENOENT);
    assert!(!names(&child).iter().any(|name| name.starts_with("cpuset.")));
    fails(sys::read(open, &mut [0; 10]), libc::ENODEV);
    fails(sys::write(open, b"0"), libc::ENODEV);
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    assert_eq!(child.read("cpuset.cpus"), "");
    // The file of before is another one's.
    fails(sys::read(open, &mut [0; 10]), libc::ENODEV);
}

fn files_have_their_modes() {
    use std::os::unix::fs::MetadataExt;
    let group = Group::new("modes");
    let mode = |name: &str| std::fs::metadata(group.path(name)).unwrap().mode();
    for (name, expected) in [
        ("cgroup.procs", 0o100644),
        ("cgroup.events", 0o100444),
        ("cgroup.kill", 0o100200),
        ("cgroup.type", 0o100644),
        ("cpuset.cpus", 0o100644),
        ("cpuset.cpus.effective", 0o100444),
        ("pids.current", 0o100444),
        ("pids.max", 0o100644),
        ("", 0o40755),
    ] {
        assert_eq!(mode(name), expected, "{name}");
    }
    assert_eq!(std::fs::metadata(TOP).unwrap().mode(), 0o40555);
    let mut fs: libc::statfs = sys::zeroed();
    sys!(libc::SYS_statfs, sys::c(&group.0).as_ptr(), &raw mut fs).unwrap();
    assert_eq!(fs.f_type, 0x6367_7270);
    // Root opens what it cannot read or write; then it is told.
    let kill = sys::open(&group.path("cgroup.kill"), libc::O_RDONLY, 0).unwrap();
    fails(sys::read(kill, &mut [0; 8]), EINVAL);
    let events = sys::open(&group.path("cgroup.events"), libc::O_WRONLY, 0).unwrap();
    fails(sys::write(events, b"1"), EINVAL);
}

fn groups_are_made_and_removed_as_directories() {
    use std::os::unix::fs::MetadataExt;
    let group = Group::new("made");
    let links = || std::fs::metadata(&group.0).unwrap().nlink();
    assert_eq!(links(), 2);
    let child = group.child("child");
    assert_eq!(links(), 3);
    assert!(names(&group).contains(&"child".into()));
    fails(mkdir(&child.0, 0o755), EEXIST);
    fails(mkdir(&group.path("cgroup.procs"), 0o755), EEXIST);
    assert_eq!(child.read("cgroup.type"), "domain");
    assert_eq!(child.read("cgroup.events"), "populated 0\nfrozen 0");
    child.rmdir().unwrap();
    assert_eq!(links(), 2);
    fails(child.rmdir(), ENOENT);
    let again = group.child("child");
    assert_eq!(again.read("cgroup.procs"), "");
}

fn groups_with_children_or_tasks_stay() {
    let group = Group::new("stay");
    let child = group.child("child");
    fails(group.rmdir(), EBUSY);
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    child.take(pid);
    fails(child.rmdir(), EBUSY);
    assert!(group.is_populated());
    steps.reach(1);
    assert_eq!(join(pid), 0);
    assert!(!group.is_populated());
    child.rmdir().unwrap();
}

fn nothing_else_can_be_made_there() {
    let group = Group::new("else");
    let (file, other) = (sys::c(&group.path("file")), sys::c(&group.path("other")));
    let procs = sys::c(&group.path("cgroup.procs"));
    fails(sys::open(&group.path("file"), libc::O_CREAT | libc::O_WRONLY, 0o644), EACCES);
    fails(sys!(libc::SYS_mknod, file.as_ptr(), libc::S_IFIFO | 0o644, 0), EPERM);
    fails(sys!(libc::SYS_symlink, c"/".as_ptr(), file.as_ptr()), EPERM);
    fails(sys!(libc::SYS_link, procs.as_ptr(), file.as_ptr()), EPERM);
    fails(sys!(libc::SYS_unlink, procs.as_ptr()), EPERM);
    fails(sys!(libc::SYS_rmdir, procs.as_ptr()), ENOTDIR);
    fails(sys!(libc::SYS_unlink, sys::c(&group.0).as_ptr()), EISDIR);
    let _child = group.child("file");
    fails(sys!(libc::SYS_rename, file.as_ptr(), other.as_ptr()), EPERM);
    fails(sys!(libc::SYS_rename, procs.as_ptr(), other.as_ptr()), EPERM);
}

fn odd_names() {
    let group = Group::new("names");
    fails(mkdir(&group.path("a\nb"), 0o755), EINVAL);
    fails(mkdir(&group.path("\n"), 0o755), EINVAL);
    for name in ["a b", "cgroup.of.mine", ".hidden", "ä", "\t", &"x".repeat(255)] {
        let child = group.child(name);
        assert!(names(&group).iter().any(|own| own == name), "{name:?}");
        let pid = spawn(|| {
            sys!(libc::SYS_pause).unwrap();
        });
        child.take(pid);
        assert_eq!(super::group_of(pid), child.name(), "{name:?}");
        sys::kill(pid, libc::SIGKILL).unwrap();
        join(pid);
    }
}

fn a_removed_group_is_gone_for_who_has_its_files_open() {
    let group = Group::new("gone");
    let child = group.child("child");
    let (procs, events) = (child.path("cgroup.procs"), child.path("cgroup.events"));
    let procs = sys::open(&procs, libc::O_RDWR, 0).unwrap();
    let events = sys::open(&events, libc::O_RDONLY, 0).unwrap();
    let dir = sys::open(&child.0, libc::O_RDONLY, 0).unwrap();
    child.rmdir().unwrap();
    fails(sys::write(procs, b"0"), libc::ENODEV);
    fails(sys::read(procs, &mut [0; 8]), libc::ENODEV);
    fails(sys::read(events, &mut [0; 8]), libc::ENODEV);
    fails(sys!(libc::SYS_mkdirat, dir, c"new".as_ptr(), 0o755), ENOENT);
    fails(sys!(libc::SYS_openat, dir, c"cgroup.procs".as_ptr(), 0), ENOENT);
}

fn depth_and_number_are_limited() {
    let group = Group::new("limits");
    assert_eq!(group.read("cgroup.max.depth"), "max");
    assert_eq!(group.read("cgroup.max.descendants"), "max");
    group.write("cgroup.max.depth", "1").unwrap();
    let a = group.child("a");
    fails(mkdir(&a.path("b"), 0o755), EAGAIN);
    group.write("cgroup.max.depth", "2").unwrap();
    let b = a.child("b");
    fails(mkdir(&b.path("c"), 0o755), EAGAIN);
    group.write("cgroup.max.descendants", "2").unwrap();
    fails(mkdir(&a.path("d"), 0o755), EAGAIN);
    b.rmdir().unwrap();
    let _d = a.child("d");
    group.write("cgroup.max.descendants", "0").unwrap();
    fails(mkdir(&group.path("e"), 0o755), EAGAIN);
    group.write("cgroup.max.depth", "0").unwrap();
    group.write("cgroup.max.descendants", "max").unwrap();
    fails(mkdir(&group.path("e"), 0o755), EAGAIN);
}

fn limits_are_read_as_numbers() {
    let group = Group::new("numbers");
    for (text, shown) in
        [("7", "7"), (" 8\n", "8"), ("0x10", "16"), ("010", "8"), ("+3", "3"), ("max\n", "max")]
    {
        group.write("cgroup.max.depth", text).unwrap();
        assert_eq!(group.read("cgroup.max.depth"), shown, "{text:?}");
    }
    group.write("cgroup.max.depth", "2147483647").unwrap();
    assert_eq!(group.read("cgroup.max.depth"), "max");
    for (text, errno) in [
        ("-1", ERANGE),
        ("2147483648", ERANGE),
        ("99999999999999999999", ERANGE),
        ("", EINVAL),
        ("a", EINVAL),
        ("1 2", EINVAL),
        ("0x", EINVAL),
        ("08", EINVAL),
        ("maximum", EINVAL),
    ] {
        // Nothing to write is no write.
        if !text.is_empty() {
            fails(group.write("cgroup.max.depth", text), errno);
        }
    }
    fails(group.write("cgroup.kill", "2"), ERANGE);
    fails(group.write("cgroup.kill", "x"), EINVAL);
}

fn a_deep_tree_is_built_and_taken_down() {
    const DEPTH: usize = 600;
    let group = Group::new("deep");
    let pid = spawn(|| {
        sys!(libc::SYS_pause).unwrap();
    });
    let mut paths = vec![group.0.clone()];
    for depth in 0..DEPTH {
        let path = format!("{}/d", paths[depth]);
        mkdir(&path, 0o755).unwrap();
        paths.push(path);
    }
    assert_eq!(group.value("cgroup.stat", "nr_descendants"), DEPTH as u64);
    write(&format!("{}/cgroup.procs", paths[DEPTH]), &pid.to_string()).unwrap();
    assert_eq!(super::group_of(pid), &paths[DEPTH][TOP.len()..]);
    assert!(group.is_populated());
    for path in &paths[..DEPTH] {
        write(&format!("{path}/cgroup.subtree_control"), "+cpuset").unwrap();
    }
    group.write("cpuset.mems", "0").unwrap();
    assert_eq!(read(&format!("{}/cpuset.mems.effective", paths[DEPTH])).unwrap(), "0");
    assert_eq!(super::mems_allowed(pid), [0]);
    group.write("cgroup.kill", "1").unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
    assert!(!group.is_populated());
    for path in paths[1..].iter().rev() {
        sys!(libc::SYS_rmdir, sys::c(path).as_ptr()).unwrap();
    }
    assert_eq!(group.value("cgroup.stat", "nr_descendants"), 0);
}

fn a_user_needs_to_be_given_a_group() {
    let group = Group::new("given");
    group.write("cgroup.subtree_control", "+cpuset +pids").unwrap();
    let outside = group.child("outside");
    let given = group.child("given");
    let (a, b) = (given.child("a"), given.child("b"));
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    a.take(pid);
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        let path = sys::c(&given.path(file));
        sys!(libc::SYS_chown, path.as_ptr(), NOBODY, NOBODY).unwrap();
    }
    for file in ["cgroup.procs", "cgroup.threads"] {
        for child in [&a, &b] {
            let path = sys::c(&child.path(file));
            sys!(libc::SYS_chown, path.as_ptr(), NOBODY, NOBODY).unwrap();
        }
    }
    run(|| {
        become_nobody();
        // Within what was given it moves; in and out of that it does not.
        b.take(pid);
        assert_eq!(super::group_of(pid), b.name());
        fails(outside.write("cgroup.procs", &pid.to_string()), EACCES);
        fails(given.write("cgroup.procs", "0"), EACCES);
        fails(a.write("cgroup.procs", "0"), EACCES);
        fails(given.write("pids.max", "1"), EACCES);
        fails(given.write("cpuset.mems", "0"), EACCES);
        fails(mkdir(&outside.path("mine"), 0o755), EACCES);
        let own = given.child("own");
        own.take(pid);
        assert_eq!(own.read("cgroup.procs"), pid.to_string());
        b.take(pid);
        own.rmdir().unwrap();
    });
    steps.reach(1);
    join(pid);
}

fn owners_of_files_stay() {
    use std::os::unix::fs::MetadataExt;
    let group = Group::new("owners");
    let path = group.path("cgroup.events");
    sys!(libc::SYS_chown, sys::c(&path).as_ptr(), 7, 8).unwrap();
    sys!(libc::SYS_chmod, sys::c(&path).as_ptr(), 0o400).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode()), (7, 8, 0o100400));
    let parent = group.child("parent");
    run(|| {
        sys!(libc::SYS_chown, sys::c(&parent.0).as_ptr(), NOBODY, NOBODY).unwrap();
        become_nobody();
        let child = parent.child("child");
        let meta = |name: &str| std::fs::metadata(child.path(name)).unwrap();
        assert_eq!((meta("").uid(), meta("").gid()), (NOBODY, NOBODY));
        assert_eq!(meta("cgroup.procs").uid(), NOBODY);
    });
}

fn the_statistics_count_groups() {
    let group = Group::new("statistics");
    assert_eq!(group.value("cgroup.stat", "nr_subsys_cpuset"), 1);
    let a = group.child("a");
    let b = a.child("b");
    assert_eq!(group.value("cgroup.stat", "nr_descendants"), 2);
    assert_eq!(group.value("cgroup.stat", "nr_subsys_cpuset"), 1);
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    assert_eq!(group.value("cgroup.stat", "nr_subsys_cpuset"), 2);
    a.write("cgroup.subtree_control", "+cpuset").unwrap();
    assert_eq!(group.value("cgroup.stat", "nr_subsys_cpuset"), 3);
    b.rmdir().unwrap();
    assert_eq!(group.value("cgroup.stat", "nr_descendants"), 1);
    let text = std::fs::read_to_string("/proc/cgroups").unwrap();
    assert!(text.starts_with("#subsys_name\thierarchy\tnum_cgroups\tenabled\n"), "{text}");
    let line = text.lines().find(|line| line.starts_with("cpuset\t0\t"));
    assert!(line.is_some_and(|line| line.ends_with("\t1")), "{text}");
}

fn mounts_take_no_unknown_options() {
    let at = c"/run/cgroup-again";
    let _ = sys!(libc::SYS_mkdir, at.as_ptr(), 0o755);
    let mount = |data: &std::ffi::CStr| {
        let (kind, none) = (c"cgroup2".as_ptr(), c"none".as_ptr());
        sys!(libc::SYS_mount, none, at.as_ptr(), kind, 0, data.as_ptr())
    };
    fails(mount(c"what"), EINVAL);
    // One hierarchy, wherever it is mounted.
    let group = Group::new("again");
    mount(c"").unwrap();
    let there = format!("/run/cgroup-again{}/cgroup.type", group.name());
    assert_eq!(read(&there).unwrap(), "domain");
    sys!(libc::SYS_umount2, at.as_ptr(), 0).unwrap();
}
