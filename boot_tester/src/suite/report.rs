//! Counting verdicts, showing them as they come, and comparing the two kernels'.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Record, Verdict, repeat};

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// Verdicts that are still to come for each (suite, topology, kernel): at 0 its line is printed.
    open: BTreeMap<(String, String, String), usize>,
}

pub struct Report {
    state: Mutex<State>,
    bar: Option<ProgressBar>,
    verbose: bool,
}

/// What the whole run comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// Tests on which the kernels disagree.
    pub differing: usize,
}

impl Report {
    pub fn new(verbose: bool) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {elapsed}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { state: Mutex::default(), bar, verbose }
    }

    /// What is being waited for.
    pub fn busy(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_string());
        }
    }

    /// Announces that these tests will be run there.
    pub fn expect(&self, suite: &str, topology: &str, kernel: &str, tests: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.open.entry((suite.into(), topology.into(), kernel.into())).or_default() += tests;
        if let Some(bar) = &self.bar {
            bar.inc_length(tests as u64);
        }
    }

    pub fn add(&self, record: Record) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(record.test.clone());
        }
        if self.verbose || matches!(record.verdict, Verdict::Fail(_)) {
            self.print(&line(&record));
        }
        let has_suite = record.test.contains("::");
        let key = (record.suite().to_string(), record.topology.clone(), record.kernel.clone());
        state.records.push(record);
        if let Some(count) = state.open.get_mut(&key) {
            *count = count.saturating_sub(1);
            // Tests of a directory are suites of one: the table at the end says it.
            if *count == 0 && has_suite {
                self.print(&suite_line(&state.records, &key));
            }
        }
    }

    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// The end: how often each test passed if they were `repeated`, differences between kernels, then the
    /// summary line.
    pub fn finish(self, repeated: bool) -> (Vec<Record>, Totals) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mut records = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).records;
        if repeated {
            let (merged, text) = repeat::merge(&records);
            print!("{text}");
            records = merged;
        }
        let differences = differences(&records);
        for line in &differences {
            println!("{line}");
        }
        let mut totals = Totals { differing: differences.len(), ..Totals::default() };
        for record in &records {
            match record.verdict {
                Verdict::Pass => totals.passed += 1,
                Verdict::Fail(_) => totals.failed += 1,
                Verdict::Skip(_) => totals.skipped += 1,
            }
        }
        (records, totals)
    }
}

impl Totals {
    pub fn line(&self) -> String {
        let Self { passed, failed, skipped, .. } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    pub fn all_well(&self) -> bool {
        self.failed == 0 && self.differing == 0
    }
}

fn line(record: &Record) -> String {
    let Record { test, topology, kernel, millis, verdict, .. } = record;
    let head = format!("{:<4} {test} [{topology}, {kernel}]", verdict.word());
    match verdict {
        Verdict::Pass => format!("{head} {millis} ms"),
        Verdict::Fail(why) | Verdict::Skip(why) => {
            format!("{head}: {}", why.replace('\n', "\n     "))
        }
    }
}

fn suite_line(records: &[Record], key: &(String, String, String)) -> String {
    let (suite, topology, kernel) = key;
    let own = || {
        records
            .iter()
            .filter(|r| r.suite() == suite && r.topology == *topology && r.kernel == *kernel)
    };
    let count = |word: &str| own().filter(|r| r.verdict.word() == word).count();
    let millis: u64 = own().map(|r| r.millis).sum();
    let mut text = format!("{suite:<20} {topology:<14} {kernel:<8}");
    let _ = write!(
        text,
        " {:>4} ok {:>3} failed {:>3} skipped {:>7.1} s",
        count("ok"),
        count("FAIL"),
        count("skip"),
        millis as f64 / 1000.0
    );
    text
}

/// A line for every test whose verdict, or the verdict of a part, is not the same on both kernels.
fn differences(records: &[Record]) -> Vec<String> {
    let mut by_test: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_test.entry((&record.test, &record.topology)).or_default().push(record);
    }
    let mut lines = Vec::new();
    for ((test, topology), list) in by_test {
        let [one, two] = list[..] else { continue };
        if one.verdict.word() != two.verdict.word() {
            lines.push(format!(
                "differs: {test} [{topology}]: {} on {}, {} on {}",
                one.verdict.word(),
                one.kernel,
                two.verdict.word(),
                two.kernel
            ));
        } else if let Some(what) = differing_part(one, two) {
            lines.push(format!("differs: {test} [{topology}]: {what}"));
        }
    }
    lines
}

fn differing_part(one: &Record, two: &Record) -> Option<String> {
    if one.parts.len() != two.parts.len() {
        return Some(format!(
            "{} parts on {}, {} on {}",
            one.parts.len(),
            one.kernel,
            two.parts.len(),
            two.kernel
        ));
    }
    one.parts.iter().zip(&two.parts).find(|(a, b)| a.1 != b.1).map(|(a, b)| {
        format!("part {:?}: {} on {}, {} on {}", a.0, a.1, one.kernel, b.1, two.kernel)
    })
}

/// Verdicts side by side: a row for each test and topology, a column for each kernel.
pub fn table(records: &[Record], kernels: &[String]) -> String {
    let mut rows: BTreeMap<(&str, &str), BTreeMap<&str, &Record>> = BTreeMap::new();
    for record in records {
        let row = rows.entry((&record.test, &record.topology)).or_default();
        row.insert(&record.kernel, record);
    }
    let width = rows.keys().map(|(test, _)| test.len()).max().unwrap_or(4).max(4);
    let mut text = format!("{:<width$}  {:<14}", "test", "topology");
    for kernel in kernels {
        let _ = write!(text, "  {kernel:<16}");
    }
    text.push('\n');
    for ((test, topology), row) in rows {
        let _ = write!(text, "{test:<width$}  {topology:<14}");
        for kernel in kernels {
            let cell = row.get(kernel.as_str()).map_or("-".to_string(), |r| cell(r));
            let _ = write!(text, "  {cell:<16}");
        }
        text = text.trim_end().to_string() + "\n";
    }
    text
}

fn cell(record: &Record) -> String {
    if record.parts.is_empty() {
        return record.verdict.word().into();
    }
    let good = record.parts.iter().filter(|(_, word)| *word == "ok").count();
    format!("{} ({good}/{})", record.verdict.word(), record.parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(test: &str, kernel: &str, verdict: Verdict) -> Record {
        Record {
            test: test.into(),
            kernel: kernel.into(),
            topology: "one-node".into(),
            verdict,
            millis: 1,
            parts: Vec::new(),
        }
    }

    #[test]
    fn kernels_that_disagree_are_named() {
        let records = [
            record("a::b", "proxima", Verdict::Fail("x".into())),
            record("a::b", "linux", Verdict::Pass),
            record("a::c", "proxima", Verdict::Pass),
            record("a::c", "linux", Verdict::Pass),
        ];
        assert_eq!(
            differences(&records),
            ["differs: a::b [one-node]: FAIL on proxima, ok on linux"]
        );
    }

    #[test]
    fn parts_that_disagree_are_named_too() {
        let mut one = record("a", "proxima", Verdict::Pass);
        let mut two = record("a", "linux", Verdict::Pass);
        one.parts = vec![("1".into(), "ok"), ("2".into(), "skip")];
        two.parts = vec![("1".into(), "ok"), ("2".into(), "ok")];
        assert_eq!(differences(&[one, two]).len(), 1);
    }

    #[test]
    fn the_summary_ends_in_the_three_counts() {
        let report = Report::new(false);
        report.expect("a", "one-node", "linux", 2);
        report.add(record("a::b", "linux", Verdict::Pass));
        report.add(record("a::c", "linux", Verdict::Skip("no".into())));
        let (records, totals) = report.finish(false);
        assert_eq!(totals.line(), "1 passed, 0 failed, 1 skipped");
        assert!(totals.all_well());
        assert!(table(&records, &["linux".into()]).contains("a::c  one-node        skip"));
    }
}
