//! `--cpuset-cpus` and `--cpuset-mems`: the CPUs and nodes that the program's control group may use.

use crate::cli::GuestOptions;
use crate::error::{Fail, Result};
use crate::topology::Topology;
use crate::topology::file::parse_list;

/// Files of the group and what is written to them. A list that names what the machine does not have
/// is refused.
pub fn settings(guest: &GuestOptions, topology: &Topology) -> Result<Vec<(String, String)>> {
    let cpus = topology.nodes.iter().flat_map(|node| node.cpus.iter().copied()).collect::<Vec<_>>();
    // The kernels may number nodes anew, so a node without memory is theirs to refuse.
    let nodes = (0..topology.nodes.len()).collect::<Vec<_>>();
    let options =
        [("cpus", "CPU", &guest.cpuset_cpus, cpus), ("mems", "node", &guest.cpuset_mems, nodes)];
    let mut settings = Vec::new();
    for (name, what, text, there) in options {
        let Some(text) = text else { continue };
        let usage = |why: String| Fail::usage(format!("--cpuset-{name}: {why}"));
        let list =
            parse_list(text).map_err(|_| usage(format!("{text:?} is no list: write 0-3,8")))?;
        if list.is_empty() {
            return Err(usage("the list is empty".into()));
        }
        if let Some(absent) = list.iter().find(|id| !there.contains(id)) {
            return Err(usage(format!("the machine has no {what} {absent}")));
        }
        let text = list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        settings.push((format!("cpuset.{name}"), text));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cpus: Option<&str>, mems: Option<&str>) -> Result<Vec<(String, String)>> {
        let guest = GuestOptions {
            cpuset_cpus: cpus.map(String::from),
            cpuset_mems: mems.map(String::from),
            ..GuestOptions::default()
        };
        settings(&guest, &Topology::even(2, 4, 1 << 30).expect("a topology"))
    }

    #[test]
    fn lists_become_settings_of_the_group() {
        let both = of(Some("0-1,3"), Some("1")).expect("valid lists");
        let pair = |file: &str, text: &str| (file.to_string(), text.to_string());
        assert_eq!(both, [pair("cpuset.cpus", "0,1,3"), pair("cpuset.mems", "1")]);
        assert!(of(None, None).expect("nothing asked").is_empty());
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused() {
        for (cpus, mems) in [
            (Some("4"), None),
            (Some("x"), None),
            (Some(""), None),
            (None, Some("2")),
            (None, Some("1-0")),
        ] {
            assert!(of(cpus, mems).is_err(), "{cpus:?} {mems:?}");
        }
    }
}
