//! Which entries have something in common: chains through one table, so that an entry joins a group, and leaves it, in a few steps.
//!
//! A group is known by 32 bits of a hash of what its members have in common: who walks through one may meet members of another, and has to look.

use super::chunks::Chunks;
use super::with_slack;

/// Bytes of one membership: its link, and its part of the heads.
pub(super) const LINK_BYTES: usize = size_of::<Link>() + with_slack(size_of::<u32>());
/// No link, no owner.
pub(super) const NONE: u32 = u32::MAX;
/// Heads there are at first; always a power of two.
const FEWEST_HEADS: usize = 16;

#[derive(Clone, Copy)]
struct Link {
    group: u32,
    /// Whose membership it is; [`NONE`]: nobody's, it marks how far a walk has come.
    owner: u32,
    /// Neighbours in the chain of all groups that share a head.
    before: u32,
    after: u32,
    /// Another membership of the same owner; the next free link, where this one is free.
    sibling: u32,
}

/// How far a walk through one group has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Begin(u32),
    /// At this link, which holds the place while others come and go.
    At(u32),
}

pub(super) struct Groups {
    heads: Vec<u32>,
    links: Chunks<Link>,
    free: u32,
    used: usize,
}

impl Groups {
    pub(super) const fn new() -> Self {
        Self { heads: Vec::new(), links: Chunks::new(), free: NONE, used: 0 }
    }

    /// Adds `owner` to a group; its link, which remembers another one of the same owner.
    pub(super) fn join(&mut self, group: u32, owner: u32, sibling: u32) -> u32 {
        if self.used >= self.heads.len() {
            self.grow();
        }
        let link = Link { group, owner, before: NONE, after: self.head(group), sibling };
        let at = self.allocate(link);
        if let Some(second) = self.link_mut(link.after) {
            second.before = at;
        }
        self.set_head(group, at);
        at
    }

    /// Takes a link out; the other one of its owner. `None` where there is no such link.
    pub(super) fn leave(&mut self, at: u32) -> Option<u32> {
        let link = *self.links.get(at as usize)?;
        self.unchain(at, link);
        let free = std::mem::replace(&mut self.free, at);
        if let Some(slot) = self.link_mut(at) {
            slot.sibling = free;
        }
        self.used -= 1;
        Some(link.sibling)
    }

    /// Hands the owners of up to `most` links to `each`, from where a walk stands; where it stands then, `None` at its end. Whoever was a member all the
    /// time is met, and met once; who joins meanwhile is not.
    pub(super) fn walk(&mut self, place: Place, most: usize, mut each: impl FnMut(u32)) -> Option<Place> {
        let (group, mut at) = match place {
            Place::Begin(group) => (group, self.head(group)),
            Place::At(mark) => {
                let mark = self.links.get(mark as usize)?;
                (mark.group, mark.after)
            }
        };
        let mut last = NONE;
        for _ in 0..most.max(1) {
            let Some(link) = self.links.get(at as usize) else { break };
            if link.group == group && link.owner != NONE {
                each(link.owner);
            }
            (last, at) = (at, link.after);
        }
        if let Place::At(mark) = place {
            if at == NONE {
                self.leave(mark);
                return None;
            }
            let link = *self.links.get(mark as usize)?;
            self.unchain(mark, link);
            self.chain_after(mark, last);
            return Some(place);
        }
        (at != NONE).then(|| {
            let mark = self.allocate(Link { group, owner: NONE, before: NONE, after: NONE, sibling: NONE });
            self.chain_after(mark, last);
            Place::At(mark)
        })
    }

    #[cfg(test)]
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    fn allocate(&mut self, link: Link) -> u32 {
        self.used += 1;
        let at = self.free;
        if let Some(slot) = self.links.get_mut(at as usize) {
            self.free = std::mem::replace(slot, link).sibling;
            return at;
        }
        self.links.push(link) as u32
    }

    fn unchain(&mut self, at: u32, link: Link) {
        if let Some(before) = self.link_mut(link.before) {
            before.after = link.after;
        } else if self.head(link.group) == at {
            self.set_head(link.group, link.after);
        }
        if let Some(after) = self.link_mut(link.after) {
            after.before = link.before;
        }
    }

    fn chain_after(&mut self, at: u32, before: u32) {
        let Some(previous) = self.link_mut(before) else { return };
        let after = std::mem::replace(&mut previous.after, at);
        if let Some(link) = self.link_mut(at) {
            (link.before, link.after) = (before, after);
        }
        if let Some(next) = self.link_mut(after) {
            next.before = at;
        }
    }

    fn place(&self, group: u32) -> usize {
        group as usize & self.heads.len().wrapping_sub(1)
    }
    fn head(&self, group: u32) -> u32 {
        self.heads.get(self.place(group)).copied().unwrap_or(NONE)
    }
    fn set_head(&mut self, group: u32, at: u32) {
        let place = self.place(group);
        if let Some(head) = self.heads.get_mut(place) {
            *head = at;
        }
    }
    fn link_mut(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(at as usize)
    }

    /// Doubles the heads. Each chain falls into two that keep its order, which walks rely on.
    fn grow(&mut self) {
        let more = (2 * self.heads.len()).max(FEWEST_HEADS);
        let old = std::mem::replace(&mut self.heads, vec![NONE; more]);
        for head in &old {
            let (mut at, mut lasts) = (*head, [NONE; 2]);
            while let Some(link) = self.links.get(at as usize).copied() {
                let upper = usize::from(self.place(link.group) >= old.len());
                let before = lasts.get_mut(upper).map_or(NONE, |last| std::mem::replace(last, at));
                match self.link_mut(before) {
                    Some(previous) => previous.after = at,
                    None => self.set_head(link.group, at),
                }
                if let Some(moved) = self.link_mut(at) {
                    (moved.before, moved.after) = (before, NONE);
                }
                at = link.after;
            }
        }
    }
}
