//! Pages of records.

use super::StoreError;

/// Some of the records of a kind, in the order of their paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The records.
    pub records: Vec<T>,
    /// Those of the page that are there but can't be read.
    pub unreadable: Vec<Unreadable>,
    /// The path after which the next page begins; `None` on the last.
    pub next: Option<String>,
}

/// A record that is there but can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its path.
    pub path: String,
    /// What the reader said.
    pub reason: String,
}

impl<T> Page<T> {
    /// A page of records that are ordered by path.
    #[must_use]
    pub fn cut(
        records: Vec<T>,
        path: impl Fn(&T) -> &str,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let first =
            records.partition_point(|record| after.is_some_and(|after| path(record) <= after));
        let left = records.len() - first;
        let records: Vec<_> = records.into_iter().skip(first).take(limit).collect();
        let last = records.last().filter(|_| records.len() < left);
        Self {
            next: last.map(|record| path(record).to_owned()),
            unreadable: Vec::new(),
            records,
        }
    }

    /// The same page with its records read: those that `read` calls unreadable are named instead.
    ///
    /// # Errors
    /// What else `read` runs into.
    pub fn read<U>(
        self,
        mut read: impl FnMut(T) -> Result<U, StoreError>,
    ) -> Result<Page<U>, StoreError> {
        let mut page = Page {
            records: Vec::with_capacity(self.records.len()),
            unreadable: self.unreadable,
            next: self.next,
        };
        for record in self.records {
            match read(record) {
                Ok(record) => page.records.push(record),
                Err(StoreError::Unreadable { path, reason, .. }) => {
                    page.unreadable.push(Unreadable { path, reason });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }
}
