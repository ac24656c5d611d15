//! `perf stat`: counts of a program's run, of several runs, or of the whole machine.

use crate::events::{Event, flag};
use crate::records::format;
use crate::report::{csv_text, json_text};
use crate::sys;
use crate::target::{self, Target};
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Over what counts of whole CPUs are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Nothing,
    Cpu,
    Node,
}

/// One count of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    pub value: f64,
    pub enabled: u64,
    pub running: u64,
}

impl Count {
    /// From what read(2) gave: scaled to the time that the event was enabled.
    pub fn scaled(value: u64, enabled: u64, running: u64) -> Self {
        let factor = if running == 0 { 0.0 } else { enabled as f64 / running as f64 };
        Self { value: value as f64 * factor, enabled, running }
    }

    fn add(&mut self, other: Self) {
        self.value += other.value;
        self.enabled += other.enabled;
        self.running += other.running;
    }
}

/// A line: an event, on a part of the machine; None when it is not counted here.
pub struct Line {
    pub place: String,
    pub event: String,
    pub clock: bool,
    pub runs: Option<Vec<Count>>,
}

/// What was measured.
pub struct Stats {
    pub lines: Vec<Line>,
    /// Seconds of each run: elapsed, user, system.
    pub times: Vec<[f64; 3]>,
    pub status: i32,
}

/// Mean, and the standard deviation of the mean in percent of it.
pub fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let mean = values.clone().sum::<f64>() / n;
    if n < 2.0 || mean == 0.0 {
        return (mean, 0.0);
    }
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt() * 100.0 / mean)
}

fn read(fd: &OwnedFd) -> std::io::Result<Count> {
    use std::io::Read;
    let mut words = [0u8; 24];
    let mut file = std::fs::File::from(fd.try_clone()?);
    file.read_exact(&mut words)?;
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| words[i * 8 + b]));
    Ok(Count::scaled(word(0), word(1), word(2)))
}

struct Open {
    event: usize,
    place: String,
    fd: OwnedFd,
}

fn open(events: &[Event], target: &Target, by: By) -> Result<(Vec<Open>, Vec<bool>), String> {
    let mut open = Vec::new();
    let mut supported = vec![true; events.len()];
    let nodes = target::nodes();
    let whole = matches!(target, Target::Everything(_));
    let cpus: Vec<i32> =
        if whole { target::cpus().iter().map(|&c| c as i32).collect() } else { vec![-1] };
    for (at, event) in events.iter().enumerate() {
        for cpu in &cpus {
            for pid in target.pids() {
                let mut attr = event.attr();
                attr.read_format = format::ENABLED | format::RUNNING;
                attr.flags |= flag::DISABLED | flag::INHERIT | flag::EXCLUDE_GUEST;
                if target.begins_with_exec() {
                    attr.flags |= flag::ENABLE_ON_EXEC;
                }
                let place = match by {
                    By::Nothing => String::new(),
                    By::Cpu => format!("CPU{cpu}"),
                    By::Node => {
                        let node = nodes.iter().find(|(_, list)| list.contains(&(*cpu as u32)));
                        format!("N{}", node.map_or(0, |(n, _)| *n))
                    }
                };
                match sys::open(&attr, pid, *cpu, -1) {
                    Ok(fd) => open.push(Open { event: at, place, fd }),
                    Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                        supported[at] = false;
                    }
                    Err(e) => return Err(crate::record::explain(&event.name, &e)),
                }
            }
        }
    }
    Ok((open, supported))
}

/// Measures `make()` `runs` times.
pub fn measure(
    events: &[Event],
    runs: u32,
    by: By,
    seconds: Option<f64>,
    make: impl Fn() -> Result<Target, String>,
) -> Result<Stats, String> {
    let mut stats = Stats { lines: Vec::new(), times: Vec::new(), status: 0 };
    sys::catch_interrupt();
    for _ in 0..runs.max(1) {
        let mut target = make()?;
        let (open, supported) = open(events, &target, by)?;
        let begins_with_exec = target.begins_with_exec();
        let begin = Instant::now();
        let mut used = [0.0; 2];
        let switch = |request| {
            let all = open.iter().filter(|_| !begins_with_exec);
            all.map(|o| &o.fd).try_for_each(|fd| sys::request(fd, request, 0))
        };
        switch(sys::ENABLE).map_err(|e| e.to_string())?;
        if let Some(child) = target.child() {
            child.start()?;
            if let Some(end) = child.wait(true).map_err(|e| e.to_string())? {
                used = [end.user, end.system];
                stats.status = sys::exit_code(end.status);
            }
        } else {
            let over = || seconds.is_some_and(|s| begin.elapsed() >= Duration::from_secs_f64(s));
            while !over() && !sys::interrupted() && !target.is_gone() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        switch(sys::DISABLE).map_err(|e| e.to_string())?;
        stats.times.push([begin.elapsed().as_secs_f64(), used[0], used[1]]);
        collect(&mut stats, events, &open, &supported)?;
        if sys::interrupted() {
            break;
        }
    }
    Ok(stats)
}

fn collect(
    stats: &mut Stats,
    events: &[Event],
    open: &[Open],
    supported: &[bool],
) -> Result<(), String> {
    let mut sums: Vec<(usize, String, Count)> = Vec::new();
    for o in open {
        let count = read(&o.fd).map_err(|e| format!("event '{}': {e}", events[o.event].name))?;
        match sums.iter_mut().find(|(event, place, _)| *event == o.event && *place == o.place) {
            Some((_, _, sum)) => sum.add(count),
            None => sums.push((o.event, o.place.clone(), count)),
        }
    }
    sums.sort_by_key(|(event, _, _)| *event);
    for (at, event) in events.iter().enumerate().filter(|(at, _)| !supported[*at]) {
        let known = stats.lines.iter().any(|l| l.event == event.name);
        if !known {
            let line = Line {
                place: String::new(),
                event: events[at].name.clone(),
                clock: false,
                runs: None,
            };
            stats.lines.push(line);
        }
    }
    for (event, place, count) in sums {
        let event = &events[event];
        let known = stats.lines.iter_mut().find(|l| l.event == event.name && l.place == place);
        match known {
            Some(line) => line.runs.get_or_insert_default().push(count),
            None => stats.lines.push(Line {
                place,
                event: event.name.clone(),
                clock: event.is_clock(),
                runs: Some(vec![count]),
            }),
        }
    }
    // As they were asked for.
    stats.lines.sort_by_key(|line| events.iter().position(|event| event.name == line.event));
    Ok(())
}

/// A number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

impl Line {
    fn mean(&self) -> Option<(f64, f64)> {
        self.runs.as_ref().map(|runs| mean(runs.iter().map(|c| c.value)))
    }

    /// Why there is no number.
    fn absent(&self) -> Option<&'static str> {
        match &self.runs {
            None => Some("<not supported>"),
            Some(runs) if runs.iter().all(|c| c.running == 0) => Some("<not counted>"),
            Some(_) => None,
        }
    }

    /// The part of the time that the event was counting, in percent.
    fn counted(&self) -> f64 {
        let (running, enabled) =
            self.runs.iter().flatten().fold((0, 0), |(r, e), c| (r + c.running, e + c.enabled));
        crate::report::percent(running, enabled)
    }
}

impl Stats {
    /// For a count of instructions the cycles of the same place and modes.
    fn cycles_beside(&self, line: &Line) -> Option<f64> {
        let modes = line.event.strip_prefix("instructions")?;
        let same = |other: &&Line| {
            other.place == line.place && other.event.strip_prefix("cycles") == Some(modes)
        };
        let cycles = self.lines.iter().find(same)?;
        cycles.mean().map(|(value, _)| value).filter(|value| *value > 0.0)
    }

    /// The table.
    pub fn table(&self, title: &str) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, here and below.
        let runs = self.times.len();
        let plural = if runs > 1 { format!(" ({runs} runs)") } else { String::new() };
        let _ = writeln!(out, "\n Counts of {title}{plural}:\n");
        let places = self.lines.iter().any(|l| !l.place.is_empty());
        let clock = self.lines.iter().find(|l| l.clock).and_then(Line::mean);
        let elapsed = mean(self.times.iter().map(|t| t[0]));
        for line in &self.lines {
            let place = if places { format!("{:<7}", line.place) } else { String::new() };
            if let Some(why) = line.absent() {
                let _ = writeln!(out, "{place}{why:>18}      {}", line.event);
                continue;
            }
            let (value, spread) = line.mean().unwrap_or_default();
            let number =
                if line.clock { format!("{:.2} msec", value / 1e6) } else { grouped(value) };
            let note = if line.clock {
                format!("{:.3} CPUs used", value / 1e9 / elapsed.0.max(1e-9))
            } else if let Some(cycles) = self.cycles_beside(line) {
                format!("{:.2} per cycle", value / cycles)
            } else {
                clock.map_or(String::new(), |(ns, _)| {
                    format!("{:.1} /sec", value * 1e9 / ns.max(1.0))
                })
            };
            if note.is_empty() {
                let _ = write!(out, "{place}{number:>18}      {}", line.event);
            } else {
                let _ = write!(out, "{place}{number:>18}      {:<26} # {note}", line.event);
            }
            if runs > 1 {
                let _ = write!(out, "  ( +- {spread:.2}% )");
            }
            if line.counted() < 99.9 && line.runs.is_some() {
                let _ = write!(out, "  ({:.1}% of the time)", line.counted());
            }
            out.push('\n');
        }
        let spread = if runs > 1 { format!("  ( +- {:.2}% )", elapsed.1) } else { String::new() };
        let _ = writeln!(out, "\n{:>18.9} seconds elapsed{spread}", elapsed.0);
        for (name, at) in [("user", 1), ("sys", 2)] {
            let (seconds, _) = mean(self.times.iter().map(|t| t[at]));
            if seconds > 0.0 {
                let _ = writeln!(out, "{seconds:>18.9} seconds {name}");
            }
        }
        out
    }

    /// Lines of fields: place, value, unit, event, spread, percent of the time counted.
    pub fn fields(&self, separator: &str) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let (value, spread) = line.mean().unwrap_or_default();
            let text = match line.absent() {
                Some(why) => [why.into(), String::new(), String::new()],
                None => [
                    format!("{value:.0}"),
                    format!("{spread:.2}%"),
                    format!("{:.2}", line.counted()),
                ],
            };
            let unit = if line.clock { "ns" } else { "" };
            let event = if separator == "," { csv_text(&line.event) } else { line.event.clone() };
            let fields = [line.place.as_str(), &text[0], unit, &event, &text[1], &text[2]];
            let _ = writeln!(out, "{}", fields.join(separator));
        }
        out
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let lines: Vec<String> = self
            .lines
            .iter()
            .map(|line| {
                let (value, spread) = line.mean().unwrap_or_default();
                let value = line.absent().map_or(format!("{value:.0}"), |_| "null".into());
                format!(
                    "{{\"place\":{},\"event\":{},\"value\":{value},\"spread_percent\":{spread:.3},\"counted_percent\":{:.3}}}",
                    json_text(&line.place),
                    json_text(&line.event),
                    line.counted()
                )
            })
            .collect();
        let elapsed = mean(self.times.iter().map(|t| t[0])).0;
        format!(
            "{{\"runs\":{},\"elapsed\":{elapsed:.9},\"counts\":[{}]}}\n",
            self.times.len(),
            lines.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let line = |event: &str, clock, values: &[f64]| Line {
            place: String::new(),
            event: event.into(),
            clock,
            runs: Some(
                values.iter().map(|&v| Count { value: v, enabled: 10, running: 5 }).collect(),
            ),
        };
        let never = Line {
            place: String::new(),
            event: "r1c2".into(),
            clock: false,
            runs: Some(vec![Count { value: 0.0, enabled: 10, running: 0 }]),
        };
        let none = Line { place: String::new(), event: "cycles".into(), clock: false, runs: None };
        Stats {
            lines: vec![
                line("task-clock", true, &[2e6, 2e6]),
                line("page-faults", false, &[1000.0, 3000.0]),
                none,
                never,
            ],
            times: vec![[0.004, 0.001, 0.0], [0.004, 0.001, 0.0]],
            status: 0,
        }
    }

    #[test]
    fn counts_are_scaled_by_the_time_they_counted() {
        assert_eq!(Count::scaled(100, 40, 10).value, 400.0);
        assert_eq!(Count::scaled(0, 40, 0).value, 0.0);
    }

    #[test]
    fn means_have_their_spread() {
        let (mean, spread) = mean([90.0, 110.0].into_iter());
        assert_eq!(mean, 100.0);
        assert!((spread - 10.0).abs() < 1e-9, "{spread}");
        assert_eq!(super::mean([5.0].into_iter()), (5.0, 0.0));
    }

    #[test]
    fn the_table_says_what_there_is() {
        let table = stats().table("x");
        assert!(
            table.contains("2.00 msec      task-clock                 # 0.500 CPUs used"),
            "{table}"
        );
        assert!(table.contains("2,000      page-faults"), "{table}");
        let count = |event: &str, value| Line {
            place: String::new(),
            event: event.into(),
            clock: false,
            runs: Some(vec![Count { value, enabled: 1, running: 1 }]),
        };
        let lines =
            vec![count("cycles:u", 200.0), count("instructions:u", 300.0), count("cs", 1.0)];
        let table = Stats { lines, times: vec![[1.0; 3]], status: 0 }.table("x");
        assert!(table.contains("300      instructions:u             # 1.50 per cycle"), "{table}");
        assert!(table.contains("1      cs\n"), "nothing to say of it: {table}");
        let table = stats().table("x");
        assert!(table.contains("<not supported>      cycles"), "{table}");
        assert!(table.contains("<not counted>      r1c2"), "{table}");
        assert!(table.contains("+- 50.00%") && table.contains("(50.0% of the time)"), "{table}");
    }

    #[test]
    fn fields_are_one_line_each() {
        assert_eq!(stats().fields(",").lines().nth(1), Some(",2000,,page-faults,50.00%,50.00"));
        assert!(stats().json().contains("\"event\":\"r1c2\",\"value\":null"));
        assert!(stats().json().contains("\"event\":\"page-faults\",\"value\":2000"));
    }
}
