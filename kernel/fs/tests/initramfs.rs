//! cpio and gzip: what is well-formed unpacks, what is not ends with an error and no harm.

mod common;

use common::World;
use fs::FileType;
use fs::initramfs::{UnpackError, unpack};
use proptest::prelude::*;

/// An entry of an archive being made.
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    ino: u32,
    nlink: u32,
    data: &'a [u8],
    rdev: (u32, u32),
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self { name: "", mode: 0o100644, ino: 0, nlink: 1, data: b"", rdev: (0, 0) }
    }
}

fn cpio(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let trailer = Entry { name: "TRAILER!!!", mode: 0, ..Entry::default() };
    for (index, e) in entries.iter().chain([&trailer]).enumerate() {
        let ino = if e.ino == 0 { index as u32 + 100 } else { e.ino };
        let (size, name) = (e.data.len() as u32, e.name.len() as u32 + 1);
        let fields =
            [ino, e.mode, 7, 8, e.nlink, 1_000_000, size, 3, 1, e.rdev.0, e.rdev.1, name, 0];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        out.extend_from_slice(e.name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(e.data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    out.extend_from_slice(b"name\0");
    out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

fn sample() -> Vec<u8> {
    cpio(&[
        Entry { name: ".", mode: 0o40755, ..Entry::default() },
        Entry { name: "bin", mode: 0o40755, ..Entry::default() },
        Entry { name: "bin/one", ino: 9, nlink: 2, mode: 0o100755, ..Entry::default() },
        Entry {
            name: "bin/two",
            ino: 9,
            nlink: 2,
            mode: 0o100755,
            data: b"program",
            ..Entry::default()
        },
        Entry { name: "bin/sh", mode: 0o120777, data: b"one", ..Entry::default() },
        Entry { name: "dev", mode: 0o40755, ..Entry::default() },
        Entry { name: "dev/console", mode: 0o20600, rdev: (5, 1), ..Entry::default() },
        Entry { name: "empty", ..Entry::default() },
    ])
}

fn into(w: &World, image: &[u8]) -> Result<(), UnpackError> {
    unpack(&w.caller().view.root, image)
}

fn check(w: &World) {
    assert_eq!(w.read("/bin/one").unwrap(), "program");
    assert_eq!(w.read("/bin/sh").unwrap(), "program");
    let one = w.stat("/bin/one").unwrap();
    assert_eq!(one.ino, w.stat("/bin/two").unwrap().ino);
    assert_eq!((one.nlink, one.mode, one.uid, one.gid), (2, 0o100755, 7, 8));
    assert_eq!(one.mtime, 1_000_000_000_000_000);
    assert_eq!(w.stat("/bin").unwrap().mtime, 1_000_000_000_000_000);
    assert_eq!(w.readlink("/bin/sh").unwrap(), "one");
    let console = w.stat("/dev/console").unwrap();
    assert_eq!((console.file_type(), console.rdev), (FileType::Char, fs::DevId::new(5, 1)));
    assert_eq!(w.stat("/empty").unwrap().size, 0);
}

#[test]
fn plain_archives_unpack() {
    let w = World::new();
    into(&w, &sample()).unwrap();
    check(&w);
}

#[test]
fn compressed_and_concatenated_archives_unpack() {
    let w = World::new();
    let first = cpio(&[Entry { name: "first", data: b"1st", ..Entry::default() }]);
    let last = cpio(&[Entry { name: "first", data: b"overwritten", ..Entry::default() }]);
    let mut image = first;
    image.resize(image.len() + 512, 0);
    image.extend(gzip(&sample()));
    image.resize(image.len().next_multiple_of(4) + 8, 0);
    image.extend(last);
    into(&w, &image).unwrap();
    check(&w);
    assert_eq!(w.read("/first").unwrap(), "overwritten");
}

#[test]
fn large_files_survive_every_cut_of_the_stream() {
    let w = World::new();
    let data: Vec<u8> = (0..300_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let archive = cpio(&[Entry { name: "big", data: &data, ..Entry::default() }]);
    into(&w, &gzip(&archive)).unwrap();
    let file = w.open("/big", fs::oflag::O_RDONLY).unwrap();
    let mut back = vec![0; data.len()];
    assert_eq!(file.read_kernel(&mut back, 0).unwrap(), data.len());
    assert_eq!(back, data);
}

#[test]
fn an_entry_replaces_what_is_of_another_type() {
    let w = World::new();
    w.mkdir("/x").unwrap();
    w.symlink("nowhere", "/y").unwrap();
    let image = cpio(&[
        Entry { name: "x", data: b"file now", ..Entry::default() },
        Entry { name: "y", mode: 0o40700, ..Entry::default() },
    ]);
    into(&w, &image).unwrap();
    assert_eq!(w.read("/x").unwrap(), "file now");
    assert_eq!(w.lstat("/y").unwrap().mode, 0o40700);
}

#[test]
fn malformed_images_are_told_apart() {
    let w = World::new();
    assert_eq!(into(&w, b"hello world"), Err(UnpackError::InvalidMagic));
    assert_eq!(into(&w, b"070707777"), Err(UnpackError::Truncated));
    let mut old = vec![b'0'; 200];
    old[..6].copy_from_slice(b"070707");
    assert_eq!(into(&w, &old), Err(UnpackError::WrongCpio));
    assert_eq!(into(&w, b"\xfd7zXZ\0\0"), Err(UnpackError::Compression("xz")));
    let text = format!("{}", UnpackError::Compression("zstd"));
    assert_eq!(text, "compression method zstd not configured");
    let good = sample();
    assert_eq!(into(&w, &good[..good.len() - 130]), Err(UnpackError::Truncated));
    let mut packed = gzip(&good);
    packed.truncate(packed.len() / 2);
    assert_eq!(into(&w, &packed), Err(UnpackError::Damaged));
    let mut junk = good.clone();
    junk.extend_from_slice(b"junk");
    assert_eq!(into(&w, &junk), Err(UnpackError::Junk));
    assert_eq!(into(&w, &[]), Ok(()));
    assert_eq!(into(&w, &[0; 64]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_archives_never_do_harm(
        flips in prop::collection::vec((0usize..2000, any::<u8>()), 0..6),
        cut in 0usize..2000,
        compressed: bool,
    ) {
        let w = World::new();
        let mut image = if compressed { gzip(&sample()) } else { sample() };
        for (at, byte) in flips {
            let at = at % image.len();
            image[at] = byte;
        }
        image.truncate(image.len() - cut % 40);
        // Any answer will do; the tree stays usable.
        let _ = into(&w, &image);
        w.write("/after", "fine").unwrap();
        prop_assert_eq!(w.read("/after").unwrap(), "fine");
    }

    #[test]
    fn noise_never_does_harm(mut noise in prop::collection::vec(any::<u8>(), 0..600), start in 0usize..3) {
        let w = World::new();
        let magic: &[u8] = [b"070701" as &[u8], &[0x1f, 0x8b, 8, 0], b""][start];
        noise.splice(0..0, magic.iter().copied());
        let _ = into(&w, &noise);
        w.write("/after", "fine").unwrap();
    }
}
