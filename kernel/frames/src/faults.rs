//! Fault injection: allocations that fail on request, in kernels built with the feature `faults`.
//! In others nothing of this is compiled.
//!
//! The kernel above decides which ones. It is asked once for each object, block or frame that is
//! wanted, before the memory is looked for.

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Objects of the heap whose caller is ready to be refused: so many bytes.
    Fallible(usize),
    /// An object of the heap whose caller is not: when refused, it comes from the reserve.
    Certain(usize),
    /// A frame of memory for a program, a page table or a stack.
    Frame,
}

/// The kernel above.
pub trait Faults: Sync {
    /// True when this allocation is to find no memory.
    fn should_fail(&self, want: Want) -> bool;
}

#[cfg(feature = "faults")]
static FAULTS: sync::Once<&'static dyn Faults> = sync::Once::new();

/// Registers the kernel above, once, when there are tasks.
#[cfg(feature = "faults")]
pub fn register(faults: &'static dyn Faults) {
    FAULTS.get_or_init(|| faults);
}

/// True when the allocation is to find no memory. Never without the feature.
#[inline(always)]
pub fn should_fail(want: Want) -> bool {
    #[cfg(feature = "faults")]
    let fails = FAULTS.get().is_some_and(|faults| faults.should_fail(want));
    #[cfg(not(feature = "faults"))]
    let fails = {
        let _ = want;
        false
    };
    fails
}
