//! Functions by address: of the program and its libraries, from their symbol tables on this
//! machine, and of the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

use super::mappings::Space;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;

/// The functions of one file, ascending: address, end, name.
#[derive(Default)]
struct Table {
    functions: Vec<(u64, u64, String)>,
    /// The lowest address that is loaded, at a page's beginning.
    lowest: u64,
}

impl Table {
    fn read(path: &Path) -> Option<Self> {
        let data = std::fs::read(path).ok()?;
        let file = object::File::parse(&*data).ok()?;
        let lowest = file.segments().map(|segment| segment.address() & !0xfff).min()?;
        let mut functions: Vec<_> = file
            .symbols()
            .chain(file.dynamic_symbols())
            .filter(|s| s.kind() == SymbolKind::Text && s.is_definition())
            .filter_map(|s| Some((s.address(), s.address() + s.size(), readable(s.name().ok()?))))
            .collect();
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
        Some(Self { functions, lowest })
    }

    fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|function| function.0 <= address);
        let (_, end, name) = self.functions.get(after.checked_sub(1)?)?;
        (address < *end).then_some(name)
    }
}

fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// A function, or what is known of a place that has none: its file, its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    pub name: String,
    /// The file's path, or `[kernel]`, or nothing.
    pub object: String,
}

/// Names for one run's addresses.
pub struct Symbols<'a> {
    space: &'a Space,
    kernel: Option<Table>,
    files: BTreeMap<String, Option<Table>>,
    /// Where each file's first mapping begins.
    bases: BTreeMap<String, u64>,
}

impl<'a> Symbols<'a> {
    /// `kernel`: a file with the kernel's symbols, if it has any.
    pub fn new(space: &'a Space, kernel: Option<&Path>) -> Self {
        let mut bases = BTreeMap::new();
        for mapping in &space.mappings {
            if let Some(file) = &mapping.file {
                bases.entry(file.clone()).or_insert(mapping.start);
            }
        }
        Self { space, kernel: kernel.and_then(Table::read), files: BTreeMap::new(), bases }
    }

    pub fn find(&mut self, address: u64) -> Function {
        if address >= KERNEL {
            let name = self.kernel.as_ref().and_then(|table| table.find(address));
            let name = name.unwrap_or("(kernel code)").into();
            return Function { name, object: "[kernel]".into() };
        }
        let file = self.space.find(address).and_then(|mapping| mapping.file.clone());
        let Some(file) = file else {
            return Function { name: format!("{:#x}", address & !0xfff), object: String::new() };
        };
        let base = self.bases.get(&file).copied().unwrap_or(0);
        let table = self.files.entry(file.clone()).or_insert_with(|| Table::read(Path::new(&file)));
        let found = table
            .as_ref()
            .and_then(|table| table.find(address.wrapping_sub(base).wrapping_add(table.lowest)));
        let name = found.map_or("(no symbol)".into(), str::to_string);
        Function { name, object: file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::mappings::Mapping;

    #[test]
    fn this_programs_own_functions_are_found_where_it_is_loaded() {
        let path = std::env::current_exe().unwrap();
        let own = path.to_string_lossy().into_owned();
        let table = Table::read(&path).unwrap();
        let (at, end, name) = table.functions.iter().find(|f| f.1 - f.0 > 8).unwrap().clone();
        let start = 0x5555_5555_4000;
        let mapping = Mapping {
            start,
            end: 0x6000_0000_0000,
            name: own.clone(),
            policy: "default".into(),
            file: Some(own.clone()),
        };
        let space = Space { mappings: vec![mapping], ..Space::default() };
        let mut symbols = Symbols::new(&space, None);
        let function = symbols.find(at - table.lowest + start + 4);
        assert_eq!(function, Function { name, object: own });
        assert!(end > at);
        assert_eq!(symbols.find(0x1000).object, "");
        assert_eq!(symbols.find(u64::MAX).object, "[kernel]");
    }
}
