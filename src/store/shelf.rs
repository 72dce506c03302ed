//! Sessions in memory: which goes first when there is no room, and which have ended.

use crate::session::SessionKey;
use index::Index;
use rings::Rings;
use vector::{make_room, shrink};

mod index;
mod rings;
#[cfg(test)]
mod tests;
mod vector;

/// A key cut to what tells sessions apart, as no one can find two ids with the same 128 bits.
type ShortKey = [u8; 16];

/// One in so many may be fresh before the fresh make room for others.
const FRESH_SHARE: usize = 10;

/// The wheel has so many spokes, and what ends within so many seconds hangs on the same.
const SPOKES: u32 = 64;
const SECONDS: u64 = 4;

/// What a shelf must know of its items.
pub(crate) trait Item {
    /// The bytes that it counts as.
    fn size(&self) -> usize;

    /// The second since the Unix epoch in which it ends.
    fn ends(&self) -> u64;
}

/// The kinds of sessions, in the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its client has got another for it.
    Superseded,
    /// No client has come back with it yet. Those of a stranger who makes many and resumes none drive out one
    /// another, and not what is in use.
    Fresh,
    /// A client has come back with it, or with the one that it succeeds.
    Used,
}

/// Items by their keys. Of each kind the least recently used goes first.
///
/// An item has the same number in all of these: in a place of its own, found by its key, in the order of its
/// kind, and on the spoke of the time at which it ends.
pub(crate) struct Shelf<V> {
    places: Vec<Place<V>>,
    index: Index,
    kinds: Rings,
    fresh: usize,
    wheel: Rings,
    on_spoke: [u32; SPOKES as usize],
    /// Up to which second what has ended was taken out.
    swept: u64,
    /// How many on the spoke of that second have not been looked at, while a sweep is interrupted.
    left: Option<u32>,
    bytes: usize,
}

struct Place<V> {
    key: ShortKey,
    item: V,
    /// On the spoke of this second: that in which it ends, if it had not ended when it came.
    hangs: u64,
    kind: Kind,
}

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            index: Index::new(),
            kinds: Rings::new(3),
            fresh: 0,
            wheel: Rings::new(SPOKES),
            on_spoke: [0; SPOKES as usize],
            swept: 0,
            left: None,
            bytes: 0,
        }
    }
}

impl<V: Item> Shelf<V> {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&self, key: &SessionKey) -> Option<u32> {
        let key = short(key);
        let is_it = |number: u32| self.places[number as usize].key == *key;
        self.index.find(hash(key), is_it)
    }

    /// Puts an item in, and returns the one that it replaces.
    pub(crate) fn insert(&mut self, key: &SessionKey, kind: Kind, item: V) -> Option<V> {
        let before = self.pop(key);
        let (key, hangs) = (*short(key), item.ends().max(self.swept));
        self.bytes += item.size();
        self.fresh += usize::from(kind == Kind::Fresh);
        self.on_spoke[spoke(hangs) as usize] += 1;
        if let Some(left) = (self.left.as_mut()).filter(|_| spoke(hangs) == spoke(self.swept)) {
            // A sweep is interrupted at this spoke, and is to come to this one too.
            *left += 1;
        }
        self.kinds.push(kind as u32);
        self.wheel.push(spoke(hangs));
        let number = self.places.len() as u32;
        make_room(&mut self.places);
        self.places.push(Place {
            key,
            item,
            hangs,
            kind,
        });
        let places = &self.places;
        let hash_of = |number: u32| hash(&places[number as usize].key);
        self.index.insert(hash(&key), number, hash_of);
        before
    }

    /// Looks an item up, which counts as use; it does not make up for having a successor.
    pub(crate) fn get(&mut self, key: &SessionKey) -> Option<&V> {
        let number = self.find(key)?;
        let kind = match self.places[number as usize].kind {
            Kind::Superseded => Kind::Superseded,
            Kind::Fresh | Kind::Used => Kind::Used,
        };
        self.set_kind(number, kind);
        Some(&self.places[number as usize].item)
    }

    /// The client of this session gets another for it: from now on it goes first. Returns of which kind the other
    /// is: the first one has been earned, and those that a client gets for the same session again have not.
    pub(crate) fn supersede(&mut self, key: &SessionKey) -> Kind {
        let Some(number) = self.find(key) else {
            // It was taken out, and so it was the first time.
            return Kind::Used;
        };
        let before = self.places[number as usize].kind;
        self.set_kind(number, Kind::Superseded);
        match before {
            Kind::Superseded => Kind::Fresh,
            Kind::Fresh | Kind::Used => Kind::Used,
        }
    }

    fn set_kind(&mut self, number: u32, kind: Kind) {
        let before = std::mem::replace(&mut self.places[number as usize].kind, kind);
        self.fresh -= usize::from(before == Kind::Fresh);
        self.kinds.move_last(kind as u32, number);
    }

    pub(crate) fn pop(&mut self, key: &SessionKey) -> Option<V> {
        let number = self.find(key)?;
        Some(self.take(number))
    }

    /// Takes out what is to make room for `newest`, if there is anything else. Returns of which kind it was.
    pub(crate) fn evict(&mut self, newest: &SessionKey) -> Option<(Kind, V)> {
        let order = match self.fresh * FRESH_SHARE > self.len() {
            true => [Kind::Superseded, Kind::Fresh, Kind::Used],
            false => [Kind::Superseded, Kind::Used, Kind::Fresh],
        };
        let oldest = |kind: Kind| self.kinds.first(kind as u32);
        let may_go = |number: &u32| self.places[*number as usize].key != *short(newest);
        let number = order.into_iter().filter_map(oldest).find(may_go)?;
        let kind = self.places[number as usize].kind;
        Some((kind, self.take(number)))
    }

    /// Takes out some of what has ended by this second. Returns whether there may be more: each time it stops
    /// after as many looks as take a few microseconds.
    pub(crate) fn sweep(&mut self, now: u64, gone: &mut Vec<V>) -> bool {
        const LOOKS: usize = 64;
        // The clock may have been set back, or far ahead.
        let round = u64::from(SPOKES) * SECONDS;
        if self.swept > now || now - self.swept > round {
            self.swept = now.saturating_sub(round);
            self.left = None;
        }
        let mut looks = LOOKS;
        loop {
            let at = spoke(self.swept);
            let mut left = self.left.unwrap_or(self.on_spoke[at as usize]);
            while let Some(number) = self.wheel.first(at).filter(|_| left > 0) {
                if looks == 0 {
                    self.left = Some(left);
                    return true;
                }
                looks -= 1;
                left -= 1;
                if self.places[number as usize].item.ends() <= now {
                    gone.push(self.take(number));
                } else {
                    self.hang(number);
                }
            }
            self.left = None;
            if self.swept / SECONDS == now / SECONDS {
                // There is no more to come in what has passed of these seconds.
                self.swept = now;
                break;
            }
            self.swept += SECONDS;
        }
        self.shrink();
        false
    }

    /// Hangs an item on the spoke of its end, last. It hung on a later one if the clock was set back.
    fn hang(&mut self, number: u32) {
        let place = &mut self.places[number as usize];
        self.on_spoke[spoke(place.hangs) as usize] -= 1;
        place.hangs = place.item.ends();
        let to = spoke(place.hangs);
        self.on_spoke[to as usize] += 1;
        self.wheel.move_last(to, number);
    }

    /// Takes an item out. The one in the last place gets its place.
    fn take(&mut self, number: u32) -> V {
        let places = &self.places;
        let hash_of = |number: u32| hash(&places[number as usize].key);
        self.index.remove(hash_of(number), number, hash_of);
        let last = places.len() as u32 - 1;
        if number != last {
            self.index.rename(hash_of(last), last, number);
        }
        self.kinds.swap_remove(number);
        self.wheel.swap_remove(number);
        let place = self.places.swap_remove(number as usize);
        self.fresh -= usize::from(place.kind == Kind::Fresh);
        self.on_spoke[spoke(place.hangs) as usize] -= 1;
        self.bytes -= place.item.size();
        place.item
    }

    /// Gives back memory after many have gone.
    fn shrink(&mut self) {
        let places = &mut self.places;
        shrink(places);
        self.index
            .shrink(|number| hash(&places[number as usize].key));
        self.kinds.shrink();
        self.wheel.shrink();
    }
}

fn spoke(second: u64) -> u32 {
    (second / SECONDS % u64::from(SPOKES)) as u32
}

fn short(key: &SessionKey) -> &ShortKey {
    key.as_bytes().first_chunk().expect("16 is less than 32")
}

/// Of bytes that are a hash already, those that nothing else is told by.
fn hash(key: &ShortKey) -> u32 {
    let [.., a, b, c, d] = *key;
    u32::from_le_bytes([a, b, c, d])
}
