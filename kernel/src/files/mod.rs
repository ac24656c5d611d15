//! Files as the rest of the kernel needs them: mapping, environment of the file layer.

pub mod env;

use crate::syscalls::Ctx;
use abi::flags::Prot;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use frames::fallible::lossy;
use fs::{FdTable, File, FsContext, MapTarget};
use sync::Once;
use vm::map::What;
use vm::{MappedFile, MemObject};

/// A file behind a mapping.
struct Mapped(Arc<File>);

impl MappedFile for Mapped {
    fn path(&self) -> Result<String> {
        lossy(self.0.place().text(None)?)
    }
    fn id(&self) -> (u64, u64) {
        let meta = self.0.metadata();
        (meta.dev.encode(), meta.ino)
    }
    fn opening(&self) -> Option<usize> {
        Some(Arc::as_ptr(&self.0).addr())
    }
}

/// The file as an area keeps it.
pub fn mapped(file: &Arc<File>) -> Arc<dyn MappedFile> {
    Arc::new(Mapped(file.clone()))
}

/// The pages of a file, if it has any.
pub fn object_of(file: &File) -> Option<Arc<MemObject>> {
    match file.map(false, Prot::READ) {
        Ok(MapTarget::Object(object)) => Some(object),
        _ => None,
    }
}

/// What mmap(2) of a descriptor maps.
pub fn map_target(c: &Ctx<'_>, fd: i32, prot: Prot, shared: bool, off: u64) -> Result<What> {
    let file = c.task.files.lock().clone().get(fd)?;
    match file.map(shared, prot)? {
        MapTarget::Anonymous => Ok(if shared { What::SharedAnon } else { What::Anon }),
        MapTarget::Object(object) => {
            if off.checked_add(1 << 12).is_none() {
                return Err(Errno::EOVERFLOW);
            }
            let seals = file.inode().seals().unwrap_or(0);
            let sealed = seals & (g::F_SEAL_WRITE | g::F_SEAL_FUTURE_WRITE) != 0;
            Ok(What::Object {
                object,
                file: Some(mapped(&file)),
                pgoff: off / vm::PAGE,
                shared,
                may_write: !shared || file.writable() && !sealed,
            })
        }
    }
}

/// Directories of tasks that have ended: the root of all.
pub fn no_fs() -> Arc<FsContext> {
    static NONE: Once<Arc<FsContext>> = Once::new();
    NONE.get_or_init(|| Arc::new(FsContext::new(crate::boot::init::root()))).clone()
}

/// The descriptor table of tasks that have ended, and of the kernel's own: empty.
pub fn no_files() -> Arc<FdTable> {
    static NONE: Once<Arc<FdTable>> = Once::new();
    NONE.get_or_init(|| Arc::new(FdTable::new())).clone()
}
