//! Small files about the whole system.

use super::put;
use crate::uts;
use abi::Result;
use fs::pseudo::Text;

/// A file whose subject does not exist: no modules, no block devices.
pub fn nothing(_: &mut Text) -> Result<()> {
    Ok(())
}

/// /proc/version.
pub fn version(out: &mut Text) -> Result<()> {
    put!(out, "{} version {} (proxima) (rustc) {}\n", uts::SYSNAME, uts::RELEASE, uts::VERSION);
    Ok(())
}

/// /proc/cmdline.
pub fn cmdline(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", crate::boot::cmdline::text());
    Ok(())
}

/// /proc/filesystems: none of them needs a block device.
pub fn filesystems(out: &mut Text) -> Result<()> {
    for name in fs::mount::kinds() {
        put!(out, "nodev\t{name}\n");
    }
    Ok(())
}

/// /proc/swaps: the header.
pub fn swaps(out: &mut Text) -> Result<()> {
    out.bytes(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    Ok(())
}

/// /proc/slabinfo: the kernel's heap by size of objects.
pub fn slabinfo(out: &mut Text) -> Result<()> {
    out.bytes(b"slabinfo - version: 2.1\n");
    out.bytes(b"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>");
    out.bytes(b" : tunables <limit> <batchcount> <sharedfactor>");
    out.bytes(b" : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
    for class in frames::heap::HEAP.classes() {
        let name = alloc::format!("kmalloc-{}", class.size);
        put!(out, "{name:<17} {:>6} {:>6} ", class.in_use, class.slabs * class.per_slab);
        put!(out, "{:>6} {:>4} {:>4}", class.size, class.per_slab, class.pages);
        put!(out, " : tunables {:>4} {:>4} {:>4}", 0, 0, 0);
        put!(out, " : slabdata {:>6} {:>6} {:>6}\n", class.slabs, class.slabs, 0);
    }
    Ok(())
}
