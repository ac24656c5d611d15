//! Processes, threads, and the CPUs they run on.

use super::Maker;
use crate::ops::Kind;

impl Maker<'_> {
    pub(super) fn people(&mut self, worker: u64) {
        let free = self.alive.iter().position(|alive| !alive);
        match (self.random.below(10), free) {
            (0..4, Some(new)) if self.forks => {
                self.alive[new] = true;
                self.push(worker, Kind::Fork, &[new as u64]);
            }
            (4..7, Some(new)) if self.threads => {
                self.alive[new] = true;
                self.push(worker, Kind::Clone, &[new as u64]);
            }
            (7, _) if self.forks => self.push(worker, Kind::Exec, &[]),
            (8, _) if self.forks && worker != 0 => {
                self.alive[worker as usize] = false;
                self.push(worker, Kind::Exit, &[]);
            }
            _ => {}
        }
    }

    pub(super) fn pin(&mut self, worker: u64) {
        let cpus = self.machine.cpus();
        let cpu = if self.random.chance(1, 12) {
            self.random.of(&[cpus, 63, 1023, 5000])
        } else {
            self.random.below(cpus)
        };
        self.push(worker, Kind::Pin, &[cpu]);
    }

    pub(super) fn affinity(&mut self, worker: u64) {
        let mask = match self.random.below(4) {
            0 => 0,
            1 => 1 << self.random.below(self.machine.cpus().min(64)),
            _ => self.random.word() & self.random.word(),
        };
        let shape = self.random.of(&[0, 0, 0, 0, 1, 2, 3, 4]);
        let bytes = self.random.of(&[128, 128, 128, 128, 8, 0, 1, 7]);
        let who = self.who();
        self.push(worker, Kind::Affinity, &[who, mask, shape, bytes]);
    }
}
