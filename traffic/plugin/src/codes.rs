//! Numbers of instructions: given when code is translated, for good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use traffic::raw::Code;
use traffic::recorder::MOST_CODES;

/// By address. (Which address space translated it the interface does not tell.)
#[derive(Default)]
pub struct Codes(Mutex<HashMap<u64, u32>>);

impl Codes {
    /// The number of the instruction at `address`; 0 when all are given away.
    pub fn number(&self, address: u64) -> u32 {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = codes.len() + 1;
        if next >= MOST_CODES {
            return codes.get(&address).copied().unwrap_or(0);
        }
        *codes.entry(address).or_insert(next as u32)
    }

    /// All instructions with their numbers.
    pub fn all(&self) -> Vec<(u32, Code)> {
        let codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.iter().map(|(&address, &number)| (number, Code { space: 0, address })).collect()
    }
}
