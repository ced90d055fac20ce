//! What the system says of this process, read when the page is asked for. Names and meanings are those of the
//! Prometheus client libraries (prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics"), the source is
//! proc(5). Where there is no such file, as on other systems than Linux, the metric is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Clock ticks in a second, as /proc counts them (`USER_HZ`): 100 wherever Linux runs this program.
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of /proc/self/stat after the process's name, which may hold spaces: the third of proc(5) is the first.
const FIRST_FIELD: usize = 3;
const USER_TICKS: usize = 14;
const SYSTEM_TICKS: usize = 15;
const START_TICKS: usize = 22;

/// The numbers of one moment.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    /// Unix time.
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
        Self {
            cpu_seconds: cpu_seconds(&stat),
            start_seconds: start_seconds(&stat, &text("/proc/stat")),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            virtual_bytes: kibibytes(&status, "VmSize:"),
            open_files: open_files(),
            open_files_max: open_files_max(&text("/proc/self/limits")),
        }
    }
}

/// A field of /proc/self/stat by its number in proc(5).
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(FIRST_FIELD)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, USER_TICKS)? + field(stat, SYSTEM_TICKS)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system: &str) -> Option<f64> {
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + field(stat, START_TICKS)? / TICKS_PER_SECOND)
}

/// A line such as `VmRSS:    1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Linux 6.2 and later have the number as the folder's size; before, the entries are counted.
fn open_files() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => fs::read_dir(folder).ok().map(|entries| entries.count() as u64),
        files => Some(files),
    }
}

fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Makes the process's own numbers part of the page.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let process = Process::read();
        if let Some(seconds) = process.cpu_seconds {
            let help = "User and system CPU time of the sidecar, in seconds";
            encoder
                .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        if let Some(seconds) = process.start_seconds {
            let help = "When the sidecar started, in seconds since 1970";
            encoder
                .encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?
                .encode_gauge(&seconds)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the sidecar", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory of the sidecar", process.virtual_bytes),
            ("process_open_fds", "Open file descriptors of the sidecar", process.open_files),
            ("process_max_fds", "Most file descriptors that it may open", process.open_files_max),
        ] {
            let Some(value) = value else { continue };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 4 0 1200 9 9";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_seconds(stat, "cpu 1 2\nbtime 1000\n"), Some(1012.0));
        assert_eq!(kibibytes("VmSize:\t 9 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024    4096    files\n";
        assert_eq!(open_files_max(limits), Some(1024));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(cpu_seconds("17 (a) S 1"), None);
        assert_eq!(start_seconds("", "btime 1\n"), None);
        assert_eq!(kibibytes("VmRSS: much\n", "VmRSS:"), None);
        assert_eq!(open_files_max("Max open files unlimited unlimited files\n"), None);
    }
}
