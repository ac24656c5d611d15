//! Lines that test programs print: the project's own, TAP, and LTP's.

use super::{Reader, Step, Verdict};

/// Splits a stream into lines, whatever pieces it arrives in.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are complete now, without their ends.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|&b| b == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).lines().map(|l| l.trim_end_matches('\r').into()).collect()
    }
}

/// The protocol of user/tests: `start NAME` before a test, then one of `ok NAME 12ms`,
/// `FAIL NAME: reason`, `skip NAME: reason`. Other lines are the test's own chatter.
#[derive(Default)]
pub struct OwnReader(Lines);

impl Reader for OwnReader {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Step> {
        self.0.feed(bytes).iter().filter_map(|line| own_line(line)).collect()
    }
}

fn own_line(line: &str) -> Option<Step> {
    let (word, rest) = line.split_once(' ')?;
    let done = |test: &str, verdict, millis| {
        let named = test.contains("::") && !test.contains(' ');
        named.then(|| Step::Done { test: test.into(), verdict, millis, parts: Vec::new() })
    };
    match word {
        "start" => Some(Step::Start(rest.trim().into())),
        "ok" => {
            let (test, time) = rest.split_once(' ').unwrap_or((rest, ""));
            done(test, Verdict::Pass, time.trim().trim_end_matches("ms").parse().unwrap_or(0))
        }
        "FAIL" | "skip" => {
            let (test, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
            let reason = reason.to_string();
            let verdict =
                if word == "FAIL" { Verdict::Fail(reason) } else { Verdict::Skip(reason) };
            done(test.trim_end_matches(':'), verdict, 0)
        }
        _ => None,
    }
}

/// The parts that a third-party program reports: (what, "ok" | "FAIL" | "skip").
///
/// TAP: `ok 1 - text`, `not ok 2 - text # TODO why`, `ok 3 # SKIP why`. LTP: `name 1 TPASS : text`
/// and `file.c:12: TPASS: text`, with TFAIL and TBROK failures and TCONF a skip.
pub fn parts(output: &str) -> Vec<(String, &'static str)> {
    let mut list = Vec::new();
    for line in output.lines() {
        if let Some(part) = tap(line).or_else(|| ltp(line, list.len() + 1)) {
            list.push(part);
        }
    }
    list
}

fn tap(line: &str) -> Option<(String, &'static str)> {
    let (passed, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    // "ok" must be a word of its own, and a number or text follows.
    let rest = rest.strip_prefix(' ')?;
    let (text, directive) = rest.split_once('#').unwrap_or((rest, ""));
    let directive = directive.trim().to_ascii_lowercase();
    let word = if directive.starts_with("skip") {
        "skip"
    } else if passed || directive.starts_with("todo") {
        "ok"
    } else {
        "FAIL"
    };
    Some((text.trim().to_string(), word))
}

fn ltp(line: &str, number: usize) -> Option<(String, &'static str)> {
    const WORDS: [(&str, &str); 4] =
        [("TPASS", "ok"), ("TFAIL", "FAIL"), ("TBROK", "FAIL"), ("TCONF", "skip")];
    let (word, verdict) = WORDS.into_iter().find(|(word, _)| {
        line.split_whitespace().take(4).any(|own| own.trim_matches(':') == *word)
    })?;
    let (place, text) = line.split_once(word)?;
    // Times and addresses in the text would differ from run to run: the place says which check it was.
    let place = place.trim().trim_end_matches(':').trim();
    let _ = text;
    Some((format!("{number} {place}"), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        assert!(lines.feed(b"ab").is_empty());
        assert_eq!(lines.feed(b"c\r\nd\ne"), ["abc", "d"]);
        assert_eq!(lines.feed(b"\n"), ["e"]);
    }

    #[test]
    fn the_own_protocol_gives_starts_and_verdicts_and_nothing_else() {
        let mut reader = OwnReader::default();
        let steps = reader.feed(
            b"hello\nstart mm::brk\nok mm::brk 12ms\nstart a::b\nFAIL a::b: got 1: not 2\n\
              skip a::c: one node\nok then\n",
        );
        assert_eq!(steps.len(), 5);
        assert_eq!(steps[0], Step::Start("mm::brk".into()));
        assert!(matches!(&steps[1], Step::Done { verdict: Verdict::Pass, millis: 12, .. }));
        assert!(
            matches!(&steps[3], Step::Done { verdict: Verdict::Fail(why), .. } if why == "got 1: not 2")
        );
        assert!(matches!(&steps[4], Step::Done { verdict: Verdict::Skip(_), .. }));
    }

    #[test]
    fn tap_lines_with_their_directives_are_understood() {
        let text =
            "1..4\nok 1 - one\nnot ok 2 - two\nok 3 # SKIP no\nnot ok 4 # TODO later\nokay\n";
        let words: Vec<_> = parts(text).into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, ["ok", "FAIL", "skip", "ok"]);
    }

    #[test]
    fn ltp_lines_of_both_generations_are_understood() {
        let text = "mbind01    1  TPASS  :  it works\nmbind02.c:44: TFAIL: got 3\n\
                    tst.c:1: TCONF: no NUMA\nTINFO: x\n";
        let words: Vec<_> = parts(text).into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, ["ok", "FAIL", "skip"]);
    }
}
