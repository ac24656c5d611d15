//! Character devices: who answers for a device number.

pub mod mem;
pub mod random;

use crate::file::FileOps;
use crate::inode::OpenArgs;
use crate::stat::DevId;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use sync::SpinLock;

/// A driver of character devices.
pub trait CharDevice: Send + Sync {
    /// Operations for one opening of `rdev`.
    fn open(&self, rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>>;
}

/// (major, first minor) -> (number of minors, driver).
type Drivers = BTreeMap<(u32, u32), (u32, Arc<dyn CharDevice>)>;
static DRIVERS: SpinLock<Drivers> = SpinLock::new(BTreeMap::new());

/// Registers a driver for `count` minors from `first` on; replaces one registered before.
pub fn register_char(first: DevId, count: u32, driver: Arc<dyn CharDevice>) {
    DRIVERS.lock().insert((first.major, first.minor), (count, driver));
}

/// Opens a character device; ENXIO without a driver.
pub fn open_char(rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
    let driver = {
        let drivers = DRIVERS.lock();
        let found = drivers.range(..=(rdev.major, rdev.minor)).next_back();
        match found {
            Some((&(major, first), (count, driver)))
                if major == rdev.major && rdev.minor - first < *count =>
            {
                driver.clone()
            }
            _ => return Err(Errno::ENXIO),
        }
    };
    driver.open(rdev, args)
}
