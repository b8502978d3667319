//! Names to addresses, and what else DNS knows: a small client of our own, for a statically linked binary has none.
//!
//! Names in `/etc/hosts` come first, then the servers of `/etc/resolv.conf` are asked, over UDP and, where an answer was
//! cut short, over TCP. Both files are read for each lookup, as they change under containers.
//!
//!     message   = id u16 · flags u16 · counts of questions, answers, authorities, additionals u16 · ..
//!     question  = name · type u16 · class u16 = 1
//!     record    = name · type u16 · class u16 · ttl u32 · len u16 · data [len]
//!     name      = (len u8 · label)* · 0, or a pointer 0b11 · offset [14 bits] in place of a rest

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_config::DnsRecord;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Longest wait for one answer.
const WAIT: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ATTEMPTS: usize = 2;
/// Largest answer over UDP.
const UDP_BYTES_MAX: usize = 4096;
/// Pointers followed in one name.
const POINTERS_MAX: usize = 32;
/// Records taken from one answer.
const RECORDS_MAX: usize = 10_000;

/// Asks for names.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(Arc<Sources>);

#[derive(Debug)]
struct Sources {
    hosts: PathBuf,
    resolv: PathBuf,
    /// In place of those of the file.
    servers: Option<Vec<SocketAddr>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver(Arc::new(Sources {
            hosts: "/etc/hosts".into(),
            resolv: "/etc/resolv.conf".into(),
            servers: None,
        }))
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(IpAddr),
    Service {
        target: String,
        port: u16,
    },
    /// A mail or name server.
    Host(String),
}

/// Whom to ask, and how names are completed.
#[derive(Debug, PartialEq)]
struct Resolv {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

enum Lookup {
    Found(Vec<Record>),
    /// There is no such name, or it has no such record.
    Nothing,
}

impl Resolver {
    /// Asks these servers and no others.
    #[cfg(test)]
    pub fn at(servers: Vec<SocketAddr>) -> Resolver {
        Resolver(Arc::new(Sources {
            hosts: "/nonexistent".into(),
            resolv: "/nonexistent".into(),
            servers: Some(servers),
        }))
    }

    /// The addresses of a host, those of IPv4 first.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let hosts = tokio::fs::read_to_string(&self.0.hosts).await.unwrap_or_default();
        let mut found = in_hosts(&hosts, host);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if found.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if found.is_empty() {
            let (v4, v6) = tokio::join!(self.lookup(host, DnsRecord::A), self.lookup(host, DnsRecord::Aaaa));
            let both = match (v4, v6) {
                (Err(why), Err(_)) => return Err(why),
                (v4, v6) => v4.unwrap_or_default().into_iter().chain(v6.unwrap_or_default()),
            };
            found = both
                .filter_map(|r| match r {
                    Record::Address(ip) => Some(ip),
                    _ => None,
                })
                .collect();
        }
        if found.is_empty() {
            return Err("no such host".to_owned());
        }
        found.sort_by_key(IpAddr::is_ipv6);
        Ok(found)
    }

    /// The records of a name, completed as `resolv.conf` says. None: there is no such name.
    pub async fn lookup(&self, name: &str, record: DnsRecord) -> Result<Vec<Record>, String> {
        let text = tokio::fs::read_to_string(&self.0.resolv).await.unwrap_or_default();
        let mut resolv = parse_resolv(&text);
        if let Some(servers) = &self.0.servers {
            resolv.servers.clone_from(servers);
        }
        let mut fault = None;
        for name in candidates(name, &resolv) {
            match ask(&name, record, &resolv.servers).await {
                Ok(Lookup::Found(records)) => return Ok(records),
                Ok(Lookup::Nothing) => {}
                Err(why) => fault = Some(why),
            }
        }
        fault.map_or(Ok(Vec::new()), Err)
    }
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or(""));
    let fits = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(host.trim_end_matches('.')))
            .then_some(ip)
    });
    fits.collect()
}

fn parse_resolv(text: &str) -> Resolv {
    let mut resolv = Resolv {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
    };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let ip = words.next().and_then(|w| w.split('%').next()?.parse().ok());
                resolv.servers.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
            }
            Some("search" | "domain") => resolv.search = words.map(str::to_owned).collect(),
            Some("options") => {
                for word in words {
                    if let Some(n) = word.strip_prefix("ndots:").and_then(|n| n.parse().ok()) {
                        resolv.ndots = n;
                    }
                }
            }
            _ => {}
        }
    }
    if resolv.servers.is_empty() {
        resolv.servers = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)];
    }
    resolv
}

/// A name as it is, and with each domain that is searched.
fn candidates(name: &str, resolv: &Resolv) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let whole = format!("{name}.");
    let searched = resolv
        .search
        .iter()
        .map(|domain| format!("{name}.{}.", domain.trim_matches('.')));
    if name.matches('.').count() >= resolv.ndots {
        std::iter::once(whole).chain(searched).collect()
    } else {
        searched.chain([whole]).collect()
    }
}

async fn ask(name: &str, record: DnsRecord, servers: &[SocketAddr]) -> Result<Lookup, String> {
    let id = RandomState::new().hash_one(name) as u16;
    let question = question(id, name, record).ok_or_else(|| format!("{name:?} is no DNS name"))?;
    let mut fault = "no servers".to_owned();
    for _ in 0..ATTEMPTS {
        for server in servers {
            match tokio::time::timeout(WAIT, ask_one(&question, *server)).await {
                Ok(Ok(answer)) => match read_answer(&answer, &question, record) {
                    Ok(lookup) => return Ok(lookup),
                    Err(why) => fault = format!("{why} on {server}"),
                },
                Ok(Err(e)) => fault = format!("{e} on {server}"),
                Err(_) => fault = format!("i/o timeout on {server}"),
            }
        }
    }
    Err(fault)
}

async fn ask_one(question: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    loop {
        let len = socket.recv(&mut answer).await?;
        // An answer to somebody else's question is not ours.
        if len >= 12 && answer[..2] == question[..2] {
            answer.truncate(len);
            break;
        }
    }
    let is_cut = answer[2] & 0x02 != 0;
    if !is_cut {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(question.len()).unwrap_or(0);
    stream.write_all(&[&len.to_be_bytes(), question].concat()).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn number_of(record: DnsRecord) -> u16 {
    match record {
        DnsRecord::A => 1,
        DnsRecord::Ns => 2,
        DnsRecord::Mx => 15,
        DnsRecord::Aaaa => 28,
        DnsRecord::Srv => 33,
    }
}

/// `None`: the name is none.
fn question(id: u16, name: &str, record: DnsRecord) -> Option<Vec<u8>> {
    let mut out = id.to_be_bytes().to_vec();
    // Recursion desired, one question, and one additional record that says how much we take.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    let name = name.trim_end_matches('.');
    if name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
        out.push(len);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend(number_of(record).to_be_bytes());
    out.extend([0, 1]);
    out.extend([0, 0, 41]);
    out.extend((UDP_BYTES_MAX as u16).to_be_bytes());
    out.extend([0; 6]);
    Some(out)
}

fn read_answer(answer: &[u8], question: &[u8], record: DnsRecord) -> Result<Lookup, String> {
    let broken = || "an answer that cannot be read".to_owned();
    let mut at = Place { message: answer, at: 0 };
    let id = at.u16().ok_or_else(broken)?;
    let flags = at.u16().ok_or_else(broken)?;
    if question.len() < 2 || id.to_be_bytes() != question[..2] || flags & 0x8000 == 0 {
        return Err(broken());
    }
    match flags & 0xf {
        0 => {}
        3 => return Ok(Lookup::Nothing),
        2 => return Err("server failure".to_owned()),
        code => return Err(format!("response code {code}")),
    }
    let questions = at.u16().ok_or_else(broken)?;
    let answers = at.u16().ok_or_else(broken)?;
    at.at += 4;
    for _ in 0..questions {
        at.name().ok_or_else(broken)?;
        at.at += 4;
    }
    let mut found = Vec::new();
    for _ in 0..usize::from(answers).min(RECORDS_MAX) {
        found.extend(at.record(record).ok_or_else(broken)?);
    }
    Ok(if found.is_empty() {
        Lookup::Nothing
    } else {
        Lookup::Found(found)
    })
}

/// A place in a message.
struct Place<'a> {
    message: &'a [u8],
    at: usize,
}

impl Place<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.message.get(self.at..self.at.checked_add(N)?)?;
        self.at += N;
        bytes.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut at = self.at;
        let mut end = None;
        let mut pointers = 0;
        loop {
            let len = *self.message.get(at)?;
            at += 1;
            match len {
                0 => break,
                1..=63 => {
                    let label = self.message.get(at..at + usize::from(len))?;
                    out.push_str(&String::from_utf8_lossy(label));
                    out.push('.');
                    at += usize::from(len);
                    if out.len() > 1024 {
                        return None;
                    }
                }
                0xc0.. => {
                    let low = *self.message.get(at)?;
                    end.get_or_insert(at + 1);
                    at = usize::from(len & 0x3f) << 8 | usize::from(low);
                    pointers += 1;
                    if pointers > POINTERS_MAX {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at);
        Some(out)
    }

    /// The next record, if it is one of those asked for. The outer `None`: it cannot be read.
    fn record(&mut self, wanted: DnsRecord) -> Option<Option<Record>> {
        self.name()?;
        let kind = self.u16()?;
        self.at += 6;
        let len = usize::from(self.u16()?);
        let end = self.at.checked_add(len).filter(|end| *end <= self.message.len())?;
        let found = if kind == number_of(wanted) {
            Some(match wanted {
                DnsRecord::A => Record::Address(IpAddr::from(self.array::<4>()?)),
                DnsRecord::Aaaa => Record::Address(IpAddr::from(self.array::<16>()?)),
                DnsRecord::Srv => {
                    self.at += 4;
                    let port = self.u16()?;
                    Record::Service {
                        target: self.name()?,
                        port,
                    }
                }
                DnsRecord::Mx => {
                    self.at += 2;
                    Record::Host(self.name()?)
                }
                DnsRecord::Ns => Record::Host(self.name()?),
            })
        } else {
            None
        };
        self.at = end;
        Some(found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server that answers every question with these records, each type, and data; gives its address.
    pub(crate) async fn serve(records: Vec<(u16, Vec<u8>)>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let question = &buffer[..len];
                let name_len = question[12..].iter().position(|b| *b == 0).unwrap() + 1;
                let asked = u16::from_be_bytes([question[12 + name_len], question[13 + name_len]]);
                let fit: Vec<_> = records.iter().filter(|(kind, _)| *kind == asked).collect();
                let mut answer = question[..2].to_vec();
                answer.extend([0x81, 0x80, 0, 1]);
                answer.extend((fit.len() as u16).to_be_bytes());
                answer.extend([0; 4]);
                answer.extend_from_slice(&question[12..12 + name_len + 4]);
                for (kind, data) in fit {
                    answer.extend([0xc0, 12]);
                    answer.extend(kind.to_be_bytes());
                    answer.extend([0, 1, 0, 0, 0, 60]);
                    answer.extend((data.len() as u16).to_be_bytes());
                    answer.extend_from_slice(data);
                }
                let _ = socket.send_to(&answer, from).await;
            }
        });
        addr
    }

    pub(crate) fn encode_name(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out
    }

    #[tokio::test]
    async fn records_are_asked_for_and_read() {
        let service = [vec![0, 1, 0, 2, 0x23, 0x82], encode_name("a.example")].concat();
        let server = serve(vec![(1, vec![10, 0, 0, 1]), (1, vec![10, 0, 0, 2]), (33, service)]).await;
        let resolver = Resolver::at(vec![server]);
        let addresses = resolver.addresses("x.example").await.unwrap();
        assert_eq!(addresses, [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        let services = resolver.lookup("_x._tcp.example", DnsRecord::Srv).await.unwrap();
        let target = "a.example.".to_owned();
        assert_eq!(services, [Record::Service { target, port: 9090 }]);
        assert_eq!(resolver.lookup("x.example", DnsRecord::Aaaa).await.unwrap(), []);
        assert_eq!(
            resolver.addresses("127.0.0.9").await.unwrap(),
            [IpAddr::from([127, 0, 0, 9])]
        );
        assert_eq!(resolver.addresses("localhost").await.unwrap().len(), 2);
        assert!(resolver.addresses("a..b").await.is_err());
    }

    #[test]
    fn hosts_and_resolv_conf_are_read() {
        let hosts = "127.0.0.1 localhost # me\n10.0.0.5\tdb DB.lan\n::1 localhost\nnonsense\n";
        assert_eq!(in_hosts(hosts, "db.lan"), [IpAddr::from([10, 0, 0, 5])]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        let resolv = parse_resolv("nameserver 127.0.0.11\nsearch lab.local x.org\noptions ndots:0 edns0\n");
        assert_eq!(resolv.servers, ["127.0.0.11:53".parse().unwrap()]);
        assert_eq!(candidates("db", &resolv), ["db.", "db.lab.local.", "db.x.org."]);
        let resolv = Resolv { ndots: 5, ..resolv };
        assert_eq!(candidates("a.b", &resolv), ["a.b.lab.local.", "a.b.x.org.", "a.b."]);
        assert_eq!(candidates("a.b.", &resolv), ["a.b."]);
    }

    proptest! {
        /// Whoever answers on the network, it must not hurt.
        #[test]
        fn any_answer_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), honest in any::<bool>()) {
            if honest && bytes.len() > 12 {
                bytes[..12].copy_from_slice(&[0, 7, 0x81, 0x80, 0, 0, 0, 9, 0, 0, 0, 0]);
            }
            for record in [DnsRecord::A, DnsRecord::Srv, DnsRecord::Mx] {
                let _ = read_answer(&bytes, &[0, 7], record);
            }
        }
    }
}
