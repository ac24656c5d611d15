//! Per-CPU data, and the start of the other CPUs.

use hal::firmware::Description;

/// Gives every CPU its data and starts them.
pub fn init(_firmware: &Description) {}
