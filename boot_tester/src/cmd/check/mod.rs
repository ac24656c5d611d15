//! `proxima check`: clippy for what does not build on the host, the kernel and the guest's programs;
//! and that no allocation was added that cannot be refused.

mod infallible;

use std::process::{Command, Stdio};

use crate::build::toolchain::{self, Toolchain, choose};
use crate::error::{Context, Fail, Result};
use crate::paths;

pub fn check() -> Result<u8> {
    let top = paths::source().ok_or_else(|| Fail::broken("there is no source tree here"))?;
    let mut clean = infallible::as_listed(top)?;
    for (target, dir, what) in [
        (toolchain::KERNEL, top.to_path_buf(), &["-p", "kernel"][..]),
        (toolchain::USER, top.join("user"), &["--workspace"]),
    ] {
        if choose(target)? == Toolchain::System {
            println!("{target}: not linted (no clippy for a standard library built from source)");
            continue;
        }
        let status = Command::new("cargo")
            .args(["clippy", "--release", "--target", target])
            .args(what)
            .args(["--", "-D", "warnings"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .status()
            .context("cargo clippy")?;
        clean &= status.success();
    }
    Ok(u8::from(!clean))
}
