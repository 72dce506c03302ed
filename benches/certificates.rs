//! What it costs to verify the certificate of a client again when its session is resumed.
//!
//! Lines for `report.py`: the server's instructions, counted by callgrind, of handshakes by `ClientCertificates::Verify`
//! and, in the same run and in turn with them, by `ClientCertificates::Resume`; an argument is how many lineages are
//! counted together, 10 by default, each a full handshake and two that resume. In the first of these the certificate is
//! looked at, in the second the verdict is remembered. `certificates tls12 stateful alone 30` does the handshakes of one
//! row. `certificates times` takes the times of looks, and `certificates hellos` counts the bytes of ClientHellos.

#![allow(missing_docs, reason = "no public interface")]

use std::cell::Cell;
use std::env;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use openssl_resumption::{ClientCertificates, Resumption};

#[path = "support/callgrind.rs"]
mod callgrind;
mod support;

use support::{Kind, Pair, Side, Variant, Visitor, uncounted};

const VERSIONS: [(&str, Kind); 2] = [("tls12", Kind::Tls12), ("tls13", Kind::Tls13)];

const MODES: [(&str, Variant); 3] = [
    ("stateful", Variant::Stateful),
    ("stateless", Variant::Stateless),
    ("hybrid", Variant::Hybrid),
];

/// Whether a client has an intermediate CA, and how many more CAs its server trusts.
const CLIENTS: [(&str, (bool, usize)); 3] = [
    ("alone", (false, 0)),
    ("intermediate", (true, 0)),
    ("140 CAs", (false, 139)),
];

/// The bytes of the certificate that a ClientHello may have to carry.
const LARGE: usize = 4_096;

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let number = |arg: &str| arg.parse().expect("a number of lineages");
    match args[..] {
        [] => count_all(10),
        ["hellos"] => hellos(),
        ["times"] => times(301),
        ["times", lineages] => times(number(lineages)),
        [lineages] => count_all(number(lineages)),
        [version, mode, client, lineages] => run(version, mode, client, number(lineages)),
        _ => panic!("not understood: {args:?}"),
    }
}

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> T {
    let found = all.iter().find(|(known, _)| *known == name);
    found.expect("a name that is known").1
}

/// A handshake's place in its lineage.
#[derive(Debug, Clone, Copy)]
enum Step {
    Full,
    First,
    Again,
}

/// One client's servers, of which one verifies its certificate again.
struct Servers {
    pairs: [Pair; 2],
    policies: [Resumption; 2],
}

impl Servers {
    fn new(kind: Kind, mode: Variant, client: &Visitor) -> Self {
        let policies = [ClientCertificates::Resume, ClientCertificates::Verify]
            .map(|knob| policy(mode).client_certificates(knob));
        let pairs = policies.each_ref().map(|policy| client.meets(kind, policy));
        Self { pairs, policies }
    }

    /// A lineage at each server, handshake by handshake in turn: `done` is told which it was.
    fn lineages(&self, sides: [[Side; 3]; 2], mut done: impl FnMut(usize, Step)) {
        let mut sessions: [Option<Vec<u8>>; 2] = [const { None }; 2];
        for step in [Step::Full, Step::First, Step::Again] {
            for (server, pair) in self.pairs.iter().enumerate() {
                let side = sides[server][step as usize];
                let session = match &sessions[server] {
                    None => pair.full(side),
                    Some(session) => pair.resumed(session, side),
                };
                done(server, step);
                sessions[server] = Some(session);
            }
        }
    }

    /// One look for each lineage of the server that verifies, and none at the other.
    fn assert_looks(&self, lineages: usize) {
        let looks = self
            .policies
            .each_ref()
            .map(|policy| policy.stats().certificates.verifications);
        assert_eq!(looks, [0, lineages as u64]);
    }
}

fn policy(mode: Variant) -> Resumption {
    mode.policy().expect("a mode of ours")
}

/// Sides that are counted, by their names.
mod counted {
    use super::black_box;

    /// The numbers keep the compiler from making one function of them all.
    macro_rules! sides {
        ($($name:ident $number:literal)*) => {$(
            #[inline(never)]
            pub(super) fn $name(part: &mut dyn FnMut()) {
                part();
                black_box($number);
            }
        )*};
    }

    sides! { resume_full 0 resume_first 1 resume_again 2 verify_full 3 verify_first 4 verify_again 5 }
}

fn count_all(lineages: usize) {
    println!("version,mode,client,full,look,resume,verify");
    for (version, _) in VERSIONS {
        for (mode, _) in MODES {
            let clients = ["alone", "intermediate"];
            // Load changes times, not counts.
            let counts = thread::scope(|scope| {
                clients
                    .map(|client| scope.spawn(move || count(version, mode, client, lineages)))
                    .map(|count| count.join().expect("counts"))
            });
            for (client, [full, look, resume, verify]) in clients.iter().zip(counts) {
                println!("{version},{mode},{client},{full},{look},{resume},{verify}");
            }
        }
    }
}

/// The instructions of a full handshake, of a look, and of a resumption without and with a verdict that is remembered.
fn count(version: &str, mode: &str, client: &str, lineages: usize) -> [u64; 4] {
    let names = [
        "verify_full",
        "resume_first",
        "verify_first",
        "resume_again",
        "verify_again",
    ];
    let names = names.map(|name| format!("counted::{name}"));
    let args = [version, mode, client, &lineages.to_string()];
    let names = names.each_ref().map(String::as_str);
    let counts = callgrind::count_each("*certificates::counted::*", names, &args);
    let [full, without, with, resume, verify] = counts.map(|count| count / lineages as u64);
    [full, with - without, resume, verify]
}

fn run(version: &str, mode: &str, client: &str, lineages: usize) {
    let (has_intermediate, others) = named(&CLIENTS, client);
    let client = Visitor::new(has_intermediate, others);
    let servers = Servers::new(named(&VERSIONS, version), named(&MODES, mode), &client);
    let sides: [[Side; 3]; 2] = [
        [
            counted::resume_full,
            counted::resume_first,
            counted::resume_again,
        ],
        [
            counted::verify_full,
            counted::verify_first,
            counted::verify_again,
        ],
    ];
    // What is done only once.
    (0..3).for_each(|_| servers.lineages([[uncounted; 3]; 2], |_, _| ()));
    (0..lineages).for_each(|_| servers.lineages(sides, |_, _| ()));
    servers.assert_looks(3 + lineages);
}

thread_local! {
    /// What the server's side of a handshake has taken so far.
    static TAKEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn timed(part: &mut dyn FnMut()) {
    let begun = Instant::now();
    part();
    TAKEN.set(TAKEN.get() + begun.elapsed());
}

/// Medians, in microseconds of the server's side: of full handshakes, of resumptions without a look, and of the
/// differences between two of a lineage's number of which one has a look.
fn times(lineages: usize) {
    println!("version,client,full,resumed,look");
    for (version, kind) in VERSIONS {
        for (client, (has_intermediate, others)) in CLIENTS {
            let servers = Servers::new(
                kind,
                Variant::Stateful,
                &Visitor::new(has_intermediate, others),
            );
            (0..10).for_each(|_| servers.lineages([[uncounted; 3]; 2], |_, _| ()));
            let [mut full, mut resumed, mut looks] = [const { Vec::new() }; 3];
            for _ in 0..lineages {
                servers.lineages([[timed; 3]; 2], |server, step| {
                    let taken = TAKEN.take().as_secs_f64() * 1e6;
                    match (server, step) {
                        (1, Step::Full) => full.push(taken),
                        (0, Step::First) => resumed.push(taken),
                        (1, Step::First) => looks.push(taken - resumed[resumed.len() - 1]),
                        _ => {}
                    }
                });
            }
            servers.assert_looks(10 + lineages);
            let [full, resumed, look] = [full, resumed, looks].map(median);
            println!("{version},{client},{full:.0},{resumed:.0},{look:.0}");
        }
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The bytes of a client's first flight when it offers nothing, and when it offers its newest session.
fn hellos() {
    println!("version,mode,certificate,without,with");
    let client = Visitor::with_certificate_of(LARGE);
    let certificate = client.certificate_len();
    for (version, kind) in VERSIONS {
        for (mode, variant) in MODES {
            let pair = client.meets(kind, &policy(variant));
            let session = pair.full(uncounted);
            let [without, with] =
                [None, Some(&session[..])].map(|session| pair.hello(session).len());
            println!("{version},{mode},{certificate},{without},{with}");
        }
    }
}
