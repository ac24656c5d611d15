//! sysfs: nodes, CPUs and what else there is, one value a file, in Linux 6.12's forms.
//!
//! One instance serves every mount; it is made at the first mount, and its larger parts when they
//! are first looked at. Settings that cannot be changed here have mode 0444, and refuse to be
//! opened for writing.

mod buses;
mod cpu;
mod events;
mod lazy;
mod memory;
mod mm;
mod network;
mod node;
mod pci;
pub mod topology;
pub mod transparent;
pub mod vulnerabilities;

use crate::proc::put;
use abi::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::mount::Super;
use fs::pseudo::{Dir, PseudoFs, Style, Text};
use lazy::Lazy;
use sync::Once;

/// Registers the type.
pub fn register() {
    fs::mount::register("sysfs", Box::new(|_, _| instance()));
}

fn instance() -> Result<Arc<Super>> {
    static INSTANCE: Once<Arc<Super>> = Once::new();
    INSTANCE.get_or_try_init(make).cloned()
}

fn make() -> Result<Arc<Super>> {
    let fs = PseudoFs::new("sysfs", PseudoFs::SYSFS_MAGIC, Style::SYSFS);
    let root = Dir::root(&fs);
    let system = root.dir("devices").dir("system");
    system.add("cpu", Lazy::dir(&fs, cpu::fill));
    system.add("node", Lazy::dir(&fs, node::fill));
    system.add("memory", Lazy::dir(&fs, memory::fill));
    let clock = system.dir("clocksource").dir("clocksource0");
    line(&clock, "current_clocksource", |out| out.bytes(hal::time::source().name().as_bytes()));
    line(&clock, "available_clocksource", |out| {
        hal::time::offered().for_each(|source| put!(out, "{} ", source.name()));
    });
    buses::fill(&root);
    pci::fill(&fs, &root);
    network::fill(&root);
    events::fill(&root);
    let kernel = root.dir("kernel");
    mm::fill(&fs, &kernel.dir("mm"));
    events::notes(&kernel);
    fixed(&kernel, "address_bits", "64");
    fixed(&kernel, "cpu_byteorder", "little");
    fixed(&kernel, "uevent_seqnum", "0");
    root.dir("fs").dir("cgroup");
    fs.into_super(root)
}

/// A line that is made.
fn line(dir: &Dir, name: &str, text: impl Fn(&mut Text) + Send + Sync + 'static) {
    dir.text(name, move |out| -> Result<()> {
        text(out);
        out.bytes(b"\n");
        Ok(())
    });
}

/// A line that never changes.
fn fixed(dir: &Dir, name: &str, text: &'static str) {
    line(dir, name, move |out| out.bytes(text.as_bytes()));
}
