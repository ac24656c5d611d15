//! From options to a machine that can be started: topology, kernel, command line.

use std::path::Path;

use crate::cli::MachineOptions;
use crate::error::{Fail, Result};
use crate::guest::kernel::Choice;
use crate::guest::machine::{Clock, Machine};
use crate::topology::{Topology, file};

/// Four nodes, two CPUs each, 2 GiB, unequal distances.
pub const DEFAULT_TOPOLOGY: &str = "ring-4";
const DEFAULT_MEMORY: u64 = 2 << 30;
/// What both kernels are told: console on the first port, no chatter, reset on a panic (which
/// QEMU's -no-reboot turns into an end), and where init is.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 unknown_nmi_panic rdinit=/init";

/// The topology that the options ask for.
pub fn topology(options: &MachineOptions) -> Result<Topology> {
    let usage = |why: String| Fail::usage(why);
    let mut topology = match (options.nodes, &options.topology) {
        (Some(nodes), _) => {
            let memory = options.memory.unwrap_or(DEFAULT_MEMORY);
            Topology::even(nodes, options.cpus.unwrap_or(nodes), memory).map_err(usage)?
        }
        (None, name) => {
            let mut found = file::find(name.as_deref().unwrap_or(DEFAULT_TOPOLOGY))?;
            if let Some(cpus) = options.cpus {
                found = found.with_cpus(cpus).map_err(usage)?;
            }
            if let Some(memory) = options.memory {
                found = found.with_memory(memory).map_err(usage)?;
            }
            found
        }
    };
    if !options.distance.is_empty() {
        topology = topology.with_distances(&options.distance).map_err(usage)?;
    }
    Ok(topology)
}

/// Linux's COMMAND_LINE_SIZE: what is longer is cut off, and with it what stands last.
const LONGEST_CMDLINE: usize = 2048;

/// Refuses words that no kernel would read to their end.
pub fn check_append(append: &[String]) -> Result<()> {
    // The tool's own words are below 256 bytes.
    let most = LONGEST_CMDLINE - 256;
    let length: usize = append.iter().map(|words| words.len() + 1).sum();
    if length > most {
        return Err(Fail::usage(format!("--append: {length} bytes, a kernel reads {most}")));
    }
    match append.iter().find(|words| words.contains(['\0', '\n'])) {
        Some(words) => Err(Fail::usage(format!("--append {words:?}: one line of words"))),
        None => Ok(()),
    }
}

/// Refuses an image that the guest's memory cannot hold, packed as it comes and unpacked beside that:
/// its kernel would start with a part of it, or not at all.
pub fn check_image(image: u64, memory: u64, is_linux: bool) -> Result<()> {
    /// Smaller images are not what fills a machine.
    const SMALL: u64 = 16 << 20;
    /// The next that is as simple to say.
    const GRAIN: u64 = 64 << 20;
    // Files may fill half of the memory; Linux does not count what the packed image lies in. It was
    // tried: Linux of Debian itself needs up to 96 MiB, Proxima 48.
    let needed = if is_linux { image * 3 + (96 << 20) } else { image * 2 + (48 << 20) };
    if image < SMALL || needed <= memory {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "the guest's files are {} MiB, too much for {} of memory: give it --memory {}, or leave \
         directories here (--share DIR)",
        image.div_ceil(1 << 20),
        crate::size::show(memory),
        crate::size::show(needed.next_multiple_of(GRAIN)),
    )))
}

/// The kernel's command line.
pub fn cmdline(kernel: &Choice, clock: Clock, append: &[String]) -> String {
    let mut words = vec![CMDLINE.to_string()];
    if kernel.is_linux() && clock == Clock::Instructions {
        // One CPU at first, the others by init: see user/init/src/cpus.rs.
        words.push("maxcpus=1 tsc=reliable mitigations=off proxima.online=all".into());
    } else if kernel.is_linux() {
        // What it does against attackers costs emulation a fifth of its time.
        words.push("mitigations=off init_on_alloc=0".into());
    }
    words.extend(append.iter().cloned());
    words.join(" ")
}

/// Puts the machine together; `file` is what [`Choice::locate`] gave.
pub fn machine(
    topology: Topology,
    kernel: &Choice,
    file: &Path,
    clock: Clock,
    append: &[String],
    image: &Path,
) -> Machine {
    Machine {
        topology,
        kernel: file.into(),
        image: image.into(),
        cmdline: cmdline(kernel, clock, append),
        clock,
        cpu: None,
        plugin: None,
        gdb: None,
        shares_memory: false,
        shares: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_must_fit_with_its_files_beside_it() {
        const M: u64 = 1 << 20;
        for (image, memory, is_linux, fits) in [
            (225, 512, false, true),
            (245, 512, false, false),
            (135, 512, true, true),
            (150, 512, true, false),
            (10, 32, false, true),
        ] {
            let checked = check_image(image * M, memory * M, is_linux);
            assert_eq!(checked.is_ok(), fits, "{image} MiB in {memory}");
        }
        let fail = check_image(300 * M, 512 * M, false).unwrap_err();
        assert!(fail.message.contains("--memory 704M"), "{}", fail.message);
        assert_eq!(fail.code, 2);
    }
}
