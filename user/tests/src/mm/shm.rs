//! System V shared memory.

use libc::{EACCES, EEXIST, EINVAL, ENOENT, IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IPC_RMID, IPC_STAT};

use crate::child::{Steps, join, run, spawn};
use crate::fault::{self, ACCERR, MAPERR, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_segment_attached_twice_is_one_memory,
    a_segment_keeps_its_bytes_while_nobody_is_attached,
    a_key_names_the_same_segment_in_every_process,
    a_removed_segment_lives_until_the_last_detaches,
    attachments_are_counted_over_fork_and_exit,
    a_read_only_attachment_is_not_written,
    an_attachment_goes_where_it_is_told,
    detaching_what_is_not_attached_is_refused,
    bad_arguments_of_shm_are_refused,
    others_are_kept_out_by_the_mode,
    the_segments_data_say_size_and_makers,
];

const KEY: i32 = 0x7072_6f78;

pub fn get_segment(key: i32, pages: usize, flags: i32) -> sys::Result<i32> {
    sys!(libc::SYS_shmget, key, pages * PAGE, flags).map(|id| id as i32)
}

pub fn attach(id: i32, at: usize, flags: i32) -> sys::Result<usize> {
    sys!(libc::SYS_shmat, id, at, flags)
}

pub fn remove(id: i32) {
    sys!(libc::SYS_shmctl, id, IPC_RMID, 0).unwrap();
}

fn detach(at: usize) -> sys::Result<usize> {
    sys!(libc::SYS_shmdt, at)
}

fn stat(id: i32) -> sys::Result<libc::shmid_ds> {
    let mut data: libc::shmid_ds = sys::zeroed();
    sys!(libc::SYS_shmctl, id, IPC_STAT, &raw mut data).map(|_| data)
}

fn a_segment_attached_twice_is_one_memory() {
    let id = get_segment(IPC_PRIVATE, 4, 0o600).unwrap();
    let one = attach(id, 0, 0).unwrap();
    let two = attach(id, 0, 0).unwrap();
    remove(id);
    assert_ne!(one, two);
    verify_zero(one, 4);
    fill(one, 4, 1);
    verify(two, 4, 1);
}

fn a_segment_keeps_its_bytes_while_nobody_is_attached() {
    let id = get_segment(IPC_PRIVATE, 4, 0o600).unwrap();
    run(|| fill(attach(id, 0, 0).unwrap(), 4, 1));
    assert_eq!(stat(id).unwrap().shm_nattch, 0);
    verify(attach(id, 0, 0).unwrap(), 4, 1);
    remove(id);
}

fn a_key_names_the_same_segment_in_every_process() {
    let id = get_segment(KEY, 1, 0o600 | IPC_CREAT | IPC_EXCL).unwrap();
    let at = attach(id, 0, 0).unwrap();
    run(|| {
        assert_eq!(get_segment(KEY, 1, 0), Ok(id));
        put(attach(id, 0, 0).unwrap(), 9);
    });
    assert_eq!(get(at), 9);
    fails(get_segment(KEY, 1, 0o600 | IPC_CREAT | IPC_EXCL), EEXIST);
    fails(get_segment(KEY, 2, 0), EINVAL);
    remove(id);
    fails(get_segment(KEY, 1, 0), ENOENT);
}

fn a_removed_segment_lives_until_the_last_detaches() {
    let id = get_segment(IPC_PRIVATE, 1, 0o600).unwrap();
    let at = attach(id, 0, 0).unwrap();
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        assert_eq!(get(at), 5);
    });
    remove(id);
    put(at, 5);
    detach(at).unwrap();
    fault::segv(try_read(at), MAPERR, at);
    steps.reach(1);
    assert_eq!(join(child), 0);
    fails(stat(id), EINVAL);
}

fn attachments_are_counted_over_fork_and_exit() {
    let id = get_segment(IPC_PRIVATE, 1, 0o600).unwrap();
    let at = attach(id, 0, 0).unwrap();
    assert_eq!(stat(id).unwrap().shm_nattch, 1);
    run(|| assert_eq!(stat(id).unwrap().shm_nattch, 2));
    assert_eq!(stat(id).unwrap().shm_nattch, 1);
    detach(at).unwrap();
    assert_eq!(stat(id).unwrap().shm_nattch, 0);
    remove(id);
}

fn a_read_only_attachment_is_not_written() {
    let id = get_segment(IPC_PRIVATE, 1, 0o600).unwrap();
    let at = attach(id, 0, libc::SHM_RDONLY).unwrap();
    let writable = attach(id, 0, 0).unwrap();
    remove(id);
    put(writable, 3);
    assert_eq!(get(at), 3);
    fault::segv(try_write(at, 1), ACCERR, at);
    fails(mprotect(at, 1, RW), EACCES);
}

fn an_attachment_goes_where_it_is_told() {
    let id = get_segment(IPC_PRIVATE, 2, 0o600).unwrap();
    let at = map(4);
    fails(attach(id, at + 1, 0), EINVAL);
    fails(attach(id, at, 0), EINVAL);
    assert_eq!(attach(id, at + 1 + PAGE, libc::SHM_RND | libc::SHM_REMAP), Ok(at + PAGE));
    put(at + PAGE, 1);
    munmap(at, 4).unwrap();
    assert_eq!(attach(id, at, 0), Ok(at));
    assert_eq!(get(at), 1);
    remove(id);
}

fn detaching_what_is_not_attached_is_refused() {
    fails(detach(map(1)), EINVAL);
    let id = get_segment(IPC_PRIVATE, 2, 0o600).unwrap();
    let at = attach(id, 0, 0).unwrap();
    remove(id);
    fails(detach(at + PAGE), EINVAL);
    detach(at).unwrap();
    fails(detach(at), EINVAL);
}

fn bad_arguments_of_shm_are_refused() {
    fails(get_segment(IPC_PRIVATE, 0, 0o600), EINVAL);
    fails(get_segment(0x6162_6364, 1, 0o600), ENOENT);
    fails(attach(0x7ff0_0000, 0, 0), EINVAL);
    fails(stat(0x7ff0_0000), EINVAL);
}

fn others_are_kept_out_by_the_mode() {
    let id = get_segment(IPC_PRIVATE, 1, 0o600).unwrap();
    run(|| {
        crate::task::credentials::become_nobody();
        fails(attach(id, 0, 0), EACCES);
        fails(stat(id), EACCES);
        fails(sys!(libc::SYS_shmctl, id, IPC_RMID, 0), libc::EPERM);
    });
    remove(id);
}

fn the_segments_data_say_size_and_makers() {
    let id = get_segment(IPC_PRIVATE, 3, 0o640).unwrap();
    let child = spawn(|| {
        attach(id, 0, 0).unwrap();
    });
    assert_eq!(join(child), 0);
    let data = stat(id).unwrap();
    assert_eq!(data.shm_segsz, 3 * PAGE);
    assert_eq!((data.shm_cpid, data.shm_lpid), (sys::getpid(), child));
    assert_eq!(data.shm_perm.mode & 0o777, 0o640);
    remove(id);
}
