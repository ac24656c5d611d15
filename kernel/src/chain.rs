//! Shared objects in a chain through themselves, so that none needs memory to be in it: for what
//! interrupts and the dying leave to others.

use alloc::sync::Arc;
use core::marker::PhantomData;
use sync::IrqLock;

/// The place in an object that keeps the next one of a chain.
pub type Link<T> = IrqLock<Option<Arc<T>>>;

/// What can be in a chain of the kind `K`: in one of each kind at a time.
pub trait Chained<K>: Sized {
    /// The link, which the chain alone uses.
    fn link(&self) -> &Link<Self>;
}

/// The objects that were pushed, the last one first.
pub struct Chain<T: Chained<K>, K> {
    last: Option<Arc<T>>,
    kind: PhantomData<K>,
}

impl<T: Chained<K>, K> Chain<T, K> {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self { last: None, kind: PhantomData }
    }

    /// Adds an object that is in no chain of this kind.
    pub fn push(&mut self, object: Arc<T>) {
        let before = core::mem::replace(&mut *object.link().lock(), self.last.take());
        debug_assert!(before.is_none(), "an object in two chains");
        self.last = Some(object);
    }

    /// Takes the one that came last.
    pub fn pop(&mut self) -> Option<Arc<T>> {
        let object = self.last.take()?;
        self.last = object.link().lock().take();
        Some(object)
    }

    /// Takes all of them out.
    pub const fn take(&mut self) -> Self {
        Self { last: self.last.take(), kind: PhantomData }
    }
}

impl<T: Chained<K>, K> Drop for Chain<T, K> {
    /// One after the other: a chain is longer than a stack is deep.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
