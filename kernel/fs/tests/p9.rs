//! A share over a server in memory.

mod common;

use abi::raw::general as g;
use abi::{Errno, Result};
use fs::boot::as_kernel;
use fs::context::{At, Lookup};
use fs::mount::Mount;
use fs::oflag;
use fs::p9::{Channel, LONGEST_REPLY, mount};
use std::sync::Arc;

/// Kinds of requests (9P2000.L).
mod message {
    pub const LOPEN: u8 = 12;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const READDIR: u8 = 40;
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const CLUNK: u8 = 120;
}

/// A request's fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(len);
        self.0 = rest;
        first
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes(2).try_into().unwrap())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }
    fn text(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.bytes(len.into())
    }
}

/// What there is: path, mode, contents or target.
const FILES: &[(&str, u32, &str)] = &[
    ("", 0o040_755, ""),
    ("a", 0o040_755, ""),
    ("a/b.txt", 0o100_644, "hello"),
    ("a/secret", 0o100_600, "!"),
    ("out", 0o120_777, "/elsewhere"),
    ("in", 0o120_777, "a/b.txt"),
];

#[derive(Default)]
struct Server {
    at: sync::SpinLock<Option<usize>>,
}

fn children(of: usize) -> Vec<&'static str> {
    let dir = FILES[of].0;
    let inside = |path: &&(&'static str, u32, &str)| {
        !path.0.is_empty() && path.0.rsplit_once('/').map_or("", |(above, _)| above) == dir
    };
    FILES.iter().filter(inside).map(|file| file.0.rsplit('/').next().unwrap()).collect()
}

impl Server {
    fn answer(&self, kind: u8, mut ask: Fields<'_>, out: &mut Vec<u8>) -> Result<()> {
        let qid = |at: usize| [&[0; 5], &(at as u64).to_le_bytes()[..]].concat();
        let current = || (*self.at.lock()).ok_or(Errno::EBADF);
        match kind {
            message::VERSION => {
                let size = ask.u32();
                out.extend(size.to_le_bytes());
                out.extend([8, 0]);
                out.extend(ask.text());
            }
            message::ATTACH => out.extend(qid(0)),
            message::CLUNK => {
                assert_eq!(ask.u32(), 1);
                self.at.lock().take().ok_or(Errno::EBADF)?;
            }
            message::WALK => {
                let (from, to, count) = (ask.u32(), ask.u32(), ask.u16());
                assert!(to == 1 && count <= 16);
                assert!(from == 1 || self.at.lock().is_none(), "a number that is in use");
                let mut path = String::from(if from == 0 { "" } else { FILES[current()?].0 });
                let mut walked = 0u16;
                for _ in 0..count {
                    let name = String::from_utf8(ask.text().to_vec()).unwrap();
                    assert!(!name.contains('/') && name != ".." && !name.is_empty());
                    path = if path.is_empty() { name } else { format!("{path}/{name}") };
                    walked += u16::from(FILES.iter().any(|file| file.0 == path));
                }
                if walked == count {
                    *self.at.lock() = FILES.iter().position(|file| file.0 == path);
                }
                out.extend(walked.to_le_bytes());
                (0..walked).for_each(|_| out.extend(qid(0)));
            }
            message::GETATTR => {
                let at = current()?;
                out.extend(0x7ffu64.to_le_bytes());
                out.extend(qid(at));
                out.extend(FILES[at].1.to_le_bytes());
                out.extend([0; 8]);
                for word in [1, 0, FILES[at].2.len() as u64, 4096, 8, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0]
                {
                    out.extend(word.to_le_bytes());
                }
            }
            message::READLINK => {
                let target = FILES[current()?].2;
                out.extend((target.len() as u16).to_le_bytes());
                out.extend(target.bytes());
            }
            message::LOPEN => {
                let at = current()?;
                if FILES[at].0.ends_with("secret") {
                    return Err(Errno::EACCES);
                }
                out.extend(qid(at));
                out.extend([0; 4]);
            }
            message::READ => {
                let (_, at) = (ask.u32(), ask.u64() as usize);
                let bytes = FILES[current()?].2.as_bytes();
                let rest = &bytes[at.min(bytes.len())..];
                // Short reads are no ends.
                let part = &rest[..rest.len().min(2)];
                out.extend((part.len() as u32).to_le_bytes());
                out.extend(part);
            }
            message::READDIR => {
                let (_, at) = (ask.u32(), ask.u64() as usize);
                let mut names: Vec<&str> = [".", ".."].into();
                names.extend(children(current()?));
                let mut list = Vec::new();
                for (index, name) in names.iter().enumerate().skip(at).take(2) {
                    list.extend(qid(index));
                    list.extend((index as u64 + 1).to_le_bytes());
                    list.push(8);
                    list.extend((name.len() as u16).to_le_bytes());
                    list.extend(name.bytes());
                }
                out.extend((list.len() as u32).to_le_bytes());
                out.extend(list);
            }
            other => panic!("request {other}"),
        }
        Ok(())
    }
}

impl Channel for Server {
    fn claim(&self) -> Result<()> {
        Ok(())
    }
    fn release(&self) {}
    fn call(&self, request: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let kind = request[4];
        let mut out = vec![0, 0, 0, 0, kind + 1, 0xff, 0xff];
        if let Err(error) = self.answer(kind, Fields(&request[7..]), &mut out) {
            out.truncate(7);
            out[4] = 7;
            out.extend(u32::from(error.code()).to_le_bytes());
        }
        assert!(out.len() <= LONGEST_REPLY);
        let len = out.len() as u32;
        out[..4].copy_from_slice(&len.to_le_bytes());
        take(&out)
    }
}

fn find(tag: &[u8]) -> Result<Box<dyn Channel>> {
    if tag == b"share" { Ok(Box::new(Server::default())) } else { Err(Errno::ENOENT) }
}

#[test]
fn names_attributes_and_contents_are_the_servers() {
    common::memory();
    let sb = mount("share", "trans=virtio", find).unwrap();
    let root = Mount::new(sb, "share", g::MS_RDONLY).unwrap().top();
    as_kernel(&root, |caller| {
        let look = |path: &[u8]| caller.lookup(At::Cwd, path, Lookup::FOLLOW);
        let meta = look(b"a/b.txt").unwrap().metadata();
        assert_eq!((meta.mode, meta.size, meta.nlink), (0o100_644, 5, 1));
        assert_eq!((meta.atime, meta.mtime), (5_000_000_006, 7_000_000_008));
        assert_eq!(look(b"a/none").err(), Some(Errno::ENOENT));
        assert_eq!(look(b"a/b.txt/x").err(), Some(Errno::ENOTDIR));
        // A link out of the share is looked for among the guest's own names.
        assert_eq!(look(b"out").err(), Some(Errno::ENOENT));
        let file = caller.open_existing(&look(b"in").unwrap(), oflag::O_RDONLY).unwrap();
        let mut bytes = [0; 9];
        assert_eq!(file.read_kernel(&mut bytes, 0), Ok(5));
        assert_eq!(&bytes, b"hello\0\0\0\0");
        assert_eq!(file.read_kernel(&mut bytes, 4), Ok(1));
        let secret = look(b"a/secret").unwrap();
        assert_eq!(caller.open_existing(&secret, oflag::O_RDONLY).err(), Some(Errno::EACCES));
        let place = look(b"a/b.txt").unwrap();
        assert_eq!(caller.open_existing(&place, oflag::O_RDWR).err(), Some(Errno::EROFS));
        let mut names = Vec::new();
        let mut from = 0;
        let dir = look(b"a").unwrap();
        for _ in 0..3 {
            dir.inode()
                .readdir(from, &mut |entry| {
                    names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                    from = entry.next;
                    false
                })
                .unwrap();
        }
        assert_eq!(names, ["b.txt", "secret"]);
        drop((secret, place, dir));
        // What nobody uses is forgotten, and found again; what is open stays.
        let unused = Arc::downgrade(look(b"a/secret").unwrap().inode());
        let open = Arc::downgrade(file.inode());
        assert!(!fs::p9::shrink(&|| true) && unused.upgrade().is_some());
        assert!(fs::p9::shrink(&|| false));
        assert!(unused.upgrade().is_none() && open.upgrade().is_some());
        assert_eq!(file.read_kernel(&mut bytes, 0), Ok(5));
        assert!(look(b"a/secret").is_ok());
        drop(file);
        // An entry goes once those below it have gone.
        fs::p9::shrink(&|| false);
        fs::p9::shrink(&|| false);
        assert!(open.upgrade().is_none());
        assert!(look(b"a/b.txt").is_ok());
    });
}

#[test]
fn only_virtio_carries_and_only_tags_that_are_there() {
    common::memory();
    assert_eq!(mount("share", "trans=tcp", find).err(), Some(Errno::EINVAL));
    assert_eq!(mount("other", "", find).err(), Some(Errno::ENOENT));
}
