//! One file with code: its functions from the symbol table, its source lines from DWARF.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::{Object as _, ObjectSegment, ObjectSymbol, SymbolKind};

use crate::image::elf;

/// Addresses in here are the file's own, before it is loaded anywhere.
pub struct Object {
    /// Ascending: address, end, name.
    functions: Vec<(u64, u64, String)>,
    /// Offset in the file, size, address.
    segments: Vec<(u64, u64, u64)>,
    /// The lowest address that is loaded, at a page's beginning.
    pub lowest: u64,
    /// The file that has the source lines.
    debug: PathBuf,
    loader: OnceCell<Option<Loader>>,
}

/// A place in source code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub file: String,
    pub line: u32,
}

impl Object {
    /// None for what is no object file.
    pub fn read(path: &Path) -> Option<Self> {
        let data = std::fs::read(path).ok()?;
        let file = object::File::parse(&*data).ok()?;
        let segments: Vec<_> = file
            .segments()
            .map(|segment| {
                let (offset, size) = segment.file_range();
                (offset, size, segment.address())
            })
            .collect();
        let lowest = segments.iter().map(|(_, _, address)| address & !0xfff).min()?;
        let debug = elf::separate_debug(&file).filter(|path| path.exists());
        let mut functions = functions(&file);
        if let Some(other) = debug.as_ref().and_then(|path| std::fs::read(path).ok())
            && let Ok(file) = object::File::parse(&*other)
        {
            functions.extend(self::functions(&file));
        }
        functions.sort();
        functions.dedup_by_key(|function| function.0);
        // A function without a size ends where the next begins.
        for index in 0..functions.len() {
            let next = functions.get(index + 1).map_or(functions[index].0 + 4096, |f| f.0);
            let function = &mut functions[index];
            if function.1 <= function.0 {
                function.1 = next;
            }
        }
        let debug = debug.unwrap_or_else(|| path.into());
        Some(Self { functions, segments, lowest, debug, loader: OnceCell::new() })
    }

    /// The address of what is at an offset in the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        // Whole pages are mapped: what lies before a segment in its first page, too.
        let begin = |at: u64| at & !0xfff;
        let (at, _, address) =
            self.segments.iter().find(|(at, size, _)| (begin(*at)..at + size).contains(&offset))?;
        Some(address.wrapping_add(offset).wrapping_sub(*at))
    }

    pub fn function(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|function| function.0 <= address);
        let (_, end, name) = self.functions.get(after.checked_sub(1)?)?;
        (address < *end).then_some(name)
    }

    /// The source line at an address: of code that was inlined from its language's own library the
    /// line that uses it.
    pub fn source(&self, address: u64) -> Option<Source> {
        let loader = self.loader.get_or_init(|| Loader::new(&self.debug).ok()).as_ref()?;
        let mut frames = loader.find_frames(address).ok()?;
        let mut first = None;
        while let Ok(Some(frame)) = frames.next() {
            let Some(location) = frame.location else { continue };
            let (Some(file), Some(line)) = (location.file, location.line) else { continue };
            let source = Source { file: file.into(), line };
            if !is_library(file) {
                return Some(source);
            }
            first.get_or_insert(source);
        }
        first
    }
}

/// Source of Rust's own crates, of C++'s and the compiler's headers.
fn is_library(file: &str) -> bool {
    let marks =
        ["/library/core/", "/library/alloc/", "/library/std/", "/include/c++/", "/lib/gcc/"];
    marks.iter().any(|mark| file.contains(mark))
}

fn functions(file: &object::File) -> Vec<(u64, u64, String)> {
    file.symbols()
        .chain(file.dynamic_symbols())
        .filter(|s| s.kind() == SymbolKind::Text && s.is_definition())
        .filter_map(|s| Some((s.address(), s.address() + s.size(), readable(s.name().ok()?))))
        .collect()
}

fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_programs_own_code_is_found_by_its_place_in_the_file() {
        let own = Object::read(&std::env::current_exe().unwrap()).unwrap();
        let here = this_programs_own_code_is_found_by_its_place_in_the_file as *const () as u64;
        let page = here & 0xfff;
        let found = own.functions.iter().find(|(at, _, name)| {
            at & 0xfff == page && name.contains("is_found_by_its_place_in_the_file")
        });
        let (at, end, name) = found.unwrap().clone();
        assert!(end > at);
        assert_eq!(own.function(at + 1), Some(name.as_str()));
        let (offset, _, address) =
            *own.segments.iter().find(|s| (s.2..s.2 + s.1).contains(&at)).unwrap();
        assert_eq!(own.address(at - address + offset), Some(at));
        let source = own.source(at).unwrap();
        assert!(source.file.ends_with("traffic/object.rs"), "{source:?}");
        assert_eq!(own.address(u64::MAX), None);
    }
}
