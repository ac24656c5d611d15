//! The command line, copied out of the loader's memory, and its words.

use alloc::string::String;
use alloc::vec::Vec;
use hal::pvh::BootInfo;
use sync::Once;

static TEXT: Once<String> = Once::new();

/// Copies what the loader left in low memory, so that the memory can be used.
pub fn keep(info: &BootInfo) -> BootInfo {
    let text = TEXT.get_or_init(|| String::from(info.cmdline));
    let map: Vec<_> = info.memory_map.to_vec();
    BootInfo { cmdline: text, memory_map: Vec::leak(map), ..*info }
}

/// The whole command line, as /proc/cmdline shows it.
pub fn text() -> &'static str {
    TEXT.get().map_or("", |t| t)
}

/// Whether the word stands there.
pub fn has(word: &str) -> bool {
    text().split_ascii_whitespace().any(|each| each == word)
}

/// The value of the last word `name=value`.
pub fn value(name: &str) -> Option<&'static str> {
    text()
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .next_back()
}
