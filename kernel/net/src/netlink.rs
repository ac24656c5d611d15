//! AF_NETLINK, protocol NETLINK_ROUTE: what programs ask of interfaces, addresses and routes.

mod message;
mod route;
mod socket;

pub use socket::{NetlinkSocket, Row, rows};

use abi::{Errno, Result};
use alloc::sync::Arc;
use fs::File;

/// AF_NETLINK.
pub const AF_NETLINK: u32 = 16;

/// socket(2): SOCK_RAW and SOCK_DGRAM are the same. ESOCKTNOSUPPORT, EPROTONOSUPPORT.
pub fn create(kind: u32, protocol: u32, flags: u32) -> Result<Arc<File>> {
    if !matches!(kind, 2 | 3) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != 0 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    File::anonymous(NetlinkSocket::new(kind)?, flags)
}
