//! Which kernel boots: Proxima as built here (or installed), a Linux of the archives, or a file.

use std::path::PathBuf;

use super::linux::Version;
use crate::build;
use crate::error::{Fail, Result};
use crate::progress::Progress;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Proxima,
    /// Proxima built with its own checks.
    Checked,
    Linux(Version),
    File(PathBuf),
}

impl Choice {
    /// Linux as Proxima follows it.
    pub const LINUX: Self = Self::Linux(Version::Followed);

    /// Takes the word behind `--kernel`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "proxima" => Self::Proxima,
            "checked" => Self::Checked,
            "linux" => Self::LINUX,
            other => match other.strip_prefix("linux:") {
                Some(version) => Self::Linux(Version::parse(version)?),
                None => Self::File(other.into()),
            },
        })
    }

    /// Takes the word behind `--kernel` where `both` means Proxima with Linux beside it.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        match text {
            "both" => Ok(vec![Self::Proxima, Self::LINUX]),
            other => Ok(vec![Self::parse(other)?]),
        }
    }

    pub fn is_linux(&self) -> bool {
        matches!(self, Self::Linux(_))
    }

    /// The modules that it needs to see shared directories, in their order.
    pub fn modules(&self, progress: &Progress) -> Result<Vec<PathBuf>> {
        match self {
            Self::Linux(version) => version.modules(progress),
            // Built in, or somebody's own business.
            Self::Proxima | Self::Checked | Self::File(_) => Ok(Vec::new()),
        }
    }

    /// The release of a Linux that was located.
    pub fn release(&self) -> Option<String> {
        match self {
            Self::Linux(version) => version.release(),
            _ => None,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Proxima => "proxima".into(),
            Self::Checked => "checked".into(),
            Self::Linux(Version::Followed) => "linux".into(),
            Self::Linux(Version::Asked(version)) => format!("linux:{version}"),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The file QEMU loads: built, fetched, or checked to be there.
    pub fn locate(&self, progress: &Progress) -> Result<PathBuf> {
        match self {
            Self::Proxima => build::kernel(progress),
            Self::Checked => build::checked_kernel(progress),
            Self::Linux(version) => version.kernel(progress),
            Self::File(path) if path.is_file() => Ok(path.clone()),
            Self::File(path) => Err(Fail::usage(format!(
                "--kernel {}: there is no such file (or write proxima, linux or linux:VERSION)",
                path.display()
            ))),
        }
    }
}
