//! Which controllers a group may give on, threaded groups, and where processes may go.

use libc::{EBUSY, EINVAL, ENOENT, EOPNOTSUPP, ESRCH};

use super::Group;
use crate::child::{Steps, join, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails};

pub const TESTS: &[Test] = tests![
    controllers_are_given_on_from_the_top,
    words_of_subtree_control,
    ids_of_processes_are_checked,
    a_threaded_group_takes_threads_of_its_domain,
    a_group_below_a_thread_root_is_invalid_until_it_is_threaded,
    inner_groups_take_processes_beside_threaded_controllers,
];

fn controllers_are_given_on_from_the_top() {
    let group = Group::new("giving");
    let child = group.child("child");
    fails(child.write("cgroup.subtree_control", "+cpuset"), ENOENT);
    group.write("cgroup.subtree_control", "+cpuset +pids").unwrap();
    assert_eq!(group.read("cgroup.subtree_control"), "cpuset pids");
    assert_eq!(child.read("cgroup.controllers"), "cpuset pids");
    let grandchild = child.child("grandchild");
    child.write("cgroup.subtree_control", "+cpuset").unwrap();
    assert_eq!(grandchild.read("cgroup.controllers"), "cpuset");
    fails(group.write("cgroup.subtree_control", "-cpuset"), EBUSY);
    fails(group.write("cgroup.subtree_control", "-pids -cpuset"), EBUSY);
    assert_eq!(group.read("cgroup.subtree_control"), "cpuset pids");
    group.write("cgroup.subtree_control", "-pids").unwrap();
    child.write("cgroup.subtree_control", "-cpuset").unwrap();
    group.write("cgroup.subtree_control", "-cpuset").unwrap();
    assert_eq!(group.read("cgroup.subtree_control"), "");
}

fn words_of_subtree_control() {
    let group = Group::new("words");
    for text in ["cpuset", "+", "+none", "+cpuset,+pids", "*cpuset", "+cpuset x", "+Cpuset"] {
        fails(group.write("cgroup.subtree_control", text), EINVAL);
    }
    for (text, then) in [
        ("+cpuset", "cpuset"),
        ("+cpuset", "cpuset"),
        ("  +pids   -cpuset \n", "pids"),
        ("-cpuset", "pids"),
        ("+cpuset -cpuset", "pids"),
        ("-pids +pids", "pids"),
        ("-pids +cpuset", "cpuset"),
        ("\n", "cpuset"),
        ("-cpuset", ""),
    ] {
        group.write("cgroup.subtree_control", text).unwrap();
        assert_eq!(group.read("cgroup.subtree_control"), then, "{text:?}");
    }
}

fn ids_of_processes_are_checked() {
    let group = Group::new("ids");
    for (text, errno) in [
        ("x", EINVAL),
        ("-1", EINVAL),
        ("1.5", EINVAL),
        ("1073741808", ESRCH),
        ("99999999999", EINVAL),
        ("\n", EINVAL),
    ] {
        fails(group.write("cgroup.procs", text), errno);
        fails(group.write("cgroup.threads", text), errno);
    }
    // A zombie is nobody who could move.
    let pid = spawn(|| ());
    while crate::child::state_of(pid) != Some('Z') {
        std::thread::yield_now();
    }
    group.write("cgroup.procs", &pid.to_string()).unwrap();
    assert_eq!(super::group_of(pid), "/");
    assert!(!group.is_populated());
    join(pid);
}

fn a_threaded_group_takes_threads_of_its_domain() {
    let group = Group::new("threads");
    let child = group.child("child");
    fails(child.write("cgroup.type", "domain"), EINVAL);
    fails(child.write("cgroup.type", "thread"), EINVAL);
    child.write("cgroup.type", "threaded\n").unwrap();
    child.write("cgroup.type", "threaded").unwrap();
    assert_eq!(child.read("cgroup.type"), "threaded");
    assert_eq!(group.read("cgroup.type"), "domain threaded");
    fails(super::read(&child.path("cgroup.procs")), EOPNOTSUPP);
    let steps = Steps::new();
    let pid = spawn(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                steps.reach(sys::gettid() as u32);
                steps.await_(u32::MAX);
            });
        });
    });
    while steps.now() == 0 {
        std::thread::yield_now();
    }
    let tid = steps.now() as i32;
    // Not from outside of the domain.
    fails(child.write("cgroup.threads", &tid.to_string()), EOPNOTSUPP);
    group.take(pid);
    child.write("cgroup.threads", &tid.to_string()).unwrap();
    assert_eq!(child.read("cgroup.threads"), tid.to_string());
    assert_eq!(group.read("cgroup.threads"), pid.to_string());
    assert_eq!(group.read("cgroup.procs"), pid.to_string());
    assert_eq!(super::group_of(pid), group.name());
    let text = super::read(&format!("/proc/{pid}/task/{tid}/cgroup")).unwrap();
    assert!(text.ends_with(child.name()), "{text}");
    assert!(child.is_populated() && group.is_populated());
    fails(child.write("cgroup.kill", "1"), EOPNOTSUPP);
    // A process comes with all its threads.
    child.take(pid);
    let both = child.read("cgroup.threads");
    assert!(both == format!("{pid}\n{tid}") || both == format!("{tid}\n{pid}"), "{both}");
    assert_eq!(group.read("cgroup.procs"), pid.to_string());
    group.write("cgroup.kill", "1").unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
    assert!(!group.is_populated());
}

fn a_group_below_a_thread_root_is_invalid_until_it_is_threaded() {
    let group = Group::new("invalid");
    let threaded = group.child("threaded");
    let other = group.child("other");
    threaded.write("cgroup.type", "threaded").unwrap();
    assert_eq!(other.read("cgroup.type"), "domain invalid");
    let below = threaded.child("below");
    assert_eq!(below.read("cgroup.type"), "domain invalid");
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    fails(other.write("cgroup.procs", &pid.to_string()), EOPNOTSUPP);
    fails(below.write("cgroup.procs", &pid.to_string()), EOPNOTSUPP);
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    fails(other.write("cgroup.subtree_control", "+cpuset"), EOPNOTSUPP);
    threaded.write("cgroup.subtree_control", "+cpuset").unwrap();
    other.write("cgroup.type", "threaded").unwrap();
    group.take(pid);
    other.take(pid);
    let late = group.child("late");
    assert_eq!(late.read("cgroup.type"), "domain invalid");
    fails(group.write("cgroup.type", "threaded"), EOPNOTSUPP);
    steps.reach(1);
    join(pid);
    threaded.write("cgroup.subtree_control", "-cpuset").unwrap();
    below.rmdir().unwrap();
    threaded.rmdir().unwrap();
    other.rmdir().unwrap();
    assert_eq!(late.read("cgroup.type"), "domain");
}

fn inner_groups_take_processes_beside_threaded_controllers() {
    let group = Group::new("inner");
    let child = group.child("child");
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    let steps = Steps::new();
    let (first, second) = (spawn(|| steps.await_(1)), spawn(|| steps.await_(1)));
    // As yet it can become a thread root.
    group.take(first);
    assert_eq!(group.read("cgroup.type"), "domain threaded");
    assert_eq!(child.read("cgroup.type"), "domain invalid");
    fails(child.write("cgroup.procs", &second.to_string()), EOPNOTSUPP);
    super::write(&format!("{}/cgroup.procs", super::TOP), &first.to_string()).unwrap();
    assert_eq!(group.read("cgroup.type"), "domain");
    child.take(second);
    fails(group.write("cgroup.procs", &first.to_string()), EBUSY);
    group.write("cgroup.subtree_control", "-cpuset").unwrap();
    group.take(first);
    fails(group.write("cgroup.subtree_control", "+cpuset"), EBUSY);
    steps.reach(1);
    join(first);
    join(second);
}
