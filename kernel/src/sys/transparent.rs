//! /sys/kernel/mm/transparent_hugepage, and `transparent_hugepage=` on the command line.

use super::fixed;
use crate::proc::put;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use fs::pseudo::{Dir, Text};
use vm::transparent::{self, Defrag, Enabled, USE_ZERO_PAGE};

const ENABLED: [(&str, Enabled); 3] =
    [("always", Enabled::Always), ("madvise", Enabled::Madvise), ("never", Enabled::Never)];

const OF_SIZE: [(&str, Enabled); 4] = [
    ("always", Enabled::Always),
    ("inherit", Enabled::Inherit),
    ("madvise", Enabled::Madvise),
    ("never", Enabled::Never),
];

const DEFRAG: [(&str, Defrag); 5] = [
    ("always", Defrag::Always),
    ("defer", Defrag::Defer),
    ("defer+madvise", Defrag::DeferMadvise),
    ("madvise", Defrag::Madvise),
    ("never", Defrag::Never),
];

/// The directory.
pub fn fill(dir: &Dir) {
    choice(dir, "enabled", &ENABLED, transparent::enabled, transparent::set_enabled);
    choice(dir, "defrag", &DEFRAG, transparent::defrag, transparent::set_defrag);
    let size = dir.dir("hugepages-2048kB");
    choice(&size, "enabled", &OF_SIZE, transparent::size_enabled, transparent::set_size_enabled);
    // Shared memory has no huge pages but those of the pool.
    fixed(dir, "shmem_enabled", "always within_size advise [never] deny force");
    fixed(dir, "hpage_pmd_size", "2097152");
    let show = |out: &mut Text| {
        put!(out, "{}\n", u8::from(USE_ZERO_PAGE.load(Ordering::Relaxed)));
        Ok(())
    };
    dir.attribute("use_zero_page", 0o644, show, |data| {
        let on = match word(data)? {
            "0" => false,
            "1" => true,
            _ => return Err(Errno::EINVAL),
        };
        USE_ZERO_PAGE.store(on, Ordering::Relaxed);
        Ok(())
    });
}

/// Takes the command line's word for `enabled`.
pub fn init() {
    for value in crate::boot::cmdline::text().split_ascii_whitespace() {
        let Some(value) = value.strip_prefix("transparent_hugepage=") else { continue };
        match ENABLED.iter().find(|(name, _)| *name == value) {
            Some((_, enabled)) => transparent::set_enabled(*enabled),
            None => log::warn!("transparent_hugepage= cannot parse, ignored"),
        }
    }
}

/// What was written, without the end of its line.
fn word(data: &[u8]) -> Result<&str> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// A file that shows all choices, the present one in brackets, and takes the word of one.
fn choice<T: Copy + PartialEq + Send + Sync + 'static>(
    dir: &Dir,
    name: &str,
    choices: &'static [(&'static str, T)],
    get: fn() -> T,
    set: fn(T),
) {
    let show = move |out: &mut Text| {
        for (i, (word, value)) in choices.iter().enumerate() {
            let (before, after) = if *value == get() { ("[", "]") } else { ("", "") };
            put!(out, "{}{before}{word}{after}", if i == 0 { "" } else { " " });
        }
        out.bytes(b"\n");
        Ok(())
    };
    dir.attribute(name, 0o644, show, move |data| {
        let word = word(data)?;
        let (_, value) = choices.iter().find(|(name, _)| *name == word).ok_or(Errno::EINVAL)?;
        set(*value);
        Ok(())
    });
}
