//! What the kernel says of a process: CPU time and resident memory, from `/proc`.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Failure;

/// Ticks of a second in `/proc/<pid>/stat`: 100 on every Linux that user space sees (proc_pid_stat(5), USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, in user and kernel mode, that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets, which may hold spaces and brackets itself.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<f64>().ok()).ok_or("no times in stat");
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

/// Resident memory of a process, KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// Raises this process's limit of open files, which a spawned server inherits, as far as it goes.
pub(crate) fn raise_file_limit() -> Result<u64, Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 100);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
    }
}
