//! `fuzz generate --machine M --seed S (--ops N | --sequence I)` prints sequences; `fuzz
//! replay [--full] FILE` carries them out; `fuzz calls ...` is the second mode.
//!
//! `replay` prints `begin NAME` and `seq NAME DIGEST...` for each sequence, a digest of four
//! hexadecimal digits for each operation; with `--full` the line of each operation, too, after `= `.

use std::io::Write;
use std::process::exit;

use fuzz::machine::Machine;
use fuzz::{calls, generate, replay, trace, worker};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["worker", number] => worker::resume(number.parse().unwrap_or(usize::MAX)),
        ["generate", rest @ ..] => make(rest),
        ["replay", "--full", file] => play(file, true),
        ["replay", file] => play(file, false),
        ["calls", rest @ ..] => calls::main(rest),
        _ => Err("what is to be done: generate, replay or calls?".into()),
    };
    if let Err(why) = result {
        eprintln!("fuzz: {why}");
        exit(2);
    }
}

fn make(args: &[&str]) -> Result<(), String> {
    let word = |name: &str| {
        let at = args.iter().position(|arg| *arg == name)?;
        args.get(at + 1).copied()
    };
    let number = |name: &str, default: u64| match word(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} {text}: no number")),
        None => Ok(default),
    };
    let machine = word("--machine").and_then(Machine::parse).ok_or("--machine is missing")?;
    let (seed, ops) = (number("--seed", 1)?, number("--ops", 1000)?);
    let only = word("--sequence").map(str::parse::<u64>).transpose();
    let sequences = match only.map_err(|_| "--sequence: no number")? {
        Some(index) => vec![(format!("{seed}.{index}"), generate::sequence(&machine, seed, index))],
        None => generate::sequences(&machine, seed, ops),
    };
    let mut text = String::new();
    for (name, list) in sequences {
        text += &format!("seq {name}\n");
        list.iter().for_each(|op| text += &format!("{op}\n"));
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| e.to_string())
}

fn play(file: &str, full: bool) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let sequences = replay::parse(&text)?;
    replay::prepare()?;
    let mut out = std::io::stdout().lock();
    for (name, ops) in sequences {
        let mut digests = String::new();
        let mut lines = String::new();
        let begin = format!("begin {name}\n");
        out.write_all(begin.as_bytes()).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        replay::run(&ops, &mut |_, line| {
            digests += &format!(" {:04x}", trace::digest(0, line.as_bytes()) >> 48);
            if full {
                lines += &format!("= {line}\n");
            }
        });
        let text = format!("{lines}seq {name}{digests}\n");
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    }
    Ok(())
}
