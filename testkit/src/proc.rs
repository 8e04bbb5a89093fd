//! Reads information about a process from `/proc/PID` (see proc(5)).

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::Pid;

/// The number of open file descriptors of the process.
///
/// # Panics
/// If the process does not exist.
pub fn open_files(pid: Pid) -> usize {
    fs::read_dir(path(pid, "fd")).unwrap().count()
}

/// CPU time that the process has used, in user mode and in the kernel.
///
/// # Panics
/// If the process does not exist.
pub fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(path(pid, "stat")).unwrap();
    // The second field is the process name in parentheses, which may contain any character. Fields
    // 14 and 15 are utime and stime, in clock ticks.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / clock_ticks_per_second())
}

/// Resident memory of the process, in KiB.
///
/// # Panics
/// If the process does not exist.
pub fn resident_kib(pid: Pid) -> usize {
    let status = fs::read_to_string(path(pid, "status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn path(pid: Pid, file: &str) -> String {
    format!("/proc/{pid}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_files_memory_and_time() {
        let this = rustix::process::getpid();
        assert!(open_files(this) > 2);
        assert!(resident_kib(this) > 100);
        while cpu_time(this).is_zero() {}
    }
}
