//! A directory that is filled when somebody first looks into it: with hundreds of CPUs and nodes
//! most are never asked for.

use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::file::{FileOps, Llseek};
use fs::inode::{Entry, Inode, InodeBase, OpenArgs};
use fs::pseudo::{Dir, PseudoFs};
use sync::Once;

/// Enters what belongs in the directory.
type Fill = Box<dyn Fn(&Arc<PseudoFs>, &Dir) + Send + Sync>;

/// The directory.
pub struct Lazy {
    base: InodeBase,
    fs: Arc<PseudoFs>,
    fill: Fill,
    dir: Once<Arc<Dir>>,
}

impl Lazy {
    /// A directory that `fill` fills.
    pub fn dir(
        fs: &Arc<PseudoFs>,
        fill: impl Fn(&Arc<PseudoFs>, &Dir) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let base = fs.base(g::S_IFDIR | 0o755);
        Arc::new(Self { base, fs: fs.clone(), fill: Box::new(fill), dir: Once::new() })
    }

    fn filled(&self) -> &Arc<Dir> {
        self.dir.get_or_init(|| {
            let dir = Dir::new(&self.fs);
            (self.fill)(&self.fs, &dir);
            self.base.set_nlink(dir.base().nlink());
            dir
        })
    }
}

impl Inode for Lazy {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.filled().get(name).ok_or(Errno::ENOENT)
    }
    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        self.filled().emit(from, emit);
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for Lazy {
    fn llseek(&self) -> Llseek {
        Llseek::Small
    }
}
