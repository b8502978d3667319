//! One list of an API server, followed: asked for in pages, then watched from the version it had.
//!
//! A watch is an answer that does not end: a line of JSON for each object that came, changed or went, and bookmarks that only
//! tell of a newer version. The server ends it now and then, and the next one goes on from the newest version seen. When that
//! version is too old, or anything else goes wrong, the list is asked for again.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HeaderName};
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::super::http::{Ask, Client, Kept};
use super::{ANSWER_BYTES_MAX, ANSWER_WAIT_MAX, ask_json, encoded};

/// Objects of one page.
const PAGE: usize = 500;
/// Objects of one list.
const OBJECTS_MAX: usize = 200_000;
/// How long the server is asked to let a watch last.
const WATCH: Duration = Duration::from_secs(300);
/// Between two watches, and before a list is asked for again; the second grows to the third.
const PAUSE: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Largest object.
const OBJECT_BYTES_MAX: usize = 16 << 20;
const JSON: [(HeaderName, &str); 1] = [(ACCEPT, "application/json")];

/// An API server.
pub(super) struct Server {
    /// Without a slash at the end.
    pub base: String,
    pub client: Client,
}

/// A list of objects.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub path: String,
    /// Selectors, each with `&` before it.
    pub query: String,
}

/// What was seen of a list.
pub(super) enum Seen {
    /// All its objects.
    All(Vec<Value>),
    /// One that came or changed.
    Now(Value),
    /// One that went.
    Gone(Value),
    /// Why nothing is seen.
    Fault(String),
}

/// Tells of a list, with its `place`, until nobody listens.
pub(super) async fn follow(server: Arc<Server>, list: List, place: usize, told: Sender<(usize, Seen)>) {
    let following = Following {
        server,
        list,
        place,
        told,
    };
    let mut pause = PAUSE;
    loop {
        match following.list_and_watch(&mut pause).await {
            Ended::NobodyListens => return,
            Ended::TooOld => {}
            Ended::Fault(why) => {
                if following.tell(Seen::Fault(why)).await.is_err() {
                    return;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

struct Following {
    server: Arc<Server>,
    list: List,
    place: usize,
    told: Sender<(usize, Seen)>,
}

/// Why a list must be asked for again.
enum Ended {
    NobodyListens,
    TooOld,
    Fault(String),
}

impl From<String> for Ended {
    fn from(why: String) -> Ended {
        Ended::Fault(why)
    }
}

impl Following {
    async fn tell(&self, seen: Seen) -> Result<(), Ended> {
        let told = self.told.send((self.place, seen)).await;
        told.map_err(|_| Ended::NobodyListens)
    }

    async fn list_and_watch(&self, pause: &mut Duration) -> Ended {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(ended) => return ended,
        };
        loop {
            if let Err(ended) = self.watch(&mut version, pause).await {
                return ended;
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells of all objects; gives the version of the list.
    async fn list(&self) -> Result<String, Ended> {
        let List { path, query } = &self.list;
        let mut kept = Kept::default();
        let mut all: Vec<Value> = Vec::new();
        let mut next = String::new();
        loop {
            let more = match next.as_str() {
                "" => String::new(),
                next => format!("&continue={}", encoded(next)),
            };
            let url = format!("{}{path}?limit={PAGE}{query}{more}", self.server.base);
            let ask = Ask {
                url: &url,
                headers: &JSON,
                bytes_max: ANSWER_BYTES_MAX,
                ..Ask::default()
            };
            let mut page: Value = ask_json(&self.server.client, &ask, &mut kept, path, "the server").await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items.into_iter().map(slim));
            }
            next = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
            if all.len() > OBJECTS_MAX {
                return Err(format!("{path}: more than {OBJECTS_MAX} objects").into());
            }
            if next.is_empty() {
                self.tell(Seen::All(all)).await?;
                return Ok(version_of(&page).unwrap_or_default());
            }
        }
    }

    /// Tells of changes since a version, which moves on, until the server ends the watch.
    async fn watch(&self, version: &mut String, pause: &mut Duration) -> Result<(), Ended> {
        let List { path, query } = &self.list;
        let (base, seconds, since) = (&self.server.base, WATCH.as_secs(), encoded(version));
        let url = format!(
            "{base}{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={since}{query}"
        );
        let ask = Ask {
            url: &url,
            headers: &JSON,
            bytes_max: ANSWER_BYTES_MAX,
            ..Ask::default()
        };
        let late = || format!("{path}: a watch was not answered in time");
        let opened = timeout(ANSWER_WAIT_MAX, self.server.client.open(&ask)).await;
        let mut opened = opened.map_err(|_| late())?.map_err(|e| e.to_string())?;
        match opened.status.as_u16() {
            200 => {}
            410 => return Err(Ended::TooOld),
            _ => {
                let status = opened.status_words();
                return Err(format!("{path}: the server returned HTTP status {status} to a watch").into());
            }
        }
        loop {
            let line = timeout(WATCH + ANSWER_WAIT_MAX, opened.line(OBJECT_BYTES_MAX)).await;
            let line = line.map_err(|_| late())?;
            let Some(line) = line.map_err(|why| format!("{path}: {why}"))? else {
                return Ok(());
            };
            let mut event: Value =
                serde_json::from_slice(&line).map_err(|e| format!("{path}: a watch sent what is no JSON: {e}"))?;
            let object = slim(event["object"].take());
            if let Some(newer) = version_of(&object) {
                *version = newer;
            }
            *pause = PAUSE;
            match event["type"].as_str().unwrap_or("") {
                "ADDED" | "MODIFIED" => self.tell(Seen::Now(object)).await?,
                "DELETED" => self.tell(Seen::Gone(object)).await?,
                "ERROR" if object["code"] == 410 => return Err(Ended::TooOld),
                "ERROR" => {
                    let why = object["message"].as_str().unwrap_or("no reason given");
                    return Err(format!("{path}: a watch failed: {why}").into());
                }
                _ => {}
            }
        }
    }
}

fn version_of(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

/// Without what no target is made of, and which is often most of an object.
fn slim(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
