//! prctl(PR_SET_MM): where a program says that its parts are.

use self::option as p;
use super::Ctx;
use crate::task::process::limit;
use abi::{Errno, Result};
use hal::user::USER_END;
use vm::mm::Layout;

/// What is set, by its number.
mod option {
    pub const START_CODE: u64 = 1;
    pub const END_CODE: u64 = 2;
    pub const START_DATA: u64 = 3;
    pub const END_DATA: u64 = 4;
    pub const START_STACK: u64 = 5;
    pub const START_BRK: u64 = 6;
    pub const BRK: u64 = 7;
    pub const ARG_START: u64 = 8;
    pub const ARG_END: u64 = 9;
    pub const ENV_START: u64 = 10;
    pub const ENV_END: u64 = 11;
}

/// The lowest address that may be named (vm.mmap_min_addr).
const MIN_ADDR: u64 = 65536;

/// PR_SET_MM of one address. EPERM without CAP_SYS_RESOURCE, EINVAL for an unknown option, an address
/// or an order that cannot be, EFAULT where nothing is mapped that must be.
pub fn set(c: &Ctx<'_>, [option, addr, a, b]: [u64; 4]) -> Result<u64> {
    if a != 0 || b != 0 {
        return Err(Errno::EINVAL);
    }
    if !crate::creds::capable(fs::Cap::SysResource) {
        return Err(Errno::EPERM);
    }
    if !(MIN_ADDR..USER_END).contains(&addr) {
        return Err(Errno::EINVAL);
    }
    let mm = c.mm();
    let mapped = {
        let vmas = mm.vmas.read();
        vmas.find(addr).is_some() || vmas.first_above(addr).is_some()
    };
    let mut layout = mm.layout.lock();
    let mut new = layout.clone();
    let place = match option {
        p::START_CODE => &mut new.code.0,
        p::END_CODE => &mut new.code.1,
        p::START_DATA => &mut new.data.0,
        p::END_DATA => &mut new.data.1,
        p::START_STACK => &mut new.stack_start,
        p::START_BRK => &mut new.brk_start,
        p::BRK => &mut new.brk,
        p::ARG_START => &mut new.args.0,
        p::ARG_END => &mut new.args.1,
        p::ENV_START => &mut new.env.0,
        p::ENV_END => &mut new.env.1,
        _ => return Err(Errno::EINVAL),
    };
    *place = addr;
    check(&new, c.task.process.soft_limit(limit::DATA))?;
    let of_stack =
        matches!(option, p::START_STACK | p::ARG_START | p::ARG_END | p::ENV_START | p::ENV_END);
    if of_stack && !mapped {
        return Err(Errno::EFAULT);
    }
    *layout = new;
    Ok(0)
}

/// EINVAL for parts that end before they begin, and for more data than RLIMIT_DATA allows.
fn check(layout: &Layout, limit: u64) -> Result<()> {
    let Layout { code, data, args, env, brk_start, brk, .. } = *layout;
    let ordered = code.0 < code.1
        && data.0 <= data.1
        && brk_start <= brk
        && args.0 <= args.1
        && env.0 <= env.1;
    let used = brk.wrapping_sub(brk_start).saturating_add(data.1.wrapping_sub(data.0));
    if ordered && (limit == u64::MAX || used <= limit) { Ok(()) } else { Err(Errno::EINVAL) }
}
