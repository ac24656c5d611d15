//! `proxima completions` and `proxima man`: what a shell and man(1) are to know of the command line,
//! made from its one description.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::{Context, Fail, Result};

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "proxima", &mut script);
    let script = String::from_utf8(script).map_err(|_| Fail::broken("completions are no text"))?;
    print!("{script}");
    Ok(0)
}

/// Writes a page for the program and one for each of its commands to `dir`, which is made.
pub fn man(dir: &Path) -> Result<u8> {
    fs::create_dir_all(dir).context(dir.display())?;
    clap_mangen::generate_to(Cli::command(), dir).context(dir.display())?;
    println!("manual pages are in {0}: man -l {0}/proxima.1", dir.display());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_that_names_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man1");
        man(&pages).unwrap();
        for command in Cli::command().get_subcommands().filter(|c| c.get_name() != "help") {
            let name = format!("proxima-{}.1", command.get_name());
            let page = fs::read_to_string(pages.join(&name)).expect(&name);
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
            let longs = command.get_arguments().filter_map(clap::Arg::get_long);
            for long in longs {
                // As roff writes a hyphen.
                let option = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&option), "{name}: {option}");
            }
        }
        assert!(pages.join("proxima.1").exists());
        assert!(man(&pages.join("proxima.1")).is_err());
    }

    #[test]
    fn completions_know_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "proxima", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["run", "placement", "topology"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
