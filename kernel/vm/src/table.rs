//! Page tables of user address spaces: finding slots, making and freeing tables, and what the
//! software bits of an entry mean.
//!
//! Leaf entries change under the address space's page-table lock of that address (see
//! [`crate::mm::Mm::pt_lock`]); upper entries are only added while the area tree is read-locked,
//! and removed while it is write-locked.

use crate::place;
use crate::{HUGE, PAGE};
use frames::Kind;
use hal::paging::{Pte, Slot, index};
use hal::{Pfn, VirtAddr};

/// The entry's page belongs to the kernel or is the zero page: no reference is held.
pub const SPECIAL: u64 = Pte::SOFT0;
/// Not present: the page is being migrated; the frame number is that of the page.
pub const MIGRATION: u64 = Pte::SOFT1;
/// Not present, but there is a page: its area allows no access.
pub const NO_ACCESS: u64 = Pte::SOFT2;

/// True for an entry of the second level that stands for a page of 2 MiB, which may be on its way
/// or allow no access, and not for a table.
#[inline]
pub fn is_huge(pte: Pte) -> bool {
    pte.has(Pte::LARGE)
}

/// The entry that stands for `pfn` while it is migrated, in the place of `was`.
#[inline]
pub fn migrating(pfn: Pfn, was: Pte) -> Pte {
    Pte::new(pfn, MIGRATION | was.0 & Pte::LARGE)
}

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    /// A page of the process, accessible or not.
    Page(Pfn),
    /// The zero page or a page of the kernel.
    Special(Pfn),
    /// A page under migration.
    Migrating(Pfn),
}

/// What `pte` stands for.
#[inline]
pub fn state(pte: Pte) -> State {
    if pte.0 == 0 {
        State::Empty
    } else if pte.has(MIGRATION) {
        State::Migrating(pte.frame())
    } else if pte.has(SPECIAL) {
        State::Special(pte.frame())
    } else {
        State::Page(pte.frame())
    }
}

/// The leaf slot of `addr`, if its tables exist, and what it holds: of the second level where a huge
/// page is.
///
/// A slot of the second level may get a table at any time (a transparent huge page is split), unless
/// its page-table lock is held: whoever does not hold it looks at this entry, and not at the slot.
#[inline]
pub fn find(root: Pfn, addr: u64) -> Option<(Slot, Pte)> {
    let va = VirtAddr::new(addr);
    let mut table = root;
    for level in [4, 3, 2] {
        let slot = Slot::of(table, index(va, level));
        let pte = slot.load();
        if level == 2 && is_huge(pte) {
            return Some((slot, pte));
        }
        if !pte.present() {
            return None;
        }
        table = pte.frame();
    }
    let slot = Slot::of(table, index(va, 1));
    Some((slot, slot.load()))
}

/// The slot of the second level of `addr`, if its table exists.
#[inline]
pub fn second_level(root: Pfn, addr: u64) -> Option<Slot> {
    let va = VirtAddr::new(addr);
    let mut table = root;
    for level in [4, 3] {
        let pte = Slot::of(table, index(va, level)).load();
        if !pte.present() {
            return None;
        }
        table = pte.frame();
    }
    Some(Slot::of(table, index(va, 2)))
}

/// True where the entry of the second level for `addr` is that of a huge page.
#[inline]
pub fn is_huge_at(root: Pfn, addr: u64) -> bool {
    second_level(root, addr).is_some_and(|slot| is_huge(slot.load()))
}

/// What the leaf entry of `addr` stands for.
#[inline]
pub fn state_at(root: Pfn, addr: u64) -> State {
    find(root, addr).map_or(State::Empty, |(_, pte)| state(pte))
}

/// The frame behind `addr`, whose leaf entry is `pte`.
#[inline]
pub fn part(pte: Pte, addr: u64) -> Pfn {
    let frames = if is_huge(pte) { HUGE / PAGE } else { 1 };
    Pfn::new(pte.frame().raw() + ((addr / PAGE) & (frames - 1)))
}

/// The slot of the second level of `addr`, making tables as [`lookup_or_make`] does. None without
/// memory, and where there is a table of small pages.
pub fn huge_slot(root: Pfn, addr: u64, made: impl FnMut()) -> Option<Slot> {
    let table = table_at(root, addr, 2, made)?;
    let slot = Slot::of(table, index(VirtAddr::new(addr), 2));
    let pte = slot.load();
    (is_huge(pte) || !pte.present()).then_some(slot)
}

/// The leaf slot of `addr`, making tables on the CPU's own node. None without memory, and where
/// there is a huge page. `made` is told each new table.
#[inline]
pub fn lookup_or_make(root: Pfn, addr: u64, made: impl FnMut()) -> Option<Slot> {
    let table = table_at(root, addr, 1, made)?;
    Some(Slot::of(table, index(VirtAddr::new(addr), 1)))
}

/// The table of level `lowest` for `addr`, made with those above it as needed. None without memory.
#[inline(always)]
fn table_at(root: Pfn, addr: u64, lowest: u32, mut made: impl FnMut()) -> Option<Pfn> {
    let va = VirtAddr::new(addr);
    let mut table = root;
    // `lowest` is a constant where this is called: no loop is left.
    for level in [4, 3, 2] {
        if level <= lowest {
            break;
        }
        let slot = Slot::of(table, index(va, level));
        let pte = slot.load();
        table = if level == 2 && is_huge(pte) {
            return None;
        } else if pte.present() {
            pte.frame()
        } else {
            let new = place::kernel_frame(Kind::PageTable)?;
            hal::phys::zero(new);
            let entry = Pte::new(new, Pte::PRESENT | Pte::WRITABLE | Pte::USER);
            match slot.replace(Pte::EMPTY, entry) {
                Ok(()) => {
                    made();
                    new
                }
                Err(there) => {
                    frames::free_one(new);
                    if level == 2 && is_huge(there) {
                        return None;
                    }
                    there.frame()
                }
            }
        };
    }
    Some(table)
}

/// The first address in `[at, end)` that has a leaf table, or a huge page; `end` without one. Skips
/// what an empty upper entry covers in one step. No table is freed meanwhile (the area tree is locked).
pub fn next_table(root: Pfn, mut at: u64, end: u64) -> u64 {
    'next: while at < end {
        let va = VirtAddr::new(at);
        let mut table = root;
        for level in [4u32, 3, 2] {
            let pte = Slot::of(table, index(va, level)).load();
            if level == 2 && is_huge(pte) {
                return at;
            }
            if !pte.present() {
                let span = 1u64 << (12 + 9 * (level - 1));
                at = (at & !(span - 1)).saturating_add(span);
                continue 'next;
            }
            table = pte.frame();
        }
        return at;
    }
    end
}

/// Calls `f` with what each leaf slot in `[start, end)` held at one moment, as [`for_each`] does. Needs
/// no lock beside the area tree's: where a table is, one stays.
pub fn for_each_entry(root: Pfn, start: u64, end: u64, mut f: impl FnMut(u64, Pte) -> bool) {
    let mut at = next_table(root, start, end);
    while at < end {
        let begin = at & !(HUGE - 1);
        let stop = end.min(begin + HUGE);
        let mut on = true;
        match find(root, at) {
            Some((_, pte)) if is_huge(pte) => on = f(begin, pte),
            Some(_) => for_each(root, at, stop, |at, slot| {
                on = f(at, slot.load());
                on
            }),
            None => {}
        }
        if !on {
            return;
        }
        at = next_table(root, stop, end);
    }
}

/// Calls `f` for every leaf slot in `[start, end)` whose table exists, by address; stops when `f`
/// returns false. A huge page is one slot, at the address where the page begins. The page-table lock
/// is held, or no huge page is split meanwhile.
pub fn for_each(root: Pfn, start: u64, end: u64, f: impl FnMut(u64, Slot) -> bool) {
    walk::<false>(root, start, end, f);
}

/// As [`for_each`], but after each 32 slots it stops also when somebody else wants this CPU: nobody
/// is to wait while all of a table is gone through under its lock. Where to go on; `end` when through.
pub fn for_each_in_turns(root: Pfn, start: u64, end: u64, f: impl FnMut(u64, Slot) -> bool) -> u64 {
    walk::<true>(root, start, end, f)
}

/// Walks leaf slots. Where to go on, as [`for_each_in_turns`] (with TURNS) and [`for_each`] (without)
/// stop.
#[inline(always)]
fn walk<const TURNS: bool>(
    root: Pfn,
    start: u64,
    end: u64,
    mut f: impl FnMut(u64, Slot) -> bool,
) -> u64 {
    const TURN: u64 = 32 * PAGE;
    let mut at = start;
    'next: while at < end {
        let va = VirtAddr::new(at);
        let mut table = root;
        let mut huge = false;
        for level in [4u32, 3, 2] {
            let pte = Slot::of(table, index(va, level)).load();
            if level == 2 && is_huge(pte) {
                huge = true;
                break;
            }
            if !pte.present() {
                let span = 1u64 << (12 + 9 * (level - 1));
                at = (at & !(span - 1)).saturating_add(span);
                continue 'next;
            }
            table = pte.frame();
        }
        let begin = at & !(HUGE - 1);
        let (mut slot, step, stop) = if huge {
            at = begin;
            (index(va, 2), HUGE, begin + HUGE)
        } else {
            (index(va, 1), PAGE, end.min(begin + HUGE))
        };
        loop {
            let turn = if TURNS { stop.min(at + TURN) } else { stop };
            // The only call of `f`, so that it is part of this loop.
            while at < turn {
                if !f(at, Slot::of(table, slot)) {
                    return at;
                }
                at += step;
                slot += 1;
            }
            if !TURNS || at >= stop {
                break;
            }
            if hal::preempt::is_wanted() {
                return at;
            }
        }
    }
    end
}

/// Takes out the tables on the way to `[start, end)` that serve only addresses in
/// `[floor, ceiling)`, where nothing is mapped; `gone` gets them, to be freed once no CPU can walk
/// them any more. All their leaves are empty.
pub fn detach_tables(
    root: Pfn,
    range: (u64, u64),
    floor: u64,
    ceiling: u64,
    gone: &mut impl FnMut(Pfn),
) {
    detach_level(root, 4, 0, range, (floor, ceiling), gone);
}

fn detach_level(
    table: Pfn,
    level: u32,
    base: u64,
    range: (u64, u64),
    free: (u64, u64),
    gone: &mut impl FnMut(Pfn),
) {
    let span = 1u64 << (12 + 9 * (level - 1));
    let first = range.0.saturating_sub(base) / span;
    let last = (range.1 - 1 - base) / span;
    for i in first..=last.min(511) {
        let start = base + i * span;
        let slot = Slot::of(table, i as usize);
        let pte = slot.load();
        if !pte.present() {
            continue;
        }
        if level > 2 {
            detach_level(pte.frame(), level - 1, start, range, free, gone);
        }
        if start >= free.0 && start + span <= free.1 {
            slot.store(Pte::EMPTY);
            gone(pte.frame());
        }
    }
}
