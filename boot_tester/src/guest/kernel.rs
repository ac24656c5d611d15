//! Which kernel boots: Proxima as built here (or installed), Debian's Linux, or a file.

use std::path::PathBuf;

use super::linux;
use crate::build;
use crate::error::{Fail, Result};
use crate::progress::Progress;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Proxima,
    /// Proxima built with its own checks.
    Checked,
    Linux,
    File(PathBuf),
}

impl Choice {
    pub fn parse(text: &str) -> Self {
        match text {
            "proxima" => Self::Proxima,
            "checked" => Self::Checked,
            "linux" => Self::Linux,
            other => Self::File(other.into()),
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Proxima => "proxima".into(),
            Self::Checked => "checked".into(),
            Self::Linux => "linux".into(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The file QEMU loads: built, fetched, or checked to be there.
    pub fn locate(&self, progress: &Progress) -> Result<PathBuf> {
        match self {
            Self::Proxima => build::kernel(progress),
            Self::Checked => build::checked_kernel(progress),
            Self::Linux => linux::kernel(progress),
            Self::File(path) if path.is_file() => Ok(path.clone()),
            Self::File(path) => Err(Fail::usage(format!(
                "--kernel {}: there is no such file (or write proxima or linux)",
                path.display()
            ))),
        }
    }
}
