//! A disk in memory for crash tests: it remembers apart what was written and what was synced.
//!
//! A file's bytes are kept by a sync of the file, a name by a sync of its directory: POSIX promises no more, and so
//! nothing more is kept by [`FaultyDisk::crash`]. Real disks often keep more, in any mixture: [`FaultyDisk::crash_mixed`]
//! draws one, with torn and zero-filled tails, names that came early and removals that came late. A rename is atomic, as
//! on any file system with a journal: there is the old name or the new one, and a sync of either directory settles it.
//!
//! Every single step that changes something counts as one operation, so a test can let each of them fail or be the last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::{Append, Backend, Found, ReadAt};
use crate::{Disk, Space};

/// An in-memory disk that keeps only what was synced across [`FaultyDisk::crash`], and can fail at a chosen operation.
/// Cloning shares it.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    nodes: HashMap<NodeId, Node>,
    next_id: u64,
    /// Renames that no sync of a directory has settled, oldest first.
    renames: Vec<Rename>,
    operations: u64,
    syncs: u64,
    /// The operation from which on all fail, and how.
    fault: Option<(u64, ErrorKind)>,
    locks: BTreeSet<PathBuf>,
    space: Space,
    sync_delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NodeId(u64);

#[derive(Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Default)]
struct FileNode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// How far `bytes` and `synced` are known to be the same, so that a sync copies only what is new.
    same: usize,
}

#[derive(Clone, Default)]
struct DirNode {
    names: BTreeMap<String, NodeId>,
    synced: BTreeMap<String, NodeId>,
}

/// A node that got another name, perhaps in another directory.
#[derive(Clone)]
struct Rename {
    id: NodeId,
    from: (NodeId, String),
    to: (NodeId, String),
}

/// The names in each directory.
type Names = BTreeMap<NodeId, BTreeMap<String, NodeId>>;

/// `/` and the working directory are one: tests use either absolute or relative paths.
const ROOT: NodeId = NodeId(0);

impl FaultyDisk {
    /// Empty.
    #[allow(clippy::new_without_default)]
    pub fn new() -> FaultyDisk {
        FaultyDisk::with_nodes(HashMap::from([(ROOT, Node::Dir(DirNode::default()))]), 1)
    }

    /// The disk to hand to an engine.
    pub fn disk(&self) -> Disk {
        Disk {
            backend: Arc::new(self.clone()),
        }
    }

    /// From the `n`-th mutating operation on (0 = the next), every mutating operation fails with an I/O error. If the
    /// first to fail is a write, half of its bytes are written. Reading goes on.
    pub fn fail_after(&self, n: u64) {
        self.fail_after_with(n, ErrorKind::Other);
    }

    /// As [`FaultyDisk::fail_after`], with an error of the given kind, such as [`ErrorKind::StorageFull`].
    pub fn fail_after_with(&self, n: u64, kind: ErrorKind) {
        let mut state = self.state.lock();
        state.fault = Some((state.operations.saturating_add(n), kind));
    }

    /// No operation fails any more.
    pub fn heal(&self) {
        self.state.lock().fault = None;
    }

    /// Mutating operations so far, the failed ones included.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Successful syncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Every sync of a file takes this long, as on a real disk.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state.lock().sync_delay = delay;
    }

    /// What [`Disk::space`] answers. At first 1 TiB, all of it free; writing does not change it.
    pub fn set_space(&self, space: Space) {
        self.state.lock().space = space;
    }

    /// The disk as a crash now would leave it: only what was synced (files' bytes and directory entries alike), faults cleared.
    /// This disk stays as it is.
    pub fn crash(&self) -> FaultyDisk {
        self.crash_choosing(&mut |_| 0)
    }

    /// As [`FaultyDisk::crash`], but of what was not synced an arbitrary part drawn from `seed` is kept: a prefix of new
    /// bytes, perhaps followed by zeros, and each created, renamed or removed name or not.
    pub fn crash_mixed(&self, seed: u64) -> FaultyDisk {
        let mut state = seed;
        self.crash_choosing(&mut |choices| splitmix64(&mut state) % choices)
    }

    /// `choose(n)` says which of `n` outcomes there is; 0 is always that nothing unsynced was kept.
    fn crash_choosing(&self, choose: &mut dyn FnMut(u64) -> u64) -> FaultyDisk {
        let state = self.state.lock();
        let mut names = state.kept_names(choose);
        let mut kept = HashMap::new();
        state.keep(ROOT, &mut names, &mut kept, choose);
        FaultyDisk::with_nodes(kept, state.next_id)
    }

    fn with_nodes(nodes: HashMap<NodeId, Node>, next_id: u64) -> FaultyDisk {
        let space = Space {
            free: 1 << 40,
            total: 1 << 40,
        };
        let state = State {
            nodes,
            next_id,
            renames: Vec::new(),
            operations: 0,
            syncs: 0,
            fault: None,
            locks: BTreeSet::new(),
            space,
            sync_delay: Duration::ZERO,
        };
        FaultyDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn file(&self, id: NodeId) -> Box<Handle> {
        Box::new(Handle { disk: self.clone(), id })
    }

    /// Syncs a file as one operation, with the delay outside of the lock.
    fn sync_node(&self, id: NodeId) -> io::Result<()> {
        let delay = self.state.lock().sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut state = self.state.lock();
        state.operate()?;
        if let Some(Node::File(file)) = state.nodes.get_mut(&id) {
            file.sync();
        }
        state.syncs += 1;
        Ok(())
    }
}

impl Backend for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.add(path, Node::Dir(DirNode::default())).map(|_| ())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let id = self.state.lock().add(path, Node::File(FileNode::default()))?;
        Ok(self.file(id))
    }

    fn open_append(&self, path: &Path, len: u64) -> io::Result<Box<dyn Append>> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        let found = state.file(id)?.bytes.len() as u64;
        if found < len {
            return Err(ErrorKind::InvalidInput.into());
        }
        if found > len {
            state.operate()?;
            state.file(id)?.cut(len as usize);
        }
        Ok(self.file(id))
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn ReadAt>, u64)> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        let len = state.file(id)?.bytes.len() as u64;
        Ok((self.file(id), len))
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        let state = self.state.lock();
        let id = state.find(path)?;
        match state.nodes.get(&id) {
            Some(Node::Dir(_)) => Ok(Found::Dir),
            Some(Node::File(file)) => Ok(Found::File(file.bytes.len() as u64)),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, bool)>> {
        let mut state = self.state.lock();
        let id = state.find(dir)?;
        let names = state.dir(id)?.names.clone();
        let is_dir = |id: &NodeId| matches!(state.nodes.get(id), Some(Node::Dir(_)));
        Ok(names.iter().map(|(name, id)| (name.clone(), is_dir(id))).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(from)?;
        let (from_dir, from_name) = state.find_parent(from)?;
        let (to_dir, to_name) = state.find_parent(to)?;
        match state
            .find(to)
            .ok()
            .map(|there| (there, state.is_empty_dir(there), state.is_empty_dir(id)))
        {
            None => {}
            Some((there, ..)) if there == id => {}
            // A file replaces a file, a directory an empty directory.
            Some((_, None, None)) | Some((_, Some(true), Some(_))) => {}
            Some((_, Some(false), Some(_))) => return Err(ErrorKind::DirectoryNotEmpty.into()),
            Some((_, None, Some(_))) => return Err(ErrorKind::NotADirectory.into()),
            Some((_, Some(_), None)) => return Err(ErrorKind::IsADirectory.into()),
        }
        state.operate()?;
        state.dir(from_dir)?.names.remove(&from_name);
        state.dir(to_dir)?.names.insert(to_name.clone(), id);
        state.renames.push(Rename {
            id,
            from: (from_dir, from_name),
            to: (to_dir, to_name),
        });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(from)?;
        let (dir, name) = state.find_parent(to)?;
        if !matches!(state.nodes.get(&id), Some(Node::File(_))) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if state.find(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.operate()?;
        state.dir(dir)?.names.insert(name, id);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        state.file(id)?;
        state.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        match state.is_empty_dir(id) {
            Some(true) => state.remove(path),
            Some(false) => Err(ErrorKind::DirectoryNotEmpty.into()),
            None => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let id = {
            let mut state = self.state.lock();
            let id = state.find(path)?;
            state.file(id)?;
            id
        };
        self.sync_node(id)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(dir)?;
        state.dir(id)?;
        state.operate()?;
        state.settle_renames(id)?;
        let dir = state.dir(id)?;
        dir.synced = dir.names.clone();
        state.syncs += 1;
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(self.state.lock().space)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state.lock();
        let id = state.find(dir)?;
        state.dir(id)?;
        if !state.locks.insert(dir.to_path_buf()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock {
            disk: self.clone(),
            dir: dir.to_path_buf(),
        }))
    }
}

impl State {
    /// Counts an operation that is about to happen; the error if it must not.
    fn operate(&mut self) -> io::Result<()> {
        let n = self.operations;
        self.operations += 1;
        match self.fault {
            Some((from, kind)) if n >= from => Err(io::Error::new(kind, "the disk was told to fail")),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.nodes.get(&at) {
                Some(Node::Dir(dir)) => *dir.names.get(name).ok_or(ErrorKind::NotFound)?,
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            };
        }
        Ok(at)
    }

    fn find_parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = names(path)?.pop().ok_or(ErrorKind::AlreadyExists)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name.to_owned()))
    }

    fn file(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn dir(&mut self, id: NodeId) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Whether a directory is empty; `None` for a file.
    fn is_empty_dir(&self, id: NodeId) -> Option<bool> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Some(dir.names.is_empty()),
            _ => None,
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (parent, name) = self.find_parent(path)?;
        if self.dir(parent)?.names.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.operate()?;
        let id = NodeId(self.next_id);
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.dir(parent)?.names.insert(name, id);
        Ok(id)
    }

    /// Syncs what the renames out of and into `dir` did to other directories.
    fn settle_renames(&mut self, dir: NodeId) -> io::Result<()> {
        let (settled, pending) = std::mem::take(&mut self.renames)
            .into_iter()
            .partition(|rename: &Rename| rename.from.0 == dir || rename.to.0 == dir);
        self.renames = pending;
        for Rename { id, from, to } in settled {
            self.dir(from.0)?.synced.remove(&from.1);
            self.dir(to.0)?.synced.insert(to.1, id);
        }
        Ok(())
    }

    /// The names a crash leaves: the synced ones, each creation and removal since then or not, each rename or not.
    fn kept_names(&self, choose: &mut dyn FnMut(u64) -> u64) -> Names {
        let renamed: BTreeSet<&(NodeId, String)> = self
            .renames
            .iter()
            .flat_map(|rename| [&rename.from, &rename.to])
            .collect();
        let mut kept = Names::new();
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(Node::Dir(dir)) = self.nodes.get(&id) else {
                continue;
            };
            let mut names = dir.synced.clone();
            for name in dir
                .changed()
                .into_iter()
                .filter(|name| !renamed.contains(&(id, (*name).clone())))
            {
                if choose(2) == 1 {
                    match dir.names.get(name) {
                        Some(&id) => names.insert(name.clone(), id),
                        None => names.remove(name),
                    };
                }
            }
            kept.insert(id, names);
        }
        for Rename { id, from, to } in &self.renames {
            let outcome = choose(3);
            if outcome == 1 {
                kept.entry(from.0).or_default().remove(&from.1);
                kept.entry(to.0).or_default().insert(to.1.clone(), *id);
            } else if outcome == 2 {
                kept.entry(from.0).or_default().insert(from.1.clone(), *id);
            }
        }
        kept
    }

    /// Copies what a crash leaves of `id` and what is below it. No node is kept under two names.
    fn keep(
        &self,
        id: NodeId,
        names: &mut Names,
        kept: &mut HashMap<NodeId, Node>,
        choose: &mut dyn FnMut(u64) -> u64,
    ) {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => {
                let bytes = file.kept(choose);
                let same = bytes.len();
                kept.insert(
                    id,
                    Node::File(FileNode {
                        synced: bytes.clone(),
                        bytes,
                        same,
                    }),
                );
            }
            Some(Node::Dir(_)) => {
                kept.insert(id, Node::Dir(DirNode::default()));
                let mut here = names.remove(&id).unwrap_or_default();
                here.retain(|_, id| {
                    let first = !kept.contains_key(id);
                    if first {
                        self.keep(*id, names, kept, choose);
                    }
                    first
                });
                kept.insert(
                    id,
                    Node::Dir(DirNode {
                        synced: here.clone(),
                        names: here,
                    }),
                );
            }
            None => {}
        }
    }

    /// Takes the name away. The node stays: the name may be back after a crash, and open handles go on.
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.find_parent(path)?;
        self.operate()?;
        self.dir(parent)?.names.remove(&name);
        Ok(())
    }
}

impl FileNode {
    fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.same = self.same.min(len);
    }

    fn sync(&mut self) {
        self.synced.truncate(self.same);
        self.synced.extend_from_slice(&self.bytes[self.same..]);
        self.same = self.bytes.len();
    }

    /// The bytes a crash leaves.
    fn kept(&self, choose: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
        match choose(4) {
            // A prefix of what was written: a write that was under way.
            1 if self.bytes.len() > self.same => {
                let unsynced = (self.bytes.len() - self.same) as u64;
                let torn = self.same + choose(unsynced + 1) as usize;
                self.bytes[..torn].to_vec()
            }
            // The length came before the bytes.
            2 if self.bytes.len() > self.same => {
                let unsynced = (self.bytes.len() - self.same) as u64;
                let torn = self.same + choose(unsynced + 1) as usize;
                let mut bytes = self.bytes[..torn].to_vec();
                bytes.resize(self.bytes.len(), 0);
                bytes
            }
            3 => self.bytes.clone(),
            _ => self.synced.clone(),
        }
    }
}

impl DirNode {
    /// Names that were created, removed or given to another node since the last sync.
    fn changed(&self) -> BTreeSet<&String> {
        let mut names: BTreeSet<&String> = self.names.keys().chain(self.synced.keys()).collect();
        names.retain(|name| self.names.get(*name) != self.synced.get(*name));
        names
    }
}

/// A file that was opened.
struct Handle {
    disk: FaultyDisk,
    id: NodeId,
}

impl Append for Handle {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let n = state.operations;
        let written = state.operate();
        let first_to_fail = state.fault.is_some_and(|(from, _)| from == n);
        let file = state.file(self.id)?;
        match written {
            Ok(()) => file.bytes.extend_from_slice(bytes),
            Err(_) if first_to_fail => file.bytes.extend_from_slice(&bytes[..bytes.len() / 2]),
            Err(_) => {}
        }
        written
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync_node(self.id)
    }
}

impl ReadAt for Handle {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let bytes = &state.file(self.id)?.bytes;
        let from = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let found = bytes
            .get(from..)
            .and_then(|tail| tail.get(..buf.len()))
            .ok_or(ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

struct Lock {
    disk: FaultyDisk,
    dir: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.dir);
    }
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidFilename)?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}

/// A small generator of well-mixed numbers (Steele, Lea and Flood, 2014).
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
