//! JUnit's XML, as CI systems read it: a testsuite for each suite, topology and kernel.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Record, Verdict};

pub fn xml(records: &[Record]) -> String {
    let mut suites: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let name = format!("{} [{}, {}]", record.suite(), record.topology, record.kernel);
        suites.entry(name).or_default().push(record);
    }
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (name, list) in suites {
        let count = |word: &str| list.iter().filter(|r| r.verdict.word() == word).count();
        let millis: u64 = list.iter().map(|r| r.millis).sum();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            escape(&name),
            list.len(),
            count("FAIL"),
            count("skip"),
            millis as f64 / 1000.0
        );
        for record in list {
            case(&mut text, &name, record);
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn case(text: &mut String, suite: &str, record: &Record) {
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escape(suite),
        escape(&record.test),
        record.millis as f64 / 1000.0
    );
    let _ = match &record.verdict {
        Verdict::Pass => writeln!(text, "/>"),
        Verdict::Fail(why) => {
            let first = why.lines().next().unwrap_or("");
            let (first, why) = (escape(first), escape(why));
            writeln!(text, "><failure message=\"{first}\">{why}</failure></testcase>")
        }
        Verdict::Skip(why) => {
            writeln!(text, "><skipped message=\"{}\"/></testcase>", escape(why))
        }
    };
}

/// XML 1.0 takes no control characters, not even as references.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_escaped_and_counted() {
        let record = Record {
            test: "a::b".into(),
            kernel: "linux".into(),
            topology: "cxl".into(),
            verdict: Verdict::Fail("1 < 2\n\u{1b}&".into()),
            millis: 1500,
            parts: Vec::new(),
        };
        let text = xml(&[record]);
        assert!(text.contains("failures=\"1\" skipped=\"0\" time=\"1.500\""), "{text}");
        assert!(text.contains("message=\"1 &lt; 2\""), "{text}");
        assert!(text.contains("1 &lt; 2&#10;?&amp;"), "{text}");
    }
}
