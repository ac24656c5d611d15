//! /sys/kernel/mm/transparent_hugepage, and `transparent_hugepage=` on the command line.

use super::fixed;
use crate::proc::put;
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};
use fs::pseudo::{Dir, Text};
use vm::transparent::khugepaged::{self, Setting};
use vm::transparent::shared::{self, Huge};
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

const SHARED: [(&str, Huge); 6] = [
    ("always", Huge::Always),
    ("within_size", Huge::WithinSize),
    ("advise", Huge::Advise),
    ("never", Huge::Never),
    ("deny", Huge::Deny),
    ("force", Huge::Force),
];

const SHARED_OF_SIZE: [(&str, Huge); 5] = [
    ("always", Huge::Always),
    ("inherit", Huge::Inherit),
    ("within_size", Huge::WithinSize),
    ("advise", Huge::Advise),
    ("never", Huge::Never),
];

/// The directory.
pub fn fill(dir: &Dir) {
    choice(dir, "enabled", &ENABLED, transparent::enabled, |on| {
        transparent::set_enabled(on);
        Ok(())
    });
    choice(dir, "defrag", &DEFRAG, transparent::defrag, |how| {
        transparent::set_defrag(how);
        Ok(())
    });
    let size = dir.dir("hugepages-2048kB");
    let set = |on| {
        transparent::set_size_enabled(on);
        Ok(())
    };
    choice(&size, "enabled", &OF_SIZE, transparent::size_enabled, set);
    choice(dir, "shmem_enabled", &SHARED, shared::enabled, shared::set_enabled);
    let set = |huge| {
        shared::OF_SIZE.set(huge);
        Ok(())
    };
    choice(&size, "shmem_enabled", &SHARED_OF_SIZE, || shared::OF_SIZE.get(), set);
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
    fill_khugepaged(&dir.dir("khugepaged"));
}

fn fill_khugepaged(dir: &Dir) {
    use khugepaged as k;
    setting(dir, "alloc_sleep_millisecs", &k::ALLOC_SLEEP);
    setting(dir, "defrag", &k::DEFRAG);
    setting(dir, "max_ptes_none", &k::MAX_NONE);
    setting(dir, "max_ptes_shared", &k::MAX_SHARED);
    setting(dir, "max_ptes_swap", &k::MAX_SWAP);
    setting(dir, "pages_to_scan", &k::PAGES_TO_SCAN);
    setting(dir, "scan_sleep_millisecs", &k::SCAN_SLEEP);
    counter(dir, "full_scans", &k::FULL_SCANS);
    counter(dir, "pages_collapsed", &k::PAGES_COLLAPSED);
}

/// A file with a number within its limits. Whoever sleeps by it looks at it anew.
fn setting(dir: &Dir, name: &str, setting: &'static Setting) {
    let show = |out: &mut Text| {
        put!(out, "{}\n", setting.get());
        Ok(())
    };
    dir.attribute(name, 0o644, show, |data| {
        let text = word(data)?;
        let digits = text.strip_prefix('+').unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let value = digits.parse().ok().filter(|_| plain).ok_or(Errno::EINVAL)?;
        if !(setting.least..=setting.most).contains(&value) {
            return Err(Errno::EINVAL);
        }
        setting.set(value);
        Ok(())
    });
}

fn counter(dir: &Dir, name: &str, counter: &'static AtomicU64) {
    dir.text(name, |out| {
        put!(out, "{}\n", counter.load(Ordering::Relaxed));
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
    set: fn(T) -> Result<()>,
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
        set(*value)
    });
}
