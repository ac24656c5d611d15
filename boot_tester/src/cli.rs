//! The command line. Every option is said once here; commands share [`MachineOptions`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

use crate::guest::linux::SERIES;
use crate::{parts, paths};

/// Runs unmodified Linux programs on any NUMA machine you can describe.
#[derive(Parser)]
#[command(name = "proxima", version, long_version = VERSION.as_str(), disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Boot a kernel and run a program of this machine on it
    Run(RunOptions),
    /// Open a shell in the guest
    Shell(ShellOptions),
    /// Run a program, instruction by counted instruction, and keep the run in a file
    Record(Box<crate::cmd::record::RecordOptions>),
    /// Run what was recorded again, to the same instruction
    Replay(crate::cmd::record::ReplayOptions),
    /// Run test suites and judge them
    Test(Box<crate::cmd::test::TestOptions>),
    /// Count what operations cost, on both kernels
    Bench(crate::cmd::bench::BenchOptions),
    /// Compare with Linux on random sequences of operations, or call anything with anything
    Fuzz(Box<crate::cmd::fuzz::FuzzOptions>),
    /// Build the kernel and the guest's programs
    Build(BuildOptions),
    /// Boot on every CPU model that this QEMU has
    Cpus(crate::cmd::cpus::CpusOptions),
    /// Say what this host will use (KVM or emulation, Linux to compare with), and what it lacks
    Doctor,
    /// Lint the kernel and the guest's programs
    Check,
    /// Make a page of counted traffic (run --traffic --json), or of two runs side by side
    Report(crate::cmd::report::ReportOptions),
    /// Look at topologies
    #[command(subcommand)]
    Topo(TopoCommand),
    /// Say what an exit code means, and what to do about it
    Explain {
        /// From 0 to 255; without one, all that there are
        #[arg(value_name = "CODE", allow_hyphen_values = true)]
        code: Option<String>,
    },
    /// Print completions for a shell: proxima completions bash
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command, to a directory
    Man {
        /// Made if it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
pub enum TopoCommand {
    /// Names of the topologies that are shipped
    List,
    /// A topology as a table: a shipped one's name or a TOML file
    Show {
        #[arg(value_name = "NAME|FILE.toml")]
        topology: String,
        /// As a picture instead
        #[arg(long)]
        svg: bool,
    },
}

#[derive(Args)]
pub struct BuildOptions {
    /// Build the guest's programs only, and print the directory they are in
    #[arg(long)]
    pub programs: bool,
    /// Build the kernel that checks itself (assertions, overflows, the order of locks) as well
    #[arg(long)]
    pub checked: bool,
    /// Also write everything compressed to a directory: what a release build of this tool carries
    #[arg(long, value_name = "DIR", conflicts_with_all = ["programs", "checked"])]
    pub pack: Option<PathBuf>,
    /// Show cargo's own words
    #[arg(long, short)]
    pub verbose: bool,
}

/// Which machine, which kernel, and for how long.
#[derive(Args, Clone)]
pub struct MachineOptions {
    /// A shipped topology (see `topo list`) or a TOML file [default: ring-4]
    #[arg(long, value_name = "NAME|FILE.toml", conflicts_with = "nodes")]
    pub topology: Option<String>,
    /// Number of nodes, with CPUs and memory shared evenly
    #[arg(long, value_name = "N")]
    pub nodes: Option<usize>,
    /// Number of CPUs over all nodes
    #[arg(long, value_name = "N")]
    pub cpus: Option<usize>,
    /// Memory over all nodes, such as 2G
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub memory: Option<u64>,
    /// Distance between nodes A and B (repeat; both ways unless B,A is given too)
    #[arg(long, value_name = "A,B=D", value_parser = parse_distance)]
    pub distance: Vec<(usize, usize, u32)>,
    /// proxima, checked (with its own checks), linux or linux:VERSION (fetched once), or a kernel file
    #[arg(long, value_name = "KERNEL", default_value = "proxima")]
    pub kernel: String,
    /// The CPU in QEMU's words, such as Nehalem or max,-smap [default: max]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// End the guest after this many seconds (exit code 124)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub timeout: Option<f64>,
    /// Write the kernel's console to a file
    #[arg(long, value_name = "FILE", value_parser = paths::output())]
    pub console: Option<PathBuf>,
    /// Show what is done and how long it takes
    #[arg(long, short)]
    pub verbose: bool,
}

/// What goes into the guest beside the program.
#[derive(Args, Clone, Default)]
pub struct GuestOptions {
    /// Add a file, a program with its libraries, or a directory (at its own path, unless GUEST is given)
    #[arg(long, value_name = "HOST[:GUEST]")]
    pub with: Vec<OsString>,
    /// Let the guest see a directory of this machine, read only, at its own path: files come as they are
    /// opened
    #[arg(long, value_name = "DIR")]
    pub share: Vec<PathBuf>,
    /// Bring only the program itself, not the programs and files that its arguments name
    #[arg(long)]
    pub no_gather: bool,
    /// At the end, do not say what the program looked for in vain
    #[arg(long, short)]
    pub quiet: bool,
    /// Set a variable for the program, or pass it on by its name alone
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Let the program run on these CPUs only: in a control group that has them (0-3,8)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Let the program use memory of these nodes only: in a control group that has them
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Deterministic time: one instruction is one nanosecond, and the same run counts the same
    #[arg(long)]
    pub icount: bool,
    /// Stop before the first instruction and wait for gdb
    #[arg(long)]
    pub gdb: bool,
    /// Print the QEMU command and keep the image, but start nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("sampling").args(["perf", "flame"]).multiple(true))]
pub struct RunOptions {
    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub guest: GuestOptions,
    /// At the program's end, show where its pages lie: policy, pages per node, what is misplaced and why
    #[arg(long, conflicts_with = "interactive")]
    pub placement: bool,
    /// Sample the program, print where its time went, and keep the recording (perf.data)
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "perf.data",
        value_parser = paths::output(),
        conflicts_with_all = ["interactive", "placement"]
    )]
    pub perf: Option<PathBuf>,
    /// With --perf or --flame: samples a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        requires = "sampling"
    )]
    pub perf_frequency: u32,
    /// Draw the program's samples as a flame graph
    #[arg(
        long,
        value_name = "SVG",
        value_parser = paths::output(),
        conflicts_with_all = ["interactive", "placement"]
    )]
    pub flame: Option<PathBuf>,
    #[command(flatten)]
    pub traffic: crate::traffic::Options,
    /// Connect the terminal: line editing, job control, window size (leave with Ctrl-A x)
    #[arg(long, short)]
    pub interactive: bool,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

#[derive(Args)]
pub struct ShellOptions {
    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub guest: GuestOptions,
}

/// What `--version` says: the tool's version, the kernel inside, and the Linux that it follows.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let inside = match parts::digest() {
        Some(digest) => format!("inside this file (build {digest})"),
        None => "built in the source tree when it is needed".into(),
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}\nkernel: Proxima {version}, {inside}\nfollows: Linux {SERIES}")
});

fn parse_distance(text: &str) -> Result<(usize, usize, u32), String> {
    let wrong = || format!("{text:?} is no distance: write 0,1=20");
    let (pair, distance) = text.split_once('=').ok_or_else(wrong)?;
    let (from, to) = pair.split_once(',').ok_or_else(wrong)?;
    let number = |word: &str| word.trim().parse::<usize>().map_err(|_| wrong());
    let distance = distance.trim().parse().map_err(|_| wrong())?;
    Ok((number(from)?, number(to)?, distance))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no time: write seconds, such as 10 or 0.5");
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|_| wrong())?;
    // A year is long enough, and Duration takes it.
    if seconds > 0.0 && seconds < 31_536_000.0 { Ok(seconds) } else { Err(wrong()) }
}

/// Clap's error in one line.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph: Vec<&str> =
        text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    paragraph.join(" ").trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn distances_are_pairs_of_nodes_with_a_number() {
        assert_eq!(parse_distance("0,1=20"), Ok((0, 1, 20)));
        for wrong in ["0,1", "0=20", "a,b=c", "0,1=-3", ""] {
            assert!(parse_distance(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let cli = Cli::try_parse_from(["proxima", "run", "--nodes", "4", "numactl", "--hardware"]);
        let Ok(Cli { command: Command::Run(run) }) = cli else { panic!("does not parse") };
        assert_eq!(run.command, ["numactl", "--hardware"]);
    }

    #[test]
    fn errors_are_one_line() {
        for args in [&["proxima", "run"][..], &["proxima", "test", "--frob"]] {
            let error = Cli::try_parse_from(args).err().unwrap();
            assert_eq!(one_line(&error).lines().count(), 1);
        }
    }
}
