//! The writer against a reader in the same thread, at every pace.

use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

struct Memory {
    data: RefCell<Vec<u8>>,
    head: Cell<u64>,
    tail: Cell<u64>,
}

impl Memory {
    fn new(size: usize) -> Self {
        Self { data: RefCell::new(vec![0xee; size]), head: Cell::new(0), tail: Cell::new(0) }
    }

    fn byte(&self, at: u64) -> u8 {
        let data = self.data.borrow();
        data[(at % data.len() as u64) as usize]
    }

    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.byte(at.wrapping_add(i as u64))))
    }
}

impl Area for Memory {
    fn size(&self) -> u64 {
        self.data.borrow().len() as u64
    }
    fn store(&self, offset: u64, bytes: &[u8]) {
        self.data.borrow_mut()[offset as usize..offset as usize + bytes.len()]
            .copy_from_slice(bytes);
    }
    fn tail(&self) -> u64 {
        self.tail.get()
    }
    fn publish(&self, head: u64) {
        self.head.set(head);
    }
}

/// Records of this test: size, kind (2 for LOST), and a number.
fn put(writer: &mut Writer, memory: &Memory, words: u64, number: u64) -> Outcome {
    let size = 16 + words * 8;
    writer.write(
        memory,
        size,
        16,
        |lost, slot| {
            slot.put(&(16u64 << 32 | 2).to_le_bytes());
            slot.put(&lost.to_le_bytes());
        },
        |slot| {
            slot.put(&(size << 32 | 9).to_le_bytes());
            slot.put(&number.to_le_bytes());
            for i in 0..words {
                slot.put(&(number ^ i).to_le_bytes());
            }
        },
    )
}

/// What the reader finds between tail and head: numbers of samples, and the sum of the LOST ones.
fn read(memory: &Memory, most: usize, got: &mut Vec<u64>) -> u64 {
    let mut lost = 0;
    for _ in 0..most {
        let tail = memory.tail.get();
        if tail == memory.head.get() {
            break;
        }
        let header = memory.word(tail);
        let number = memory.word(tail + 8);
        if header as u32 == 2 {
            lost += number;
        } else {
            assert_eq!(header as u32, 9);
            for i in 0..(header >> 32) / 8 - 2 {
                assert_eq!(memory.word(tail + 16 + i * 8), number ^ i);
            }
            got.push(number);
        }
        memory.tail.set(tail + (header >> 32));
    }
    lost
}

#[test]
fn a_reader_that_never_comes_loses_all_but_what_fits() {
    let memory = Memory::new(64);
    let mut writer = Writer::new(64, 0, Mode::default());
    let fates: Vec<bool> = (0..10)
        .map(|n| matches!(put(&mut writer, &memory, 0, n), Outcome::Written { .. }))
        .collect();
    // One byte must stay free: three of 16 bytes, not four.
    assert_eq!(fates.iter().filter(|&&w| w).count(), 3);
    assert_eq!(writer.unsaid(), 7);
    let mut got = Vec::new();
    assert_eq!(read(&memory, 100, &mut got), 0);
    assert_eq!(got, [0, 1, 2]);
    put(&mut writer, &memory, 0, 10);
    assert_eq!(read(&memory, 100, &mut got), 7);
    assert_eq!(got, [0, 1, 2, 10]);
}

#[test]
fn overwriting_backward_leaves_the_newest_at_the_head() {
    let memory = Memory::new(64);
    let mut writer = Writer::new(64, 0, Mode { overwrite: true, backward: true });
    for n in 0..9 {
        assert!(matches!(put(&mut writer, &memory, 0, n), Outcome::Written { .. }));
    }
    assert_eq!(writer.unsaid(), 0);
    let newest: Vec<u64> = (0..4).map(|i| memory.word(memory.head.get() + i * 16 + 8)).collect();
    assert_eq!(newest, [8, 7, 6, 5]);
}

#[test]
fn wakeups_come_by_bytes_and_by_samples() {
    let memory = Memory::new(256);
    let mut writer = Writer::new(256, 40, Mode { overwrite: true, backward: false });
    let wakes: Vec<bool> = (0..6)
        .map(|n| put(&mut writer, &memory, 0, n) == Outcome::Written { wake: true })
        .collect();
    assert_eq!(wakes, [false, false, true, false, false, true]);
    let every: Vec<bool> = (0..6).map(|_| writer.count_sample(3)).collect();
    assert_eq!(every, [false, false, true, false, false, true]);
}

#[test]
fn a_paused_buffer_takes_and_counts_nothing() {
    let memory = Memory::new(64);
    let mut writer = Writer::new(64, 0, Mode::default());
    writer.pause(true);
    assert_eq!(put(&mut writer, &memory, 0, 1), Outcome::Lost);
    assert_eq!(writer.unsaid(), 0);
    writer.pause(false);
    assert!(matches!(put(&mut writer, &memory, 0, 2), Outcome::Written { .. }));
}

#[test]
fn a_reader_that_lies_gets_nothing() {
    let memory = Memory::new(64);
    let mut writer = Writer::new(64, 0, Mode::default());
    memory.tail.set(1 << 40);
    assert_eq!(put(&mut writer, &memory, 0, 1), Outcome::Lost);
    memory.tail.set(0);
    assert!(matches!(put(&mut writer, &memory, 0, 2), Outcome::Written { .. }));
}

proptest! {
    #[test]
    fn every_record_is_read_once_or_counted_lost(
        steps in proptest::collection::vec((0u64..6, 0usize..4), 1..200),
        log in 6u32..10,
    ) {
        let memory = Memory::new(1 << log);
        let mut writer = Writer::new(1 << log, 0, Mode::default());
        let (mut got, mut lost) = (Vec::new(), 0);
        let mut written = Vec::new();
        for (number, (words, reads)) in steps.iter().enumerate() {
            if let Outcome::Written { .. } = put(&mut writer, &memory, *words, number as u64) {
                written.push(number as u64);
            }
            lost += read(&memory, *reads, &mut got);
        }
        lost += read(&memory, usize::MAX, &mut got);
        prop_assert_eq!(&got, &written);
        prop_assert_eq!(got.len() as u64 + lost + writer.unsaid(), steps.len() as u64);
    }
}
