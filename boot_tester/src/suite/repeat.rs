//! Tests that were run several times (`--repeat`): how often each passed, and which are flaky. A test that
//! passes only at times has failed.

use std::fmt::Write;

use super::{Record, Verdict};

/// What several runs of a test came to, on one kernel and topology.
struct Tally {
    /// The first run's, with the verdict of all.
    record: Record,
    runs: usize,
    passed: usize,
    skipped: usize,
    first_failure: Option<String>,
}

impl Tally {
    fn add(&mut self, record: &Record) {
        self.runs += 1;
        self.record.millis = self.record.millis.max(record.millis);
        match &record.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Skip(_) => self.skipped += 1,
            Verdict::Fail(why) => _ = self.first_failure.get_or_insert_with(|| why.clone()),
        }
    }

    fn is_flaky(&self) -> bool {
        let failed = self.runs - self.passed - self.skipped;
        ![self.passed, self.skipped, failed].contains(&self.runs)
    }

    /// The verdict of all runs together.
    fn verdict(&self) -> Verdict {
        if !self.is_flaky() {
            return self.record.verdict.clone();
        }
        let Self { runs, passed, .. } = self;
        Verdict::Fail(match &self.first_failure {
            Some(why) => format!("flaky: passed {passed} of {runs} times; it failed with: {why}"),
            None => format!("flaky: passed {passed} of {runs} times, skipped the others"),
        })
    }
}

/// One record for each test, kernel and topology, and the lines that say how often each passed.
pub fn merge(records: &[Record]) -> (Vec<Record>, String) {
    let mut tallies: Vec<Tally> = Vec::new();
    for record in records {
        let same = |tally: &&mut Tally| {
            let own = &tally.record;
            (&own.test, &own.kernel, &own.topology)
                == (&record.test, &record.kernel, &record.topology)
        };
        match tallies.iter_mut().find(same) {
            Some(tally) => tally.add(record),
            None => {
                let record = record.clone();
                let mut tally =
                    Tally { record, runs: 0, passed: 0, skipped: 0, first_failure: None };
                let first = tally.record.clone();
                tally.add(&first);
                tallies.push(tally);
            }
        }
    }
    let mut text = String::new();
    for tally in &tallies {
        let Record { test, topology, kernel, .. } = &tally.record;
        let mark = if tally.is_flaky() { "flaky " } else { "      " };
        let _ = writeln!(
            text,
            "{mark} passed {} of {}: {test} [{topology}, {kernel}]",
            tally.passed, tally.runs
        );
    }
    let merged = tallies.into_iter().map(|tally| {
        let verdict = tally.verdict();
        // Parts of a test that is flaky are no matter of the kernel.
        let parts = if tally.is_flaky() { Vec::new() } else { tally.record.parts.clone() };
        Record { verdict, parts, ..tally.record }
    });
    (merged.collect(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(test: &str, verdict: Verdict) -> Record {
        Record {
            test: test.into(),
            kernel: "proxima".into(),
            topology: "cxl".into(),
            verdict,
            millis: 1,
            parts: vec![("1".into(), "ok")],
        }
    }

    #[test]
    fn a_test_that_passes_at_times_has_failed_and_is_named() {
        let fail = || Verdict::Fail("lost a page\nmore".into());
        let records = [
            record("steady", Verdict::Pass),
            record("racy", Verdict::Pass),
            record("broken", fail()),
            record("away", Verdict::Skip("one node".into())),
            record("steady", Verdict::Pass),
            record("racy", fail()),
            record("broken", fail()),
            record("away", Verdict::Skip("one node".into())),
        ];
        let (merged, text) = merge(&records);
        let words: Vec<_> = merged.iter().map(|r| (&*r.test, r.verdict.word())).collect();
        assert_eq!(
            words,
            [("steady", "ok"), ("racy", "FAIL"), ("broken", "FAIL"), ("away", "skip")]
        );
        let Verdict::Fail(why) = &merged[1].verdict else { panic!() };
        assert_eq!(why, "flaky: passed 1 of 2 times; it failed with: lost a page\nmore");
        assert_eq!(merged[2].verdict, fail());
        assert!(merged[0].parts.len() == 1 && merged[1].parts.is_empty());
        assert_eq!(text.matches("flaky").count(), 1);
        assert!(text.contains("flaky  passed 1 of 2: racy [cxl, proxima]\n"), "{text}");
    }

    #[test]
    fn skipping_at_times_is_no_success() {
        let records = [record("a", Verdict::Pass), record("a", Verdict::Skip("why".into()))];
        assert_eq!(merge(&records).0[0].verdict.word(), "FAIL");
    }
}
