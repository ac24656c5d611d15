//! The counts as one HTML file that loads nothing: data, style and script stand in it.

use serde_json::Value;

mod pack;

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
    runs.iter_mut().for_each(pack::run);
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
    use serde_json::json;

    #[test]
    fn a_hundred_thousand_pages_that_four_nodes_use_are_less_than_three_megabytes() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        let mut row = |page: u64| {
            let mut row = vec![page, below(4), below(2), below(2)];
            row.extend((0..8).map(|_| below(4096)));
            row
        };
        let rows: Vec<Vec<u64>> = (0..100_000).map(|page| row((page << 1) + 7)).collect();
        let spans: Vec<_> =
            (0..100_000).map(|n| [n % 3, n % 3, n * 500, n * 500 + 400, n, n]).collect();
        let node = json!({ "cpus": [0, 1], "memory": 1 << 30 });
        let functions = vec![json!({ "name": "f".repeat(60), "accesses": 1 }); 20_000];
        let run = json!({
            "program": "p",
            "topology": { "name": "t", "nodes": vec![node; 4], "distances": vec![vec![10; 4]; 4] },
            "pages": { "words": ["default", "first touch"], "rows": rows },
            "spans": spans,
            "functions": functions,
        });
        let page = html(vec![run]);
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
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
