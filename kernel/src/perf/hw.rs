//! Hardware events: not on a CPU without a known PMU.

use ::perf::attr::{Attr, hardware, kind};
use abi::{Errno, Result};

/// The PMU's code of an attribute's event. EINVAL for what is no event at all, ENOENT when nothing
/// counts it here.
pub fn code(attr: &Attr) -> Result<u64> {
    if attr.kind == kind::HARDWARE && attr.config >= hardware::MAX {
        return Err(Errno::ENOENT);
    }
    Err(Errno::ENOENT)
}
