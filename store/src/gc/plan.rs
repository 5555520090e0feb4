//! Which images and checkouts nothing needs: decided from what one transaction sees, without a look at anything else.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::index::trees::StoredTree;

/// An image, as far as it matters whether it stays.
#[derive(Debug, Clone)]
pub struct KnownImage {
    /// Its id.
    pub id: Digest,
    /// Chain ID of its layers.
    pub chain_id: String,
    /// Whether it has a name.
    pub is_named: bool,
}

/// What one transaction sees.
#[derive(Debug, Clone)]
pub struct Facts {
    /// All images.
    pub images: Vec<KnownImage>,
    /// All checkouts.
    pub trees: Vec<StoredTree>,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Images that are forgotten.
    pub images: Vec<Digest>,
    /// Checkouts that are removed.
    pub trees: Vec<u64>,
}

impl Facts {
    /// Checkouts that stay only if somebody uses them. With `checkouts` these are all; else those of images that have
    /// neither a name nor a root.
    pub fn doubtful(&self, rooted: &HashSet<Digest>, checkouts: bool) -> Vec<u64> {
        let kept = self.kept(rooted);
        let is_doubtful = |tree: &&StoredTree| checkouts || !kept.contains(tree.chain_id.as_str());
        self.trees.iter().filter(is_doubtful).map(|tree| tree.id).collect()
    }

    /// Decides. `idle` are the doubtful checkouts that nobody uses. An image whose checkout is used stays, and so do all
    /// checkouts of it: whoever uses one may be about to use another.
    pub fn decide(&self, rooted: &HashSet<Digest>, idle: &HashSet<u64>, checkouts: bool) -> Plan {
        let kept = self.kept(rooted);
        let doubtful: HashSet<u64> = self.doubtful(rooted, checkouts).into_iter().collect();
        let is_used = |tree: &&StoredTree| doubtful.contains(&tree.id) && !idle.contains(&tree.id);
        let used: HashSet<&str> = self.trees.iter().filter(is_used).map(|tree| tree.chain_id.as_str()).collect();
        let is_needed = |chain: &str| kept.contains(chain) || used.contains(chain);
        let goes = |image: &&KnownImage| {
            !image.is_named && !rooted.contains(&image.id) && !used.contains(image.chain_id.as_str())
        };
        let images = self.images.iter().filter(goes).map(|image| image.id).collect();
        let trees =
            self.trees.iter().filter(|tree| idle.contains(&tree.id) && (checkouts || !is_needed(&tree.chain_id)));
        Plan { images, trees: trees.map(|tree| tree.id).collect() }
    }

    /// Chains of the images that stay whoever uses them.
    fn kept(&self, rooted: &HashSet<Digest>) -> HashSet<&str> {
        let stays = |image: &&KnownImage| image.is_named || rooted.contains(&image.id);
        self.images.iter().filter(stays).map(|image| image.chain_id.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::{IdShift, Placement};

    fn image(name: &str, is_named: bool) -> KnownImage {
        KnownImage { id: Digest::of(name.as_bytes()), chain_id: format!("chain-{name}"), is_named }
    }

    fn tree(id: u64, name: &str) -> StoredTree {
        let (chain_id, lost) = (format!("chain-{name}"), String::new());
        StoredTree { id, chain_id, placement: Placement::Stub, shift: IdShift::default(), lost }
    }

    fn facts() -> Facts {
        Facts {
            images: vec![image("named", true), image("rooted", false), image("used", false), image("dead", false)],
            trees: vec![
                tree(1, "named"),
                tree(2, "rooted"),
                tree(3, "used"),
                tree(4, "used"),
                tree(5, "dead"),
                tree(6, "removed"),
                tree(7, "removed and used"),
            ],
        }
    }

    fn rooted() -> HashSet<Digest> {
        HashSet::from([Digest::of(b"rooted")])
    }

    #[test]
    fn a_name_a_root_or_a_user_keeps_an_image() {
        let facts = facts();
        assert_eq!(facts.doubtful(&rooted(), false), [3, 4, 5, 6, 7], "no other lease is looked at");
        let plan = facts.decide(&rooted(), &HashSet::from([4, 5, 6]), false);
        assert_eq!(plan, Plan { images: vec![Digest::of(b"dead")], trees: vec![5, 6] });
    }

    #[test]
    fn all_idle_checkouts_go_where_that_is_asked() {
        let facts = facts();
        assert_eq!(facts.doubtful(&rooted(), true).len(), 7);
        let plan = facts.decide(&rooted(), &HashSet::from([1, 2, 4, 5, 6]), true);
        assert_eq!(plan, Plan { images: vec![Digest::of(b"dead")], trees: vec![1, 2, 4, 5, 6] });
    }

    #[test]
    fn two_images_of_the_same_layers_share_their_checkout() {
        let mut facts = facts();
        facts.images.push(KnownImage { chain_id: "chain-named".to_owned(), ..image("twin", false) });
        let plan = facts.decide(&rooted(), &HashSet::new(), false);
        assert!(plan.images.contains(&Digest::of(b"twin")));
        assert!(plan.trees.is_empty());
    }
}
