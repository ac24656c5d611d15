//! Lines that CPUs take from each other: who, with which code, and which bytes.
//!
//! Only accesses that had to fetch the line from another CPU's cache, or to take it away from
//! others, are looked at. Fixed tables; where one is full, the line that moves least gives way, once
//! others have asked for its place as often as it moved.

use crate::cache::Line;
use std::collections::BTreeMap;

/// Lines that a CPU remembers.
const LINES: usize = 1 << 13;
/// Places looked at for a line.
const PROBES: usize = 16;
/// Instructions remembered for a line and a CPU.
pub const CODES: usize = 4;

/// What one CPU did to a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The line + 1; 0 is a free place.
    key: u64,
    /// Where in its address space: space and address of the line's first byte.
    pub space: u32,
    pub address: u64,
    pub reads: u64,
    pub writes: u64,
    /// Bytes read and written, a bit each.
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Instructions (slots) with their counts.
    pub codes: [(u32, u64); CODES],
    /// How often others may still ask for this place.
    age: u64,
}

/// The lines of one CPU.
pub struct Contended {
    sides: Box<[Side]>,
    pub lost: u64,
}

impl Default for Contended {
    fn default() -> Self {
        Self { sides: vec![Side::default(); LINES].into_boxed_slice(), lost: 0 }
    }
}

/// An access to a line.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    pub line: Line,
    pub space: u32,
    pub address: u64,
    pub size: u64,
    pub store: bool,
    pub code: u32,
}

impl Contended {
    pub fn add(&mut self, touch: &Touch) {
        let key = touch.line + 1;
        let start = (touch.line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        let places = (start..start + PROBES).map(|at| at % LINES);
        let free = |side: &Side| side.key == key || side.key == 0;
        let at = match places.clone().find(|&at| free(&self.sides[at])) {
            Some(at) => at,
            None => {
                let Some(least) = places.min_by_key(|&at| self.sides[at].age) else { return };
                let side = &mut self.sides[least];
                if side.age > 1 {
                    side.age -= 1;
                    self.lost += 1;
                    return;
                }
                self.lost += side.reads + side.writes;
                *side = Side::default();
                least
            }
        };
        let side = &mut self.sides[at];
        side.key = key;
        side.age += 1;
        side.space = touch.space;
        side.address = touch.address & !63;
        let first = touch.address & 63;
        let mask = bytes(first, touch.size.min(64 - first));
        if touch.store {
            side.writes += 1;
            side.written_bytes |= mask;
        } else {
            side.reads += 1;
            side.read_bytes |= mask;
        }
        let codes = &mut side.codes;
        if let Some(code) = codes.iter_mut().find(|c| c.1 == 0 || c.0 == touch.code) {
            *code = (touch.code, code.1 + 1);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (Line, &Side)> {
        self.sides.iter().filter(|side| side.key != 0).map(|side| (side.key - 1, side))
    }
}

/// A bit for each of `count` bytes from `first` on.
fn bytes(first: u64, count: u64) -> u64 {
    let ones = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
    ones << first
}

/// Whether CPUs touch the same bytes of a line, of which one writes them: true sharing. Else the
/// line is shared without need.
pub fn is_true(sides: &BTreeMap<usize, (u64, u64)>) -> bool {
    sides.iter().any(|(cpu, (_, written))| {
        sides.iter().any(|(other, (read, wrote))| cpu != other && written & (read | wrote) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_line_share_it_falsely_and_the_same_word_truly() {
        let mut table = Contended::default();
        let touch = |address, store| Touch { line: 9, space: 0, address, size: 8, store, code: 3 };
        table.add(&touch(0x1008, true));
        table.add(&touch(0x1008, false));
        let (line, side) = table.all().next().unwrap();
        assert_eq!((line, side.address, side.reads, side.writes), (9, 0x1000, 1, 1));
        assert_eq!((side.read_bytes, side.codes[0]), (0xff00, (3, 2)));
        let sides = |other| [(0, (0xff00, 0xff00)), (1, (0, other))].into();
        assert!(!is_true(&sides(0xff)));
        assert!(is_true(&sides(0x8000)));
        assert_eq!(bytes(0, 64), u64::MAX);
    }

    #[test]
    fn in_a_full_table_lines_that_move_often_stay_and_the_rest_is_counted() {
        let mut table = Contended::default();
        let mut add = |line| {
            table.add(&Touch { line, space: 0, address: 0, size: 1, store: true, code: 0 });
        };
        (0..2 * LINES as u64).for_each(&mut add);
        // Ten lines come late and often, between ones that come once.
        let hot = |line: u64| line >= 1 << 40;
        for round in 0..200 {
            (0..10).for_each(|line| add((1 << 40) + line));
            (0..100).for_each(|line| add((1 << 30) + 100 * round + line));
        }
        let kept = table.all().filter(|(line, side)| hot(*line) && side.writes > 190).count();
        assert_eq!(kept, 10);
        let held: u64 = table.all().map(|(_, side)| side.writes).sum();
        assert_eq!(held + table.lost, 2 * LINES as u64 + 200 * 110);
    }
}
