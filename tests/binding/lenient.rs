//! A session whose certificate did NOT verify (a verify callback of another listener let it pass) is offered where no callback is, same CAs, same name.
use crate::common::*;
#[test]
fn unverified_certificate_at_a_strict_listener() {
    let (ca, me) = ca_and_client();
    let stranger = mint("me", None).unwrap(); // signed by itself: the CA has never seen it
    let mut bad = 0;
    for (what, policy, kind) in resuming_clients() {
        let lenient = context_with(&policy, |b| {
            b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            b.set_verify_callback(DEMAND, |_, _| true);
        });
        let strict = context_with(&policy, |b| {
            b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            b.set_verify(DEMAND);
        });
        let client = client_as(kind, &stranger);
        let (refused, _) = try_meet(&strict, &client, None);
        assert!(
            refused.is_err() || !refused.unwrap().server_reused,
            "strict takes strangers"
        );
        let first = meet(&lenient, &client, None);
        let (met, server) = try_meet(&strict, &client, first.next());
        match met {
            Ok(m) if m.server_reused => {
                bad += 1;
                println!(
                    "{what}: RESUMED at the strict listener with the certificate of a stranger: {:?}, authenticated {}",
                    m.outcome.map(|o| o.to_string()),
                    m.authenticated
                )
            }
            other => println!(
                "{what}: not resumed ({:?} {server:?})",
                other.map(|m| m.outcome)
            ),
        }
        let _ = &me;
    }
    assert_eq!(bad, 0);
}
