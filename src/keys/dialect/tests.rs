use std::collections::HashSet;

use openssl::base64;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::KeyDialect::{Apache, Dnsdist, Envoy, HaProxy, Nghttpx, Nginx, OpenSsl};
use super::*;
use crate::base::hex;
use crate::keys::{KeyError, TicketKey};

/// What the sources of those servers say: the sizes of a key, and whether its AES key comes before
/// its HMAC key.
const LAYOUTS: [(KeyDialect, usize, bool); 10] = [
    (Nginx, 48, true),
    (Nginx, 80, false),
    (HaProxy, 48, true),
    (HaProxy, 80, true),
    (Apache, 48, false),
    (Envoy, 80, false),
    (Nghttpx, 48, true),
    (Nghttpx, 80, true),
    (Dnsdist, 80, true),
    (OpenSsl, 80, false),
];

/// Those that keep all their keys in one file.
const SEVERAL_IN_A_FILE: [KeyDialect; 2] = [HaProxy, Dnsdist];

/// A key as it is in a file: its name is all `n`, its halves are all `n + 50` and `n + 100`.
fn raw(n: u8, size: usize) -> Vec<u8> {
    let half = (size - 16) / 2;
    [vec![n; 16], vec![n + 50; half], vec![n + 100; half]].concat()
}

fn lines(keys: &[Vec<u8>]) -> String {
    let lines = keys.iter().map(|key| base64::encode_block(key) + "\n");
    lines.collect()
}

/// Files with these keys, in the order in which the dialect writes them.
fn files(dialect: KeyDialect, keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match dialect {
        HaProxy => vec![lines(keys).into_bytes()],
        Dnsdist => vec![keys.concat()],
        _ => keys.to_vec(),
    }
}

fn parse(dialect: KeyDialect, files: &[Vec<u8>]) -> Result<Vec<TicketKey>, KeyError> {
    let files = files.iter().enumerate();
    let files: Vec<_> = files
        .map(|(i, content)| (format!("{i}.key"), content.as_slice()))
        .collect();
    dialect.parse(&files)
}

/// The first bytes of the names: which key seals, and the order of the others.
fn names(keys: &[TicketKey]) -> Vec<u8> {
    keys.iter().map(|key| key.name()[0]).collect()
}

fn parts(keys: &[TicketKey]) -> Vec<(&[u8], &[u8], &[u8])> {
    let parts = |key| (TicketKey::name(key).as_slice(), key.aes(), key.hmac());
    keys.iter().map(parts).collect()
}

/// What is wrong with these files, after making sure that the text shows nothing of them but names.
#[track_caller]
fn wrong(dialect: KeyDialect, files: &[Vec<u8>]) -> String {
    let wrong = parse(dialect, files).expect_err("keys that are wrong");
    let wrong = wrong.to_string();
    let words = wrong.split(' ').filter(|word| word.len() != 32);
    let rest = words.collect::<Vec<_>>().join(" ");
    for content in files.iter().flat_map(|file| file.windows(8)) {
        let listed = format!("{content:?}");
        let listed = listed.trim_matches(['[', ']']);
        let text = String::from_utf8_lossy(content);
        for shown in [&hex(content), listed, &text] {
            assert!(!rest.contains(shown), "{wrong} shows {shown}");
        }
    }
    wrong
}

#[track_caller]
fn assert_wrong(dialect: KeyDialect, files: &[Vec<u8>], with: &[&str]) {
    let wrong = wrong(dialect, files);
    for with in with {
        assert!(wrong.contains(with), "{dialect}: no {with:?} in: {wrong}");
    }
}

#[test]
fn a_key_is_where_that_server_has_it() {
    for (dialect, size, aes_first) in LAYOUTS {
        let keys = [raw(1, size), raw(2, size), raw(3, size)];
        let keys = parse(dialect, &files(dialect, &keys)).unwrap();
        let half = (size - 16) / 2;
        for key in keys {
            let n = key.name()[0];
            let (aes, hmac) = if aes_first { (50, 100) } else { (100, 50) };
            assert_eq!(key.name(), &[n; 16], "{dialect} {size}");
            assert_eq!(key.aes(), vec![n + aes; half], "{dialect} {size}");
            assert_eq!(key.hmac(), vec![n + hmac; half], "{dialect} {size}");
        }
    }
}

#[test]
fn the_key_that_seals_comes_first_then_the_upcoming_one_then_the_newest() {
    for (dialect, size, _) in LAYOUTS {
        let expected: [&[u8]; 5] = match dialect {
            HaProxy => [&[], &[], &[2, 3, 1], &[3, 4, 2, 1], &[4, 5, 3, 2, 1]],
            Dnsdist => [&[1], &[2, 1], &[3, 1, 2], &[4, 1, 3, 2], &[5, 1, 4, 3, 2]],
            _ => [&[1], &[1, 2], &[1, 3, 2], &[1, 4, 2, 3], &[1, 5, 2, 3, 4]],
        };
        for (count, expected) in (1..).zip(expected) {
            if expected.is_empty() {
                continue; // HAProxy has no fewer
            }
            let keys: Vec<_> = (1..=count).map(|n| raw(n, size)).collect();
            let keys = parse(dialect, &files(dialect, &keys)).unwrap();
            assert_eq!(names(&keys), expected, "{dialect} {size}");
        }
    }
}

/// Where the key that seals is in the files of so many keys, then the upcoming one.
fn places(dialect: KeyDialect, count: usize) -> [usize; 2] {
    match dialect {
        HaProxy => [count - 2, count - 1],
        Dnsdist => [count - 1, 0],
        _ => [0, count - 1],
    }
}

/// The first bytes of the names in files, in the order in which they are there.
fn names_in(dialect: KeyDialect, size: usize, files: &[KeyFile]) -> Vec<u8> {
    let content = files.iter().map(AsRef::as_ref).collect::<Vec<_>>().concat();
    if dialect != HaProxy {
        return content.chunks(size).map(|key| key[0]).collect();
    }
    let lines = std::str::from_utf8(&content).unwrap().lines();
    let names = lines.map(|line| base64::decode_block(line).unwrap()[0]);
    names.collect()
}

#[test]
fn keys_keep_their_roles_from_dialect_to_dialect() {
    for (from, size, _) in LAYOUTS {
        for (to, _, _) in LAYOUTS.iter().filter(|(_, other, _)| *other == size) {
            for count in 3..=5 {
                let keys: Vec<_> = (1..).take(count).map(|n| raw(n, size)).collect();
                let read = parse(from, &files(from, &keys)).unwrap();
                let written = names_in(*to, size, &to.format(&read).unwrap());
                assert_eq!(
                    places(*to, count).map(|place| written[place]),
                    places(from, count).map(|place| keys[place][0]),
                    "{count} keys of {size} bytes from {from} to {to}"
                );
            }
        }
    }
}

#[test]
fn a_key_of_any_other_size_is_none() {
    for dialect in KeyDialect::ALL {
        let sizes = LAYOUTS.iter().filter(|(of, ..)| of == dialect);
        let sizes: Vec<_> = sizes.map(|(_, size, _)| *size).collect();
        for len in (0..=200).filter(|len| !sizes.contains(len)) {
            let key = vec![7; len];
            let key = match dialect {
                HaProxy => lines(&[key, raw(1, sizes[0]), raw(2, sizes[0])]).into_bytes(),
                // Two keys.
                Dnsdist if len == 160 => continue,
                _ => key,
            };
            let named = [format!(" {len} bytes"), dialect.to_string()];
            let [len, dialect_name] = named.each_ref().map(String::as_str);
            let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
            let sizes = sizes.join(" or ");
            assert_wrong(*dialect, &[key], &["0.key: ", len, dialect_name, &sizes]);
        }
    }
}

#[test]
fn haproxy_needs_three_keys_of_one_size() {
    let keys = |sizes: &[usize]| {
        let sizes = (1..).zip(sizes);
        let keys: Vec<_> = sizes.map(|(n, size)| raw(n, *size)).collect();
        [lines(&keys).into_bytes()]
    };
    assert_wrong(HaProxy, &keys(&[80]), &["0.key: ", "haproxy", "not 1"]);
    assert_wrong(HaProxy, &keys(&[48, 48]), &["0.key: ", "not 2"]);
    for mixed in [[48, 48, 80], [80, 48, 48], [80, 48, 80]] {
        assert_wrong(HaProxy, &keys(&mixed), &["0.key: ", "one size"]);
    }
    for size in [48, 80] {
        parse(HaProxy, &keys(&[size; 3])).unwrap();
    }
}

#[test]
fn nghttpx_has_keys_of_one_size_and_nginx_of_both() {
    let keys = [raw(1, 48), raw(2, 80)];
    assert_wrong(Nghttpx, &keys, &["1.key: ", "one size"]);
    assert_eq!(names(&parse(Nginx, &keys).unwrap()), [1, 2]);
}

#[test]
fn lines_may_end_as_in_windows_and_the_last_need_not_end() {
    for size in [48, 80] {
        let unix = lines(&[raw(1, size), raw(2, size), raw(3, size)]);
        for text in [unix.replace('\n', "\r\n"), unix.trim_end().to_owned(), unix] {
            assert_eq!(names(&parse(HaProxy, &[text.into()]).unwrap()), [2, 3, 1]);
        }
    }
}

#[test]
fn what_is_not_base64_is_refused_with_its_line() {
    let good = lines(&[raw(1, 80), raw(2, 80), raw(3, 80)]);
    let second = |line: &str| {
        let mut lines: Vec<_> = good.lines().collect();
        lines[1] = line;
        [lines.join("\n").into_bytes()]
    };
    let line = base64::encode_block(&raw(2, 80));
    for damaged in [
        line.replace('=', ""),
        line.replace('=', "=="),
        format!("{line}===="),
        format!(" {line}"),
        format!("{line} "),
        format!("{line}\r\r"),
        line.replacen('A', "-", 1).replacen('M', "_", 1),
        line.replacen(|c: char| c.is_ascii_digit(), "*", 1),
        line[..line.len() - 3].to_owned(),
        "# the key of May".to_owned(),
        "\u{e4}\u{f6}".to_owned(),
    ] {
        assert_ne!(damaged, line);
        assert_wrong(HaProxy, &second(&damaged), &["0.key: line 2: ", "base64"]);
    }
    let mut bytes = good.clone().into_bytes();
    bytes[200] = 0xff;
    assert_wrong(HaProxy, &[bytes], &["0.key: line 2: ", "base64"]);
    assert_wrong(HaProxy, &second(""), &["0.key: line 2: ", "0 bytes"]);
    assert_wrong(
        HaProxy,
        &[(good + "\n").into()],
        &["0.key: line 4: ", "0 bytes"],
    );
}

#[test]
fn a_half_of_zeros_is_no_key() {
    for (dialect, size, _) in LAYOUTS {
        let half = (size - 16) / 2;
        for zeros in [16..16 + half, 16 + half..size, 0..size] {
            let mut keys = [raw(1, size), raw(2, size), raw(3, size)];
            keys[1][zeros].fill(0);
            let file = if SEVERAL_IN_A_FILE.contains(&dialect) {
                "0.key: "
            } else {
                "1.key: "
            };
            assert_wrong(dialect, &files(dialect, &keys), &[file, "zeros"]);
        }
        // Of a name there may be anything.
        let mut keys = [raw(1, size), raw(2, size), raw(3, size)];
        keys[1][..16].fill(0);
        parse(dialect, &files(dialect, &keys)).unwrap();
    }
}

#[test]
fn two_keys_of_one_name_are_refused_with_the_file_of_the_second() {
    for (dialect, size, _) in LAYOUTS {
        let keys = [raw(1, size), raw(2, size), raw(1, size), raw(3, size)];
        let file = if SEVERAL_IN_A_FILE.contains(&dialect) {
            "0.key: "
        } else {
            "2.key: "
        };
        let name = "01".repeat(16);
        assert_wrong(dialect, &files(dialect, &keys), &[file, &name]);
    }
}

#[test]
fn there_is_one_file_or_several_as_the_dialect_has_it() {
    for dialect in KeyDialect::ALL {
        assert_wrong(*dialect, &[], &["must be a ticket key file"]);
    }
    for dialect in SEVERAL_IN_A_FILE {
        let file = |n| {
            let keys = [raw(n, 80), raw(n + 1, 80), raw(n + 2, 80)];
            files(dialect, &keys).remove(0)
        };
        parse(dialect, &[file(1)]).unwrap();
        let name = dialect.to_string();
        assert_wrong(
            dialect,
            &[file(1), file(4)],
            &[&name, "one file", "not in 2"],
        );
    }
}

#[test]
fn no_more_keys_than_a_ring_holds() {
    let key = |i: usize| {
        let mut key = raw(1, 80);
        key[..8].copy_from_slice(&i.to_be_bytes());
        key
    };
    let keys: Vec<_> = (0..258).map(key).collect();
    for dialect in [Envoy, HaProxy, Dnsdist] {
        let held = parse(dialect, &files(dialect, &keys[..257])).unwrap();
        assert_eq!(held.len(), 257);
        assert_wrong(dialect, &files(dialect, &keys), &[".key: ", "258", "257"]);
    }
}

#[test]
fn the_names_of_dialects_are_read_as_they_are_written() {
    for dialect in KeyDialect::ALL {
        assert_eq!(dialect.to_string().parse::<KeyDialect>().unwrap(), *dialect);
        assert_eq!(dialect.to_string(), format!("{dialect:?}").to_lowercase());
    }
    let wrong = "Nginx".parse::<KeyDialect>().unwrap_err().to_string();
    assert!(
        wrong.contains("\"Nginx\"") && wrong.contains("nginx, haproxy"),
        "{wrong}"
    );
}

#[test]
fn a_random_key_has_the_largest_size_of_its_dialect() {
    for dialect in KeyDialect::ALL {
        let [one, other] = [(); 2].map(|()| dialect.random_key().unwrap());
        let sizes = LAYOUTS.iter().filter(|(of, ..)| of == dialect);
        let size = sizes.map(|(_, size, _)| *size).max().unwrap();
        assert_eq!(
            (one.aes().len(), one.hmac().len()),
            ((size - 16) / 2, (size - 16) / 2)
        );
        assert!(
            one.name() != other.name() && one.aes() != other.aes() && one.hmac() != other.hmac()
        );
        assert_ne!(one.aes(), one.hmac());
    }
}

#[test]
fn rotating_lets_the_upcoming_key_seal_and_drops_the_oldest_for_a_new_upcoming_one() {
    for (dialect, size, _) in LAYOUTS {
        for count in [3, 4, 5] {
            let file_keys: Vec<_> = (1..=count).map(|n| raw(n, size)).collect();
            let mut keys = parse(dialect, &files(dialect, &file_keys)).unwrap();
            let before = names(&keys);
            dialect.rotate(&mut keys).unwrap();
            let after = names(&keys);
            assert_eq!((after[0], after[2]), (before[1], before[0]), "{dialect}");
            assert_eq!(after[3..], before[2..before.len() - 1], "{dialect}");
            let new = *keys[1].name();
            assert!(before.iter().all(|n| new != [*n; 16]));
            dialect.rotate(&mut keys).unwrap();
            assert_eq!(keys[0].name(), &new, "{dialect}");
        }
    }
}

#[test]
fn a_new_key_seals_at_once_where_none_is_upcoming() {
    for dialect in [Nginx, Dnsdist] {
        for count in [1, 2] {
            let file_keys: Vec<_> = (1..=count).map(|n| raw(n, 80)).collect();
            let mut keys = parse(dialect, &files(dialect, &file_keys)).unwrap();
            let before = names(&keys);
            dialect.rotate(&mut keys).unwrap();
            assert_eq!(names(&keys)[1..], before[..1], "{dialect}");
            assert!(before.iter().all(|n| keys[0].name() != &[*n; 16]));
        }
    }
}

#[test]
fn rotating_keeps_the_size_of_the_keys_and_the_only_key() {
    for (dialect, size, _) in LAYOUTS {
        let mut keys = parse(dialect, &files(dialect, &[1, 2, 3].map(|n| raw(n, size)))).unwrap();
        dialect.rotate(&mut keys).unwrap();
        assert!(keys.iter().all(|key| key.aes().len() == (size - 16) / 2));
    }
    let mut keys = parse(Apache, &[raw(1, 48)]).unwrap();
    Apache.rotate(&mut keys).unwrap();
    assert_eq!((keys.len(), keys[1].name()), (2, &[1; 16]));
    for dialect in KeyDialect::ALL {
        dialect.rotate(&mut Vec::new()).unwrap_err();
    }
}

#[test]
fn a_key_file_shows_its_length_only() {
    let keys = parse(Nginx, &[raw(1, 48)]).unwrap();
    assert_eq!(
        format!("{:?}", Nginx.format(&keys).unwrap()),
        "[KeyFile(48 bytes)]"
    );
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Keys of which some have 16-byte halves and some 32, some are zeros and some names occur twice.
fn keys() -> impl Strategy<Value = Vec<(u8, bool, bool)>> {
    let rarely = prop::bool::weighted(0.03);
    let key = (any::<u8>(), rarely, rarely);
    (any::<bool>(), vec(key, 0..8)).prop_map(|(size, mut keys)| {
        keys.iter_mut()
            .for_each(|(_, other_size, _)| *other_size ^= size);
        keys
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read_and_what_could_not_be_read_is_not_written(
        dialect in select(KeyDialect::ALL),
        keys in keys(),
    ) {
        let key = |(n, large, zeros): &(u8, bool, bool)| {
            let half = if *large { 32 } else { 16 };
            let fill = |with: u8| vec![if *zeros { 0 } else { n ^ with | 1 }; half];
            TicketKey::of_parts([*n; 16], &fill(2), &fill(4))
        };
        let keys: Vec<_> = keys.iter().map(key).collect();
        if let Ok(formatted) = dialect.format(&keys) {
            let formatted: Vec<_> = formatted.iter().map(|file| file.as_ref().to_vec()).collect();
            let read = parse(dialect, &formatted).unwrap();
            prop_assert_eq!(parts(&read), parts(&keys));
        }
    }

    #[test]
    fn what_is_read_is_written_as_it_was(
        (dialect, size, _) in select(&LAYOUTS[..]),
        names in prop::collection::hash_set(1..50_u8, 3..8),
    ) {
        let keys: Vec<_> = names.iter().map(|n| raw(*n, size)).collect();
        let files = files(dialect, &keys);
        let formatted = dialect.format(&parse(dialect, &files).unwrap()).unwrap();
        prop_assert_eq!(formatted.len(), files.len());
        for (formatted, file) in formatted.iter().zip(&files) {
            prop_assert_eq!(formatted.as_ref(), file);
        }
    }

    #[test]
    fn a_key_that_has_sealed_never_seals_again_through_rotations_and_conversions(
        (mut dialect, size, _) in select(&LAYOUTS[..]),
        count in 1..7_u8,
        steps in vec(prop::option::weighted(0.5, select(KeyDialect::ALL)), 0..20),
    ) {
        let mut keys: Vec<_> = (1..=count).map(|n| raw(n, size)).collect();
        if dialect == HaProxy && count < 3 {
            keys = [1, 2, 3].map(|n| raw(n, size)).to_vec();
        }
        // Or may have: all but the upcoming one.
        let [_, upcoming] = places(dialect, keys.len());
        let mut sealed: HashSet<Vec<u8>> = keys.iter().map(|key| key[..16].to_vec()).collect();
        if keys.len() >= 3 {
            sealed.remove(&keys[upcoming][..16]);
        }
        let mut files = files(dialect, &keys);
        for step in steps {
            let mut keys = parse(dialect, &files).unwrap();
            let before: Vec<_> = keys.iter().map(|key| *key.name()).collect();
            if let Some(to) = step {
                // Not all have keys of this size, or as few.
                if to.format(&keys).is_err() {
                    continue;
                }
                dialect = to;
            } else {
                dialect.rotate(&mut keys).unwrap();
                let seals = keys[0].name();
                prop_assert!(sealed.insert(seals.to_vec()), "{} {:?}", dialect, seals);
                prop_assert!(before.len() < 3 || before.contains(seals), "no host has it yet");
            }
            let written = dialect.format(&keys).unwrap();
            files = written.iter().map(|file| file.as_ref().to_vec()).collect();
        }
    }

    #[test]
    fn nothing_makes_the_reader_panic_or_show_a_secret(
        dialect in select(KeyDialect::ALL),
        files in vec(vec(any::<u8>(), 0..200), 0..3),
        text in "([A-Za-z0-9+/=]{0,3}[A-Za-z0-9+/]{61,64}={0,2}\r?\n){0,4}",
    ) {
        for files in [files, vec![text.into_bytes()]] {
            if parse(dialect, &files).is_err() {
                wrong(dialect, &files);
            }
        }
    }
}
