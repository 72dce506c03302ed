//! Finds numbers by hashes: a table with linear probing, which holds the numbers alone.
//!
//! What is removed leaves no mark behind, so that the table never has to be tidied up.

/// The number that no place has.
const EMPTY: u32 = u32::MAX;

pub(super) struct Index {
    /// As many places as a power of two, of which a quarter at least is empty; or none at all.
    places: Vec<u32>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            len: 0,
        }
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.places.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    fn place(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut place = self.home(hash);
        loop {
            match self.places[place] {
                EMPTY => return None,
                number if is_it(number) => return Some(place),
                _ => place = self.after(place),
            }
        }
    }

    /// The number of this hash that it is.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.place(hash, is_it).map(|place| self.places[place])
    }

    /// Adds a number that is not there.
    pub(super) fn insert(&mut self, hash: u32, number: u32, hash_of: impl Fn(u32) -> u32) {
        self.len += 1;
        if self.len > self.places.len() / 4 * 3 {
            self.resize((self.places.len() * 2).max(8), hash_of);
        }
        self.add(hash, number);
    }

    fn add(&mut self, hash: u32, number: u32) {
        let mut place = self.home(hash);
        while self.places[place] != EMPTY {
            place = self.after(place);
        }
        self.places[place] = number;
    }

    fn resize(&mut self, places: usize, hash_of: impl Fn(u32) -> u32) {
        let before = std::mem::replace(&mut self.places, vec![EMPTY; places]);
        for number in before.into_iter().filter(|number| *number != EMPTY) {
            self.add(hash_of(number), number);
        }
    }

    /// Calls a number that is there by another.
    pub(super) fn rename(&mut self, hash: u32, from: u32, to: u32) {
        if let Some(place) = self.place(hash, |number| number == from) {
            self.places[place] = to;
        }
    }

    /// Takes out a number of this hash. What others could not be nearer to their homes for, moves up.
    pub(super) fn remove(&mut self, hash: u32, number: u32, hash_of: impl Fn(u32) -> u32) {
        let Some(mut hole) = self.place(hash, |other| other == number) else {
            return;
        };
        self.len -= 1;
        let mut place = self.after(hole);
        while self.places[place] != EMPTY {
            let home = self.home(hash_of(self.places[place]));
            let from = |place: usize| place.wrapping_sub(home) & (self.places.len() - 1);
            if from(hole) < from(place) {
                self.places[hole] = self.places[place];
                hole = place;
            }
            place = self.after(place);
        }
        self.places[hole] = EMPTY;
    }

    pub(super) fn shrink(&mut self, hash_of: impl Fn(u32) -> u32) {
        if self.len * 8 < self.places.len() {
            self.resize((self.len * 2).next_power_of_two().max(8), hash_of);
        }
    }
}
