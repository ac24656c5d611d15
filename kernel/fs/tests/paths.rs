//! Path resolution and operations on names.

mod common;

use abi::Errno;
use abi::raw::general as g;
use common::{World, entries, err, get, put};
use fs::context::{At, Lookup, OpenHow, Ownership, RENAME_EXCHANGE, RENAME_NOREPLACE};
use fs::oflag::*;
use fs::{Caller, Creds, DevId, FileType, Place, TimeChange, Whence};

#[test]
fn components_dots_and_slashes_resolve() {
    let w = World::new();
    w.mkdir("/a").unwrap();
    w.mkdir("/a/b/").unwrap();
    w.write("/a/b/f", "hello").unwrap();
    assert_eq!(w.read("//a/./b/../b///f").unwrap(), "hello");
    assert_eq!(w.read("/../../a/b/f").unwrap(), "hello");
    assert_eq!(err(w.read("/a/b/f/")), Errno::ENOTDIR);
    assert_eq!(err(w.read("/a/b/f/x")), Errno::ENOTDIR);
    assert_eq!(err(w.read("/a/x/../b/f")), Errno::ENOENT);
    assert_eq!(err(w.stat("")), Errno::ENOENT);
    assert_eq!(err(w.mkdir("/a")), Errno::EEXIST);
    assert_eq!(err(w.mkdir("/")), Errno::EEXIST);
    assert_eq!(err(w.mkdir("/a/.")), Errno::EEXIST);
    assert_eq!(err(w.open("/a", O_WRONLY)), Errno::EISDIR);
    assert_eq!(err(w.open("/a/b/f", O_RDONLY | O_DIRECTORY)), Errno::ENOTDIR);
    assert_eq!(err(w.open("/a/new/", O_CREAT | O_WRONLY)), Errno::EISDIR);
    let long = "/".to_string() + &"n".repeat(256);
    assert_eq!(err(w.mkdir(&long)), Errno::ENAMETOOLONG);
    assert_eq!(err(w.stat(&long)), Errno::ENAMETOOLONG);
    w.mkdir(&long[..256]).unwrap();
    w.chdir("/a/b").unwrap();
    assert_eq!(w.read("f").unwrap(), "hello");
    assert_eq!(w.caller().cwd_text().unwrap(), b"/a/b");
}

#[test]
fn symbolic_links_are_followed_and_counted() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    w.write("/d/f", "text").unwrap();
    w.symlink("d", "/rel").unwrap();
    w.symlink("/d/f", "/abs").unwrap();
    w.symlink("../rel/f", "/d/up").unwrap();
    w.symlink("loop2", "/loop1").unwrap();
    w.symlink("loop1", "/loop2").unwrap();
    w.symlink("nowhere", "/dangling").unwrap();
    assert_eq!(w.read("/rel/f").unwrap(), "text");
    assert_eq!(w.read("/abs").unwrap(), "text");
    assert_eq!(w.read("/d/up").unwrap(), "text");
    assert_eq!(w.readlink("/d/up").unwrap(), "../rel/f");
    assert_eq!(err(w.readlink("/d/f")), Errno::EINVAL);
    assert_eq!(err(w.stat("/loop1")), Errno::ELOOP);
    assert_eq!(err(w.stat("/dangling")), Errno::ENOENT);
    assert_eq!(w.lstat("/dangling").unwrap().file_type(), FileType::Symlink);
    assert_eq!(w.lstat("/rel").unwrap().file_type(), FileType::Symlink);
    // A slash behind a link follows it.
    assert_eq!(w.lstat("/rel/").unwrap().file_type(), FileType::Directory);
    assert_eq!(err(w.lstat("/abs/")), Errno::ENOTDIR);
    assert_eq!(err(w.open("/abs", O_RDONLY | O_NOFOLLOW)), Errno::ELOOP);
    assert!(w.open("/abs", O_PATH | O_NOFOLLOW).is_ok());
    // Creating through a dangling link creates its target; with O_EXCL the link is in the way.
    assert_eq!(err(w.open("/dangling", O_CREAT | O_EXCL | O_WRONLY)), Errno::EEXIST);
    w.write("/dangling", "made").unwrap();
    assert_eq!(w.read("/nowhere").unwrap(), "made");
    // 40 links are allowed, 41 are not.
    w.symlink("/d/f", "/l0").unwrap();
    for n in 1..=40 {
        w.symlink(&format!("/l{}", n - 1), &format!("/l{n}")).unwrap();
    }
    assert_eq!(w.read("/l39").unwrap(), "text");
    assert_eq!(err(w.read("/l40")), Errno::ELOOP);
    assert_eq!(err(w.symlink("", "/empty")), Errno::ENOENT);
}

#[test]
fn openat2_keeps_walks_where_they_belong() {
    let w = World::new();
    fs::mount::register("tmpfs", Box::new(|_, o| fs::tmpfs::Tmpfs::mount(o)));
    w.mkdir("/jail").unwrap();
    w.mkdir("/jail/in").unwrap();
    w.mkdir("/jail/mnt").unwrap();
    w.write("/outside", "o").unwrap();
    w.write("/jail/inside", "i").unwrap();
    w.symlink("/outside", "/jail/abs").unwrap();
    w.symlink("../outside", "/jail/escape").unwrap();
    w.symlink("inside", "/jail/good").unwrap();
    w.symlink("/inside", "/jail/rooted").unwrap();
    w.mount("tmpfs", "/jail/mnt").unwrap();
    let jail = w.open("/jail", O_PATH).unwrap();
    let open = |path: &str, resolve| {
        let how = OpenHow { flags: O_RDONLY, mode: 0, resolve };
        w.caller().open(At::File(&jail), path.as_bytes(), &how).map(|f| f.metadata().size)
    };
    assert_eq!(open("good", g::RESOLVE_BENEATH), Ok(1));
    assert_eq!(open("in/../inside", g::RESOLVE_BENEATH), Ok(1));
    assert_eq!(open("abs", g::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("escape", g::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("/outside", g::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("/inside", g::RESOLVE_IN_ROOT), Ok(1));
    assert_eq!(open("rooted", g::RESOLVE_IN_ROOT), Ok(1));
    assert_eq!(open("../../inside", g::RESOLVE_IN_ROOT), Ok(1));
    assert_eq!(open("escape", g::RESOLVE_IN_ROOT), Err(Errno::ENOENT));
    assert_eq!(open("good", g::RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(open("mnt", g::RESOLVE_NO_XDEV), Err(Errno::EXDEV));
    assert!(open("mnt", 0).is_ok());
    assert!(open("in/..", g::RESOLVE_NO_XDEV).is_ok());
}

#[test]
fn renames_follow_the_rules() {
    let w = World::new();
    w.mkdir("/a").unwrap();
    w.mkdir("/b").unwrap();
    w.mkdir("/a/sub").unwrap();
    w.write("/a/f", "f").unwrap();
    w.write("/b/g", "g").unwrap();
    w.rename("/a/f", "/b/f", 0).unwrap();
    assert_eq!(err(w.stat("/a/f")), Errno::ENOENT);
    assert_eq!(w.read("/b/f").unwrap(), "f");
    w.rename("/b/f", "/b/g", 0).unwrap();
    assert_eq!(w.read("/b/g").unwrap(), "f");
    assert_eq!(w.list("/b"), [".", "..", "g"]);
    // Directories and files do not replace each other.
    assert_eq!(err(w.rename("/a", "/b/g", 0)), Errno::ENOTDIR);
    assert_eq!(err(w.rename("/b/g", "/a", 0)), Errno::EISDIR);
    assert_eq!(err(w.rename("/b/g", "/b/h/", 0)), Errno::ENOTDIR);
    assert_eq!(err(w.rename("/a", "/b", 0)), Errno::ENOTEMPTY);
    // A directory does not go below itself, nor replace what holds it.
    assert_eq!(err(w.rename("/a", "/a/sub/x", 0)), Errno::EINVAL);
    assert_eq!(err(w.rename("/a/sub", "/a", 0)), Errno::ENOTEMPTY);
    assert_eq!(err(w.rename("/a", "/a/sub", RENAME_EXCHANGE)), Errno::EINVAL);
    assert_eq!(err(w.rename("/a/.", "/c", 0)), Errno::EBUSY);
    assert_eq!(err(w.rename("/a", "/b/..", 0)), Errno::EBUSY);
    assert_eq!(err(w.rename("/b/g", "/a/sub", RENAME_NOREPLACE)), Errno::EEXIST);
    assert_eq!(err(w.rename("/b/g", "/nope", RENAME_EXCHANGE)), Errno::ENOENT);
    let both = RENAME_EXCHANGE | RENAME_NOREPLACE;
    assert_eq!(err(w.rename("/b/g", "/c", both)), Errno::EINVAL);
    // An exchange of a file and a directory; link counts move along.
    w.rename("/b/g", "/a/sub", RENAME_EXCHANGE).unwrap();
    assert_eq!(w.stat("/b/g").unwrap().file_type(), FileType::Directory);
    assert_eq!(w.read("/a/sub").unwrap(), "f");
    assert_eq!(w.stat("/a").unwrap().nlink, 2);
    assert_eq!(w.stat("/b").unwrap().nlink, 3);
    w.rename("/b/g", "/a/dir", 0).unwrap();
    assert_eq!((w.stat("/a").unwrap().nlink, w.stat("/b").unwrap().nlink), (3, 2));
    // Two names of one file: nothing happens.
    w.link("/a/sub", "/a/twin").unwrap();
    w.rename("/a/sub", "/a/twin", 0).unwrap();
    assert_eq!(w.list("/a"), [".", "..", "sub", "dir", "twin"]);
    // An open directory moves with its entry.
    let dir = w.open("/a/dir", O_PATH).unwrap();
    w.rename("/a/dir", "/moved", 0).unwrap();
    assert_eq!(dir.path().unwrap().text(None).unwrap(), b"/moved");
    w.rmdir("/moved").unwrap();
    assert_eq!(dir.path().unwrap().text(None).unwrap(), b"/moved (deleted)");
    let how = OpenHow { flags: O_CREAT | O_WRONLY, mode: 0o644, resolve: 0 };
    assert_eq!(err(w.caller().open(At::File(&dir), b"x", &how)), Errno::ENOENT);
}

#[test]
fn removal_and_links_follow_the_rules() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    w.write("/d/f", "x").unwrap();
    assert_eq!(err(w.rmdir("/d")), Errno::ENOTEMPTY);
    assert_eq!(err(w.unlink("/d")), Errno::EISDIR);
    assert_eq!(err(w.rmdir("/d/f")), Errno::ENOTDIR);
    assert_eq!(err(w.unlink("/d/f/")), Errno::ENOTDIR);
    assert_eq!(err(w.rmdir("/d/.")), Errno::EINVAL);
    assert_eq!(err(w.rmdir("/d/..")), Errno::ENOTEMPTY);
    assert_eq!(err(w.rmdir("/")), Errno::EBUSY);
    w.link("/d/f", "/d/g").unwrap();
    assert_eq!(w.stat("/d/g").unwrap().nlink, 2);
    assert_eq!(err(w.link("/d/f", "/d/g")), Errno::EEXIST);
    assert_eq!(err(w.link("/d", "/e")), Errno::EPERM);
    let open = w.open("/d/f", O_RDWR).unwrap();
    w.unlink("/d/f").unwrap();
    w.unlink("/d/g").unwrap();
    assert_eq!(open.metadata().nlink, 0);
    assert_eq!(get(&open, 9).unwrap(), b"x");
    assert_eq!(open.place().text(None).unwrap(), b"/d/f (deleted)");
    w.rmdir("/d").unwrap();
    assert_eq!(err(w.stat("/d")), Errno::ENOENT);
}

#[test]
fn permissions_are_those_of_the_mode() {
    let w = World::new();
    w.mkdir("/open").unwrap();
    w.mkdir("/shut").unwrap();
    w.write("/shut/f", "s").unwrap();
    w.write("/open/mine", "m").unwrap();
    w.write("/open/theirs", "t").unwrap();
    w.mkdir("/tmp").unwrap();
    let caller = w.caller();
    let place = |path: &str| caller.lookup(At::Cwd, path.as_bytes(), Lookup::FOLLOW).unwrap();
    caller.chmod(&place("/shut"), 0o700).unwrap();
    caller.chmod(&place("/open/mine"), 0o640).unwrap();
    caller.chmod(&place("/open/theirs"), 0o604).unwrap();
    caller.chmod(&place("/tmp"), 0o1777).unwrap();
    let to = |uid, gid| Ownership { uid: Some(uid), gid: Some(gid) };
    caller.chown(&place("/open/mine"), to(1000, 100)).unwrap();
    caller.chown(&place("/open/theirs"), to(2000, 100)).unwrap();
    let user = Creds::user(1000, 100);
    let by = Caller::new(&user, &w.context);
    let open = |path: &str, flags| {
        by.open(At::Cwd, path.as_bytes(), &OpenHow { flags, mode: 0o666, resolve: 0 })
    };
    assert_eq!(err(open("/shut/f", O_RDONLY)), Errno::EACCES);
    assert_eq!(err(open("/open/new", O_CREAT | O_WRONLY)), Errno::EACCES);
    assert!(open("/open/mine", O_RDWR).is_ok());
    // Group members are not "others".
    assert_eq!(err(open("/open/theirs", O_RDONLY)), Errno::EACCES);
    assert_eq!(err(by.chmod(&place("/open/theirs"), 0o777)), Errno::EPERM);
    assert_eq!(err(by.chown(&place("/open/mine"), to(1001, 100))), Errno::EPERM);
    assert!(open("/tmp/x", O_CREAT | O_WRONLY).is_ok());
    assert_eq!(place("/tmp/x").metadata().mode & 0o777, 0o644);
    let other = Creds::user(2000, 100);
    let by_other = Caller::new(&other, &w.context);
    assert_eq!(err(by_other.unlink(At::Cwd, b"/tmp/x")), Errno::EPERM);
    assert_eq!(err(by_other.rename(At::Cwd, b"/tmp/x", At::Cwd, b"/tmp/y", 0)), Errno::EPERM);
    by.unlink(At::Cwd, b"/tmp/x").unwrap();
    // A file that is created may be used as asked, whatever its mode.
    let how = OpenHow { flags: O_CREAT | O_RDWR, mode: 0, resolve: 0 };
    let file = by.open(At::Cwd, b"/tmp/none", &how).unwrap();
    assert_eq!(put(&file, b"ok"), Ok(2));
    assert_eq!(err(open("/tmp/none", O_RDONLY)), Errno::EACCES);
    assert_eq!(
        err(by.mknod(At::Cwd, b"/tmp/null", g::S_IFCHR | 0o666, DevId::new(1, 3))),
        Errno::EPERM
    );
    by.mknod(At::Cwd, b"/tmp/fifo", g::S_IFIFO | 0o600, DevId::default()).unwrap();
    assert_eq!(by.access(&user, At::Cwd, b"/tmp/fifo", 6, Lookup::FOLLOW), Ok(()));
    assert_eq!(err(by.access(&user, At::Cwd, b"/shut", 1, Lookup::FOLLOW)), Errno::EACCES);
    assert_eq!(
        err(by.set_times(&place("/open/theirs"), TimeChange::Now, TimeChange::Now)),
        Errno::EACCES
    );
    // Set-user-id goes with a change of owner.
    caller.chmod(&place("/open/mine"), 0o6755).unwrap();
    caller.chown(&place("/open/mine"), to(1, 1)).unwrap();
    assert_eq!(place("/open/mine").metadata().mode & 0o7777, 0o755);
}

#[test]
fn mounts_cover_and_uncover() {
    let w = World::new();
    fs::mount::register("tmpfs", Box::new(|_, o| fs::tmpfs::Tmpfs::mount(o)));
    w.mkdir("/mnt").unwrap();
    w.write("/mnt/below", "b").unwrap();
    assert_eq!(err(w.mount("nosuchfs", "/mnt")), Errno::ENODEV);
    w.mount("tmpfs", "/mnt").unwrap();
    assert_eq!(err(w.stat("/mnt/below")), Errno::ENOENT);
    w.write("/mnt/above", "a").unwrap();
    assert_eq!(err(w.rename("/mnt/above", "/above", 0)), Errno::EXDEV);
    assert_eq!(err(w.link("/mnt/above", "/above")), Errno::EXDEV);
    assert_eq!(err(w.rmdir("/mnt")), Errno::EBUSY);
    assert_eq!(w.caller().statfs(b"/mnt").unwrap().magic, fs::tmpfs::TMPFS_MAGIC);
    w.chdir("/mnt").unwrap();
    assert_eq!(w.caller().cwd_text().unwrap(), b"/mnt");
    assert_eq!(w.lstat("..").unwrap().ino, w.lstat("/").unwrap().ino);
    assert_eq!(err(w.caller().umount(b"/mnt", false, false)), Errno::EBUSY);
    w.chdir("/").unwrap();
    // A bind mount shows the same files elsewhere, and can be made read-only by itself.
    w.mkdir("/bound").unwrap();
    w.caller().mount(b"/mnt", b"/bound", "", g::MS_BIND, "").unwrap();
    assert_eq!(w.read("/bound/above").unwrap(), "a");
    let flags = g::MS_BIND | g::MS_REMOUNT | g::MS_RDONLY;
    w.caller().mount(b"", b"/bound", "", flags, "").unwrap();
    assert_eq!(err(w.write("/bound/new", "n")), Errno::EROFS);
    w.write("/mnt/new", "n").unwrap();
    w.mkdir("/moved").unwrap();
    w.caller().mount(b"/bound", b"/moved", "", g::MS_MOVE, "").unwrap();
    assert_eq!(w.read("/moved/new").unwrap(), "n");
    assert_eq!(err(w.stat("/bound/new")), Errno::ENOENT);
    let paths: Vec<_> = fs::mount::list(&w.caller().view.root)
        .unwrap()
        .iter()
        .map(|m| String::from_utf8(m.top().text(None).unwrap()).unwrap())
        .collect();
    assert_eq!(paths, ["/", "/mnt", "/moved"]);
    w.caller().umount(b"/moved", false, false).unwrap();
    w.caller().umount(b"/mnt", false, false).unwrap();
    assert_eq!(w.read("/mnt/below").unwrap(), "b");
    assert_eq!(err(w.caller().umount(b"/mnt", false, false)), Errno::EINVAL);
    // Detaching lets those inside go on.
    w.mount("tmpfs", "/mnt").unwrap();
    w.write("/mnt/kept", "k").unwrap();
    let kept = w.open("/mnt/kept", O_RDONLY).unwrap();
    w.caller().umount(b"/mnt", true, false).unwrap();
    assert_eq!(get(&kept, 4).unwrap(), b"k");
    assert_eq!(w.read("/mnt/below").unwrap(), "b");
}

#[test]
fn a_new_root_is_a_fence() {
    let w = World::new();
    w.mkdir("/new").unwrap();
    w.mkdir("/new/in").unwrap();
    w.write("/secret", "s").unwrap();
    let root = w.caller().new_root(b"/new").unwrap();
    w.context.set_root(root);
    w.chdir("/").unwrap();
    assert_eq!(err(w.stat("/secret")), Errno::ENOENT);
    assert_eq!(err(w.stat("/../../secret")), Errno::ENOENT);
    w.chdir("/in").unwrap();
    assert_eq!(w.caller().cwd_text().unwrap(), b"/in");
    assert_eq!(w.lstat("../..").unwrap().ino, w.lstat("/").unwrap().ino);
}

#[test]
fn files_read_write_seek_and_truncate() {
    let w = World::new();
    let file = w.open("/f", O_RDWR | O_CREAT).unwrap();
    assert_eq!(put(&file, b"0123456789"), Ok(10));
    assert_eq!(file.seek(-4, Whence::End), Ok(6));
    assert_eq!(get(&file, 100).unwrap(), b"6789");
    assert_eq!(file.seek(3, Whence::Set), Ok(3));
    assert_eq!(err(file.seek(-9, Whence::Current)), Errno::EINVAL);
    file.truncate(5).unwrap();
    assert_eq!(get(&file, 100).unwrap(), b"34");
    assert_eq!(file.seek(8192, Whence::Set), Ok(8192));
    assert_eq!(put(&file, b"x"), Ok(1));
    assert_eq!(file.metadata().size, 8193);
    assert_eq!(file.metadata().blocks, 16);
    assert_eq!(file.seek(0, Whence::Hole), Ok(4096));
    assert_eq!(file.seek(4096, Whence::Data), Ok(8192));
    assert_eq!(err(file.seek(9000, Whence::Data)), Errno::ENXIO);
    let append = w.open("/f", O_WRONLY | O_APPEND).unwrap();
    assert_eq!(put(&append, b"end"), Ok(3));
    assert_eq!(file.metadata().size, 8196);
    assert_eq!(err(get(&append, 1)), Errno::EBADF);
    let read_only = w.open("/f", O_RDONLY).unwrap();
    assert_eq!(err(put(&read_only, b"x")), Errno::EBADF);
    assert_eq!(err(read_only.truncate(0)), Errno::EINVAL);
    w.open("/f", O_WRONLY | O_TRUNC).unwrap();
    assert_eq!(file.metadata().size, 0);
    file.fallocate(0, 0, 10_000).unwrap();
    assert_eq!((file.metadata().size, file.metadata().blocks), (10_000, 24));
    file.fallocate(3, 0, 8192).unwrap();
    assert_eq!(file.metadata().blocks, 8);
    let nothing = w.open("/f", O_PATH).unwrap();
    assert_eq!(err(get(&nothing, 1)), Errno::EBADF);
    assert_eq!(err(nothing.seek(0, Whence::Set)), Errno::EBADF);
    assert_eq!(file.flags() & O_LARGEFILE, O_LARGEFILE);
}

#[test]
fn a_full_tmpfs_says_so_and_gets_its_room_back() {
    let w = World::new();
    w.mkdir("/t").unwrap();
    fs::mount::register("tmpfs", Box::new(|_, o| fs::tmpfs::Tmpfs::mount(o)));
    w.caller().mount(b"t", b"/t", "tmpfs", 0, "size=16k,nr_inodes=4").unwrap();
    let file = w.open("/t/f", O_RDWR | O_CREAT).unwrap();
    assert_eq!(put(&file, &[1; 20_000]), Ok(16_384));
    assert_eq!(err(put(&file, b"x")), Errno::ENOSPC);
    // What is there can be overwritten.
    assert_eq!(file.write_at(&mut hal::user::KernelSource(&[2; 16_384]), 0), Ok(16_384));
    assert_eq!(w.caller().statfs(b"/t").unwrap().bfree, 0);
    w.unlink("/t/f").unwrap();
    assert_eq!(w.caller().statfs(b"/t").unwrap().bfree, 0);
    drop(file);
    assert_eq!(w.caller().statfs(b"/t").unwrap().bfree, 4);
    for n in 0..3 {
        w.write(&format!("/t/{n}"), "").unwrap();
    }
    assert_eq!(err(w.write("/t/3", "")), Errno::ENOSPC);
    assert_eq!(err(w.caller().mount(b"t", b"/t", "tmpfs", 0, "bogus=1")), Errno::EINVAL);
}

#[test]
fn directories_list_in_small_pieces_while_they_change() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    for n in 0..100 {
        w.write(&format!("/d/file{n}"), "").unwrap();
    }
    let dir = w.open("/d", O_RDONLY).unwrap();
    let names = entries(&dir, 100);
    assert_eq!(names.len(), 102);
    assert_eq!(names[..3], [".", "..", "file0"]);
    // Entries removed while reading are gone, the others come once.
    assert_eq!(dir.seek(0, Whence::Set), Ok(0));
    let mut buf = [0; 300];
    let n = dir.getdents(&mut hal::user::KernelSink::new(&mut buf)).unwrap();
    assert!(n > 0);
    for n in 50..100 {
        w.unlink(&format!("/d/file{n}")).unwrap();
    }
    let rest = entries(&dir, 4096);
    assert!(rest.contains(&"file49".to_string()) && !rest.contains(&"file50".to_string()));
    // A buffer too small for one entry is an error, unless there is none left.
    let mut tiny = [0; 10];
    assert_eq!(dir.getdents(&mut hal::user::KernelSink::new(&mut tiny)), Ok(0));
    assert_eq!(dir.seek(0, Whence::Set), Ok(0));
    assert_eq!(err(dir.getdents(&mut hal::user::KernelSink::new(&mut tiny))), Errno::EINVAL);
    assert_eq!(
        err(w
            .open("/d/file0", O_RDONLY)
            .unwrap()
            .getdents(&mut hal::user::KernelSink::new(&mut buf))),
        Errno::ENOTDIR
    );
}

#[test]
fn a_nameless_file_can_be_given_a_name() {
    let w = World::new();
    let file = w.open("/", O_TMPFILE | O_RDWR).unwrap();
    assert_eq!(put(&file, b"draft"), Ok(5));
    assert_eq!(file.metadata().nlink, 0);
    let how = Lookup { follow: false, empty: true, resolve: 0 };
    w.caller().link(At::File(&file), b"", how, At::Cwd, b"/final").unwrap();
    assert_eq!(w.read("/final").unwrap(), "draft");
    assert_eq!(file.metadata().nlink, 1);
    assert_eq!(err(w.open("/", O_TMPFILE | O_RDONLY)), Errno::EINVAL);
    assert!(matches!(file.place(), Place::Path(_)));
}

#[test]
fn devices_open_by_number() {
    let w = World::new();
    w.caller().mknod(At::Cwd, b"/null", g::S_IFCHR | 0o666, DevId::new(1, 3)).unwrap();
    w.caller().mknod(At::Cwd, b"/zero", g::S_IFCHR | 0o666, DevId::new(1, 5)).unwrap();
    w.caller().mknod(At::Cwd, b"/full", g::S_IFCHR | 0o666, DevId::new(1, 7)).unwrap();
    w.caller().mknod(At::Cwd, b"/gone", g::S_IFCHR | 0o666, DevId::new(77, 7)).unwrap();
    let null = w.open("/null", O_RDWR | O_TRUNC).unwrap();
    assert_eq!((put(&null, b"abc"), get(&null, 5)), (Ok(3), Ok(vec![])));
    let zero = w.open("/zero", O_RDWR).unwrap();
    assert_eq!(get(&zero, 9999), Ok(vec![0; 9999]));
    assert_eq!(put(&w.open("/full", O_RDWR).unwrap(), b"x"), Err(Errno::ENOSPC));
    assert_eq!(err(w.open("/gone", O_RDWR)), Errno::ENXIO);
    let meta = w.stat("/zero").unwrap();
    assert_eq!((meta.rdev, meta.file_type()), (DevId::new(1, 5), FileType::Char));
}
