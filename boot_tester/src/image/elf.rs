//! What a program file says about itself: script, static or dynamic ELF, and what it wants loaded.
//! Nothing is executed: the dynamic section is read (System V ABI, chapter 5).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, Object as _, StringTable};

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// `#!`: the interpreter and at most one argument.
    Script {
        interpreter: String,
        argument: Option<String>,
    },
    Static,
    Dynamic(Dynamic),
    /// Neither ELF nor script.
    Data,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Absent in a shared library.
    pub interpreter: Option<String>,
    /// Names as they stand in DT_NEEDED.
    pub needed: Vec<String>,
    /// DT_RPATH, which RUNPATH silences.
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
}

/// Reads the file; the error is a sentence without the file's name.
pub fn read(path: &Path) -> Result<Kind, String> {
    let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let start = file.fill_buf().map_err(|e| e.to_string())?;
    if start.starts_with(b"#!") {
        let mut line = Vec::new();
        file.take(256).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        return parse_shebang(&line);
    }
    if !start.starts_with(b"\x7fELF") {
        return Ok(Kind::Data);
    }
    let mut data = Vec::new();
    file.read_to_end(&mut data).map_err(|e| e.to_string())?;
    parse(&data)
}

fn parse_shebang(line: &[u8]) -> Result<Kind, String> {
    let text = String::from_utf8_lossy(&line[2..]);
    let text = text.trim();
    let (interpreter, argument) = match text.split_once([' ', '\t']) {
        Some((first, rest)) => (first, Some(rest.trim().to_string())),
        None => (text, None),
    };
    if interpreter.is_empty() {
        return Err("its #! line names no interpreter".into());
    }
    Ok(Kind::Script { interpreter: interpreter.into(), argument })
}

/// Where a distribution keeps what was stripped from its programs, by their build ids.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

/// The path at which the separate debugging symbols of an object would lie. None without a build id.
pub fn separate_debug(file: &object::File) -> Option<PathBuf> {
    by_build_id(file.build_id().ok().flatten().unwrap_or_default())
}

fn by_build_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let hex: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Path::new(DEBUG_FILES).join(format!("{first:02x}")).join(format!("{hex}.debug")))
}

/// Reads an ELF file's bytes.
pub fn parse(data: &[u8]) -> Result<Kind, String> {
    if data.get(4) != Some(&elf::ELFCLASS64.0) {
        return Err("is a 32-bit program: the guest runs 64-bit ones".into());
    }
    let broken = |what: &str| format!("is a broken ELF file ({what})");
    let header = elf::FileHeader64::<Endianness>::parse(data).map_err(|_| broken("header"))?;
    let endian = header.endian().map_err(|_| broken("byte order"))?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err("is a program for another machine than x86-64".into());
    }
    if ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(endian)) {
        return Err("is an ELF file, but no program (an object file or a core dump)".into());
    }
    let segments = header.program_headers(endian, data).map_err(|_| broken("program headers"))?;
    let mut found = Dynamic::default();
    let mut dynamic = false;
    for segment in segments {
        if let Ok(Some(name)) = segment.interpreter(endian, data) {
            found.interpreter = Some(String::from_utf8_lossy(name).into_owned());
        }
        if let Ok(Some(entries)) = segment.dynamic(endian, data) {
            dynamic = true;
            read_entries(endian, entries, segments, data, &mut found)
                .ok_or_else(|| broken("dynamic section"))?;
        }
    }
    // A static-pie program has a dynamic section too, but asks for nobody.
    let asks = found.interpreter.is_some() || !found.needed.is_empty();
    Ok(if dynamic && asks { Kind::Dynamic(found) } else { Kind::Static })
}

fn read_entries(
    endian: Endianness,
    entries: &[elf::Dyn64<Endianness>],
    segments: &[elf::ProgramHeader64<Endianness>],
    data: &[u8],
    found: &mut Dynamic,
) -> Option<()> {
    let value = |tag: elf::DynamicTag| {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val(endian))
    };
    let Some(strings_at) = value(elf::DT_STRTAB) else { return Some(()) };
    let size = value(elf::DT_STRSZ)?;
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, data, strings_at, size).ok().flatten())?;
    let table = StringTable::new(strings, 0, strings.len() as u64);
    for entry in entries {
        let tag = entry.tag(endian);
        if tag == elf::DT_NULL {
            break;
        }
        let text = || {
            let offset = u32::try_from(entry.d_val(endian)).ok()?;
            Some(String::from_utf8_lossy(table.get(offset).ok()?).into_owned())
        };
        let list = |text: String| text.split(':').map(str::to_string).collect();
        match tag {
            elf::DT_NEEDED => found.needed.push(text()?),
            elf::DT_RPATH => found.rpath = list(text()?),
            elf::DT_RUNPATH => found.runpath = list(text()?),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dynamic_program_names_its_interpreter_and_libc() {
        let own = std::env::current_exe().unwrap();
        let Kind::Dynamic(found) = read(&own).unwrap() else { panic!("tests are dynamic") };
        assert!(found.interpreter.unwrap().contains("ld-linux"));
        assert!(found.needed.iter().any(|name| name == "libc.so.6"));
    }

    #[test]
    fn shebang_lines_are_split_once() {
        let script = parse_shebang(b"#! /usr/bin/env  -S python3 -u\n").unwrap();
        assert_eq!(
            script,
            Kind::Script {
                interpreter: "/usr/bin/env".into(),
                argument: Some("-S python3 -u".into())
            }
        );
        assert!(parse_shebang(b"#!\n").is_err());
    }

    #[test]
    fn other_machines_and_object_files_are_refused_by_name() {
        let mut data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        data[18] = 183; // EM_AARCH64
        assert!(parse(&data).unwrap_err().contains("another machine"));
        data[18] = 62;
        data[16] = 1; // ET_REL
        assert!(parse(&data).unwrap_err().contains("no program"));
        data[4] = 1;
        assert!(parse(&data).unwrap_err().contains("32-bit"));
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_read_but_never_crash(
            at in 0usize..4096, value in any::<u8>(), length in 0usize..8192,
        ) {
            let mut data = std::fs::read("/bin/true").unwrap_or_default();
            data.truncate(length.max(64));
            if let Some(byte) = data.get_mut(at) {
                *byte = value;
            }
            let _ = parse(&data);
        }
    }

    #[test]
    fn separate_symbols_lie_by_build_id() {
        let path = by_build_id(&[0xab, 1, 0xf0]).unwrap();
        assert_eq!(path, Path::new("/usr/lib/debug/.build-id/ab/01f0.debug"));
        assert_eq!(by_build_id(&[]), None);
    }
}
