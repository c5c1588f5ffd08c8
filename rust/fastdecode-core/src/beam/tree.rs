//! Histories as a tree: a beam is a node, its tokens are the path from the root. Nothing is copied
//! when beams share a past.

/// A node: the token that follows its parent's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// The node before it; the root is its own parent.
    pub parent: u32,
    /// The token it adds; 0 at the root, which adds none.
    pub token: u32,
    /// Tokens from the root to here.
    pub depth: u32,
    /// Their log-probability under the model, in nats.
    pub logprob: f64,
}

/// All histories of one prompt's search.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// The node without tokens, where every search begins.
pub const ROOT: u32 = 0;

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node { parent: ROOT, token: 0, depth: 0, logprob: 0.0 }] }
    }
}

impl Tree {
    /// A node.
    ///
    /// # Panics
    /// If this tree never gave out `id`.
    #[must_use]
    pub fn node(&self, id: u32) -> Node {
        self.nodes[id as usize]
    }

    /// Adds a child whose own token has the log-probability `logprob`.
    pub fn push(&mut self, parent: u32, token: u32, logprob: f64) -> u32 {
        let above = self.node(parent);
        let depth = above.depth + 1;
        self.nodes.push(Node { parent, token, depth, logprob: above.logprob + logprob });
        (self.nodes.len() - 1) as u32
    }

    /// The number of nodes, the root among them.
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The node and those above it, upwards, without the root.
    pub fn ancestry(&self, id: u32) -> impl Iterator<Item = Node> + '_ {
        let mut next = id;
        std::iter::from_fn(move || {
            let node = self.node(next);
            (next != ROOT).then(|| {
                next = node.parent;
                node
            })
        })
    }

    /// The tokens from the root to a node.
    #[must_use]
    pub fn tokens(&self, id: u32) -> Vec<u32> {
        let mut tokens: Vec<u32> = self.ancestry(id).map(|node| node.token).collect();
        tokens.reverse();
        tokens
    }

    /// The log-probability of each token from the root to a node, in nats.
    #[must_use]
    pub fn logprobs(&self, id: u32) -> Vec<f64> {
        let mut sums: Vec<f64> = self.ancestry(id).map(|node| node.logprob).collect();
        sums.reverse();
        let before = std::iter::once(0.0).chain(sums.iter().copied());
        sums.iter().zip(before).map(|(sum, before)| sum - before).collect()
    }

    /// The deepest node that all of `ids` descend from, or are; the root for none.
    #[must_use]
    pub fn common(&self, ids: impl IntoIterator<Item = u32>) -> u32 {
        ids.into_iter().reduce(|a, b| self.common_of_two(a, b)).unwrap_or(ROOT)
    }

    fn common_of_two(&self, mut a: u32, mut b: u32) -> u32 {
        while a != b {
            let (above, below) = (self.node(a), self.node(b));
            if above.depth >= below.depth {
                a = above.parent;
            }
            if below.depth >= above.depth {
                b = below.parent;
            }
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT, Tree};

    #[test]
    fn paths_and_common_ancestors() {
        let mut tree = Tree::default();
        let a = tree.push(ROOT, 7, -1.0);
        let b = tree.push(a, 8, -0.5);
        let c = tree.push(a, 9, -0.25);
        let d = tree.push(c, 8, -2.0);
        assert_eq!(tree.tokens(d), [7, 9, 8]);
        assert_eq!(tree.logprobs(d), [-1.0, -0.25, -2.0]);
        assert_eq!(tree.node(d).logprob, -3.25);
        assert_eq!(tree.common([b, d]), a);
        assert_eq!(tree.common([c, d]), c);
        assert_eq!(tree.common([d]), d);
        assert_eq!(tree.common([]), ROOT);
        assert_eq!(tree.common([a, ROOT, d]), ROOT);
        assert!(tree.tokens(ROOT).is_empty());
    }
}
