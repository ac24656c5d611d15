//! procfs: processes and the kernel's numbers as text, in Linux 6.12's forms.
//!
//! One instance serves every mount. It is made at the first mount, so that a machine that never
//! mounts it pays nothing. [`pid`] makes the directories of processes and threads; [`sysctl`] is
//! /proc/sys; [`own`] what only this kernel tells; the other files are one idea each.
//!
//! A file that is not here is one that could not tell the truth, or whose subject does not exist.

mod contention;
mod counters;
mod cpu_flags;
pub mod cpuinfo;
mod devices;
#[cfg(feature = "checks")]
mod faults;
mod frames;
pub mod guard;
mod interrupts;
mod kernel_log;
mod latency;
mod load;
mod locks;
pub mod memory;
mod net;
mod own;
mod pid;
mod root;
mod stat;
mod symbols;
mod sysctl;
mod sysrq;
mod system;
mod zones;

pub use kernel_log::{read_messages, unread_messages, wait_beyond};
pub use load::{ONE as LOAD_ONE, averages};
pub use memory::node_totals;
pub use pid::{creds_of, process_of_directory};
pub use zones::node_items;

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::mount::Super;
use fs::pseudo::{Dir, PseudoFs, Style, Text};
use sync::Once;

/// `write!` to a [`Text`], which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        $out.put(format_args!($($arg)*))
    };
}
pub(crate) use put;

/// What makes a file's text.
pub(crate) type Show = fn(&mut Text) -> Result<()>;

/// Registers the type and begins to sample the load.
pub fn register() {
    load::start();
    fs::mount::register("proc", Box::new(|_, options| mount(options)));
}

/// There are no options: hiding processes from one another is not offered.
fn mount(options: &str) -> Result<Arc<Super>> {
    if !options.is_empty() {
        return Err(Errno::EINVAL);
    }
    static INSTANCE: Once<Arc<Super>> = Once::new();
    INSTANCE.get_or_try_init(make).cloned()
}

fn make() -> Result<Arc<Super>> {
    let fs = PseudoFs::new("proc", PseudoFs::PROC_MAGIC, Style::PROC);
    let top = Dir::new(&fs);
    for (name, show) in FILES {
        top.text(name, *show);
    }
    top.link("mounts", "self/mounts");
    top.link("net", "self/net");
    for (name, show) in ROOT_FILES {
        top.attribute(name, 0o400, *show, |_| Err(Errno::EIO));
    }
    kernel_log::add(&fs, &top);
    frames::add(&fs, &top);
    symbols::add(&fs, &top);
    top.dir("tty").text("drivers", devices::tty_drivers);
    sysctl::add(&fs, &top.dir("sys"));
    let sysvipc = top.dir("sysvipc");
    sysvipc.text("msg", crate::ipc::msg::list);
    sysvipc.text("sem", crate::ipc::sem::list);
    sysvipc.text("shm", crate::ipc::shm::list);
    sysrq::add(&top);
    own::add(&fs, &top.dir("proxima"));
    let root = root::make(&fs, top);
    fs.into_super(root)
}

/// Files that everybody may read.
const FILES: &[(&str, Show)] = &[
    ("buddyinfo", zones::buddyinfo),
    ("cgroups", crate::cgroup::of_all),
    ("cmdline", system::cmdline),
    ("consoles", devices::consoles),
    ("cpuinfo", cpuinfo::show),
    ("devices", devices::devices),
    ("filesystems", system::filesystems),
    ("interrupts", interrupts::interrupts),
    ("loadavg", load::show),
    ("locks", locks::show),
    ("meminfo", memory::meminfo),
    ("modules", system::nothing),
    ("partitions", system::nothing),
    ("diskstats", system::nothing),
    ("schedstat", stat::schedstat),
    ("softirqs", interrupts::softirqs),
    ("stat", stat::show),
    ("swaps", system::swaps),
    ("uptime", stat::uptime),
    ("version", system::version),
    ("vmstat", counters::vmstat),
    ("zoneinfo", zones::zoneinfo),
];

/// Files that only root may read.
const ROOT_FILES: &[(&str, Show)] =
    &[("pagetypeinfo", zones::pagetypeinfo), ("slabinfo", system::slabinfo)];
