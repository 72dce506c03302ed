//! The `ticket_keys` example as an operator runs it.

#![cfg(unix)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use crate::common::process::{Scratch, example, run};
use crate::common::programs::Over;
use openssl::base64;
use openssl_resumption::KeyDialect::{
    self, Apache, Dnsdist, Envoy, HaProxy, Nghttpx, Nginx, OpenSsl,
};

/// A directory, and the tool run in it.
struct Desk(Scratch);

impl Desk {
    fn new(name: &str) -> Self {
        Self(Scratch::new(&format!("ticket_keys-{name}")))
    }

    /// Runs the tool in the directory, under an umask that takes no right away, and makes sure that
    /// it shows no key and leaves nothing behind.
    fn tool(&self, line: &str) -> Output {
        let secrets = self.secrets();
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0; exec \"$@\"", "sh"]);
        command.arg(example("ticket_keys")).args(line.split(' '));
        let output = run(command.current_dir(&self.0.0), b"");
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8(said).expect("text");
        assert!(!said.contains("panicked"), "{said}");
        for secret in secrets.into_iter().chain(self.secrets()) {
            for part in secret.chunks(6).filter(|part| part.len() == 6) {
                let listed = format!("{part:?}");
                for shown in [hex(part), base64::encode_block(part), listed] {
                    assert!(!said.contains(&shown), "{line}: a key in: {said}");
                }
            }
        }
        for name in self.names() {
            assert!(!name.ends_with(".new"), "{line} left {name}");
        }
        output
    }

    #[track_caller]
    fn does(&self, line: &str) -> String {
        let output = self.tool(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the tool says when it ends with this status.
    #[track_caller]
    fn complains(&self, line: &str, status: i32) -> String {
        let output = self.tool(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{line}: {said}");
        assert!(said.starts_with("ticket_keys: "), "{line}: {said}");
        said
    }

    #[track_caller]
    fn refuses(&self, line: &str, words: &[&str]) {
        let before = self.contents();
        let said = self.complains(line, 1);
        for word in words {
            assert!(said.contains(word), "{line}: no {word:?} in: {said}");
        }
        assert!(before == self.contents(), "{line} changed a file");
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn contents(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let names = self.names().into_iter();
        names
            .map(|name| (name.clone(), fs::read(self.path(name)).ok()))
            .collect()
    }

    /// The halves of all keys in the directory.
    fn secrets(&self) -> Vec<Vec<u8>> {
        let contents = self.contents().into_iter();
        let contents = contents.filter_map(|(_, content)| content);
        let raw = contents.flat_map(|content| match std::str::from_utf8(&content) {
            Ok(text) => text
                .lines()
                .filter_map(|l| base64::decode_block(l).ok())
                .collect(),
            Err(_) if content.len() == 48 => vec![content],
            Err(_) => content.chunks(80).map(<[u8]>::to_vec).collect(),
        });
        raw.map(|key| key.get(16..).unwrap_or_default().to_vec())
            .collect()
    }

    /// The names of the keys in these files, as the library reads them.
    #[track_caller]
    fn keys(&self, dialect: KeyDialect, files: &str) -> Vec<String> {
        let paths = files.split(' ').map(|file| self.path(file));
        let keys = dialect.read(paths).unwrap();
        keys.iter().map(|key| hex(key.name())).collect()
    }

    fn mode(&self, file: &str) -> u32 {
        self.path(file).metadata().unwrap().mode() & 0o777
    }

    fn set_mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files that three keys of the dialect are in.
fn three(dialect: KeyDialect) -> &'static str {
    match dialect {
        HaProxy | Dnsdist => "keys",
        _ => "1.key 2.key 3.key",
    }
}

#[test]
fn generate_writes_random_keys_that_only_the_owner_can_read() {
    for dialect in KeyDialect::ALL {
        let desk = Desk::new(&format!("generate-{dialect}"));
        let files = three(*dialect);
        assert_eq!(desk.does(&format!("generate {dialect} {files}")), "");
        let keys = desk.keys(*dialect, files);
        assert_eq!(keys.len(), 3);
        assert_eq!(desk.names(), files.split(' ').collect::<Vec<_>>());
        for file in files.split(' ') {
            assert_eq!(desk.mode(file), 0o600, "{dialect} {file}");
        }
        desk.refuses(
            &format!("generate {dialect} {files}"),
            &[
                "is there already",
                "--force",
                files.split(' ').next().unwrap(),
            ],
        );
        desk.does(&format!("generate {dialect} {files} --force"));
        let others = desk.keys(*dialect, files);
        assert!(others.iter().all(|name| !keys.contains(name)));
    }
}

#[test]
fn generate_writes_all_files_or_none() {
    let desk = Desk::new("all-or-none");
    desk.does("generate nginx b");
    desk.refuses("generate nginx a b c", &["cannot write b: ", "already"]);
    desk.refuses("generate nginx a none/c", &["cannot write none/c: "]);
    fs::create_dir(desk.path("folder")).unwrap();
    for force in ["", " --force"] {
        let words = ["cannot write folder: not a file"];
        desk.refuses(&format!("generate nginx a folder{force}"), &words);
    }
    symlink("nowhere", desk.path("dangling")).unwrap();
    desk.refuses(
        "generate nginx dangling",
        &["cannot write dangling: ", "already"],
    );
    desk.refuses(
        "generate haproxy x y",
        &["haproxy has 3 keys in 1 files", "not 2"],
    );
}

#[test]
fn print_shows_names_and_what_their_keys_do() {
    for dialect in KeyDialect::ALL {
        let desk = Desk::new(&format!("print-{dialect}"));
        let files = three(*dialect);
        desk.does(&format!("generate {dialect} {files}"));
        let names = desk.keys(*dialect, files);
        let expected = ["seals and opens", "opens, seals next", "opens"];
        let expected = names.iter().zip(expected);
        let expected: String = expected
            .map(|(name, role)| format!("{name} {role}\n"))
            .collect();
        assert_eq!(desk.does(&format!("print {dialect} {files}")), expected);
    }
    let desk = Desk::new("print");
    desk.does("generate nginx a b");
    let [a, b] = ["a", "b"].map(|file| hex(&fs::read(desk.path(file)).unwrap()[..16]));
    let said = desk.does("print nginx a b");
    assert_eq!(said, format!("{a} seals and opens\n{b} opens\n"));
    // The last file is next.
    desk.does("generate nginx c d");
    let [c, d] = ["c", "d"].map(|file| hex(&fs::read(desk.path(file)).unwrap()[..16]));
    let said = desk.does("print nginx a b c d");
    let roles = format!("{a} seals and opens\n{d} opens, seals next\n{b} opens\n{c} opens\n");
    assert_eq!(said, roles);
    desk.refuses("print nginx missing", &["missing: No such file"]);
}

#[test]
fn check_says_what_is_wrong_and_warns_of_others() {
    let desk = Desk::new("check");
    desk.does("generate nginx a b");
    let said = desk.does("check nginx a b");
    assert_eq!(said, "2 keys of nginx, as they should be\n");
    desk.does("check nghttpx a"); // the sizes alone do not tell

    for (mode, warned) in [(0o640, false), (0o644, true), (0o602, true)] {
        desk.set_mode("b", mode);
        let output = desk.tool("check nginx a b");
        assert!(output.status.success(), "a warning is no failure");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("warning: b has mode"), warned, "{said}");
    }

    desk.refuses(
        "check apache a",
        &["a: 80 bytes, but a key of apache has 48"],
    );
    desk.refuses("check nginx a a/b", &["a/b: Not a directory"]);
    desk.refuses("check haproxy a", &["a: line 1: no base64"]);
    fs::copy(desk.path("a"), desk.path("c")).unwrap();
    desk.refuses("check nginx a b c", &["c: a second key has the name"]);
    desk.0.write("d", &[0; 80]);
    desk.refuses("check nginx a b d", &["d: ", "zeros"]);
}

#[test]
fn convert_keeps_the_keys_and_which_seals() {
    let large = [Nginx, HaProxy, Envoy, Nghttpx, Dnsdist, OpenSsl];
    for from in large {
        let desk = Desk::new(&format!("convert-{from}"));
        let files = three(from);
        desk.does(&format!("generate {from} {files}"));
        let before = desk.contents();
        let names = desk.keys(from, files);
        for to in large {
            let target = three(to).replace('k', "new-k");
            desk.does(&format!(
                "convert {from} {files} --to {to} {target} --force"
            ));
            assert_eq!(desk.keys(to, &target), names, "{from} to {to}");
            assert!(target.split(' ').all(|file| desk.mode(file) == 0o600));
            // And the halves of each key, whatever their order.
            let back = three(from).replace('k', "back-k");
            desk.does(&format!("convert {to} {target} --to {from} {back} --force"));
            for (file, back) in files.split(' ').zip(back.split(' ')) {
                let [file, back] = [file, back].map(|name| fs::read(desk.path(name)).unwrap());
                assert!(file == back, "{from} to {to} and back");
            }
        }
        let after = desk.contents();
        assert!(before.iter().all(|file| after.contains(file)));
    }
}

#[test]
fn convert_keeps_what_keys_are_to_do() {
    let files = |dialect, prefix: &str, count| match dialect {
        HaProxy | Dnsdist => format!("{prefix}keys"),
        _ => {
            let files: Vec<_> = (0..count).map(|n| format!("{prefix}{n}")).collect();
            files.join(" ")
        }
    };
    let large = &[Nginx, HaProxy, Envoy, Nghttpx, Dnsdist, OpenSsl][..];
    let small = &[Nginx, HaProxy, Apache, Nghttpx][..];
    for (first, dialects) in [(Nginx, large), (Apache, small)] {
        for count in [3, 4, 5] {
            let desk = Desk::new(&format!("roles-{first}-{count}"));
            let start = files(first, "start", count);
            desk.does(&format!("generate {first} {start}"));
            let roles = desk.does(&format!("print {first} {start}"));
            assert_eq!(roles.matches("seals next").count(), 1, "{roles}");
            for from in dialects {
                let source = files(*from, &format!("from-{from}-"), count);
                desk.does(&format!("convert {first} {start} --to {from} {source}"));
                for to in dialects {
                    let target = files(*to, "to-", count);
                    desk.does(&format!(
                        "convert {from} {source} --to {to} {target} --force"
                    ));
                    let there = desk.does(&format!("print {to} {target}"));
                    assert_eq!(there, roles, "{count} keys from {from} to {to}");
                }
            }
        }
    }
}

#[test]
fn convert_swaps_the_halves_of_a_key_where_the_other_server_does() {
    let desk = Desk::new("halves");
    let key = [vec![1; 16], vec![2; 32], vec![3; 32]].concat();
    let swapped = [vec![1; 16], vec![3; 32], vec![2; 32]].concat();
    desk.0.write("nginx", &key);
    desk.does("convert nginx nginx --to dnsdist dnsdist");
    assert_eq!(fs::read(desk.path("dnsdist")).unwrap(), swapped);
}

#[test]
fn convert_refuses_what_the_other_server_cannot_have() {
    let desk = Desk::new("misfits");
    desk.does("generate apache small");
    desk.does("generate nginx a b");
    desk.refuses(
        "convert apache small --to envoy new",
        &["no keys for envoy: 48 bytes, but a key of envoy has 80"],
    );
    desk.refuses(
        "convert nginx a b --to haproxy new",
        &["haproxy needs 3 keys", "not 2"],
    );
    desk.refuses(
        "convert nginx a b --to envoy new",
        &["2 keys in 2 files", "not 1"],
    );
    desk.refuses(
        "convert nginx a b --to dnsdist x y",
        &["2 keys in 1 files", "not 2"],
    );
    desk.refuses(
        "convert nginx a --to envoy b",
        &["b: it is there already", "--force"],
    );
    desk.refuses("convert nginx a c --to envoy b", &["c: No such file"]);
}

#[test]
fn rotate_puts_a_new_key_in_place_of_the_oldest() {
    for dialect in KeyDialect::ALL {
        let desk = Desk::new(&format!("rotate-{dialect}"));
        let files = three(*dialect);
        desk.does(&format!("generate {dialect} {files}"));
        let before = desk.keys(*dialect, files);
        desk.does(&format!("rotate {dialect} {files}"));
        let after = desk.keys(*dialect, files);
        assert_eq!(after.len(), 3);
        assert!(!before.contains(&after[1]), "{dialect}");
        // What was to be next seals.
        assert_eq!((&after[0], &after[2]), (&before[1], &before[0]));
    }
    let desk = Desk::new("rotate");
    desk.does("generate nginx current previous older next");
    let files = ["current", "previous", "older", "next"];
    let contents = || files.map(|file| fs::read(desk.path(file)).unwrap());
    let before = contents();
    desk.does("rotate nginx current previous older next");
    let after = contents();
    let moved = [&before[3], &before[0], &before[1]];
    assert!(after[..3].iter().eq(moved) && !before.contains(&after[3]));
}

#[test]
fn rotate_needs_room_for_the_key_before() {
    let desk = Desk::new("room");
    desk.does("generate apache a");
    desk.refuses(
        "rotate apache a",
        &["a has the only key", "second and a third file"],
    );
    // Where a file has several keys there is room.
    desk.does("generate openssl one");
    desk.does("convert openssl one --to dnsdist keys");
    let only = desk.keys(Dnsdist, "keys");
    desk.complains("rotate dnsdist keys", 0);
    let keys = desk.keys(Dnsdist, "keys");
    assert_eq!((keys.len(), &keys[1]), (2, &only[0]));
}

#[test]
fn rotate_warns_where_no_key_is_next() {
    let desk = Desk::new("none-next");
    desk.does("generate envoy a b");
    let before = desk.keys(Envoy, "a b");
    let said = desk.complains("rotate envoy a b", 0);
    for word in [
        "warning: ",
        "full handshakes",
        "third file (generate envoy next.key)",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let after = desk.keys(Envoy, "a b");
    assert!(after[1] == before[0] && !before.contains(&after[0]));
    // As it is told.
    desk.does("generate envoy next.key");
    desk.does("rotate envoy a b next.key");

    desk.does("convert envoy a b --to dnsdist keys");
    for word in ["warning: ", "full handshakes", "generate nginx next.key"] {
        let said = desk.complains("rotate dnsdist keys", 0);
        assert!(said.contains(word), "{said}");
    }
    desk.does("convert dnsdist keys --to nginx x y");
    desk.does("generate nginx z");
    desk.does("convert nginx x y z --to dnsdist keys --force");
    desk.does("rotate dnsdist keys");
}

#[test]
fn rotate_keeps_the_size_of_keys_and_the_rights_of_owner_and_group() {
    let desk = Desk::new("keeps");
    let lines = (1..=3).map(|n| base64::encode_block(&[n; 48]) + "\n");
    desk.0.write("keys", lines.collect::<String>().as_bytes());
    for (mode, kept) in [
        (0o600, 0o600),
        (0o640, 0o640),
        (0o644, 0o640),
        (0o400, 0o400),
    ] {
        desk.set_mode("keys", mode);
        let before = desk.path("keys").metadata().unwrap();
        let output = desk.tool("rotate haproxy keys");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(desk.mode("keys"), kept);
        assert_eq!(said.is_empty(), mode == kept, "{said}");
        assert!(
            mode == kept || said.contains("keys had mode 0644, now 0640"),
            "{said}"
        );
        let after = desk.path("keys").metadata().unwrap();
        assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
    }
    // Sizes are not mixed, or else it would not be read.
    assert_eq!(desk.keys(HaProxy, "keys").len(), 3);
}

#[test]
fn root_leaves_files_to_whom_they_belong() {
    let desk = Desk::new("owner");
    desk.does("generate nginx a b c");
    if std::os::unix::fs::chown(desk.path("a"), Some(1234), Some(2345)).is_err() {
        return; // not root
    }
    desk.does("rotate nginx a b c");
    desk.does("generate nginx a --force");
    let owner = desk.path("a").metadata().unwrap();
    assert_eq!(
        (owner.uid(), owner.gid(), desk.mode("a")),
        (1234, 2345, 0o600)
    );
}

#[test]
fn a_link_to_a_key_file_stays_a_link() {
    let desk = Desk::new("links");
    fs::create_dir(desk.path("real")).unwrap();
    desk.does("generate dnsdist real/keys");
    symlink("real/keys", desk.path("keys")).unwrap();
    let before = desk.keys(Dnsdist, "keys");
    desk.does("rotate dnsdist keys");
    assert!(desk.path("keys").is_symlink());
    assert_ne!(desk.keys(Dnsdist, "real/keys"), before);
}

#[test]
fn a_refused_rotation_leaves_the_files_as_they_are() {
    let desk = Desk::new("refused");
    desk.does("generate nginx a b");
    desk.0.write("torn", &[7; 79]);
    desk.refuses("rotate nginx a b torn", &["torn: 79 bytes"]);
    desk.refuses("rotate nginx a b missing", &["missing: No such file"]);
    desk.refuses("rotate haproxy a", &["a: line 1"]);
    desk.refuses("rotate dnsdist a b", &["one file"]);
}

#[test]
fn whoever_reads_meanwhile_finds_a_whole_file_and_others_find_none_to_read() {
    let desk = Desk::new("meanwhile");
    desk.does("generate haproxy keys");
    let path = desk.path("keys");
    let mut old = File::open(&path).unwrap();
    let content = fs::read(&path).unwrap();
    let done = Over::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.is() {
                HaProxy.read([&path]).unwrap();
                for entry in fs::read_dir(&desk.0.0).unwrap() {
                    let entry = entry.unwrap();
                    // It may be gone again.
                    let mode = entry.metadata().map_or(0, |metadata| metadata.mode());
                    assert_eq!(mode & 0o077, 0, "{entry:?} has mode {mode:o}");
                }
            }
        });
        let _until_then = done.when_dropped();
        for _ in 0..20 {
            desk.does("rotate haproxy keys");
        }
    });
    let mut still = Vec::new();
    old.read_to_end(&mut still).unwrap();
    assert!(still == content, "the file was not replaced but written");
    assert_ne!(
        old.metadata().unwrap().ino(),
        path.metadata().unwrap().ino()
    );
}

#[test]
fn a_key_that_is_still_needed_is_in_a_file_at_any_time() {
    let desk = Desk::new("at-any-time");
    desk.does("generate nginx current previous next");
    let name = |file: &str| fs::read(desk.path(file)).unwrap()[..16].to_vec();
    for _ in 0..20 {
        let needed = ["current", "next"].map(name);
        let done = Over::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.is() {
                    // Keys move against this order, so what is in a file no more is in a later one.
                    let found = ["next", "current", "previous"].map(name);
                    let all = needed.iter().all(|name| found.contains(name));
                    assert!(all, "a key is in no file");
                }
            });
            let _until_then = done.when_dropped();
            desk.does("rotate nginx current previous next");
        });
    }
}

#[test]
fn a_file_is_named_once_by_whatever_path() {
    let desk = Desk::new("twice");
    fs::create_dir(desk.path("folder")).unwrap();
    symlink("folder", desk.path("short")).unwrap();
    let here = desk.path("a").display().to_string();
    let pairs = [
        ("a", "./a"),
        ("a", "folder/../a"),
        ("a", &*here),
        ("folder/a", "short/a"),
    ];
    let refused = |line: &str, second: &str| {
        let before = desk.contents();
        let said = desk.complains(line, 2);
        let twice = said.contains("the same file") && said.contains(&format!("{second:?}"));
        assert!(twice, "{line}: {said}");
        assert!(before == desk.contents(), "{line} changed a file");
    };
    for made in [false, true] {
        for (first, second) in pairs {
            for force in ["", " --force"] {
                refused(&format!("generate nginx {first} b {second}{force}"), second);
            }
        }
        if !made {
            desk.does("generate nginx a folder/a x y z");
        }
    }
    for (first, second) in pairs {
        refused(&format!("rotate nginx {first} x {second}"), second);
        for force in ["", " --force"] {
            let to = format!("--to nginx {first} b {second}{force}");
            refused(&format!("convert nginx x y z {to}"), second);
        }
    }
    symlink("a", desk.path("link")).unwrap();
    refused("generate nginx a link --force", "link");
    assert!(!desk.path("b").exists());
    // From one to the other is no harm.
    desk.does("convert nginx x y z --to envoy x y z --force");
}

#[test]
fn wrong_arguments_are_refused_with_a_sentence() {
    let desk = Desk::new("arguments");
    for (line, words) in [
        (
            "frobnicate nginx a",
            &["\"frobnicate\"", "generate, rotate"][..],
        ),
        ("generate", &["generate needs a dialect"]),
        ("generate lighttpd a", &["\"lighttpd\"", "nginx, haproxy"]),
        ("generate nginx", &["generate nginx needs a file"]),
        ("generate nginx a a", &["\"a\" is named twice"]),
        (
            "generate nginx a --frobnicate",
            &["\"--frobnicate\"", "--force"],
        ),
        ("generate nginx a --to envoy b", &["--to is for convert"]),
        ("check nginx a --force", &["--force is for generate"]),
        ("convert nginx a", &["convert needs --to"]),
        ("convert nginx a --to", &["--to needs a dialect"]),
        ("convert nginx a --to envoy", &["--to envoy needs a file"]),
        (
            "convert nginx a --to envoy b --to envoy c",
            &["--to is there twice"],
        ),
    ] {
        let said = desk.complains(line, 2);
        assert!(said.contains("--help"), "{said}");
        for word in words {
            assert!(said.contains(word), "{line}: no {word:?} in: {said}");
        }
    }
    let none = run(&mut Command::new(example("ticket_keys")), b"");
    assert_eq!(none.status.code(), Some(2));
    assert!(desk.names().is_empty());

    let help = desk.does("generate --help");
    for dialect in KeyDialect::ALL {
        assert!(
            help.contains(&dialect.to_string()),
            "{dialect} is not in: {help}"
        );
    }
    assert!(help.contains("as root"), "{help}");
}
