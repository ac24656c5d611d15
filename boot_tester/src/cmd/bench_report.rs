//! The bench's figures as a table, as JSON, and against the baseline in the source tree.
//!
//! JSON: `{"topology": NAME, "kernels": [NAME...], "operations": [{"name": NAME, KERNEL: {"median",
//! "p99", "samples"} or {"missing": CALL} or {"failed": WHY}, "ratio": N, "target": N}...]}`;
//! `ratio` (Proxima's median by Linux's) stands there when both are measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::bench_guest::{Figures, Measured};
use crate::error::{Context, Fail, Result};
use crate::paths;

/// By how much a median may exceed the baseline's.
const TOLERANCE: f64 = 0.03;

/// One kernel's results.
pub struct Column {
    pub name: String,
    pub release: Option<String>,
    /// Real time it took.
    pub seconds: f64,
    pub results: BTreeMap<String, Measured>,
}

impl Column {
    fn figures(&self, name: &str) -> Option<Figures> {
        match self.results.get(name) {
            Some(Measured::Figures(figures)) => Some(*figures),
            _ => None,
        }
    }
}

/// The share of Linux's instructions that an operation shall not exceed.
pub fn target(name: &str) -> f64 {
    let half = ["numa/get_mempolicy", "numa/set_mempolicy", "numa/mbind_page"];
    let moves = ["numa/mbind_move", "numa/migrate_pages", "numa/move_pages_move_1024"];
    if name.starts_with("mm/fault_") {
        0.6
    } else if name.ends_with("/getcpu") || half.iter().any(|own| name.starts_with(own)) {
        0.5
    } else if moves.iter().any(|own| name.starts_with(own)) {
        0.4
    } else {
        1.0
    }
}

fn ratio(name: &str, columns: &[Column]) -> Option<f64> {
    let median = |kernel: &str| {
        let column = columns.iter().find(|column| column.name == kernel)?;
        Some(column.figures(name)?.median)
    };
    Some(median("proxima")? / median("linux")?)
}

pub fn table(names: &[String], columns: &[Column]) -> String {
    let wide = names.iter().map(String::len).max().unwrap_or(0).max(9);
    let both = columns.len() == 2;
    let mut text = format!("{:wide$}", "operation");
    for column in columns {
        let _ = write!(text, " {:>12} {:>10}", column.name, "p99");
    }
    text += if both { "  ratio target\n" } else { "\n" };
    let (mut notes, mut above) = (String::new(), 0);
    for name in names {
        let _ = write!(text, "{name:wide$}");
        for column in columns {
            let cells = match column.results.get(name) {
                Some(Measured::Figures(own)) => [number(own.median), number(own.p99)],
                Some(Measured::Missing(call)) => {
                    let _ = writeln!(notes, "{name}: {} has no {call}", column.name);
                    ["missing".into(), "-".into()]
                }
                Some(Measured::Failed(why)) => {
                    let _ = writeln!(notes, "{name}: failed on {}: {why}", column.name);
                    ["FAILED".into(), "-".into()]
                }
                None => ["-".into(), "-".into()],
            };
            let _ = write!(text, " {:>12} {:>10}", cells[0], cells[1]);
        }
        if let Some(ratio) = ratio(name, columns) {
            let over = ratio > target(name);
            above += usize::from(over);
            let mark = if over { " *" } else { "" };
            let _ = write!(text, " {ratio:>6.2} {:>6.1}{mark}", target(name));
        }
        text += "\n";
    }
    text += &notes;
    for column in columns {
        let release = column.release.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
        let _ = writeln!(text, "{}{release}: {:.0} s", column.name, column.seconds);
    }
    if both {
        let _ = writeln!(text, "instructions per operation; * {above} above their target");
    }
    text
}

/// Whole instructions with thousands apart; a tenth where there are few.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub fn json(names: &[String], columns: &[Column], topology: &str) -> Result<String> {
    let operations: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut entry = Map::new();
            entry.insert("name".into(), json!(name));
            for column in columns {
                let value = match column.results.get(name) {
                    Some(Measured::Figures(f)) => {
                        json!({"median": f.median, "p99": f.p99, "samples": f.samples})
                    }
                    Some(Measured::Missing(call)) => json!({ "missing": call }),
                    Some(Measured::Failed(why)) => json!({ "failed": why }),
                    None => continue,
                };
                entry.insert(column.name.clone(), value);
            }
            if let Some(ratio) = ratio(name, columns) {
                entry.insert("ratio".into(), json!((ratio * 1000.0).round() / 1000.0));
                entry.insert("target".into(), json!(target(name)));
            }
            Value::Object(entry)
        })
        .collect();
    let kernels: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let all = json!({"topology": topology, "kernels": kernels, "operations": operations});
    Ok(serde_json::to_string_pretty(&all).context("JSON")? + "\n")
}

/// Medians of operations by name.
pub type Baseline = BTreeMap<String, f64>;

fn baseline_path() -> Result<PathBuf> {
    let top = paths::source()
        .ok_or_else(|| Fail::broken("the baseline is in the source tree, which is not here"))?;
    Ok(top.join("boot_tester/baseline/ring-4.json"))
}

pub fn read_baseline() -> Result<Baseline> {
    let path = baseline_path()?;
    let text = std::fs::read_to_string(&path).context(path.display())?;
    serde_json::from_str(&text).context(path.display())
}

/// Writes what was measured over the baseline; operations that were not stay, unless `whole`.
pub fn update_baseline(column: &Column, whole: bool) -> Result<String> {
    let path = baseline_path()?;
    let mut baseline = if whole { Baseline::new() } else { read_baseline()? };
    let measured = column
        .results
        .keys()
        .filter_map(|name| column.figures(name).map(|figures| (name.clone(), figures.median)));
    baseline.extend(measured);
    let text = serde_json::to_string_pretty(&baseline).context("JSON")? + "\n";
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).context(dir.display())?;
    }
    std::fs::write(&path, text).context(path.display())?;
    Ok(format!("{}: {} operations", paths::shown(&path), baseline.len()))
}

/// Extremes are told, but a change of a few instructions anywhere moves them: no baseline for them.
fn is_compared(name: &str) -> bool {
    !name.starts_with("stall/")
}

/// What differs from the baseline by more than the tolerance, and whether nothing got slower.
pub fn compare(names: &[String], column: &Column, baseline: &Baseline) -> (String, bool) {
    let (mut text, mut worse, mut better) = (String::new(), 0, 0);
    for name in names.iter().filter(|name| is_compared(name)) {
        match (column.figures(name), baseline.get(name)) {
            (Some(now), Some(&before)) => {
                let change = now.median / before - 1.0;
                if change.abs() <= TOLERANCE + 1e-9 {
                    continue;
                }
                let word = if change > 0.0 { "SLOWER" } else { "faster" };
                worse += usize::from(change > 0.0);
                better += usize::from(change < 0.0);
                let (was, is) = (number(before), number(now.median));
                let _ = writeln!(text, "{word} {name}: {was} -> {is} ({:+.1} %)", change * 100.0);
            }
            (None, Some(_)) => {
                worse += 1;
                let _ = writeln!(text, "LOST {name}: it is in the baseline and was not measured");
            }
            (Some(_), None) => {
                let _ = writeln!(text, "new {name}: not in the baseline");
            }
            (None, None) => {}
        }
    }
    let count = names.len();
    let _ = writeln!(
        text,
        "against the baseline: {count} operations, {worse} slower by over 3 %, {better} faster"
    );
    if worse + better > 0 {
        text += "if that is meant to be: proxima bench --update-baseline\n";
    }
    (text, worse == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, median: f64) -> Column {
        let figures = Figures { median, p99: median + 1.0, samples: 3 };
        let mut results = BTreeMap::from([("mm/fault_bind".into(), Measured::Figures(figures))]);
        results.insert("call/null".into(), Measured::Missing("getppid".into()));
        Column { name: name.into(), release: None, seconds: 1.0, results }
    }

    #[test]
    fn figures_stand_beside_each_other_and_what_is_above_its_target_is_marked() {
        let names = ["mm/fault_bind".to_string(), "call/null".to_string()];
        let text = table(&names, &[column("proxima", 1300.0), column("linux", 2000.0)]);
        let line = text.lines().find(|line| line.starts_with("mm/fault_bind")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["mm/fault_bind", "1,300", "1,301", "2,000", "2,001", "0.65", "0.6", "*"]
        );
        assert!(text.contains("call/null: proxima has no getppid"), "{text}");
        let values: Value = serde_json::from_str(
            &json(&names, &[column("proxima", 1.0), column("linux", 2.0)], "ring-4").unwrap(),
        )
        .unwrap();
        assert_eq!(values["operations"][0]["ratio"], 0.5);
        assert_eq!(values["operations"][1]["linux"]["missing"], "getppid");
    }

    #[test]
    fn more_than_three_percent_slower_fails_and_faster_does_not() {
        let names = ["mm/fault_bind".to_string()];
        let baseline = Baseline::from([("mm/fault_bind".to_string(), 1000.0)]);
        let well = |median| compare(&names, &column("proxima", median), &baseline).1;
        assert!(well(1030.0));
        assert!(!well(1031.0));
        assert!(well(500.0));
        let lost = ["call/null".to_string()];
        let baseline = Baseline::from([("call/null".to_string(), 300.0)]);
        assert!(!compare(&lost, &column("proxima", 1.0), &baseline).1);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(23.06), "23.1");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(1_234_567.0), "1,234,567");
    }
}
