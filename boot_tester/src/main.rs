//! `proxima`: the host's side. Builds images, starts QEMU on a topology, runs programs and suites,
//! judges them, and compares with Linux.

#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod apt;
mod build;
mod cleanup;
mod cli;
mod cmd;
mod error;
mod guest;
mod image;
mod parts;
mod paths;
mod progress;
mod size;
mod suite;
mod topology;
mod traffic;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command, TopoCommand};
use error::{Fail, Result, USAGE};

fn main() -> ExitCode {
    cleanup::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match dispatch(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(fail) => {
            cleanup::restore_terminal();
            eprintln!("proxima: {fail}");
            ExitCode::from(fail.code)
        }
    }
}

fn dispatch(command: Command) -> Result<u8> {
    match command {
        Command::Run(options) => cmd::run::run(&options),
        Command::Shell(options) => cmd::run::shell(&options),
        Command::Record(options) => cmd::record::record(&options),
        Command::Replay(options) => cmd::record::replay(&options),
        Command::Test(options) => cmd::test::test(&options),
        Command::Bench(options) => cmd::bench::bench(&options),
        Command::Fuzz(options) => cmd::fuzz::fuzz(&options),
        Command::Build(options) => cmd::build(&options),
        Command::Cpus(options) => cmd::cpus::cpus(&options),
        Command::Doctor => cmd::doctor::doctor(),
        Command::Check => cmd::check::check(),
        Command::Topo(TopoCommand::List) => {
            print!("{}", topology::show::list());
            Ok(0)
        }
        Command::Explain { code } => cmd::explain::explain(code.as_deref()),
        Command::Completions { shell } => cmd::manual::completions(shell),
        Command::Man { dir } => cmd::manual::man(&dir),
        Command::Report(options) => cmd::report::report(&options),
        Command::Topo(TopoCommand::Show { topology, svg }) => {
            let topology = topology::file::find(&topology)?;
            if svg {
                // By itself it stands on paper.
                println!("{}", topology::svg::draw(&topology).replace("Canvas", "white"));
            } else {
                print!("{}", topology::show::table(&topology));
            }
            Ok(0)
        }
    }
}

/// Help and version are answers; everything else is one line and the code for a wrong request.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{error}");
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{error}");
            ExitCode::from(USAGE)
        }
        _ => {
            eprintln!("proxima: {}", Fail::usage(cli::one_line(error)));
            ExitCode::from(USAGE)
        }
    }
}
