//! Operations on what memory may be mapped from: memfds, files, System V segments.

use super::{Maker, Range};
use crate::arena::PAGE;
use crate::block::OBJECTS;
use crate::ops::Kind;

impl Maker<'_> {
    pub(super) fn object(&mut self) -> Option<(u64, (u64, u64))> {
        let made: Vec<_> = (0..)
            .zip(self.objects)
            .filter_map(|(number, object)| Some((number, object?)))
            .filter(|(_, (kind, _))| *kind != 2)
            .collect();
        (!made.is_empty()).then(|| self.random.of(&made))
    }

    pub(super) fn objects(&mut self, worker: u64) {
        let number = self.random.below(OBJECTS as u64);
        let Some((kind, length)) = self.objects[number as usize] else {
            let (kind, pages) = (self.random.below(3), 1 + self.random.below(64));
            self.objects[number as usize] = Some((kind, pages));
            return self.push(worker, Kind::Object, &[number, kind, pages, 0]);
        };
        if kind == 2 {
            if self.random.chance(2, 3) {
                let (at, flags) = (self.fresh(), self.random.of(&[0, 0, 0, 0o10_000, 0o40_000]));
                self.ranges.push(Range { at, pages: length, unit: 1 });
                return self.push(worker, Kind::Shmat, &[number, at, flags]);
            }
            let at = self.old().at;
            return self.push(worker, Kind::Shmdt, &[at]);
        }
        let page = self.random.below(length + 1);
        let pages = 1 + self.random.below(16);
        match self.random.below(8) {
            0 => {
                let bytes = self.random.below(length * 2) * PAGE + self.random.of(&[0, 0, 100]);
                self.push(worker, Kind::Truncate, &[number, bytes]);
            }
            1 | 2 => {
                // Nothing, KEEP_SIZE, both with PUNCH_HOLE, and what tmpfs refuses.
                let mode = self.random.of(&[0, 1, 3, 3, 2, 8, 16, 99]);
                if mode < 2 && !self.spend(pages) {
                    return;
                }
                let args = [number, mode, page * PAGE, pages * PAGE];
                self.push(worker, Kind::Fallocate, &args);
            }
            how => {
                if !self.spend(pages) {
                    return;
                }
                let value = self.random.below(1000);
                let how = u64::from(how > 5);
                self.push(worker, Kind::Transfer, &[number, page, pages, how, value]);
            }
        }
    }
}
