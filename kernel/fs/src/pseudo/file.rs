//! Files of text.

use super::{Access, PseudoFs, Style};
use crate::file::{File, FileOps, Llseek};
use crate::inode::{Inode, InodeBase, OpenArgs, SetAttr};
use crate::oflag;
use crate::poll::{PollMask, PollTable};
use crate::stat::Metadata;
use abi::raw::general as g;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use frames::fallible::{TryVec, arc, filled};
use hal::user::{Sink, Source};
use sync::Mutex;

/// Text being made: write to it by `write!`, or add bytes. What is refused memory is whole no
/// more, and is not shown.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    refused: bool,
}

impl Text {
    /// What there is of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// ENOMEM when a part of it was refused.
    fn whole(&self) -> Result<()> {
        if self.refused { Err(Errno::ENOMEM) } else { Ok(()) }
    }
    /// Adds bytes that need not be text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.refused |= self.bytes.try_extend(bytes).is_err();
    }
    /// `write!` without a result: the text itself keeps it.
    pub fn put(&mut self, args: fmt::Arguments<'_>) {
        self.refused |= fmt::Write::write_fmt(self, args).is_err();
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.bytes(s.as_bytes());
        if self.refused { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Text that is made piece by piece, for files that may be large.
pub trait Records: Send {
    /// Adds the next piece; false when there is none.
    fn next(&mut self, out: &mut Text) -> Result<bool>;
}

/// Makes the whole text.
pub type Show = Box<dyn Fn(&mut Text) -> Result<()> + Send + Sync>;
/// Takes what one write(2) wrote.
pub type Store = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;
/// Starts making the text anew.
type Start = Box<dyn Fn() -> Result<Box<dyn Records>> + Send + Sync>;

enum Content {
    Whole(Show),
    Pieces(Start),
}

/// A file whose text is made by closures when it is read from the start.
pub struct TextFile {
    base: InodeBase,
    style: Style,
    content: Content,
    store: Option<Store>,
}

impl TextFile {
    /// A file with the next free inode number. `mode`: permission bits.
    pub fn new(fs: &Arc<PseudoFs>, mode: u32, show: Show, store: Option<Store>) -> Arc<Self> {
        let access = fs.style().access;
        Self::with_base(fs, fs.base(g::S_IFREG | mode), access, show, store)
    }

    /// A file with attributes of the caller's choice.
    pub fn with_base(
        fs: &Arc<PseudoFs>,
        base: InodeBase,
        access: Access,
        show: Show,
        store: Option<Store>,
    ) -> Arc<Self> {
        let style = Style { access, ..fs.style() };
        Arc::new(Self { base, style, content: Content::Whole(show), store })
    }

    /// A file made piece by piece while it is read.
    pub fn pieces(
        fs: &Arc<PseudoFs>,
        base: InodeBase,
        start: impl Fn() -> Result<Box<dyn Records>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let content = Content::Pieces(Box::new(start));
        Arc::new(Self { base, style: fs.style(), content, store: None })
    }
}

impl Inode for TextFile {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn metadata(&self) -> Metadata {
        self.base.metadata(self.style.file_size, 0)
    }
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        // Truncation (of "echo x > attribute") means nothing.
        self.base.apply(change);
        Ok(())
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        let writes = args.flags & oflag::O_ACCMODE != oflag::O_RDONLY;
        if writes && self.store.is_none() && self.style.refuses_open {
            return Err(Errno::EACCES);
        }
        Ok(arc(Opened { file: self, window: Mutex::new(Window::default()) })?)
    }
}

/// One opening: what was made of the text so far.
struct Opened {
    file: Arc<TextFile>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    /// Offset of the first byte of `text`; what was before has been read.
    start: u64,
    text: Text,
    /// More to come; None before the first read and, for whole texts, always.
    records: Option<Box<dyn Records>>,
    /// The text was begun.
    begun: bool,
}

impl Window {
    fn begin(&mut self, content: &Content) -> Result<()> {
        *self = Self { begun: true, ..Self::default() };
        match content {
            Content::Whole(show) => {
                let made = show(&mut self.text).and_then(|()| self.text.whole());
                made.inspect_err(|_| self.begun = false)
            }
            Content::Pieces(start) => {
                self.records = Some(start()?);
                Ok(())
            }
        }
    }

    /// Makes text until there is some at `at`, or the end.
    fn reach(&mut self, at: u64, content: &Content) -> Result<()> {
        // Reading from the start makes the text anew, and so does going back to what is gone.
        if at == 0 || at < self.start || !self.begun {
            self.begin(content)?;
        }
        while self.start + (self.text.bytes.len() as u64) <= at {
            let Some(records) = &mut self.records else { return Ok(()) };
            // All that is there has been read.
            self.start += self.text.bytes.len() as u64;
            self.text.bytes.clear();
            let more = records.next(&mut self.text)?;
            self.text.whole().inspect_err(|_| self.begun = false)?;
            if !more {
                self.records = None;
            }
        }
        Ok(())
    }
}

impl FileOps for Opened {
    fn llseek(&self) -> Llseek {
        self.file.style.access.llseek
    }

    fn pollable(&self) -> bool {
        self.file.style.access.pollable
    }

    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let mut window = self.window.lock();
        let mut done = 0;
        while dst.room() > 0 {
            let here = at + done as u64;
            if done == 0 {
                window.reach(here, &self.file.content)?;
            } else if window.records.is_none() || window.reach(here, &self.file.content).is_err() {
                break;
            }
            let skip = (here - window.start).min(window.text.bytes.len() as u64) as usize;
            let rest = &window.text.bytes[skip..];
            let want = rest.len().min(dst.room());
            if want == 0 {
                break;
            }
            match dst.put(&rest[..want]) {
                Ok(n) => {
                    done += n;
                    if n < want {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        let store = self.file.store.as_ref().ok_or(self.file.style.write_error)?;
        let mut data = filled(0, src.left().min(PAGE_SIZE))?;
        let n = if data.is_empty() { 0 } else { src.get(&mut data)? };
        store(&data[..n])?;
        Ok(n)
    }

    fn poll(&self, _file: &File, interest: PollMask, _table: Option<&mut PollTable>) -> PollMask {
        (PollMask::READABLE | PollMask::WRITABLE) & interest
    }
}
