//! Control groups, version 2: the tree of groups and its rules, with no tasks in it.
//!
//! - [`Tree`]: groups with names, limits of depth and number, removal, who is populated. A group is
//!   named by its [`Id`], which is never given again; tasks and open files keep that alone.
//! - [`Controllers`]: which controllers there are, and the text of cgroup.subtree_control.
//! - Kinds of groups ([`Kind`]): domains, threaded groups, and where a process may go.
//! - [`Cpuset`]: which CPUs and nodes a group may use, and what is in effect of that.
//! - [`Pids`]: how many tasks a group may have.
//! - [`Freezer`]: who is to stand still, and whether everybody does.
//!
//! Rules and errors are those of Linux 6.12 (Documentation/admin-guide/cgroup-v2.rst, and a booted
//! kernel where that says nothing). Nothing here recurses: a tree is as deep as users make it. What
//! is to follow from a change (tasks moved, pages migrated) is the kernel's business; so are locks.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod controllers;
mod cpuset;
mod freezer;
mod kind;
mod pids;
mod population;
mod tree;

pub use controllers::{Change, Controller, Controllers};
pub use cpuset::{Cpuset, Which};
pub use freezer::Freezer;
pub use kind::Kind;
pub use pids::Pids;
pub use tree::{Group, Id, ROOT, Tree, Watched};
