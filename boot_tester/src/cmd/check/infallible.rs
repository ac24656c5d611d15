//! Allocations of the kernel that cannot be refused: their number in each file is listed, so that
//! a new one is noticed.
//!
//! What grows with what a user does is made by `frames::fallible`. What is not must be small, and
//! bounded in number for each call, as the reserve gives it when memory is out. The list is
//! `kernel/infallible.txt`: a number and a path a line, lines with `#` say why.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Context, Result};

/// What allocates without a word. Some of it also names harmless methods of other types: they
/// count like the rest.
const WORDS: [&str; 25] = [
    "Box::new(",
    "Arc::new(",
    "Arc::new_cyclic(",
    "Rc::new(",
    "Box::from(",
    "Arc::from(",
    "Vec::from(",
    "String::from(",
    "vec![",
    "format!(",
    "with_capacity(",
    ".push(",
    ".push_back(",
    ".push_front(",
    ".push_str(",
    ".insert(",
    ".or_insert",
    ".extend(",
    ".extend_from_slice(",
    ".resize(",
    ".to_vec()",
    ".to_string()",
    ".to_owned()",
    ".collect",
    ".concat()",
];

/// How many there are in a source text, without comments and unit tests.
fn count(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.map(|line| WORDS.iter().map(|word| line.matches(word).count()).sum::<usize>()).sum()
}

/// Numbers by path, from a list.
fn listed(text: &str) -> BTreeMap<String, usize> {
    let entries = text.lines().filter(|line| !line.starts_with('#'));
    entries
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(number, path)| Some((path.trim().to_string(), number.parse().ok()?)))
        .collect()
}

/// What differs: a line for each file.
fn differences(found: &BTreeMap<String, usize>, listed: &BTreeMap<String, usize>) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = found.keys().chain(listed.keys()).collect();
    let number = |map: &BTreeMap<String, usize>, path: &str| map.get(path).copied().unwrap_or(0);
    paths
        .into_iter()
        .map(|path| (path, number(found, path), number(listed, path)))
        .filter(|(_, found, listed)| found != listed)
        .map(|(path, found, listed)| format!("{path}: {found}, and {listed} in the list"))
        .collect()
}

/// Adds the numbers of the sources under `dir`.
fn gather(top: &Path, dir: &Path, found: &mut BTreeMap<String, usize>) -> Result<()> {
    for entry in std::fs::read_dir(dir).context(dir.display())? {
        let path = entry.context(dir.display())?.path();
        if path.is_dir() {
            // Tests run on the host.
            if path.file_name().is_none_or(|name| name != "tests") {
                gather(top, &path, found)?;
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).context(path.display())?;
            let number = count(&text);
            if number > 0 {
                let name = path.strip_prefix(top).unwrap_or(&path);
                found.insert(name.display().to_string(), number);
            }
        }
    }
    Ok(())
}

/// True when the numbers are those of the list; says otherwise where they are not.
pub fn as_listed(top: &Path) -> Result<bool> {
    let kernel = top.join("kernel");
    let mut found = BTreeMap::new();
    gather(&kernel, &kernel, &mut found)?;
    let list = kernel.join("infallible.txt");
    let text = std::fs::read_to_string(&list).context(list.display())?;
    let differences = differences(&found, &listed(&text));
    if !differences.is_empty() {
        println!("allocations that cannot be refused (kernel/infallible.txt):");
        differences.iter().for_each(|line| println!("    {line}"));
    }
    Ok(differences.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_do_not_count() {
        let text = "let a = Box::new(1);\n// vec![]\nb.push(2); // .push(\n#[cfg(test)]\nmod tests {\nvec![1]\n";
        assert_eq!(count(text), 2);
        assert_eq!(count("let v: Vec<_> = x.collect();\nlet w = x.collect::<Vec<_>>();"), 2);
        assert_eq!(count("let v = Vec::gather(x)?; v.try_push(1)?;"), 0);
    }

    #[test]
    fn one_more_and_one_fewer_are_told() {
        let list = listed("# why\n2 a.rs\n1 b.rs\n");
        let found = BTreeMap::from([("a.rs".to_string(), 3)]);
        let told = differences(&found, &list);
        assert_eq!(told, ["a.rs: 3, and 2 in the list", "b.rs: 0, and 1 in the list"]);
    }
}
