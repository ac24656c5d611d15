//! Numbers of instructions: given when code is translated, for good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use traffic::raw::Code;
use traffic::recorder::MOST_CODES;

/// By what they are: code of a file has one number wherever and by whomever it is mapped.
#[derive(Default)]
pub struct Codes(Mutex<HashMap<Code, u32>>);

impl Codes {
    /// The number of an instruction; 0 when all are given away.
    pub fn number(&self, code: Code) -> u32 {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = codes.len() + 1;
        if next >= MOST_CODES {
            return codes.get(&code).copied().unwrap_or(0);
        }
        *codes.entry(code).or_insert(next as u32)
    }

    /// All instructions with their numbers.
    pub fn all(&self) -> Vec<(u32, Code)> {
        let codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.iter().map(|(&code, &number)| (number, code)).collect()
    }
}
