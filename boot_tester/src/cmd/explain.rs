//! `proxima explain`: what an exit code of the tool means, and what to do about it.

use crate::error::{BROKEN, Fail, Result, TIMEOUT, USAGE};
use crate::output::NO_READER;

/// Codes that the tool itself gives, in their order: the code, its name, what it says, and what helps.
const CODES: &[(u8, &str, &str, &str)] = &[
    (0, "done", "The program ended with 0; no test failed; what was asked for is done.", ""),
    (
        1,
        "failed",
        "`proxima test`: a test failed, passed only at times (--repeat), or the kernels disagree. \
         `proxima fuzz`: a difference was found. `proxima bench`: a limit was passed. `proxima replay`: \
         what was replayed is not what was recorded. `proxima run`: the program's own code.",
        "The lines `FAIL` and `differs` say which; below a failure stands the command that repeats it.",
    ),
    (
        USAGE,
        "wrong request",
        "An option, a name or a file that cannot be as it was written. Nothing was started.",
        "One line on stderr says which. `proxima COMMAND --help`; `proxima topo list` for topologies. \
         A program that ends with 2 itself says so without a line of proxima's.",
    ),
    (
        TIMEOUT,
        "out of time",
        "The time of --timeout was over, or the guest did not boot in its time. As timeout(1) has it.",
        "Give it more, or look at where it hangs: `--console FILE`, `proxima run --gdb`. On emulation a \
         program takes 10 to 50 times as long as on the processor: `proxima doctor` says what this is.",
    ),
    (
        BROKEN,
        "broken",
        "The tool, the build, QEMU or the guest's kernel failed, not the program.",
        "The line on stderr says what, with the end of the kernel's console if there was one. `proxima \
         doctor` says what this machine lacks. A kernel's panic is a bug worth a report.",
    ),
    (
        126,
        "not executable",
        "The program is there, and the guest's kernel would not execute it (as a shell says it).",
        "Its permissions, its `#!` line, or a format that is not x86-64's ELF.",
    ),
    (
        127,
        "not found",
        "A shell in the guest found no such program, or a program's loader or library is not in the guest.",
        "Bring it: `--with PROGRAM`, or the directory it is in: `--share /usr`. What was looked for in vain \
         is said at the end of the run.",
    ),
    (
        NO_READER,
        "nobody reads",
        "Whoever read the output went away, such as `head`; the guest was ended as SIGPIPE ends a program.",
        "",
    ),
];

/// Prints what `code` means, or all that there are.
pub fn explain(code: Option<&str>) -> Result<u8> {
    match code {
        Some(text) => print!("{}", one(number(text)?)),
        None => CODES.iter().for_each(|(code, name, ..)| println!("{code:>3}  {name}")),
    }
    if code.is_none() {
        println!("128 + N  the program was killed by signal N\nother    the program's own");
    }
    Ok(0)
}

fn number(text: &str) -> Result<u8> {
    text.parse().map_err(|_| {
        Fail::usage(format!("explain {text}: an exit code is a number from 0 to 255 (`echo $?`)"))
    })
}

fn one(code: u8) -> String {
    if let Some((code, name, what, help)) = CODES.iter().find(|known| known.0 == code) {
        let help = if help.is_empty() { String::new() } else { format!("{}\n", folded(help)) };
        return format!("{code}: {name}\n{}\n{help}", folded(what));
    }
    let signal = match code {
        129..=192 => Some((code - 128, signal_name(code - 128))),
        _ => None,
    };
    match signal {
        Some((number, name)) => {
            let name = name.map_or(String::new(), |name| format!(" ({name})"));
            let text = format!("{code}: the program was killed by signal {number}{name}");
            format!("{}\n", folded(&text))
        }
        None => format!("{code}: the program's own exit code; proxima gives none such\n"),
    }
}

/// Signals that end programs most often, by their numbers on x86-64.
fn signal_name(number: u8) -> Option<&'static str> {
    let name = match number {
        1 => "SIGHUP: the terminal went away",
        2 => "SIGINT: interrupted",
        3 => "SIGQUIT",
        4 => "SIGILL: an instruction that this CPU does not have (see --cpu)",
        5 => "SIGTRAP",
        6 => "SIGABRT: it gave up by itself, as assert and malloc's checks do",
        7 => "SIGBUS: memory without a page behind it, such as an exhausted pool of huge pages",
        8 => "SIGFPE: a division by zero",
        9 => "SIGKILL: also what happens when the allowed nodes are out of memory",
        11 => "SIGSEGV: an address that is not its own",
        14 => "SIGALRM",
        15 => "SIGTERM: asked to end",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    };
    Some(name)
}

/// Folds a paragraph to lines of a terminal.
fn folded(text: &str) -> String {
    const WIDTH: usize = 78;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_answer_of_short_lines() {
        for code in 0..=255 {
            let text = one(code);
            assert!(text.starts_with(&format!("{code}: ")), "{text}");
            assert!(text.ends_with('\n') && text.lines().all(|line| line.len() <= 78), "{text}");
        }
        assert!(one(137).contains("SIGKILL"));
        assert!(one(124).contains("timeout(1)"));
        assert!(one(42).contains("own exit code"));
    }

    #[test]
    fn codes_stand_in_their_order_and_once() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "256", "-1", "E12", "ENOSYS"] {
            assert_eq!(explain(Some(text)).unwrap_err().code, USAGE, "{text}");
        }
    }
}
