//! What is long in a page's data, made short: pages by column, stretches of time that nobody could
//! tell apart, the ends of long tables.

use serde_json::{Value, json};

use crate::traffic::symbols::KERNEL_NAME;

/// Rows of a table of code that the page has: the rest is in the JSON.
const MOST_ROWS: usize = 1500;
/// Stretches of time in the width of the picture.
const STRETCHES: u64 = 2000;
/// 6 bits a character: 5 of a number, low ones first, and whether more follow.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Shortens everything of a run; the kernel's source lines are not for here.
pub fn run(run: &mut Value) {
    let node_of = nodes_of_cpus(&run["topology"]);
    pages(&mut run["pages"]);
    thin(&mut run["spans"], &node_of);
    if let Some(lines) = run["source_lines"].as_array_mut() {
        lines.retain(|line| line["object"] != KERNEL_NAME);
    }
    let mut left_out = json!({});
    for name in ["functions", "source_lines"] {
        if let Some(rows) = run[name].as_array_mut() {
            left_out[name] = rows.len().saturating_sub(MOST_ROWS).into();
            rows.truncate(MOST_ROWS);
        }
    }
    run["left_out"] = left_out;
}

/// Columns of numbers as a text: the page as the difference to the one before less 1, what may be -1
/// one higher. A number stands twice over, and one more when it repeats: then how often, less 2.
fn pages(pages: &mut Value) {
    let rows = pages["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let columns = rows.first().and_then(Value::as_array).map_or(0, Vec::len);
    let mut text = String::new();
    for column in 0..columns {
        let number = |row: &Value| row[column].as_i64().unwrap_or(0);
        let mut last = 0;
        let numbers = rows.iter().map(|row| match column {
            0 => std::mem::replace(&mut last, number(row)).abs_diff(number(row)) as i64 - 1,
            1..=3 => number(row) + 1,
            _ => number(row),
        });
        let numbers: Vec<u64> = numbers.map(|number| number.max(0) as u64).collect();
        for run in numbers.chunk_by(|a, b| a == b) {
            let repeats = u64::from(run.len() > 1);
            digits(&mut text, run[0] << 1 | repeats);
            if repeats != 0 {
                digits(&mut text, run.len() as u64 - 2);
            }
        }
    }
    *pages = json!({ "words": pages["words"], "count": rows.len(), "packed": text });
}

fn digits(text: &mut String, mut number: u64) {
    loop {
        let more = u64::from(number >= 32);
        text.push(char::from(DIGITS[(number & 31 | more << 5) as usize]));
        number >>= 5;
        if more == 0 {
            return;
        }
    }
}

/// The node of each CPU.
fn nodes_of_cpus(topology: &Value) -> Vec<usize> {
    let mut nodes = Vec::new();
    for (index, node) in topology["nodes"].as_array().into_iter().flatten().enumerate() {
        for cpu in node["cpus"].as_array().into_iter().flatten().filter_map(Value::as_u64) {
            // Numbers that no machine has are no reason to allocate.
            let cpu = (cpu as usize).min(4095);
            nodes.resize(nodes.len().max(cpu + 1), 0);
            nodes[cpu] = index;
        }
    }
    nodes
}

/// Joins a task's stretches on CPUs of one node that are too narrow to be seen apart.
fn thin(spans: &mut Value, node_of: &[usize]) {
    let mut rows: Vec<[u64; 6]> = spans
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| std::array::from_fn(|column| row[column].as_u64().unwrap_or(0)))
        .collect();
    // CPU, task, begin, end, accesses, remote ones.
    rows.sort_by_key(|row| (row[1], row[2]));
    let begin = rows.iter().map(|row| row[2]).min().unwrap_or(0);
    let end = rows.iter().map(|row| row[3]).max().unwrap_or(0);
    let narrow = end.saturating_sub(begin) / STRETCHES;
    let node = |cpu: u64| node_of.get(cpu as usize);
    let mut out: Vec<[u64; 6]> = Vec::new();
    for row in rows {
        match out.last_mut() {
            Some(last)
                if last[1] == row[1]
                    && node(last[0]) == node(row[0])
                    && row[2].saturating_sub(last[3]) <= narrow
                    && last[3] - last[2].min(last[3]) <= narrow =>
            {
                last[3] = last[3].max(row[3]);
                last[4] += row[4];
                last[5] += row[5];
            }
            _ => out.push(row),
        }
    }
    *spans = json!(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_packed_into_few_characters() {
        let mut rows = json!({ "words": ["default"], "rows": [[100, 1, 0, -1, 36, 0], [101, -1, -1, -1, 36, 1]] });
        pages(&mut rows);
        // 99, 0; 2, 0; 1, 0; 0 twice; 36 twice; 0, 1.
        assert_eq!(rows["packed"], "mGAEACABApCAAC");
        assert_eq!(rows["count"], 2);
    }

    #[test]
    fn stretches_that_nobody_could_tell_apart_are_one() {
        let mut spans = json!([
            [0, 7, 0, 1, 5, 1],
            [1, 7, 2, 3, 5, 0],
            [2, 7, 4, 5, 5, 0],
            [0, 8, 1, 2, 1, 1],
            [0, 7, 900_000, 1_000_000, 9, 0]
        ]);
        thin(&mut spans, &[0, 0, 1]);
        assert_eq!(spans[0], json!([0, 7, 0, 3, 10, 1]));
        assert_eq!(spans.as_array().unwrap().len(), 4);
    }
}
