//! Which session a new one succeeds reaches the store, through whatever is over it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use openssl_resumption::{
    CircuitBreaker, MemoryStore, Resumption, Sealed, Session, SessionKey, SessionStore, StoreError,
    Tiered, WriteBehind,
};

type Puts = Arc<Mutex<Vec<(SessionKey, Option<SessionKey>)>>>;

/// A store that keeps in mind what was put, and after which.
struct Noted(MemoryStore, Puts);

impl SessionStore for Noted {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.1.lock().unwrap().push((*key, None));
        self.0.put(key, session)
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        self.1.lock().unwrap().push((*key, Some(*used)));
        self.0.put_successor(key, session, used)
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.0.get(key)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.0.remove(key)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.0.take(key)
    }

    fn takes_once(&self) -> bool {
        true
    }
}

/// The same store under whatever goes over a store. The last one writes later.
fn stores(puts: &Puts) -> (Vec<Arc<dyn SessionStore>>, Arc<WriteBehind<Noted>>) {
    let noted = || Noted(MemoryStore::default(), Arc::clone(puts));
    // One thread does the writes in their order.
    let behind = Arc::new(WriteBehind::new(noted()).workers(1));
    let stores: Vec<Arc<dyn SessionStore>> = vec![
        Arc::new(noted()),
        Arc::new(Box::new(noted())),
        Arc::new(Sealed::new(noted(), [[7; 32]]).unwrap()),
        Arc::new(CircuitBreaker::new(noted())),
        Arc::new(Tiered::new(MemoryStore::default(), noted())),
        Arc::new(Tiered::new(noted(), MemoryStore::default())),
        behind.clone(),
    ];
    (stores, behind)
}

#[test]
fn a_resumption_in_tls_1_3_says_which_session_it_used() {
    let puts = Puts::default();
    for single_use in [false, true] {
        let (stores, behind) = stores(&puts);
        for (i, store) in stores.into_iter().enumerate() {
            puts.lock().unwrap().clear();
            let context = context(&Resumption::stateful(store).single_use(single_use));
            let client = Client::new(Kind::Tls13).unwrap();
            let mut met = meet(&context, &client, None);
            for _ in 0..2 {
                // What is taken before it is written never is.
                assert_eq!(behind.flush(Duration::from_secs(60)), 0);
                met = meet(&context, &client, met.next());
                assert!(met.server_reused, "{i}");
            }
            assert_eq!(behind.flush(Duration::from_secs(60)), 0);
            // One that does not resume succeeds none.
            let other = client.server_name("another.example");
            assert!(!meet(&context, &other, met.next()).server_reused);
            assert_eq!(behind.flush(Duration::from_secs(60)), 0);
            let puts = puts.lock().unwrap();
            let [first, second, third, fourth] = puts[..] else {
                panic!("{i}: {puts:?}");
            };
            assert_eq!(first.1, None, "{i}");
            assert_eq!(second.1, Some(first.0), "{i} {single_use}");
            assert_eq!(third.1, Some(second.0), "{i} {single_use}");
            assert_eq!(fourth.1, None, "{i}");
        }
    }
}

/// The same session is stored once, and succeeds nothing.
#[test]
fn a_resumption_in_tls_1_2_makes_no_session() {
    let puts = Puts::default();
    let (stores, behind) = stores(&puts);
    for store in stores {
        puts.lock().unwrap().clear();
        let context = context(&Resumption::stateful(store));
        let [_, second] = meet_twice(&context, &Client::new(Kind::Tls12).unwrap());
        assert!(second.server_reused);
        assert_eq!(behind.flush(Duration::from_secs(60)), 0);
        assert_eq!(puts.lock().unwrap().len(), 1);
    }
}
