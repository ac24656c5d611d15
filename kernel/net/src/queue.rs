//! Bytes of a stream on their way: pages that are filled at one end and emptied at the other.

use crate::memory::{Block, Pool};
use abi::{PAGE_SIZE, Result};
use alloc::collections::VecDeque;
use frames::fallible::Grow;
use hal::user::{Sink, Source};
use numa::NodeId;

struct Piece {
    block: Block,
    start: usize,
    end: usize,
}

/// A queue of bytes.
#[derive(Default)]
pub struct Queue {
    pieces: VecDeque<Piece>,
    len: usize,
    /// A page that was emptied, for the next one that is needed on its node.
    spare: Option<Block>,
    pool: Pool,
}

impl Queue {
    /// An empty queue, which has no memory.
    pub const fn new(pool: Pool) -> Self {
        Self { pieces: VecDeque::new(), len: 0, spare: None, pool }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages for `wanted` bytes, as far as they stand side by side.
    fn block(&mut self, node: NodeId, wanted: usize) -> Result<Block> {
        self.pieces.room_for(1)?;
        match self.spare.take() {
            Some(block) if block.node() == node && block.size() >= wanted => Ok(block),
            // Each stream goes on, be it page by page.
            _ if self.pieces.is_empty() && self.pool == Pool::Streams && self.pool.is_full() => {
                Block::anyway(node, 1, self.pool)
            }
            _ => Block::new(node, wanted, self.pool),
        }
    }

    /// Adds up to `most` bytes of `src`, in pages of `node`; how many. An error only when it was
    /// none: EFAULT, ENOMEM, ENOBUFS.
    pub fn fill(&mut self, src: &mut dyn Source, most: usize, node: NodeId) -> Result<usize> {
        let most = most.min(src.left());
        let mut done = 0;
        while done < most {
            if self.pieces.back().is_none_or(|last| last.end == last.block.size()) {
                match self.block(node, most - done) {
                    Ok(block) => self.pieces.push_back(Piece { block, start: 0, end: 0 }),
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            let Some(last) = self.pieces.back_mut() else { break };
            let room = last.block.bytes_mut(last.end);
            let want = (most - done).min(room.len());
            let got = src.get(&mut room[..want]);
            let n = *got.as_ref().unwrap_or(&0);
            last.end += n;
            self.len += n;
            done += n;
            if n < want {
                if last.start == last.end
                    && let Some(empty) = self.pieces.pop_back()
                {
                    self.keep(empty.block);
                }
                if let (Err(error), 0) = (got, done) {
                    return Err(error);
                }
                break;
            }
        }
        Ok(done)
    }

    /// Copies up to `most` bytes from the `from`th on to `dst`; how many. EFAULT when it was none.
    pub fn peek(&self, from: usize, dst: &mut dyn Sink, most: usize) -> Result<usize> {
        let most = most.min(dst.room()).min(self.len.saturating_sub(from));
        let (mut skip, mut done) = (from, 0);
        for piece in &self.pieces {
            let here = piece.end - piece.start;
            if skip >= here {
                skip -= here;
                continue;
            }
            let mut at = piece.start + skip;
            skip = 0;
            while at < piece.end && done < most {
                let bytes = piece.block.bytes(at);
                let want = (most - done).min(piece.end - at).min(bytes.len());
                let n = match dst.put(&bytes[..want]) {
                    Ok(n) => n,
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => 0,
                };
                done += n;
                at += n;
                if n < want {
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    /// Moves up to `most` bytes to `dst`; how many. EFAULT when it was none.
    pub fn drain(&mut self, dst: &mut dyn Sink, most: usize) -> Result<usize> {
        let most = most.min(dst.room());
        let mut done = 0;
        while done < most {
            let Some(first) = self.pieces.front() else { break };
            let bytes = first.block.bytes(first.start);
            let want = (most - done).min(first.end - first.start).min(bytes.len());
            match dst.put(&bytes[..want]) {
                Ok(n) => {
                    self.skip(n);
                    done += n;
                    if n < want {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Drops the first `count` bytes, or all.
    pub fn skip(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(first) = self.pieces.front_mut() {
            let step = left.min(first.end - first.start);
            first.start += step;
            left -= step;
            if first.start < first.end {
                break;
            }
            if let Some(empty) = self.pieces.pop_front() {
                self.keep(empty.block);
            }
        }
    }

    /// Keeps a page for the next time; several are too many to keep.
    fn keep(&mut self, block: Block) {
        if block.size() == PAGE_SIZE {
            self.spare = Some(block);
        }
    }

    /// Drops everything, with its memory.
    pub fn clear(&mut self) {
        *self = Self::new(self.pool);
    }

    /// The node of the page that was filled last.
    pub fn node(&self) -> Option<NodeId> {
        self.pieces.back().map(|piece| piece.block.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use hal::user::{KernelSink, KernelSource};
    use proptest::prelude::*;
    use std::collections::VecDeque as Model;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn an_empty_queue_keeps_one_page_and_a_cleared_one_none() {
        memory::for_tests();
        let mut queue = Queue::new(Pool::Streams);
        let data = vec![7; 3 * PAGE_SIZE + 5];
        assert_eq!(
            queue.fill(&mut KernelSource(&data), usize::MAX, memory::here()),
            Ok(data.len())
        );
        // Two pages side by side, and one each.
        assert_eq!(queue.pieces.len(), 3);
        queue.skip(data.len());
        assert!(queue.is_empty() && queue.spare.is_some());
        queue.clear();
        assert!(queue.spare.is_none());
    }

    proptest! {
        #[test]
        fn bytes_leave_as_they_came(steps in proptest::collection::vec((0usize..9000, 0usize..9000, 0u8..3), 1..40)) {
            memory::for_tests();
            let (mut queue, mut model) = (Queue::new(Pool::Streams), Model::new());
            let mut next = 0u8;
            for (put, take, how) in steps {
                let data: Vec<u8> = (0..put).map(|_| { next = next.wrapping_add(1); next }).collect();
                let most = put / 2 + 1;
                let n = queue.fill(&mut KernelSource(&data), most, memory::here()).unwrap();
                prop_assert_eq!(n, most.min(put));
                model.extend(&data[..n]);
                let mut out = vec![0; take];
                let from = take / 3;
                let got = match how {
                    0 => {
                        let got = queue.peek(from, &mut KernelSink::new(&mut out), take).unwrap();
                        prop_assert!(out[..got].iter().eq(model.iter().skip(from).take(got)));
                        prop_assert_eq!(got, take.min(model.len().saturating_sub(from)));
                        0
                    }
                    1 => queue.drain(&mut KernelSink::new(&mut out), take).unwrap(),
                    _ => { queue.skip(take); 0 }
                };
                if how == 1 {
                    prop_assert_eq!(got, take.min(model.len()));
                    prop_assert!(out[..got].iter().eq(model.iter().take(got)));
                    model.drain(..got);
                } else if how == 2 {
                    let n = take.min(model.len());
                    model.drain(..n);
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
