use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::channel;

use super::*;
use crate::Resumption;
use crate::keys::TicketKeys;
use crate::keys::refresher::Refresh;
use crate::keys::ticket_keys::tests::{at, ring};

/// Files of one key each in a directory of their own, removed when dropped.
struct Files {
    dir: PathBuf,
    paths: [PathBuf; 2],
}

impl Files {
    /// Two files, with the keys 1 and 2.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(format!("openssl-resumption-keys-{id:?}"));
        fs::create_dir_all(&dir).unwrap();
        let paths = ["a.key", "b.key"].map(|name| dir.join(name));
        let files = Self { dir, paths };
        files.put(0, key(1));
        files.put(1, key(2));
        files
    }

    fn ring(&self) -> TicketKeys {
        ring(TicketKeys::from_files(KeyDialect::OpenSsl, &self.paths))
    }

    /// Replaces a file, whatever it is, at once.
    fn put(&self, file: usize, content: impl AsRef<[u8]>) {
        let new = self.dir.join("new");
        fs::write(&new, content).unwrap();
        set_mode(&new, 0o600);
        let path = &self.paths[file];
        if path.is_dir() {
            fs::remove_dir(path).unwrap();
        }
        fs::rename(&new, path).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn key(n: u8) -> [u8; 80] {
    let mut key = [n; 80];
    // The halves say nothing that a name does.
    key[16..].fill(n + 100);
    key
}

/// Which keys there are after what the thread does at that second; the first seals.
fn keys_at(keys: &TicketKeys, second: u64) -> Vec<u8> {
    keys.shared.refresh(at(second));
    let ring = keys.shared.ring.read().clone().unwrap();
    ring.names().map(|name| name[0]).collect()
}

#[test]
fn a_change_is_taken_when_it_has_been_seen_twice() {
    let files = Files::new();
    let keys = files.ring();
    assert_eq!(keys_at(&keys, 0), [1, 2]);
    files.put(0, key(3));
    assert_eq!(keys_at(&keys, 2), [1, 2], "nobody has looked yet");
    assert_eq!(keys_at(&keys, 3), [1, 2], "seen once");
    assert_eq!(keys_at(&keys, 5), [1, 2]);
    assert_eq!(keys_at(&keys, 6), [3, 2], "seen twice");
    assert_eq!(*keys.sealing(at(6)).unwrap().name(), [3; 16]);
    assert!(keys.last_error().is_none());
}

#[test]
fn a_change_of_several_files_is_taken_as_one() {
    let files = Files::new();
    let keys = files.ring();
    files.put(0, key(3));
    assert_eq!(keys_at(&keys, 3), [1, 2]);
    files.put(1, key(1));
    assert_eq!(keys_at(&keys, 6), [1, 2], "something else than before");
    assert_eq!(keys_at(&keys, 9), [3, 1]);
}

/// Otherwise nobody would ever hear of them.
#[test]
fn files_that_never_rest_are_an_error_until_they_do() {
    let files = Files::new();
    let keys = files.ring();
    let mut second = 0;
    for n in 3.. {
        files.put(0, key(n));
        second += 3;
        assert_eq!(keys_at(&keys, second), [1, 2]);
        if let Some(error) = keys.last_error() {
            assert!(error.to_string().contains("each time"), "{error}");
            break;
        }
        assert!(second < 20, "nobody was told");
    }
    keys_at(&keys, second + 1);
    assert_eq!(keys_at(&keys, second + 4)[1..], [2]);
    assert!(keys.last_error().is_none());
}

#[test]
fn files_that_change_places_change_which_key_seals() {
    let files = Files::new();
    let keys = files.ring();
    files.put(0, key(2));
    files.put(1, key(1));
    keys_at(&keys, 3);
    assert_eq!(keys_at(&keys, 6), [2, 1]);
}

#[test]
fn a_change_that_goes_back_is_none() {
    let files = Files::new();
    let keys = files.ring();
    for second in [3, 9, 15] {
        files.put(0, key(3));
        assert_eq!(keys_at(&keys, second), [1, 2]);
        files.put(0, key(1));
        assert_eq!(keys_at(&keys, second + 3), [1, 2]);
    }
}

#[test]
fn seen_twice_is_twice_in_a_row() {
    let files = Files::new();
    let keys = files.ring();
    // An operator replaces both files, and takes one away first.
    files.put(0, key(3));
    assert_eq!(keys_at(&keys, 3), [1, 2]);
    fs::rename(&files.paths[1], files.dir.join("away")).unwrap();
    assert_eq!(keys_at(&keys, 6), [1, 2]);
    fs::rename(files.dir.join("away"), &files.paths[1]).unwrap();
    assert_eq!(keys_at(&keys, 7), [1, 2]);
    files.put(1, key(1));
    assert_eq!(keys_at(&keys, 10), [1, 2]);
    assert_eq!(keys_at(&keys, 13), [3, 1]);
}

#[test]
fn a_key_that_is_gone_is_wiped() {
    let files = Files::new();
    let keys = files.ring();
    let first = Arc::downgrade(&keys.sealing(at(0)).unwrap());
    files.put(0, key(3));
    keys_at(&keys, 3);
    assert!(first.upgrade().is_some());
    keys_at(&keys, 6);
    assert!(first.upgrade().is_none(), "something still holds the key");
}

/// How a file is damaged, and what is said then.
type Damage = (fn(&Files), &'static str);

const DAMAGES: [Damage; 12] = [
    (|files| files.put(1, &key(3)[..79]), "79 bytes"),
    (|files| files.put(1, [key(3), key(4)].concat()), "160 bytes"),
    (|files| files.put(1, ""), "0 bytes"),
    (|files| files.put(1, [0; 80]), "zeros"),
    (
        |files| files.put(1, key(1)),
        "a second key has the name 0101",
    ),
    (|files| files.put(1, vec![7; 64 * 1024]), "65536 bytes, but"),
    (
        |files| files.put(1, vec![7; 64 * 1024 + 1]),
        "larger than 65536",
    ),
    (
        |files| fs::remove_file(&files.paths[1]).unwrap(),
        "No such file",
    ),
    (
        |files| {
            fs::remove_file(&files.paths[1]).unwrap();
            fs::create_dir(&files.paths[1]).unwrap();
        },
        "not a file",
    ),
    (|files| link(files, "/dev/zero"), "not a file"),
    // Nobody, not even root, gets through a link to itself,
    (|files| link(files, "b.key"), "symbolic links"),
    // or reads address 0; but it is a file and opens.
    #[cfg(target_os = "linux")]
    (|files| link(files, "/proc/self/mem"), "error"),
    #[cfg(not(target_os = "linux"))]
    (|files| files.put(1, [7; 1]), "1 bytes"),
];

fn link(files: &Files, to: &str) {
    fs::remove_file(&files.paths[1]).unwrap();
    symlink(to, &files.paths[1]).unwrap();
}

#[test]
fn damaged_files_leave_the_ring_as_it_is_and_are_told_of_until_they_are_right_again() {
    for (damage, why) in DAMAGES {
        for repaired in [2, 3] {
            let files = Files::new();
            let keys = files.ring();
            let stats = || Resumption::stateless(keys.clone()).stats().tickets;
            damage(&files);
            assert_eq!(keys_at(&keys, 3), [1, 2], "{why}");
            assert_eq!(keys_at(&keys, 6), [1, 2], "{why}");
            let error = keys.last_error().expect(why).to_string();
            let named = files.paths[1].to_str().unwrap();
            assert!(error.contains(named) && error.contains(why), "{error}");
            assert!(stats().key_failing && stats().key_failures >= 1, "{why}");

            // Looked at again every second.
            let failures = stats().key_failures;
            assert_eq!(keys_at(&keys, 7), [1, 2], "{why}");
            assert_eq!(stats().key_failures, failures + 1, "{why}");

            files.put(1, key(repaired));
            keys_at(&keys, 8);
            assert!(keys.last_error().is_none() && !stats().key_failing, "{why}");
            assert_eq!(keys_at(&keys, 11), [1, repaired], "{why}");
            assert_eq!(stats().key_failures, failures + 1, "{why}");
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_keeps_the_ring() {
    let files = Files::new();
    let keys = files.ring();
    set_mode(&files.paths[0], 0);
    if File::open(&files.paths[0]).is_ok() {
        return; // as root
    }
    assert_eq!(keys_at(&keys, 3), [1, 2]);
    let error = keys.last_error().unwrap().to_string();
    assert!(error.contains("a.key: Permission denied"), "{error}");
}

#[test]
fn nobody_waits_for_a_pipe() {
    let files = Files::new();
    let keys = files.ring();
    fs::remove_file(&files.paths[0]).unwrap();
    let made = Command::new("mkfifo").arg(&files.paths[0]).status();
    assert!(made.unwrap().success());
    // Not a scoped thread: if it waits for ever, the test is to fail and not to wait with it.
    let (done, answer) = channel();
    std::thread::spawn(move || done.send((keys_at(&keys, 3), keys.last_error())));
    let (names, error) = answer.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(names, [1, 2]);
    let error = error.unwrap().to_string();
    assert!(error.contains("a.key: not a file"), "{error}");
}

#[test]
fn torn_lines_of_haproxy_keep_the_ring() {
    let files = Files::new();
    let path = &files.paths[..1];
    let line = |n| openssl::base64::encode_block(&key(n)) + "\n";
    let good = [1, 2, 3].map(line).concat();
    files.put(0, &good);
    let keys = ring(TicketKeys::from_files(KeyDialect::HaProxy, path));
    assert_eq!(keys_at(&keys, 0), [2, 3, 1]);
    let short = openssl::base64::encode_block(&key(4)[..48]);
    let torn = [
        ([2, 3].map(line).concat(), "3 keys or more"),
        (
            [2, 3].map(line).concat() + &line(4)[..50],
            "line 3: no base64",
        ),
        (
            [2, 3].map(line).concat() + &line(4)[..52],
            "line 3: 39 bytes",
        ),
        ([2, 3].map(line).concat() + &short, "one size"),
        (
            [2, 3].map(line).concat() + "\n" + &line(4),
            "line 3: 0 bytes",
        ),
    ];
    for (second, (torn, why)) in (3..).step_by(12).zip(torn) {
        files.put(0, torn);
        assert_eq!(keys_at(&keys, second), [2, 3, 1], "{why}");
        assert_eq!(keys_at(&keys, second + 3), [2, 3, 1], "{why}");
        let error = keys.last_error().expect(why).to_string();
        assert!(error.contains("a.key") && error.contains(why), "{error}");
        files.put(0, &good);
        assert_eq!(keys_at(&keys, second + 6), [2, 3, 1]);
        assert!(keys.last_error().is_none());
    }
}

#[test]
fn files_that_are_wrong_from_the_start_give_no_ring() {
    for (damage, why) in DAMAGES {
        let files = Files::new();
        damage(&files);
        let keys = TicketKeys::from_files(KeyDialect::OpenSsl, &files.paths);
        let error = keys.load_first(at(0)).unwrap_err().to_string();
        assert!(error.contains("b.key") && error.contains(why), "{error}");
        let read = KeyDialect::OpenSsl.read(&files.paths).unwrap_err();
        assert_eq!(
            read.to_string(),
            error,
            "the same for who reads them himself"
        );
        files.put(1, key(2));
        keys.load_first(at(0)).unwrap();
        assert_eq!(keys_at(&keys, 0), [1, 2]);
    }
}

#[test]
fn files_that_others_can_read_or_write_are_used_with_a_warning() {
    let files = Files::new();
    let keys = files.ring();
    let modes = [
        (0o600, false),
        (0o644, true),
        (0o640, false),
        (0o602, true),
        (0o400, false),
        (0o604, true),
        (0o660, false),
    ];
    for (second, (mode, warned)) in (3..).step_by(3).zip(modes) {
        set_mode(&files.paths[1], mode);
        assert_eq!(keys_at(&keys, second), [1, 2]);
        let warning = keys.last_warning();
        assert_eq!(warning.is_some(), warned, "{mode:o}: {warning:?}");
        if let Some(warning) = warning {
            assert!(
                warning.contains(&format!("b.key has mode {mode:04o}")),
                "{warning}"
            );
        }
        assert!(keys.last_error().is_none());
    }
}

#[test]
fn revoked_keys_come_back_with_no_file_and_the_next_key_seals() {
    let files = Files::new();
    let keys = files.ring();
    keys.revoke_all_at(at(1));
    assert_eq!(keys_at(&keys, 4), []);
    files.put(0, key(3));
    assert_eq!(keys_at(&keys, 7), []);
    assert_eq!(keys_at(&keys, 10), [3]);
    let refused = keys.rotate_at(at(11)).unwrap_err().to_string();
    assert!(refused.contains("change at their source"), "{refused}");
}
