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
