//! What an object store that instances share must be able to do.

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// There is none.
    Absent,
    /// It is the one that was known.
    Unchanged,
    /// It is this.
    Is {
        /// All of it.
        bytes: Vec<u8>,
        /// Changes with it.
        tag: String,
    },
}

/// On what condition an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When<'a> {
    /// In any case.
    Always,
    /// There is none.
    Absent,
    /// It still has this tag.
    Is(&'a str),
}

/// Objects by name, below one prefix. All of it blocks, within a deadline; errors say what was wrong, without credentials.
pub trait Remote: Send + Sync {
    /// `s3://bucket/prefix`.
    fn name(&self) -> String;

    /// An object of at most `most` bytes, unless it is the one known by a tag.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses; a longer object.
    fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Got, String>;

    /// Writes an object as a whole; its tag, or `None` when the condition does not hold.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses. The object may be written all the same.
    fn put(&self, object: &str, bytes: Vec<u8>, when: When<'_>) -> Result<Option<String>, String>;

    /// Names of the objects in a folder and below.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses.
    fn list(&self, folder: &str) -> Result<Vec<String>, String>;

    /// Removes an object.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses.
    fn remove(&self, object: &str) -> Result<(), String>;
}
