//! A scope of systemd's that a container's own process is in.

use std::path::Path;

use super::scope;
use super::{Group, GroupError, Resources, Value, is_slice};

/// A scope, by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    /// `NAME.scope`.
    pub(crate) name: &'a str,
    /// The folder of the user's systemd, `XDG_RUNTIME_DIR`.
    pub(crate) runtime: Option<&'a Path>,
}

impl Unit<'_> {
    /// Makes it below a slice, with limits, further properties and a process in it; returns its group.
    ///
    /// # Errors
    /// [`GroupError`].
    pub(crate) fn start(
        self,
        slice: &str,
        process: i32,
        resources: &Resources,
        further: &[(String, Value)],
    ) -> Result<Group, GroupError> {
        if !is_slice(slice) {
            let reason = format!("{slice:?} is no slice, NAME.slice");
            return Err(GroupError::Manager { unit: self.name.to_owned(), reason });
        }
        let mut properties = resources.properties();
        properties.extend(further.iter().map(|(name, value)| (name.as_str(), value.clone())));
        scope::start(self.name, Some(slice), process, properties, self.runtime).map(Group::at)
    }

    /// Changes its limits, as far as they are said.
    ///
    /// # Errors
    /// [`GroupError`].
    pub(crate) fn limit(self, resources: &Resources) -> Result<(), GroupError> {
        let properties = resources.properties();
        if properties.is_empty() { Ok(()) } else { scope::change(self.name, &properties, self.runtime) }
    }

    /// Has systemd forget it, if it has not yet.
    ///
    /// # Errors
    /// [`GroupError`].
    pub(crate) fn stop(self) -> Result<(), GroupError> {
        scope::stop(self.name, self.runtime)
    }
}
