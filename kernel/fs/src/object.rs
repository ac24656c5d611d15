//! File contents in memory: the memory objects of the layer below.

use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::user::{Sink, Source};
use sync::Mutex;

/// Stand-in until the layer below has memory objects.
pub struct MemObject(Mutex<Vec<u8>>);
/// Kinds of memory objects.
pub enum ObjectKind {
    /// tmpfs and memfd.
    Tmpfs,
}

impl MemObject {
    pub fn new(_kind: ObjectKind) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::new())))
    }
    pub fn len(&self) -> u64 {
        self.0.lock().len() as u64
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.0.lock().resize(len as usize, 0);
        Ok(())
    }
    pub fn read_at(&self, off: u64, dst: &mut dyn Sink, max: usize) -> Result<usize> {
        let data = self.0.lock();
        let at = (off as usize).min(data.len());
        let end = at + max.min(data.len() - at);
        dst.put(&data[at..end])
    }
    pub fn write_at(&self, off: u64, src: &mut dyn Source, max: usize) -> Result<usize> {
        let mut data = self.0.lock();
        let n = max.min(src.left());
        let end = off as usize + n;
        if data.len() < end {
            data.resize(end, 0);
        }
        src.get(&mut data[off as usize..end])
    }
    pub fn resident_pages(&self) -> u64 {
        self.0.lock().len().div_ceil(4096) as u64
    }
    pub fn punch_hole(&self, off: u64, len: u64) -> Result<()> {
        let mut data = self.0.lock();
        let end = ((off + len) as usize).min(data.len());
        let off = (off as usize).min(end);
        data[off..end].fill(0);
        Ok(())
    }
    pub fn reserve(&self, _off: u64, _len: u64) -> Result<()> {
        Ok(())
    }
}
