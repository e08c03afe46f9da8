use super::*;

#[test]
fn the_log_moves_on_when_it_is_full_and_keeps_so_many() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let mut target = Target::file(path.clone(), 10, 3).expect("opens");
    for line in [
        "one----\n",
        "two----\n",
        "three--\n",
        "four---\n",
        "five---\n",
    ] {
        target.write(line.as_bytes()).expect("written");
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("there");
    assert_eq!(read("audit.jsonl"), "five---\n");
    assert_eq!(read("audit.jsonl.1"), "four---\n");
    assert_eq!(read("audit.jsonl.2"), "three--\n");
    assert_eq!(read("audit.jsonl.3"), "two----\n");
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 4);
    // The size counts what an earlier process wrote.
    let mut again = Target::file(path, 10, 3).expect("opens");
    again.write(b"six----\n").expect("written");
    assert_eq!(read("audit.jsonl"), "six----\n");
    assert_eq!(read("audit.jsonl.1"), "five---\n");
}

#[test]
fn a_line_larger_than_a_file_is_written_all_the_same() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let mut target = Target::file(path.clone(), 4, 2).expect("opens");
    target.write(b"larger\n").expect("written");
    assert_eq!(fs::read_to_string(path).expect("there"), "larger\n");
}

/// The files of a folder with what is in them, without those that are folders.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("list") {
        let path = entry.expect("listed").path();
        if path.is_file() {
            let name = path.file_name().expect("a name").to_string_lossy();
            files.push((name.into(), fs::read_to_string(&path).expect("there")));
        }
    }
    files.sort();
    files
}

fn is(files: &[(String, String)], expected: &[(&str, &str)]) {
    let files: Vec<_> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(files, expected);
}

#[test]
fn a_log_that_was_taken_away_is_begun_again_and_nothing_is_shifted_for_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut target = Target::file(path.clone(), 10, 2).expect("opens");
    for line in ["one----\n", "two----\n", "three--\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    fs::remove_file(&path).expect("removed");
    for line in ["four---\n", "five---\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    let expected = [
        ("log", "five---\n"),
        ("log.1", "four---\n"),
        ("log.2", "two----\n"),
    ];
    is(&files(dir.path()), &expected);
}

#[test]
fn what_cannot_be_put_aside_is_written_on_and_pushes_nothing_out() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut target = Target::file(path.clone(), 10, 3).expect("opens");
    for line in ["one----\n", "two----\n", "three--\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    // The oldest can't go there.
    let in_the_way = dir.path().join("log.3");
    fs::create_dir(&in_the_way).expect("made");
    for line in ["four---\n", "five---\n", "six----\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    let expected = [
        ("log", "three--\nfour---\nfive---\nsix----\n"),
        ("log.1", "two----\n"),
        ("log.2", "one----\n"),
    ];
    is(&files(dir.path()), &expected);
    fs::remove_dir(&in_the_way).expect("removed");
    target.write(b"seven--\n").expect("written");
    let expected = [
        ("log", "seven--\n"),
        ("log.1", "three--\nfour---\nfive---\nsix----\n"),
        ("log.2", "two----\n"),
        ("log.3", "one----\n"),
    ];
    is(&files(dir.path()), &expected);
}

#[test]
fn a_next_file_that_cannot_be_opened_is_tried_again_and_pushes_nothing_out() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("logs");
    fs::create_dir(&folder).expect("made");
    let path = folder.join("log");
    let mut target = Target::file(path.clone(), 10, 2).expect("opens");
    for line in ["one----\n", "two----\n", "three--\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    // With its folder gone, there is nothing to put aside, and nowhere to open the next one.
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&folder, &elsewhere).expect("renamed");
    for line in ["four---\n", "five---\n"] {
        target.write(line.as_bytes()).expect("written");
    }
    let expected = [
        ("log", "three--\nfour---\nfive---\n"),
        ("log.1", "two----\n"),
        ("log.2", "one----\n"),
    ];
    is(&files(&elsewhere), &expected);
    fs::rename(&elsewhere, &folder).expect("renamed");
    target.write(b"six----\n").expect("written");
    let expected = [
        ("log", "six----\n"),
        ("log.1", "three--\nfour---\nfive---\n"),
        ("log.2", "two----\n"),
    ];
    is(&files(&folder), &expected);
}

#[test]
fn behind_half_a_line_the_next_one_begins_on_its_own() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    fs::write(&path, "half a li").expect("written");
    let mut target = Target::file(path.clone(), 100, 2).expect("opens");
    target.write(b"whole\n").expect("written");
    target.write(b"whole\n").expect("written");
    is(&files(dir.path()), &[("log", "half a li\nwhole\nwhole\n")]);
}

#[test]
fn a_line_that_was_cut_short_does_not_take_the_next_one_with_it() {
    // A pipe that nobody reads is like a disk: when it is full, a part of what is written is in it.
    let (mut read, write) = io::pipe().expect("a pipe");
    let file = File::from(std::os::fd::OwnedFd::from(write));
    let flags = rustix::fs::fcntl_getfl(&file).expect("flags");
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK).expect("set");
    let mut lines = Lines {
        file,
        is_torn: false,
    };
    let mut long = vec![b'a'; 1 << 20];
    long.push(b'\n');
    lines.write(&long).expect_err("too long");
    lines.write(b"lost\n").expect_err("full");
    let mut some = vec![0; 1 << 16];
    io::Read::read_exact(&mut read, &mut some).expect("read");
    lines.write(b"next\n").expect("written");
    lines.write(b"last\n").expect("written");
    drop(lines);
    let mut rest = some;
    io::Read::read_to_end(&mut read, &mut rest).expect("read");
    let text = String::from_utf8(rest).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].bytes().all(|byte| byte == b'a'));
    assert_eq!(lines[1..], ["next", "last"]);
}

#[test]
fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &path).expect("linked");
    let mut target = Target::file(path, 10, 2).expect("opens");
    for _ in 0..3 {
        let error = target.write(b"lost----\n").expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
