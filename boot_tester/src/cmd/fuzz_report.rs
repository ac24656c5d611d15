//! What is told of a difference: both kernels' lines, the command that repeats it, and a test to be
//! pasted into the suite (user/tests/src/replayed.rs).

use super::fuzz_guest::{Sequence, Trace};
use super::fuzz_masks::{self, Mask};

/// A difference between two traces of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// At this operation.
    At(usize),
    /// One of the kernels ended with it.
    Crash,
}

impl Difference {
    /// The operation's place; a crash is said to be the last one's, for what came after it is lost.
    pub fn place(&self, sequence: &Sequence) -> usize {
        match self {
            Self::At(at) => *at,
            Self::Crash => sequence.ops.len().saturating_sub(1),
        }
    }
}

/// The first difference that no mask covers, and the masks that were needed until there. Traces
/// without lines differ by their digests, and nothing is masked.
pub fn compare(
    sequence: &Sequence,
    linux: &Trace,
    other: &Trace,
) -> (Option<Difference>, Vec<&'static Mask>) {
    let (Trace::Lines { digests: a, lines: first }, Trace::Lines { digests: b, lines: second }) =
        (linux, other)
    else {
        return (Some(Difference::Crash), Vec::new());
    };
    let mut masks = Vec::new();
    for (at, op) in sequence.ops.iter().enumerate() {
        if a.get(at) == b.get(at) {
            continue;
        }
        let mask = match (first.get(at), second.get(at)) {
            (Some(linux), Some(other)) => fuzz_masks::covering(op, linux, other),
            _ => None,
        };
        match mask {
            Some(mask) => masks.push(mask),
            None => return (Some(Difference::At(at)), masks),
        }
    }
    (None, masks)
}

/// Both kernels' words about a sequence.
pub fn both(sequence: &Sequence, linux: &Trace, other: &Trace, name: &str) -> String {
    let mut text = String::new();
    match (linux, other) {
        (Trace::Lines { lines: first, .. }, Trace::Lines { lines: second, .. }) => {
            for (at, op) in sequence.ops.iter().enumerate() {
                let line = |list: &[String]| list.get(at).cloned().unwrap_or("-".into());
                let (a, b) = (line(first), line(second));
                if a == b {
                    text += &format!("    {op}\n        {a}\n");
                } else {
                    text += &format!("  > {op}\n        linux: {a}\n        {name}: {b}\n");
                }
            }
        }
        (linux, other) => {
            sequence.ops.iter().for_each(|op| text += &format!("    {op}\n"));
            for (name, trace) in [("linux", linux), (name, other)] {
                if let Trace::Crashed { why, console } = trace {
                    text += &format!("  > {name}: {why}\n{console}\n");
                }
            }
        }
    }
    text
}

/// A test with Linux's lines as what is expected.
pub fn test(sequence: &Sequence, linux: &Trace, machine: &str) -> String {
    let name = sequence.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut text =
        format!("fn sequence_{name}() {{\n    same_on(\n        {machine:?},\n        &[\n");
    let lines = match linux {
        Trace::Lines { lines, .. } => lines.as_slice(),
        Trace::Crashed { .. } => &[],
    };
    for (at, op) in sequence.ops.iter().enumerate() {
        let line = lines.get(at).map_or("-", String::as_str);
        text += &format!("            ({op:?}, {line:?}),\n");
    }
    text + "        ],\n    );\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(list: &[&str]) -> Trace {
        let lines: Vec<String> = list.iter().map(|line| line.to_string()).collect();
        Trace::Lines { digests: lines.clone(), lines }
    }

    #[test]
    fn the_first_line_that_differs_is_the_difference() {
        let sequence = Sequence { name: "1.2".into(), ops: vec!["0 maps".into(), "0 exit".into()] };
        let compare = |a: &Trace, b: &Trace| super::compare(&sequence, a, b).0;
        assert_eq!(compare(&trace(&["a", "b"]), &trace(&["a", "b"])), None);
        assert_eq!(compare(&trace(&["a", "b"]), &trace(&["a", "c"])), Some(Difference::At(1)));
        let crash = Trace::Crashed { why: "w".into(), console: String::new() };
        assert_eq!(compare(&trace(&["a", "b"]), &crash), Some(Difference::Crash));
        let text = both(&sequence, &trace(&["a", "b"]), &trace(&["a", "c"]), "proxima");
        assert!(text.contains("  > 0 exit\n        linux: b\n        proxima: c\n"), "{text}");
        let text = test(&sequence, &trace(&["a", "b"]), "0/1");
        assert!(text.contains("fn sequence_1_2() {") && text.contains("(\"0 maps\", \"a\")"));
    }
}
