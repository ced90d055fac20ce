//! What the system says about itself and about a process.

use std::fs;
use std::process::Command;

use crate::error::BenchError;
use tidegate_e2e::harness::envoy_binary;

/// Clock ticks a second in /proc; fixed at 100 in Linux's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds (user and system) that a process has used so far.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(BenchError::doing(format!("reading {path}")))?;
    let ticks =
        parse_ticks(&text).ok_or_else(|| BenchError::new(format!("{path} is not as documented: {text}")))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Fields 14 and 15 (utime, stime). The name in field 2 may hold spaces and brackets.
fn parse_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process, in MiB.
pub(crate) fn rss_mib(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(BenchError::doing(format!("reading {path}")))?;
    let kib = parse_rss_kib(&text)
        .ok_or_else(|| BenchError::new(format!("{path} has no VmRSS: has the process ended?")))?;
    Ok(kib as f64 / 1024.0)
}

fn parse_rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// One line: CPU, cores, kernel, Envoy.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpu}, {cores} cores, Linux {}, Envoy {}", kernel.trim(), envoy_version())
}

fn envoy_version() -> String {
    let output = envoy_binary().ok().and_then(|path| Command::new(path).arg("--version").output().ok());
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    // "envoy  version: <commit>/<version>/Clean/RELEASE/BoringSSL"
    let mut parts = text
        .split('/')
        .skip_while(|part| !part.starts_with(|c: char| c.is_ascii_digit()) || !part.contains('.'));
    parts.next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_documented() {
        let stat = "17 (a) b) S 1 2 3 0 -1 4194304 100 0 1 0 7 5 0 0 20 0 1 0 202195";
        assert_eq!(parse_ticks(stat), Some(12));
        assert_eq!(parse_ticks("17"), None);
        assert_eq!(parse_rss_kib("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2048));
        assert!(rss_mib(std::process::id()).unwrap() > 0.0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
