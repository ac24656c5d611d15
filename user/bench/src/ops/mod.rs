//! The operations, by area. Names are stable: baselines and reports go by them.

mod calls;
mod crowd;
mod files;
mod hugetlb;
mod ipc;
mod memory;
mod movers;
mod net;
mod perf;
mod policy;
mod process;
mod sched;
mod spread;
mod stall;
mod thp;
mod wakeup;

use crate::clock::Samples;
use crate::sys::Result;

pub struct Op {
    pub name: &'static str,
    pub run: fn() -> Result<Samples>,
}

const fn op(name: &'static str, run: fn() -> Result<Samples>) -> Op {
    Op { name, run }
}

pub fn all() -> Vec<Op> {
    let areas = [
        calls::OPS,
        sched::OPS,
        spread::OPS,
        wakeup::OPS,
        ipc::OPS,
        net::OPS,
        process::OPS,
        crowd::OPS,
        memory::OPS,
        policy::OPS,
        movers::OPS,
        stall::OPS,
        perf::OPS,
        files::OPS,
        hugetlb::OPS,
        thp::OPS,
    ];
    areas.iter().flat_map(|ops| ops.iter()).map(|own| op(own.name, own.run)).collect()
}
