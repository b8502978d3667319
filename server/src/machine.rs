//! What the machine and the process are: memory there is, memory and CPU used. Linux reads `/proc` and the cgroup.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::settings::Share;

/// What `/proc/self/stat` counts CPU time in: Linux shows every architecture 100 ticks a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory and CPU of this process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessFigures {
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Virtual bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
}

/// Bytes of memory that a limit means on this machine.
pub fn memory_limit(share: Share) -> u64 {
    match share {
        Share::Bytes(b) => b,
        Share::Percent(p) => (memory_total() as f64 * p / 100.0) as u64,
    }
}

/// The machine's name; empty where the system does not say.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Memory of the cgroup, or of the machine if that is less.
fn memory_total() -> u64 {
    let cgroup = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
    .min()
    .unwrap_or(u64::MAX);
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| kib_after(&text, "MemTotal:"));
    let machine = machine.map_or(2 << 30, |kib| kib * 1024);
    cgroup.min(machine)
}

/// What this process uses now; zeros where the system does not say.
pub fn process() -> ProcessFigures {
    let mut figures = ProcessFigures::default();
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        // The second field is the name in parentheses and may hold blanks.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        figures.cpu_seconds = (number(11) + number(12)) as f64 / TICKS_PER_SECOND;
        figures.threads = number(17);
        figures.virtual_bytes = number(20);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        figures.resident_bytes = kib_after(&status, "VmRSS:").unwrap_or(0) * 1024;
    }
    figures.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64);
    figures
}

fn kib_after(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find(|l| l.starts_with(key))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Datagrams that the kernel dropped at a bound UDP socket, because they were not read in time; `None` where it does not say.
pub fn udp_drops(addr: SocketAddr) -> Option<u64> {
    let table = match addr {
        SocketAddr::V4(_) => "/proc/net/udp",
        SocketAddr::V6(_) => "/proc/net/udp6",
    };
    drops_of(&fs::read_to_string(table).ok()?, addr)
}

/// The last column of the socket's line.
fn drops_of(table: &str, addr: SocketAddr) -> Option<u64> {
    // The kernel prints an address word by word, each in the machine's byte order.
    let words = |octets: &[u8]| -> String {
        let word = |w: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*w));
        octets.as_chunks::<4>().0.iter().map(word).collect()
    };
    let ip = match addr.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    let wanted = format!("{ip}:{:04X}", addr.port());
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|columns| columns.get(1) == Some(&wanted.as_str()))?;
    line.last()?.parse().ok()
}

/// Nanoseconds since the epoch, by the system's clock.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos().min(i64::MAX as u128) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn dropped_datagrams_are_in_the_last_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
             29: 0100007F:1AAF 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 24 2 0000000000000000 0\n \
             30: 00000000:1AAF 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 25 2 0000000000000000 17\n";
        let drops = |addr: &str| drops_of(table, addr.parse().expect("an address"));
        assert_eq!(drops("127.0.0.1:6831"), Some(0));
        assert_eq!(drops("0.0.0.0:6831"), Some(17));
        assert_eq!(drops("127.0.0.1:6832"), None);
        let six = " 1: 00000000000000000000000001000000:1AB0 0:0 07 0:0 00:0 0 0 0 1 2 0 5\n";
        assert_eq!(drops_of(six, "[::1]:6832".parse().expect("an address")), Some(5));
    }
}
