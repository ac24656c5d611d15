//! `perf numa`: which functions get or touch pages of other nodes than their own.

use crate::profile::{Named, Profile};
use crate::report::{Format, csv_text, json_text};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The events that it records, in the order of the table's columns.
pub const EVENTS: [&str; 5] = [
    "numa/alloc_local/",
    "numa/alloc_remote/",
    "numa/alloc_fallback/",
    "numa/page_migrated/",
    "numa/migration_fault/",
];

/// The nodes that a sample of the kernel's `numa` events names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nodes {
    pub page: u32,
    pub wanted: u32,
    pub cpu: u32,
    pub distance: u32,
}

impl Nodes {
    /// From PERF_SAMPLE_RAW.
    pub fn from_raw(raw: &[u8]) -> Option<Self> {
        let mut r = crate::bytes::Reader::new(raw);
        let nodes = Self { page: r.u32()?, wanted: r.u32()?, cpu: r.u32()?, distance: r.u32()? };
        Some(nodes)
    }
}

/// Lifts the limit of samples a second while it lives, if that is allowed: every page counts.
pub struct Unthrottled(Option<String>);

const MAX_RATE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

impl Unthrottled {
    pub fn new() -> Self {
        let before = std::fs::read_to_string(MAX_RATE).ok();
        let lifted = std::fs::write(MAX_RATE, "100000000").is_ok();
        Self(before.filter(|_| lifted))
    }
}

impl Drop for Unthrottled {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The setting was ours to change a moment ago.
            let _ = std::fs::write(MAX_RATE, before);
        }
    }
}

/// What one function did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub function: String,
    pub object: String,
    /// By event, as [`EVENTS`].
    pub counts: [u64; 5],
    /// Pages by (node of the CPU, node of the page).
    pub pairs: BTreeMap<(u32, u32), u64>,
}

impl Row {
    fn remote(&self) -> u64 {
        self.counts[1]
    }
    fn all(&self) -> u64 {
        self.counts[0] + self.counts[1]
    }
}

/// The program's own function behind a sample: what the kernel did on its behalf is its doing.
fn whose(named: &Named) -> (String, String) {
    let place = named.stack.iter().find(|p| !p.kernel).or(named.stack.first());
    place.map_or(("?".into(), "?".into()), |p| (p.function.to_string(), p.object.to_string()))
}

/// The functions, those with the most remote pages first.
pub fn rows(profile: &Profile) -> Vec<Row> {
    let column: Vec<Option<usize>> =
        profile.events.iter().map(|name| EVENTS.iter().position(|e| name.starts_with(e))).collect();
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for named in &profile.samples {
        let Some(Some(column)) = column.get(named.sample.event) else { continue };
        let key = whose(named);
        let row = rows.entry(key.clone()).or_insert_with(|| Row {
            function: key.0,
            object: key.1,
            ..Row::default()
        });
        row.counts[*column] += named.sample.period;
        if *column < 2
            && let Some(nodes) = Nodes::from_raw(&named.sample.raw)
        {
            *row.pairs.entry((nodes.cpu, nodes.page)).or_default() += named.sample.period;
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.remote(), row.counts[2], row.all())));
    rows
}

/// The table.
pub fn render(profile: &Profile, format: Format, limit: usize) -> String {
    let mut rows = rows(profile);
    if limit > 0 {
        rows.truncate(limit);
    }
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    match format {
        Format::Text => {
            let _ = writeln!(
                out,
                "{:>9} {:>9} {:>9} {:>9} {:>9}  function  (object)  CPU node>page node: pages",
                "remote", "local", "fallback", "migrated", "waited"
            );
            for row in &rows {
                let [local, remote, fallback, migrated, waited] = row.counts;
                let pairs: Vec<String> = row
                    .pairs
                    .iter()
                    .filter(|((cpu, page), _)| cpu != page)
                    .map(|((cpu, page), n)| format!("{cpu}>{page}: {n}"))
                    .collect();
                let _ = writeln!(
                    out,
                    "{remote:>9} {local:>9} {fallback:>9} {migrated:>9} {waited:>9}  {}  ({})  {}",
                    row.function,
                    row.object,
                    pairs.join(", ")
                );
            }
            if profile.lost > 0 || profile.throttled > 0 {
                let (lost, throttled) = (profile.lost, profile.throttled);
                let _ = writeln!(out, "lost records: {lost}, throttled: {throttled} times");
            }
        }
        Format::Csv => {
            out.push_str("function,object,local,remote,fallback,migrated,waited\n");
            for row in &rows {
                let counts = row.counts.map(|n| n.to_string()).join(",");
                let _ =
                    writeln!(out, "{},{},{counts}", csv_text(&row.function), csv_text(&row.object));
            }
        }
        Format::Json => {
            let parts: Vec<String> = rows
                .iter()
                .map(|row| {
                    let [local, remote, fallback, migrated, waited] = row.counts;
                    format!(
                        "{{\"function\":{},\"object\":{},\"local\":{local},\"remote\":{remote},\"fallback\":{fallback},\"migrated\":{migrated},\"waited\":{waited}}}",
                        json_text(&row.function),
                        json_text(&row.object)
                    )
                })
                .collect();
            let _ = writeln!(out, "[{}]", parts.join(","));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Sample;
    use crate::symbols::Place;

    fn named(event: usize, function: &str, nodes: [u32; 4]) -> Named {
        let raw = nodes.iter().flat_map(|n| n.to_le_bytes()).collect();
        let place = |function: &str, kernel| Place {
            function: function.into(),
            object: "o".into(),
            kernel,
        };
        Named {
            sample: Sample { event, period: 2, raw, ..Sample::default() },
            comm: "c".into(),
            stack: vec![place("page_fault", true), place(function, false)],
            addresses: vec![1, 2],
        }
    }

    #[test]
    fn pages_belong_to_the_programs_functions() {
        let profile = Profile {
            events: EVENTS.iter().map(|e| e.to_string()).collect(),
            samples: vec![
                named(0, "near", [0, 0, 0, 10]),
                named(1, "far", [2, 0, 0, 20]),
                named(2, "far", [2, 0, 0, 20]),
                named(0, "near", [0, 0, 0, 10]),
            ],
            lost: 0,
            throttled: 0,
        };
        let rows = rows(&profile);
        assert_eq!((rows[0].function.as_str(), rows[0].counts), ("far", [0, 2, 2, 0, 0]));
        assert_eq!((rows[1].function.as_str(), rows[1].counts), ("near", [4, 0, 0, 0, 0]));
        let text = render(&profile, Format::Text, 0);
        assert!(text.contains("far  (o)  0>2: 2"), "{text}");
    }
}
