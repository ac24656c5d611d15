//! The lock-order checker of checked kernels: two classes of locks are taken in one order only.
//!
//! A class is the place in the source where its locks are made. Whoever waits for a lock of class B
//! while holding one of class A says "A before B"; when the opposite follows from what was said
//! before, directly or over other classes, two tasks can wait for each other for ever, and
//! [`Graph::before`] names the two. Locks of one class under each other have an order of their own
//! (by address, by id), which is not checked here.
//!
//! A lock that interrupt handlers do not take may be held when an interrupt comes. So it is never
//! waited for under one that they do take, nor in an interrupt: that is said at once, without the
//! interrupt having come.

use crate::Once;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Classes that can be told apart; the kernel has about 150.
const CLASSES: usize = 512;
const WORDS: usize = CLASSES / 64;
/// Locks held at once by one task, those of interrupts on top of it included.
const DEPTH: usize = 48;

/// Which classes were taken under which.
pub struct Graph {
    places: [Once<&'static Location<'static>>; CLASSES],
    /// The classes that interrupt handlers take.
    in_interrupts: [AtomicU64; WORDS],
    after: [[AtomicU64; WORDS]; CLASSES],
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self {
            places: [const { Once::new() }; CLASSES],
            in_interrupts: [const { AtomicU64::new(0) }; WORDS],
            after: [const { [const { AtomicU64::new(0) }; WORDS] }; CLASSES],
        }
    }

    /// The number of a class; `None` when there are too many.
    pub fn class(&self, place: &'static Location<'static>) -> Option<usize> {
        self.places.iter().position(|own| core::ptr::eq(*own.get_or_init(|| place), place))
    }

    /// Where the locks of a class are made.
    pub fn place(&self, class: usize) -> Option<&'static Location<'static>> {
        self.places.get(class)?.get().copied()
    }

    /// Says that interrupt handlers take locks of this class.
    pub fn note_interrupts(&self, class: usize) {
        self.in_interrupts[class / 64].fetch_or(1 << (class % 64), Ordering::Relaxed);
    }

    /// Whether they do.
    pub fn in_interrupts(&self, class: usize) -> bool {
        self.in_interrupts[class / 64].load(Ordering::Relaxed) >> (class % 64) & 1 != 0
    }

    fn is_after(&self, first: usize, then: usize) -> bool {
        self.after[first][then / 64].load(Ordering::Relaxed) >> (then % 64) & 1 != 0
    }

    /// Says that `then` is waited for under `first`. False when the opposite was said before.
    pub fn before(&self, first: usize, then: usize) -> bool {
        if first == then || self.is_after(first, then) {
            return true;
        }
        self.after[first][then / 64].fetch_or(1 << (then % 64), Ordering::Relaxed);
        !self.leads(then, first)
    }

    /// The class after `from` on a way to `to`.
    fn step(&self, from: usize, to: usize) -> Option<usize> {
        if self.is_after(from, to) {
            return Some(to);
        }
        (0..CLASSES).find(|next| self.is_after(from, *next) && self.leads(*next, to))
    }

    /// Whether `to` is taken after `from`, directly or over others.
    fn leads(&self, from: usize, to: usize) -> bool {
        let mut seen = [0u64; WORDS];
        let mut found = [0u64; WORDS];
        found[from / 64] |= 1 << (from % 64);
        loop {
            let next = (0..WORDS).find_map(|word| {
                let open = found[word] & !seen[word];
                (open != 0).then(|| word * 64 + open.trailing_zeros() as usize)
            });
            let Some(next) = next else { return false };
            if next == to {
                return true;
            }
            seen[next / 64] |= 1 << (next % 64);
            for (all, own) in found.iter_mut().zip(&self.after[next]) {
                *all |= own.load(Ordering::Relaxed);
            }
        }
    }
}

/// The locks that a task holds: of each its class, and its address to know it again. Changed by the
/// task itself and by interrupts on top of it, which leave it as they found it.
pub struct Held {
    count: AtomicUsize,
    locks: [(AtomicUsize, AtomicUsize); DEPTH],
}

impl Default for Held {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    /// None.
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            locks: [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; DEPTH],
        }
    }

    /// The classes held.
    pub fn classes(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.count.load(Ordering::Relaxed).min(DEPTH);
        self.locks[..count].iter().map(|(class, _)| class.load(Ordering::Relaxed))
    }

    /// A lock was taken.
    pub fn push(&self, class: usize, address: usize) {
        let at = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some((own, whose)) = self.locks.get(at) {
            own.store(class, Ordering::Relaxed);
            whose.store(address, Ordering::Relaxed);
        }
    }

    /// A lock was let go of. One that was taken before this began is not known.
    pub fn pop(&self, address: usize) {
        let count = self.count.load(Ordering::Relaxed).min(DEPTH);
        let get = |at: usize| self.locks[at].1.load(Ordering::Relaxed);
        let Some(at) = (0..count).rev().find(|at| get(*at) == address) else { return };
        for i in at..count - 1 {
            let (class, next) = &self.locks[i + 1];
            self.locks[i].0.store(class.load(Ordering::Relaxed), Ordering::Relaxed);
            self.locks[i].1.store(next.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.count.store(count - 1, Ordering::Relaxed);
    }
}

#[cfg(feature = "order")]
pub(crate) use checked::{acquired, released, waits};

/// The checker at work: the kernel's one graph, and the running task's locks.
#[cfg(feature = "order")]
mod checked {
    use super::Graph;
    use core::panic::Location;
    use hal::irq::IrqOff;

    static GRAPH: Graph = Graph::new();

    /// The running task is about to wait for a lock that was made at `place`; `irq`: one that
    /// interrupt handlers take.
    #[track_caller]
    pub(crate) fn waits(place: &'static Location<'static>, irq: bool) {
        let mut wrong = None;
        let mut inside = None;
        {
            let _irq = IrqOff::new();
            let Some(class) = GRAPH.class(place) else { return };
            if irq {
                GRAPH.note_interrupts(class);
            }
            crate::hooks::with_held(&mut |held| {
                if !irq {
                    inside = held.classes().find(|first| GRAPH.in_interrupts(*first));
                }
                wrong = held.classes().find(|first| !GRAPH.before(*first, class));
            });
        }
        let class = || GRAPH.class(place).unwrap_or_default();
        if let Some(first) = inside {
            panic!("lock order: {}", Inside { first, class: class() });
        }
        if let Some(first) = wrong {
            panic!("lock order: {}", Meeting { first, class: class() });
        }
    }

    fn tell(f: &mut core::fmt::Formatter<'_>, class: usize) -> core::fmt::Result {
        match GRAPH.place(class) {
            Some(place) => write!(f, "the lock made at {place}"),
            None => write!(f, "a lock"),
        }
    }

    /// A lock that an interrupt may find held, under one that the interrupt takes.
    struct Inside {
        first: usize,
        class: usize,
    }

    impl core::fmt::Display for Inside {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            tell(f, self.class)?;
            f.write_str(", which an interrupt may find held, is taken under ")?;
            tell(f, self.first)?;
            f.write_str(", which interrupts take")
        }
    }

    /// Two orders that meet, in words: the one just now, and the steps of the one before.
    struct Meeting {
        first: usize,
        class: usize,
    }

    impl core::fmt::Display for Meeting {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            tell(f, self.class)?;
            f.write_str(" is taken under ")?;
            tell(f, self.first)?;
            f.write_str("; before, ")?;
            let mut at = self.class;
            tell(f, at)?;
            while at != self.first {
                let Some(next) = GRAPH.step(at, self.first) else { break };
                f.write_str(", then ")?;
                tell(f, next)?;
                at = next;
            }
            Ok(())
        }
    }

    /// The running task has taken the lock at `address`.
    pub(crate) fn acquired(place: &'static Location<'static>, address: usize) {
        let _irq = IrqOff::new();
        let Some(class) = GRAPH.class(place) else { return };
        crate::hooks::with_held(&mut |held| held.push(class, address));
    }

    /// The running task lets go of the lock at `address`.
    pub(crate) fn released(address: usize) {
        let _irq = IrqOff::new();
        crate::hooks::with_held(&mut |held| held.pop(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(graph: &Graph) -> [usize; 3] {
        let places = [Location::caller(), here(), there()];
        places.map(|place| graph.class(place).expect("room for three"))
    }

    #[track_caller]
    fn caller() -> &'static Location<'static> {
        Location::caller()
    }
    fn here() -> &'static Location<'static> {
        caller()
    }
    fn there() -> &'static Location<'static> {
        caller()
    }

    #[test]
    fn one_order_may_be_said_as_often_as_one_likes() {
        let graph = std::boxed::Box::new(Graph::new());
        let [a, b, c] = classes(&graph);
        for _ in 0..3 {
            assert!(graph.before(a, b) && graph.before(b, c) && graph.before(a, c));
        }
        assert!(graph.before(a, a));
    }

    #[test]
    fn the_opposite_order_is_found_directly_and_over_another_class() {
        let graph = std::boxed::Box::new(Graph::new());
        let [a, b, c] = classes(&graph);
        assert!(graph.before(a, b));
        assert!(!graph.before(b, a));
        let graph = std::boxed::Box::new(Graph::new());
        assert!(graph.before(a, b) && graph.before(b, c));
        assert!(!graph.before(c, a));
        assert_eq!((graph.step(a, c), graph.step(b, c)), (Some(b), Some(c)));
    }

    #[test]
    fn locks_are_let_go_of_in_any_order() {
        let held = Held::new();
        held.push(1, 0x10);
        held.push(2, 0x20);
        held.push(3, 0x30);
        held.pop(0x20);
        held.pop(0x99);
        assert_eq!(held.classes().collect::<std::vec::Vec<_>>(), [1, 3]);
        held.pop(0x30);
        held.pop(0x10);
        assert_eq!(held.classes().count(), 0);
    }
}
