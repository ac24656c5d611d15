//! rename(2): what goes where, what is replaced, what is refused.

use libc::*;

use super::scratch;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, sys};

pub const TESTS: &[Test] = tests![
    a_file_takes_a_new_name,
    a_file_replaces_a_file_whose_users_keep_it,
    two_names_of_one_file_both_stay,
    kinds_do_not_replace_each_other,
    a_directory_does_not_move_into_itself,
    a_moved_directory_has_its_new_parent,
    noreplace_refuses_and_exchange_exchanges,
    a_symbolic_link_is_renamed_itself,
    other_file_systems_are_exdev,
    many_processes_rename_over_one_name,
];

struct Place(String);

impl Place {
    fn new() -> Self {
        Self(scratch())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn directory(&self, name: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
    }

    fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    fn rename(&self, from: &str, to: &str, flags: u32) -> sys::Result<usize> {
        let (from, to) = (sys::c(&self.path(from)), sys::c(&self.path(to)));
        sys!(SYS_renameat2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), flags)
    }
}

fn a_file_takes_a_new_name() {
    let place = Place::new();
    place.file("a", "x");
    place.rename("a", "b", 0).unwrap();
    assert_eq!((place.text("a"), place.text("b").as_deref()), (None, Some("x")));
    fails(place.rename("a", "c", 0), ENOENT);
    fails(place.rename("b", "none/c", 0), ENOENT);
}

fn a_file_replaces_a_file_whose_users_keep_it() {
    let place = Place::new();
    place.file("a", "new");
    place.file("b", "old");
    let fd = open(&place.path("b"), O_RDONLY, 0).unwrap();
    place.rename("a", "b", 0).unwrap();
    assert_eq!(place.text("b").as_deref(), Some("new"));
    let mut bytes = [0; 3];
    assert_eq!((sys::read(fd, &mut bytes), &bytes), (Ok(3), b"old"));
}

fn two_names_of_one_file_both_stay() {
    let place = Place::new();
    place.file("a", "x");
    std::fs::hard_link(place.path("a"), place.path("b")).unwrap();
    place.rename("a", "b", 0).unwrap();
    assert!(place.text("a").is_some() && place.text("b").is_some());
}

fn kinds_do_not_replace_each_other() {
    let place = Place::new();
    place.file("f", "");
    place.directory("d");
    place.directory("e");
    place.file("e/x", "");
    fails(place.rename("f", "d", 0), EISDIR);
    fails(place.rename("d", "f", 0), ENOTDIR);
    fails(place.rename("d", "e", 0), ENOTEMPTY);
    place.rename("e", "d", 0).unwrap();
    assert!(place.text("d/x").is_some());
}

fn a_directory_does_not_move_into_itself() {
    let place = Place::new();
    place.directory("d");
    place.directory("d/e");
    fails(place.rename("d", "d/e/f", 0), EINVAL);
    fails(place.rename("d/e", "d", 0), ENOTEMPTY);
    fails(place.rename("d/.", "x", 0), EBUSY);
}

fn a_moved_directory_has_its_new_parent() {
    let place = Place::new();
    place.directory("a");
    place.directory("b");
    place.directory("a/d");
    place.file("b/mark", "");
    place.rename("a/d", "b/d", 0).unwrap();
    assert!(place.text("b/d/../mark").is_some());
    use std::os::unix::fs::MetadataExt;
    let links = |name: &str| std::fs::metadata(place.path(name)).unwrap().nlink();
    assert_eq!((links("a"), links("b")), (2, 3));
}

fn noreplace_refuses_and_exchange_exchanges() {
    let place = Place::new();
    place.file("a", "1");
    place.file("b", "2");
    fails(place.rename("a", "b", RENAME_NOREPLACE), EEXIST);
    place.rename("a", "c", RENAME_NOREPLACE).unwrap();
    place.rename("b", "c", RENAME_EXCHANGE).unwrap();
    assert_eq!((place.text("b").as_deref(), place.text("c").as_deref()), (Some("1"), Some("2")));
    fails(place.rename("b", "none", RENAME_EXCHANGE), ENOENT);
    fails(place.rename("b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    fails(place.rename("b", "c", 64), EINVAL);
    place.directory("d");
    place.rename("b", "d", RENAME_EXCHANGE).unwrap();
    assert_eq!(place.text("d").as_deref(), Some("1"));
}

fn a_symbolic_link_is_renamed_itself() {
    let place = Place::new();
    place.file("a", "x");
    std::os::unix::fs::symlink("a", place.path("l")).unwrap();
    place.rename("l", "m", 0).unwrap();
    assert_eq!(std::fs::read_link(place.path("m")).unwrap().to_str(), Some("a"));
    assert_eq!(place.text("a").as_deref(), Some("x"));
}

fn other_file_systems_are_exdev() {
    let place = Place::new();
    place.file("a", "x");
    let (from, to) = (sys::c(&place.path("a")), c"/dev/shm/tests-rename");
    let result = sys!(SYS_renameat2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0);
    fails(result, EXDEV);
}

fn many_processes_rename_over_one_name() {
    let place = Place::new();
    let children: Vec<i32> = (0..4)
        .map(|n| {
            crate::child::spawn(|| {
                for _ in 0..50 {
                    place.file(&format!("own{n}"), &n.to_string().repeat(100));
                    place.rename(&format!("own{n}"), "one", 0).unwrap();
                    let text = place.text("one").expect("the name is never gone");
                    assert!(text.len() == 100 && text.bytes().all(|b| b == text.as_bytes()[0]));
                }
            })
        })
        .collect();
    for child in children {
        assert_eq!(crate::child::join(child), 0);
    }
}
