//! The memory that is available to this process.

use std::fs;
use std::path::Path;

/// The available memory in bytes: that of the machine or of the control groups, whichever is less.
/// `None` if the system does not report it.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| in_meminfo(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| of_groups(Path::new("/sys/fs/cgroup"), &text));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// Finds `MemAvailable` in `/proc/meminfo`, in bytes (proc_meminfo(5)).
fn in_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The memory that is left in the control groups of the process, for version 2 (the line `0::`).
/// The limit of a group, such as a container or a systemd slice, also applies to all groups in it.
fn of_groups(root: &Path, text: &str) -> Option<u64> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = root.join(path);
    let groups = directory.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(of_group).min()
}

/// The bytes that a group may still allocate before its processes are throttled (`memory.high`) or
/// killed (`memory.max`).
fn of_group(directory: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let limits = ["memory.max", "memory.high"].into_iter().filter_map(read);
    left_in_group(limits, &read("memory.current")?, &read("memory.stat")?)
}

/// The bytes that are left below the lowest of the limits. Inactive file cache does not count as
/// used, because the kernel frees it first.
fn left_in_group(
    limits: impl IntoIterator<Item = String>,
    current: &str,
    stat: &str,
) -> Option<u64> {
    // Without a limit, the file contains `max`.
    let most: u64 = limits.into_iter().filter_map(|limit| limit.trim().parse().ok()).min()?;
    let current: u64 = current.trim().parse().ok()?;
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let files: u64 = files.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    Some(most.saturating_sub(current.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_read() {
        assert_eq!(in_meminfo("MemTotal: 9 kB\nMemAvailable:    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(in_meminfo("MemTotal: 9 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn what_a_group_may_still_take_is_read() {
        let stat = "anon 5\ninactive_file 300\nactive_file 9\n";
        let left = |limits: &[&str], current: &str, stat: &str| {
            left_in_group(limits.iter().map(|limit| (*limit).to_owned()), current, stat)
        };
        assert_eq!(left(&["1000\n"], "900\n", stat), Some(400));
        assert_eq!(left(&["1000\n", "950\n"], "900\n", stat), Some(350));
        assert_eq!(left(&["max\n", "950\n"], "900\n", stat), Some(350));
        assert_eq!(left(&["max\n", "max\n"], "900\n", stat), None);
        assert_eq!(left(&[], "900\n", stat), None);
        assert_eq!(left(&["100\n"], "900\n", ""), Some(0));
    }

    #[test]
    fn every_group_above_has_its_say() {
        let root = tempfile::TempDir::new().unwrap();
        let group = |path: &str, max: &str, high: &str, current: u64| {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            let stat = "inactive_file 0\n".to_owned();
            let files = [
                ("memory.max", format!("{max}\n")),
                ("memory.high", format!("{high}\n")),
                ("memory.current", format!("{current}\n")),
                ("memory.stat", stat),
            ];
            for (name, text) in files {
                fs::write(directory.join(name), text).unwrap();
            }
        };
        let left = |path: &str| of_groups(root.path(), &format!("0::{path}\n"));
        // On a machine the root group has no `memory` files; in a container it has those of the
        // container.
        group("a.slice/b.service", "max", "max", 100);
        group("a.slice", "max", "max", 100);
        assert_eq!(left("/a.slice/b.service"), None);
        group("a.slice", "1000", "max", 400);
        assert_eq!(left("/a.slice/b.service"), Some(600));
        group("a.slice/b.service", "500", "450", 100);
        assert_eq!(left("/a.slice/b.service"), Some(350));
        group("", "5000", "max", 4_900);
        assert_eq!(left("/a.slice/b.service"), Some(100));
        assert_eq!(left("/"), Some(100));
        // Control groups of version 1 are ignored.
        assert_eq!(of_groups(root.path(), "5:memory:/a.slice\n"), None);
    }
}
