//! Writer and reader on two threads: every order of their loads and stores.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Words, so that each record is one word.
struct Memory {
    words: [AtomicU64; 2],
    head: AtomicU64,
    tail: AtomicU64,
}

impl Area for Memory {
    fn size(&self) -> u64 {
        16
    }
    fn store(&self, offset: u64, bytes: &[u8]) {
        let word = u64::from_le_bytes(bytes.try_into().expect("one word"));
        self.words[offset as usize / 8].store(word, Relaxed);
    }
    fn tail(&self) -> u64 {
        self.tail.load(Acquire)
    }
    fn publish(&self, head: u64) {
        self.head.store(head, Release);
    }
}

/// A LOST record's word: the number above this bit.
const LOST: u64 = 1 << 32;

#[test]
fn a_reader_sees_whole_records_in_order_and_every_loss_is_counted() {
    const RECORDS: u64 = 3;
    loom::model(|| {
        let new = || AtomicU64::new(u64::MAX);
        let memory = Arc::new(Memory {
            words: [new(), new()],
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
        });
        let reader = {
            let memory = memory.clone();
            loom::thread::spawn(move || drain(&memory, 2))
        };
        let mut writer = Writer::new(16, 0, Mode::default());
        for number in 0..RECORDS {
            writer.write(
                &*memory,
                8,
                8,
                |lost, slot| slot.put(&(LOST + lost).to_le_bytes()),
                |slot| slot.put(&number.to_le_bytes()),
            );
        }
        let (mut got, mut lost) = reader.join().expect("the reader ends");
        let (rest, more) = drain(&memory, 8);
        got.extend(rest);
        lost += more;
        assert!(got.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(got.iter().all(|&n| n < RECORDS));
        assert_eq!(got.len() as u64 + lost + writer.unsaid(), RECORDS);
    });
}

fn drain(memory: &Memory, looks: usize) -> (std::vec::Vec<u64>, u64) {
    let (mut got, mut lost) = (std::vec::Vec::new(), 0);
    for _ in 0..looks {
        let head = memory.head.load(Acquire);
        let tail = memory.tail.load(Relaxed);
        if head == tail {
            continue;
        }
        let word = memory.words[(tail % 16) as usize / 8].load(Relaxed);
        if word >= LOST {
            lost += word - LOST
        } else {
            got.push(word)
        }
        memory.tail.store(tail + 8, Release);
    }
    (got, lost)
}
