//! A virtio device of PCI behind its legacy interface (Virtual I/O Device 1.2, 4.1.4.10), of which one
//! queue is used, with one request at a time: a buffer for the device to read, and one for it to write.

use super::power::{inb, inl, inw, outb, outl, outw};
use crate::dma::Block;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Registers, by their distance from the first port.
const FEATURES: u16 = 4;
const QUEUE_PAGE: u16 = 8;
const QUEUE_SIZE: u16 = 12;
const QUEUE_SELECT: u16 = 14;
const QUEUE_NOTIFY: u16 = 16;
const STATUS: u16 = 18;
const QUEUE_VECTOR: u16 = 22;
/// The device's own configuration, where MSI-X is enabled.
const CONFIG: u16 = 24;
/// Bits of the status.
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Entries of the largest queue that [`RING_PAGES`] hold: descriptors of 16 bytes, two rings.
const LARGEST: u16 = 256;
/// Pages of a queue.
pub const RING_PAGES: u64 = 3;

/// The device, with its memory.
pub struct Device {
    ports: u16,
    memory: Memory,
    size: u16,
    /// Requests that were made, and those whose end was seen.
    made: u16,
    seen: u16,
}

/// What a device reads and writes.
pub struct Memory {
    /// Its queue: [`RING_PAGES`] at least.
    pub ring: Block,
    pub request: Block,
    pub reply: Block,
}

impl Device {
    /// Starts the device at `ports`, whose MSI-X is enabled: it interrupts by the first vector. None
    /// for a queue of another size, or one that cannot interrupt.
    pub fn start(ports: u16, memory: Memory) -> Option<Self> {
        const NO_VECTOR: u16 = 0xffff;
        outb(ports + STATUS, 0);
        outb(ports + STATUS, ACKNOWLEDGE);
        outb(ports + STATUS, ACKNOWLEDGE | DRIVER);
        let offered = inl(ports);
        /// VIRTIO_9P_F_MOUNT_TAG, the only one that is used.
        const TAG: u32 = 1;
        outl(ports + FEATURES, offered & TAG);
        outw(ports + QUEUE_SELECT, 0);
        let size = inw(ports + QUEUE_SIZE);
        let holds = memory.ring.len() as u64 >= RING_PAGES * abi::PAGE_SIZE as u64;
        if !holds || !size.is_power_of_two() || !(2..=LARGEST).contains(&size) {
            return None;
        }
        outw(ports + QUEUE_VECTOR, 0);
        if inw(ports + QUEUE_VECTOR) == NO_VECTOR {
            return None;
        }
        outl(ports + QUEUE_PAGE, u32::try_from(memory.ring.address().raw() >> 12).ok()?);
        outb(ports + STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
        Some(Self { ports, memory, size, made: 0, seen: 0 })
    }

    /// A byte of the device's configuration.
    pub fn config(&self, offset: u16) -> u8 {
        inb(self.ports + CONFIG + offset)
    }

    /// Hands over a request, of which there is none under way. The device has it until
    /// [`Device::is_done`]. False if there is no room for it.
    pub fn send(&mut self, request: &[u8]) -> bool {
        let Some(room) = self.memory.request.bytes_mut().get_mut(..request.len()) else {
            return false;
        };
        if self.made != self.seen {
            return false;
        }
        room.copy_from_slice(request);
        let request = (self.memory.request.address(), request.len() as u32);
        let reply = (self.memory.reply.address(), self.memory.reply.len() as u32);
        for (index, (at, len), flags) in [(0, request, NEXT), (1, reply, WRITE)] {
            let entry = index * 16;
            self.u64(entry).store(at.raw(), Ordering::Relaxed);
            self.u32(entry + 8).store(len, Ordering::Relaxed);
            self.u16(entry + 12).store(flags, Ordering::Relaxed);
            self.u16(entry + 14).store(1, Ordering::Relaxed);
        }
        let available = u64::from(self.size) * 16;
        let slot = u64::from(self.made % self.size);
        self.u16(available + 4 + slot * 2).store(0, Ordering::Relaxed);
        self.made = self.made.wrapping_add(1);
        // Who sees the count sees the entries.
        self.u16(available + 2).store(self.made, Ordering::Release);
        outw(self.ports + QUEUE_NOTIFY, 0);
        true
    }

    /// True if no request is under way.
    pub fn is_done(&self) -> bool {
        self.made == self.seen || self.u16(self.used() + 2).load(Ordering::Acquire) == self.made
    }

    /// The reply to the request that was done last; nothing while one is under way.
    pub fn reply(&mut self) -> &[u8] {
        if !self.is_done() {
            return &[];
        }
        let slot = u64::from(self.made.wrapping_sub(1) % self.size);
        self.seen = self.made;
        let len = self.u32(self.used() + 4 + slot * 8 + 4).load(Ordering::Relaxed) as usize;
        let reply = self.memory.reply.bytes();
        &reply[..len.min(reply.len())]
    }

    /// Where the ring of what is done begins: after the descriptors, and flags, count, entries and
    /// the event's place of the other ring: the next page.
    fn used(&self) -> u64 {
        let available = u64::from(self.size) * 16;
        (available + 6 + 2 * u64::from(self.size)).next_multiple_of(4096)
    }

    fn u16(&self, offset: u64) -> &AtomicU16 {
        // SAFETY: inside the ring, which is memory that the device and this value have for ever;
        // aligned, and read and written as atomics only.
        unsafe { &*self.word(offset) }
    }
    fn u32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: as `u16`.
        unsafe { &*self.word(offset) }
    }
    fn u64(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: as `u16`.
        unsafe { &*self.word(offset) }
    }
    fn word<T>(&self, offset: u64) -> *const T {
        self.memory.ring.at(offset).expect("RING_PAGES hold the largest queue")
    }
}
