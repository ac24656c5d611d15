//! /dev/mem: the memory of PCI devices, for programs that drive them. The machine's own memory is not
//! given, as on a Linux with CONFIG_STRICT_DEVMEM.

use crate::pci;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use frames::fallible::arc;
use fs::dev::{CharDevice, register_char};
use fs::file::Llseek;
use fs::inode::OpenArgs;
use fs::stat::DevId;
use fs::{Cap, File, FileOps};
use hal::user::{Sink, Source};
use hal::{Pfn, PhysAddr, phys};

const DEVICE: DevId = DevId::new(1, 1);
const PAGE: u64 = vm::PAGE;

/// Registers the device and makes its node.
pub fn init(devtmpfs: &Arc<fs::mount::Super>) {
    register_char(DEVICE, 1, Arc::new(Driver));
    if let Err(error) = fs::boot::add_node(devtmpfs, "mem", g::S_IFCHR | 0o600, DEVICE) {
        log::warn!("/dev/mem: {error}");
    }
}

struct Driver;

impl CharDevice for Driver {
    fn open(&self, _rdev: DevId, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        if !args.creds.has(Cap::SysRawio) {
            return Err(Errno::EPERM);
        }
        Ok(arc(Memory)?)
    }
}

struct Memory;

/// The page at `at`, where the byte lies in it, and how many of `want` are there. EPERM.
fn page(at: u64, want: usize) -> Result<(Pfn, usize, usize)> {
    let given = pci::functions()
        .iter()
        .flat_map(pci::Function::memory)
        .any(|region| (region.start..region.start + region.len).contains(&at));
    if !given {
        return Err(Errno::EPERM);
    }
    let from = (at % PAGE) as usize;
    Ok((Pfn::containing(PhysAddr::new(at)), from, want.min(PAGE as usize - from)))
}

impl FileOps for Memory {
    fn llseek(&self) -> Llseek {
        Llseek::Address
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let mut done = 0;
        while dst.room() > 0 && !(done > 0 && vm::env::killed()) {
            let (pfn, from, step) = page(at.wrapping_add(done as u64), dst.room())?;
            let put = dst.put(&phys::bytes(pfn)[from..from + step])?;
            done += put;
            if put < step {
                break;
            }
        }
        Ok(done)
    }
    fn write(&self, _file: &File, src: &mut dyn Source, at: u64) -> Result<usize> {
        let mut done = 0;
        while src.left() > 0 && !(done > 0 && vm::env::killed()) {
            let (pfn, from, step) = page(at.wrapping_add(done as u64), src.left())?;
            let got = src.get(&mut phys::bytes_mut(pfn)[from..from + step])?;
            done += got;
            if got < step {
                break;
            }
        }
        Ok(done)
    }
}
