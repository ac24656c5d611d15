//! Kernel packages by their names. Debian: `linux-image-6.12.117+deb13-amd64`, and since 6.19 the
//! kernel itself in `linux-binary-...`; Ubuntu: `linux-image-6.8.0-45-generic`.

use std::fs;
use std::path::{Path, PathBuf};

/// The plain kernels of 64-bit PCs among `names`, of `version` if one is given: newest first.
pub fn candidates(names: &[String], version: Option<&str>) -> Vec<String> {
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| Some((release_of(name)?, name)))
        .filter(|((release, _), _)| version.is_none_or(|version| is_of(release, version)))
        .map(|((release, likely), name)| (numbers(release), likely, name))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, _, name)| name.clone()).collect()
}

/// The kernel release in a package's name, and how likely it is to hold the kernel: one that is not
/// signed is the same kernel, which an archive may have some days earlier. None for other flavours
/// (cloud, rt, -dbg).
fn release_of(name: &str) -> Option<(&str, u8)> {
    let (rest, likely) =
        [("image-unsigned-", 0), ("image-", 1), ("binary-unsigned-", 2), ("binary-", 3)]
            .iter()
            .find_map(|(kind, likely)| {
                Some((name.strip_prefix("linux-")?.strip_prefix(kind)?, *likely))
            })?;
    let rest = rest.strip_suffix("-unsigned").unwrap_or(rest);
    let release = rest.strip_suffix("-amd64").or_else(|| rest.strip_suffix("-generic"))?;
    let (version, build) = release.split_once('-').unwrap_or((release, "0"));
    let plain = version.starts_with(|c: char| c.is_ascii_digit())
        && build.bytes().all(|b| b.is_ascii_digit());
    plain.then_some((release, likely))
}

/// Whether `release` begins with the whole numbers of `version`: 6.1 is none of 6.12.
fn is_of(release: &str, version: &str) -> bool {
    release
        .strip_prefix(version)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// A kernel below an unpacked package, and its release: `boot/vmlinuz-RELEASE`, or since Debian's 7.2
/// `usr/lib/modules/RELEASE/vmlinuz`.
pub fn kernel_below(root: &Path) -> Option<(String, PathBuf)> {
    let entries = |dir: &str| fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
    let of_boot = entries("boot").find_map(|entry| {
        let name = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-")?.to_string();
        Some((name, entry.path()))
    });
    of_boot.or_else(|| {
        ["usr/lib/modules", "lib/modules"].iter().find_map(|dir| {
            entries(dir).find_map(|entry| {
                let path = entry.path().join("vmlinuz");
                path.is_file().then(|| (entry.file_name().to_string_lossy().into_owned(), path))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Option<&str>) -> Vec<String> {
        let names = [
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-6.12.117+deb13-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-rt-amd64",
            "linux-image-6.12.117+deb13-amd64-dbg",
            "linux-binary-unsigned-7.2.11+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-binary-7.3.4+deb13-amd64",
            "linux-image-6.1.0-50-amd64",
            "linux-image-6.8.0-45-generic",
            "linux-image-6.8.0-9-generic",
            "linux-image-amd64",
        ];
        candidates(&names.map(String::from), version)
    }

    #[test]
    fn the_newest_plain_kernel_of_a_series_comes_first() {
        assert_eq!(
            of(Some("6.12")),
            ["linux-image-6.12.117+deb13-amd64", "linux-image-6.12.107+deb13-amd64"]
        );
        assert_eq!(of(Some("6.1")), ["linux-image-6.1.0-50-amd64"]);
        assert_eq!(of(Some("6.8"))[0], "linux-image-6.8.0-45-generic");
        assert_eq!(of(Some("7.2")), ["linux-binary-unsigned-7.2.11+deb13-amd64"]);
        assert_eq!(of(Some("9")), [""; 0]);
    }

    #[test]
    fn where_a_kernel_has_a_package_of_its_own_that_comes_first() {
        let all = of(None);
        assert_eq!(all[..2], ["linux-binary-7.3.4+deb13-amd64", "linux-image-7.3.4+deb13-amd64"]);
    }

    #[test]
    fn kernels_are_found_where_packages_of_all_ages_put_them() {
        let dir = crate::cleanup::WorkDir::new().unwrap();
        assert!(kernel_below(dir.path()).is_none());
        let modules = dir.path().join("usr/lib/modules/7.3.4+deb13-amd64");
        fs::create_dir_all(&modules).unwrap();
        assert!(kernel_below(dir.path()).is_none());
        fs::write(modules.join("vmlinuz"), "").unwrap();
        assert_eq!(kernel_below(dir.path()).unwrap().0, "7.3.4+deb13-amd64");
        fs::create_dir_all(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("boot/vmlinuz-6.1.0-50-amd64"), "").unwrap();
        assert_eq!(kernel_below(dir.path()).unwrap().0, "6.1.0-50-amd64");
    }
}
