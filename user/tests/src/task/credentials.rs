//! Users, groups and capabilities, and what they permit.

use libc::{EINVAL, EPERM, SYS_setresgid, SYS_setresuid};

use crate::child::run;
use crate::harness::{Test, tests};
use crate::helper;
use crate::signal::{effective_capabilities, status_field};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    root_begins_with_all_capabilities,
    giving_up_root_gives_up_capabilities,
    a_saved_id_brings_root_back,
    the_status_file_tells_the_ids,
    keepcaps_keeps_the_permitted_set,
    a_capability_dropped_is_not_there,
    exec_as_root_has_capabilities_and_as_a_user_has_none,
    a_user_signals_its_own_processes_only,
    groups_are_set_and_inherited,
    files_are_closed_to_those_without_rights,
    umask_takes_bits_away,
    no_new_privileges_is_one_way,
];

pub const NOBODY: u32 = 65534;
const SYS_NICE: u64 = 1 << 23;
const KILL: u64 = 1 << 5;

/// Gives up root for good.
pub fn become_nobody() {
    become_user(NOBODY);
}

pub fn become_user(id: u32) {
    sys!(libc::SYS_setgroups, 0, 0).unwrap();
    sys!(SYS_setresgid, id, id, id).unwrap();
    sys!(SYS_setresuid, id, id, id).unwrap();
}

/// Takes capabilities out of the effective set, by bits.
pub fn drop_effective(bits: u64) {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    sys!(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()).unwrap();
    data[0] &= !(bits as u32);
    data[3] &= !((bits >> 32) as u32);
    sys!(libc::SYS_capset, header.as_ptr(), data.as_ptr()).unwrap();
}

pub fn without_nice() {
    drop_effective(SYS_NICE);
}

fn uids() -> [u32; 3] {
    let mut ids = [0u32; 3];
    let at = ids.as_mut_ptr() as usize;
    sys!(libc::SYS_getresuid, at, at + 4, at + 8).unwrap();
    ids
}

fn root_begins_with_all_capabilities() {
    assert_eq!(uids(), [0; 3]);
    assert!(effective_capabilities() & (SYS_NICE | KILL) == SYS_NICE | KILL);
}

fn giving_up_root_gives_up_capabilities() {
    become_nobody();
    assert_eq!(uids(), [NOBODY; 3]);
    assert_eq!(effective_capabilities(), 0);
    fails(sys!(SYS_setresuid, 0, 0, 0), EPERM);
    fails(sys!(libc::SYS_setuid, 0), EPERM);
}

fn a_saved_id_brings_root_back() {
    sys!(SYS_setresuid, NOBODY, NOBODY, 0).unwrap();
    assert_eq!(effective_capabilities(), 0);
    sys!(SYS_setresuid, -1, 0, -1).unwrap();
    assert_eq!(uids(), [NOBODY, 0, 0]);
    assert!(effective_capabilities() & SYS_NICE != 0);
}

fn the_status_file_tells_the_ids() {
    sys!(SYS_setresgid, 11, 12, 13).unwrap();
    sys!(SYS_setresuid, 1, 2, 3).unwrap();
    assert_eq!(status_field("Uid").as_deref(), Some("1\t2\t3\t2"));
    assert_eq!(status_field("Gid").as_deref(), Some("11\t12\t13\t12"));
}

fn keepcaps_keeps_the_permitted_set() {
    sys!(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).unwrap();
    sys!(SYS_setresuid, NOBODY, NOBODY, NOBODY).unwrap();
    assert_eq!(effective_capabilities(), 0);
    let permitted = status_field("CapPrm").unwrap();
    assert_ne!(u64::from_str_radix(&permitted, 16), Ok(0));
}

fn a_capability_dropped_is_not_there() {
    drop_effective(SYS_NICE);
    assert_eq!(effective_capabilities() & SYS_NICE, 0);
    fails(sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -5), libc::EACCES);
}

fn exec_as_root_has_capabilities_and_as_a_user_has_none() {
    assert_eq!(helper::call(&["capabilities"]), 1);
    run(|| {
        become_nobody();
        assert_eq!(helper::call(&["capabilities"]), 0);
    });
}

fn a_user_signals_its_own_processes_only() {
    let steps = crate::child::Steps::new();
    let roots = crate::child::spawn(|| steps.await_(1));
    run(|| {
        become_nobody();
        fails(sys::kill(roots, 0), EPERM);
        fails(sys::kill(roots, libc::SIGTERM), EPERM);
        let own = crate::child::spawn(|| {
            let _ = sys!(libc::SYS_pause);
        });
        sys::kill(own, libc::SIGTERM).unwrap();
        assert_eq!(crate::child::join(own), 128 + libc::SIGTERM);
    });
    steps.reach(1);
    assert_eq!(crate::child::join(roots), 0);
}

fn groups_are_set_and_inherited() {
    let groups = [5u32, 7, 100];
    sys!(libc::SYS_setgroups, 3, groups.as_ptr()).unwrap();
    run(|| {
        let mut found = [0u32; 8];
        assert_eq!(sys!(libc::SYS_getgroups, 8, found.as_mut_ptr()), Ok(3));
        assert_eq!(found[..3], groups);
        fails(sys!(libc::SYS_getgroups, 2, found.as_mut_ptr()), EINVAL);
        become_nobody();
        fails(sys!(libc::SYS_setgroups, 3, groups.as_ptr()), EPERM);
    });
}

fn files_are_closed_to_those_without_rights() {
    let path = "/tmp/tests-credentials";
    std::fs::write(path, "x").unwrap();
    let file = sys::c(path);
    sys!(libc::SYS_chmod, file.as_ptr(), 0o640).unwrap();
    sys!(libc::SYS_chown, file.as_ptr(), 77, 88).unwrap();
    let opens = |uid: u32, gid: u32, flags: i32| {
        crate::child::ask(|| {
            sys!(libc::SYS_setgroups, 0, 0).unwrap();
            sys!(SYS_setresgid, gid, gid, gid).unwrap();
            sys!(SYS_setresuid, uid, uid, uid).unwrap();
            sys::open(path, flags, 0).err().map_or(0, |error| error.0 as u32)
        })
    };
    assert_eq!(opens(77, 1, libc::O_RDWR), 0);
    assert_eq!(opens(1, 88, libc::O_RDONLY), 0);
    assert_eq!(opens(1, 88, libc::O_RDWR), libc::EACCES as u32);
    assert_eq!(opens(1, 1, libc::O_RDONLY), libc::EACCES as u32);
    assert_eq!(opens(0, 0, libc::O_RDWR), 0);
    std::fs::remove_file(path).unwrap();
}

fn umask_takes_bits_away() {
    let old = sys!(libc::SYS_umask, 0o027).unwrap();
    let path = "/tmp/tests-umask";
    let fd = sys::open(path, libc::O_CREAT | libc::O_RDWR, 0o666).unwrap();
    let mut stat: libc::stat = sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!(stat.st_mode & 0o777, 0o640);
    assert_eq!(sys!(libc::SYS_umask, old), Ok(0o027));
    std::fs::remove_file(path).unwrap();
}

fn no_new_privileges_is_one_way() {
    let get = || sys!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    assert_eq!(get(), Ok(0));
    sys!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).unwrap();
    fails(sys!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    run(|| assert_eq!(get(), Ok(1)));
}
