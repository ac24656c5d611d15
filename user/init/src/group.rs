//! The control group that the program runs in, where the run file asks for one.
//!
//! Init makes it and stays outside. Whoever becomes the program enters it first, so that the program
//! begins with its first instruction, and its memory, where it is to be.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::spec::{Program, Spec};

pub const GROUPED_ARG0: &str = "proxima-grouped";
const TOP: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/program";

/// Makes the group with its settings, and has the programs of the run file enter it.
pub fn make(spec: &mut Spec) -> Result<(), String> {
    if spec.group.is_empty() {
        return Ok(());
    }
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| format!("{path}: {text:?}: {error}"))
    };
    write(&format!("{TOP}/cgroup.subtree_control"), "+cpuset")?;
    fs::create_dir(GROUP).map_err(|error| format!("{GROUP}: {error}"))?;
    for (file, text) in &spec.group {
        write(&format!("{GROUP}/{file}"), text)?;
    }
    for program in &mut spec.programs {
        let entering = Program {
            path: "/proc/self/exe".into(),
            args: [GROUPED_ARG0.into(), program.path.clone()]
                .into_iter()
                .chain(program.args.iter().cloned())
                .collect(),
            name: program.name.clone(),
        };
        *program = entering;
    }
    Ok(())
}

/// Enters the group if there is one.
pub fn enter() {
    if Path::new(GROUP).exists()
        && let Err(error) = fs::write(format!("{GROUP}/cgroup.procs"), "0")
    {
        eprintln!("init: {GROUP}: {error}");
        std::process::exit(126);
    }
}

/// The process that enters the group and becomes the program.
pub fn become_grouped(args: impl Iterator<Item = OsString>) -> ! {
    enter();
    crate::session::exec(args)
}
