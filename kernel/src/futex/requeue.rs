//! Waking some waiters and moving the others to another word; waking with an operation.

use super::key::{self, Key};
use super::{ANY, table, wait};
use abi::{Errno, Result};
use hal::VirtAddr;

/// FUTEX_REQUEUE, and FUTEX_CMP_REQUEUE with `expected`: how many were woken or moved. EAGAIN when
/// the word is not as expected.
pub fn requeue(
    from: (VirtAddr, bool),
    to: (VirtAddr, bool),
    wake: i32,
    requeue: i32,
    expected: Option<u32>,
) -> Result<i32> {
    if wake < 0 || requeue < 0 {
        return Err(Errno::EINVAL);
    }
    let key1 = Key::of(from.0, from.1)?;
    let key2 = Key::of(to.0, to.1)?;
    loop {
        let (mut list, mut other) = table::lock_both(&key1, &key2);
        if let Some(expected) = expected {
            match key::peek(from.0) {
                Some(now) if now != expected => return Err(Errno::EAGAIN),
                Some(_) => {}
                None => {
                    drop((list, other));
                    key::make_present(from.0, false)?;
                    continue;
                }
            }
        }
        let (mut woken, mut moved, mut at) = (0, 0, 0);
        let end = list.entries().len();
        let mut seen = 0;
        while seen < end && woken + moved < wake.saturating_add(requeue) {
            seen += 1;
            let Some((k, waiter)) = list.entries().get(at) else { break };
            if *k != key1 {
                at += 1;
                continue;
            }
            if waiter.pi {
                return Err(Errno::EINVAL);
            }
            if woken < wake {
                list.take(at).wake();
                woken += 1;
            } else {
                list.requeue(at, key2, other.as_mut())?;
                moved += 1;
            }
        }
        return Ok(woken + moved);
    }
}

/// The operation of FUTEX_WAKE_OP.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    kind: u32,
    compare: u32,
    operand: i32,
    against: i32,
}

impl Operation {
    /// From the call's last argument. ENOSYS for what does not exist.
    pub fn decode(word: u32) -> Result<Self> {
        const SHIFT: u32 = 8;
        let kind = word >> 28;
        let sign_extended = |v: u32| ((v << 20) as i32) >> 20;
        let operand = sign_extended(word >> 12 & 0xfff);
        let operand = if kind & SHIFT != 0 { 1i32.wrapping_shl(operand as u32) } else { operand };
        let operation = Self {
            kind: kind & 7,
            compare: word >> 24 & 0xf,
            operand,
            against: sign_extended(word & 0xfff),
        };
        if operation.kind > 4 || operation.compare > 5 { Err(Errno::ENOSYS) } else { Ok(operation) }
    }

    fn apply(&self, old: u32) -> u32 {
        let operand = self.operand as u32;
        match self.kind {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            _ => old ^ operand,
        }
    }

    fn holds(&self, old: u32) -> bool {
        let old = old as i32;
        match self.compare {
            0 => old == self.against,
            1 => old != self.against,
            2 => old < self.against,
            3 => old <= self.against,
            4 => old > self.against,
            _ => old >= self.against,
        }
    }
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its old
/// value compares as wanted.
pub fn wake_op(
    first: VirtAddr,
    second: VirtAddr,
    shared: bool,
    count: i32,
    count2: i32,
    operation: Operation,
) -> Result<i32> {
    let key1 = Key::of(first, shared)?;
    let key2 = Key::of(second, shared)?;
    loop {
        let (mut list, mut other) = table::lock_both(&key1, &key2);
        let Ok(old) = hal::usercopy::update_u32(second, |old| operation.apply(old)) else {
            drop((list, other));
            key::make_present(second, true)?;
            continue;
        };
        let mut woken = wait::wake_in(&mut list, &key1, count, ANY)?;
        if operation.holds(old) {
            let list2 = other.as_mut().unwrap_or(&mut list);
            woken += wait::wake_in(list2, &key2, count2, ANY)?;
        }
        return Ok(woken);
    }
}
