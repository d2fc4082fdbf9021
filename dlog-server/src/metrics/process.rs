//! What the process uses, as the kernel tells it under `/proc`; nothing where there is no such folder.

use std::path::Path;

/// Clock ticks a second in `/proc/self/stat`: the same on every Linux whatever the kernel's own timer.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of memory that are resident.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// File descriptors that are open.
pub fn open_fds() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// File descriptors that may be open.
pub fn max_fds() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Processor time used, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    cpu_seconds_of(&stat)
}

/// User and system time are the 14th and 15th field; the second is a name that may hold anything, in parentheses.
fn cpu_seconds_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Bytes left and in all of the file system that holds `dir`.
pub fn disk(dir: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// Lets the process open as many files and connections as its hard limit allows; the usual soft limit of 1,024 is made for
/// programs that use `select`. Returns the limit now in force.
pub fn raise_fd_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the old limit stays: the caller says how much that is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    max_fds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert!(resident_bytes().expect("Linux") > 1 << 20);
        assert!(open_fds().expect("Linux") >= 3);
        assert!(max_fds().is_none_or(|max| max >= 16));
        assert!(cpu_seconds().expect("Linux") >= 0.0);
        let (free, size) = disk(Path::new("/")).expect("a file system");
        assert!(free <= size && size > 0);
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0";
        assert_eq!(cpu_seconds_of(stat), Some(4.0));
        assert_eq!(cpu_seconds_of("12 (cut short"), None);
    }
}
