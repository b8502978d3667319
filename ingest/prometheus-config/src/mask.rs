//! Secrets are not shown: a copy of a tree in which `<secret>` stands in their places.

use yaml_tree::{Key, Node, Value};

/// Keys whose value is a secret wherever they stand.
const SECRET_KEYS: [&str; 12] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "secret_key",
    "secret_access_key",
    "application_credential_secret",
    "service_key",
    "token",
    "api_key",
    "sasl_password",
    "client_certificate_key",
];

const HIDDEN: &str = "<secret>";

/// The same without secrets.
pub(crate) fn masked(node: &Node) -> Node {
    within(node, "")
}

fn within(node: &Node, parent: &str) -> Node {
    let value = match &node.value {
        Value::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| (k.clone(), member(k, v, parent))).collect()),
        Value::List(items) => Value::List(items.iter().map(|item| within(item, parent)).collect()),
        Value::Scalar { text, is_plain } => Value::Scalar {
            text: without_password(text),
            is_plain: *is_plain,
        },
    };
    Node {
        line: node.line,
        column: node.column,
        value,
    }
}

fn member(key: &Key, value: &Node, parent: &str) -> Node {
    let name = key.text.as_str();
    let is_secret = SECRET_KEYS.contains(&name) || parent == "tls_config" && name == "key" || name == "secrets";
    if is_secret || parent == "proxy_connect_header" {
        return hidden(value);
    }
    within(value, name)
}

fn hidden(node: &Node) -> Node {
    match &node.value {
        Value::List(items) => Node {
            line: node.line,
            column: node.column,
            value: Value::List(items.iter().map(hidden).collect()),
        },
        _ if node.is_null() => node.clone(),
        _ => Node {
            line: node.line,
            column: node.column,
            ..Node::scalar(HIDDEN)
        },
    }
}

/// A URL keeps its user and loses the password.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((user, password)) => {
            let after = &rest[user.len() + 1 + password.len()..];
            format!("{scheme}://{user}:xxxxx{after}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_tree::parse;

    #[test]
    fn secrets_are_hidden() {
        let text = "basic_auth:\n  username: me\n  password: abc\nproxy_url: http://me:pw@proxy:3128/x\n\
                    http_headers:\n  X-Key:\n    secrets:\n    - one\nother: key\n";
        let shown = masked(&parse(text).unwrap()).to_yaml();
        assert_eq!(
            shown,
            "basic_auth:\n  username: me\n  password: <secret>\nproxy_url: http://me:xxxxx@proxy:3128/x\n\
             http_headers:\n  X-Key:\n    secrets:\n    - <secret>\nother: key\n"
        );
    }
}
