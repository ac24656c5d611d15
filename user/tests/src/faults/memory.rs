//! Address spaces, policies, migration, shared memory.

use super::each_fails;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::mm::shm;
use crate::numa::{self, *};
use crate::sys::{self, Errno, sys};

pub const TESTS: &[Test] = tests![
    map_and_touch,
    map_a_file_shared,
    protect_and_unmap_in_the_middle,
    move_and_grow,
    a_page_is_copied_on_write,
    a_huge_page_is_touched_split_and_moved,
    a_long_way_apart,
    advise,
    lock,
    policy_of_a_range,
    policy_of_a_task,
    move_pages_to_and_fro,
    migrate_a_process,
    system_v_segment,
    system_v_queue_and_semaphores,
    into_another_process,
    a_break,
    thousands_of_areas,
    looking_at_thousands_of_pages,
    moving_thousands_of_pages,
];

const ONE: usize = 4;

fn map_and_touch() {
    each_fails(&[], |turn| {
        let at = turn.call(|| {
            let at = mmap(0, ONE * PAGE, RW, PRIVATE, -1, 0)?;
            touch(at, ONE);
            Ok(at)
        })?;
        munmap(at, ONE)?;
        Ok(())
    });
}

/// Without memory for a huge page there are small ones; without a table for its parts it stays whole.
fn a_huge_page_is_touched_split_and_moved() {
    use crate::thp::{HUGE, PAGES, Settings};
    let _settings = Settings::always();
    let nodes = nodes();
    // One word and one place for all of them: another futex may be the first of its bucket, which then
    // keeps room for more, and what lies around the place stays.
    let steps = crate::child::Steps::new();
    let at = crate::thp::map(2);
    let map = || mmap(at, 2 * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    each_fails(&[], |turn| {
        map();
        let touched = turn.call(|| {
            get(at + HUGE);
            put(at, 1);
            Ok(())
        });
        touched?;
        let step = steps.now() + 1;
        let child = crate::child::spawn(|| steps.await_(step));
        let result = turn.call(|| {
            put(at, 1);
            mprotect(at + 4 * PAGE, 4, libc::PROT_READ)?;
            put(at + HUGE, 1);
            madvise(at + HUGE + PAGE, 4, libc::MADV_DONTNEED)?;
            munmap(at + 8 * PAGE, 2)
        });
        steps.reach(step);
        assert_eq!(crate::child::join(child), 0);
        verify_alive(at);
        munmap(at, 2 * PAGES)?;
        result?;
        map();
        put(at, 1);
        let to = *nodes.last().unwrap();
        let result = turn.call(|| mbind(at, PAGES, BIND, &[to], MOVE));
        verify_alive(at);
        munmap(at, 2 * PAGES)?;
        result.map(drop)
    });
}

fn map_a_file_shared() {
    let file = memfd(64);
    each_fails(&[], |turn| {
        let at = turn.call(|| {
            let at = mmap(0, 64 * PAGE, RW, libc::MAP_SHARED, file, 0)?;
            touch(at, 64);
            Ok(at)
        })?;
        sys!(libc::SYS_msync, at, 64 * PAGE, libc::MS_SYNC)?;
        munmap(at, 64)?;
        sys!(libc::SYS_ftruncate, file, 0)?;
        sys!(libc::SYS_ftruncate, file, 64 * PAGE)?;
        Ok(())
    });
}

fn protect_and_unmap_in_the_middle() {
    each_fails(&[], |turn| {
        let at = map(16);
        touch(at, 16);
        let result = turn.call(|| {
            mprotect(at + 4 * PAGE, 4, libc::PROT_READ)?;
            munmap(at + 10 * PAGE, 2)
        });
        verify_alive(at);
        munmap(at, 16)?;
        result.map(drop)
    });
}

/// The first pages are there whatever was refused.
fn verify_alive(at: usize) {
    put(at, 1);
    assert_eq!(get(at), 1);
}

fn move_and_grow() {
    each_fails(&[], |turn| {
        let at = map(8);
        fill(at, 8, 1);
        let result = turn.call(|| mremap(at, 8, 600, libc::MREMAP_MAYMOVE, 0));
        let (now, pages) = result.map_or((at, 8), |now| (now, 600));
        verify(now, 8, 1);
        munmap(now, pages)?;
        result.map(drop)
    });
}

fn a_page_is_copied_on_write() {
    each_fails(&[], |turn| {
        let at = map(4);
        fill(at, 4, 1);
        let child = crate::child::spawn(|| ());
        turn.call(|| {
            put(at, 1);
            Ok(())
        })?;
        assert_eq!(crate::child::join(child), 0);
        munmap(at, 4)?;
        Ok(())
    });
}

fn a_long_way_apart() {
    each_fails(&[], |turn| {
        let size = (3 << 30) / PAGE;
        let at = mmap(0, size * PAGE, RW, PRIVATE | libc::MAP_NORESERVE, -1, 0)?;
        turn.call(|| {
            put(at, 1);
            put(at + (1 << 30), 1);
            put(at + (2 << 30), 1);
            Ok(())
        })?;
        munmap(at, size)?;
        Ok(())
    });
}

fn advise() {
    each_fails(&[libc::EAGAIN], |turn| {
        let at = map(16);
        touch(at, 16);
        let result = turn.call(|| {
            madvise(at + 2 * PAGE, 4, libc::MADV_DONTFORK)?;
            madvise(at + 8 * PAGE, 2, libc::MADV_DONTNEED)?;
            madvise(at, 16, libc::MADV_POPULATE_WRITE)
        });
        munmap(at, 16)?;
        result.map(drop)
    });
}

fn lock() {
    each_fails(&[libc::EAGAIN], |turn| {
        let at = map(16);
        let result = turn.call(|| sys!(libc::SYS_mlock, at + 4 * PAGE, 4 * PAGE));
        munmap(at, 16)?;
        result.map(drop)
    });
    // Of several areas: what was locked before the failure is counted, and no more.
    let other = map(32);
    sys!(libc::SYS_mlock, other, 32 * PAGE).expect("mlock");
    let locked = || crate::signal::status_field("VmLck").expect("VmLck");
    let before = locked();
    each_fails(&[libc::EAGAIN], |turn| {
        let at = map(16);
        sys!(libc::SYS_mprotect, at + 6 * PAGE, 4 * PAGE, libc::PROT_READ)?;
        let result = turn.call(|| {
            sys!(libc::SYS_mlock, at + 2 * PAGE, 12 * PAGE)?;
            sys!(libc::SYS_munlock, at + 3 * PAGE, 10 * PAGE)
        });
        munmap(at, 16)?;
        assert_eq!(locked(), before);
        result.map(drop)
    });
    munmap(other, 32).expect("munmap");
}

fn policy_of_a_range() {
    let all = numa::nodes();
    each_fails(&[libc::EIO], |turn| {
        let at = map(16);
        touch(at, 16);
        let result = turn.call(|| {
            mbind(at + 4 * PAGE, 4, INTERLEAVE, &all, 0)?;
            mbind(at, 16, BIND, &all[..1], MOVE)
        });
        munmap(at, 16)?;
        result.map(drop)
    });
}

fn policy_of_a_task() {
    let all = numa::nodes();
    let nodes = mask(&all);
    each_fails(&[], |turn| {
        let result = turn.call(|| {
            sys!(libc::SYS_set_mempolicy, INTERLEAVE, nodes.as_ptr(), nodes.len() * 64)?;
            let mut mode = 0i32;
            sys!(libc::SYS_get_mempolicy, &raw mut mode, 0, 0, 0, 0)
        });
        set_mempolicy(libc::MPOL_DEFAULT, &[])?;
        result.map(drop)
    });
}

fn move_pages_to_and_fro() {
    let all = numa::nodes();
    const PAGES: usize = 300;
    each_fails(&[], |turn| {
        let at = map(PAGES);
        touch(at, PAGES);
        let pages = addresses(at, PAGES);
        let targets = [all[all.len() - 1] as i32; PAGES];
        let mut status = [0i32; PAGES];
        let result = turn.call(|| {
            let (to, told) = (targets.as_ptr(), status.as_mut_ptr());
            sys!(libc::SYS_move_pages, 0, PAGES, pages.as_ptr(), to, told, MOVE)
        });
        munmap(at, PAGES)?;
        // A page for which there is no frame stays, and says so.
        result.map(drop)
    });
}

fn migrate_a_process() {
    let all = numa::nodes();
    let (from, to) = (mask(&all[..1]), mask(&all[all.len() - 1..]));
    each_fails(&[], |turn| {
        let at = map(64);
        touch(at, 64);
        let bits = from.len() * 64;
        let result =
            turn.call(|| sys!(libc::SYS_migrate_pages, 0, bits, from.as_ptr(), to.as_ptr()));
        munmap(at, 64)?;
        result.map(drop)
    });
}

fn system_v_segment() {
    each_fails(&[libc::ENOSPC], |turn| {
        let id = turn.call(|| shm::get_segment(libc::IPC_PRIVATE, 16, 0o600))?;
        let result = turn.call(|| {
            let at = shm::attach(id, 0, 0)?;
            touch(at, 16);
            Ok(at)
        });
        if let Ok(at) = result {
            sys!(libc::SYS_shmdt, at)?;
        }
        shm::remove(id);
        result.map(drop)
    });
}

fn system_v_queue_and_semaphores() {
    each_fails(&[libc::ENOSPC], |turn| {
        let queue = turn.call(|| sys!(libc::SYS_msgget, libc::IPC_PRIVATE, 0o600))?;
        let message = [1u64; 100];
        let sent = turn.call(|| sys!(libc::SYS_msgsnd, queue, message.as_ptr(), 700, 0));
        sys!(libc::SYS_msgctl, queue, libc::IPC_RMID, 0)?;
        sent?;
        let set = turn.call(|| sys!(libc::SYS_semget, libc::IPC_PRIVATE, 50, 0o600))?;
        // One more, undone at the end.
        let step = libc::sembuf { sem_num: 3, sem_op: 1, sem_flg: libc::SEM_UNDO as i16 };
        let result = turn.call(|| sys!(libc::SYS_semop, set, &raw const step, 1));
        sys!(libc::SYS_semctl, set, 0, libc::IPC_RMID, 0)?;
        result.map(drop)
    });
}

fn into_another_process() {
    let mut data = [7u8; 10_000];
    let here = data.as_mut_ptr().cast();
    let part = libc::iovec { iov_base: here, iov_len: data.len() };
    each_fails(&[], |turn| {
        let at = map(4);
        let there =
            libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(at), iov_len: 10_000 };
        let result = turn.call(|| {
            let pid = sys::getpid();
            sys!(libc::SYS_process_vm_writev, pid, &raw const part, 1, &raw const there, 1, 0)
        });
        munmap(at, 4)?;
        // A page that cannot be had is one that cannot be reached.
        match result {
            Err(Errno(libc::EFAULT)) => Err(Errno(libc::ENOMEM)),
            other => other.map(drop),
        }
    });
}

fn a_break() {
    each_fails(&[], |turn| {
        let end = sys!(libc::SYS_brk, 0)?;
        let now = turn.call(|| sys!(libc::SYS_brk, end + 64 * PAGE))?;
        assert_eq!(sys!(libc::SYS_brk, end), Ok(end));
        if now == end { Err(Errno(libc::ENOMEM)) } else { Ok(()) }
    });
}

/// Areas that cannot be one.
fn areas(count: usize) -> usize {
    let start = mmap(0, count * PAGE, libc::PROT_READ, PRIVATE, -1, 0).unwrap();
    for at in (0..count).step_by(2) {
        mprotect(start + at * PAGE, 1, libc::PROT_NONE).unwrap();
    }
    start
}

fn thousands_of_areas() {
    const AREAS: usize = 1500;
    each_fails(&[], |turn| {
        let at = areas(AREAS);
        let result = turn.call(|| munmap(at + PAGE, AREAS - 2));
        munmap(at, AREAS)?;
        result.map(drop)
    });
}

fn looking_at_thousands_of_pages() {
    const PAGES: usize = 40_000;
    let at = mmap(0, PAGES * PAGE, RW, PRIVATE | libc::MAP_NORESERVE, -1, 0).unwrap();
    let mut seen = vec![0u8; PAGES];
    let to = seen.as_mut_ptr();
    each_fails(&[], |turn| turn.call(|| sys!(libc::SYS_mincore, at, PAGES * PAGE, to)).map(drop));
}

fn moving_thousands_of_pages() {
    let all = numa::nodes();
    const PAGES: usize = 4200;
    let at = map(PAGES);
    touch(at, 4);
    let pages = addresses(at, PAGES);
    let targets = vec![all[all.len() - 1] as i32; PAGES];
    let mut status = vec![0i32; PAGES];
    let told = status.as_mut_ptr();
    each_fails(&[libc::E2BIG], |turn| {
        let result = turn.call(|| {
            let (from, to) = (pages.as_ptr(), targets.as_ptr());
            sys!(libc::SYS_move_pages, 0, PAGES, from, to, told, MOVE)
        });
        let back = [all[0] as i32; 4];
        move_pages(0, &pages[..4], Some(&back), MOVE)?;
        result.map(drop)
    });
}
