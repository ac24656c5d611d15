//! Directories of the host: virtio-9p devices, as channels for the file system 9p.
//!
//! A device is started when its share is first mounted, and keeps its memory from then on. One request
//! is under way at a time; whose task is killed meanwhile leaves it to the next one to see it off.

use crate::pci;
use crate::task::current;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use frames::fallible::{TryVec, boxed};
use fs::p9::{self, Channel};
use hal::dma::Block;
use hal::virtio::{Device, Memory, RING_PAGES};
use sync::{Mutex, Once, WaitError, WaitQueue};

/// Vendor and kind of a virtio-9p device with a legacy interface, as configuration space has them.
const VIRTIO_9P: u32 = 0x1009_1af4;
/// An ISA interrupt that no device here has: its vector is free.
pub const LINE: u8 = 11;
/// 2^order pages each: for the queue, a request, a reply.
const RING_ORDER: u32 = 2;
const REQUEST_ORDER: u32 = 0;
const REPLY_ORDER: u32 = 6;
const _: () = assert!(RING_PAGES <= 1 << RING_ORDER);
const _: () = assert!(p9::LONGEST_REQUEST <= abi::PAGE_SIZE << REQUEST_ORDER);
const _: () = assert!(p9::LONGEST_REPLY <= abi::PAGE_SIZE << REPLY_ORDER);

/// A device that was started.
struct Share {
    tag: Vec<u8>,
    /// Whose turn it is locks it.
    device: Mutex<Device>,
    mounted: AtomicBool,
    /// Somebody's turn.
    taken: AtomicBool,
    turns: WaitQueue,
    replies: WaitQueue,
}

/// Those there are, started with the first mount.
static SHARES: Once<Vec<&'static Share>> = Once::new();

/// Makes the file system known.
pub fn register() {
    fs::mount::register("9p", Box::new(|tag, options| p9::mount(tag, options, find)));
}

/// Starts the devices. ENOMEM.
fn shares() -> Result<&'static [&'static Share]> {
    // One starts them; a mutex, since that takes memory.
    static STARTING: Mutex<()> = Mutex::new(());
    let _alone = STARTING.lock();
    let found = SHARES.get_or_try_init(|| {
        crate::interrupts::register(LINE, replied);
        let mut found = Vec::new();
        for function in pci::functions().iter().filter(|f| pci::read(f.address, 0) == VIRTIO_9P) {
            if let Some(share) = start(function)? {
                found.try_push(&*Box::leak(boxed(share)?))?;
            }
        }
        Ok::<_, Errno>(found)
    })?;
    Ok(found)
}

/// Starts a device; None, with a line in the log, for one that is not as expected.
fn start(function: &pci::Function) -> Result<Option<Share>> {
    let refused = |why: &str| {
        log::warn!("virtio-9p at 0:{:x}: {why}", function.address.device);
        Ok(None)
    };
    let ports = function.regions[0].filter(|region| !region.is_memory());
    let Some(ports) = ports.and_then(|region| u16::try_from(region.start).ok()) else {
        return refused("it has no legacy interface");
    };
    if function.enable_msix(crate::interrupts::ISA + LINE).is_none() {
        return refused("it has no MSI-X");
    }
    let memory = Memory {
        ring: block(RING_ORDER)?,
        request: block(REQUEST_ORDER)?,
        reply: block(REPLY_ORDER)?,
    };
    let Some(device) = Device::start(ports, memory) else {
        return refused("its queue is of another kind");
    };
    let byte = |at| device.config(at);
    let len = u16::from_le_bytes([byte(0), byte(1)]);
    let tag = Vec::gather((0..len).map(|at| byte(2 + at)))?;
    Ok(Some(Share {
        tag,
        device: Mutex::new(device),
        mounted: AtomicBool::new(false),
        taken: AtomicBool::new(false),
        turns: WaitQueue::new(),
        replies: WaitQueue::new(),
    }))
}

/// 2^order pages, for good. ENOMEM.
fn block(order: u32) -> Result<Block> {
    let nodes = crate::machine().memory_nodes();
    nodes.iter().find_map(|node| frames::dma::alloc(node, order)).ok_or(Errno::ENOMEM)
}

/// A device has replied (interrupt context).
fn replied() {
    for share in SHARES.get().into_iter().flatten() {
        share.replies.wake_all();
    }
}

/// The channel of a tag. ENOENT, EBUSY where it is mounted.
fn find(tag: &[u8]) -> Result<Box<dyn Channel>> {
    let share = shares()?.iter().find(|share| share.tag == tag).ok_or(Errno::ENOENT)?;
    if share.mounted.swap(true, Ordering::Acquire) {
        return Err(Errno::EBUSY);
    }
    Ok(boxed(Mounted(share))?)
}

/// A share's only mount.
struct Mounted(&'static Share);

impl Drop for Mounted {
    fn drop(&mut self) {
        self.0.mounted.store(false, Ordering::Release);
    }
}

/// Sleeps until there is a value. EINTR for who is killed.
fn killable<R>(sleep: impl FnOnce() -> core::result::Result<R, WaitError>) -> Result<R> {
    crate::signal::killable(&current(), sleep).map_err(|_| Errno::EINTR)
}

impl Channel for Mounted {
    fn claim(&self) -> Result<()> {
        let free = || (!self.0.taken.swap(true, Ordering::Acquire)).then_some(());
        killable(|| self.0.turns.wait_exclusive(None, free))
    }

    fn release(&self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.turns.wake_one();
    }

    fn call(&self, request: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let share = self.0;
        let mut device = share.device.lock();
        let done = |device: &Device| device.is_done().then_some(());
        // What another one left under way.
        killable(|| share.replies.wait_interruptible(None, || done(&device)))?;
        device.reply();
        if !device.send(request) {
            return Err(Errno::EIO);
        }
        killable(|| share.replies.wait_interruptible(None, || done(&device)))?;
        take(device.reply())
    }
}
