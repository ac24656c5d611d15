//! The newc cpio format, as Linux's initramfs takes it (Documentation/driver-api/early-userspace
//! calls it "newc"): a header of thirteen 8-digit hexadecimal fields after the magic 070701, the
//! name, the data, each padded to four bytes; the last entry is named TRAILER!!!.

use std::io::{self, Write};

/// What one entry is; `data` follows separately because files are streamed.
pub struct Header<'a> {
    /// Without a leading slash.
    pub name: &'a [u8],
    /// Type and permission bits, as in st_mode.
    pub mode: u32,
    pub links: u32,
    pub size: u32,
    pub device: (u32, u32),
}

pub struct Writer<W> {
    to: W,
    next_inode: u32,
    /// Bytes written so far: padding is relative to the archive's start.
    at: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Self {
        Self { to, next_inode: 1, at: 0 }
    }

    /// Writes an entry with all its data.
    pub fn entry(&mut self, header: &Header, data: &[u8]) -> io::Result<()> {
        let mut data = data;
        self.entry_from(header, &mut data)
    }

    /// Writes an entry whose data is read from `data`, which must yield exactly `header.size` bytes.
    pub fn entry_from(&mut self, header: &Header, data: &mut dyn io::Read) -> io::Result<()> {
        let inode = self.next_inode;
        self.next_inode += 1;
        let name_size = header.name.len() as u32 + 1;
        let (major, minor) = header.device;
        let fields = [
            inode,
            header.mode,
            0,
            0,
            header.links,
            0,
            header.size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        let mut text = String::from("070701");
        for field in fields {
            text += &format!("{field:08X}");
        }
        self.put(text.as_bytes())?;
        self.put(header.name)?;
        self.put(&[0])?;
        self.pad()?;
        let copied = io::copy(&mut data.take(u64::from(header.size)), &mut self.to)?;
        self.at += copied;
        if copied != u64::from(header.size) {
            return Err(io::Error::other("the file became shorter while it was copied"));
        }
        self.pad()
    }

    /// Ends the archive and hands back the sink.
    pub fn finish(mut self) -> io::Result<W> {
        self.next_inode = 0;
        let trailer = Header { name: b"TRAILER!!!", mode: 0, links: 1, size: 0, device: (0, 0) };
        self.entry(&trailer, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.at.next_multiple_of(4) - self.at;
        self.put(&[0; 3][..missing as usize])
    }
}

use io::Read as _;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(archive: &[u8], index: usize) -> u32 {
        let at = 6 + index * 8;
        u32::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap()
    }

    #[test]
    fn an_entry_has_its_fields_where_newc_wants_them() {
        let mut writer = Writer::new(Vec::new());
        let header = Header { name: b"abc", mode: 0o100755, links: 1, size: 5, device: (0, 0) };
        writer.entry(&header, b"hello").unwrap();
        let archive = writer.finish().unwrap();
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(field(&archive, 1), 0o100755);
        assert_eq!(field(&archive, 6), 5);
        assert_eq!(field(&archive, 11), 4);
        // 110 bytes of header + "abc\0" end at 114, data begins at the next multiple of four.
        assert_eq!(&archive[110..114], b"abc\0");
        assert_eq!(&archive[116..121], b"hello");
        assert_eq!(&archive[124..130], b"070701");
        assert!(archive.windows(11).any(|w| w == b"TRAILER!!!\0"));
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_copied_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        let header = Header { name: b"abc", mode: 0o100644, links: 1, size: 5, device: (0, 0) };
        assert!(writer.entry(&header, b"hell").is_err());
    }
}
