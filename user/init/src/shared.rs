//! Memory that guest and host share (QEMU's ivshmem-plain device): what would take a serial port a
//! microsecond or more a byte is put there, and a line of the control channel says so.
//!
//! Its first half is the ring of what the guest sends, its second half that of what it is sent. Places
//! are counted from the beginning of time, and lie at their remainder. No kernel needs a driver: Linux
//! lets the device's memory be mapped by sysfs, Proxima gives it by /dev/mem.

use std::fs;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::control::Sender;
use crate::device::Memory;

/// QEMU's numbers of the device.
const VENDOR: &str = "0x1af4";
const DEVICE: &str = "0x1110";
/// The memory's line in the file `resource`.
const REGISTER: usize = 2;

/// Bytes that a line announces at most; the host takes no more for one.
pub const PIECE: usize = 64 * 1024;

/// The shared memory.
pub struct Shared {
    memory: Memory,
    /// Bytes of a ring.
    half: u64,
}

impl Shared {
    /// None where the machine has no such device, or the kernel does not give its memory.
    pub fn find() -> Option<Arc<Self>> {
        let devices = fs::read_dir("/sys/bus/pci/devices").ok()?;
        let memory = devices.flatten().find_map(|device| {
            let read = |name: &str| fs::read_to_string(device.path().join(name)).ok();
            let is = |name, number| read(name).is_some_and(|text| text.trim() == number);
            let ours = is("vendor", VENDOR) && is("device", DEVICE);
            let (start, len) = if ours { region(&read("resource")?)? } else { return None };
            Memory::open(&device.path().join(format!("resource{REGISTER}")), start, len)
        })?;
        let half = memory.len() / 2;
        Some(Arc::new(Self { memory, half }))
    }

    /// Reads what came at place `at` on, up to the ring's end; how much.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
        let (offset, len) = self.piece(at, bytes.len());
        self.memory.read(self.half + offset, &mut bytes[..len])?;
        Ok(len)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> std::io::Result<usize> {
        let (offset, len) = self.piece(at, bytes.len());
        self.memory.write(offset, &bytes[..len])?;
        Ok(len)
    }

    fn piece(&self, at: u64, want: usize) -> (u64, usize) {
        let offset = at % self.half;
        (offset, want.min((self.half - offset) as usize))
    }
}

/// First address and length of the device's memory in the text of a file `resource`.
fn region(text: &str) -> Option<(u64, u64)> {
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let mut words = text.lines().nth(REGISTER)?.split_whitespace().map_while(number);
    let (first, last) = (words.next()?, words.next()?);
    let len = last.checked_sub(first)? + 1;
    (first != 0 && len.is_power_of_two()).then_some((first, len))
}

/// The sending side of the guest's ring; clones share it.
#[derive(Clone)]
pub struct Outbox(Arc<Sending>);

struct Sending {
    shared: Arc<Shared>,
    control: Sender,
    /// Bytes that were sent. Held while bytes are put and announced, so that they come in order.
    sent: Mutex<u64>,
    /// Bytes that the host has taken.
    taken: Mutex<u64>,
    changed: Condvar,
}

impl Outbox {
    pub fn new(shared: Arc<Shared>, control: Sender) -> Self {
        let (sent, taken) = (Mutex::new(0), Mutex::new(0));
        Self(Arc::new(Sending { shared, control, sent, taken, changed: Condvar::new() }))
    }

    /// Sends all `bytes`, each piece announced by a line `TITLE LENGTH`; waits where there is no room.
    pub fn send(&self, title: &str, mut bytes: &[u8]) -> Result<(), String> {
        let own = &*self.0;
        let mut sent = own.sent.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            let room = (own.wait_for_room(*sent) as usize).min(bytes.len()).min(PIECE);
            let len = own.shared.write(*sent, &bytes[..room]);
            let len = len.map_err(|e| format!("shared memory: {e}"))?;
            *sent += len as u64;
            bytes = &bytes[len..];
            own.control.send(&format!("{title} {len}"))?;
        }
        Ok(())
    }

    /// The host has taken `total` bytes so far.
    pub fn taken(&self, total: u64) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = total;
        self.0.changed.notify_all();
    }
}

impl Sending {
    fn wait_for_room(&self, sent: u64) -> u64 {
        let full = |taken: &mut u64| sent - *taken == self.shared.half;
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.changed.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        self.shared.half - (sent - *taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_the_third_register() {
        let text = "0x00000000febf1000 0x00000000febf10ff 0x0000000000040200\n0x0 0x0 0x0\n\
                    0x00000000fe000000 0x00000000fe3fffff 0x000000000014220c\n";
        assert_eq!(region(text), Some((0xfe00_0000, 4 << 20)));
        assert_eq!(region("0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n"), None);
        assert_eq!(region(""), None);
    }
}
