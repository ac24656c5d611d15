//! Puts into the tool what a guest boots, when it is built to be installed: a release build carries
//! kernel, guest programs and plugin, so that no file beside it is needed. A debug build carries nothing:
//! it builds what it needs in the source tree it comes from, when it needs it.
//!
//! What is carried is built and compressed by the tool itself (`proxima build --pack DIR`), by cargo in a
//! target directory of its own. src/parts.rs reads what is written here.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What the packed files are made of, below the top of the source tree.
const SOURCES: [&str; 9] = [
    "kernel",
    "user",
    "traffic",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
    "boot_tester/build.rs",
    "boot_tester/src/build",
    "boot_tester/src/parts.rs",
];

/// The targets of the kernel, the guest's programs, and the plugin.
const TARGETS: [&str; 3] =
    ["X86_64_UNKNOWN_NONE", "X86_64_UNKNOWN_LINUX_MUSL", "X86_64_UNKNOWN_LINUX_GNU"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let top = Path::new(&manifest).parent().expect("a workspace");
    println!("cargo:rerun-if-changed=build.rs");
    let text = if env::var("PROFILE").as_deref() == Ok("release") {
        for source in SOURCES {
            println!("cargo:rerun-if-changed={}", top.join(source).display());
        }
        // Nobody debugs the tool where it is installed, and debug information names this machine.
        println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
        carried(&pack(top, &out))
    } else {
        format!(
            "const SOURCE: Option<&str> = Some({:?});\nconst DIGEST: &str = \"\";\n\
             const PARTS: &[Part] = &[];\n",
            top.display().to_string()
        )
    };
    fs::write(out.join("parts.rs"), text).expect("OUT_DIR can be written");
}

/// Has the tool build and pack everything; the directory it is in.
fn pack(top: &Path, out: &Path) -> PathBuf {
    let dir = out.join("parts");
    let _ = fs::remove_dir_all(&dir);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "-p", "boot_tester", "--", "build", "--pack"]).arg(&dir);
    cargo.current_dir(top);
    // What is said to this build is not meant for the next.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours = ["CARGO_PKG_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "DEP_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let flags =
            ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC", "CARGO_PROFILE_RELEASE_STRIP"];
        if ours || flags.contains(&name.as_str()) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_TARGET_DIR", out.join("target"));
    for target in TARGETS {
        cargo.env(format!("CARGO_TARGET_{target}_RUSTFLAGS"), neutral_paths(top));
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "proxima build --pack has failed");
    dir
}

/// Flags with which no path of this machine gets into what is built: two source trees give the same
/// bytes, and a debugger that is started in one finds the sources.
fn neutral_paths(top: &Path) -> String {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let own = [(Some(top.to_path_buf()), "."), (home, "cargo")];
    let flag = |(path, name): (Option<PathBuf>, &str)| {
        // Cargo takes these flags apart at spaces.
        let path = path.map(OsString::from)?.into_string().ok()?;
        (!path.contains(char::is_whitespace)).then(|| format!("--remap-path-prefix={path}={name}"))
    };
    own.into_iter().filter_map(flag).collect::<Vec<_>>().join(" ")
}

/// The table of what lies in `dir`: for each `NAME.lz` a line `NAME SIZE` of the file `list`.
fn carried(dir: &Path) -> String {
    let list = fs::read_to_string(dir.join("list")).expect("a list of what was packed");
    let mut rows = String::new();
    let mut hasher = DefaultHasher::new();
    for line in list.lines() {
        let (name, size) = line.split_once(' ').expect("name and size");
        let file = dir.join(format!("{name}.lz"));
        (name, fs::read(&file).expect("a packed file")).hash(&mut hasher);
        let _ = writeln!(
            rows,
            "    Part {{ name: {name:?}, size: {size}, packed: include_bytes!({file:?}) }},"
        );
    }
    format!(
        "const SOURCE: Option<&str> = None;\nconst DIGEST: &str = \"{:016x}\";\n\
         const PARTS: &[Part] = &[\n{rows}];\n",
        hasher.finish()
    )
}
