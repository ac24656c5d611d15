//! The QEMU command line: the machine the guest boots on.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::share::Share;
use super::shared;
use crate::error::{Context, Fail, Result};
use crate::image::program::in_path;
use crate::topology::Topology;

pub const QEMU: &str = "qemu-system-x86_64";

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// As fast as the host can, hardware-accelerated where that works.
    Wall,
    /// One instruction is one nanosecond; the same run gives the same counts.
    Instructions,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub topology: Topology,
    pub kernel: PathBuf,
    pub image: PathBuf,
    pub cmdline: String,
    pub clock: Clock,
    /// The CPU in QEMU's words; None is everything that the accelerator has.
    pub cpu: Option<String>,
    /// A plugin with its arguments: TCG alone has them.
    pub plugin: Option<String>,
    /// Wait for a debugger on this TCP port of the loopback interface.
    pub gdb: Option<u16>,
    /// The program's streams go by memory that guest and host share.
    pub shares_memory: bool,
    /// Directories of this machine that the guest may read, by their tags.
    pub shares: Vec<Share>,
}

/// Where the four serial ports of the guest end.
pub enum Wiring {
    /// File descriptors that QEMU inherits: a socket for each port, one for its monitor, and the
    /// memory that guest and host share, if they do.
    Sockets { ports: [i32; 4], monitor: i32, shared: Option<i32> },
    /// For a person who types the command: console and stderr to files, ttyS1 on the terminal.
    Files { console: PathBuf, err: PathBuf, control: PathBuf },
}

impl Machine {
    pub fn args(&self, wiring: &Wiring) -> Vec<String> {
        let mut args: Vec<String> = ["-M", "q35", "-nodefaults", "-no-user-config", "-no-reboot"]
            .into_iter()
            .chain(["-vga", "none", "-nic", "none", "-display", "none"])
            .map(String::from)
            .collect();
        args.extend(self.accelerator());
        args.extend(self.topology.qemu_args());
        args.push("-kernel".into());
        args.push(self.kernel.display().to_string());
        args.push("-initrd".into());
        args.push(self.image.display().to_string());
        args.push("-append".into());
        args.push(self.cmdline.clone());
        match wiring {
            Wiring::Sockets { ports, monitor, shared } => {
                for (port, fd) in ports.iter().enumerate() {
                    args.push("-chardev".into());
                    args.push(format!("socket,id=port{port},fd={fd}"));
                    args.push("-serial".into());
                    args.push(format!("chardev:port{port}"));
                }
                args.push("-chardev".into());
                args.push(format!("socket,id=monitor,fd={monitor}"));
                args.push("-mon".into());
                args.push("chardev=monitor,mode=readline".into());
                if let Some(fd) = shared {
                    args.push("-object".into());
                    args.push(format!(
                        "memory-backend-file,id=shared,mem-path=/proc/self/fd/{fd},size={}M,share=on",
                        shared::BYTES >> 20
                    ));
                    args.push("-device".into());
                    args.push("ivshmem-plain,memdev=shared".into());
                }
            }
            Wiring::Files { console, err, control } => {
                let file = |path: &PathBuf| format!("file:{}", path.display());
                for port in [file(console), "stdio".into(), file(err), file(control)] {
                    args.push("-serial".into());
                    args.push(port);
                }
                args.push("-monitor".into());
                args.push("none".into());
            }
        }
        args.extend(self.shares.iter().flat_map(Share::args));
        if let Some(plugin) = &self.plugin {
            args.extend(["-plugin".into(), plugin.clone()]);
        }
        if let Some(port) = self.gdb {
            args.push("-S".into());
            args.push("-gdb".into());
            args.push(format!("tcp:127.0.0.1:{port}"));
        }
        args
    }

    /// A kernel that has not reached init by then never will. Emulated CPUs share the host's, and
    /// Linux brings them up one after the other.
    pub fn boot_limit(&self) -> Duration {
        Duration::from_secs(120 + 5 * self.topology.cpus() as u64)
    }

    fn accelerator(&self) -> Vec<String> {
        let list: &[&str] = match self.clock {
            Clock::Instructions => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-seed",
                "1",
                "-rtc",
                "base=2024-01-01T00:00:00,clock=vm",
                // Why: docs/performance.md; ERMS would make clearing a page 4096 instructions.
                "-cpu",
                "max,la57=off,erms=off",
            ],
            Clock::Wall if self.plugin.is_none() && kvm_works() => {
                &["-accel", "kvm", "-cpu", "max"]
            }
            Clock::Wall => &["-accel", "tcg,thread=multi", "-cpu", "max"],
        };
        let mut words: Vec<String> = list.iter().map(|word| word.to_string()).collect();
        if let (Some(cpu), Some(last)) = (&self.cpu, words.last_mut()) {
            last.clone_from(cpu);
        }
        words
    }
}

/// The QEMU binary, or what to install.
pub fn qemu() -> Result<PathBuf> {
    in_path(QEMU).ok_or_else(|| {
        Fail::broken(format!("{QEMU} is not installed (package qemu-system-x86; or: make setup)"))
    })
}

/// The version that QEMU says it has, such as `7.2.22`.
pub fn qemu_version() -> Result<String> {
    let output = Command::new(qemu()?).arg("--version").output().context(QEMU)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = version_in(&text).map(str::to_string);
    number.ok_or_else(|| Fail::broken(format!("{QEMU} --version fails")))
}

/// The word behind "version".
fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace().skip_while(|word| *word != "version").nth(1)
}

/// True where the CPU says that it can virtualize: without the flag a KVM that opens is an emulation
/// slower than TCG.
pub fn has_virtualization() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    flags
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// True where that is so and /dev/kvm opens.
pub fn kvm_works() -> bool {
    has_virtualization() && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// A command as one can paste it into a shell, a line for each option.
pub fn shell_line(program: &str, args: &[String]) -> String {
    let mut text = quote(program);
    for arg in args {
        text += if arg.starts_with('-') { " \\\n    " } else { " " };
        text += &quote(arg);
    }
    text
}

/// Quotes for a POSIX shell where needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRING: Wiring = Wiring::Sockets { ports: [3, 4, 5, 6], monitor: 7, shared: Some(8) };

    fn machine(clock: Clock) -> Machine {
        Machine {
            topology: Topology::even(1, 1, 1 << 30).unwrap(),
            kernel: "k".into(),
            image: "i".into(),
            cmdline: "a b".into(),
            clock,
            cpu: None,
            plugin: None,
            gdb: None,
            shares_memory: true,
            shares: Vec::new(),
        }
    }

    #[test]
    fn instruction_counts_need_one_thread_and_a_fixed_clock() {
        let args = machine(Clock::Instructions).args(&WIRING).join(" ");
        assert!(args.contains("tcg,thread=single -icount shift=0,sleep=off"), "{args}");
        assert!(args.contains("socket,id=port3,fd=6"), "{args}");
        assert!(args.contains("mem-path=/proc/self/fd/8,size=4M,share=on"), "{args}");
    }

    #[test]
    fn a_cpu_that_is_asked_for_takes_the_place_of_the_usual_one() {
        let asked = Machine { cpu: Some("Nehalem".into()), ..machine(Clock::Instructions) };
        let args = asked.args(&WIRING).join(" ");
        assert!(args.contains("-cpu Nehalem -"), "{args}");
        assert!(!args.contains("max,la57"), "{args}");
    }

    #[test]
    fn versions_are_numbers_whatever_follows() {
        let debian = "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright";
        assert_eq!(version_in(debian), Some("10.0.13"));
        assert_eq!(version_in("QEMU emulator version 6.2.0"), Some("6.2.0"));
        assert_eq!(version_in("something else"), None);
    }

    #[test]
    fn shown_commands_survive_a_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote("size=32M,id=a"), "size=32M,id=a");
        assert_eq!(quote(""), "''");
    }
}
