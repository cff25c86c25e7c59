//! A disk that forgets what was not synced: a file system of the tests' own, in memory, through FUSE.
//!
//! What is written is there for whoever reads, and gone after a power cut unless its file was synced since;
//! some of it may have reached the disk all the same, as disks have it, and the last of that in part. Names of
//! files are kept at once, as by a file system with a journal. A cut unmounts, so that nothing of it is left in the kernel either.

mod file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

pub use self::file::Survives;
use self::file::{Change, Cut, File};
use crate::patience::eventually_blocking;

/// Nothing is remembered of a name or an attribute: a cut may change both.
const TTL: Duration = Duration::ZERO;
const ROOT: u64 = 1;

/// A mounted disk.
pub struct ForgetfulDisk {
    at: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// The power is off: nothing is written or synced any more.
    off: bool,
    /// It goes with the next sync that has something to do.
    goes: bool,
    syncs: u64,
    cut: Cut,
}

enum Node {
    Dir(BTreeMap<OsString, u64>),
    File(File),
}

impl ForgetfulDisk {
    /// Mounts an empty disk. Needs `/dev/fuse`, and the right to mount.
    pub fn mount() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(BTreeMap::new()))]);
        let state =
            State { nodes, next: ROOT + 1, off: false, goes: false, syncs: 0, cut: Cut::default() };
        let at = tempfile::Builder::new().prefix("floodgate-disk-").tempdir().unwrap();
        let mut disk = Self { at, state: Arc::new(Mutex::new(state)), session: None };
        disk.plug_in();
        disk
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// How often a file was synced.
    pub fn syncs(&self) -> u64 {
        self.state.lock().unwrap().syncs
    }

    /// What became of the unsynced in all cuts.
    pub fn lost(&self) -> Cut {
        self.state.lock().unwrap().cut
    }

    /// From now on nothing reaches the disk.
    pub fn power_off(&self) {
        self.state.lock().unwrap().off = true;
    }

    /// The power goes between a write and its sync. Waits for it.
    pub fn power_off_at_sync(&self) {
        self.state.lock().unwrap().goes = true;
        eventually_blocking("something is synced", || self.state.lock().unwrap().off.then_some(()));
    }

    /// The power comes back. Nobody may have a file open.
    pub fn power_on(&mut self, survives: Survives, rng: &mut Rng) {
        drop(self.session.take());
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        state.off = false;
        for node in state.nodes.values_mut() {
            if let Node::File(file) = node {
                file.cut(survives, rng, &mut state.cut);
            }
        }
        drop(guard);
        self.plug_in();
    }

    fn plug_in(&mut self) {
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("forgetful".to_owned()));
        let disk = Disk(Arc::clone(&self.state));
        self.session = Some(fuser::spawn_mount(disk, self.at.path(), &config).unwrap());
    }
}

impl Drop for ForgetfulDisk {
    fn drop(&mut self) {
        drop(self.session.take());
    }
}

/// What the kernel talks to.
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn attributes(&self, ino: u64) -> Result<FileAttr, Errno> {
        let (kind, size, perm) = match self.nodes.get(&ino).ok_or(Errno::ENOENT)? {
            Node::Dir(_) => (FileType::Directory, 0, 0o777),
            Node::File(file) => (FileType::RegularFile, file.now().len() as u64, 0o666),
        };
        // All files are of one instant: nobody here asks how old they are.
        let now = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        })
    }

    fn dir(&mut self, ino: INodeNo) -> Result<&mut BTreeMap<OsString, u64>, Errno> {
        match self.nodes.get_mut(&ino.0) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn file(&mut self, ino: INodeNo) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&ino.0) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn powered(&self) -> Result<(), Errno> {
        if self.off { Err(Errno::EIO) } else { Ok(()) }
    }

    fn sync(&mut self, ino: INodeNo) -> Result<(), Errno> {
        if self.goes && self.file(ino)?.is_unsynced() {
            (self.off, self.goes) = (true, false);
        }
        self.powered()?;
        self.file(ino)?.sync();
        self.syncs += 1;
        Ok(())
    }

    fn make(&mut self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        self.powered()?;
        let ino = self.next;
        self.dir(parent)?.insert(name.to_owned(), ino);
        self.next += 1;
        self.nodes.insert(ino, node);
        self.attributes(ino)
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let ino = state.dir(parent).and_then(|names| names.get(name).copied().ok_or(Errno::ENOENT));
        match ino.and_then(|ino| state.attributes(ino)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(ino.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let cut = size.map_or(Ok(()), |size| {
            state.powered()?;
            state.file(ino).map(|file| file.change(Change::Sized(size as usize)))
        });
        match cut.and_then(|()| state.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.state().make(parent, name, Node::Dir(BTreeMap::new())) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.state().make(parent, name, Node::File(File::default())) {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty())
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        // Whoever has it open goes on with it.
        let gone = state
            .powered()
            .and_then(|()| state.dir(parent)?.remove(name).map(drop).ok_or(Errno::ENOENT));
        answer(reply, gone);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let moved = state.powered().and_then(|()| {
            let ino = state.dir(parent)?.remove(name).ok_or(Errno::ENOENT)?;
            state.dir(newparent)?.insert(newname.to_owned(), ino);
            Ok(())
        });
        answer(reply, moved);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().file(ino) {
            Ok(file) => {
                let from = (offset as usize).min(file.now().len());
                let until = (from + size as usize).min(file.now().len());
                reply.data(&file.now()[from..until]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let written = state.powered().and_then(|()| {
            let change = Change::Written(offset as usize, data.to_vec());
            state.file(ino).map(|file| file.change(change))
        });
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A file that is closed is not synced.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.state();
        answer(reply, state.sync(ino));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut state = self.state();
        let names: Vec<_> = match state.dir(ino) {
            Ok(names) => names.iter().map(|(name, ino)| (name.clone(), *ino)).collect(),
            Err(error) => return reply.error(error),
        };
        for (at, (name, ino)) in (1_u64..).zip(names).skip(offset as usize) {
            let kind = match state.nodes.get(&ino) {
                Some(Node::Dir(_)) => FileType::Directory,
                Some(Node::File(_)) | None => FileType::RegularFile,
            };
            if reply.add(INodeNo(ino), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // There is room.
        reply.statfs(1 << 24, 1 << 24, 1 << 24, 1 << 20, 1 << 20, 4_096, 255, 4_096);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Proves that what was synced is there after a cut, that what was not is gone, and that nothing is written
    /// without power, which may go at a sync.
    #[test]
    fn unsynced_is_gone() {
        let mut disk = ForgetfulDisk::mount();
        let path = disk.path().join("file");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        file.write_all(b", not synced").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"synced, not synced");
        disk.state.lock().unwrap().goes = true;
        file.sync_all().unwrap_err();
        file.write_all(b"without power").unwrap_err();
        drop(file);
        disk.power_on(Survives::Nothing, &mut Rng::with_seed(1));
        assert_eq!(std::fs::read(&path).unwrap(), b"synced");
        assert_eq!(disk.lost(), Cut { dropped: 1, ..Cut::default() });
        assert_eq!(disk.syncs(), 1);
    }
}
