//! Memory at boot: the direct map, firmware's description, frame metadata, the allocators.

use alloc::vec::Vec;
use frames::boot::BootMemory;
use frames::node::NodeMemory;
use hal::firmware::Description;
use hal::paging::{Mapper, Pte};
use hal::pvh::BootInfo;
use hal::{Pfn, PhysAddr, VirtAddr, acpi, phys};
use numa::NodeId;

const RAM: u32 = 1;
const ACPI_TABLES: u32 = 3;
const MIB: u64 = 1 << 20;
/// Interrupt controllers and the event timer are here on every PC.
const CONTROLLERS: core::ops::Range<u64> = 0xfec0_0000..0xff00_0000;
/// What the early page tables map.
const EARLY_LIMIT: u64 = 1 << 30;
/// Bits of a kernel data page.
const DATA: u64 = Pte::WRITABLE | Pte::NO_EXEC | Pte::GLOBAL;
/// Bits of a device page.
const DEVICE: u64 = DATA | Pte::UNCACHED | Pte::WRITE_THROUGH;

/// Sets memory up; what firmware says of the machine. The heap is the slab allocator afterwards.
pub fn init(info: &BootInfo) -> Description {
    let image = hal::boot::image();
    let mut ram: Vec<(u64, u64)> = info
        .memory_map
        .iter()
        .filter(|e| e.kind == RAM)
        .map(|e| (e.addr, e.addr + e.size))
        .collect();
    let mut reserved: Vec<(u64, u64)> = Vec::new();
    // The first MiB holds firmware's data, the loader's, and the start page of the other CPUs.
    reserved.push((0, MIB));
    reserved.push((image.start, image.end));
    if let Some((at, len)) = info.initramfs {
        reserved.push((at.raw(), at.raw() + len as u64));
    }

    // Tables come from below the early limit, wherever that is on the nodes.
    let mut early = BootMemory::new(&ram, &[], NodeId::new(0));
    for &(start, end) in &reserved {
        early.reserve(start, end);
    }
    let mut tables = Vec::with_capacity(64);
    let mut table = || {
        let at = early
            .carve(None, 1, 1, 0, EARLY_LIMIT / 4096)
            .expect("no memory below 1 GiB for page tables");
        phys::zero(Pfn::containing(at));
        tables.push((at.raw(), at.raw() + 4096));
        Pfn::containing(at)
    };
    map_kernel(info, &image, &mut table);

    let found = acpi::find(info);
    if let Some(at) = found.sleep_page {
        let page = at & !(2 * MIB - 1);
        let virt = VirtAddr::new(phys::DIRECT_MAP + page);
        Mapper::existing(&mut table).map(virt, PhysAddr::new(page), 2 * MIB, DEVICE);
    }
    for device in &found.memory_devices {
        let (start, len) = (device.start, device.end - device.start);
        let virt = VirtAddr::new(phys::DIRECT_MAP + start);
        Mapper::existing(&mut table).map(virt, PhysAddr::new(start), len, DATA);
        ram.push((start, device.end));
    }
    hal::apic::init();
    let limit = super::cmdline::value("maxcpus")
        .or(super::cmdline::value("nr_cpus"))
        .and_then(|n| n.parse().ok())
        .unwrap_or(usize::MAX);
    let mut description = hal::firmware::describe(
        found.madt.as_deref(),
        found.srat.as_deref(),
        found.slit.as_deref(),
        &ram,
        hal::apic::id(),
        limit,
    );
    hal::firmware::add_accesses(&mut description, found.srat.as_deref(), found.hmat.as_deref());
    for warning in found.warnings.iter().chain(&description.warnings) {
        log::warn!("firmware: {warning}");
    }
    if let Some(at) = found.hpet.filter(|at| CONTROLLERS.contains(at)) {
        hal::hpet::init(at);
    }
    hal::time::calibrate(found.pm_timer);

    reserved.append(&mut tables);
    let mut memory = BootMemory::new(&ram, &description.affinity, NodeId::new(0));
    for &(start, end) in &reserved {
        memory.reserve(start, end);
    }
    map_metadata(&mut memory);
    start_allocators(&memory, &description, info);
    vm::env::set_machine(description.machine.clone());
    description
}

/// The direct map, the image with its protections, and the devices.
fn map_kernel(info: &BootInfo, image: &hal::boot::Image, table: &mut dyn FnMut() -> Pfn) {
    let direct = |pa: u64| VirtAddr::new(phys::DIRECT_MAP + pa);
    let mut mapper = Mapper::new(table);
    mapper.reserve_top_level();
    // RAM and ACPI's tables, rounded out to 2 MiB, merged, so that large pages fit. The image's
    // own frames are left out: its text and constants must not be writable here either.
    let mut ranges: Vec<(u64, u64)> = info
        .memory_map
        .iter()
        .filter(|e| e.kind == RAM || e.kind == ACPI_TABLES || e.addr + e.size < 1 << 32)
        .filter(|e| e.addr < 0xc000_0000 || e.addr >= 1 << 32)
        .map(|e| (e.addr & !(2 * MIB - 1), (e.addr + e.size).next_multiple_of(2 * MIB)))
        .collect();
    ranges.push((0, 2 * MIB));
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    for (start, end) in merged {
        for (from, to) in [(start, end.min(image.text)), (start.max(image.rodata_end), end)] {
            if from < to {
                mapper.map(direct(from), PhysAddr::new(from), to - from, DATA);
            }
        }
    }
    mapper.map(
        direct(image.text),
        PhysAddr::new(image.text),
        image.rodata_end - image.text,
        Pte::NO_EXEC | Pte::GLOBAL,
    );
    let mut part = |from: u64, to: u64, bits: u64| {
        if from < to {
            mapper.map(
                VirtAddr::new(hal::boot::KERNEL_BASE + from),
                PhysAddr::new(from),
                to - from,
                bits,
            );
        }
    };
    part(image.text, image.text_end, Pte::GLOBAL);
    part(image.text_end, image.rodata_end, Pte::NO_EXEC | Pte::GLOBAL);
    part(image.rodata_end, image.data_end, DATA);
    part(image.data_end, image.end, Pte::NO_EXEC | Pte::GLOBAL);
    let controllers = PhysAddr::new(CONTROLLERS.start);
    mapper.map(direct(CONTROLLERS.start), controllers, CONTROLLERS.end - CONTROLLERS.start, DEVICE);
    // SAFETY of the call is argued in hal: everything that runs from here on is mapped above.
    hal::boot::use_tables(mapper);
}

/// Maps and zeroes the metadata of every frame, on the frame's own node; what that takes is reserved
/// in `memory`.
fn map_metadata(memory: &mut BootMemory) {
    const PER_BLOCK: u64 = 1 << frames::MAX_ORDER;
    let mut done = 0;
    let all = memory.all().to_vec();
    for range in all {
        // Whole largest blocks, so that the buddy of any block has metadata; a block that two
        // ranges share is mapped once.
        let first = (range.start & !(PER_BLOCK - 1)).max(done);
        let last = range.end.next_multiple_of(PER_BLOCK);
        if first >= last {
            continue;
        }
        done = last;
        let bytes = (last - first) * size_of::<frames::Frame>() as u64;
        let count = bytes / 4096;
        let at = VirtAddr::new(frames::meta::address(Pfn::new(first)));
        let offset = at.raw() / 4096 % 512;
        let mut carve = |n, align, offset| {
            memory
                .carve(Some(range.node), n, align, offset, u64::MAX)
                .or_else(|| memory.carve(None, n, align, offset, u64::MAX))
                .expect("no memory for frame metadata")
        };
        let align = if count >= 512 { 512 } else { 1 };
        let pa = carve(count, align, offset % align);
        let mut table = || {
            let pa = carve(1, 1, 0);
            phys::zero(Pfn::containing(pa));
            Pfn::containing(pa)
        };
        Mapper::existing(&mut table).map(at, pa, bytes, DATA);
        for page in 0..count {
            phys::zero(Pfn::containing(pa) + page);
        }
    }
}

fn start_allocators(memory: &BootMemory, description: &Description, info: &BootInfo) {
    let machine = &description.machine;
    let initramfs =
        info.initramfs.map(|(at, len)| (at.raw() / 4096, (at.raw() + len as u64).div_ceil(4096)));
    let nodes: Vec<_> = machine
        .nodes()
        .iter()
        .filter_map(|id| {
            let mine: Vec<_> = memory.all().iter().filter(|r| r.node == id).collect();
            let present: u64 = mine.iter().map(|r| r.end - r.start).sum();
            let (first, last) = (mine.first()?, mine.last()?);
            let free: Vec<_> = memory
                .free()
                .iter()
                .filter(|r| r.node == id)
                .map(|r| (Pfn::new(r.start), Pfn::new(r.end)))
                .collect();
            // The initramfs is given back once it is unpacked: it counts as managed.
            let early = initramfs.map_or(0, |(start, end)| {
                mine.iter().map(|r| r.end.min(end).saturating_sub(r.start.max(start))).sum()
            });
            Some(NodeMemory {
                id,
                present,
                free,
                span: (Pfn::new(first.start), Pfn::new(last.end)),
                early,
            })
        })
        .collect();
    frames::node::init(nodes);
    frames::heap::HEAP.start(machine.cpu_ids());
    frames::node::start_caches(machine.cpu_ids());
}

/// Gives the initramfs' memory back to its nodes.
pub fn free_initramfs(info: &BootInfo, description: &Description) {
    let Some((at, len)) = info.initramfs else { return };
    let (start, end) = (at.raw() / 4096, (at.raw() + len as u64).div_ceil(4096));
    let ram: Vec<(u64, u64)> = info
        .memory_map
        .iter()
        .filter(|e| e.kind == RAM)
        .map(|e| (e.addr, e.addr + e.size))
        .collect();
    for range in BootMemory::new(&ram, &description.affinity, NodeId::new(0)).all() {
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to
            && let Some(node) = frames::node(range.node)
        {
            node.free_early(Pfn::new(from), Pfn::new(to));
        }
    }
}
