//! The data directory: its lock, its making, its format.
//!
//! | path | what it is |
//! |---|---|
//! | `lock` | locked while a process has the store open |
//! | `database/` | the fjall database |
//! | `database.new/` | a database being made; the remains of a first start that was cut off |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use fjall::{CompressionType, Database, PersistMode};

use super::EmbeddedOptions;
use super::dead_letters::index_what_is_there;
use super::keyspaces::{Keyspaces, Space};

/// The format of keys and records. A store of another format is refused.
const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &[u8] = b"format";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has the directory open.
    #[error("the data directory {} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory was written by a version of the program that this one does not understand.
    #[error("the data directory has format {found:?}, which this version does not read")]
    Format {
        /// What it says of itself.
        found: String,
    },
    /// The directory cannot be used.
    #[error("the data directory cannot be used")]
    Directory(#[from] std::io::Error),
    /// The database cannot be opened.
    #[error("the database cannot be opened")]
    Database(#[from] fjall::Error),
}

/// Holds the directory's lock until it is dropped. The operating system lets go of it when the process ends,
/// however that happens.
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held, never read")] File);

impl DirectoryLock {
    pub(super) fn acquire(path: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(path)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Opens the database in a locked directory; makes it first if it is not there.
pub(super) fn open_database(
    path: &Path,
    options: &EmbeddedOptions,
) -> Result<(Database, Keyspaces), OpenError> {
    let place = path.join("database");
    if !place.try_exists()? {
        make_database(path, &place, options)?;
    }
    let database = open(&place, options)?;
    let spaces = Keyspaces::open(&database)?;
    let found = spaces.of(Space::Meta).get(FORMAT_KEY)?;
    if found.as_deref() != Some(FORMAT) {
        let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        return Err(OpenError::Format { found });
    }
    index_what_is_there(&database, &spaces)?;
    Ok((database, spaces))
}

/// Makes the database aside and moves it into place whole: fjall cannot open what a crash left half made.
fn make_database(path: &Path, place: &Path, options: &EmbeddedOptions) -> Result<(), OpenError> {
    let aside = path.join("database.new");
    if aside.try_exists()? {
        fs::remove_dir_all(&aside)?;
    }
    {
        let database = open(&aside, options)?;
        let spaces = Keyspaces::open(&database)?;
        spaces.of(Space::Meta).insert(FORMAT_KEY, FORMAT)?;
        database.persist(PersistMode::SyncAll)?;
    }
    fs::rename(&aside, place)?;
    File::open(path)?.sync_all()?;
    Ok(())
}

fn open(place: &Path, options: &EmbeddedOptions) -> fjall::Result<Database> {
    Database::builder(place)
        .cache_size(options.block_cache_bytes)
        // Most of what is written is ciphertext.
        .journal_compression(CompressionType::None)
        .open()
}
