//! What the files tell.

use super::Groups;
use crate::proc::put;
use crate::task::table;
use abi::{Errno, Result};
use cgroup::{Controller, Id, Kind};
use core::sync::atomic::Ordering::Relaxed;
use fs::pseudo::Text;

pub fn controllers(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.controllers(id));
    Ok(())
}

pub fn subtree_control(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.subtree_control());
    Ok(())
}

pub fn events(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    let group = groups.group(id)?;
    let (populated, frozen) = (group.is_populated(), group.freezer().is_frozen());
    put!(out, "populated {}\nfrozen {}\n", u8::from(populated), u8::from(frozen));
    Ok(())
}

pub fn freeze(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", u8::from(groups.group(id)?.freezer().is_asked()));
    Ok(())
}

pub fn kind(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.kind(id)?.name());
    Ok(())
}

fn limit(out: &mut Text, limit: Option<u64>) -> Result<()> {
    match limit {
        Some(limit) => put!(out, "{limit}\n"),
        None => out.bytes(b"max\n"),
    }
    Ok(())
}

pub fn max_depth(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    limit(out, groups.group(id)?.max_depth.map(u64::from))
}

pub fn max_descendants(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    limit(out, groups.group(id)?.max_descendants.map(u64::from))
}

/// Groups below, and how many of them have each controller, this group included.
pub fn stat(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    let group = groups.group(id)?;
    put!(out, "nr_descendants {}\n", group.descendants());
    for controller in Controller::ALL {
        let (mut count, mut at) = (0, Some(id));
        while let Some(here) = at {
            let has = groups.controllers(here).has(controller);
            count += u32::from(has);
            // What a group does not have, none below it has.
            at = groups.next(here, id, !has);
        }
        put!(out, "nr_subsys_{} {count}\n", controller.name());
    }
    put!(out, "nr_dying_descendants {}\n", group.dying());
    for controller in Controller::ALL {
        put!(out, "nr_dying_subsys_{} 0\n", controller.name());
    }
    Ok(())
}

/// The processes that count in the group: all of a thread root and what is below it. EOPNOTSUPP in a
/// threaded group.
pub fn procs(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    if groups.kind(id)? == Kind::Threaded {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut next = table::next_process(1);
    while let Some(process) = next {
        let first = process.place.lock().threads.first().map(|task| task.cgroup.load(Relaxed));
        if first.is_some_and(|of| groups.domain_of(of) == id) {
            put!(out, "{}\n", process.pid);
        }
        next = table::next_process(process.pid + 1);
    }
    Ok(())
}

pub fn threads(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    groups.group(id)?;
    let mut next = table::next_process(1);
    while let Some(process) = next {
        for task in process.threads().filter(|task| task.cgroup.load(Relaxed) == id) {
            put!(out, "{}\n", task.tid());
        }
        next = table::next_process(process.pid + 1);
    }
    Ok(())
}

pub fn cpus(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.cpuset().cpus);
    Ok(())
}

pub fn cpus_effective(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.cpuset().effective_cpus);
    Ok(())
}

pub fn mems(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.cpuset().mems);
    Ok(())
}

pub fn mems_effective(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.cpuset().effective_mems);
    Ok(())
}

pub fn pids_current(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.pids.current());
    Ok(())
}

pub fn pids_peak(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "{}\n", groups.group(id)?.pids.peak());
    Ok(())
}

pub fn pids_max(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    limit(out, groups.group(id)?.pids.max)
}

pub fn pids_events(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "max {}\n", groups.group(id)?.pids.refused());
    Ok(())
}

pub fn pids_events_local(groups: &Groups, id: Id, out: &mut Text) -> Result<()> {
    put!(out, "max {}\n", groups.group(id)?.pids.refused_here());
    Ok(())
}

/// /proc/cgroups.
pub fn of_all(out: &mut Text) -> Result<()> {
    out.bytes(b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    let count = super::groups().count();
    for controller in Controller::ALL {
        put!(out, "{}\t0\t{count}\t1\n", controller.name());
    }
    Ok(())
}
