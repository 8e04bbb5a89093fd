//! How much memory is left for this process.

use std::fs;
use std::path::Path;

/// Bytes that can be had before others are hurt: what the machine has, or what the control group may
/// still take, whichever is less. None where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| in_meminfo(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| of_group(&text));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// proc_meminfo(5).
fn in_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Of version 2, whose one line begins with `0::`. What a group's cache of inactive files holds is
/// given back before anybody is killed.
fn of_group(text: &str) -> Option<u64> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = Path::new("/sys/fs/cgroup").join(path);
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    left_in_group(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
}

fn left_in_group(most: &str, current: &str, stat: &str) -> Option<u64> {
    // Without a limit it says `max`.
    let most: u64 = most.trim().parse().ok()?;
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
        assert_eq!(left_in_group("1000\n", "900\n", stat), Some(400));
        assert_eq!(left_in_group("max\n", "900\n", stat), None);
        assert_eq!(left_in_group("100\n", "900\n", ""), Some(0));
    }
}
