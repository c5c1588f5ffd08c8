//! How much memory there is: the machine's, the control group's, the process's own limit.

/// A limit on the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// What has or allows that many, as the words before the number in a message.
    pub of: &'static str,
}

/// The lowest limit that is below `bytes`.
#[cold]
pub fn exceeded(bytes: u64) -> Option<Limit> {
    let limits = [
        (physical(), "this machine has"),
        (control_group(), "this process's control group allows"),
        (address_space(), "this process may use (RLIMIT_AS)"),
    ];
    let known = limits.into_iter().filter_map(|(bytes, of)| Some(Limit { bytes: bytes?, of }));
    known.filter(|limit| limit.bytes < bytes).min_by_key(|limit| limit.bytes)
}

#[cfg(unix)]
fn physical() -> Option<u64> {
    // SAFETY: it has no conditions.
    let of = |name| u64::try_from(unsafe { libc::sysconf(name) }).ok();
    of(libc::_SC_PHYS_PAGES)?.checked_mul(of(libc::_SC_PAGESIZE)?)
}

#[cfg(unix)]
fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes one `rlimit`.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

// Other systems do not overcommit: what they do not have, they refuse.
#[cfg(not(unix))]
fn physical() -> Option<u64> {
    None
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

/// The lowest limit of the control groups that the process is in.
fn control_group() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(limit_of_group).min()
}

/// The limit of a line of `/proc/self/cgroup`: `id:controllers:path`. A group above may have a lower
/// limit than the one below it.
fn limit_of_group(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let above = std::path::Path::new(path.trim_start_matches('/')).ancestors();
    let limits = above.filter_map(|group| {
        let text = std::fs::read_to_string(std::path::Path::new(root).join(group).join(file));
        // "max" where there is none.
        text.ok()?.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::{exceeded, limit_of_group, physical};

    #[test]
    fn the_machine_has_memory() {
        assert!(exceeded(1 << 20).is_none());
        assert!(exceeded(u64::MAX).is_some() || !cfg!(unix));
        assert!(physical().is_none_or(|bytes| bytes > 1 << 26));
    }

    #[test]
    fn lines_that_are_none_have_no_limit() {
        for line in ["", "0", "0:", "1:cpu:/a", "2:name=systemd:/", "0::/no/such/group/here\0"] {
            let _ = limit_of_group(line);
        }
        assert_eq!(limit_of_group("1:cpu:/"), None);
    }
}
