//! Memory for users: containers and boxes that are refused with ENOMEM when there is none.
//!
//! The heap answers an allocation that cannot be refused from the reserve, which is small. What
//! grows with what a user does is therefore made here: first the heap is asked to have it ready
//! ([`ready`]), which ends in ENOMEM without touching the reserve; then the container takes it.
//! Between the two another one may come first, if the task is interrupted or moves to another CPU:
//! only then the reserve helps out.

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;

/// Has the heap keep `count` objects of `layout` ready on this CPU. ENOMEM.
#[inline(always)]
fn ready(layout: Layout, count: u32) -> Result<()> {
    #[cfg(target_os = "none")]
    let there = crate::heap::HEAP.ready(layout, count);
    #[cfg(not(target_os = "none"))]
    let there = layout.size() > 0 && count > 0;
    if there { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Whether a block of this layout is ready: what user copies ask for the vectors that they fill.
pub fn ready_block(layout: Layout) -> bool {
    ready(layout, 1).is_ok()
}

/// Bytes of the two counts in front of what an `Arc` holds.
const COUNTS: Layout = Layout::new::<[usize; 2]>();

/// Makes sure of the block of an `Arc<T>` that is made next. ENOMEM.
#[inline]
pub fn ready_arc<T>() -> Result<()> {
    match COUNTS.extend(Layout::new::<T>()) {
        Ok((layout, _)) => ready(layout.pad_to_align(), 1),
        Err(_) => Err(Errno::ENOMEM),
    }
}

/// Makes sure of the block of a `Box<T>` that is made next. ENOMEM.
#[inline]
pub fn ready_box<T>() -> Result<()> {
    if size_of::<T>() == 0 { Ok(()) } else { ready(Layout::new::<T>(), 1) }
}

/// A shared value. ENOMEM; the value is dropped then.
#[inline]
pub fn arc<T>(value: T) -> Result<Arc<T>> {
    ready_arc::<T>()?;
    Ok(Arc::new(value))
}

/// A shared copy of a slice. ENOMEM.
pub fn arc_slice<T: Copy>(values: &[T]) -> Result<Arc<[T]>> {
    let (layout, _) = COUNTS.extend(Layout::for_value(values)).map_err(|_| Errno::ENOMEM)?;
    ready(layout.pad_to_align(), 1)?;
    Ok(Arc::from(values))
}

/// A value of its own block. ENOMEM; the value is dropped then.
#[inline]
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    ready_box::<T>()?;
    Ok(Box::new(value))
}

/// Elements that a growing vector makes room for: twice as many as before, or what is wanted.
fn grown(capacity: usize, wanted: usize, size: usize) -> usize {
    let least = if size == 1 { 8 } else { 4 };
    wanted.max(capacity.saturating_mul(2)).max(least)
}

/// Room for `capacity` elements of `T` at one place. ENOMEM.
fn ready_array<T>(capacity: usize) -> Result<()> {
    let layout = Layout::array::<T>(capacity).map_err(|_| Errno::ENOMEM)?;
    if layout.size() == 0 { Ok(()) } else { ready(layout, 1) }
}

/// Makes sure of the block that a hash table of `E` (a key with its value), which has `len` entries
/// and room for `capacity`, needs for one more. ENOMEM.
pub fn ready_table<E>(len: usize, capacity: usize) -> Result<()> {
    if len < capacity {
        return Ok(());
    }
    // At most seven of eight buckets are used, each with a byte of control beside it.
    let buckets = ((len + 1) * 8 / 7 + 1).next_power_of_two().max(4);
    let bytes = buckets.checked_mul(size_of::<E>() + 1).ok_or(Errno::ENOMEM)?;
    ready(Layout::from_size_align(bytes + 16, 16).map_err(|_| Errno::ENOMEM)?, 1)
}

/// What can be refused room for more.
pub trait Grow {
    /// Makes room for `more` elements (bytes, of a string). ENOMEM.
    fn room_for(&mut self, more: usize) -> Result<()>;
}

macro_rules! grow {
    ($collection:ty, $element:ty $(, $t:ident)?) => {
        impl$(<$t>)? Grow for $collection {
            #[inline]
            fn room_for(&mut self, more: usize) -> Result<()> {
                if self.capacity() - self.len() >= more {
                    return Ok(());
                }
                let wanted = self.len().checked_add(more).ok_or(Errno::ENOMEM)?;
                let capacity = grown(self.capacity(), wanted, size_of::<$element>());
                ready_array::<$element>(capacity)?;
                self.try_reserve_exact(capacity - self.len()).map_err(|_| Errno::ENOMEM)
            }
        }
    };
}
grow!(Vec<T>, T, T);
grow!(VecDeque<T>, T, T);
grow!(String, u8);

/// A vector that is refused room.
pub trait TryVec<T>: Sized {
    /// An empty one with room for exactly `capacity`. ENOMEM.
    fn with_room(capacity: usize) -> Result<Self>;
    /// Adds an element at the end. ENOMEM; the element is dropped then.
    fn try_push(&mut self, value: T) -> Result<()>;
    /// Adds copies of elements at the end. ENOMEM; none is added then.
    fn try_extend(&mut self, values: &[T]) -> Result<()>
    where
        T: Clone;
    /// Gathers what an iterator gives. ENOMEM.
    fn gather(values: impl IntoIterator<Item = T>) -> Result<Self>;
}

impl<T> TryVec<T> for Vec<T> {
    #[inline]
    fn with_room(capacity: usize) -> Result<Self> {
        ready_array::<T>(capacity)?;
        let mut vec = Self::new();
        vec.try_reserve_exact(capacity).map_err(|_| Errno::ENOMEM)?;
        Ok(vec)
    }
    #[inline]
    fn try_push(&mut self, value: T) -> Result<()> {
        self.room_for(1)?;
        self.push(value);
        Ok(())
    }
    fn try_extend(&mut self, values: &[T]) -> Result<()>
    where
        T: Clone,
    {
        self.room_for(values.len())?;
        self.extend_from_slice(values);
        Ok(())
    }
    fn gather(values: impl IntoIterator<Item = T>) -> Result<Self> {
        let values = values.into_iter();
        let mut vec = Self::with_room(values.size_hint().0)?;
        for value in values {
            vec.try_push(value)?;
        }
        Ok(vec)
    }
}

/// `len` times `value`. ENOMEM.
pub fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>> {
    let mut vec = Vec::with_room(len)?;
    vec.resize(len, value);
    Ok(vec)
}

/// A copy of a slice. ENOMEM.
pub fn copied<T: Clone>(values: &[T]) -> Result<Vec<T>> {
    let mut vec = Vec::with_room(values.len())?;
    vec.extend_from_slice(values);
    Ok(vec)
}

/// A copy of a slice in a box. ENOMEM.
pub fn boxed_slice<T: Clone>(values: &[T]) -> Result<Box<[T]>> {
    // The room is exact, so nothing is moved.
    Ok(copied(values)?.into_boxed_slice())
}

/// A queue that is refused room.
pub trait TryQueue<T> {
    /// Adds an element at the back. ENOMEM; the element is dropped then.
    fn try_push_back(&mut self, value: T) -> Result<()>;
}

impl<T> TryQueue<T> for VecDeque<T> {
    #[inline]
    fn try_push_back(&mut self, value: T) -> Result<()> {
        self.room_for(1)?;
        self.push_back(value);
        Ok(())
    }
}

/// Text that is formatted into a string. ENOMEM.
pub fn text(args: core::fmt::Arguments<'_>) -> Result<String> {
    struct Refused(String);
    impl core::fmt::Write for Refused {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            self.0.room_for(s.len()).map_err(|_| core::fmt::Error)?;
            self.0.push_str(s);
            Ok(())
        }
    }
    let mut text = Refused(String::new());
    core::fmt::write(&mut text, args).map_err(|_| Errno::ENOMEM)?;
    Ok(text.0)
}

/// Bytes as text, with a mark in place of what is none. ENOMEM.
pub fn lossy(bytes: Vec<u8>) -> Result<String> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        let mark = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        for part in [chunk.valid(), mark] {
            text.room_for(part.len())?;
            text.push_str(part);
        }
    }
    Ok(text)
}

/// A tree that is refused nodes.
pub trait TryMap<K, V> {
    /// Makes sure of the nodes that one insertion may need. ENOMEM.
    fn room_for_one(&self) -> Result<()>;
    /// Makes sure of the nodes that two insertions may need. ENOMEM.
    fn room_for_two(&self) -> Result<()>;
    /// Inserts; the value that was there before. ENOMEM; key and value are dropped then.
    fn try_insert_in(&mut self, key: K, value: V) -> Result<Option<V>>;
}

/// Entries of a node of the standard library's B-tree.
const NODE: usize = 11;

/// The layouts of a leaf and of an inner node: entries, a parent, two 16-bit numbers; 12 children.
fn node_layouts<K, V>() -> Option<(Layout, Layout)> {
    let entries = Layout::array::<K>(NODE).ok()?.extend(Layout::array::<V>(NODE).ok()?).ok()?.0;
    let parent = Layout::new::<(usize, u16, u16)>();
    let align = entries.align().max(parent.align());
    // The fields stand in the order that wastes least, so only the end is padded.
    let size = NODE * (size_of::<K>() + size_of::<V>()) + size_of::<usize>() + 4;
    let leaf = Layout::from_size_align(size, align).ok()?.pad_to_align();
    let inner = leaf.extend(Layout::array::<usize>(NODE + 1).ok()?).ok()?.0.pad_to_align();
    Some((leaf, inner))
}

/// Makes sure of the nodes for `MORE` entries more in a tree of `entries`. ENOMEM.
#[inline]
fn ready_nodes<K, V, const MORE: u32>(mut entries: usize) -> Result<()> {
    let (leaf, inner) = node_layouts::<K, V>().ok_or(Errno::ENOMEM)?;
    ready(leaf, MORE)?;
    // A split may go up to the root and add one: nodes have at least five entries.
    let mut inners = 0;
    while entries >= NODE {
        inners += 1;
        entries /= NODE / 2 + 1;
    }
    if inners == 0 { Ok(()) } else { ready(inner, inners * MORE) }
}

impl<K: Ord> TryMap<K, ()> for BTreeSet<K> {
    #[inline]
    fn room_for_one(&self) -> Result<()> {
        ready_nodes::<K, (), 1>(self.len())
    }
    #[inline]
    fn room_for_two(&self) -> Result<()> {
        ready_nodes::<K, (), 2>(self.len())
    }
    #[inline]
    fn try_insert_in(&mut self, key: K, (): ()) -> Result<Option<()>> {
        self.room_for_one()?;
        Ok((!self.insert(key)).then_some(()))
    }
}

impl<K: Ord, V> TryMap<K, V> for BTreeMap<K, V> {
    #[inline]
    fn room_for_one(&self) -> Result<()> {
        ready_nodes::<K, V, 1>(self.len())
    }
    #[inline]
    fn room_for_two(&self) -> Result<()> {
        ready_nodes::<K, V, 2>(self.len())
    }
    #[inline]
    fn try_insert_in(&mut self, key: K, value: V) -> Result<Option<V>> {
        self.room_for_one()?;
        Ok(self.insert(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_as_the_standard_library_has_it() {
        let mut theirs: Vec<u64> = Vec::new();
        let mut ours: Vec<u64> = Vec::new();
        for n in 0..10_000 {
            theirs.push(n);
            ours.try_push(n).unwrap();
            assert_eq!(ours.capacity(), theirs.capacity());
        }
        assert_eq!(ours, theirs);
    }

    #[test]
    fn exact_room_is_exact() {
        assert_eq!(Vec::<u8>::with_room(1000).unwrap().capacity(), 1000);
        assert_eq!(filled(7u8, 3).unwrap(), [7, 7, 7]);
        assert_eq!(text(format_args!("{}-{}", 1, "two")).unwrap(), "1-two");
        assert_eq!(Vec::gather((0..5).filter(|n| n % 2 == 0)).unwrap(), [0, 2, 4]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut vec = alloc::vec![1u64];
        assert_eq!(vec.room_for(usize::MAX), Err(Errno::ENOMEM));
        assert_eq!(vec.room_for(usize::MAX / 16), Err(Errno::ENOMEM));
        assert_eq!(vec, [1]);
    }
}
