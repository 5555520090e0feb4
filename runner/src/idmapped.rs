//! Files that a container of real root sees with other ids than they have on disk (`MOUNT_ATTR_IDMAP`, Linux 5.12; layers of
//! an overlay, 5.19).
//!
//! Root's container has subordinate ids, while the store keeps the image's: checkouts, changes and volumes have the same
//! owners on disk whatever ids a container has, and containers with different ones share them. So each is shown through a
//! mount that maps. Only who has power over a file system may do that: the mounts are made by the caller, before the
//! clone, so that the child has them by inheritance; they get their map once the child's user namespace has it.
//!
//! What the caller binds is opened here as well, since the way there may be closed to the container's ids. It shows the
//! host's ids, which are nobody inside, unless a map is asked for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::attach::{self, clone_tree};
use crate::error::{Action, Error, Stage};
use crate::idmap::{Extent, IdMap};
use crate::image_mount;
use crate::node::{self, Node};
use crate::overlay::Layers;
use crate::owner;
use crate::plan::{Plan, Step};
use crate::rootfs::Rootfs;
use crate::spec::{ImageMount, MappedIds, MappedMount, Mount, MountKind, Propagation};
use crate::sys::mount as sys;
use crate::target::Root;
use crate::userns::{self, Maps};

/// A mount that is attached nowhere yet.
#[derive(Debug)]
pub(crate) struct Tree {
    mount: OwnedFd,
    /// What it shows.
    path: PathBuf,
    /// With the mounts below it.
    recursive: bool,
    propagation: u64,
}

impl Tree {
    /// Of what is the store's, and keeps to itself.
    pub(crate) fn of_store(path: &Path, recursive: bool) -> io::Result<Self> {
        let mount = clone_tree(path, recursive)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Self { mount, path: path.to_owned(), recursive, propagation: libc::MS_PRIVATE })
    }

    /// Attaches it where it waits, since the kernel takes no layer that is not attached (before Linux 6.14).
    fn attached(&self) -> io::Result<Root> {
        attach::attach(&self.mount, Waiting::Source.place()?)?;
        Ok(self.mount.try_clone()?.into())
    }

    /// Sets its map; for [`Error::Unmapped`] it cannot have one.
    pub(crate) fn map(&self, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        sys::map_ids(&self.mount, namespace, self.recursive, self.propagation).map_err(|error| {
            let path = self.path.display();
            Error::Unmapped(format!("the kernel does not show the files of {path} with other ids ({error})"))
        })
    }
}

/// The mounts of a start.
#[derive(Debug)]
pub(crate) struct Trees {
    root: RootTrees,
    /// Of the caller's mounts, in their order.
    sources: Vec<Option<Source>>,
    /// And how their ids show.
    shown: Vec<Shown>,
}

/// What a mount of the caller's shows.
#[derive(Debug)]
enum Source {
    /// Files of the host or the store.
    Tree(Tree),
    /// A device, by a node of its own.
    Node(Node),
    /// An image, for changes in the container's own folder.
    Image { image: ImageMount, lower: Tree, data: Option<Tree> },
}

/// How the ids of a mount show.
#[derive(Debug)]
enum Shown {
    /// As they are on disk, which is nobody's inside.
    AsTheyAre,
    /// So too, but they become root's inside, who gives them to the container's user.
    Given,
    /// As the same numbers inside.
    Inside,
    /// As was said.
    As(MappedMount),
}

#[derive(Debug)]
enum RootTrees {
    Overlay {
        lower: Tree,
        data: Option<Tree>,
        /// The container's folder, in which both the upper and the working directory are: the kernel wants them in one mount.
        folder: Tree,
        /// Their names.
        upper: OsString,
        work: OsString,
    },
    Directory(Tree),
}

impl Trees {
    /// Makes the mounts.
    ///
    /// # Errors
    /// [`Error::Child`] for what is not there.
    pub(crate) fn open(plan: &Plan, rootfs: &Rootfs) -> Result<Self, Error> {
        let root = RootTrees::open(rootfs).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied if !userns::is_initial() => {
                Error::Unmapped(format!("root of this user namespace has no power over the mounts around ({source})"))
            }
            _ => failed(Stage::Rootfs, Path::new(""), source),
        })?;
        let mounts =
            plan.steps.iter().filter_map(|step| if let Step::Mount(mount) = step { Some(mount) } else { None });
        let (mut sources, mut shown) = (Vec::new(), Vec::new());
        for mount in mounts {
            let as_what = Shown::of(mount, plan)?;
            sources.push(source(mount, &as_what).map_err(|source| failed(Stage::Mount, &mount.target, source))?);
            shown.push(as_what);
        }
        Ok(Self { root, sources, shown })
    }

    /// The descriptors of the mounts.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        fn of(tree: &Tree) -> BorrowedFd<'_> {
            tree.mount.as_fd()
        }
        let mut all = match &self.root {
            RootTrees::Overlay { lower, data, folder, .. } => {
                [Some(lower), data.as_ref(), Some(folder)].into_iter().flatten().map(of).collect()
            }
            RootTrees::Directory(tree) => vec![of(tree)],
        };
        for source in self.sources.iter().flatten() {
            match source {
                Source::Tree(tree) => all.push(of(tree)),
                Source::Node(node) => all.push(node.as_fd()),
                Source::Image { lower, data, .. } => {
                    all.extend([Some(lower), data.as_ref()].into_iter().flatten().map(of));
                }
            }
        }
        all
    }

    /// Has the mounts show their files with the ids of a user namespace, whose maps these are.
    ///
    /// # Errors
    /// [`Error::Unmapped`]; [`Error::Refused`] for a mount that was asked to be mapped.
    pub(crate) fn map(&self, namespace: BorrowedFd<'_>, maps: &Maps) -> Result<(), Error> {
        match &self.root {
            RootTrees::Overlay { lower, data, folder, .. } => {
                for tree in [Some(lower), data.as_ref(), Some(folder)].into_iter().flatten() {
                    tree.map(namespace)?;
                }
            }
            RootTrees::Directory(tree) => tree.map(namespace)?,
        }
        let refused = |error: Error| match error {
            Error::Unmapped(why) => Error::Refused(format!("idmap: {why}")),
            other => other,
        };
        for (source, shown) in self.sources.iter().zip(&self.shown) {
            match (source, shown) {
                (None, _) | (_, Shown::AsTheyAre) => {}
                (Some(Source::Node(node)), _) => node.give(maps).action("give a device to the container")?,
                (Some(Source::Image { lower, data, .. }), _) => {
                    [Some(lower), data.as_ref()].into_iter().flatten().try_for_each(|tree| tree.map(namespace))?;
                }
                (Some(Source::Tree(tree)), Shown::Given) => {
                    let root = maps.users.outside(0, 1).zip(maps.groups.outside(0, 1));
                    let (uid, gid) = root.ok_or_else(|| Error::Refused("U: the container has no root".to_owned()))?;
                    owner::give_place(&tree.mount, uid, gid).action("give files to the container")?;
                }
                (Some(Source::Tree(tree)), Shown::Inside) => tree.map(namespace).map_err(refused)?,
                (Some(Source::Tree(tree)), Shown::As(mapped)) => {
                    let own = userns::sleeping(&own_maps(mapped, maps)?)?;
                    tree.map(own.as_fd()).map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    /// The layers of the overlay, in the child. They are attached, since older kernels take none that are not.
    pub(crate) fn layers(&self) -> io::Result<Option<Layers>> {
        let RootTrees::Overlay { lower, data, folder, upper, work } = &self.root else { return Ok(None) };
        let data = data.as_ref().map(Tree::attached).transpose()?;
        let (lower, folder) = (lower.attached()?, folder.attached()?);
        let within = |name: &OsString| folder.place(Path::new(name)).map(Root::from);
        Ok(Some(Layers { lower, data, upper: within(upper)?, work: within(work)? }))
    }

    /// The directory that is the root.
    pub(crate) fn directory(&self) -> io::Result<OwnedFd> {
        match &self.root {
            RootTrees::Directory(tree) => tree.mount.try_clone(),
            RootTrees::Overlay { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// What the caller's mounts show, in their order. After [`Self::layers`], which attaches what images have their changes in.
    pub(crate) fn sources(&self, ephemeral: bool, label: Option<&str>) -> io::Result<Vec<Option<OwnedFd>>> {
        let one = |source: &Source| match source {
            Source::Tree(tree) => tree.mount.try_clone(),
            Source::Node(node) => node.bind(),
            Source::Image { image, lower, data } => {
                let RootTrees::Overlay { folder, .. } = &self.root else { return Err(image_mount::no_layers()) };
                let data = data.as_ref().map(Tree::attached).transpose()?;
                let mount = image_mount::mount(image, &folder.mount, lower.attached()?, data, ephemeral, label)?;
                if image.subpath.as_os_str().is_empty() {
                    return Ok(mount);
                }
                attach::attach(&mount, Waiting::Source.place()?)?;
                image_mount::part(&mount.into(), image)
            }
        };
        self.sources.iter().map(|source| source.as_ref().map(one).transpose()).collect()
    }
}

impl Shown {
    fn of(mount: &Mount, plan: &Plan) -> Result<Self, Error> {
        let MountKind::Bind { source, relabel, .. } = &mount.kind else { return Ok(Self::Inside) };
        match plan.spec.mapped.iter().find(|mapped| mapped.target == mount.target) {
            Some(mapped) if mapped.users.is_empty() && mapped.groups.is_empty() => Ok(Self::Inside),
            Some(mapped) => Ok(Self::As(mapped.clone())),
            None if relabel.is_some() && plan.spec.selinux.is_some() => Err(Error::Refused(format!(
                "{}: the container's ids have no power over these files, so that z cannot label them; say idmap too, by which they \
                 have, or --userns host",
                source.display()
            ))),
            None if plan.spec.owned.contains(&mount.target) => Ok(Self::Given),
            None => Ok(Self::AsTheyAre),
        }
    }
}

/// The maps of a mount that has others than the container. Of a kind that is not said, it has the container's.
fn own_maps(mapped: &MappedMount, container: &Maps) -> Result<Maps, Error> {
    let map = |said: &[MappedIds], container: &IdMap| -> Result<IdMap, Error> {
        if said.is_empty() {
            return Ok(container.clone());
        }
        let extent = |ids: &MappedIds| {
            let outside = if ids.is_inside { container.outside(ids.shown, ids.count) } else { Some(ids.shown) };
            let none =
                || Error::Refused(format!("idmap: {} ids from {} on are not in the container", ids.count, ids.shown));
            Ok(Extent { inside: ids.disk, outside: outside.ok_or_else(none)?, count: ids.count })
        };
        said.iter().map(extent).collect::<Result<_, _>>().map(IdMap)
    };
    Ok(Maps { users: map(&mapped.users, &container.users)?, groups: map(&mapped.groups, &container.groups)? })
}

impl RootTrees {
    fn open(rootfs: &Rootfs) -> io::Result<Self> {
        match rootfs {
            Rootfs::Overlay { lower, data, upper, work, .. } => {
                let apart = || io::Error::other("upper and work lie in different folders");
                let folder = upper.parent().filter(|folder| Some(*folder) == work.parent()).ok_or_else(apart)?;
                let name = |path: &Path| path.file_name().map(OsStr::to_owned).ok_or_else(apart);
                Ok(Self::Overlay {
                    lower: Tree::of_store(lower, false)?,
                    data: data.as_deref().map(|data| Tree::of_store(data, false)).transpose()?,
                    folder: Tree::of_store(folder, false)?,
                    upper: name(upper)?,
                    work: name(work)?,
                })
            }
            Rootfs::Own { tree, .. } => Ok(Self::Directory(Tree::of_store(tree, false)?)),
            Rootfs::Directory(directory) => Ok(Self::Directory(Tree::of_store(directory, true)?)),
        }
    }
}

/// Where mounts wait in the child until its root has become the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Those that others are made of.
    Source,
    /// The root: nothing may come upon it, which would go with it.
    Root,
}

impl Waiting {
    /// A folder of the host's that all ids can come to, and in which nothing is looked up there; another for each. Not the
    /// old root itself: of several mounts upon that, only the last would be let go with it.
    pub(crate) fn place(self) -> io::Result<Root> {
        let found = ["/usr", "/etc", "/tmp", "/var", "/bin", "/home"]
            .iter()
            .filter_map(|place| Root::open(Path::new(place)).ok());
        let place = found.take(2).nth(usize::from(self == Self::Root));
        place.ok_or_else(|| {
            io::Error::other("of /usr, /etc, /tmp, /var, /bin and /home there are not two for mounts to wait in")
        })
    }
}

fn source(mount: &Mount, shown: &Shown) -> io::Result<Option<Source>> {
    match &mount.kind {
        MountKind::Bind { source, recursive, propagation, .. } => {
            let tree = attach::open_source(source, *recursive)?;
            let found = rustix::fs::fstat(&tree)?;
            if matches!(shown, Shown::Inside) && node::is_device(&found) {
                return Node::like(&found).map(Source::Node).map(Some);
            }
            // A mount of the host's, which shares what is mounted below with the host: a container that is less privileged may
            // hear of that at most, as of what it copies in a mount namespace of its own.
            let propagation = if *propagation == Propagation::Private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
            sys::set_attributes(&tree, sys::Attributes { propagation, ..sys::Attributes::default() }, true)?;
            let (path, recursive) = (source.clone(), *recursive);
            Ok(Some(Source::Tree(Tree { mount: tree, path, recursive, propagation })))
        }
        MountKind::Volume { folder, .. } => Ok(Some(Source::Tree(Tree::of_store(folder, false)?))),
        MountKind::Image(image) => {
            let checkout = image_mount::looked_up(image)?;
            Ok(Some(Source::Image {
                image: image.clone(),
                lower: Tree::of_store(&checkout.root, false)?,
                data: checkout.data.as_deref().map(|data| Tree::of_store(data, false)).transpose()?,
            }))
        }
        MountKind::Tmpfs { .. } => Ok(None),
    }
}

fn failed(stage: Stage, what: &Path, source: io::Error) -> Error {
    Error::Child { stage, what: what.to_string_lossy().into_owned(), source }
}
