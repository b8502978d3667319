//! `dns_sd_configs`: targets by name.

use prometheus_config::{DnsDiscovery, DnsRecord, TargetGroup};

use super::super::http::{Network, Record};

/// Asks for all names; a name that is not there has no targets.
pub(super) async fn refresh(config: &DnsDiscovery, network: &Network) -> Result<Vec<TargetGroup>, String> {
    let mut groups = Vec::new();
    for name in &config.names {
        let found = network.resolver.lookup(name, config.record).await;
        let found = found.map_err(|why| format!("could not resolve {name:?}: {why}"))?;
        groups.push(TargetGroup {
            targets: found.iter().map(|record| target(name, config, record)).collect(),
            labels: Vec::new(),
        });
    }
    Ok(groups)
}

fn target(name: &str, config: &DnsDiscovery, record: &Record) -> Vec<(String, String)> {
    let (mut srv_target, mut srv_port, mut mx, mut ns) = (String::new(), String::new(), String::new(), String::new());
    let address = match record {
        Record::Address(ip) if ip.is_ipv6() => format!("[{ip}]:{}", config.port),
        Record::Address(ip) => format!("{ip}:{}", config.port),
        Record::Service { target, port } => {
            srv_target.clone_from(target);
            srv_port = port.to_string();
            format!("{}:{port}", target.trim_end_matches('.'))
        }
        Record::Host(host) => {
            let label = if config.record == DnsRecord::Mx {
                &mut mx
            } else {
                &mut ns
            };
            label.clone_from(host);
            format!("{}:{}", host.trim_end_matches('.'), config.port)
        }
    };
    [
        ("__address__", address),
        ("__meta_dns_name", name.to_owned()),
        ("__meta_dns_srv_record_target", srv_target),
        ("__meta_dns_srv_record_port", srv_port),
        ("__meta_dns_mx_record_target", mx),
        ("__meta_dns_ns_record_target", ns),
    ]
    .into_iter()
    .map(|(n, v)| (n.to_owned(), v))
    .collect()
}
