//! Names for addresses: functions of programs, libraries and the kernel.
//!
//! Sources, in this order: the names that a file brings along, the ELF symbol tables (or those of
//! the separate debug file that the build id names), /proc/kallsyms for the kernel.

use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::rc::Rc;

/// The kernel, as an object.
pub const KERNEL: &str = "[kernel]";

/// A function: where it is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    /// One past its last byte.
    end: u64,
    name: Rc<str>,
}

/// The functions of one object by address, and how the file's offsets map to addresses.
#[derive(Default)]
struct Table {
    functions: Vec<Function>,
    /// File offset, size, address.
    segments: Vec<(u64, u64, u64)>,
    build_id: Option<Vec<u8>>,
}

impl Table {
    fn find(&self, address: u64) -> Option<&Function> {
        let at = self.functions.partition_point(|f| f.start <= address);
        self.functions[..at].last().filter(|f| address < f.end)
    }

    fn address(&self, offset: u64) -> u64 {
        let segment = self.segments.iter().find(|(at, size, _)| (*at..at + size).contains(&offset));
        segment.map_or(offset, |(at, _, address)| offset - at + address)
    }

    fn finish(mut self) -> Self {
        self.functions.sort_by(|a, b| (a.start, b.end).cmp(&(b.start, a.end)));
        self.functions.dedup_by_key(|f| f.start);
        // A function without a size ends where the next begins.
        for i in 0..self.functions.len() {
            let next = self.functions.get(i + 1).map(|f| f.start);
            let f = &mut self.functions[i];
            if f.end <= f.start {
                f.end = next.unwrap_or(f.start + 0x1000);
            }
        }
        self
    }
}

/// What an address is part of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The function, or the address itself when nothing names it.
    pub function: Rc<str>,
    pub object: Rc<str>,
    pub kernel: bool,
}

/// All objects that were asked for.
#[derive(Default)]
pub struct Symbols {
    tables: HashMap<String, Table>,
    /// Brought along by the file.
    given: HashMap<String, Vec<Function>>,
    /// Functions that were found, to be brought along: (object, start) to (end, name).
    found: BTreeMap<(String, u64), (u64, Rc<str>)>,
}

/// A readable name: Rust's and C++'s mangling undone, Rust's hashes left out.
pub fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(text) = symbol.demangle()
    {
        return text;
    }
    name.to_string()
}

fn elf(path: &str) -> Option<Table> {
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let build_id = file.build_id().ok().flatten().map(<[u8]>::to_vec);
    let segments =
        file.segments().map(|s| (s.file_range().0, s.file_range().1, s.address())).collect();
    let mut table = Table { functions: functions(&file), segments, build_id };
    if file.symbols().next().is_none()
        && let Some(more) = table.build_id.as_deref().and_then(debug_file)
    {
        table.functions.extend(more);
    }
    Some(table.finish())
}

fn functions(file: &object::File<'_>) -> Vec<Function> {
    file.symbols()
        .chain(file.dynamic_symbols())
        .filter(|s| s.kind() == SymbolKind::Text && s.address() != 0)
        .filter_map(|s| {
            let name = demangle(s.name().ok()?).into();
            Some(Function { start: s.address(), end: s.address() + s.size(), name })
        })
        .collect()
}

/// The functions of the separate debug file that a build id names.
fn debug_file(id: &[u8]) -> Option<Vec<Function>> {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let (head, tail) = hex.split_at_checked(2)?;
    let bytes = std::fs::read(format!("/usr/lib/debug/.build-id/{head}/{tail}.debug")).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    Some(functions(&file))
}

fn kernel() -> Option<Table> {
    let text = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let mut table = Table::default();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(start) = u64::from_str_radix(address, 16) else { continue };
        let code = matches!(kind, "t" | "T" | "w" | "W");
        if start == 0 || !code || matches!(name, "_text" | "_stext" | "_etext") {
            continue;
        }
        let name = name.split('\t').next().unwrap_or(name);
        table.functions.push(Function { start, end: 0, name: demangle(name).into() });
    }
    Some(table.finish())
}

impl Symbols {
    /// With the names that a file brought along (see [`Symbols::to_text`]).
    pub fn with(text: &str) -> Self {
        let mut given: HashMap<String, Vec<Function>> = HashMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(4, '\t');
            let (Some(object), Some(start), Some(end), Some(name)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let hex = |t| u64::from_str_radix(t, 16);
            if let (Ok(start), Ok(end)) = (hex(start), hex(end)) {
                given.entry(object.into()).or_default().push(Function {
                    start,
                    end,
                    name: name.into(),
                });
            }
        }
        Self { given, ..Self::default() }
    }

    fn table(&mut self, object: &str) -> &Table {
        if !self.tables.contains_key(object) {
            let mut table = match self.given.get(object) {
                Some(functions) => {
                    Table { functions: functions.clone(), ..Table::default() }.finish()
                }
                None if object == KERNEL => kernel().unwrap_or_default(),
                None => elf(object).unwrap_or_default(),
            };
            table.functions.retain(|f| f.end > f.start);
            self.tables.insert(object.to_string(), table);
        }
        &self.tables[object]
    }

    /// The build id of an object's file.
    pub fn build_id(&mut self, object: &str) -> Option<Vec<u8>> {
        if object == KERNEL {
            let notes = std::fs::read("/sys/kernel/notes").ok()?;
            let at = notes.windows(4).position(|w| w == b"GNU\0")?;
            return notes.get(at + 4..at + 24).map(<[u8]>::to_vec);
        }
        self.table(object).build_id.clone()
    }

    /// The function at file offset `offset` of `object`; `ip` is what it is called without one.
    pub fn at_offset(&mut self, object: &Rc<str>, offset: u64, ip: u64) -> Place {
        // Offsets are what names are brought along by: they need no file to be translated.
        let given = self.given.contains_key(&**object);
        let address = if given { offset } else { self.table(object).address(offset) };
        let shift = offset.wrapping_sub(address);
        self.named(object, address, ip, shift)
    }

    /// The kernel's function at `ip`.
    pub fn in_kernel(&mut self, ip: u64) -> Place {
        self.named(&Rc::from(KERNEL), ip, ip, 0)
    }

    fn named(&mut self, object: &Rc<str>, address: u64, ip: u64, shift: u64) -> Place {
        let found = self.table(object).find(address).cloned();
        let function = match found {
            Some(f) => {
                let at = (object.to_string(), f.start.wrapping_add(shift));
                self.found.insert(at, (f.end.wrapping_add(shift), f.name.clone()));
                f.name
            }
            None => format!("{ip:#x}").into(),
        };
        Place { function, object: object.clone(), kernel: &**object == KERNEL }
    }

    /// The kernel's functions that were found so far, in the form of /proc/kallsyms. `range` is that
    /// of its code.
    pub fn kallsyms(&self, range: (u64, u64)) -> String {
        let mut out = format!("{0:016x} T _text\n{0:016x} T _stext\n", range.0);
        for ((object, start), (_, name)) in &self.found {
            if object == KERNEL {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{start:016x} T {name}");
            }
        }
        let _ = writeln!(out, "{:016x} T _etext", range.1);
        out
    }

    /// The functions that were found so far, one a line: object, start, end (file offsets, or
    /// kernel addresses), name.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for ((object, start), (end, name)) in &self.found {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{object}\t{start:x}\t{end:x}\t{name}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_readable() {
        assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(demangle("main"), "main");
    }

    #[inline(never)]
    fn a_function_of_this_test() -> u64 {
        std::hint::black_box(1)
    }

    #[test]
    fn this_program_knows_its_own_functions() {
        let exe = std::env::current_exe().expect("there is one");
        let exe: Rc<str> = exe.to_string_lossy().into();
        let address = a_function_of_this_test as *const () as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let offset = maps
            .lines()
            .filter(|l| l.ends_with(&*exe))
            .find_map(|l| {
                let mut words = l.split_whitespace();
                let (start, end) = words.next()?.split_once('-')?;
                let hex = |t| u64::from_str_radix(t, 16).ok();
                let offset = hex(words.nth(1)?)?;
                let range = hex(start)?..hex(end)?;
                range.contains(&address).then(|| address - range.start + offset)
            })
            .expect("the function is mapped");
        let mut symbols = Symbols::default();
        let place = symbols.at_offset(&exe, offset, address);
        assert!(place.function.ends_with("a_function_of_this_test"), "{place:?}");
        assert!(!place.kernel);
        assert_eq!(a_function_of_this_test(), 1);
        // The same from what a file brings along, without the program.
        let mut given = Symbols::with(&symbols.to_text());
        assert_eq!(given.at_offset(&exe, offset, address), place);
    }

    #[test]
    fn unknown_addresses_are_named_by_themselves() {
        let mut symbols = Symbols::with("/x\t1000\t1010\tf\n");
        let object: Rc<str> = "/x".into();
        assert_eq!(&*symbols.at_offset(&object, 0x100f, 1).function, "f");
        assert_eq!(&*symbols.at_offset(&object, 0x1010, 0x77).function, "0x77");
    }
}
