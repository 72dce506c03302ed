//! Whatever two connections and the threads do in whatever order, the store answers as one that
//! writes at once would: each operation takes effect at some moment while it runs.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::UNIX_EPOCH;

use super::*;
use crate::MemoryStore;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Put(u8),
    Get,
    Take,
    Remove,
}

/// An operation that was done: when it began and ended, and what it returned.
#[derive(Debug, Clone, Copy)]
struct Done {
    op: Op,
    began: usize,
    ended: usize,
    found: Option<u8>,
}

/// Whether there is an order of these operations that explains what they returned and `last`, what
/// is stored in the end. None of them comes before one that had ended when it began.
fn is_explained(history: &[Done], stored: Option<u8>, last: Option<u8>) -> bool {
    if history.is_empty() {
        return stored == last;
    }
    let first_end = history.iter().map(|done| done.ended).min().unwrap();
    (0..history.len()).any(|i| {
        let Done { op, found, .. } = history[i];
        let (answer, next) = match op {
            Op::Put(n) => (None, Some(n)),
            Op::Get => (stored, stored),
            Op::Take => (stored, None),
            Op::Remove => (None, None),
        };
        let mut rest = history.to_vec();
        rest.remove(i);
        history[i].began <= first_end && answer == found && is_explained(&rest, next, last)
    })
}

fn key(n: usize) -> SessionKey {
    SessionKey::derive(b"test", true, &n.to_be_bytes())
}

fn session(n: u8) -> Session {
    Session::new(UNIX_EPOCH + Duration::from_secs(1 << 35), &[n])
}

fn number(session: &Session) -> u8 {
    session.payload()[0]
}

/// What connection `who` does with its `i`th operation; puts differ.
fn op(program: usize, who: usize, i: usize) -> Op {
    match program >> (2 * (2 * who + i)) & 3 {
        0 => Op::Put((10 * who + i) as u8),
        1 => Op::Get,
        2 => Op::Take,
        _ => Op::Remove,
    }
}

/// What the inner store has at first.
const STORED: Option<u8> = Some(99);

/// Two connections of two operations each, and a thread that writes, a step at a time. On one key:
/// of that a second thread would do nothing.
struct World {
    queue: Queue,
    inner: Option<u8>,
    program: usize,
    connections: [Connection; 2],
    thread: Thread,
    /// Counts the steps.
    now: usize,
    history: Vec<Done>,
}

#[derive(Clone, Copy, Default)]
struct Connection {
    op: usize,
    began: Option<usize>,
    /// The queue sent it to the inner store.
    at_inner: bool,
    taken: Option<u8>,
    waits: bool,
}

/// What the thread is about to do.
enum Thread {
    Dequeue,
    Write(Write),
    Finish,
}

impl World {
    fn new(program: usize) -> Self {
        Self {
            queue: Queue::new(10, 10_000),
            inner: STORED,
            program,
            connections: Default::default(),
            thread: Thread::Dequeue,
            now: 0,
            history: Vec::new(),
        }
    }

    /// Who can go on: the connections, which are 0 and 1, and the thread, which is 2.
    fn ready(&self) -> Vec<usize> {
        let can = |who: &usize| match self.connections.get(*who) {
            Some(connection) => connection.op < 2 && !connection.waits,
            None => self.queue.len() > 0,
        };
        (0..3).filter(can).collect()
    }

    fn step(&mut self, who: usize) {
        self.now += 1;
        match who {
            0 | 1 => self.connection_step(who),
            _ => self.thread_step(),
        }
    }

    fn connection_step(&mut self, who: usize) {
        let at = &mut self.connections[who];
        let op = op(self.program, who, at.op);
        let began = *at.began.get_or_insert(self.now);
        let found = match op {
            Op::Put(n) => {
                let written = self.queue.push(key(0), Write::Put(session(n), None));
                written.map(|()| None).unwrap()
            }
            Op::Remove => {
                let written = self.queue.push(key(0), Write::Remove);
                written.map(|()| None).unwrap()
            }
            Op::Get if at.at_inner => self.inner,
            Op::Take if at.taken.is_some() => {
                let n = at.taken.expect("as the guard says");
                self.queue.taken(&key(0), &session(n));
                Some(n)
            }
            Op::Take if at.at_inner => {
                at.taken = self.inner.take();
                match at.taken {
                    Some(_) => return,
                    None => None,
                }
            }
            Op::Get => match self.queue.get(&key(0)) {
                Some(session) => session.map(number),
                None => return at.at_inner = true,
            },
            Op::Take => match self.queue.take(&key(0)) {
                Taken::Here(session) => session.as_ref().map(number),
                Taken::Writing => return at.waits = true,
                Taken::Elsewhere => return at.at_inner = true,
            },
        };
        *at = Connection {
            op: at.op + 1,
            ..Connection::default()
        };
        self.history.push(Done {
            op,
            began,
            ended: self.now,
            found,
        });
    }

    fn thread_step(&mut self) {
        self.thread = match &self.thread {
            Thread::Dequeue => Thread::Write(self.queue.next().unwrap().1),
            Thread::Write(write) => {
                self.inner = write.session().map(number);
                Thread::Finish
            }
            Thread::Finish => {
                self.queue.done(&key(0), true);
                self.connections.iter_mut().for_each(|c| c.waits = false);
                Thread::Dequeue
            }
        };
    }
}

/// All that can happen, one schedule after the other: each is a choice at each step.
fn for_all_schedules(program: usize, check: &mut impl FnMut(&World, &[usize])) {
    let mut choices: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut world = World::new(program);
        let mut taken = Vec::new();
        for depth in 0.. {
            let ready = world.ready();
            if ready.is_empty() {
                break;
            }
            if depth == choices.len() {
                choices.push((0, ready.len()));
            }
            let who = ready[choices[depth].0];
            taken.push(who);
            world.step(who);
        }
        check(&world, &taken);
        while let Some((choice, of)) = choices.pop() {
            if choice + 1 < of {
                choices.push((choice + 1, of));
                break;
            }
        }
        if choices.is_empty() {
            return;
        }
    }
}

#[test]
fn in_every_order_of_their_steps_operations_are_answered_as_if_written_at_once() {
    // Which of the connections is called the first makes no difference.
    let programs = (0..256).filter(|program| program >> 4 <= program & 15);
    for program in programs {
        for_all_schedules(program, &mut |world, taken| {
            assert_eq!((world.queue.len(), world.history.len()), (0, 4));
            assert!(
                is_explained(&world.history, STORED, world.inner),
                "{:?}, then {:?}; schedule {taken:?}",
                world.history,
                world.inner
            );
        });
    }
}

/// A store whose callers give way to others before and after each call.
struct Yielding(MemoryStore);

impl Yielding {
    fn call<T>(&self, f: impl FnOnce(&MemoryStore) -> T) -> T {
        thread::yield_now();
        let answer = f(&self.0);
        thread::yield_now();
        answer
    }
}

impl SessionStore for Yielding {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.call(|store| store.put(key, session))
    }
    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(|store| store.get(key))
    }
    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.call(|store| store.remove(key))
    }
    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(|store| store.take(key))
    }
}

/// The same with threads, in such orders as come.
#[test]
fn operations_of_two_threads_are_answered_as_if_written_at_once() {
    const ROUNDS: usize = 256 * 8;
    let inner = Arc::new(Yielding(MemoryStore::default()));
    let store = WriteBehind::new(Arc::clone(&inner)).workers(2);
    let (clock, start) = (AtomicUsize::new(0), Barrier::new(2));
    let connection = |who| {
        let (store, clock, start) = (&store, &clock, &start);
        move || {
            let one = |round, i| {
                let (op, began) = (op(round % 256, who, i), clock.fetch_add(1, SeqCst));
                let key = key(round);
                let found = match op {
                    Op::Put(n) => store.put(&key, session(n)).map(|()| None),
                    Op::Get => store.get(&key),
                    Op::Take => store.take(&key),
                    Op::Remove => store.remove(&key).map(|()| None),
                };
                let found = found.unwrap().as_ref().map(number);
                let ended = clock.fetch_add(1, SeqCst);
                Done {
                    op,
                    began,
                    ended,
                    found,
                }
            };
            let round = |round| {
                start.wait();
                [one(round, 0), one(round, 1)]
            };
            (0..ROUNDS).map(round).collect::<Vec<_>>()
        }
    };
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(connection(1));
        (connection(0)(), other.join().unwrap())
    });
    assert_eq!(store.flush(Duration::from_secs(60)), 0);
    for (round, (first, second)) in first.iter().zip(&second).enumerate() {
        let history = [*first, *second].concat();
        let last = inner.0.get(&key(round)).unwrap().as_ref().map(number);
        assert!(
            is_explained(&history, None, last),
            "{history:?}, then {last:?}"
        );
    }
    assert_eq!(store.usage().unwrap().lost, 0);
}

#[test]
fn what_ends_while_it_waits_is_not_there_and_not_written() {
    let mut queue = Queue::new(10, 10_000);
    let until = |seconds| Session::new(UNIX_EPOCH + Duration::from_secs(seconds), &[0; 10]);
    for (n, ends) in [(0, 20), (1, 10), (2, 30), (3, 10)] {
        queue.push(key(n), Write::Put(until(ends), None)).unwrap();
    }
    // Replaced, taken and being written ones are not to be found by their ends.
    queue.push(key(3), Write::Put(until(40), None)).unwrap();
    queue.take(&key(2));
    let (first, _) = queue.next().unwrap();
    assert_eq!(first, key(0));
    assert!(queue.pop_ended(9).is_none());
    assert!(queue.pop_ended(30).is_some());
    assert!(queue.pop_ended(30).is_none());
    assert!(queue.get(&key(1)).unwrap().is_none());
    assert_eq!(queue.len(), 4, "what it was to replace goes all the same");
    assert!(queue.pop_ended(40).is_some());
    assert_eq!((queue.bytes, queue.ends.len()), (3 * 128, 0));
}
