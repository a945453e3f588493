//! What the operating system says of a process.

use std::fs;
use std::path::{Path, PathBuf};

use super::BenchError;

/// Clock ticks a second in `/proc`: fixed at 100 on Linux, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds a process has used, user and system, its ended children included.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let text = read(&path)?;
    // The name in parentheses may hold spaces; the fields after it do not.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 =
        (11..15).filter_map(|i| fields.get(i)).filter_map(|f| f.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// The most memory a process has had resident, in bytes.
pub(super) fn peak_rss_bytes(pid: u32) -> Result<u64, BenchError> {
    let text = read(&format!("/proc/{pid}/status"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or(0);
    Ok(kib * 1024)
}

/// The bytes of all files below a folder. Files that vanish meanwhile do not count.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    let mut sum = 0;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => sum += data.len(),
                Err(_) => {}
            }
        }
    }
    sum
}

fn read(path: &str) -> Result<String, BenchError> {
    fs::read_to_string(path).map_err(|source| BenchError::Usage { what: path.to_owned(), source })
}
