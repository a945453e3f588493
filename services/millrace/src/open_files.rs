//! How many files the process may open, which bounds its connections: a store that cannot open a file
//! is worse than a client that is turned away.

use millrace_grpc::ServerLimits;

/// The limits of a server of this process: the defaults, with fewer connections where the system lets
/// it open few files.
pub(crate) fn server_limits() -> ServerLimits {
    let limits = ServerLimits::default();
    // Where there is no such file nobody knows, and the defaults hold.
    let told = std::fs::read_to_string("/proc/self/limits").ok();
    let Some(files) = told.as_deref().and_then(open_files) else { return limits };
    let fitting = fitting(limits, files);
    if fitting.connections_max < limits.connections_max {
        tracing::warn!(
            files,
            connections = fitting.connections_max,
            "the process may open few files (ulimit -n): it takes fewer connections"
        );
    }
    fitting
}

/// The soft limit of open files in Linux's `/proc/PID/limits`; `None` for no limit.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Three quarters of the files may be connections, and half of those of one address.
fn fitting(limits: ServerLimits, files: usize) -> ServerLimits {
    let connections_max = limits.connections_max.min((files / 4 * 3).max(1));
    let connections_per_peer_max =
        limits.connections_per_peer_max.min((connections_max / 2).max(1));
    ServerLimits { connections_max, connections_per_peer_max, ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             95000                95000                processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(open_files("Max open files   unlimited   unlimited   files"), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn connections_leave_files_for_the_store() {
        let defaults = ServerLimits::default();
        assert_eq!(fitting(defaults, 20_000), defaults);
        let few = fitting(defaults, 128);
        assert_eq!((few.connections_max, few.connections_per_peer_max), (96, 48));
        let none = fitting(defaults, 0);
        assert_eq!((none.connections_max, none.connections_per_peer_max), (1, 1));
    }
}
