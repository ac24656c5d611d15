//! A forced write against MADV_DONTNEED (with a read after it, which maps the file's page again), against
//! a migration, and against a collapse into a huge page: the real rule and the real counting, over a model of one entry and its pages.

use super::{Mapped, hold_own};
use frames::refs::{Refs, Word};
use loom::sync::atomic::{AtomicBool, AtomicU32};
use loom::sync::{Arc, Mutex, RwLock};
use loom::thread;
use std::sync::atomic::Ordering;
use std::vec::Vec;

struct Counted(AtomicU32);

impl Word for Counted {
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }
    fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }
    fn add(&self, by: u32, order: Ordering) -> u32 {
        self.0.fetch_add(by, order)
    }
    fn sub(&self, by: u32, order: Ordering) -> u32 {
        self.0.fetch_sub(by, order)
    }
    fn exchange(&self, old: u32, new: u32) -> Result<u32, u32> {
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
    }
}

/// The pages of the model: the file's, the program's copy, what a migration moves that to, and a copy
/// that a write makes where there is none.
const FILE: usize = 0;
const COPY: usize = 1;
const TARGET: usize = 2;
const FRESH: usize = 3;

const BEFORE: u32 = 1;
const WRITTEN: u32 = 2;
const FREED: u32 = 3;

struct Frame {
    refs: Refs<Counted>,
    /// Read and written without any order of their own.
    bytes: AtomicU32,
}

impl Frame {
    fn new(refs: u32) -> Self {
        let refs = Refs::new(Counted(AtomicU32::new(refs)));
        Self { refs, bytes: AtomicU32::new(BEFORE) }
    }
    fn read(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed)
    }
    fn write(&self, value: u32) {
        self.bytes.store(value, Ordering::Relaxed);
    }
    fn put(&self) {
        if self.refs.put() {
            self.write(FREED);
            // At once another program has it.
            self.refs.set(1);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Empty,
    Page(usize),
    Migrating(usize),
}

/// What the writer does as it should; each can be left out, to see that it is needed.
#[derive(Clone, Copy)]
struct Rules {
    /// Asks whether the page is its own.
    asks: bool,
    /// Holds the page.
    holds: bool,
    /// Looks at the entry anew when it holds the lock.
    anew: bool,
}

const ALL: Rules = Rules { asks: true, holds: true, anew: true };

struct World {
    /// The area tree's lock: faults read, a collapse writes.
    tree: RwLock<()>,
    /// The entry, under its page table's lock.
    entry: Mutex<Entry>,
    frames: [Frame; 4],
    written: AtomicBool,
}

struct Look<'a> {
    world: &'a World,
    page: usize,
    rules: Rules,
}

impl Mapped for Look<'_> {
    type Page = usize;
    fn is_anonymous(&self) -> bool {
        self.page != FILE || !self.rules.asks
    }
    fn is_writable(&self) -> bool {
        !self.rules.asks
    }
    fn is_alone(&self) -> bool {
        self.world.frames[self.page].refs.count() == 1
    }
    fn hold(&self) -> Option<usize> {
        let held = !self.rules.holds || self.world.frames[self.page].refs.try_get();
        held.then_some(self.page)
    }
}

impl World {
    fn new() -> Arc<Self> {
        // The page cache has the file's page; the entry has the copy.
        let frames = [Frame::new(1), Frame::new(1), Frame::new(1), Frame::new(1)];
        let entry = Mutex::new(Entry::Page(COPY));
        Arc::new(Self { tree: RwLock::new(()), entry, frames, written: AtomicBool::new(false) })
    }

    /// What the write fault does: a copy where there is none, and a wait for a migration. None: again.
    fn make_ready(&self) -> Option<usize> {
        let _tree = self.tree.read().unwrap();
        let mut entry = self.entry.lock().unwrap();
        match *entry {
            Entry::Page(FILE) => {
                *entry = Entry::Page(FRESH);
                self.frames[FILE].put();
                Some(FRESH)
            }
            Entry::Empty => {
                *entry = Entry::Page(FRESH);
                Some(FRESH)
            }
            Entry::Page(page) => Some(page),
            Entry::Migrating(_) => None,
        }
    }

    fn write(&self, rules: Rules) {
        loop {
            let Some(ready) = self.make_ready() else {
                thread::yield_now();
                continue;
            };
            let page = {
                let entry = self.entry.lock().unwrap();
                match *entry {
                    _ if !rules.anew => hold_own(false, &Look { world: self, page: ready, rules }),
                    Entry::Page(page) => hold_own(false, &Look { world: self, page, rules }),
                    _ => None,
                }
            };
            let Some(page) = page else {
                thread::yield_now();
                continue;
            };
            let frame = &self.frames[page];
            assert_ne!(frame.read(), FREED, "another program's page was written");
            frame.write(WRITTEN);
            self.written.store(true, Ordering::Release);
            if rules.holds {
                frame.put();
            }
            return;
        }
    }

    /// MADV_DONTNEED, and a read that maps the file's page.
    fn discard_and_read(&self) {
        let was = {
            let mut entry = self.entry.lock().unwrap();
            std::mem::replace(&mut *entry, Entry::Empty)
        };
        if let Entry::Page(page) = was {
            self.frames[page].put();
        }
        let mut entry = self.entry.lock().unwrap();
        if *entry == Entry::Empty {
            self.frames[FILE].refs.get();
            *entry = Entry::Page(FILE);
        }
    }

    /// Moves the copy, as `migrate` does.
    fn migrate(&self) {
        {
            let mut entry = self.entry.lock().unwrap();
            if *entry != Entry::Page(COPY) {
                return;
            }
            *entry = Entry::Migrating(COPY);
        }
        let old = &self.frames[COPY];
        let frozen = old.refs.freeze(1);
        if frozen {
            self.frames[TARGET].write(old.read());
        }
        let mut entry = self.entry.lock().unwrap();
        let still = *entry == Entry::Migrating(COPY);
        if !frozen {
            if still {
                *entry = Entry::Page(COPY);
            } else {
                drop(entry);
                old.put();
            }
            return;
        }
        if still {
            *entry = Entry::Page(TARGET);
        }
        drop(entry);
        old.refs.unfreeze(1);
        old.put();
    }

    /// Copies the page to a huge one, as `collapse` does; `looks`: whether somebody holds it.
    fn collapse(&self, looks: bool) {
        let _tree = self.tree.write().unwrap();
        {
            let mut entry = self.entry.lock().unwrap();
            if *entry != Entry::Page(COPY) {
                return;
            }
            *entry = Entry::Empty;
        }
        let old = &self.frames[COPY];
        if looks && old.refs.count() != 1 {
            *self.entry.lock().unwrap() = Entry::Page(COPY);
            return;
        }
        self.frames[TARGET].write(old.read());
        *self.entry.lock().unwrap() = Entry::Page(TARGET);
        old.put();
    }

    /// The file is as it was, whatever happened.
    fn check_file(&self) {
        assert_eq!(self.frames[FILE].read(), BEFORE, "the file's page was written");
    }
}

fn against(rules: Rules, discards: bool, migrates: bool) {
    loom::model(move || {
        let world = World::new();
        let mut threads = Vec::new();
        if discards {
            let other = world.clone();
            threads.push(thread::spawn(move || other.discard_and_read()));
        }
        if migrates {
            let other = world.clone();
            threads.push(thread::spawn(move || other.migrate()));
        }
        world.write(rules);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        world.check_file();
        assert!(world.written.load(Ordering::Acquire));
        let Entry::Page(page) = *world.entry.lock().unwrap() else { return };
        if !discards {
            assert_eq!(world.frames[page].read(), WRITTEN, "the write was lost");
        }
    });
}

#[test]
fn a_migration_loses_no_write() {
    against(ALL, false, true);
}

#[test]
fn a_page_that_goes_meanwhile_is_not_written_nor_the_files() {
    against(ALL, true, false);
}

#[test]
fn both_at_once() {
    against(ALL, true, true);
}

fn against_collapse(looks: bool) {
    loom::model(move || {
        let world = World::new();
        let other = world.clone();
        let thread = thread::spawn(move || other.collapse(looks));
        world.write(ALL);
        thread.join().unwrap();
        let Entry::Page(page) = *world.entry.lock().unwrap() else { panic!("no page is there") };
        assert_eq!(world.frames[page].read(), WRITTEN, "the write was lost");
    });
}

#[test]
fn a_collapse_loses_no_write() {
    against_collapse(true);
}

#[test]
#[should_panic]
fn a_collapse_that_does_not_look_who_holds_a_page_loses_the_write() {
    against_collapse(false);
}

#[test]
#[should_panic]
fn without_a_hold_a_migration_loses_the_write() {
    against(Rules { holds: false, ..ALL }, false, true);
}

#[test]
#[should_panic]
fn without_a_hold_another_programs_page_is_written() {
    against(Rules { holds: false, ..ALL }, true, false);
}

#[test]
#[should_panic(expected = "the file's page was written")]
fn without_the_question_the_files_page_is_written() {
    against(Rules { asks: false, ..ALL }, true, false);
}

#[test]
#[should_panic]
fn without_a_new_look_another_programs_page_is_written() {
    against(Rules { anew: false, ..ALL }, true, false);
}
