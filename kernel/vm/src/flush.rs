//! The protocol of TLB shootdown, without a TLB: numbers, who follows them, who may be skipped.
//!
//! An address space counts its flushes ([`Clock`]); a CPU remembers up to which one it has followed
//! the address space that it has loaded ([`Follower`]). The initiator changes entries, advances the
//! clock, asks every follower that it cannot skip, and waits until each has followed or has let go.
//! Checked under loom: no order of events lets a CPU use a translation after the wait is over.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Counts the flushes of one address space.
pub struct Clock {
    newest: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// No flush yet.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { newest: AtomicU64::new(0) }
    }

    /// No flush yet.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { newest: AtomicU64::new(0) }
    }

    /// Entries were changed: the number of the flush that makes it true everywhere. What the
    /// caller reads after this (who follows, who is lazy) is newer than what it wrote before.
    pub fn advance(&self) -> u64 {
        let number = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        fence(Ordering::SeqCst);
        number
    }

    /// The number of the newest flush.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }
}

/// What one CPU has loaded, and how far it has followed it.
pub struct Follower {
    /// Id of the address space, 0 for none.
    space: AtomicU64,
    seen: AtomicU64,
    /// Only kernel code runs: flushes are caught up with later.
    lazy: AtomicBool,
}

impl Default for Follower {
    fn default() -> Self {
        Self::new()
    }
}

impl Follower {
    /// Nothing loaded.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { space: AtomicU64::new(0), seen: AtomicU64::new(0), lazy: AtomicBool::new(false) }
    }

    /// Nothing loaded.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { space: AtomicU64::new(0), seen: AtomicU64::new(0), lazy: AtomicBool::new(false) }
    }

    /// The address space that this CPU has loaded.
    #[inline]
    pub fn space(&self) -> u64 {
        self.space.load(Ordering::Acquire)
    }

    /// True while only kernel code runs on a loaded address space.
    #[inline]
    pub fn is_lazy(&self) -> bool {
        self.lazy.load(Ordering::SeqCst)
    }

    /// This CPU runs only kernel code from here on.
    #[inline]
    pub fn rest(&self) {
        self.lazy.store(true, Ordering::Release);
    }

    /// User code of the address space that is loaded already runs again; true when this CPU rested
    /// and may have been skipped: it must catch up before the first user instruction.
    #[inline]
    pub fn wake(&self) -> bool {
        if !self.lazy.load(Ordering::Relaxed) {
            return false;
        }
        self.lazy.store(false, Ordering::SeqCst);
        // Order: not lazy any more, then look for flushes that skipped us meanwhile.
        fence(Ordering::SeqCst);
        true
    }

    /// Loads an address space: `load` switches tables, dropping all translations. The CPU is in
    /// the set of followers already.
    pub fn enter(&self, space: u64, clock: &Clock, load: impl FnOnce()) {
        self.lazy.store(false, Ordering::Relaxed);
        self.space.store(space, Ordering::SeqCst);
        // Either the initiator sees us in the set, or we see what it changed.
        fence(Ordering::SeqCst);
        // Read before the tables are loaded: what is flushed later asks us again.
        let newest = clock.newest();
        load();
        self.seen.store(newest, Ordering::Release);
    }

    /// The tables of no address space are loaded any more (done by `unload`).
    pub fn leave(&self, unload: impl FnOnce()) {
        unload();
        // After the translations are gone, so that whoever reads it may rely on it.
        self.space.store(0, Ordering::Release);
    }

    /// How many flushes behind `newest` this CPU is.
    #[inline]
    pub fn behind(&self, newest: u64) -> u64 {
        newest.saturating_sub(self.seen.load(Ordering::Relaxed))
    }

    /// Follows up to `newest`: `flush` drops the translations.
    #[inline]
    pub fn follow(&self, newest: u64, flush: impl FnOnce()) {
        flush();
        // After the flush, so that whoever reads the number may rely on it.
        self.seen.store(newest, Ordering::Release);
    }

    /// True when this CPU cannot use translations of `space` from before flush `number`.
    #[inline]
    pub fn has_followed(&self, space: u64, number: u64) -> bool {
        self.space.load(Ordering::Acquire) != space || self.seen.load(Ordering::Acquire) >= number
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const SPACE: u64 = 7;

    /// One CPU, one page: the entry, the CPU's cached translation, and the page's fate.
    struct Machine {
        clock: Clock,
        cpu: Follower,
        /// The CPU is in the set of followers.
        member: AtomicBool,
        asked: AtomicBool,
        entry: AtomicBool,
        freed: AtomicBool,
    }

    fn machine() -> Arc<Machine> {
        Arc::new(Machine {
            clock: Clock::new(),
            cpu: Follower::new(),
            member: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            entry: AtomicBool::new(true),
            freed: AtomicBool::new(false),
        })
    }

    /// Unmaps the page, waits as a shootdown does, frees it.
    fn unmap_and_free(m: &Machine) {
        m.entry.store(false, Ordering::Release);
        let number = m.clock.advance();
        if m.member.load(Ordering::SeqCst) && !m.cpu.is_lazy() {
            m.asked.store(true, Ordering::Release);
            while !m.cpu.has_followed(SPACE, number) {
                thread::yield_now();
            }
        }
        m.freed.store(true, Ordering::Release);
    }

    fn use_page(m: &Machine, cached: bool) {
        // A cached translation must never lead to a freed page.
        assert!(!(cached && m.freed.load(Ordering::Acquire)), "a freed page was used");
    }

    fn serve(m: &Machine, cached: &mut bool) {
        if m.asked.load(Ordering::Acquire) {
            m.cpu.follow(m.clock.newest(), || *cached = false);
        }
    }

    #[test]
    fn a_running_cpu_never_uses_a_freed_page() {
        loom::model(|| {
            let m = machine();
            m.member.store(true, Ordering::SeqCst);
            m.cpu.enter(SPACE, &m.clock, || {});
            let other = m.clone();
            let initiator = thread::spawn(move || unmap_and_free(&other));
            let mut cached = m.entry.load(Ordering::Acquire);
            use_page(&m, cached);
            while cached {
                serve(&m, &mut cached);
                use_page(&m, cached);
                thread::yield_now();
            }
            // Let the initiator go on if it asked after the last look.
            m.cpu.leave(|| {});
            initiator.join().expect("the initiator");
        });
    }

    #[test]
    fn a_cpu_that_loads_the_space_meanwhile_is_not_forgotten() {
        loom::model(|| {
            let m = machine();
            let other = m.clone();
            let initiator = thread::spawn(move || unmap_and_free(&other));
            m.member.store(true, Ordering::SeqCst);
            let mut cached = false;
            m.cpu.enter(SPACE, &m.clock, || cached = m.entry.load(Ordering::SeqCst));
            use_page(&m, cached);
            serve(&m, &mut cached);
            use_page(&m, cached);
            m.cpu.leave(|| {});
            initiator.join().expect("the initiator");
        });
    }

    #[test]
    fn a_resting_cpu_catches_up_before_it_runs_user_code_again() {
        loom::model(|| {
            let m = machine();
            m.member.store(true, Ordering::SeqCst);
            m.cpu.enter(SPACE, &m.clock, || {});
            let mut cached = m.entry.load(Ordering::Acquire);
            m.cpu.rest();
            let other = m.clone();
            let initiator = thread::spawn(move || unmap_and_free(&other));
            if m.cpu.wake() && m.cpu.behind(m.clock.newest()) > 0 {
                m.cpu.follow(m.clock.newest(), || cached = false);
            }
            use_page(&m, cached);
            serve(&m, &mut cached);
            m.cpu.leave(|| {});
            initiator.join().expect("the initiator");
        });
    }
}
