//! `perf report`: which functions the time went to, the kernel's and the programs' apart.

use crate::profile::{Named, Profile};
use crate::symbols::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
    Csv,
}

/// What to print.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub format: Format,
    /// Functions with less than this percentage are left out.
    pub min: f64,
    /// Functions at most (0: all).
    pub limit: usize,
    /// Who called them.
    pub callers: bool,
}

/// A function's part of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub place: Place,
    pub samples: u64,
    /// Periods while it ran itself, and while it or what it called ran.
    pub own: u64,
    pub total: u64,
}

/// A caller and its callers.
#[derive(Default, Debug)]
pub struct Callers {
    pub weight: u64,
    pub by: BTreeMap<Place, Callers>,
}

impl Callers {
    fn add(&mut self, stack: &[Place], weight: u64) {
        self.weight += weight;
        if let Some((first, rest)) = stack.split_first() {
            self.by.entry(first.clone()).or_default().add(rest, weight);
        }
    }
}

/// The functions of an event, the largest first.
pub fn functions(profile: &Profile, event: usize) -> Vec<Line> {
    let mut lines: BTreeMap<Place, (u64, u64, u64)> = BTreeMap::new();
    for named in profile.of_event(event) {
        let period = named.sample.period;
        if let Some(first) = named.stack.first() {
            let line = lines.entry(first.clone()).or_default();
            line.0 += 1;
            line.1 += period;
        }
        // A recursive function counts once.
        for place in named.stack.iter().collect::<BTreeSet<_>>() {
            lines.entry(place.clone()).or_default().2 += period;
        }
    }
    let mut lines: Vec<Line> = lines
        .into_iter()
        .map(|(place, (samples, own, total))| Line { place, samples, own, total })
        .collect();
    lines.sort_by(|a, b| (b.own, b.total, &a.place).cmp(&(a.own, a.total, &b.place)));
    lines
}

fn callers(profile: &Profile, event: usize, place: &Place) -> Callers {
    let mut root = Callers::default();
    let with = profile.of_event(event).filter(|n| n.stack.first() == Some(place));
    with.for_each(|named: &Named| root.add(&named.stack[1..], named.sample.period));
    root
}

/// The share of samples in the kernel, in percent.
pub fn kernel_share(profile: &Profile, event: usize) -> f64 {
    let kernel = profile.of_event(event).filter(|n| n.stack.first().is_some_and(|p| p.kernel));
    percent(kernel.map(|n| n.sample.period).sum(), profile.total(event))
}

/// `part` of `whole` in percent.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn space(place: &Place) -> &'static str {
    if place.kernel { "kernel" } else { "user" }
}

/// A JSON text.
pub fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A CSV field.
pub fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

/// The report.
pub fn render(profile: &Profile, options: &Options) -> String {
    match options.format {
        Format::Text => text(profile, options),
        Format::Json => json(profile, options),
        Format::Csv => csv(profile, options),
    }
}

/// The lines to show, and how many there are in all.
fn chosen(profile: &Profile, event: usize, options: &Options) -> Vec<Line> {
    let total = profile.total(event);
    let mut lines = functions(profile, event);
    lines.retain(|l| l.own > 0 && percent(l.own, total) >= options.min);
    if options.limit > 0 {
        lines.truncate(options.limit);
    }
    lines
}

fn text(profile: &Profile, options: &Options) -> String {
    let mut out = String::new();
    for (event, name) in profile.events.iter().enumerate() {
        let samples = profile.of_event(event).count();
        if samples == 0 {
            continue;
        }
        let total = profile.total(event);
        let kernel = kernel_share(profile, event);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{name}: {samples} samples, {total} events; kernel {kernel:.1} %, user {:.1} %",
            100.0 - kernel
        );
        if profile.lost > 0 || profile.throttled > 0 {
            let _ = writeln!(
                out,
                "lost records: {}, throttled: {} times",
                profile.lost, profile.throttled
            );
        }
        let _ = writeln!(
            out,
            "\n{:>7} {:>7} {:>8}  {:<6}  function  (object)",
            "self", "total", "samples", "where"
        );
        for line in chosen(profile, event, options) {
            let _ = writeln!(
                out,
                "{:>6.2}% {:>6.2}% {:>8}  {:<6}  {}  ({})",
                percent(line.own, total),
                percent(line.total, total),
                line.samples,
                space(&line.place),
                line.place.function,
                line.place.object
            );
            if options.callers {
                tree(
                    &mut out,
                    &callers(profile, event, &line.place),
                    total,
                    options.min.max(0.5),
                    1,
                );
            }
        }
        out.push('\n');
    }
    if out.is_empty() {
        out.push_str("no samples\n");
    }
    out
}

fn tree(out: &mut String, node: &Callers, total: u64, min: f64, depth: usize) {
    let mut by: Vec<_> = node.by.iter().collect();
    by.sort_by_key(|(_, callers)| std::cmp::Reverse(callers.weight));
    for (place, callers) in by {
        let share = percent(callers.weight, total);
        if share < min || depth > 40 {
            continue;
        }
        let _ =
            writeln!(out, "{:>27}{}<- {:.2}% {}", "", "  ".repeat(depth), share, place.function);
        tree(out, callers, total, min, depth + 1);
    }
}

fn json(profile: &Profile, options: &Options) -> String {
    let mut events = Vec::new();
    for (event, name) in profile.events.iter().enumerate() {
        let total = profile.total(event);
        let lines: Vec<String> = chosen(profile, event, options)
            .iter()
            .map(|line| {
                let callers = if options.callers {
                    format!(",\"callers\":{}", json_tree(&callers(profile, event, &line.place)))
                } else {
                    String::new()
                };
                format!(
                    "{{\"function\":{},\"object\":{},\"space\":\"{}\",\"samples\":{},\"self\":{},\"total\":{},\"self_percent\":{:.3},\"total_percent\":{:.3}{callers}}}",
                    json_text(&line.place.function),
                    json_text(&line.place.object),
                    space(&line.place),
                    line.samples,
                    line.own,
                    line.total,
                    percent(line.own, total),
                    percent(line.total, total)
                )
            })
            .collect();
        events.push(format!(
            "{{\"event\":{},\"samples\":{},\"total\":{total},\"kernel_percent\":{:.3},\"functions\":[{}]}}",
            json_text(name),
            profile.of_event(event).count(),
            kernel_share(profile, event),
            lines.join(",")
        ));
    }
    format!(
        "{{\"lost\":{},\"throttled\":{},\"events\":[{}]}}\n",
        profile.lost,
        profile.throttled,
        events.join(",")
    )
}

fn json_tree(node: &Callers) -> String {
    let parts: Vec<String> = node
        .by
        .iter()
        .map(|(place, callers)| {
            let name = json_text(&place.function);
            format!(
                "{{\"function\":{name},\"weight\":{},\"callers\":{}}}",
                callers.weight,
                json_tree(callers)
            )
        })
        .collect();
    format!("[{}]", parts.join(","))
}

fn csv(profile: &Profile, options: &Options) -> String {
    let mut out = String::from("event,space,function,object,samples,self,total,self_percent\n");
    for (event, name) in profile.events.iter().enumerate() {
        let total = profile.total(event);
        for line in chosen(profile, event, options) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{},{},{},{},{},{},{},{:.3}",
                csv_text(name),
                space(&line.place),
                csv_text(&line.place.function),
                csv_text(&line.place.object),
                line.samples,
                line.own,
                line.total,
                percent(line.own, total)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::example;

    const ALL: Options = Options { format: Format::Text, min: 0.0, limit: 0, callers: true };

    #[test]
    fn shares_are_of_the_periods() {
        let lines = functions(&example(), 0);
        let short: Vec<_> =
            lines.iter().map(|l| (&*l.place.function, l.samples, l.own, l.total)).collect();
        assert_eq!(short, [("hot", 2, 7, 7), ("cold", 1, 1, 1), ("main", 0, 0, 4)]);
    }

    #[test]
    fn text_names_functions_and_callers() {
        let out = render(&example(), &ALL);
        assert!(out.contains(" 87.50%  87.50%        2  user    hot  (/bin/p)"), "{out}");
        assert!(out.contains("<- 37.50% main"), "{out}");
        assert!(out.contains("lost records: 5"), "{out}");
        assert!(!out.contains("main  (/bin/p)"), "{out}");
    }

    #[test]
    fn csv_and_json_hold_the_same() {
        let csv = render(&example(), &Options { format: Format::Csv, ..ALL });
        assert_eq!(csv.lines().nth(1), Some("cpu-clock,user,hot,/bin/p,2,7,7,87.500"));
        let json = render(&example(), &Options { format: Format::Json, ..ALL });
        assert!(json.contains("\"function\":\"hot\",\"object\":\"/bin/p\",\"space\":\"user\",\"samples\":2,\"self\":7"), "{json}");
        assert!(
            json.contains("\"callers\":[{\"function\":\"main\",\"weight\":3,\"callers\":[]}]"),
            "{json}"
        );
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(json_text("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
        assert_eq!(csv_text("f(int, char)"), "\"f(int, char)\"");
    }

    #[test]
    fn limits_leave_out_the_small() {
        let out = render(&example(), &Options { min: 20.0, callers: false, ..ALL });
        assert!(out.contains("hot") && !out.contains("cold"));
    }
}
