//! /proc/net: the network's tables, the same for every process.

use super::pid::Who;
use alloc::sync::Arc;
use fs::inode::{Inode, InodeBase};
use fs::pseudo::{Dir, PseudoFs};
use sync::Once;

/// The directory /proc/PID/net.
pub fn directory(fs: &Arc<PseudoFs>, _who: Who, _base: InodeBase) -> Arc<dyn Inode> {
    static TABLES: Once<Arc<Dir>> = Once::new();
    TABLES
        .get_or_init(|| {
            let dir = Dir::new(fs);
            for (name, show) in net::show::FILES {
                dir.text(name, *show);
            }
            dir
        })
        .clone()
}
