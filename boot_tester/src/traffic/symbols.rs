//! Functions and source lines of instructions: of the program and its libraries, from their files
//! on this machine, and of the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use traffic::raw::Code;

use super::mappings::Space;
use super::object::{Object, Source};

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;
/// The kernel's name among objects.
pub const KERNEL_NAME: &str = "[kernel]";

/// A function, or what is known of a place that has none: its file, its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    pub name: String,
    /// The file's path, or `[kernel]`, or nothing.
    pub object: String,
}

/// A line of a function's source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub function: Function,
    pub source: Source,
}

/// Names for one run's instructions.
pub struct Symbols<'a> {
    space: &'a Space,
    paths: &'a [String],
    kernel: Option<Object>,
    files: BTreeMap<String, Option<Object>>,
    /// Where each file's first mapping begins.
    bases: BTreeMap<String, u64>,
}

impl<'a> Symbols<'a> {
    /// `paths`: of files with code, by number. `kernel`: a file with the kernel's symbols.
    pub fn new(space: &'a Space, paths: &'a [String], kernel: Option<&Path>) -> Self {
        let mut bases = BTreeMap::new();
        for mapping in &space.mappings {
            if let Some(file) = &mapping.file {
                bases.entry(file.clone()).or_insert(mapping.start);
            }
        }
        let kernel = kernel.and_then(Object::read);
        Self { space, paths, kernel, files: BTreeMap::new(), bases }
    }

    /// What is at an instruction, if it is known: its object, and the address in it.
    fn place(&mut self, code: &Code) -> (&str, Option<&Object>, u64) {
        match *code {
            Code::Address { address, .. } if address >= KERNEL => {
                (KERNEL_NAME, self.kernel.as_ref(), address)
            }
            // Where the kernel does not tell, the program's mappings at its end are all there is.
            Code::Address { address, .. } => {
                let file = self.space.find(address).and_then(|mapping| mapping.file.as_deref());
                let Some(file) = file else { return ("", None, address) };
                let base = self.bases.get(file).copied().unwrap_or(0);
                let object = read(&mut self.files, file);
                let lowest = object.map_or(0, |object| object.lowest);
                (file, object, address.wrapping_sub(base).wrapping_add(lowest))
            }
            Code::File { object, offset } => {
                let path = self.paths.get(object as usize).map_or("", String::as_str);
                let object = read(&mut self.files, path);
                let address = object.and_then(|object| object.address(offset));
                (path, object, address.unwrap_or(u64::MAX))
            }
        }
    }

    pub fn function(&mut self, code: &Code) -> Function {
        let (name, object, address) = self.place(code);
        let found = object.and_then(|object| object.function(address)).map(str::to_string);
        let unknown = || match name {
            "" => format!("{:#x}", address & !0xfff),
            KERNEL_NAME => "(kernel code)".into(),
            _ => "(no symbol)".into(),
        };
        Function { name: found.unwrap_or_else(unknown), object: name.into() }
    }

    /// None where no DWARF says so.
    pub fn line(&mut self, code: &Code) -> Option<Line> {
        let (_, object, address) = self.place(code);
        let source = object?.source(address)?;
        Some(Line { function: self.function(code), source })
    }
}

fn read<'a>(files: &'a mut BTreeMap<String, Option<Object>>, path: &str) -> Option<&'a Object> {
    let object = files.entry(path.into()).or_insert_with(|| Object::read(Path::new(path)));
    object.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::mappings::Mapping;

    #[test]
    fn code_is_named_by_its_file_or_else_by_where_it_was_mapped() {
        let path = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        let start = 0x5555_5555_4000;
        let mapping = Mapping {
            start,
            end: 0x6000_0000_0000,
            name: path.clone(),
            policy: "default".into(),
            file: Some(path.clone()),
        };
        let space = Space { mappings: vec![mapping], ..Space::default() };
        let paths = [path.clone(), "[vdso]".into()];
        let mut symbols = Symbols::new(&space, &paths, None);
        let object = |function: Function| function.object;
        let at = |address| Code::Address { space: 0, address };
        assert_eq!(object(symbols.function(&at(start))), path);
        assert_eq!(symbols.function(&at(0x1234)).name, "0x1000");
        assert_eq!(object(symbols.function(&at(u64::MAX))), KERNEL_NAME);
        let vdso = symbols.function(&Code::File { object: 1, offset: 0 });
        assert_eq!((vdso.name.as_str(), vdso.object.as_str()), ("(no symbol)", "[vdso]"));
        // The same code by either way.
        let object = Object::read(Path::new(&path)).unwrap();
        for offset in (0..1 << 20).step_by(0x1000).map(|page| page + 0x10) {
            let Some(address) = object.address(offset) else { continue };
            let file = symbols.function(&Code::File { object: 0, offset });
            assert_eq!(symbols.function(&at(address - object.lowest + start)), file);
        }
    }
}
