//! What Redis, or who is in its place, answers to a session and what it does to the one before, in one trip.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{RedisStore, Session, SessionKey, SessionStore, StoreError};

/// One that answers sessions as it is told, and remembers what it was sent on which connection.
struct Fake {
    port: u16,
    sent: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Fake {
    fn start(answers: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&sent);
        thread::spawn(move || {
            for (number, tcp) in listener.incoming().enumerate() {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut tcp = tcp.unwrap();
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = tcp.read(&mut buffer) {
                        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        let answer = match &said {
                            said if said.contains("SET") => answers,
                            said if said.contains("PEXPIRE") => b":1\r\n",
                            said if said.contains("GET") => b"$-1\r\n",
                            _ => b"+PONG\r\n",
                        };
                        log.lock().unwrap().push((number, said));
                        tcp.write_all(answer).unwrap();
                    }
                });
            }
        });
        Self { port, sent }
    }

    fn store(&self) -> RedisStore {
        let store = RedisStore::connect(&format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let store = store.connections(1).deadline(Duration::from_millis(500));
        let store = store.connect_deadline(Duration::from_secs(10)).plaintext();
        // A first lookup waits for the connection.
        let begun = Instant::now();
        while store.get(&key(0)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "no connection, or the machine is too busy"
            );
        }
        store
    }

    /// What has been sent that has this word in it.
    fn sent(&self, word: &str) -> Vec<(usize, String)> {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .filter(|(_, said)| said.contains(word))
            .cloned()
            .collect()
    }
}

fn key(n: u8) -> SessionKey {
    SessionKey::from([n; 32])
}

fn put(store: &RedisStore) -> Result<(), StoreError> {
    let ends = SystemTime::now() + Duration::from_secs(86_400);
    let ends = ends
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .to_be_bytes();
    let session = Session::from_bytes(&[&[1], &ends[..], &[7; 20]].concat()).unwrap();
    store.put_successor(&key(2), session, &key(1))
}

#[test]
fn both_go_in_one_trip() {
    let fake = Fake::start(b"+OK\r\n:1\r\n");
    let store = fake.store();
    put(&store).unwrap();
    let trips = fake.sent("SET");
    assert_eq!(trips.len(), 1);
    assert!(
        trips[0].1.contains("PEXPIRE") && trips[0].1.contains("60000"),
        "{trips:?}"
    );
    assert_eq!(store.last_error(), None);
}

#[test]
fn a_second_that_is_refused_is_told_and_no_failure() {
    let fake = Fake::start(b"+OK\r\n-NOPERM no such command for you\r\n");
    let store = fake.store();
    put(&store).unwrap();
    let told = store.last_error().unwrap();
    assert!(told.contains("no such command for you"), "{told}");
}

#[test]
fn a_first_that_is_refused_takes_the_second_back() {
    let fake = Fake::start(b"-OOM full\r\n:1\r\n");
    let store = fake.store();
    assert!(put(&store).unwrap_err().to_string().contains("OOM"));
    let [_, (_, undone)] = &fake.sent("PEXPIRE")[..] else {
        panic!("{:?}", fake.sent("PEXPIRE"));
    };
    let millis: u64 = undone.lines().last().unwrap().parse().unwrap();
    assert!((86_300_000..=86_400_000).contains(&millis), "{undone}");
}

#[test]
fn where_both_are_refused_there_is_nothing_to_take_back() {
    let fake = Fake::start(b"-READONLY\r\n-READONLY\r\n");
    assert!(put(&fake.store()).is_err());
    assert_eq!(fake.sent("PEXPIRE").len(), 1);
}

/// What is missing of such answers would be taken from those to the next call.
#[test]
fn too_few_answers_end_the_connection() {
    for answers in [
        &b"+OK\r\n"[..],
        b"+OK\r\n:",
        b"-OOM full\r\n",
        b"*2\r\n+OK\r\n:1\r\n",
        b"\r\n\r\n",
        b"",
    ] {
        let fake = Fake::start(answers);
        let store = fake.store();
        let shown = String::from_utf8_lossy(answers);
        assert!(put(&store).is_err(), "{shown:?}");
        let begun = Instant::now();
        while store.get(&key(3)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{shown:?}");
        }
        let connections = fake.sent("GET").into_iter().map(|(number, _)| number).max();
        assert!(connections > Some(0), "{shown:?}: the same connection");
    }
}

/// What is too much is not taken for the answer to the next call.
#[test]
fn too_many_answers_are_not_those_to_others() {
    for answers in [
        &b"+OK\r\n:1\r\n$30\r\n\x01\xff\xff\xff\xff\xff\xff\xff\xffabcdefghijklmnopqrstu\r\n"[..],
        b"+OK\r\n:1\r\n-ERR of nobody\r\n",
        b"+OK\r\n:1\r\n$3\r\nabc",
    ] {
        let fake = Fake::start(answers);
        let store = fake.store();
        put(&store).unwrap();
        thread::sleep(Duration::from_millis(20));
        let found = store.get(&key(3));
        let shown = String::from_utf8_lossy(answers);
        assert!(!matches!(found, Ok(Some(_))), "{shown:?}");
        let begun = Instant::now();
        while store.get(&key(3)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{shown:?}");
        }
    }
}

/// Endless, huge, deep: none of it is read for longer than a deadline, and none is more than 1 MiB.
#[test]
fn no_answer_is_too_much_for_the_parser() {
    let deep: &'static [u8] = "*1\r\n".repeat(10_000).leak().as_bytes();
    let just: &'static [u8] = ("*1\r\n".repeat(99) + "+OK\r\n").leak().as_bytes();
    let line: &'static [u8] = "+".repeat(2 << 20).leak().as_bytes();
    for answers in [
        deep,
        just,
        line,
        b"$9223372036854775807\r\nabc",
        b"*9223372036854775807\r\n+a\r\n+b\r\n",
        b"*2147483647\r\n:1\r\n",
        b"%9223372036854775807\r\n+a\r\n",
        b"%4611686018427387903\r\n+a\r\n+b\r\n",
        b"|9223372036854775807\r\n+a\r\n",
        b"|1\r\n+a\r\n+b\r\n+c\r\n",
        b">2\r\n+message\r\n+a\r\n",
        b"!-5\r\n",
        b"$-9223372036854775808\r\n",
    ] {
        let fake = Fake::start(answers);
        let store = fake.store();
        let begun = Instant::now();
        let shown = String::from_utf8_lossy(&answers[..answers.len().min(30)]);
        let _ = put(&store);
        println!("{shown:?}: {:?}, {:?}", begun.elapsed(), store.last_error());
        let begun = Instant::now();
        while store.get(&key(3)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{shown:?}");
        }
    }
}
