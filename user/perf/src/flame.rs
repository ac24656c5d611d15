//! `perf flame`: stacks folded into lines, and the picture of them.

use crate::profile::Profile;
use std::collections::BTreeMap;

/// The stacks of an event, outermost first, with their weights: `program;main;f 42`. The kernel's
/// functions end in `_[k]`.
pub fn folded(profile: &Profile, event: usize) -> Vec<String> {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for named in profile.of_event(event) {
        let mut line = named.comm.replace([';', ' '], "_");
        for place in named.stack.iter().rev() {
            line.push(';');
            line.push_str(&place.function.replace(';', ":"));
            if place.kernel {
                line.push_str("_[k]");
            }
        }
        *stacks.entry(line).or_default() += named.sample.period;
    }
    stacks.into_iter().map(|(stack, weight)| format!("{stack} {weight}")).collect()
}

/// The picture of folded stacks (SVG).
pub fn picture(lines: &[String], title: &str) -> Result<Vec<u8>, String> {
    let mut options = inferno::flamegraph::Options::default();
    options.title = title.to_string();
    options.count_name = "events".to_string();
    let mut out = Vec::new();
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out)
        .map_err(|e| format!("no picture: {e}"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::example;

    #[test]
    fn stacks_fold_from_the_outside_in() {
        assert_eq!(
            folded(&example(), 0),
            ["parent;hot 4", "parent;main;cold 1", "parent;main;hot 3"]
        );
    }

    #[test]
    fn the_picture_names_the_functions() {
        let svg = picture(&folded(&example(), 0), "test").expect("drawn");
        let text = String::from_utf8(svg).expect("text");
        assert!(
            text.contains("<svg") && text.contains("hot (7 events, 87.50%)")
                || text.contains("hot"),
            "{text}"
        );
        assert!(text.contains("cold"));
    }
}
