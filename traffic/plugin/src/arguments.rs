//! What the host tool tells the plugin.

use std::ffi::{CStr, c_char, c_int};
use std::path::PathBuf;

use traffic::geometry::Caches;
use traffic::recorder::Wish;

/// # Safety
/// `argv` has `argc` strings.
pub unsafe fn words(argc: c_int, argv: *const *const c_char) -> Vec<String> {
    (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: as promised.
        .map(|index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_string_lossy().into_owned())
        .collect()
}

/// The wish, the file for the answer, and whether CPUs take turns on one thread.
pub fn parse(words: &[String]) -> Result<(Wish, PathBuf, bool), String> {
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let needed = |key: &str| value(key).ok_or_else(|| format!("no {key}= is given"));
    fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String> {
        let number = |word: &str| word.parse().map_err(|_| format!("{text:?} is no list"));
        text.split('+').map(number).collect()
    }
    let wish = Wish {
        memory: list(needed("memory")?)?,
        node_of: list(needed("cpus")?)?,
        distances: needed("distances")?.split('/').map(list).collect::<Result<_, _>>()?,
        caches: match value("caches") {
            Some(text) => Some(Caches::parse(text).ok_or_else(|| format!("caches={text}?"))?),
            None => None,
        },
        sample: value("sample").map_or(Ok(1), str::parse).map_err(|_| "sample=?")?,
        user_only: value("user").is_some(),
    };
    if wish.node_of.len() > super::MOST_CPUS || wish.node_of.iter().any(|&n| n >= wish.memory.len())
    {
        return Err("CPUs on nodes that are not there".into());
    }
    Ok((wish, needed("out")?.into(), value("turns").is_some()))
}
