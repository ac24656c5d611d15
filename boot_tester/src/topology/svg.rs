//! A topology as a picture: nodes on a circle with their CPUs and memory, and the distances between
//! them; of many nodes, the distances as a grid of shades.

use std::f64::consts::TAU;
use std::fmt::Write;

use super::Topology;
use super::show::cpu_list;
use crate::size;

/// With more nodes the lines would cross too often.
const MOST_ON_CIRCLE: usize = 8;
/// Of a node's box.
const WIDTH: f64 = 130.0;
const HEIGHT: f64 = 58.0;

/// The picture, complete in itself; colours follow the text's where it is embedded.
pub fn draw(topology: &Topology) -> String {
    let body =
        if topology.nodes.len() <= MOST_ON_CIRCLE { circle(topology) } else { grid(topology) };
    let (width, height, marks) = body;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"{} nodes, {} CPUs, {} of memory\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\" fill=\"currentColor\">\n{marks}</svg>",
        topology.nodes.len(),
        topology.cpus(),
        size::show(topology.memory())
    )
}

fn circle(topology: &Topology) -> (f64, f64, String) {
    let count = topology.nodes.len();
    let (rx, ry) = match count {
        1 => (0.0, 0.0),
        2 => (150.0, 0.0),
        _ => (200.0 + 12.0 * count as f64, 90.0 + 16.0 * count as f64),
    };
    let (width, height) = (2.0 * rx + WIDTH + 20.0, 2.0 * ry + HEIGHT + 20.0);
    let center = |index: usize| {
        // Two nodes stand side by side; more begin at the top.
        let turn = if count == 2 { 0.5 } else { -0.25 };
        let angle = TAU * (index as f64 / count as f64 + turn);
        (width / 2.0 + rx * angle.cos(), height / 2.0 + ry * angle.sin())
    };
    let mut out = String::new();
    for from in 0..count {
        for to in from + 1..count {
            link(topology, from, to, center(from), center(to), &mut out);
        }
    }
    for index in 0..count {
        node(topology, index, center(index), &mut out);
    }
    (width, height, out)
}

/// A line with the distance on it, both ways where they differ; nearer nodes have thicker lines.
fn link(t: &Topology, from: usize, to: usize, a: (f64, f64), b: (f64, f64), out: &mut String) {
    let (there, back) = (t.distances[from][to], t.distances[to][from]);
    let text = if there == back { there.to_string() } else { format!("{there}/{back}") };
    let thick = (60.0 / f64::from(there.max(1))).clamp(0.5, 5.0);
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"currentColor\" \
         stroke-opacity=\"0.45\" stroke-width=\"{thick:.1}\"/>",
        a.0, a.1, b.0, b.1
    );
    // Off the middle, where all the lines of a circle cross.
    let at = |part: f64| (a.0 + (b.0 - a.0) * part, a.1 + (b.1 - a.1) * part);
    let (x, y) = at(if t.nodes.len() == 2 { 0.5 } else { 0.38 });
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" stroke=\"Canvas\" stroke-width=\"4\" \
         paint-order=\"stroke\">{text}</text>",
        y - 3.0
    );
}

fn node(topology: &Topology, index: usize, (x, y): (f64, f64), out: &mut String) {
    let node = &topology.nodes[index];
    let cpus = if node.cpus.is_empty() {
        "no CPU".into()
    } else {
        format!("CPU {}", cpu_list(&node.cpus))
    };
    let memory = if node.memory == 0 { "no memory".into() } else { size::show(node.memory) };
    let (left, top) = (x - WIDTH / 2.0, y - HEIGHT / 2.0);
    let _ = writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" \
         fill=\"Canvas\" stroke=\"currentColor\" stroke-width=\"1.5\"{}/>",
        // What has no CPUs or no memory is only half a node.
        if node.cpus.is_empty() || node.memory == 0 { " stroke-dasharray=\"5 3\"" } else { "" }
    );
    for (line, text, weight) in
        [(0, format!("node {index}"), "bold"), (1, cpus, "normal"), (2, memory, "normal")]
    {
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-weight=\"{weight}\">{text}</text>",
            top + 18.0 + 16.0 * f64::from(line)
        );
    }
}

fn grid(topology: &Topology) -> (f64, f64, String) {
    let count = topology.nodes.len();
    let cell = if count > 32 { 16.0 } else { 24.0 };
    let left = 170.0;
    let far = topology.distances.iter().flatten().copied().max().unwrap_or(10);
    let mut out = String::new();
    for (index, node) in topology.nodes.iter().enumerate() {
        let y = 20.0 + cell * (index as f64 + 0.7);
        let cpus = if node.cpus.is_empty() { "-".into() } else { cpu_list(&node.cpus) };
        let memory = if node.memory == 0 { "-".into() } else { size::show(node.memory) };
        let _ =
            writeln!(out, "<text x=\"0\" y=\"{y:.1}\">node {index}: CPU {cpus}, {memory}</text>");
        for (to, &distance) in topology.distances[index].iter().enumerate() {
            let x = left + cell * to as f64;
            let shade =
                f64::from(distance.saturating_sub(10)) / f64::from(far.saturating_sub(10).max(1));
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{cell}\" height=\"{cell}\" \
                 fill-opacity=\"{:.2}\" stroke=\"Canvas\"><title>{index} to {to}: {distance}</title></rect>",
                20.0 + cell * index as f64,
                0.06 + 0.5 * shade
            );
            if cell > 20.0 {
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-size=\"10\">{distance}</text>",
                    x + cell / 2.0
                );
            }
        }
    }
    (left + cell * count as f64 + 2.0, 24.0 + cell * count as f64, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::file::{SHIPPED, builtin};

    #[test]
    fn every_shipped_topology_has_a_picture_with_all_its_nodes() {
        for (name, _) in SHIPPED {
            let topology = builtin(name).unwrap().unwrap();
            let picture = draw(&topology);
            for index in 0..topology.nodes.len() {
                assert!(picture.contains(&format!("node {index}")), "{name} {index}");
            }
            assert!(picture.ends_with("</svg>") && !picture.contains("NaN"), "{name}");
        }
    }

    #[test]
    fn distances_that_differ_by_direction_are_both_written() {
        let topology = Topology::even(2, 2, 1 << 30).unwrap();
        let topology = topology.with_distances(&[(0, 1, 12), (1, 0, 34)]).unwrap();
        assert!(draw(&topology).contains(">12/34<"));
    }
}
