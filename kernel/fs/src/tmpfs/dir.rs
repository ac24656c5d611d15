//! Names in a tmpfs directory.

use super::TmpInode;
use crate::inode::{Entry, Inode};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use frames::fallible::{TryMap, boxed_slice, ready_table};
use hashbrown::HashMap;

/// The names of a directory: by name for lookups, by cursor (order of creation) for readdir.
#[derive(Default)]
pub(super) struct Names {
    by_name: HashMap<Box<[u8]>, u64>,
    by_cursor: BTreeMap<u64, (Box<[u8]>, Arc<TmpInode>)>,
    next: u64,
    /// While the tree goes: the directory above, which is emptied after this one.
    above: Option<Arc<TmpInode>>,
}

impl Names {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        let cursor = self.by_name.get(name)?;
        self.by_cursor.get(cursor).map(|(_, inode)| inode)
    }

    /// Adds a name that is free. ENOMEM.
    pub(super) fn insert(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Result<()> {
        let cursor = self.next;
        let (key, listed) = (boxed_slice(name)?, boxed_slice(name)?);
        ready_table::<(Box<[u8]>, u64)>(self.by_name.len(), self.by_name.capacity())?;
        self.by_name.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.by_cursor.try_insert_in(cursor, (listed, inode))?;
        self.by_name.insert(key, cursor);
        self.next += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let cursor = self.by_name.remove(name)?;
        self.by_cursor.remove(&cursor).map(|(_, inode)| inode)
    }

    /// Puts another inode under a name that exists.
    pub(super) fn replace(&mut self, name: &[u8], inode: Arc<TmpInode>) {
        if let Some(entry) = self.by_name.get(name).and_then(|at| self.by_cursor.get_mut(at)) {
            entry.1 = inode;
        }
    }

    /// Takes any name out; which one does not matter any more.
    pub(super) fn pop(&mut self) -> Option<Arc<TmpInode>> {
        self.by_name.clear();
        self.by_cursor.pop_first().map(|(_, (_, inode))| inode)
    }

    /// Notes where to go on when this one is empty.
    pub(super) fn enter(&mut self, above: Arc<TmpInode>) {
        self.above = Some(above);
    }

    /// Takes that.
    pub(super) fn leave(&mut self) -> Option<Arc<TmpInode>> {
        self.above.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn emit(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) {
        for (&cursor, (name, inode)) in self.by_cursor.range(from..) {
            let base = inode.base();
            let (ino, kind) = (base.ino, base.file_type());
            if !emit(Entry { name, ino, kind, next: cursor + 1 }) {
                return;
            }
        }
    }
}
