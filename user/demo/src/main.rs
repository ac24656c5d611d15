//! Shows where pages are: `demo pages` allocates and prints the node of every page, `demo migrate`
//! has its pages moved to another node while its threads go on writing to them.
//!
//! It uses nothing but Linux's interfaces and runs on any kernel that has them; the policy comes from
//! outside, as `numactl --interleave=all demo pages` gives it.

mod sys;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use sys::{PAGE, Region};

/// 64 pages a row, 256 pages = 1 MiB.
const ROW: usize = 64;
const SHOWN: usize = 256;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["pages"] => pages(),
        ["migrate", from, to] => migrate(from, to),
        _ => Err("usage: demo pages | demo migrate FROM TO".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pages() -> Result<(), String> {
    let region = Region::map(SHOWN)?;
    region.touch();
    for row in region.nodes()?.chunks(ROW) {
        println!("  {}", row.iter().map(|node| digit(*node)).collect::<String>());
    }
    Ok(())
}

/// Nodes 0 to 9 and then letters; `!` for a page that is nowhere.
fn digit(node: i32) -> char {
    u32::try_from(node).ok().and_then(|node| char::from_digit(node, 36)).unwrap_or('!')
}

fn migrate(from: &str, to: &str) -> Result<(), String> {
    // 16 MiB: long enough to be seen, short enough to wait for.
    let region = Arc::new(Region::map(16 * SHOWN)?);
    region.touch();
    println!("  before: {}", census(&region.nodes()?));
    let stop = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..2)
        .map(|first| {
            let (region, stop, writes) = (region.clone(), stop.clone(), writes.clone());
            thread::spawn(move || {
                let mut page = first;
                while !stop.load(Ordering::Relaxed) {
                    region.word(page % region.pages()).fetch_add(1, Ordering::Relaxed);
                    writes.fetch_add(1, Ordering::Relaxed);
                    page += 2;
                }
            })
        })
        .collect();
    let written_before = writes.load(Ordering::Relaxed);
    let start = Instant::now();
    let own = std::process::id().to_string();
    let status = Command::new("migratepages").args([&own, from, to]).status();
    let spent = start.elapsed();
    let during = writes.load(Ordering::Relaxed) - written_before;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().map_err(|_| "a writer died")?;
    }
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("migratepages: {status}")),
        Err(error) => return Err(format!("migratepages: {error}")),
    }
    println!("  after:  {}", census(&region.nodes()?));
    println!("  {} ms, {during} writes by other threads meanwhile", spent.as_millis());
    let counted: u64 =
        (0..region.pages()).map(|page| region.word(page).load(Ordering::Relaxed)).sum();
    let written = writes.load(Ordering::Relaxed) + region.pages() as u64;
    if counted != written {
        return Err(format!("{written} writes were made, {counted} are in memory"));
    }
    println!("  no write was lost");
    Ok(())
}

/// `4096 pages on node 0`, for every node that has any.
fn census(nodes: &[i32]) -> String {
    let mut list = nodes.to_vec();
    list.sort_unstable();
    list.chunk_by(|a, b| a == b)
        .map(|run| format!("{} pages on node {}", run.len(), run[0]))
        .collect::<Vec<_>>()
        .join(", ")
}

const _: () = assert!(PAGE == 4096);
