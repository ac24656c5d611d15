//! The counts as a table for people, below the program's own words.

use std::fmt::Write;

use traffic::recorder::{Heat, heat};
use traffic::sums::{Sums, Who, all, node};

use super::result::{END_NAMES, Run, Task, accesses, ends, lines as memory_lines};
use super::symbols::KERNEL_NAME;

/// Tasks and mappings shown; the rest is summed up.
const MOST_ROWS: usize = 20;

/// The whole table.
pub fn lines(run: &Run) -> Vec<String> {
    let mut out = Vec::new();
    head(run, &mut out);
    let plain = |sums: &Sums, to| [node::READS, node::WRITES].map(|f| sums.get(Who::User, to, f));
    matrix("its own accesses", run, &plain, &mut out);
    if run.wish.caches.is_some() {
        let plain = |sums: &Sums, to| {
            [node::LINES_READ, node::LINES_WRITE].map(|f| sums.get(Who::User, to, f))
        };
        matrix("lines of 64 bytes from memory", run, &plain, &mut out);
        where_they_end(run, &mut out);
    }
    if run.raw.told {
        kernel(run, &mut out);
        tasks(run, &mut out);
    }
    mappings(run, &mut out);
    functions(run, &mut out);
    source(run, &mut out);
    shared(run, &mut out);
    advice(run, &mut out);
    notes(run, &mut out);
    out
}

fn head(run: &Run, out: &mut Vec<String>) {
    let caches = match &run.wish.caches {
        None => "caches not modelled".into(),
        Some(caches) => {
            let size = |bytes: u64| match bytes {
                0 => "none".into(),
                bytes => crate::size::show(bytes),
            };
            let [l1, l2, l3] = [caches.l1, caches.l2, caches.l3].map(|level| size(level.bytes()));
            format!("caches {}: L1d {l1}, L2 {l2}, L3 {l3} a node", run.wish.caches_name)
        }
    };
    out.push(format!("memory traffic of {} ({caches}):", run.program));
}

/// Reads and writes, `[CPU's node][memory's node]`, with the remote share of each row.
fn matrix(what: &str, run: &Run, of: &dyn Fn(&Sums, usize) -> [u64; 2], out: &mut Vec<String>) {
    let count = run.topology.nodes.len();
    let rows: Vec<Vec<[u64; 2]>> =
        run.nodes.iter().map(|sums| (0..count).map(|to| of(sums, to)).collect()).collect();
    let used: Vec<usize> =
        (0..count).filter(|&to| rows.iter().any(|row| row[to] != [0, 0])).collect();
    let mut line = format!("{what}, reads+writes");
    line = format!("{line:<38}");
    for to in &used {
        let _ = write!(line, " {:>24}", format!("memory {to}"));
    }
    out.push(format!("{line} {:>8}", "remote"));
    let mut total = vec![[0; 2]; count];
    for (from, row) in rows.iter().enumerate().filter(|(_, row)| row.iter().any(|c| *c != [0, 0])) {
        out.push(matrix_row(&format!("  CPUs of node {from}"), row, &used, Some(from)));
        for (sum, cell) in total.iter_mut().zip(row) {
            sum.iter_mut().zip(cell).for_each(|(to, from)| *to += from);
        }
    }
    let local: u64 = rows.iter().enumerate().map(|(from, row)| row[from].iter().sum::<u64>()).sum();
    let all: u64 = total.iter().flatten().sum();
    let mut line = matrix_row("  all", &total, &used, None);
    let _ = write!(line, " {:>8}", share(all - local, all));
    out.push(line);
}

fn matrix_row(name: &str, row: &[[u64; 2]], used: &[usize], own: Option<usize>) -> String {
    let mut line = format!("{name:<38}");
    for &to in used {
        let [reads, writes] = row[to];
        let _ = write!(line, " {:>24}", format!("{}+{}", group(reads), group(writes)));
    }
    if let Some(own) = own {
        let all: u64 = row.iter().flatten().sum();
        let local: u64 = row[own].iter().sum();
        let _ = write!(line, " {:>8}", share(all - local, all));
    }
    line
}

fn where_they_end(run: &Run, out: &mut Vec<String>) {
    let mut sum = [0u64; 9];
    for (from, sums) in run.nodes.iter().enumerate() {
        sum.iter_mut().zip(ends(sums, Who::User, from)).for_each(|(to, from)| *to += from);
    }
    let all: u64 = sum.iter().sum();
    out.push(format!("{:<38} {:>24} {:>8}", "where its lines were found", "lines", "share"));
    for (name, count) in END_NAMES.iter().zip(sum).filter(|(_, count)| *count > 0) {
        out.push(format!("  {name:<36} {:>24} {:>8}", group(count), share(count, all)));
    }
    let taken: u64 = run.nodes.iter().map(|s| s.get_all(Who::User, all::INVALIDATIONS)).sum();
    let nodes = run.topology.nodes.len();
    let backs: u64 = run.raw.write_backs.iter().sum();
    let own: u64 = (0..nodes).filter_map(|n| run.raw.write_backs.get(n * nodes + n)).sum();
    out.push(format!("  {:<36} {:>24}", "taken from others by a write", group(taken)));
    out.push(format!(
        "  {:<36} {:>24} {:>8} remote",
        "written back to memory",
        group(backs),
        share(backs - own, backs)
    ));
    let time = run.time();
    out.push(format!(
        "time for memory, by a model: {}, of which remoteness {} ({}); if all were local {}",
        ms(time.total),
        ms(time.remoteness()),
        percent(time.remoteness(), time.total),
        ms(time.if_local)
    ));
}

fn kernel(run: &Run, out: &mut Vec<String>) {
    if run.wish.how.user_only {
        return;
    }
    let sum = |of: &dyn Fn(&Sums, usize) -> u64| {
        let mut counts = (0, 0);
        for (from, sums) in run.nodes.iter().enumerate() {
            for to in 0..sums.nodes() {
                counts.0 += of(sums, to);
                counts.1 += if to == from { 0 } else { of(sums, to) };
            }
        }
        format!("{} ({} remote)", group(counts.0), share(counts.1, counts.0))
    };
    let mut line = format!(
        "the kernel's work for it: accesses {}",
        sum(&|s, to| accesses(s, Who::Kernel, to))
    );
    if run.wish.caches.is_some() {
        let _ =
            write!(line, ", lines from memory {}", sum(&|s, to| memory_lines(s, Who::Kernel, to)));
    }
    out.push(line);
}

fn tasks(run: &Run, out: &mut Vec<String>) {
    let modelled = run.wish.caches.is_some();
    let mut tasks: Vec<&Task> = run.tasks.iter().collect();
    let weight = |task: &Task| -> u64 { task_counts(task).0 };
    tasks.sort_by_key(|task| std::cmp::Reverse(weight(task)));
    let time =
        if modelled { format!(" {:>11} {:>11}", "time", "remoteness") } else { String::new() };
    out.push(format!(
        "{:<8}{:<8}{:<16} {:<13} {:>15} {:>8} {:>13} {:>8}{time}",
        "TID", "PID", "TASK", "on nodes", "accesses", "remote", "lines", "remote"
    ));
    for task in tasks.iter().take(MOST_ROWS) {
        let (count, remote, lines, remote_lines) = task_counts(task);
        let on: Vec<usize> = (0..task.nodes.len()).filter(|&n| !task.nodes[n].is_empty()).collect();
        let mut line = format!(
            "{:<8}{:<8}{:<16} {:<13} {:>15} {:>8} {:>13} {:>8}",
            task.tid,
            task.pid,
            task.name,
            crate::topology::show::cpu_list(&on),
            group(count),
            share(remote, count),
            group(lines),
            share(remote_lines, lines)
        );
        if modelled {
            let _ = write!(line, " {:>11} {:>11}", ms(task.time.total), ms(task.time.remoteness()));
        }
        out.push(line);
    }
    if tasks.len() > MOST_ROWS {
        out.push(format!("(and {} more tasks)", tasks.len() - MOST_ROWS));
    }
}

/// The program's own accesses and lines, each with how many are remote.
pub fn task_counts(task: &Task) -> (u64, u64, u64, u64) {
    let mut out = (0, 0, 0, 0);
    for (from, sums) in task.nodes.iter().enumerate() {
        for to in 0..sums.nodes() {
            let (count, lines) = (accesses(sums, Who::User, to), memory_lines(sums, Who::User, to));
            out.0 += count;
            out.2 += lines;
            if to != from {
                out.1 += count;
                out.3 += lines;
            }
        }
    }
    out
}

fn mappings(run: &Run, out: &mut Vec<String>) {
    let mut rows: Vec<_> = run.mappings.iter().collect();
    let modelled = run.wish.caches.is_some();
    let key = if modelled { heat::LINES } else { heat::ACCESSES };
    rows.sort_by_key(|row| (std::cmp::Reverse(row.heat[key]), row.start));
    let names = rows.iter().take(MOST_ROWS).map(|row| row.name.chars().count()).max();
    let width = names.unwrap_or(0).clamp(7, 48);
    out.push(format!(
        "{:<14}{:<width$} {:<12} {:>8} {:>15} {:>8} {:>13} {:>8}",
        "ADDRESS", "MAPPING", "POLICY", "pages", "accesses", "remote", "lines", "remote"
    ));
    for row in rows.iter().take(MOST_ROWS) {
        let address = if row.start == 0 { "-".into() } else { format!("{:012x}", row.start) };
        let heat = &row.heat;
        out.push(format!(
            "{address:<14}{:<width$} {:<12} {:>8} {:>15} {:>8} {:>13} {:>8}",
            row.name,
            row.policy,
            group(row.pages),
            group(heat[heat::ACCESSES]),
            share(heat[heat::REMOTE], heat[heat::ACCESSES]),
            group(heat[heat::LINES]),
            share(heat[heat::REMOTE_LINES], heat[heat::LINES])
        ));
    }
    if rows.len() > MOST_ROWS {
        out.push(format!("(and {} more mappings)", rows.len() - MOST_ROWS));
    }
}

/// Functions shown.
const MOST_FUNCTIONS: usize = 10;
/// Shared lines shown.
const MOST_LINES: usize = 8;
/// A line that moves less often is not worth a row.
const LEAST_MOVES: u64 = 20;

fn functions(run: &Run, out: &mut Vec<String>) {
    let own = run.functions.iter().filter(|(function, _)| function.object != KERNEL_NAME);
    out.push(code_row("FUNCTION", ["accesses", "remote", "lines", "remote"].map(String::from)));
    for (function, heat) in own.take(MOST_FUNCTIONS) {
        out.push(code_row(&in_object(&function.name, &function.object), counts(heat)));
    }
}

/// A name with the file that it is in, within a column's width.
fn in_object(name: &str, object: &str) -> String {
    let object = object.rsplit('/').next().unwrap_or_default();
    if object.is_empty() {
        return name.chars().take(CODE_WIDTH).collect();
    }
    let object: String = object.chars().take(CODE_WIDTH / 2).collect();
    let room = CODE_WIDTH.saturating_sub(object.chars().count() + 4);
    format!("{} in {object}", name.chars().take(room).collect::<String>())
}

/// The lines of the program's source that touch memory most.
fn source(run: &Run, out: &mut Vec<String>) {
    let own = run.lines.iter().filter(|(line, _)| line.function.object != KERNEL_NAME);
    for (index, (line, heat)) in own.take(MOST_FUNCTIONS).enumerate() {
        if index == 0 {
            let heads = ["accesses", "remote", "lines", "remote"];
            out.push(code_row("SOURCE LINE", heads.map(String::from)));
        }
        let source = &line.source;
        // A path's end says more than its beginning.
        let path: Vec<&str> = source.file.rsplit('/').take(3).collect();
        let path: Vec<&str> = path.into_iter().rev().collect();
        let name = format!("{}:{} in {}", path.join("/"), source.line, line.function.name);
        out.push(code_row(&name.chars().take(CODE_WIDTH).collect::<String>(), counts(heat)));
    }
}

fn counts(heat: &Heat) -> [String; 4] {
    [
        group(heat[heat::ACCESSES]),
        share(heat[heat::REMOTE], heat[heat::ACCESSES]),
        group(heat[heat::LINES]),
        share(heat[heat::REMOTE_LINES], heat[heat::LINES]),
    ]
}

/// Characters of a function's or a line's name.
const CODE_WIDTH: usize = 61;

fn code_row(name: &str, [accesses, remote, lines, remote_lines]: [String; 4]) -> String {
    format!("{name:<62} {accesses:>15} {remote:>8} {lines:>13} {remote_lines:>8}")
}

fn shared(run: &Run, out: &mut Vec<String>) {
    for line in run.shared.iter().filter(|l| l.moves >= LEAST_MOVES).take(MOST_LINES) {
        let kind = if line.truly { "true" } else { "false" };
        out.push(format!(
            "shared line {:#x} in {}: moved {} times, {kind} sharing",
            line.address,
            line.mapping,
            group(line.moves)
        ));
        for side in &line.sides {
            let functions: Vec<&str> =
                side.functions.iter().map(|(f, _)| f.name.as_str()).collect();
            out.push(format!(
                "  CPU {:<4} {:>12} reads {:>12} writes, bytes {}: {}",
                side.cpu,
                group(side.reads),
                group(side.writes),
                bytes(side.read_bytes | side.written_bytes),
                functions.join(", ")
            ));
        }
    }
}

fn advice(run: &Run, out: &mut Vec<String>) {
    let unit = if run.wish.caches.is_some() { "lines" } else { "accesses" };
    for advice in &run.advice {
        out.push(format!(
            "advice: {}: remote {} of {} {unit} would be {}: {}",
            advice.what,
            share(advice.remote, advice.lines),
            group(advice.lines),
            share(advice.then, advice.lines),
            advice.how
        ));
    }
}

/// The bits of a mask, as ranges.
fn bytes(mask: u64) -> String {
    let list: Vec<usize> = (0..64).filter(|bit| mask >> bit & 1 != 0).collect();
    crate::topology::show::cpu_list(&list)
}

fn notes(run: &Run, out: &mut Vec<String>) {
    if run.raw.sample > 1 {
        out.push(format!(
            "(sampled: one of {} blocks of 65536 accesses was looked at, and counts {} times)",
            run.raw.sample, run.raw.sample
        ));
    }
    if !run.raw.told {
        out.push(
            "(this kernel does not tell which task runs: all user code between the program's \
             beginning and its end is counted, the kernel's accesses are not)"
                .into(),
        );
    }
    let moves = |part: &traffic::raw::Part| part.reads + part.writes;
    let held: u64 = run.raw.lines.values().flat_map(|parts| parts.values()).map(moves).sum();
    if run.raw.lines_lost * 10 > held {
        out.push(format!(
            "({} of {} moves of lines between CPUs are of lines that moved too seldom to be kept)",
            group(run.raw.lines_lost),
            group(run.raw.lines_lost + held)
        ));
    }
}

/// A number with its digits in groups.
pub fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `part` of `all` in percent; `-` of nothing.
pub fn share(part: u64, all: u64) -> String {
    if all == 0 { "-".into() } else { percent(part as f64, all as f64) }
}

fn percent(part: f64, all: f64) -> String {
    if all <= 0.0 { "-".into() } else { format!("{:.1}%", 100.0 * part / all) }
}

/// Nanoseconds as milliseconds.
fn ms(ns: f64) -> String {
    format!("{:.3} ms", ns / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shares_of_nothing_are_none() {
        assert_eq!(group(0), "0");
        assert_eq!(group(999), "999");
        assert_eq!(group(1000), "1,000");
        assert_eq!(group(12_345_678), "12,345,678");
        assert_eq!(share(0, 0), "-");
        assert_eq!(share(1, 8), "12.5%");
        assert_eq!(ms(1_500_000.0), "1.500 ms");
    }
}
