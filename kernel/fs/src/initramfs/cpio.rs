//! cpio archives in the "newc" format, as a machine that takes its input in pieces.

use super::UnpackError;
use crate::context::{At, Caller, Lookup, OpenHow, Ownership};
use crate::file::File;
use crate::inode::TimeChange;
use crate::oflag;
use crate::stat::{DevId, FileType};
use abi::raw::general as g;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::user::KernelSource;

/// Bytes of a header: magic and thirteen fields of eight hexadecimal digits.
const HEADER: usize = 110;
/// Longest name with its NUL, and longest link target.
const PATH_MAX: usize = 4096;

/// Fields of a header.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    ino: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    mtime: u32,
    size: u32,
    dev: (u32, u32),
    rdev: (u32, u32),
    name_len: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, UnpackError> {
        match bytes.get(..6) {
            Some(b"070701" | b"070702") => {}
            Some(b"070707") => return Err(UnpackError::WrongCpio),
            _ => return Err(UnpackError::NoCpioMagic),
        }
        let mut fields = [0u32; 13];
        for (index, field) in fields.iter_mut().enumerate() {
            let digits = bytes.get(6 + index * 8..14 + index * 8).ok_or(UnpackError::Truncated)?;
            for &digit in digits {
                let value = (digit as char).to_digit(16).ok_or(UnpackError::NoCpioMagic)?;
                *field = *field << 4 | value;
            }
        }
        let [ino, mode, uid, gid, nlink, mtime, size, major, minor, rmajor, rminor, name_len, _] =
            fields;
        Ok(Self {
            ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            size,
            dev: (major, minor),
            rdev: (rmajor, rminor),
            name_len: name_len as usize,
        })
    }
}

/// What the next bytes are.
enum State {
    /// Between entries: a header, zeroes, or a new archive.
    Header,
    /// Name (or name and link target), being gathered.
    Name(Header),
    /// A file's contents: what is left of them.
    Body { file: Option<Arc<File>>, left: u64, mtime: u32 },
    /// After the trailer: only zeroes, until something begins.
    Between,
}

/// Identifies a file with several names.
type LinkKey = (u32, (u32, u32), u32);

/// Unpacks entries as they come.
pub(super) struct Unpacker<'a> {
    caller: &'a Caller<'a>,
    state: State,
    /// Bytes of a header or name that is not complete yet.
    gathered: Vec<u8>,
    /// Padding still to be skipped.
    padding: usize,
    /// Bytes of the archive so far: headers are aligned to it.
    offset: u64,
    links: BTreeMap<LinkKey, Vec<u8>>,
    /// Directories' times are set in the end: making entries changes them.
    dir_times: Vec<(Vec<u8>, u32)>,
    /// The first failure to write; unpacking goes on to what can be written.
    failed: bool,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(caller: &'a Caller<'a>) -> Self {
        Self {
            caller,
            state: State::Header,
            gathered: Vec::new(),
            padding: 0,
            offset: 0,
            links: BTreeMap::new(),
            dir_times: Vec::new(),
            failed: false,
        }
    }

    /// A new archive or stream begins.
    pub(super) fn begin(&mut self) {
        self.state = State::Header;
        self.gathered.clear();
        self.offset = 0;
        self.padding = 0;
    }

    /// An uncompressed archive at the start of `data`, to its trailer; bytes it occupied.
    pub(super) fn archive(&mut self, data: &[u8]) -> Result<usize, UnpackError> {
        self.begin();
        let taken = self.feed(data, true)?;
        if self.at_boundary() { Ok(taken) } else { Err(UnpackError::Truncated) }
    }

    /// Between entries. An archive may lack its trailer, as Linux allows.
    fn at_boundary(&self) -> bool {
        match self.state {
            State::Between => true,
            State::Header => self.gathered.is_empty(),
            _ => false,
        }
    }

    /// Decompressed data: any number of archives.
    pub(super) fn stream(&mut self, data: &[u8]) -> Result<(), UnpackError> {
        self.feed(data, false).map(|_| ())
    }

    /// A compressed stream is over.
    pub(super) fn stream_ended(&mut self) -> Result<(), UnpackError> {
        if self.at_boundary() { Ok(()) } else { Err(UnpackError::Truncated) }
    }

    /// Sets directories' times, and reports what could not be written.
    pub(super) fn finish(&mut self) -> Result<(), UnpackError> {
        for (path, mtime) in core::mem::take(&mut self.dir_times) {
            self.set_time(&path, mtime);
        }
        if self.failed { Err(UnpackError::Write) } else { Ok(()) }
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    fn pad(&mut self) {
        self.padding = (self.offset.next_multiple_of(4) - self.offset) as usize;
    }

    /// Gathers `want` bytes; true when they are complete.
    fn gather(&mut self, data: &[u8], at: &mut usize, want: usize) -> bool {
        let take = (want - self.gathered.len()).min(data.len() - *at);
        self.gathered.extend_from_slice(&data[*at..*at + take]);
        *at += take;
        self.advance(take);
        self.gathered.len() == want
    }

    /// Takes `data`; with `one`, stops behind a trailer. Bytes taken.
    fn feed(&mut self, data: &[u8], one: bool) -> Result<usize, UnpackError> {
        let mut at = 0;
        loop {
            if self.padding > 0 {
                let skip = self.padding.min(data.len() - at);
                self.padding -= skip;
                at += skip;
                self.advance(skip);
                if self.padding > 0 {
                    return Ok(at);
                }
            }
            match &self.state {
                State::Between => {
                    if one || at == data.len() {
                        return Ok(at);
                    }
                    match data[at] {
                        0 => {
                            at += 1;
                            self.advance(1);
                        }
                        b'0' if self.offset.is_multiple_of(4) => self.state = State::Header,
                        _ => return Err(UnpackError::Junk),
                    }
                }
                State::Header => {
                    if at == data.len() {
                        return Ok(at);
                    }
                    if self.gathered.is_empty() && data[at] == 0 {
                        at += 1;
                        self.advance(1);
                        continue;
                    }
                    if !self.gather(data, &mut at, HEADER) {
                        return Ok(at);
                    }
                    let header = Header::parse(&self.gathered)?;
                    self.gathered.clear();
                    if header.name_len == 0 || header.name_len > PATH_MAX {
                        // Linux skips such an entry; its length cannot be trusted, though.
                        return Err(UnpackError::BadName);
                    }
                    self.state = State::Name(header);
                }
                &State::Name(header) => {
                    // A link's target follows its name, both padded.
                    let name_end = (HEADER + header.name_len).next_multiple_of(4) - HEADER;
                    let is_link = FileType::from_mode(header.mode) == Some(FileType::Symlink);
                    let target = if is_link { header.size as usize } else { 0 };
                    if target >= PATH_MAX {
                        return Err(UnpackError::BadName);
                    }
                    let want = if is_link { name_end + target } else { header.name_len };
                    if !self.gather(data, &mut at, want) {
                        return Ok(at);
                    }
                    let gathered = core::mem::take(&mut self.gathered);
                    self.entry(header, &gathered, name_end)?;
                    if !matches!(self.state, State::Between) || !one {
                        self.pad();
                    }
                }
                State::Body { left, .. } => {
                    let take = (*left).min((data.len() - at) as u64) as usize;
                    if take == 0 && *left > 0 {
                        return Ok(at);
                    }
                    self.body(&data[at..at + take]);
                    at += take;
                }
            }
        }
    }

    fn body(&mut self, data: &[u8]) {
        self.advance(data.len());
        let State::Body { file, left, mtime } = &mut self.state else { return };
        *left -= data.len() as u64;
        let done = *left == 0;
        let mut source = KernelSource(data);
        if let Some(open) = file {
            while hal::user::Source::left(&source) > 0 {
                match open.write(&mut source) {
                    Ok(n) if n > 0 => {}
                    _ => {
                        self.failed = true;
                        *file = None;
                        break;
                    }
                }
            }
        }
        if done {
            if let Some(file) = file {
                let time = TimeChange::Set(*mtime as i64 * 1_000_000_000);
                // Times are a nicety: nothing depends on them.
                let _ = self.caller.set_times(file.place(), TimeChange::Keep, time);
            }
            self.state = State::Header;
            self.pad();
        }
    }

    /// A header and its name (and link target from `name_end` on) are complete.
    fn entry(&mut self, header: Header, text: &[u8], name_end: usize) -> Result<(), UnpackError> {
        self.state = State::Header;
        let name = &text[..header.name_len];
        let Some((0, name)) = name.split_last() else { return Err(UnpackError::BadName) };
        // What is behind an inner NUL is not part of the name.
        let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
        let has_body = !matches!(FileType::from_mode(header.mode), Some(FileType::Symlink));
        if has_body && header.size > 0 {
            self.state = State::Body { file: None, left: header.size as u64, mtime: 0 };
        }
        if name == b"TRAILER!!!" {
            self.links.clear();
            if header.size == 0 {
                self.state = State::Between;
            }
            return Ok(());
        }
        if name.is_empty() {
            return Ok(());
        }
        match FileType::from_mode(header.mode) {
            Some(FileType::Regular) => self.regular(header, name),
            Some(FileType::Directory) => self.directory(header, name),
            Some(FileType::Symlink) => self.symlink(header, name, &text[name_end..]),
            Some(_) => self.node(header, name),
            // An unknown type: its contents are skipped.
            None => {}
        }
        Ok(())
    }

    /// Removes what stands under `name` if it is of another type than `keep`.
    fn clear(&self, name: &[u8], keep: Option<FileType>) {
        let Ok(meta) = self.caller.stat(At::Cwd, name, Lookup::NOFOLLOW) else { return };
        if keep == Some(meta.file_type()) {
            return;
        }
        // A failure shows when the new entry is made.
        let _ = if meta.file_type() == FileType::Directory {
            self.caller.rmdir(At::Cwd, name)
        } else {
            self.caller.unlink(At::Cwd, name)
        };
    }

    /// For a file with several names: true when an earlier one was linked to `name`.
    fn linked(&mut self, header: &Header, name: &[u8]) -> bool {
        if header.nlink < 2 {
            return false;
        }
        let key = (header.ino, header.dev, header.mode & g::S_IFMT);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, name.to_vec());
            return false;
        };
        if first == name {
            return true;
        }
        self.clear(name, None);
        let done = self.caller.link(At::Cwd, first, Lookup::NOFOLLOW, At::Cwd, name);
        self.failed |= done.is_err();
        done.is_ok()
    }

    fn regular(&mut self, header: Header, name: &[u8]) {
        self.clear(name, Some(FileType::Regular));
        let linked = self.linked(&header, name);
        // Contents may come with any of the names: only the first empties the file.
        let truncate = if linked { 0 } else { oflag::O_TRUNC };
        let flags = oflag::O_WRONLY | oflag::O_CREAT | oflag::O_NOFOLLOW | truncate;
        let how = OpenHow { flags, mode: header.mode & 0o7777, resolve: 0 };
        match self.caller.open(At::Cwd, name, &how) {
            Ok(file) => {
                self.adopt(&header, name);
                if header.size > 0 {
                    let (left, mtime) = (header.size as u64, header.mtime);
                    self.state = State::Body { file: Some(file), left, mtime };
                }
            }
            Err(_) => self.failed = true,
        }
        if header.size == 0 {
            self.set_time(name, header.mtime);
        }
    }

    fn directory(&mut self, header: Header, name: &[u8]) {
        self.clear(name, Some(FileType::Directory));
        match self.caller.mkdir(At::Cwd, name, header.mode & 0o1777) {
            Ok(()) | Err(abi::Errno::EEXIST) => {
                self.adopt(&header, name);
                self.dir_times.push((name.to_vec(), header.mtime));
            }
            Err(_) => self.failed = true,
        }
    }

    fn symlink(&mut self, header: Header, name: &[u8], target: &[u8]) {
        self.clear(name, None);
        let target = target.split(|&b| b == 0).next().unwrap_or(&[]);
        match self.caller.symlink(target, At::Cwd, name) {
            Ok(()) => self.adopt(&header, name),
            Err(_) => self.failed = true,
        }
        self.set_time(name, header.mtime);
    }

    fn node(&mut self, header: Header, name: &[u8]) {
        let kind = FileType::from_mode(header.mode);
        self.clear(name, kind);
        if self.linked(&header, name) {
            return;
        }
        let rdev = DevId::new(header.rdev.0, header.rdev.1);
        match self.caller.mknod(At::Cwd, name, header.mode, rdev) {
            Ok(()) => self.adopt(&header, name),
            // A node that is there (/dev/console of the root file system) stays.
            Err(abi::Errno::EEXIST) => self.adopt(&header, name),
            Err(_) => self.failed = true,
        }
        self.set_time(name, header.mtime);
    }

    /// Owner and mode as the archive says.
    fn adopt(&mut self, header: &Header, name: &[u8]) {
        let Ok(place) = self.caller.lookup(At::Cwd, name, Lookup::NOFOLLOW) else { return };
        let owner = Ownership { uid: Some(header.uid), gid: Some(header.gid) };
        self.failed |= self.caller.chown(&place, owner).is_err();
        if place.inode().base().file_type() != FileType::Symlink {
            self.failed |= self.caller.chmod(&place, header.mode & 0o7777).is_err();
        }
    }

    fn set_time(&self, name: &[u8], mtime: u32) {
        if let Ok(place) = self.caller.lookup(At::Cwd, name, Lookup::NOFOLLOW) {
            let time = TimeChange::Set(mtime as i64 * 1_000_000_000);
            // Times are a nicety: nothing depends on them.
            let _ = self.caller.set_times(&place, TimeChange::Keep, time);
        }
    }
}
