//! What the first process finds: the initramfs unpacked, /dev filled, the console open.

use crate::task::current;
use alloc::sync::Arc;
use fs::boot::as_kernel;
use fs::context::At;
use fs::context::Lookup;
use hal::pvh::BootInfo;
use sync::Once;

static BOOT: Once<(BootInfo, hal::firmware::Description)> = Once::new();

/// Keeps what boot knows until the first process needs it.
pub fn remember(info: BootInfo, firmware: hal::firmware::Description) {
    BOOT.get_or_init(|| (info, firmware));
}

/// How fast a node's memory is, if firmware says so.
pub fn access(node: numa::NodeId) -> Option<numa::Access> {
    let (_, firmware) = BOOT.get()?;
    firmware.accesses.iter().find(|(memory, _)| *memory == node).map(|(_, access)| *access)
}

/// Registers file systems and devices, unpacks the initramfs, opens the console as descriptors
/// 0 to 2 of the running task.
pub fn prepare() {
    let devtmpfs = fs::boot::init().expect("devtmpfs");
    crate::tty::init(&devtmpfs);
    crate::kmsg::init(&devtmpfs);
    crate::devmem::init(&devtmpfs);
    crate::proc::register();
    crate::sys::register();
    crate::shares::register();
    crate::cgroup::register();
    let root = crate::boot::init::root();
    if let Some((info, firmware)) = BOOT.get()
        && let Some((at, len)) = info.initramfs
    {
        if let Err(why) = fs::initramfs::unpack(&root, hal::phys::range(at, len)) {
            log::error!("Initramfs unpacking failed: {why}");
        }
        crate::boot::memory::free_initramfs(info, firmware);
    }
    open_console(&devtmpfs);
    let stats: alloc::vec::Vec<_> =
        crate::machine().memory_nodes().iter().map(|n| (n, frames::stats(n))).collect();
    let free: u64 = stats.iter().map(|s| s.1.free).sum();
    let present: u64 = stats.iter().map(|s| s.1.present).sum();
    log::info!("{} KiB of {} KiB in use before init", (present - free) * 4, present * 4);
}

/// Opens /dev/console, or without one the terminal itself: an initramfs need not have /dev.
fn open_console(devtmpfs: &Arc<fs::mount::Super>) {
    let mount = fs::mount::Mount::new(devtmpfs.clone(), "devtmpfs", 0);
    let root = mount.expect("no memory at boot").top();
    let opened = as_kernel(&root, |caller| {
        let place = caller.lookup(At::Cwd, b"console", Lookup::FOLLOW)?;
        caller.open_existing(&place, fs::oflag::O_RDWR)
    });
    match opened {
        Ok(file) => {
            let files = current().files.lock().clone();
            for _ in 0..3 {
                if files.insert(file.clone(), false, 1024).is_err() {
                    break;
                }
            }
        }
        Err(_) => log::warn!("Warning: unable to open an initial console."),
    }
}
