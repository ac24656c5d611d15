//! A value that is made when it is first asked for.

use core::convert::Infallible;
use hal::irq::IrqOff;

/// Holds nothing until it is given a value, and that value from then on.
///
/// Nobody waits for a task: whoever finds no value makes one, several may at the same time, and the
/// first that is done gives the one that stays (as `once_cell::race`). If those who come later spun
/// until the first is done, one of the lowest priority, preempted while it makes the value, would
/// hold up all who are more urgent for ever. So what makes a value must not mind being called again.
#[derive(Debug)]
pub struct Once<T>(spin::Once<T>);

impl<T> Once<T> {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(spin::Once::new())
    }

    /// Returns the value, if there is one.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// Returns the value, made by `make` if there was none.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.get_or_try_init(|| Ok::<T, Infallible>(make()));
        value
    }

    /// Returns the value, made by `make` if there was none; when that fails there is none still.
    ///
    /// # Errors
    /// Those of `make`.
    #[inline]
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.0.get() {
            Some(value) => Ok(value),
            None => Ok(self.offer(make()?)),
        }
    }

    #[cold]
    fn offer(&self, value: T) -> &T {
        let mut offered = Some(value);
        // The lock inside is held for one move, and nothing can come in between: neither a switch nor
        // an interrupt that asks for the same value. A value that came too late is dropped after it.
        let _short = IrqOff::new();
        self.0.call_once(|| match offered.take() {
            Some(value) => value,
            None => unreachable!("called once"),
        })
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn nobody_waits_for_one_who_makes_a_value() {
        let once = Once::new();
        let (begun, over) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                *once.get_or_init(|| {
                    begun.wait();
                    over.wait();
                    1
                })
            });
            begun.wait();
            // The other one is in the middle of it, and will be until this is done.
            assert_eq!(*once.get_or_init(|| 2), 2);
            over.wait();
            assert_eq!(slow.join().ok(), Some(2), "the value that was there first stays");
        });
        assert_eq!(once.get(), Some(&2));
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let once = Once::new();
        assert_eq!(once.get_or_try_init(|| Err("no memory")), Err("no memory"));
        assert_eq!(once.get(), None);
        assert_eq!(once.get_or_try_init(|| Ok::<_, &str>(3)), Ok(&3));
    }
}
