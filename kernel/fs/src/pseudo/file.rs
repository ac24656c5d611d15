//! Files of text.

use super::{Access, News, PseudoFs, Style};
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
use core::sync::atomic::AtomicU64;
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
    pub fn whole(&self) -> Result<()> {
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
    /// A decimal number at the right end of `width` columns, up to 24; of more if it needs them.
    pub fn right(&mut self, mut value: u64, width: usize) {
        let mut digits = [b' '; 24];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.bytes(&digits[first.min(digits.len().saturating_sub(width))..]);
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.bytes(s.as_bytes());
        if self.refused { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Text that is made record by record, for files that may be large. As on Linux one read gives as
/// many whole records as go into a page: programs take less than they asked for as the end.
pub trait Records: Send {
    /// Adds the next record; false when there is none.
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
        access: Access,
        start: impl Fn() -> Result<Box<dyn Records>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let style = Style { access, ..fs.style() };
        Arc::new(Self { base, style, content: Content::Pieces(Box::new(start)), store: None })
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
        let seen = self.style.access.news.map_or(0, News::seen);
        let window = Mutex::new(Window::default());
        Ok(arc(Opened { file: self, window, seen: AtomicU64::new(seen) })?)
    }
}

/// One opening: what was made of the text so far.
struct Opened {
    file: Arc<TextFile>,
    window: Mutex<Window>,
    /// Changes that were told.
    seen: AtomicU64,
}

#[derive(Default)]
struct Window {
    /// Offset of the first byte of `text`; what was before has been read.
    start: u64,
    text: Text,
    /// More to come; None before the first read, at the end and, for whole texts, always.
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

    /// Makes text until there is some at `at`, or the end. Of records, what lies before is dropped.
    fn reach(&mut self, at: u64, content: &Content) -> Result<()> {
        // Reading from the start makes the text anew, and so does going back to what is gone.
        if at == 0 || at < self.start || !self.begun {
            self.begin(content)?;
        }
        while let Some(records) = &mut self.records {
            let read = (at - self.start).min(self.text.bytes.len() as u64);
            self.text.bytes.drain(..read as usize);
            self.start += read;
            if !self.text.bytes.is_empty() {
                break;
            }
            let more = records.next(&mut self.text)?;
            self.text.whole().inspect_err(|_| self.begun = false)?;
            if !more {
                self.records = None;
            }
        }
        Ok(())
    }

    /// The text at `at` for a read of up to `room` bytes: of records, whole ones and no more than go
    /// into a buffer, unless the first one alone is larger.
    fn take(&mut self, at: u64, room: usize) -> &[u8] {
        const BUFFER: usize = PAGE_SIZE;
        let skip = (at - self.start).min(self.text.bytes.len() as u64) as usize;
        let mut end = self.text.bytes.len();
        while end - skip < room.min(BUFFER)
            && let Some(records) = &mut self.records
        {
            // What fails now has said something before: it fails at the next read.
            match records.next(&mut self.text) {
                Ok(true) if self.text.bytes.len() - skip <= BUFFER => end = self.text.bytes.len(),
                Ok(false) => self.records = None,
                Ok(true) | Err(_) => break,
            }
        }
        &self.text.bytes[skip..end.min(skip + room)]
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
        if dst.room() == 0 {
            return Ok(0);
        }
        let mut window = self.window.lock();
        window.reach(at, &self.file.content)?;
        let text = window.take(at, dst.room());
        if text.is_empty() { Ok(0) } else { dst.put(text) }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        let store = self.file.store.as_ref().ok_or(self.file.style.write_error)?;
        let mut data = filled(0, src.left().min(PAGE_SIZE))?;
        let n = if data.is_empty() { 0 } else { src.get(&mut data)? };
        store(&data[..n])?;
        Ok(n)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let access = &self.file.style.access;
        let Some(news) = access.news else {
            return (PollMask::READABLE | PollMask::WRITABLE) & interest;
        };
        let changed = news.poll(&self.seen, table);
        // Of settings Linux says that they can be written, too, until they change.
        let writable = changed.is_none() && access.llseek == Llseek::File;
        let also = if writable { PollMask::WRITABLE } else { PollMask::empty() };
        let ready = PollMask::READABLE | also | changed.unwrap_or_default();
        ready & (interest | PollMask::ALWAYS)
    }
}
