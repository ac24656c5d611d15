//! The counts as JSON: docs/traffic.schema.json says what is in it.

use serde_json::{Map, Value, json};
use traffic::recorder::Heat;
use traffic::sums::{Sums, Who, all, node};

use super::result::{Run, ends};
use super::table::task_counts;

/// The form's version: raised when a word changes its meaning or goes.
pub const VERSION: u32 = 2;
/// Names of [`ends`], as keys.
pub const END_KEYS: [&str; 9] = [
    "l1",
    "l2",
    "l3",
    "near_cache_clean",
    "near_cache_modified",
    "far_cache_clean",
    "far_cache_modified",
    "own_memory",
    "other_memory",
];
const HEAT_KEYS: [&str; 5] = ["accesses", "writes", "remote", "lines", "remote_lines"];

/// The whole run.
pub fn value(run: &Run) -> Value {
    let per_who = |of: &dyn Fn(Who) -> Value| -> Value {
        let pairs = Who::ALL.map(|who| (who.name().to_string(), of(who)));
        Value::Object(pairs.into_iter().collect())
    };
    let time = run.time();
    json!({
        "format": "proxima-traffic",
        "version": VERSION,
        "program": run.program,
        "topology": topology(run),
        "caches": caches(run),
        "latency_ns": latency(run),
        "sampled": run.raw.sample,
        "tasks_told": run.raw.told,
        "kernel_counted": run.raw.told && !run.wish.how.user_only,
        "matrix": per_who(&|who| run.nodes.iter().map(|sums| cells(sums, who)).collect()),
        "ends": per_who(&|who| {
            let mut total = [0; 9];
            for (from, sums) in run.nodes.iter().enumerate() {
                total.iter_mut().zip(ends(sums, who, from)).for_each(|(to, from)| *to += from);
            }
            object(&END_KEYS, &total)
        }),
        "invalidations": per_who(&|who| sum(run, who, all::INVALIDATIONS)),
        "elsewhere": per_who(&|who| sum(run, who, all::ELSEWHERE)),
        "written_back": run.raw.write_backs.chunks(run.topology.nodes.len()).collect::<Vec<_>>(),
        "time_ns": {
            "total": time.total.round(),
            "remoteness": time.remoteness().round(),
            "if_local": time.if_local.round(),
        },
        "tasks": run.tasks.iter().map(task).collect::<Vec<_>>(),
        "mappings": mappings(run),
        "functions": functions(run),
        "source_lines": source_lines(run),
        "shared_lines": shared(run),
        "pages": pages(run),
        "spans": spans(run),
        "advice": run.advice.iter().map(advice).collect::<Vec<_>>(),
    })
}

fn sum(run: &Run, who: Who, field: usize) -> Value {
    run.nodes.iter().map(|sums| sums.get_all(who, field)).sum::<u64>().into()
}

fn object(keys: &[&str], counts: &[u64]) -> Value {
    let pairs = keys.iter().zip(counts).map(|(key, &count)| (key.to_string(), count.into()));
    Value::Object(pairs.collect())
}

fn heat(heat: &Heat) -> Map<String, Value> {
    HEAT_KEYS.iter().zip(heat).map(|(key, &count)| (key.to_string(), count.into())).collect()
}

fn cells(sums: &Sums, who: Who) -> Value {
    (0..sums.nodes())
        .map(|to| {
            let counts: Vec<u64> = (0..node::FIELDS).map(|f| sums.get(who, to, f)).collect();
            object(&node::NAMES, &counts)
        })
        .collect()
}

fn topology(run: &Run) -> Value {
    let nodes = run.topology.nodes.iter();
    let nodes: Vec<Value> =
        nodes.map(|node| json!({ "cpus": node.cpus, "memory": node.memory })).collect();
    json!({ "name": run.topology.name, "nodes": nodes, "distances": run.topology.distances })
}

fn caches(run: &Run) -> Value {
    let Some(caches) = run.wish.caches else { return Value::Null };
    let levels = [("l1", caches.l1), ("l2", caches.l2), ("l3", caches.l3)];
    let mut out = Map::new();
    out.insert("name".into(), run.wish.caches_name.clone().into());
    for (name, level) in levels.iter().filter(|(_, level)| level.ways > 0) {
        out.insert(name.to_string(), json!({ "bytes": level.bytes(), "ways": level.ways }));
    }
    Value::Object(out)
}

fn latency(run: &Run) -> Value {
    let l = &run.wish.latencies;
    json!({ "l1": l.l1, "l2": l.l2, "l3": l.l3, "cache": l.cache, "memory": l.memory })
}

fn task(task: &super::result::Task) -> Value {
    let (accesses, remote, lines, remote_lines) = task_counts(task);
    json!({
        "tid": task.tid,
        "pid": task.pid,
        "name": task.name,
        "accesses": accesses,
        "remote": remote,
        "lines": lines,
        "remote_lines": remote_lines,
        "time_ns": task.time.total.round(),
        "remoteness_ns": task.time.remoteness().round(),
        "matrix": task.nodes.iter().map(|sums| cells(sums, Who::User)).collect::<Vec<_>>(),
    })
}

fn mappings(run: &Run) -> Value {
    let one = |mapping: &super::result::MappingHeat| {
        let mut out = heat(&mapping.heat);
        out.insert("start".into(), mapping.start.into());
        out.insert("name".into(), mapping.name.clone().into());
        out.insert("policy".into(), mapping.policy.clone().into());
        out.insert("pages".into(), mapping.pages.into());
        Value::Object(out)
    };
    run.mappings.iter().map(one).collect()
}

fn functions(run: &Run) -> Value {
    let one = |(function, counts): &(super::symbols::Function, Heat)| {
        let mut out = heat(counts);
        out.insert("name".into(), function.name.clone().into());
        out.insert("object".into(), function.object.clone().into());
        Value::Object(out)
    };
    run.functions.iter().map(one).collect()
}

fn source_lines(run: &Run) -> Value {
    let one = |(line, counts): &(super::symbols::Line, Heat)| {
        let mut out = heat(counts);
        out.insert("function".into(), line.function.name.clone().into());
        out.insert("object".into(), line.function.object.clone().into());
        out.insert("file".into(), line.source.file.clone().into());
        out.insert("line".into(), line.source.line.into());
        Value::Object(out)
    };
    run.lines.iter().map(one).collect()
}

fn shared(run: &Run) -> Value {
    let side = |side: &super::shared::Side| {
        let functions = side.functions.iter();
        let functions: Vec<Value> =
            functions.map(|(f, count)| json!({ "name": f.name, "count": count })).collect();
        json!({
            "cpu": side.cpu,
            "reads": side.reads,
            "writes": side.writes,
            "read_bytes": format!("{:016x}", side.read_bytes),
            "written_bytes": format!("{:016x}", side.written_bytes),
            "functions": functions,
        })
    };
    let one = |line: &super::shared::SharedLine| {
        json!({
            "address": line.address,
            "mapping": line.mapping,
            "sharing": if line.truly { "true" } else { "false" },
            "moves": line.moves,
            "sides": line.sides.iter().map(side).collect::<Vec<_>>(),
        })
    };
    run.shared.iter().map(one).collect()
}

/// The pages of the program's own space, a row each; texts stand once, and rows have their numbers.
fn pages(run: &Run) -> Value {
    let nodes = run.topology.nodes.len();
    let mut words: Vec<String> = Vec::new();
    let mut number = |text: &str| {
        words.iter().position(|word| word == text).unwrap_or_else(|| {
            words.push(text.into());
            words.len() - 1
        })
    };
    let root = run.raw.root_space.unwrap_or(0);
    let mut rows = Vec::new();
    for ((_, page), heats) in run.raw.pages.iter().filter(|((space, _), _)| *space == root) {
        let lies = run.space.pages.get(page);
        let mut row: Vec<i64> = vec![
            *page as i64,
            lies.map_or(-1, |lies| lies.node as i64),
            lies.map_or(-1, |lies| number(&lies.policy) as i64),
            lies.map_or(-1, |lies| number(&lies.reason) as i64),
        ];
        for field in [traffic::recorder::heat::ACCESSES, traffic::recorder::heat::LINES] {
            row.extend((0..nodes).map(|n| heats.get(&n).map_or(0, |heat| heat[field] as i64)));
        }
        rows.push(row);
    }
    json!({ "words": words, "rows": rows })
}

fn advice(advice: &super::advice::Advice) -> Value {
    json!({
        "what": advice.what,
        "how": advice.how,
        "command": advice.command.as_ref().map(|words| words.join(" ")),
        "lines": advice.lines,
        "remote_lines": advice.remote,
        "then_remote_lines": advice.then,
    })
}

fn spans(run: &Run) -> Value {
    let mut rows = Vec::new();
    for (&cpu, spans) in &run.raw.spans {
        for span in spans {
            let tid = run.raw.tasks.get(span.task).map_or(0, |task| task.tid);
            rows.push([
                cpu as u64,
                u64::from(tid),
                span.begin,
                span.end,
                span.accesses,
                span.remote,
            ]);
        }
    }
    json!(rows)
}
