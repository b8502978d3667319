//! `ip("...")`: one address, a CIDR block, or a range `a-b`, in both families.

use std::net::IpAddr;

use crate::units::quote;

/// A set of addresses of one family: all between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IpSet {
    first: IpAddr,
    last: IpAddr,
}

impl IpSet {
    /// Parses the argument of `ip(...)`.
    pub fn parse(pattern: &str) -> Result<IpSet, String> {
        let invalid = || format!("ip: invalid pattern: {}", quote(pattern));
        if let Some((first, last)) = pattern.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| invalid())?;
            let last: IpAddr = last.trim().parse().map_err(|_| invalid())?;
            return match first.is_ipv4() == last.is_ipv4() && first <= last {
                true => Ok(IpSet { first, last }),
                false => Err(invalid()),
            };
        }
        let Some((base, bits)) = pattern.split_once('/') else {
            let only: IpAddr = pattern.parse().map_err(|_| invalid())?;
            return Ok(IpSet {
                first: only,
                last: only,
            });
        };
        let bits: u32 = bits.parse().map_err(|_| invalid())?;
        match base.parse().map_err(|_| invalid())? {
            IpAddr::V4(v4) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let base = u32::from(v4);
                Ok(IpSet {
                    first: IpAddr::V4((base & !host).into()),
                    last: IpAddr::V4((base | host).into()),
                })
            }
            IpAddr::V6(v6) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let base = u128::from(v6);
                Ok(IpSet {
                    first: IpAddr::V6((base & !host).into()),
                    last: IpAddr::V6((base | host).into()),
                })
            }
            _ => Err(invalid()),
        }
    }

    /// Whether the text is an address of the set.
    pub fn contains_text(&self, text: &str) -> bool {
        text.parse().is_ok_and(|ip| self.contains(ip))
    }

    /// Whether any address in the line is of the set.
    pub fn found_in(&self, line: &str) -> bool {
        let v4 = self.first.is_ipv4();
        let part = |c: char| {
            c == '.'
                || if v4 {
                    c.is_ascii_digit()
                } else {
                    c.is_ascii_hexdigit() || c == ':'
                }
        };
        line.split(|c| !part(c)).any(|run| {
            let run = run.trim_matches('.');
            !run.is_empty()
                && run.len() <= 45
                && (self.contains_text(run) || self.contains_text(run.trim_end_matches(':')))
        })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && self.first <= ip && ip <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_blocks_and_ranges() {
        for (pattern, line, want) in [
            ("192.168.0.1", "vpn 192.168.0.1 connected", true),
            ("192.168.0.1", "vpn 192.168.0.5 connected", false),
            ("192.168.4.5/16", "from 192.168.255.255:80.", true),
            ("192.168.4.5/16", "from 192.172.6.1", false),
            ("10.0.0.1-10.0.0.9", "a 10.0.0.9 b", true),
            ("10.0.0.1-10.0.0.9", "a 10.0.0.10 b", false),
            ("::1", "vpn ::1 connected", true),
            ("2001:db8::/32", "2001:dc8::1 and 2001:db8::2", true),
            ("0.0.0.0/0", "x 1.2.3.4", true),
            ("::/0", "x 1.2.3.4", false),
        ] {
            assert_eq!(IpSet::parse(pattern).unwrap().found_in(line), want, "{pattern} {line}");
        }
        for bad in ["", "bogus", "1.2.3.4/33", "1.2.3.4-::1", "2.0.0.0-1.0.0.0", "1.2.3.4/x"] {
            assert_eq!(IpSet::parse(bad), Err(format!("ip: invalid pattern: {bad:?}")));
        }
    }
}
