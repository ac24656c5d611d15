//! File systems made of closures, and memfd.

mod common;

use abi::Errno;
use abi::flags::Prot;
use abi::raw::general as g;
use common::{World, err, get, put};
use fs::inode::Link;
use fs::oflag::*;
use fs::pseudo::{
    Access, Dir, DirSource, DynDir, DynLink, Listed, PseudoFs, Records, Style, Text, TextFile,
};
use fs::{FileType, Inode, Place, Whence, memfd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Names "1".."9" with a file each.
struct Numbers(Arc<PseudoFs>, Arc<Dir>);

impl DirSource for Numbers {
    fn lookup(&self, name: &[u8]) -> abi::Result<Arc<dyn Inode>> {
        match name {
            [digit @ b'1'..=b'9'] => {
                let digit = *digit;
                let base = self.0.base_with(1 << 32 | digit as u64, 0o100400, digit as u32, 0);
                let show = move |text: &mut Text| {
                    text.put(format_args!("number {}\n", digit as char));
                    Ok(())
                };
                Ok(TextFile::with_base(&self.0, base, Access::SEQUENCE, Box::new(show), None))
            }
            _ => Err(Errno::ENOENT),
        }
    }
    fn entry(&self, from: u64) -> abi::Result<Option<(u64, Listed)>> {
        let n = from.max(1);
        let name = n.to_string().into_bytes();
        Ok((n < 10).then_some((n, Listed { name, ino: 1 << 32 | n, kind: FileType::Regular })))
    }
    fn fixed(&self) -> Option<&Arc<Dir>> {
        Some(&self.1)
    }
}

/// "line 0\n" to "line 99999\n".
struct Lines(u32, &'static AtomicU32);

impl Records for Lines {
    fn next(&mut self, out: &mut Text) -> abi::Result<bool> {
        if self.0 == 100_000 {
            return Ok(false);
        }
        out.put(format_args!("line {}\n", self.0));
        self.0 += 1;
        self.1.fetch_add(1, Relaxed);
        Ok(true)
    }
}

fn mounted(w: &World, sb: Arc<fs::mount::Super>, name: &'static str) {
    fs::mount::register(name, Box::new(move |_, _| Ok(sb.clone())));
    w.mkdir("/p").unwrap();
    w.mount(name, "/p").unwrap();
}

#[test]
fn attributes_show_and_store() {
    let w = World::new();
    let sys = PseudoFs::new("sysfs", PseudoFs::SYSFS_MAGIC, Style::SYSFS);
    let root = Dir::root(&sys);
    let counter = Arc::new(AtomicU32::new(0));
    let shown = counter.clone();
    let node = root.dir("devices").dir("node0");
    node.text("reads", move |t| {
        t.put(format_args!("{}\n", shown.fetch_add(1, Relaxed)));
        Ok(())
    });
    let value = Arc::new(Mutex::new(Vec::new()));
    let (a, b) = (value.clone(), value.clone());
    node.attribute(
        "value",
        0o644,
        move |t| {
            t.bytes(&a.lock().unwrap());
            Ok(())
        },
        move |new| {
            if new.starts_with(b"bad") {
                return Err(Errno::EINVAL);
            }
            *b.lock().unwrap() = new.to_vec();
            Ok(())
        },
    );
    root.link("link", "devices/node0");
    mounted(&w, sys.into_super(root).unwrap(), "test-sysfs");
    // Consistent while it is read, new when it is read from the start again.
    let file = w.open("/p/devices/node0/reads", O_RDONLY).unwrap();
    assert_eq!(get(&file, 1).unwrap(), b"0");
    assert_eq!(get(&file, 9).unwrap(), b"\n");
    assert_eq!(get(&file, 9).unwrap(), b"");
    file.seek(0, Whence::Set).unwrap();
    assert_eq!(get(&file, 9).unwrap(), b"1\n");
    assert_eq!(file.metadata().size, 4096);
    w.write("/p/link/value", "hello").unwrap();
    assert_eq!(w.read("/p/link/value").unwrap(), "hello");
    let file = w.open("/p/link/value", O_WRONLY).unwrap();
    assert_eq!(err(put(&file, b"bad")), Errno::EINVAL);
    assert_eq!(err(w.open("/p/link/reads", O_WRONLY)), Errno::EACCES);
    assert_eq!(err(w.write("/p/new", "x")), Errno::EACCES);
    assert_eq!(err(w.mkdir("/p/dir")), Errno::EPERM);
    assert_eq!(err(w.unlink("/p/link")), Errno::EPERM);
    assert_eq!(w.list("/p"), [".", "..", "devices", "link"]);
    assert_eq!(w.stat("/p/devices").unwrap().nlink, 3);
    assert_eq!(w.caller().statfs(b"/p").unwrap().magic, 0x6265_6572);
}

#[test]
fn computed_directories_come_and_go() {
    let w = World::new();
    let proc = PseudoFs::new("proc", PseudoFs::PROC_MAGIC, Style::PROC);
    let fixed = Dir::new(&proc);
    fixed.text("version", |t| {
        t.bytes(b"1.0\n");
        Ok(())
    });
    w.write("/target", "T").unwrap();
    let file = w.open("/target", O_RDONLY).unwrap();
    let place = file.place().clone();
    fixed.add("magic", DynLink::new(&proc, move || Ok(Link::Jump(place.clone()))));
    let (r, pipe_end) = fs::pipe::Pipe::pair(0).unwrap();
    let place = Place::Anonymous(pipe_end.inode().clone());
    fixed.add("pipe", DynLink::new(&proc, move || Ok(Link::Jump(place.clone()))));
    static MADE: AtomicU32 = AtomicU32::new(0);
    let base = proc.base(0o100444);
    fixed.add(
        "big",
        TextFile::pieces(&proc, base, proc.style().access, || Ok(Box::new(Lines(0, &MADE)))),
    );
    let root = DynDir::new(proc.base_with(1, 0o40555, 0, 0), Numbers(proc.clone(), fixed));
    mounted(&w, proc.into_super(root).unwrap(), "test-proc");
    let names = w.list("/p");
    assert_eq!(names[..6], [".", "..", "version", "magic", "pipe", "big"]);
    assert_eq!(names[6..], ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(w.read("/p/7").unwrap(), "number 7\n");
    let meta = w.stat("/p/7").unwrap();
    assert_eq!((meta.size, meta.ino, meta.uid), (0, 1 << 32 | b'7' as u64, b'7' as u32));
    assert_eq!(err(w.read("/p/77")), Errno::ENOENT);
    assert_eq!(err(put(&w.open("/p/version", O_WRONLY).unwrap(), b"x")), Errno::EIO);
    // Magic links jump to the object, whatever its name.
    w.rename("/target", "/renamed", 0).unwrap();
    assert_eq!(w.read("/p/magic").unwrap(), "T");
    assert_eq!(w.readlink("/p/magic").unwrap(), "/renamed");
    assert_eq!(w.lstat("/p/magic").unwrap().file_type(), FileType::Symlink);
    let again = w.open("/p/pipe", O_WRONLY).unwrap();
    put(&again, b"reopened").unwrap();
    assert_eq!(get(&r, 99).unwrap(), b"reopened");
    assert!(w.readlink("/p/pipe").unwrap().starts_with("pipe:["));
    // A large file is made as far as it is read.
    let big = w.open("/p/big", O_RDONLY).unwrap();
    assert_eq!(get(&big, 14).unwrap(), b"line 0\nline 1\n");
    assert!(MADE.load(Relaxed) < 10);
    // A read gives whole lines, and no more than a page of them.
    let page = get(&big, 10_000).unwrap();
    assert!(page.starts_with(b"line 2\n") && page.ends_with(b"\n"));
    assert!((4080..=4096).contains(&page.len()), "{}", page.len());
    let next = String::from_utf8(get(&big, 12).unwrap()).unwrap();
    let last = String::from_utf8(page).unwrap().lines().last().unwrap().to_owned();
    let number = |line: &str| line.split(' ').nth(1).unwrap().trim().parse::<u32>().unwrap();
    assert_eq!(number(next.lines().next().unwrap()), number(&last) + 1);
    big.seek(14, Whence::Set).unwrap();
    let mut text = Vec::new();
    loop {
        let piece = get(&big, 10_000).unwrap();
        if piece.is_empty() {
            break;
        }
        text.extend(piece);
    }
    assert!(text.starts_with(b"line 2\n") && text.ends_with(b"line 99999\n"));
    let mut at = [0; 6];
    big.read_at(&mut hal::user::KernelSink::new(&mut at), 7).unwrap();
    assert_eq!(&at, b"line 1");
}

#[test]
fn the_standard_devices_are_in_devtmpfs() {
    let w = World::new();
    let dev = fs::boot::init().unwrap();
    fs::boot::add_node(&dev, "bus/usb/001", 0o20600, fs::DevId::new(189, 0)).unwrap();
    w.mkdir("/dev").unwrap();
    w.mount("devtmpfs", "/dev").unwrap();
    put(&w.open("/dev/null", O_WRONLY).unwrap(), b"x").unwrap();
    assert_eq!(w.stat("/dev/shm").unwrap().mode, 0o41777);
    assert_eq!(w.stat("/dev/bus/usb/001").unwrap().rdev, fs::DevId::new(189, 0));
    assert_eq!(w.readlink("/dev/stdin").unwrap(), "/proc/self/fd/0");
    assert_eq!(w.stat("/dev/tty").unwrap().mode, 0o20666);
    w.mount("tmpfs", "/dev/shm").unwrap();
    w.write("/dev/shm/x", "shared").unwrap();
    let text = fs::mount::list(&w.caller().view.root).unwrap()[2].option_text();
    assert_eq!(text, "rw,relatime");
}

#[test]
fn memory_files_keep_their_seals() {
    common::memory();
    let file = memfd::create(b"data", g::MFD_ALLOW_SEALING).unwrap();
    assert_eq!(file.place().text(None).unwrap(), b"/memfd:data (deleted)");
    assert_eq!((file.metadata().mode & 0o777, file.metadata().nlink), (0o777, 0));
    put(&file, b"0123456789").unwrap();
    let inode = file.inode();
    assert_eq!(inode.seals(), Some(0));
    inode.add_seals(g::F_SEAL_SHRINK).unwrap();
    assert_eq!(err(file.truncate(5)), Errno::EPERM);
    file.truncate(20).unwrap();
    inode.add_seals(g::F_SEAL_GROW).unwrap();
    assert_eq!(err(file.truncate(30)), Errno::EPERM);
    assert_eq!(err(file.fallocate(0, 0, 100)), Errno::EPERM);
    file.seek(0, Whence::Set).unwrap();
    assert_eq!(put(&file, b"9876"), Ok(4));
    inode.add_seals(g::F_SEAL_WRITE | g::F_SEAL_SEAL).unwrap();
    assert_eq!(err(put(&file, b"x")), Errno::EPERM);
    assert_eq!(err(file.map(true, Prot::READ | Prot::WRITE).map(|_| ())), Errno::EPERM);
    assert!(file.map(true, Prot::READ).is_ok());
    assert!(file.map(false, Prot::READ | Prot::WRITE).is_ok());
    assert_eq!(err(inode.add_seals(g::F_SEAL_SHRINK)), Errno::EPERM);
    let plain = memfd::create(b"", 0).unwrap();
    assert_eq!(plain.inode().seals(), Some(g::F_SEAL_SEAL));
    assert_eq!(err(plain.inode().add_seals(g::F_SEAL_GROW)), Errno::EPERM);
    let gibibytes = g::MFD_HUGETLB | 30 << g::MFD_HUGE_SHIFT;
    assert_eq!(err(memfd::create(b"x", gibibytes)), Errno::ENODEV);
    assert_eq!(err(memfd::create(&[b'n'; 250], 0)), Errno::EINVAL);
}
