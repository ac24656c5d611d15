//! What the tool is busy with, on a terminal; a pipeline or a CI log hears only of what may take
//! minutes.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub struct Progress {
    bar: Option<ProgressBar>,
    verbose: bool,
}

impl Progress {
    pub fn new(verbose: bool) -> Self {
        let bar = (stderr().is_terminal() && !verbose).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, verbose }
    }

    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The next step begins.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_string());
        } else if self.verbose {
            let _ = writeln!(stderr(), "proxima: {what}");
        }
    }

    /// The next step begins, and may take so long that whoever reads a log wants to know.
    pub fn wait_for(&self, what: &str) {
        self.say(what);
        if self.bar.is_none() && !self.verbose {
            let _ = writeln!(stderr(), "proxima: {what}");
        }
    }

    /// Prints something past the line.
    pub fn clear_for(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the line away: from here on the terminal is the program's.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
