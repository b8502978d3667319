//! The service graph: requests from one service to another, paired from a client's and a server's span, as Tempo's
//! generator has them.
//!
//! A client-like span (CLIENT, PRODUCER) opens the *edge* (trace, own span id), a server-like one (SERVER, CONSUMER) the edge
//! (trace, parent span id); whichever comes second completes it. A client that speaks to a database completes its edge at
//! once. An edge that stays open for the wait time expires: a client that names its peer, and a server at the root of its
//! trace, get a *virtual node* as the other side; anything else is unpaired. How many edges are open is bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};
use model::{AttributeValue, Span, SpanKind, StatusCode, TimestampMs, encode_label, hash_labels};

use super::label_source::{Dimension, encode, text};
use super::series_table::{Family, Seen, Shape, Table};
use super::{Text, seen};

/// The families and buckets.
pub(super) static SHAPE: Shape = Shape {
    counters: &[
        Family {
            name: "traces_service_graph_request_total",
            help: "Requests between two services.",
        },
        Family {
            name: "traces_service_graph_request_failed_total",
            help: "Failed requests between two services.",
        },
    ],
    histograms: &[
        Family {
            name: "traces_service_graph_request_server_seconds",
            help: "Duration of requests between two services, as the server saw them.",
        },
        Family {
            name: "traces_service_graph_request_client_seconds",
            help: "Duration of requests between two services, as the client saw them.",
        },
    ],
    bounds: &[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8],
};

/// Who a root server's client is when nothing says.
const USER: &str = "user";
/// Most node names that are shared between edges; more are copied.
const NODES_MAX: usize = 10_000;
/// Places in the queue of expiries that may belong to edges completed since.
const QUEUE_SLACK: usize = 1024;

/// How a span becomes half of an edge.
#[derive(Debug)]
pub(super) struct Sides {
    client: Vec<Dimension>,
    server: Vec<Dimension>,
}

/// One span's half of an edge.
#[derive(Debug)]
pub(super) struct Half {
    key: EdgeKey,
    /// Client-like or server-like.
    client: bool,
    connection: Connection,
    failed: bool,
    seconds: f64,
    seen: Seen,
    /// Labels of its own side.
    node: Text,
    /// Labels of the other side if that is a database or stays away.
    peer: Option<Text>,
}

/// Trace id and the client's span id; 0: the server is a root.
type EdgeKey = (u128, u64);

/// `connection_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Direct,
    MessagingSystem,
    Database,
    VirtualNode,
}

impl Connection {
    fn as_str(self) -> &'static str {
        match self {
            Connection::Direct => "",
            Connection::MessagingSystem => "messaging_system",
            Connection::Database => "database",
            Connection::VirtualNode => "virtual_node",
        }
    }
}

/// The attributes that tell of the other side, one pass over the span.
#[derive(Default)]
struct Peer<'a> {
    peer_service: Option<&'a AttributeValue>,
    server_address: Option<&'a AttributeValue>,
    network_address: Option<&'a AttributeValue>,
    network_port: Option<&'a AttributeValue>,
    database: Database<'a>,
}

/// `db.namespace`, `db.name`, `db.system`, `db.system.name`.
type Database<'a> = [Option<&'a AttributeValue>; 4];

impl Sides {
    /// With these attributes of either side, as `client_<name>` and `server_<name>`.
    pub fn new(dimensions: &[String]) -> Sides {
        Sides {
            client: Dimension::list(dimensions, "client_", &[]),
            server: Dimension::list(dimensions, "server_", &[]),
        }
    }

    /// Notes a span of a named service; its labels go to `text`. `None`: no half of an edge.
    pub fn note(&self, span: &Span, service: &str, out: &mut Vec<u8>) -> Option<Half> {
        let (client, connection) = match span.kind {
            SpanKind::Client => (true, Connection::Direct),
            SpanKind::Producer => (true, Connection::MessagingSystem),
            SpanKind::Server => (false, Connection::Direct),
            SpanKind::Consumer => (false, Connection::MessagingSystem),
            SpanKind::Internal | SpanKind::Unspecified => return None,
        };
        if service.is_empty() {
            return None;
        }
        let own = if client {
            span.span_id.0
        } else {
            span.parent_span_id.map_or(0, |id| id.0)
        };
        let peer = Peer::of(span);
        let database = if client { peer.database_of(span) } else { None };
        let (node_label, dimensions, peer_label) = match client {
            true => ("client", &self.client, "server"),
            false => ("server", &self.server, "client"),
        };
        let node = put(out, |out| {
            encode(node_label, service, out);
            dimensions.iter().for_each(|d| d.encode(span, out));
        });
        let name = match database {
            Some(database) => Some(peer.server_name().unwrap_or(text(database))),
            None => peer.virtual_name(),
        };
        let name = name.filter(|name| !name.is_empty());
        let connection = match (database, &name) {
            (Some(_), Some(_)) => Connection::Database,
            _ => connection,
        };
        Some(Half {
            key: (span.trace_id.0, own),
            client,
            connection,
            failed: span.status == StatusCode::Error,
            seconds: span.duration_ns() as f64 / 1e9,
            seen: seen(span),
            node,
            peer: name.map(|name| put(out, |out| encode(peer_label, &name, out))),
        })
    }
}

/// Appends labels.
fn put(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Text {
    let start = out.len();
    write(out);
    Text {
        start: start as u32,
        end: out.len() as u32,
        hash: hash_labels(&out[start..]),
    }
}

impl<'a> Peer<'a> {
    fn of(span: &'a Span) -> Peer<'a> {
        let mut peer = Peer::default();
        for kv in &span.attributes {
            let place = match kv.key.as_str() {
                "peer.service" => &mut peer.peer_service,
                "server.address" => &mut peer.server_address,
                "network.peer.address" => &mut peer.network_address,
                "network.peer.port" => &mut peer.network_port,
                key => match database_place(key) {
                    Some(i) => &mut peer.database[i],
                    None => continue,
                },
            };
            place.get_or_insert(&kv.value);
        }
        peer
    }

    /// What says that the client speaks to a database: the resource's attributes go before the span's.
    fn database_of(&self, span: &'a Span) -> Option<&'a AttributeValue> {
        let mut of_resource = Database::default();
        for kv in &span.resource.attributes {
            if let Some(i) = database_place(&kv.key) {
                of_resource[i].get_or_insert(&kv.value);
            }
        }
        let mut both = of_resource.into_iter().zip(self.database);
        both.find_map(|(resource, span)| resource.or(span))
    }

    /// The name of a database's node, if more is known than which database it is.
    fn server_name(&self) -> Option<std::borrow::Cow<'a, str>> {
        let named = self.peer_service.or(self.server_address).map(text);
        named.or_else(|| {
            let address = text(self.network_address?);
            Some(match self.network_port.map(text) {
                Some(port) if !port.is_empty() => format!("{address}:{port}").into(),
                _ => address,
            })
        })
    }

    /// The name of a virtual node.
    fn virtual_name(&self) -> Option<std::borrow::Cow<'a, str>> {
        let [_, name, system, system_name] = self.database;
        let found = [self.peer_service, name, system, system_name];
        found.into_iter().flatten().map(text).next()
    }
}

// A match compares lengths first: most keys are never read.
fn database_place(key: &str) -> Option<usize> {
    match key {
        "db.namespace" => Some(0),
        "db.name" => Some(1),
        "db.system" => Some(2),
        "db.system.name" => Some(3),
        _ => None,
    }
}

/// The open edges.
#[derive(Debug)]
pub(super) struct Edges {
    wait_s: i64,
    edges_max: usize,
    open: HashMap<EdgeKey, Edge>,
    /// By rising expiry; an edge completed since, or opened anew, does not match its place any more.
    queue: VecDeque<(i64, EdgeKey)>,
    nodes: HashTable<(u64, Node)>,
    /// The labels of open edges and of `nodes`.
    text_bytes: usize,
    buffer: Vec<u8>,
    /// Edges that expired without another side.
    pub unpaired: u64,
    /// Spans for whose edges there was no room.
    pub dropped: u64,
    /// Completed edges for whose series there was no room.
    pub over_limit: u64,
}

/// Encoded labels of one side.
type Node = Arc<[u8]>;

#[derive(Debug)]
struct Edge {
    expires_s: i64,
    connection: Connection,
    failed: bool,
    client: Option<Node>,
    server: Option<Node>,
    /// The side that is missing, if it is virtual.
    peer: Option<Node>,
    client_seconds: f64,
    server_seconds: f64,
    seen: Seen,
}

impl Edge {
    fn text_bytes(&self) -> usize {
        let sides = [&self.client, &self.server, &self.peer];
        sides.into_iter().flatten().map(|node| node.len()).sum()
    }
}

/// Where completed edges are counted.
pub(super) struct Counting<'a> {
    pub table: &'a mut Table,
    pub room: &'a mut usize,
    pub now: TimestampMs,
}

impl Edges {
    /// None yet. An edge waits for `wait_s`; at most `edges_max` do.
    pub fn new(wait_s: i64, edges_max: usize) -> Edges {
        Edges {
            wait_s,
            edges_max,
            open: HashMap::new(),
            queue: VecDeque::new(),
            nodes: HashTable::new(),
            text_bytes: 0,
            buffer: Vec::new(),
            unpaired: 0,
            dropped: 0,
            over_limit: 0,
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Memory that is held, as if no edges shared their labels.
    pub fn bytes(&self) -> usize {
        let open = self.open.len() * (size_of::<EdgeKey>() + size_of::<Edge>());
        let nodes = self.nodes.len() * size_of::<(u64, Node)>();
        open + self.queue.len() * size_of::<(i64, EdgeKey)>() + nodes + self.text_bytes
    }

    /// How many places the queue of expiries has.
    #[cfg(test)]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Adds a span's half, whose labels are in `text`.
    pub fn add(&mut self, half: &Half, labels: &[u8], counting: &mut Counting<'_>) {
        let now_s = counting.now.0.div_euclid(1000);
        if !self.open.contains_key(&half.key) && half.connection != Connection::Database {
            if self.open.len() >= self.edges_max {
                self.expire(counting);
            }
            if self.open.len() >= self.edges_max {
                self.dropped += 1;
                return;
            }
        }
        let node = self.node(half.node, labels);
        let peer = half.peer.map(|peer| self.node(peer, labels));
        let expires_s = now_s.saturating_add(self.wait_s);
        let known = self.open.remove(&half.key);
        let anew = known.is_none();
        self.text_bytes -= known.as_ref().map_or(0, Edge::text_bytes);
        let mut edge = known.unwrap_or(Edge {
            expires_s,
            connection: half.connection,
            failed: false,
            client: None,
            server: None,
            peer: None,
            client_seconds: 0.0,
            server_seconds: 0.0,
            seen: half.seen,
        });
        edge.connection = half.connection;
        edge.failed |= half.failed;
        edge.seen = half.seen;
        match half.client {
            true => (edge.client, edge.client_seconds) = (Some(node), half.seconds),
            false => (edge.server, edge.server_seconds) = (Some(node), half.seconds),
        }
        if half.connection == Connection::Database {
            (edge.server, edge.server_seconds) = (peer, half.seconds);
        } else if peer.is_some() {
            edge.peer = peer;
        }
        if edge.client.is_some() && edge.server.is_some() {
            self.complete(&edge, counting);
            return;
        }
        if anew {
            self.trim_queue();
            self.queue.push_back((edge.expires_s, half.key));
        }
        self.text_bytes += edge.text_bytes();
        self.open.insert(half.key, edge);
    }

    /// Lets edges expire that have waited for long enough.
    pub fn expire(&mut self, counting: &mut Counting<'_>) {
        let now_s = counting.now.0.div_euclid(1000);
        while let Some((expires_s, key)) = self.queue.front().copied() {
            // A clock that was set back must not keep edges for longer than the wait.
            if expires_s > now_s && expires_s <= now_s.saturating_add(self.wait_s) {
                break;
            }
            self.queue.pop_front();
            if let Entry::Occupied(edge) = self.open.entry(key)
                && edge.get().expires_s == expires_s
            {
                let edge = edge.remove();
                self.text_bytes -= edge.text_bytes();
                self.expired(key, edge, counting);
            }
        }
    }

    fn expired(&mut self, key: EdgeKey, mut edge: Edge, counting: &mut Counting<'_>) {
        let peer = edge.peer.take();
        match (&edge.client, peer) {
            (None, peer) if key.1 == 0 => {
                edge.client = peer.or_else(|| Some(self.user()));
            }
            (Some(_), Some(peer)) => edge.server = Some(peer),
            _ => {
                self.unpaired += 1;
                return;
            }
        }
        edge.connection = Connection::VirtualNode;
        self.complete(&edge, counting);
    }

    /// Forgets the names of nodes that were not used by any edge in a while. Call it now and then.
    pub fn forget_nodes(&mut self) {
        self.nodes.retain(|(_, node)| {
            let used = Arc::strong_count(node) > 1;
            if !used {
                self.text_bytes -= node.len();
            }
            used
        });
    }

    fn complete(&mut self, edge: &Edge, counting: &mut Counting<'_>) {
        let (Some(client), Some(server)) = (&edge.client, &edge.server) else {
            return;
        };
        // Rising by name, as the encoding wants it: client.., connection_type, server..
        let labels = &mut self.buffer;
        labels.clear();
        labels.extend_from_slice(client);
        encode_label("connection_type", edge.connection.as_str(), labels);
        labels.extend_from_slice(server);
        let hash = hash_labels(labels);
        let Some((row, is_own)) = counting.table.row(labels, hash, counting.now, counting.room) else {
            return;
        };
        self.over_limit += u64::from(!is_own);
        row.add(0, 1);
        row.add(1, u64::from(edge.failed));
        row.observe(&SHAPE, 0, edge.server_seconds, edge.seen);
        row.observe(&SHAPE, 1, edge.client_seconds, edge.seen);
    }

    fn node(&mut self, text: Text, labels: &[u8]) -> Node {
        let bytes = text.of(labels);
        if let Some((_, node)) = self.nodes.find(text.hash, |(_, node)| **node == *bytes) {
            return node.clone();
        }
        let node: Node = bytes.into();
        if self.nodes.len() < NODES_MAX {
            self.text_bytes += node.len();
            let entry = (text.hash, node.clone());
            self.nodes.insert_unique(text.hash, entry, |(hash, _)| *hash);
        }
        node
    }

    fn user(&mut self) -> Node {
        let mut labels = Vec::new();
        let text = put(&mut labels, |out| encode("client", USER, out));
        self.node(text, &labels)
    }

    /// Places of completed edges are dropped when they are as many as those of open ones.
    fn trim_queue(&mut self) {
        if self.queue.len() > 2 * self.open.len() + QUEUE_SLACK {
            let open = &self.open;
            self.queue
                .retain(|(expires_s, key)| open.get(key).is_some_and(|edge| edge.expires_s == *expires_s));
        }
    }
}
