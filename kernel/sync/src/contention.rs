//! How often locks were waited for: counted per class of locks, on the slow path only, so that a
//! lock that is free costs nothing more.
//!
//! A class is a kind of lock and the type of what it protects.

use crate::Once;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::irq::IrqOff;

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::SpinLock`].
    Spin,
    /// [`crate::IrqLock`].
    Irq,
    /// [`crate::Mutex`].
    Mutex,
    /// [`crate::RwLock`], for reading.
    Read,
    /// [`crate::RwLock`], for writing.
    Write,
}

/// What was counted for a class.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub kind: Kind,
    /// The type of what the locks protect.
    pub protects: &'static str,
    /// How often somebody had to wait.
    pub times: u64,
    /// Nanoseconds waited altogether, and the longest wait.
    pub waited: u64,
    pub longest: u64,
}

struct Class {
    name: Once<(Kind, &'static str)>,
    times: AtomicU64,
    waited: AtomicU64,
    longest: AtomicU64,
}

/// More classes than there are are counted with the last one.
const CLASSES: usize = 256;
static TABLE: [Class; CLASSES] = [const {
    Class {
        name: Once::new(),
        times: AtomicU64::new(0),
        waited: AtomicU64::new(0),
        longest: AtomicU64::new(0),
    }
}; CLASSES];

fn class(kind: Kind, protects: &'static str) -> &'static Class {
    let key = (kind, protects);
    // An interrupt that came here too would wait for the entry that it interrupts.
    let _irq = IrqOff::new();
    TABLE.iter().find(|c| *c.name.get_or_init(|| key) == key).unwrap_or(&TABLE[CLASSES - 1])
}

#[cfg(target_os = "none")]
fn now() -> u64 {
    hal::time::now()
}

#[cfg(not(target_os = "none"))]
fn now() -> u64 {
    crate::hooks::now()
}

/// Waits by `wait` for a lock that protects a `T`, and counts it.
#[inline]
pub(crate) fn waiting<T: ?Sized, R>(kind: Kind, wait: impl FnOnce() -> R) -> R {
    let began = now();
    let result = wait();
    let waited = now().saturating_sub(began);
    let class = class(kind, core::any::type_name::<T>());
    class.times.fetch_add(1, Ordering::Relaxed);
    class.waited.fetch_add(waited, Ordering::Relaxed);
    class.longest.fetch_max(waited, Ordering::Relaxed);
    result
}

/// The classes that were waited for since boot.
pub fn counted() -> impl Iterator<Item = Counted> {
    TABLE.iter().filter_map(|class| {
        let (kind, protects) = *class.name.get()?;
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (times, waited) = (get(&class.times), get(&class.waited));
        Some(Counted { kind, protects, times, waited, longest: get(&class.longest) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpinLock;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    struct Contested(u32);

    #[test]
    fn a_wait_is_counted_for_its_class() {
        let lock = Arc::new(SpinLock::new(Contested(0)));
        let waits = Arc::new(AtomicBool::new(false));
        let held = lock.lock();
        let (other, started) = (lock.clone(), waits.clone());
        let thread = std::thread::spawn(move || {
            started.store(true, Ordering::SeqCst);
            other.lock().0 += 1;
        });
        while !waits.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        drop(held);
        thread.join().expect("no panic");
        let found = counted().find(|c| c.protects.ends_with("Contested")).expect("the class");
        assert_eq!((found.kind, found.times), (Kind::Spin, 1));
        assert!(found.longest > 0 && found.waited >= found.longest);
        assert_eq!(lock.lock().0, 1);
    }
}
