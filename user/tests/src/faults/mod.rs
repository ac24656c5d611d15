//! Memory that is refused: each allocation of an operation fails in turn, in the checked kernel.
//!
//! An operation runs with fail-nth (Linux's Documentation/fault-injection) at 1, 2, 3 and so on
//! until it ends without having met a failure. Each time it must succeed, or say that there is no
//! memory; and in the end nothing may be lost.

mod descriptors;
mod files;
mod memory;
mod sockets;
mod tasks;

use std::io::Read;

use crate::frames;
use crate::harness::{Test, skip, tests};
use crate::sys::{self, Errno, Result, sys};

pub const GROUPS: &[&[Test]] = &[
    descriptors::TESTS,
    files::TESTS,
    memory::TESTS,
    sockets::TESTS,
    tasks::TESTS,
    tests![a_number_that_was_not_reached_is_told, what_frees_much_takes_little, places_that_failed],
];

/// The calling process's fail-nth.
pub struct FailNth(i32);

impl FailNth {
    /// Skips where there is none.
    pub fn open() -> Self {
        match sys::open("/proc/self/fail-nth", libc::O_RDWR, 0) {
            Ok(fd) => Self(fd),
            Err(_) => skip!("this kernel was built without fault injection"),
        }
    }

    /// The `n`th allocation from here on fails; none, for 0.
    pub fn set(&self, n: u32) {
        // Not on the heap: making the text must not fault while it counts.
        let mut text = [b'0'; 6];
        let mut rest = n;
        for digit in text.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        sys!(libc::SYS_pwrite64, self.0, text.as_ptr(), text.len(), 0).unwrap();
    }

    /// How many allocations are left to the one that fails: 0, it has failed.
    pub fn left(&self) -> u32 {
        let mut text = [0u8; 12];
        let count = sys!(libc::SYS_pread64, self.0, text.as_mut_ptr(), text.len(), 0).unwrap();
        let text = std::str::from_utf8(&text[..count]).unwrap();
        text.trim().parse().unwrap()
    }

    /// Runs `call` with its `n`th allocation failing; whether that came.
    pub fn during<T>(&self, n: u32, call: impl FnOnce() -> T) -> (T, bool) {
        self.set(n);
        let result = call();
        let left = self.left();
        self.set(0);
        (result, left == 0)
    }
}

/// What an operation gets: it does what it needs, then its call under this.
pub struct Turn<'a> {
    faults: &'a FailNth,
    n: u32,
    failed: std::cell::Cell<bool>,
}

impl Turn<'_> {
    /// The part of the operation whose allocations fail.
    pub fn call<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let (result, failed) = self.faults.during(self.n, call);
        self.failed.set(self.failed.get() || failed);
        result
    }
}

/// More allocations than any of the operations makes.
const MOST: u32 = 3000;

/// Fails each allocation of the operation in turn. It may end with ENOMEM or one of `others`; it
/// gives back what it got.
#[track_caller]
pub fn each_fails(others: &[i32], operation: impl Fn(&Turn<'_>) -> Result<()>) {
    let faults = FailNth::open();
    // What is there but not wanted fails here, once and for all.
    if let Err(Errno(libc::ENOSYS)) =
        operation(&Turn { faults: &faults, n: 0, failed: false.into() })
    {
        skip!("this kernel has no such call");
    }
    let round = || {
        for n in 1..MOST {
            let turn = Turn { faults: &faults, n, failed: false.into() };
            let result = operation(&turn);
            if !turn.failed.get() {
                assert_eq!(result, Ok(()), "without a failure, at {n}");
                return;
            }
            if let Err(Errno(errno)) = result {
                let may = errno == libc::ENOMEM || others.contains(&errno);
                assert!(may, "allocation {n} failed: {}", Errno(errno));
            }
        }
        panic!("{MOST} allocations and no end");
    };
    let mut text = frames::room();
    let mut slabs = String::with_capacity(8192);
    let mut history = [[0; 3]; 8];
    let rounds = history.len();
    for at in 0..rounds {
        round();
        history[at] = kept(&mut text, &mut slabs);
        if at > 0 && history[at] == history[at - 1] {
            return;
        }
    }
    // Objects come and go with what the machine does meanwhile; what is lost grows each time.
    let grows = |kind: usize| history.windows(2).all(|pair| pair[1][kind] > pair[0][kind]);
    for (kind, name) in ["bytes of the heap", "pages", "page tables and stacks"].iter().enumerate()
    {
        assert!(!grows(kind), "{name} are lost: {history:?}");
    }
}

/// Bytes of objects in use, frames of programs, of tables and stacks: on all nodes.
fn kept(text: &mut String, slabs: &mut String) -> [u64; 3] {
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    slabs.clear();
    let mut file = std::fs::File::open("/proc/slabinfo").unwrap();
    file.read_to_string(slabs).unwrap();
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok()).unwrap();
    let bytes = slabs.lines().skip(2).map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let used = number(words.next());
        used * number(words.nth(1))
    });
    let mut kept = [bytes.sum(), 0, 0];
    text.clear();
    let mut file = std::fs::File::open("/proc/proxima/frames").unwrap();
    file.read_to_string(text).unwrap();
    for (at, names) in [(1, &["anon", "shared"]), (2, &["pagetable", "stack"])] {
        for name in names {
            let mut words = text.split_whitespace();
            while words.any(|word| word == *name) {
                kept[at] += number(words.next());
            }
        }
    }
    kept
}

fn a_number_that_was_not_reached_is_told() {
    let faults = FailNth::open();
    let close = || sys!(libc::SYS_getppid);
    assert_eq!(faults.left(), 0);
    faults.set(1000);
    close().unwrap();
    assert_eq!(faults.left(), 1000);
    let open = || sys!(libc::SYS_eventfd2, 0, 0);
    sys::close(open().unwrap() as i32);
    assert!((900..1000).contains(&faults.left()), "{}", faults.left());
    faults.set(1);
    assert_eq!(open(), Err(Errno(libc::ENOMEM)));
    assert_eq!(faults.left(), 0);
    sys::close(open().unwrap() as i32);
    // A child begins without.
    faults.set(100_000);
    crate::child::run(|| assert_eq!(FailNth::open().left(), 0));
    sys::fails(sys!(libc::SYS_pwrite64, faults.0, c"x".as_ptr(), 1, 0), libc::EINVAL);
}

/// What goes with a process or a mount is let go of without asking: the next test looks at how much
/// that took.
fn what_frees_much_takes_little() {
    let _present = FailNth::open();
    crate::child::run(|| {
        let at = crate::memory::map(60_000);
        crate::memory::touch(at, 60_000);
    });
    crate::child::run(|| {
        let place = format!("/tmp/deep-{}", sys::getpid());
        std::fs::create_dir(&place).unwrap();
        let (kind, at) = (c"tmpfs".as_ptr(), sys::c(&place));
        sys!(libc::SYS_mount, kind, at.as_ptr(), kind, 0, 0).unwrap();
        std::env::set_current_dir(&place).unwrap();
        for _ in 0..3_000 {
            std::fs::create_dir("d").unwrap();
            std::env::set_current_dir("d").unwrap();
        }
        std::env::set_current_dir("/").unwrap();
        sys!(libc::SYS_umount2, at.as_ptr(), 0).unwrap();
    });
}

/// The places at which the tests before made an allocation fail; and what calls take without being
/// ready for a refusal stays small.
fn places_that_failed() {
    let _present = FailNth::open();
    let text = std::fs::read_to_string("/proc/proxima/faults").unwrap();
    let count = |kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
    let (refused, reserve, frames) = (count("refused "), count("reserve "), count("frame "));
    println!("places that failed: {refused} refused, {reserve} from the reserve, {frames} frames");
    assert!(text.lines().any(|line| line == "lost 0"), "there were more places than are kept");
    for line in text.lines().filter(|line| line.starts_with("most ")) {
        let bytes: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(bytes <= MOST_CERTAIN, "{line}");
    }
}

/// Bytes that a call of this suite takes without asking, those that it gives back meanwhile counted:
/// moving thousands of pages, batch after batch.
const MOST_CERTAIN: u64 = 192 << 10;
