//! The counts as one HTML file that loads nothing: data, style and script stand in it.

use serde_json::{Value, json};

use crate::topology::svg;
use crate::topology::{CpuShape, Node, Topology};
use crate::traffic::CacheFile;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of one run, or of two side by side: as [`crate::traffic::json`] has them.
pub fn html(mut runs: Vec<Value>) -> String {
    let picture = runs.first().and_then(topology).map_or(String::new(), |t| svg::draw(&t));
    let title = runs.iter().map(|run| run["program"].as_str().unwrap_or("")).collect::<Vec<_>>();
    let title = format!("Memory traffic of {}", title.join(" and "));
    for run in &mut runs {
        pack(&mut run["pages"]);
    }
    // In a script element nothing but its end is special.
    let data = Value::Array(runs).to_string().replace("</", "<\\/").replace("<!--", "<\\u0021--");
    // One pass, so that nothing in a value is taken for a place.
    let values = [
        ("{{title}}", escape(&title)),
        ("{{style}}", STYLE.into()),
        ("{{topology}}", picture),
        ("{{data}}", data),
        ("{{script}}", SCRIPT.into()),
    ];
    let mut out = String::new();
    let mut rest = PAGE;
    for (place, value) in values {
        let (before, after) = rest.split_once(place).unwrap_or((rest, ""));
        out += before;
        out += &value;
        rest = after;
    }
    out + rest
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Rows of numbers as a text: base 36, nothing for zero, the page as the difference to the one
/// before, and what may be -1 one higher.
fn pack(pages: &mut Value) {
    let rows = pages["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    let mut last = 0;
    for row in rows {
        let number = |index: usize| row[index].as_i64().unwrap_or(0);
        let count = row.as_array().map_or(0, Vec::len);
        let page = number(0);
        let mut words = vec![base36(page - last - 1)];
        last = page;
        words.extend((1..count).map(|index| base36(number(index) + i64::from(index < 4))));
        text += words.join(",").trim_end_matches(',');
        text.push(';');
    }
    *pages = json!({ "words": pages["words"], "packed": text });
}

fn base36(number: i64) -> String {
    let mut digits = Vec::new();
    let mut rest = number.max(0) as u64;
    while rest > 0 {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// The machine that a run was on.
fn topology(run: &Value) -> Option<Topology> {
    let known = &run["topology"];
    let node = |node: &Value| {
        let cpus = node["cpus"].as_array()?.iter().filter_map(Value::as_u64);
        Some(Node {
            cpus: cpus.map(|cpu| cpu as usize).collect(),
            memory: node["memory"].as_u64()?,
        })
    };
    let nodes: Vec<Node> = known["nodes"].as_array()?.iter().map(node).collect::<Option<_>>()?;
    let row = |row: &Value| -> Option<Vec<u32>> {
        row.as_array()?.iter().map(|d| d.as_u64().and_then(|d| u32::try_from(d).ok())).collect()
    };
    let distances: Vec<Vec<u32>> =
        known["distances"].as_array()?.iter().map(row).collect::<Option<_>>()?;
    let square = distances.len() == nodes.len() && distances.iter().all(|r| r.len() == nodes.len());
    square.then(|| Topology {
        name: known["name"].as_str().unwrap_or("").into(),
        description: String::new(),
        shape: CpuShape::guess(&nodes),
        nodes,
        distances,
        model: CacheFile::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_packed_into_few_bytes() {
        let mut pages = json!({ "words": ["default"], "rows": [[100, 1, 0, -1, 36, 0], [101, -1, -1, -1, 0, 1]] });
        pack(&mut pages);
        assert_eq!(pages["packed"], "2r,2,1,,10;,,,,,1;");
    }

    #[test]
    fn nothing_in_the_data_ends_the_script_or_is_taken_for_a_place() {
        let run = json!({ "program": "</script><!-- {{script}} &", "pages": { "words": [], "rows": [] } });
        let page = html(vec![run]);
        assert_eq!(page.matches("</script>").count(), 2);
        assert_eq!(page.matches("\"use strict\"").count(), 1);
        assert!(page.contains("<title>Memory traffic of &lt;/script&gt;"));
    }
}
