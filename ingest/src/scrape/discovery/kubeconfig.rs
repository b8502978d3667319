//! A kubeconfig file: the cluster and the user of its current context become an address and the settings of a client.
//!
//! Read: `server`, `certificate-authority`, `insecure-skip-tls-verify`, `tls-server-name` of the cluster; `token`, `tokenFile`,
//! `username` and `password`, `client-certificate` and `client-key` of the user; files and the `*-data` forms. Users that a
//! program logs in (`exec`, `auth-provider`) are refused, as we run none.

use std::path::Path;

use base64::Engine;
use prometheus_config::{Auth, HttpClientConfig, Node, Secret, Value, parse_yaml};

/// Puts credentials and trust into `client`; gives the server's address. Paths are relative to `dir`.
pub(super) fn read(text: &str, dir: &Path, client: &mut HttpClientConfig) -> Result<String, String> {
    let node = parse_yaml(text).map_err(|e| format!("line {}: {}", e.line, e.what))?;
    let current = scalar(&node, "current-context").ok_or("there is no current-context")?;
    let context = named(&node, "contexts", current, "context")?;
    let cluster = scalar(context, "cluster").ok_or_else(|| format!("context {current:?} names no cluster"))?;
    let cluster = named(&node, "clusters", cluster, "cluster")?;
    let server = scalar(cluster, "server").ok_or("the cluster has no server")?;
    let secret = |of: &Node, name: &str| secret(of, name, dir);

    client.tls.ca = secret(cluster, "certificate-authority")?;
    client.tls.insecure_skip_verify = scalar(cluster, "insecure-skip-tls-verify") == Some("true");
    client.tls.server_name = scalar(cluster, "tls-server-name").map(str::to_owned);
    let Some(user) = scalar(context, "user") else {
        return Ok(server.to_owned());
    };
    let user = named(&node, "users", user, "user")?;
    for refused in ["exec", "auth-provider"] {
        if user.get(refused).is_some() {
            return Err(format!(
                "the user logs in by {refused}, which runs a program; give the user a token or a certificate"
            ));
        }
    }
    client.tls.cert = secret(user, "client-certificate")?;
    client.tls.key = secret(user, "client-key")?;
    let token = match (scalar(user, "tokenFile"), scalar(user, "token")) {
        (Some(file), _) => Some(Secret::File(dir.join(file))),
        (None, token) => token.map(|text| Secret::Text(text.to_owned())),
    };
    if let Some(credentials) = token {
        let scheme = "Bearer".to_owned();
        client.auth = Auth::Header { scheme, credentials };
    } else if let (Some(username), Some(password)) = (scalar(user, "username"), scalar(user, "password")) {
        client.auth = Auth::Basic {
            username: Secret::Text(username.to_owned()),
            password: Secret::Text(password.to_owned()),
        };
    }
    Ok(server.to_owned())
}

/// A scalar that is not empty.
fn scalar<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    match &node.get(name)?.value {
        Value::Scalar { text, .. } if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The `kind` of the list's item that has the name.
fn named<'a>(node: &'a Node, list: &str, name: &str, kind: &str) -> Result<&'a Node, String> {
    let items = match node.get(list).map(|node| &node.value) {
        Some(Value::List(items)) => &items[..],
        _ => &[],
    };
    let item = items.iter().find(|item| scalar(item, "name") == Some(name));
    let found = item.and_then(|item| item.get(kind));
    found.ok_or_else(|| format!("{list} has no {kind} {name:?}"))
}

/// A file by name, or what stands in `<name>-data`.
fn secret(of: &Node, name: &str, dir: &Path) -> Result<Option<Secret>, String> {
    if let Some(data) = scalar(of, &format!("{name}-data")) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| format!("{name}-data is no text in base64"))?;
        return Ok(Some(Secret::Text(text)));
    }
    Ok(scalar(of, name).map(|file| Secret::File(dir.join(file))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: lab
clusters:
- name: kind
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: UEVN, tls-server-name: kube}
- name: bare
  cluster: {server: 'http://b'}
users:
- name: admin
  user: {client-certificate: admin.crt, client-key-data: S0VZ}
- name: robot
  user: {token: abc}
- name: cloud
  user: {exec: {command: aws}}
contexts:
- {name: lab, context: {cluster: kind, user: admin}}
- {name: robots, context: {cluster: bare, user: robot}}
- {name: clouds, context: {cluster: bare, user: cloud}}
- {name: broken, context: {cluster: none, user: cloud}}
";

    fn check(context: &str) -> Result<(String, HttpClientConfig), String> {
        let text = FILE.replace("current-context: lab", &format!("current-context: {context}"));
        let mut client = HttpClientConfig::default();
        read(&text, Path::new("/etc/kube"), &mut client).map(|server| (server, client))
    }

    #[test]
    fn the_current_context_says_where_and_who() {
        let (server, client) = check("lab").unwrap();
        assert_eq!(server, "https://10.0.0.1:6443");
        assert_eq!(client.tls.ca, Some(Secret::Text("PEM".to_owned())));
        assert_eq!(client.tls.server_name.as_deref(), Some("kube"));
        assert_eq!(client.tls.cert, Some(Secret::File("/etc/kube/admin.crt".into())));
        assert_eq!(client.tls.key, Some(Secret::Text("KEY".to_owned())));

        let (server, client) = check("robots").unwrap();
        assert_eq!(server, "http://b");
        let credentials = Secret::Text("abc".to_owned());
        let scheme = "Bearer".to_owned();
        assert_eq!(client.auth, Auth::Header { scheme, credentials });

        for (context, why) in [
            ("clouds", "logs in by exec"),
            ("broken", "clusters has no cluster \"none\""),
            ("absent", "contexts has no context \"absent\""),
        ] {
            let said = check(context).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
