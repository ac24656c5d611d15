//! The address space of the program at its end, from the guest's numa_maps and numa_pages.

use std::collections::BTreeMap;

/// A mapping, up to where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub name: String,
    pub policy: String,
    /// Mapped from a file of this path.
    pub file: Option<String>,
}

/// Where a page lay in the end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lies {
    pub node: usize,
    pub policy: String,
    pub reason: String,
}

/// Mappings in ascending order, pages by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub mappings: Vec<Mapping>,
    pub pages: BTreeMap<u64, Lies>,
}

/// User addresses end here.
const USER_END: u64 = 1 << 47;

impl Space {
    /// Reads both texts; either may be empty.
    pub fn parse(maps: &str, pages: &str) -> Self {
        let mut mappings: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
        mappings.sort_by_key(|mapping| mapping.start);
        for index in 0..mappings.len() {
            mappings[index].end = mappings.get(index + 1).map_or(USER_END, |next| next.start);
        }
        let mut space = Self { mappings, pages: BTreeMap::new() };
        for (first, end, lies) in pages.lines().filter_map(run) {
            for page in first..end {
                space.pages.insert(page, lies.clone());
            }
        }
        space
    }

    /// The mapping that an address was in, if there still was one at the end.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings.get(after.checked_sub(1)?)
    }
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split(' ');
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut policy = words.next()?.to_string();
    if ["prefer", "weighted"].contains(&policy.as_str()) {
        policy = format!("{policy} {}", words.next()?);
    }
    let mut mapping =
        Mapping { start, end: USER_END, name: "anonymous".into(), policy, file: None };
    for word in words {
        if let Some(file) = word.strip_prefix("file=") {
            let file = file.replace("\\040", " ");
            mapping.name.clone_from(&file);
            mapping.file = Some(file);
        } else if ["heap", "stack"].contains(&word) {
            mapping.name = format!("[{word}]");
        }
    }
    Some(mapping)
}

/// First page, end, and where they lie.
fn run(line: &str) -> Option<(u64, u64, Lies)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let page = |text| Some(u64::from_str_radix(text, 16).ok()? >> 12);
    let (node, rest) = rest.strip_prefix("node=")?.split_once(' ')?;
    let (policy, reason) = rest.strip_prefix("policy=")?.split_once(" reason=")?;
    let lies = Lies { node: node.parse().ok()?, policy: policy.into(), reason: reason.into() };
    Some((page(start)?, page(end)?, lies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_mapping_before_them() {
        let maps = "00400000 default file=/bin/a\\040b mapped=1 N0=1\n\
                    7f0000000000 prefer (many):0-1 anon=2 N1=2\n7fff00000000 default stack\n";
        let pages = "7f0000000000-7f0000002000 node=1 policy=bind:1 reason=bind cow\n";
        let space = Space::parse(maps, pages);
        let name = |address| space.find(address).map(|mapping| mapping.name.as_str());
        assert_eq!(name(0x400010), Some("/bin/a b"));
        assert_eq!(name(0x7f0000000000), Some("anonymous"));
        assert_eq!(space.find(0x7f0000001000).unwrap().policy, "prefer (many):0-1");
        assert_eq!(name(0x7fff00001000), Some("[stack]"));
        assert_eq!(name(0x1000), None);
        assert_eq!(space.pages[&0x7f0000001].reason, "bind cow");
        assert_eq!(space.pages.len(), 2);
    }
}
