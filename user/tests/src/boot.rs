//! What is there once the machine has booted: the same facts from every place that tells them.

use std::fs::read_to_string;

use crate::child::affinity;
use crate::harness::{Test, on_proxima_only, tests};
use crate::numa::{self, list, meminfo, meminfo_of, nodes, online};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    the_file_systems_are_mounted,
    every_cpu_is_counted_the_same_everywhere,
    every_cpu_runs_a_task,
    the_lists_of_nodes_agree,
    lists_in_sysfs_have_a_size,
    cpus_are_linked_from_their_nodes_and_back,
    the_map_of_cpus_is_the_list_of_cpus,
    memory_tells_how_fast_it_is_from_the_nearest_cpus,
    a_node_is_ten_from_itself_and_farther_from_others,
    the_nodes_memory_adds_up_to_the_machines,
    zoneinfo_adds_up_to_the_nodes,
    buddyinfo_has_free_memory_on_every_node,
    vmstat_has_the_counters_of_placement,
    the_release_is_a_linux_of_six,
    the_command_line_is_there_in_one_line,
    init_is_process_one,
    the_machine_has_been_up_for_a_while,
    the_numa_knobs_are_there,
    the_devices_are_there,
    self_is_the_reader,
    proc_lists_the_processes,
    the_number_of_interrupts_grows_on_some_cpu,
    the_log_never_goes_back_in_time,
    cpuinfo_names_features_in_order_and_keys_where_there_are_keys,
    each_known_fault_of_processors_is_answered,
];

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A number of a file of `key: number` or `key number` lines.
fn number(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().map(str::split_whitespace);
    let found = lines.find_map(|mut words| {
        let word = words.next()?;
        (word.trim_end_matches(':') == key).then(|| words.next())
    });
    found.flatten().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {key}"))
}

fn the_file_systems_are_mounted() {
    let text = read("/proc/self/mounts");
    for (place, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "devtmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
    ] {
        let line = text.lines().find(|line| line.split(' ').nth(1) == Some(place));
        assert_eq!(line.and_then(|line| line.split(' ').nth(2)), Some(kind), "{place}");
    }
}

fn every_cpu_is_counted_the_same_everywhere() {
    let cpus = affinity(0);
    assert_eq!(list(&read("/sys/devices/system/cpu/online")), cpus);
    let info = read("/proc/cpuinfo");
    let processors: Vec<usize> = info
        .lines()
        .filter_map(|line| line.strip_prefix("processor")?.rsplit(' ').next()?.parse().ok())
        .collect();
    assert_eq!(processors, cpus);
    let stat = read("/proc/stat");
    let lines = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    assert_eq!(lines.count(), cpus.len());
    let mut of_nodes: Vec<usize> = online().into_iter().flat_map(numa::cpus_of).collect();
    of_nodes.sort();
    assert_eq!(of_nodes, cpus);
}

fn every_cpu_runs_a_task() {
    for cpu in affinity(0) {
        assert_eq!(crate::child::on_cpu(cpu, crate::child::getcpu).0, cpu);
    }
}

fn the_lists_of_nodes_agree() {
    let directory = "/sys/devices/system/node";
    let mut found: Vec<usize> = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .collect();
    found.sort();
    assert_eq!(found, online());
    assert!(list(&read(&format!("{directory}/possible"))).starts_with(&online()[..1]));
    let with_cpus: Vec<usize> =
        online().into_iter().filter(|node| !numa::cpus_of(*node).is_empty()).collect();
    assert_eq!(list(&read(&format!("{directory}/has_cpu"))), with_cpus);
    let with_memory: Vec<usize> =
        online().into_iter().filter(|node| meminfo(*node, "MemTotal") > 0).collect();
    assert_eq!(nodes(), with_memory);
    assert_eq!(list(&read(&format!("{directory}/has_normal_memory"))).len(), with_memory.len());
}

fn lists_in_sysfs_have_a_size() {
    for name in ["online", "possible", "has_cpu", "has_memory"] {
        let path = format!("/sys/devices/system/node/{name}");
        assert!(std::fs::metadata(&path).unwrap().len() > 0, "{path}");
    }
}

fn cpus_are_linked_from_their_nodes_and_back() {
    for node in online() {
        for cpu in numa::cpus_of(node) {
            let path = format!("/sys/devices/system/node/node{node}/cpu{cpu}");
            let target = std::fs::read_link(&path).unwrap();
            assert!(target.ends_with(format!("cpu{cpu}")), "{path} -> {target:?}");
            let back = format!("/sys/devices/system/cpu/cpu{cpu}/node{node}");
            assert!(std::path::Path::new(&back).exists(), "{back}");
        }
    }
}

/// Names of nodes in a directory of links.
fn linked_nodes(directory: &str) -> Vec<usize> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory}: {e}"));
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut nodes: Vec<usize> =
        names.filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
    nodes.sort();
    nodes
}

/// Where firmware has an HMAT. (A machine without one has none of these directories.)
fn memory_tells_how_fast_it_is_from_the_nearest_cpus() {
    let directory = |node: usize| format!("/sys/devices/system/node/node{node}");
    let there =
        |node: usize, class| std::path::Path::new(&format!("{}/{class}", directory(node))).exists();
    if nodes().iter().all(|&node| !there(node, "access0")) {
        assert!(online().iter().all(|&node| !there(node, "access1")));
        return;
    }
    for class in ["access0", "access1"] {
        for node in nodes() {
            let initiators = format!("{}/{class}/initiators", directory(node));
            let [nearest] = linked_nodes(&initiators)[..] else { panic!("{initiators}") };
            assert!(!numa::cpus_of(nearest).is_empty(), "{initiators}/node{nearest}");
            assert!(numa::cpus_of(node).is_empty() || nearest == node, "{initiators}");
            let link = std::fs::read_link(format!("{initiators}/node{nearest}")).unwrap();
            assert_eq!(link.to_str(), Some(format!("../../../node{nearest}").as_str()));
            let targets = linked_nodes(&format!("{}/{class}/targets", directory(nearest)));
            assert!(targets.contains(&node), "{nearest}: {targets:?}");
            let value = |name: &str| -> u64 {
                let text = read(&format!("{initiators}/{name}"));
                text.strip_suffix('\n').unwrap().parse().unwrap()
            };
            assert!(value("read_latency") > 0 && value("write_latency") > 0, "{initiators}");
            // Memory without CPUs is slower than memory that has some.
            if nearest != node {
                let local = format!("{}/{class}/initiators/read_latency", directory(nearest));
                assert!(value("read_latency") > read(&local).trim().parse().unwrap());
            }
            assert!(value("read_bandwidth") == value("write_bandwidth"), "{initiators}");
        }
    }
}

fn the_map_of_cpus_is_the_list_of_cpus() {
    for node in online() {
        let text = read(&format!("/sys/devices/system/node/node{node}/cpumap"));
        let mut found = Vec::new();
        for (i, word) in text.trim().rsplit(',').enumerate() {
            let bits = u32::from_str_radix(word, 16).unwrap();
            found.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| i * 32 + bit));
        }
        assert_eq!(found, numa::cpus_of(node), "node {node}");
    }
}

fn a_node_is_ten_from_itself_and_farther_from_others() {
    for node in online() {
        let distances = numa::distances(node);
        assert_eq!(distances.len(), online().len());
        for (other, distance) in distances {
            assert_eq!(distance == 10, other == node, "from {node} to {other}: {distance}");
            assert!(distance >= 10);
        }
    }
}

fn the_nodes_memory_adds_up_to_the_machines() {
    let text = read("/proc/meminfo");
    let total: u64 = nodes().into_iter().map(|node| meminfo(node, "MemTotal")).sum();
    assert_eq!(total, number(&text, "MemTotal"));
    for node in nodes() {
        let [all, free, used] = meminfo_of(node, ["MemTotal", "MemFree", "MemUsed"]);
        assert_eq!(used, all - free, "node {node}");
    }
}

fn zoneinfo_adds_up_to_the_nodes() {
    let text = read("/proc/zoneinfo");
    let mut managed = std::collections::BTreeMap::new();
    let mut node = 0usize;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Node ") {
            node = rest.split(',').next().unwrap().parse().unwrap();
        }
        let mut words = line.split_whitespace();
        if words.next() == Some("managed") {
            *managed.entry(node).or_insert(0) += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    for node in nodes() {
        assert_eq!(managed.get(&node).copied(), Some(meminfo(node, "MemTotal") / 4), "node {node}");
    }
}

fn buddyinfo_has_free_memory_on_every_node() {
    let text = read("/proc/buddyinfo");
    for node in nodes() {
        let begin = format!("Node {node}, ");
        let pages: u64 = text
            .lines()
            .filter(|line| line.starts_with(&begin))
            .flat_map(|line| line.split_whitespace().skip(4).enumerate())
            .map(|(order, count)| count.parse::<u64>().unwrap() << order)
            .sum();
        let free = meminfo(node, "MemFree") / 4;
        assert!(
            (pages > 0 || free == 0) && pages <= free + 1024,
            "node {node}: {pages} of {free} pages"
        );
    }
}

fn vmstat_has_the_counters_of_placement() {
    let text = read("/proc/vmstat");
    for key in [
        "nr_free_pages",
        "nr_anon_pages",
        "numa_hit",
        "numa_miss",
        "numa_foreign",
        "numa_interleave",
        "numa_local",
        "numa_other",
        "pgfault",
        "pgmigrate_success",
        "pgmigrate_fail",
    ] {
        number(&text, key);
    }
    assert!(number(&text, "pgfault") > 0 && number(&text, "numa_hit") > 0);
}

fn the_release_is_a_linux_of_six() {
    let release = read("/proc/sys/kernel/osrelease");
    let major: u32 = release.split('.').next().unwrap().parse().unwrap();
    assert!(major >= 6, "{release}");
    assert!(read("/proc/version").starts_with(&format!("Linux version {}", release.trim())));
}

fn the_command_line_is_there_in_one_line() {
    let text = read("/proc/cmdline");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
}

fn init_is_process_one() {
    let stat = read("/proc/1/stat");
    assert!(stat.starts_with("1 (init) "), "{stat}");
    assert_eq!(read("/proc/1/comm"), "init\n");
}

fn the_machine_has_been_up_for_a_while() {
    let text = read("/proc/uptime");
    let up: f64 = text.split(' ').next().unwrap().parse().unwrap();
    assert!(up > 0.0 && up < 1_000_000.0);
    let load = read("/proc/loadavg");
    assert_eq!(load.split_whitespace().count(), 5, "{load}");
}

fn the_numa_knobs_are_there() {
    for path in ["/proc/sys/vm/stat_interval", "/proc/sys/kernel/pid_max"] {
        assert!(read(path).trim().parse::<u64>().is_ok(), "{path}");
    }
    let hugepages = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    assert_eq!(read(hugepages).trim().parse::<u64>(), Ok(0));
}

fn the_devices_are_there() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("console", 5, 1),
        ("ptmx", 5, 2),
    ] {
        let meta = std::fs::metadata(format!("/dev/{name}")).unwrap();
        assert!(meta.file_type().is_char_device(), "{name}");
        let (a, b) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        assert_eq!((a, b), (major, minor), "{name}");
    }
}

fn self_is_the_reader() {
    let link = std::fs::read_link("/proc/self").unwrap();
    assert_eq!(link.to_str(), Some(sys::getpid().to_string().as_str()));
    let stat = read("/proc/self/stat");
    assert!(stat.starts_with(&format!("{} (", sys::getpid())));
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_eq!(fields.len(), 50, "fields after the name");
    let parent = sys!(libc::SYS_getppid).unwrap();
    assert_eq!(fields[1], parent.to_string());
    // Field 39 is the CPU.
    let cpu = *affinity(0).last().unwrap();
    crate::child::pin(cpu);
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_eq!(fields[36], cpu.to_string());
}

fn proc_lists_the_processes() {
    let steps = crate::child::Steps::new();
    let child = crate::child::spawn(|| steps.await_(1));
    let listed = |pid: i32| {
        let mut entries = std::fs::read_dir("/proc").unwrap();
        entries.any(|entry| entry.unwrap().file_name().to_str() == Some(&pid.to_string()))
    };
    assert!(listed(child) && listed(1) && listed(sys::getpid()));
    steps.reach(1);
    assert_eq!(crate::child::join(child), 0);
    assert!(!listed(child));
}

fn the_number_of_interrupts_grows_on_some_cpu() {
    let text = read("/proc/interrupts");
    let columns = text.lines().next().unwrap().split_whitespace().count();
    assert_eq!(columns, affinity(0).len());
}

fn the_log_never_goes_back_in_time() {
    on_proxima_only("Linux's does, once, as its clock becomes a better one");
    let fd = sys::open("/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK, 0).unwrap();
    let (mut record, mut times) = ([0u8; 8192], Vec::<u64>::new());
    while let Ok(length) = sys::read(fd, &mut record) {
        let text = String::from_utf8_lossy(&record[..length]).into_owned();
        times.push(text.split(',').nth(2).unwrap().parse().unwrap());
    }
    assert!(times.len() > 2);
    assert!(times.is_sorted(), "{times:?}");
    // What was said before the clock could be read is of the time 0.
    assert_eq!(times[0], 0);
}

/// The words of a line of the first CPU.
fn cpuinfo(key: &str) -> Vec<String> {
    let text = read("/proc/cpuinfo");
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, words) = lines.find(|(name, _)| name.trim() == key).unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

fn cpuinfo_names_features_in_order_and_keys_where_there_are_keys() {
    let flags = cpuinfo("flags");
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let order = [
        "fpu",
        "lm",
        "constant_tsc",
        "rep_good",
        "nopl",
        "xtopology",
        "cpuid",
        "extd_apicid",
        "pni",
        "hypervisor",
        "lahf_lm",
        "3dnowprefetch",
        "vmmcall",
        "fsgsbase",
        "xsaveopt",
        "umip",
    ];
    let places: Vec<_> =
        order.iter().filter_map(|name| flags.iter().position(|flag| flag == name)).collect();
    assert!(places.is_sorted(), "{flags:?}");
    assert!(has("nopl") && has("cpuid"));
    let amd = cpuinfo("vendor_id") == ["AuthenticAMD"];
    for name in ["vmmcall", "3dnowprefetch"] {
        assert!(!amd || has(name), "{name}");
    }
    let family: u32 = cpuinfo("cpu family")[0].parse().unwrap();
    assert_eq!(has("extd_apicid"), amd && family >= 15);
    // Keys of memory protection are shown where they can be had.
    let keys = sys!(libc::SYS_pkey_alloc, 0, 0).is_ok();
    assert_eq!((has("pku"), has("ospke")), (keys, keys));
}

fn each_known_fault_of_processors_is_answered() {
    let answer = |name: &str| read(&format!("/sys/devices/system/cpu/vulnerabilities/{name}"));
    let bugs = cpuinfo("bugs");
    for (file, bug) in [
        ("gather_data_sampling", "gds"),
        ("indirect_target_selection", "its"),
        ("itlb_multihit", "itlb_multihit"),
        ("l1tf", "l1tf"),
        ("mds", "mds"),
        ("meltdown", "cpu_meltdown"),
        ("mmio_stale_data", "mmio_stale_data"),
        ("reg_file_data_sampling", "rfds"),
        ("retbleed", "retbleed"),
        ("spec_rstack_overflow", "srso"),
        ("spec_store_bypass", "spec_store_bypass"),
        ("spectre_v1", "spectre_v1"),
        ("spectre_v2", "spectre_v2"),
        ("srbds", "srbds"),
        ("tsa", "tsa"),
        ("tsx_async_abort", "taa"),
        ("vmscape", "vmscape"),
    ] {
        let text = answer(file);
        let known = ["Not affected\n", "Vulnerable", "Mitigation: ", "Unknown: "];
        assert!(known.iter().any(|start| text.starts_with(start)), "{file}: {text}");
        assert_eq!(text == "Not affected\n", !bugs.iter().any(|word| word == bug), "{file}");
    }
    // Nothing is done about what every processor has that runs ahead.
    for file in ["spectre_v1", "spectre_v2"] {
        assert!(answer(file).starts_with("Vulnerable"), "{}", answer(file));
    }
}
