//! `perf script`: every sample, as text.

use crate::profile::Profile;
use std::fmt::Write;

/// The samples in the order of their times. `lines`: with source lines, where the programs are here
/// and have them.
pub fn render(profile: &Profile, lines: bool) -> String {
    let mut out = String::new();
    let mut sources = Sources::default();
    for named in &profile.samples {
        let s = &named.sample;
        let event = profile.events.get(s.event).map_or("", String::as_str);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<15} {:>5}/{:<5} [{:03}] {:>6}.{:06}: {:>10} {event}: {}",
            named.comm,
            s.pid,
            s.tid,
            s.cpu,
            s.time / 1_000_000_000,
            s.time / 1000 % 1_000_000,
            s.period,
            extra(s.addr, &s.raw)
        );
        for (place, address) in named.stack.iter().zip(&named.addresses) {
            let at = if lines { sources.find(&place.object, &place.function) } else { None };
            let _ = writeln!(
                out,
                "\t{address:16x} {} ({}){}",
                place.function,
                place.object,
                at.unwrap_or_default()
            );
        }
        out.push('\n');
    }
    out
}

/// Address and node, where the event has them.
fn extra(addr: u64, raw: &[u8]) -> String {
    let mut out = String::new();
    if addr != 0 {
        // Writing to a String cannot fail.
        let _ = write!(out, "{addr:#x}");
    }
    if let Some(nodes) = crate::numa::Nodes::from_raw(raw) {
        let _ = write!(out, " node {} (wanted {}, CPU on {})", nodes.page, nodes.wanted, nodes.cpu);
    }
    out
}

/// Source lines of functions, by the debug information of their objects.
#[derive(Default)]
struct Sources {
    known: std::collections::HashMap<(String, String), Option<String>>,
}

impl Sources {
    fn find(&mut self, object: &str, function: &str) -> Option<String> {
        let key = (object.to_string(), function.to_string());
        self.known.entry(key).or_insert_with(|| source(object, function)).clone()
    }
}

/// Where a function begins.
fn source(path: &str, function: &str) -> Option<String> {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let address = file
        .symbols()
        .find(|s| s.name().is_ok_and(|n| crate::symbols::demangle(n) == function))?
        .address();
    let loader = addr2line::Loader::new(path).ok()?;
    let at = loader.find_location(address).ok()??;
    Some(format!(" {}:{}", at.file?, at.line.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::example;

    #[test]
    fn each_sample_is_shown_with_its_stack() {
        let out = render(&example(), false);
        assert_eq!(out.matches("cpu-clock").count(), 3);
        assert!(
            out.contains("parent              1/1     [000]      0.000000:          3 cpu-clock"),
            "{out}"
        );
        assert!(out.contains("main (/bin/p)"), "{out}");
    }
}
