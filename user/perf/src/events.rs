//! Event names: what `-e` takes, and what each event is called.

use crate::sys::Attr;
use std::path::Path;

/// Types of events.
pub const HARDWARE: u32 = 0;
pub const SOFTWARE: u32 = 1;
const HW_CACHE: u32 = 3;
const RAW: u32 = 4;

/// Flag bits of the attribute.
pub mod flag {
    pub const DISABLED: u64 = 1;
    pub const INHERIT: u64 = 1 << 1;
    pub const EXCLUDE_USER: u64 = 1 << 4;
    pub const EXCLUDE_KERNEL: u64 = 1 << 5;
    pub const EXCLUDE_HV: u64 = 1 << 6;
    pub const EXCLUDE_IDLE: u64 = 1 << 7;
    pub const MMAP: u64 = 1 << 8;
    pub const COMM: u64 = 1 << 9;
    pub const FREQ: u64 = 1 << 10;
    pub const ENABLE_ON_EXEC: u64 = 1 << 12;
    pub const TASK: u64 = 1 << 13;
    pub const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub const EXCLUDE_GUEST: u64 = 1 << 20;
    pub const MMAP2: u64 = 1 << 23;
    pub const COMM_EXEC: u64 = 1 << 24;
}

/// Names by type and number; a second name is an abbreviation.
const NAMES: &[(&str, &str, u32, u64)] = &[
    ("cpu-clock", "", SOFTWARE, 0),
    ("task-clock", "", SOFTWARE, 1),
    ("page-faults", "faults", SOFTWARE, 2),
    ("context-switches", "cs", SOFTWARE, 3),
    ("cpu-migrations", "migrations", SOFTWARE, 4),
    ("minor-faults", "", SOFTWARE, 5),
    ("major-faults", "", SOFTWARE, 6),
    ("alignment-faults", "", SOFTWARE, 7),
    ("emulation-faults", "", SOFTWARE, 8),
    ("dummy", "", SOFTWARE, 9),
    ("cycles", "cpu-cycles", HARDWARE, 0),
    ("instructions", "", HARDWARE, 1),
    ("cache-references", "", HARDWARE, 2),
    ("cache-misses", "", HARDWARE, 3),
    ("branches", "branch-instructions", HARDWARE, 4),
    ("branch-misses", "", HARDWARE, 5),
    ("bus-cycles", "", HARDWARE, 6),
    ("stalled-cycles-frontend", "", HARDWARE, 7),
    ("stalled-cycles-backend", "", HARDWARE, 8),
    ("ref-cycles", "", HARDWARE, 9),
    ("L1-dcache-loads", "", HW_CACHE, 0),
    ("L1-dcache-load-misses", "", HW_CACHE, 0x1_0000),
    ("LLC-loads", "", HW_CACHE, 2),
    ("LLC-load-misses", "", HW_CACHE, 0x1_0002),
];

/// An event to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub kind: u32,
    pub config: u64,
    /// `exclude_*` bits that its modifiers ask for.
    pub exclude: u64,
}

impl Event {
    /// An attribute that counts it.
    pub fn attr(&self) -> Attr {
        Attr {
            kind: self.kind,
            size: crate::sys::ATTR_SIZE as u32,
            config: self.config,
            flags: self.exclude,
            ..Attr::default()
        }
    }

    /// True for events that count nanoseconds.
    pub fn is_clock(&self) -> bool {
        self.kind == SOFTWARE && self.config < 2
    }
}

/// All that a list names: `cycles:u,page-faults,numa/alloc_remote/,r01c0`.
pub fn parse_list(text: &str, sources: &Path) -> Result<Vec<Event>, String> {
    // A comma between slashes belongs to the event.
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        inside ^= c == '/';
        match c {
            ',' if !inside => parts.push(String::new()),
            c => parts.last_mut().expect("there is always a last part").push(c),
        }
    }
    parts.iter().map(|part| parse(part.trim(), sources)).collect()
}

/// One event.
pub fn parse(text: &str, sources: &Path) -> Result<Event, String> {
    if let Some((pmu, rest)) = text.split_once('/') {
        let (terms, modifiers) = rest
            .rsplit_once('/')
            .ok_or_else(|| format!("event '{text}' lacks its closing slash"))?;
        let (kind, config) = pmu_event(pmu, terms, sources)?;
        let exclude = exclude(modifiers.trim_start_matches(':'), text)?;
        return Ok(Event { name: text.to_string(), kind, config, exclude });
    }
    if text.starts_with('{') {
        return Err("groups in braces are not understood: name the events one by one".into());
    }
    let (name, modifiers) = text.split_once(':').unwrap_or((text, ""));
    let exclude = exclude(modifiers, text)?;
    if let Some((_, _, kind, config)) =
        NAMES.iter().find(|n| n.0 == name || n.1 == name && !name.is_empty())
    {
        return Ok(Event { name: text.to_string(), kind: *kind, config: *config, exclude });
    }
    if let Some(config) = name.strip_prefix('r').and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
        return Ok(Event { name: text.to_string(), kind: RAW, config, exclude });
    }
    Err(format!("event '{text}' is not known; `perf list` names those that are"))
}

fn exclude(modifiers: &str, event: &str) -> Result<u64, String> {
    let all = flag::EXCLUDE_USER | flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV;
    let mut wanted = 0;
    for c in modifiers.chars() {
        wanted |= match c {
            'u' => flag::EXCLUDE_USER,
            'k' => flag::EXCLUDE_KERNEL,
            'h' => flag::EXCLUDE_HV,
            // How precise: the nearest there is.
            'p' => 0,
            _ => return Err(format!("event '{event}': modifier '{c}' is not one of u, k, h, p")),
        };
    }
    Ok(if wanted == 0 { 0 } else { all & !wanted })
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// Type and config of `pmu/terms/`, by the PMU's description in sysfs.
fn pmu_event(pmu: &str, terms: &str, sources: &Path) -> Result<(u32, u64), String> {
    let dir = sources.join(pmu);
    let kind = read(&dir.join("type"))
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| format!("there is no PMU '{pmu}' in {}", sources.display()))?;
    let mut config = 0;
    let mut queue: Vec<String> = terms.split(',').map(str::to_string).collect();
    while let Some(term) = queue.pop() {
        let (name, value) = match term.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (term.as_str(), None),
        };
        if value.is_none()
            && let Some(text) = read(&dir.join("events").join(name))
        {
            queue.extend(text.split(',').map(str::to_string));
            continue;
        }
        let form = if name == "config" {
            "config:0-63".to_string()
        } else {
            read(&dir.join("format").join(name))
                .ok_or_else(|| format!("PMU '{pmu}' has no event or field '{name}'"))?
        };
        let text = value.unwrap_or("1");
        let number = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        let number = number.map_err(|_| format!("'{text}' in '{term}' is no number"))?;
        config |= place(&form, number)
            .ok_or_else(|| format!("field '{name}': unknown format '{form}'"))?;
    }
    Ok((kind, config))
}

/// Puts `number` into the bits that a format such as `config:0-7,32-35` names.
fn place(form: &str, mut number: u64) -> Option<u64> {
    let bits = form.strip_prefix("config:")?;
    let mut out = 0;
    for range in bits.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        for bit in low..=high.min(63) {
            out |= (number & 1) << bit;
            number >>= 1;
        }
    }
    Some(out)
}

/// Where PMUs describe themselves.
pub fn sources() -> &'static Path {
    Path::new("/sys/bus/event_source/devices")
}

/// `perf list`: all names, those of PMUs from sysfs.
pub fn list() -> Vec<String> {
    let mut names: Vec<String> = NAMES
        .iter()
        .map(|(name, other, kind, _)| {
            let kind = match *kind {
                SOFTWARE => "software",
                HARDWARE => "hardware",
                _ => "hardware cache",
            };
            let both =
                if other.is_empty() { name.to_string() } else { format!("{name} OR {other}") };
            format!("{both:<46} [{kind} event]")
        })
        .collect();
    let Ok(dirs) = std::fs::read_dir(sources()) else { return names };
    for pmu in dirs.flatten() {
        let Ok(events) = std::fs::read_dir(pmu.path().join("events")) else { continue };
        for event in events.flatten() {
            let (pmu, event) = (pmu.file_name(), event.file_name());
            let name = format!("{}/{}/", pmu.to_string_lossy(), event.to_string_lossy());
            names.push(format!("{name:<46} [PMU event]"));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake() -> tempdir::Dir {
        let dir = tempdir::Dir::new("events");
        let pmu = dir.path().join("numa");
        std::fs::create_dir_all(pmu.join("events")).expect("made");
        std::fs::create_dir_all(pmu.join("format")).expect("made");
        std::fs::write(pmu.join("type"), "16\n").expect("written");
        std::fs::write(pmu.join("events/alloc_remote"), "event=0x01\n").expect("written");
        std::fs::write(pmu.join("format/event"), "config:0-7\n").expect("written");
        std::fs::write(pmu.join("format/far"), "config:8-9,32\n").expect("written");
        dir
    }

    use crate::testing as tempdir;

    #[test]
    fn names_and_modifiers() {
        let dir = fake();
        let list =
            parse_list("cs,task-clock:u,numa/alloc_remote/,r1c2:k", dir.path()).expect("known");
        assert_eq!(
            list.iter().map(|e| (e.kind, e.config)).collect::<Vec<_>>(),
            [(1, 3), (1, 1), (16, 1), (4, 0x1c2)]
        );
        assert_eq!(list[1].exclude, flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV);
        assert_eq!(list[3].exclude, flag::EXCLUDE_USER | flag::EXCLUDE_HV);
    }

    #[test]
    fn fields_are_placed_by_their_format() {
        let dir = fake();
        let event = parse("numa/event=0x12,far=7/", dir.path()).expect("fits");
        assert_eq!(event.config, 0x12 | 3 << 8 | 1 << 32);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let dir = fake();
        for (text, part) in [
            ("nonsense", "not known"),
            ("numa/nothing/", "no event or field 'nothing'"),
            ("none/x/", "no PMU 'none'"),
            ("numa/event=zz/", "no number"),
            ("cycles:x", "modifier 'x'"),
            ("{cycles", "groups in braces"),
            ("numa/alloc_remote", "closing slash"),
        ] {
            let error = parse(text, dir.path()).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
