//! Advisory locks, against a model that keeps an owner per byte.

mod common;

use abi::Errno;
use common::World;
use fs::locks::{Flock, Kind, LockTable, Owner, Record, fcntl_lock, lock_range};
use fs::oflag::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::thread;

const BYTES: u64 = 24;

/// What each owner holds of each byte.
type Model = Vec<[Option<Kind>; BYTES as usize]>;

#[derive(Clone, Debug)]
struct Step {
    owner: usize,
    kind: Option<Kind>,
    start: u64,
    len: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(None), Just(Some(Kind::Read)), Just(Some(Kind::Write))];
    let step = (0usize..3, kind, 0..BYTES, 1..BYTES).prop_map(|(owner, kind, start, len)| Step {
        owner,
        kind,
        start,
        len,
    });
    prop::collection::vec(step, 1..60)
}

fn owner(n: usize) -> Owner {
    if n == 0 { Owner::Description(1) } else { Owner::Process(n as u64) }
}

proptest! {
    #[test]
    fn record_locks_agree_with_a_byte_by_byte_model(steps in steps()) {
        let table = LockTable::default();
        let mut model: Model = vec![[None; BYTES as usize]; 3];
        for step in steps {
            let end = (step.start + step.len - 1).min(BYTES - 1);
            let range = step.start..=end;
            let bytes = step.start as usize..end as usize + 1;
            match step.kind {
                None => {
                    table.unlock(owner(step.owner), &range).unwrap();
                    model[step.owner][bytes].fill(None);
                }
                Some(kind) => {
                    let blocked = (0..3).filter(|&other| other != step.owner).any(|other| {
                        model[other][bytes.clone()].iter().flatten()
                            .any(|&held| held == Kind::Write || kind == Kind::Write)
                    });
                    let want = Record { owner: owner(step.owner), pid: 7, kind, range };
                    prop_assert_eq!(table.test(&want).is_some(), blocked);
                    let got = table.try_lock(&want);
                    prop_assert_eq!(got, if blocked { Err(Errno::EAGAIN) } else { Ok(()) });
                    if !blocked {
                        model[step.owner][bytes].fill(Some(kind));
                    }
                }
            }
            let mut seen: Model = vec![[None; BYTES as usize]; 3];
            let records = table.records().unwrap();
            for (at, record) in records.iter().enumerate() {
                let who = (0..3).find(|&n| owner(n) == record.owner).expect("known");
                for byte in record.range.clone() {
                    prop_assert_eq!(seen[who][byte as usize], None, "overlapping records");
                    seen[who][byte as usize] = Some(record.kind);
                }
                // Neighbours of one kind are one record.
                prop_assert!(!records[at + 1..].iter().any(|next| next.owner == record.owner
                    && next.kind == record.kind
                    && *next.range.start() == record.range.end() + 1));
            }
            prop_assert_eq!(&seen, &model);
        }
    }
}

#[test]
fn ranges_are_counted_as_fcntl_does() {
    assert_eq!(lock_range(10, 5, 0), Ok(15..=i64::MAX as u64));
    assert_eq!(lock_range(10, 5, 1), Ok(15..=15));
    assert_eq!(lock_range(10, 0, -4), Ok(6..=9));
    assert_eq!(lock_range(0, -1, 1), Err(Errno::EINVAL));
    assert_eq!(lock_range(2, 0, -3), Err(Errno::EINVAL));
    assert_eq!(lock_range(i64::MAX as u64, 1, 0), Err(Errno::EOVERFLOW));
    assert_eq!(lock_range(0, 5, i64::MAX), Err(Errno::EOVERFLOW));
}

#[test]
fn closing_gives_locks_back_and_waiters_go_on() {
    let w = World::new();
    w.write("/f", "data").unwrap();
    let mine = fs::FdTable::new();
    let theirs = Arc::new(fs::FdTable::new());
    let fd = mine.insert(w.open("/f", O_RDWR).unwrap(), false, 99).unwrap();
    let second = mine.insert(w.open("/f", O_RDONLY).unwrap(), false, 99).unwrap();
    let file = mine.get(fd).unwrap();
    let me = Owner::Process(mine.id());
    let read_only = mine.get(second).unwrap();
    let kind = Some(Kind::Write);
    assert_eq!(fcntl_lock(&read_only, me, 1, kind, 0..=9, false), Err(Errno::EBADF));
    fcntl_lock(&file, me, 1, kind, 0..=9, false).unwrap();
    let other = w.open("/f", O_RDWR).unwrap();
    let them = Owner::Process(theirs.id());
    assert_eq!(fcntl_lock(&other, them, 2, kind, 5..=5, false), Err(Errno::EAGAIN));
    let waiter = thread::spawn(move || fcntl_lock(&other, them, 2, kind, 5..=5, true));
    // Closing any descriptor of the file frees what the process holds on it.
    drop(read_only);
    mine.close(second).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
    assert_eq!(file.inode().base().locks().records().unwrap().len(), 1);
    // A description's locks go with the description, flock's too.
    let ofd = w.open("/f", O_RDWR).unwrap();
    fcntl_lock(&ofd, Owner::of_file(&ofd), 0, kind, 100..=100, false).unwrap();
    let locks = file.inode().base().locks();
    locks.flock(&ofd, Flock::Exclusive, false).unwrap();
    assert_eq!(locks.flock(&file, Flock::Shared, false), Err(Errno::EAGAIN));
    drop(ofd);
    assert_eq!(locks.flock(&file, Flock::Shared, false), Ok(()));
    assert_eq!(locks.records().unwrap().len(), 1);
}

#[test]
fn a_circle_of_waiters_is_refused() {
    let table = Arc::new(LockTable::default());
    let want = |owner, byte: u64| Record { owner, pid: 1, kind: Kind::Write, range: byte..=byte };
    let (a, b) = (Owner::Process(1001), Owner::Process(1002));
    table.try_lock(&want(a, 0)).unwrap();
    table.try_lock(&want(b, 1)).unwrap();
    let other = table.clone();
    let waiter = thread::spawn(move || {
        let outcome = other.lock(&Record { owner: b, pid: 2, kind: Kind::Write, range: 0..=0 });
        other.release_posix(1002);
        outcome
    });
    // Either side may be the one that closes the circle.
    let mine = table.lock(&want(a, 1));
    table.release_posix(1001);
    let theirs = waiter.join().unwrap();
    let refused = [&mine, &theirs].into_iter().filter(|r| **r == Err(Errno::EDEADLK)).count();
    assert_eq!(refused, 1, "{mine:?} {theirs:?}");
}
