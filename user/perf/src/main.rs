//! perf: counts and samples of performance events, as a person can read them.
//!
//! Works on Proxima and on Linux; recordings are perf.data files that Linux's own perf reads.

mod bytes;
mod data;
mod events;
mod flame;
mod numa;
mod profile;
mod record;
mod records;
mod report;
mod script;
mod stat;
mod symbols;
mod sys;
mod target;
#[cfg(test)]
mod testing;

use clap::{Args, Parser, Subcommand};
use profile::Profile;
use report::Format;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use target::Target;

#[derive(Parser)]
#[command(name = "perf", version, about = "Count and sample performance events")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Count events while a program runs
    Stat(StatArgs),
    /// Sample a program, or everything, into a file
    Record(RecordArgs),
    /// Show which functions a recording's samples were in
    Report(ReportArgs),
    /// Show every sample of a recording
    Script {
        #[command(flatten)]
        input: Input,
        /// With the source lines of functions
        #[arg(long)]
        lines: bool,
    },
    /// Show the busiest functions of the whole machine, again and again
    Top(TopArgs),
    /// Fold a recording's stacks, or draw them
    Flame {
        #[command(flatten)]
        input: Input,
        /// Write folded stacks to standard output instead of the picture
        #[arg(long)]
        folded: bool,
        /// The picture's file
        #[arg(short, long, default_value = "flame.svg")]
        output: PathBuf,
    },
    /// Show which functions get or touch pages of other nodes
    Numa(NumaArgs),
    /// Name the events that there are
    List,
}

#[derive(Args)]
struct Input {
    /// The recording
    #[arg(short, long, default_value = "perf.data")]
    input: PathBuf,
}

#[derive(Args)]
struct Who {
    /// Processes that run already
    #[arg(short, long, value_delimiter = ',', value_name = "PID")]
    pid: Vec<i32>,
    /// Every process on every CPU; with a program, until it ends
    #[arg(short, long)]
    all_cpus: bool,
    /// Seconds to measure what does not end by itself
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true)]
    program: Vec<String>,
}

#[derive(Args)]
struct StatArgs {
    /// Events, with commas between them (see `perf list`)
    #[arg(
        short,
        long,
        default_value = "task-clock,context-switches,cpu-migrations,page-faults,cycles,instructions,branches,branch-misses"
    )]
    event: String,
    /// Run the program so often; show means and how far they spread
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// With -a: each CPU by itself
    #[arg(short = 'A', long)]
    no_aggr: bool,
    /// With -a: each node by itself
    #[arg(long, conflicts_with = "no_aggr")]
    per_node: bool,
    /// Fields with this between them instead of a table
    #[arg(short = 'x', long, value_name = "SEPARATOR")]
    field_separator: Option<String>,
    /// JSON instead of a table
    #[arg(short, long, conflicts_with = "field_separator")]
    json: bool,
    /// Write to this file instead of standard error
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    who: Who,
}

#[derive(Args)]
struct RecordArgs {
    /// Events, with commas between them (see `perf list`)
    #[arg(short, long, default_value = "cpu-clock")]
    event: String,
    /// Samples a second
    #[arg(short = 'F', long, default_value_t = 1000, conflicts_with = "count", value_parser = at_least_one())]
    freq: u64,
    /// Events between two samples
    #[arg(short, long, value_parser = at_least_one())]
    count: Option<u64>,
    /// With callchains (programs need frame pointers)
    #[arg(short = 'g', long)]
    call_graph: bool,
    /// With data addresses
    #[arg(short, long)]
    data: bool,
    /// Pages of each CPU's buffer
    #[arg(short, long, default_value_t = 128, value_parser = power_of_two)]
    mmap_pages: usize,
    /// Stop recording after so many samples (0: never)
    #[arg(long, default_value_t = 0)]
    max_samples: u64,
    /// The file
    #[arg(short, long, default_value = "perf.data")]
    output: PathBuf,
    /// Write the kernel functions that were hit into this file, in the form of /proc/kallsyms:
    /// with it Linux's perf names them on another machine
    #[arg(long, value_name = "FILE")]
    kallsyms: Option<PathBuf>,
    /// Print the report when the program has ended
    #[arg(long)]
    report: bool,
    /// Draw a flame graph into this file
    #[arg(long, value_name = "SVG")]
    flame: Option<PathBuf>,
    #[command(flatten)]
    who: Who,
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    show: Show,
}

#[derive(Args)]
struct Show {
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Leave out functions below this percentage
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    min: f64,
    /// Functions at most (0: all)
    #[arg(short = 'n', long, default_value_t = 0)]
    limit: usize,
    /// Show the callers of each function
    #[arg(short = 'g', long)]
    call_graph: bool,
}

#[derive(Args)]
struct TopArgs {
    /// The event
    #[arg(short, long, default_value = "cpu-clock")]
    event: String,
    /// Samples a second
    #[arg(short = 'F', long, default_value_t = 1000, value_parser = at_least_one())]
    freq: u64,
    /// Seconds between two tables
    #[arg(short, long, default_value_t = 2.0)]
    delay: f64,
    /// Tables to show (0: until interrupted)
    #[arg(long, default_value_t = 0)]
    iterations: u32,
    /// Functions in a table
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

#[derive(Args)]
struct NumaArgs {
    /// A recording of the numa events instead of a program
    #[arg(short, long, conflicts_with = "program")]
    input: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Functions at most (0: all)
    #[arg(short = 'n', long, default_value_t = 0)]
    limit: usize,
    /// Pages between two samples
    #[arg(short, long, default_value_t = 1, value_parser = at_least_one())]
    count: u64,
    /// Keep the recording in this file
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true)]
    program: Vec<String>,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..)
}

fn power_of_two(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n.is_power_of_two() => Ok(n),
        _ => Err("not a power of two".into()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Stat(args) => stat(&args),
        Command::Record(args) => record(&args),
        Command::Report(args) => load(&args.input.input).map(|profile| {
            say(&report::render(&profile, &args.show.options()));
            0
        }),
        Command::Script { input, lines } => load(&input.input).map(|profile| {
            say(&script::render(&profile, lines));
            0
        }),
        Command::Top(args) => top(&args),
        Command::Flame { input, folded, output } => {
            load(&input.input).and_then(|profile| draw(&profile, folded.then_some(()), &output))
        }
        Command::Numa(args) => numa(&args),
        Command::List => {
            say(&(events::list().join("\n") + "\n"));
            Ok(0)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::from(1)
        }
    }
}

/// Prints; a reader that went away is no error.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn load(path: &Path) -> Result<Profile, String> {
    Profile::load(path)
}

impl Show {
    fn options(&self) -> report::Options {
        report::Options {
            format: self.format,
            min: self.min,
            limit: self.limit,
            callers: self.call_graph,
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

fn stat(args: &StatArgs) -> Result<i32, String> {
    let events = events::parse_list(&args.event, events::sources())?;
    let by = match (args.no_aggr, args.per_node) {
        (true, _) => stat::By::Cpu,
        (_, true) => stat::By::Node,
        _ => stat::By::Nothing,
    };
    if by != stat::By::Nothing && !args.who.all_cpus {
        return Err("-A and --per-node need -a: a program alone is not counted by CPU".into());
    }
    let make = || Target::new(&args.who.program, &args.who.pid, args.who.all_cpus);
    let stats = stat::measure(&events, args.repeat, by, args.who.duration, make)?;
    let text = match (&args.field_separator, args.json) {
        (Some(separator), _) => stats.fields(separator),
        (None, true) => stats.json(),
        (None, false) => stats.table(&what(&args.who)),
    };
    match &args.output {
        Some(path) => write(path, text.as_bytes())?,
        None => eprint!("{text}"),
    }
    Ok(stats.status)
}

fn what(who: &Who) -> String {
    if who.all_cpus && !who.program.is_empty() {
        return format!("the whole machine while '{}' runs", who.program.join(" "));
    }
    match (who.program.is_empty(), who.pid.is_empty()) {
        (false, _) => format!("'{}'", who.program.join(" ")),
        (_, false) => {
            let pids: Vec<String> = who.pid.iter().map(i32::to_string).collect();
            format!("process {}", pids.join(", "))
        }
        _ => "the whole machine".into(),
    }
}

fn record(args: &RecordArgs) -> Result<i32, String> {
    let options = record::Options {
        events: events::parse_list(&args.event, events::sources())?,
        frequency: args.freq,
        period: args.count,
        callchains: args.call_graph || args.flame.is_some(),
        data: args.data,
        pages: args.mmap_pages,
        max_samples: args.max_samples,
        seconds: args.who.duration,
    };
    // A file that cannot be is told before the program runs, not after.
    write(&args.output, &[])?;
    let target = Target::new(&args.who.program, &args.who.pid, args.who.all_cpus)?;
    let recording = record::record(&options, target)?;
    let command: Vec<String> = std::env::args().collect();
    let (file, profile, kallsyms) = recording.file(&command);
    write(&args.output, &file)?;
    if let Some(path) = &args.kallsyms {
        write(path, kallsyms.as_bytes())?;
    }
    eprintln!(
        "perf: {} samples, {} lost, in {} ({} KiB)",
        profile.samples.len(),
        profile.lost,
        args.output.display(),
        file.len() / 1024
    );
    if let Some(path) = &args.flame {
        draw(&profile, None, path)?;
    }
    if args.report {
        let options = report::Options { format: Format::Text, min: 0.5, limit: 20, callers: false };
        eprint!("{}", report::render(&profile, &options));
    }
    Ok(recording.end.map_or(0, |end| sys::exit_code(end.status)))
}

fn draw(profile: &Profile, folded: Option<()>, output: &Path) -> Result<i32, String> {
    let lines = flame::folded(profile, 0);
    if lines.is_empty() {
        return Err("the recording has no samples".into());
    }
    if folded.is_some() {
        say(&(lines.join("\n") + "\n"));
        return Ok(0);
    }
    let title = profile.events.first().map_or("", String::as_str);
    write(output, &flame::picture(&lines, title)?)?;
    Ok(0)
}

fn top(args: &TopArgs) -> Result<i32, String> {
    let mut events = events::parse_list(&args.event, events::sources())?;
    // What CPUs do that have nothing to do is not what one looks for.
    events.iter_mut().for_each(|event| event.exclude |= events::flag::EXCLUDE_IDLE);
    let options = record::Options {
        events,
        frequency: args.freq,
        period: None,
        callchains: false,
        data: false,
        pages: 128,
        max_samples: 0,
        seconds: Some(args.delay),
    };
    let mut shown = 0;
    while !sys::interrupted() && (args.iterations == 0 || shown < args.iterations) {
        let recording = record::record(&options, Target::Everything(None))?;
        let profile = recording.profile(&mut symbols::Symbols::default());
        let show =
            report::Options { format: Format::Text, min: 0.0, limit: args.limit, callers: false };
        // Home and clear, then the table.
        say(&format!("\x1b[H\x1b[2J{}", report::render(&profile, &show)));
        shown += 1;
    }
    Ok(0)
}

fn numa(args: &NumaArgs) -> Result<i32, String> {
    if let Some(path) = &args.input {
        say(&numa::render(&load(path)?, args.format, args.limit));
        return Ok(0);
    }
    let options = record::Options {
        events: events::parse_list(&numa::EVENTS.join(","), events::sources())?,
        frequency: 0,
        period: Some(args.count.max(1)),
        callchains: true,
        data: true,
        pages: 512,
        max_samples: 0,
        seconds: None,
    };
    let _rate = numa::Unthrottled::new();
    let recording = record::record(&options, Target::new(&args.program, &[], false)?)?;
    let command: Vec<String> = std::env::args().collect();
    let (file, profile, _) = recording.file(&command);
    if let Some(path) = &args.output {
        write(path, &file)?;
    }
    say(&numa::render(&profile, args.format, args.limit));
    Ok(recording.end.map_or(0, |end| sys::exit_code(end.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_program_are_its_own() {
        let cli = Cli::try_parse_from(["perf", "record", "-g", "-F", "99", "prog", "-F", "x"]);
        let Ok(Cli { command: Command::Record(args) }) = cli else { panic!("a recording") };
        assert!(Cli::try_parse_from(["perf", "record", "-F", "0", "prog"]).is_err());
        assert!(Cli::try_parse_from(["perf", "record", "-c", "0", "prog"]).is_err());
        assert_eq!(
            (args.freq, args.who.program.as_slice()),
            (99, &["prog".to_string(), "-F".into(), "x".into()][..])
        );
    }
}
