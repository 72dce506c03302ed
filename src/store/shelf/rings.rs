//! Rings of numbers: doubly linked lists, in one vector of links, of what has a place in another vector.

use super::vector::{make_room, shrink};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    before: u32,
    after: u32,
}

/// So many rings. Each number from 0 on is in one of them.
pub(super) struct Rings {
    /// The heads, each between the last of its ring and the first, and then the numbers.
    links: Vec<Link>,
    heads: u32,
}

impl Rings {
    pub(super) fn new(heads: u32) -> Self {
        let alone = |at| Link {
            before: at,
            after: at,
        };
        Self {
            links: (0..heads).map(alone).collect(),
            heads,
        }
    }

    fn link(&mut self, at: u32) -> &mut Link {
        &mut self.links[at as usize]
    }

    fn join(&mut self, before: u32, after: u32) {
        self.link(before).after = after;
        self.link(after).before = before;
    }

    fn unlink(&mut self, at: u32) {
        let Link { before, after } = *self.link(at);
        self.join(before, after);
    }

    fn link_last(&mut self, head: u32, at: u32) {
        let last = self.link(head).before;
        self.join(last, at);
        self.join(at, head);
    }

    /// The next number, last in this ring.
    pub(super) fn push(&mut self, head: u32) {
        let at = self.links.len() as u32;
        make_room(&mut self.links);
        self.links.push(Link {
            before: at,
            after: at,
        });
        self.link_last(head, at);
    }

    /// The number moves, and is the last in this ring.
    pub(super) fn move_last(&mut self, head: u32, number: u32) {
        let at = self.heads + number;
        self.unlink(at);
        self.link_last(head, at);
    }

    pub(super) fn first(&self, head: u32) -> Option<u32> {
        self.links[head as usize].after.checked_sub(self.heads)
    }

    /// Takes a number out. The highest one gets its place.
    pub(super) fn swap_remove(&mut self, number: u32) {
        let at = self.heads + number;
        self.unlink(at);
        let last = self.links.len() as u32 - 1;
        if at != last {
            let Link { before, after } = *self.link(last);
            // Of one in a ring alone both are the head.
            self.join(before, at);
            self.join(at, after);
        }
        self.links.pop();
    }

    pub(super) fn shrink(&mut self) {
        shrink(&mut self.links);
    }
}
