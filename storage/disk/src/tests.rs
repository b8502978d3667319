//! Both disks must behave alike; what a crash keeps can be seen on the one in memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{Disk, FaultyDisk, Space};

/// Runs on both disks, each with an empty directory.
fn on_both(test: impl Fn(&Disk, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&Disk::real(), dir.path());
    test(&FaultyDisk::new().disk(), Path::new("/"));
}

fn put(disk: &Disk, path: &str, bytes: &[u8]) {
    let mut writer = disk.create(Path::new(path)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.sync().unwrap();
}

fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

#[test]
fn files_grow_are_cut_and_read_at_offsets() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let mut writer = disk.create(&path).unwrap();
        assert!(writer.is_empty());
        writer.write_all(b"hello ").unwrap();
        writer.write_all(b"world").unwrap();
        writer.sync().unwrap();
        assert_eq!(writer.len(), 11);
        drop(writer);
        assert_eq!(kind(disk.create(&path)), Some(ErrorKind::AlreadyExists));
        let file = disk.open(&path).unwrap();
        assert_eq!((file.len(), file.path()), (11, &*path));
        let mut buf = [0; 5];
        file.clone().read_exact_at(&mut buf, 6).unwrap();
        assert_eq!(&buf, b"world");
        assert_eq!(kind(file.read_exact_at(&mut buf, 7)), Some(ErrorKind::UnexpectedEof));
        assert_eq!(kind(disk.open_append(&path, 12)), Some(ErrorKind::InvalidInput));
        let mut writer = disk.open_append(&path, 5).unwrap();
        writer.write_all(b"!").unwrap();
        assert_eq!(writer.len(), 6);
        assert_eq!(disk.read(&path).unwrap(), b"hello!");
        assert_eq!(kind(disk.open(dir)), Some(ErrorKind::IsADirectory));
        assert_eq!(kind(disk.read(&dir.join("none"))), Some(ErrorKind::NotFound));
    });
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let disk = Disk::real();
    assert!(disk.create_dir_all(Path::new("/proc/trilobite")).is_err());
    assert!(disk.create_dir_all(Path::new("/proc/trilobite/deep")).is_err());
}

#[test]
fn directories_are_made_listed_measured_and_removed() {
    on_both(|disk, dir| {
        let deep = dir.join("a/b/c");
        disk.create_dir_all(&deep).unwrap();
        disk.create_dir_all(&deep).unwrap();
        disk.create(&dir.join("a/z")).unwrap().write_all(b"123").unwrap();
        disk.create(&deep.join("y")).unwrap().write_all(b"45").unwrap();
        assert_eq!(
            disk.list(&dir.join("a")).unwrap(),
            [("b".to_owned(), true), ("z".to_owned(), false)]
        );
        assert_eq!(disk.list(&dir.join("none")).unwrap(), []);
        assert_eq!(disk.size(&dir.join("a")).unwrap(), 5);
        assert_eq!(disk.size(&dir.join("none")).unwrap(), 0);
        assert!(disk.exists(&deep) && !disk.exists(&dir.join("none")));
        assert!(disk.create_dir_all(&dir.join("a/z")).is_err(), "a file is no directory");
        disk.remove_file(&dir.join("a/z")).unwrap();
        disk.remove_file(&dir.join("a/z")).unwrap();
        disk.remove_dir_all(&dir.join("a")).unwrap();
        disk.remove_dir_all(&dir.join("a")).unwrap();
        assert!(!disk.exists(&dir.join("a")));
    });
}

#[test]
fn files_are_replaced_and_directories_published_whole() {
    on_both(|disk, dir| {
        let path = dir.join("settings");
        disk.write_atomic(&path, b"old").unwrap();
        disk.write_atomic(&path, b"new").unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"new");
        let (staged, target) = (dir.join("staged"), dir.join("block"));
        disk.create_dir_all(&staged.join("inner")).unwrap();
        disk.create(&staged.join("inner/chunks"))
            .unwrap()
            .write_all(b"data")
            .unwrap();
        disk.publish_dir(&staged, &target).unwrap();
        assert_eq!(disk.read(&target.join("inner/chunks")).unwrap(), b"data");
        assert!(!disk.exists(&staged));
        disk.create_dir_all(&staged).unwrap();
        assert!(
            disk.publish_dir(&staged, &target).is_err(),
            "nothing is published over a block"
        );
    });
}

#[test]
fn a_directory_is_locked_once() {
    on_both(|disk, dir| {
        let lock = disk.lock_dir(dir).unwrap();
        assert_eq!(kind(disk.lock_dir(dir)), Some(ErrorKind::WouldBlock));
        drop(lock);
        disk.lock_dir(dir).unwrap();
    });
}

#[test]
fn space_is_known() {
    on_both(|disk, dir| {
        let space = disk.space(dir).unwrap();
        assert!(0 < space.free && space.free <= space.total);
    });
    let faulty = FaultyDisk::new();
    faulty.set_space(Space { free: 1, total: 2 });
    assert_eq!(
        faulty.disk().space(Path::new("/")).unwrap(),
        Space { free: 1, total: 2 }
    );
}

#[test]
fn a_relative_name_has_the_working_directory_as_parent() {
    let disk = FaultyDisk::new().disk();
    disk.create_dir_all(Path::new("data/wal")).unwrap();
    disk.write_atomic(Path::new("data.yml"), b"x").unwrap();
    assert_eq!(disk.list(Path::new(".")).unwrap().len(), 2);
}

#[test]
fn a_crash_keeps_synced_bytes_under_synced_names_only() {
    let faulty = FaultyDisk::new();
    let disk = faulty.disk();
    disk.create_dir_all(Path::new("/d")).unwrap();
    put(&disk, "/d/named", b"synced");
    disk.sync_dir(Path::new("/d")).unwrap();
    put(&disk, "/d/nameless", b"synced");
    let mut writer = disk.open_append(Path::new("/d/named"), 4).unwrap();
    writer.write_all(b" more").unwrap();

    let after = faulty.crash().disk();
    assert_eq!(after.list(Path::new("/d")).unwrap(), [("named".to_owned(), false)]);
    assert_eq!(
        after.read(Path::new("/d/named")).unwrap(),
        b"synced",
        "neither the cut nor what followed was synced"
    );
    writer.sync().unwrap();
    assert_eq!(faulty.crash().disk().read(Path::new("/d/named")).unwrap(), b"sync more");

    disk.remove_file(Path::new("/d/named")).unwrap();
    assert!(
        faulty.crash().disk().exists(Path::new("/d/named")),
        "a removal is lost as well"
    );
    disk.sync_dir(Path::new("/d")).unwrap();
    assert!(!faulty.crash().disk().exists(Path::new("/d/named")));
    assert!(faulty.crash().disk().exists(Path::new("/d/nameless")));
}

#[test]
fn a_mixed_crash_keeps_at_least_what_was_synced() {
    let faulty = FaultyDisk::new();
    let disk = faulty.disk();
    put(&disk, "/file", b"0123");
    disk.sync_dir(Path::new("/")).unwrap();
    let mut writer = disk.open_append(Path::new("/file"), 4).unwrap();
    writer.write_all(b"4567").unwrap();
    put(&disk, "/new", b"");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let after = faulty.crash_mixed(seed).disk();
        let bytes = after.read(Path::new("/file")).unwrap();
        assert!(bytes.starts_with(b"0123") && bytes.len() <= 8, "{bytes:?}");
        seen.insert((bytes, after.exists(Path::new("/new"))));
    }
    for bytes in [&b"0123"[..], b"012345", b"012345\0\0", b"01234567"] {
        for new in [false, true] {
            assert!(seen.contains(&(bytes.to_vec(), new)), "{bytes:?} {new} in {seen:?}");
        }
    }
}

/// Seen when names were kept one by one: a staged directory and the block it became were one directory under two names,
/// and cleaning up the one emptied the other, as no real disk would.
#[test]
fn a_renamed_directory_has_one_name_after_any_crash() {
    let faulty = FaultyDisk::new();
    let disk = faulty.disk();
    for dir in ["/a", "/b"] {
        disk.create_dir_all(Path::new(dir)).unwrap();
    }
    disk.create_dir_all(Path::new("/a/staged")).unwrap();
    put(&disk, "/a/staged/file", b"x");
    disk.sync_dir(Path::new("/a/staged")).unwrap();
    disk.backend
        .rename(Path::new("/a/staged"), Path::new("/b/target"))
        .unwrap();
    let names = |faulty: &FaultyDisk| {
        let disk = faulty.disk();
        ["/a/staged/file", "/b/target/file"].map(|path| disk.exists(Path::new(path)))
    };
    assert_eq!(names(&faulty.crash()), [true, false]);
    let mixed: std::collections::BTreeSet<_> = (0..50).map(|seed| names(&faulty.crash_mixed(seed))).collect();
    assert_eq!(mixed, [[true, false], [false, true]].into());
    disk.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(names(&faulty.crash()), [false, true]);
    assert!((0..50).all(|seed| names(&faulty.crash_mixed(seed)) == [false, true]));
}

/// Whatever happens after `before`, interrupted at every operation and crashed, `holds` must hold.
fn crash_everywhere(
    before: impl Fn(&Disk),
    during: impl Fn(&Disk) -> std::io::Result<()>,
    holds: impl Fn(&Disk, bool),
) {
    for n in 0.. {
        let faulty = FaultyDisk::new();
        before(&faulty.disk());
        faulty.fail_after(n);
        let done = during(&faulty.disk()).is_ok();
        holds(&faulty.crash().disk(), done);
        for seed in 0..20 {
            holds(&faulty.crash_mixed(seed).disk(), done);
        }
        if done {
            assert!(n > 0, "something happened");
            return;
        }
    }
}

#[test]
fn after_any_crash_there_is_the_old_file_or_the_new_one() {
    let path = Path::new("/settings");
    crash_everywhere(
        |disk| disk.write_atomic(path, b"old").unwrap(),
        |disk| disk.write_atomic(path, b"new"),
        |disk, done| {
            let found = disk.read(path).unwrap();
            assert!(found == b"new" || (found == b"old" && !done), "{found:?} {done}");
            disk.write_atomic(path, b"newer").unwrap();
            assert_eq!(
                disk.read(path).unwrap(),
                b"newer",
                "what the crash left beside is no obstacle"
            );
        },
    );
}

#[test]
fn after_any_crash_a_published_directory_is_whole_or_absent() {
    let (staged, target) = (Path::new("/staged"), Path::new("/blocks/b1"));
    crash_everywhere(
        |disk| disk.create_dir_all(Path::new("/blocks")).unwrap(),
        |disk| {
            disk.create_dir_all(staged)?;
            disk.create(&staged.join("chunks"))?.write_all(b"chunks")?;
            disk.create(&staged.join("meta"))?.write_all(b"meta")?;
            disk.publish_dir(staged, target)
        },
        |disk, done| match disk.exists(target) {
            true => {
                assert_eq!(disk.read(&target.join("chunks")).unwrap(), b"chunks");
                assert_eq!(disk.read(&target.join("meta")).unwrap(), b"meta");
            }
            false => assert!(!done),
        },
    );
}

#[test]
fn from_the_chosen_operation_on_all_fail_and_a_write_tears() {
    let faulty = FaultyDisk::new();
    let disk = faulty.disk();
    let mut writer = disk.create(Path::new("/file")).unwrap();
    faulty.fail_after_with(1, ErrorKind::StorageFull);
    writer.write_all(b"12").unwrap();
    assert_eq!(kind(writer.write_all(b"3456")), Some(ErrorKind::StorageFull));
    assert_eq!(kind(writer.write_all(b"7890")), Some(ErrorKind::StorageFull));
    assert_eq!(kind(writer.sync()), Some(ErrorKind::StorageFull));
    assert_eq!(kind(disk.create(Path::new("/other"))), Some(ErrorKind::StorageFull));
    assert_eq!(disk.read(Path::new("/file")).unwrap(), b"1234");
    assert_eq!((faulty.operations(), faulty.syncs()), (6, 0));
    faulty.heal();
    writer.sync().unwrap();
    assert_eq!(faulty.syncs(), 1);
}

#[test]
fn a_linked_file_lives_on_when_its_first_name_goes() {
    let dir = tempfile::tempdir().unwrap();
    for (disk, base) in [
        (Disk::real(), dir.path().to_owned()),
        (FaultyDisk::new().disk(), PathBuf::from("/d")),
    ] {
        disk.create_dir_all(&base).unwrap();
        let (a, b) = (base.join("a"), base.join("b"));
        disk.write_atomic(&a, b"bytes").unwrap();
        disk.link_file(&a, &b).unwrap();
        assert!(disk.link_file(&a, &b).is_err(), "nothing is replaced");
        disk.remove_file(&a).unwrap();
        assert_eq!(disk.read(&b).unwrap(), b"bytes");
        assert!(disk.link_file(&a, &base.join("c")).is_err());
    }
}
