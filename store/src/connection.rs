//! Connections to the index that are kept for the next use. To open one means to read the whole schema, and the last one
//! to close writes the log back into the index, with syncs: a pull would do so for every step.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::index::Index;

/// Connections that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Vec<Index>>);

impl Idle {
    /// Takes one, if there is one.
    pub(crate) fn take(&self) -> Option<Connection<'_>> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(self.lend(index))
    }

    /// Closes all that nobody uses now.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lends a connection, which comes here when it is no longer used.
    pub(crate) fn lend(&self, index: Index) -> Connection<'_> {
        Connection { one: vec![index], home: Some(self) }
    }
}

/// A connection for one thread at a time.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    /// Exactly one, until it is dropped.
    one: Vec<Index>,
    home: Option<&'a Idle>,
}

impl Connection<'_> {
    /// One that is closed after its use.
    pub(crate) fn once(index: Index) -> Self {
        Self { one: vec![index], home: None }
    }
}

impl Deref for Connection<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.one[0]
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut Index {
        &mut self.one[0]
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Some(home) = self.home {
            home.0.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Counter, Durability};

    #[test]
    fn a_connection_is_taken_by_one_at_a_time_and_comes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let idle = Idle::default();
        assert!(idle.take().is_none());
        let index = Index::open(&scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let first = idle.lend(index).next(Counter::Session).unwrap();
        let mut taken = idle.take().unwrap();
        assert!(idle.take().is_none());
        assert_eq!(taken.next(Counter::Session).unwrap(), first + 1);
        drop(taken);
        assert!(idle.take().is_some());
        idle.close();
        assert!(idle.take().is_none());
    }
}
