//! The trie of hosts and path segments, as one open hash table of its edges.
//!
//! One table for all and not a map per node: ten thousand hosts would be ten thousand small maps, each with
//! its own allocation, and a trie of sorted children would cost a search per segment.
//!
//! The hash is keyed at random. Only the configuration adds keys; requests can only miss.
//!
//! Invariant: at most half of the slots are taken, so that every look-up meets an empty one.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// The parent of all exact hosts.
pub(super) const EXACT: u32 = 0;
/// The parent of all wildcard hosts, by what follows `*.`.
pub(super) const WILDCARD: u32 = 1;
/// The root of the paths of any host.
pub(super) const ANY: u32 = 2;
/// No node: an empty slot, or the parent of a node that has none.
const NONE: u32 = u32::MAX;

/// The nodes of the trie and how to get from one to the next.
#[derive(Debug)]
pub(super) struct Index {
    state: RandomState,
    nodes: Vec<TrieNode>,
    /// The labels of all nodes.
    text: String,
    /// A power of two of slots.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct TrieNode {
    parent: u32,
    text_at: u32,
    text_len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    node: u32,
}

const EMPTY: Slot = Slot { hash: 0, node: NONE };

impl Index {
    pub(super) fn new() -> Self {
        let root = TrieNode { parent: NONE, text_at: 0, text_len: 0 };
        Self { state: RandomState::new(), nodes: vec![root; 3], text: String::new(), slots: vec![EMPTY; 16] }
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The child of `parent` that `label` leads to.
    pub(super) fn child(&self, parent: u32, label: &str) -> Option<u32> {
        self.seek(self.hash(parent, label), parent, label).ok()
    }

    /// The child of `parent` that `label` leads to, made if there is none. `None` if the trie is full: 4 GiB of
    /// labels or of nodes.
    pub(super) fn child_or_insert(&mut self, parent: u32, label: &str) -> Option<u32> {
        let hash = self.hash(parent, label);
        let at = match self.seek(hash, parent, label) {
            Ok(node) => return Some(node),
            Err(at) => at,
        };
        let node = u32::try_from(self.nodes.len()).ok().filter(|node| *node < NONE)?;
        let text_at = u32::try_from(self.text.len()).ok()?;
        let text_len = u32::try_from(label.len()).ok()?;
        self.nodes.push(TrieNode { parent, text_at, text_len });
        self.text.push_str(label);
        *self.slots.get_mut(at)? = Slot { hash, node };
        if self.nodes.len() * 2 > self.slots.len() {
            self.grow();
        }
        Some(node)
    }

    /// The parent of `node`; for [`ANY`] no node's number.
    pub(super) fn parent(&self, node: u32) -> u32 {
        self.nodes.get(node as usize).map_or(node, |own| own.parent)
    }

    /// The host's root above `node`.
    pub(super) fn root(&self, node: u32) -> u32 {
        let mut node = node;
        while !matches!(self.parent(node), EXACT | WILDCARD | NONE) {
            node = self.parent(node);
        }
        node
    }

    /// Gives back what was kept for growing.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    /// The bytes that the trie holds on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<TrieNode>() + self.text.capacity() + self.slots.capacity() * size_of::<Slot>()
    }

    /// The node, or the slot where it belongs.
    fn seek(&self, hash: u32, parent: u32, label: &str) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            // Always there: `at` is masked.
            let slot = self.slots.get(at).copied().unwrap_or(EMPTY);
            if slot.node == NONE {
                return Err(at);
            }
            if slot.hash == hash && self.is(slot.node, parent, label) {
                return Ok(slot.node);
            }
            at = (at + 1) & mask;
        }
    }

    fn is(&self, node: u32, parent: u32, label: &str) -> bool {
        self.nodes.get(node as usize).is_some_and(|own| {
            let text = own.text_at as usize..own.text_at as usize + own.text_len as usize;
            own.parent == parent && self.text.as_bytes().get(text) == Some(label.as_bytes())
        })
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        for slot in old.into_iter().filter(|slot| slot.node != NONE) {
            let mut at = slot.hash as usize & (slots - 1);
            while self.slots.get(at).is_some_and(|taken| taken.node != NONE) {
                at = (at + 1) & (slots - 1);
            }
            if let Some(free) = self.slots.get_mut(at) {
                *free = slot;
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits of the hash are enough for as many nodes")]
    fn hash(&self, parent: u32, label: &str) -> u32 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(parent);
        hasher.write(label.as_bytes());
        hasher.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_with_equal_hashes_are_told_apart() {
        // Among so many, some 18 pairs share the 32 bits of their hashes.
        const MANY: u32 = 400_000;
        let mut index = Index::new();
        let nodes: Vec<_> = (0..MANY).map(|parent| index.child_or_insert(parent, "a").unwrap()).collect();
        assert_eq!(index.len(), 3 + nodes.len());
        for (parent, node) in (0..MANY).zip(nodes) {
            assert_eq!(index.child(parent, "a"), Some(node));
        }
        assert_eq!(index.child(0, "b"), None);
    }
}
