//! What lies in the file: bytes by table, as the database counts them.

use std::{io, path::Path};

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableHandle};
use serde::{Deserialize, Serialize};

/// One table.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Keys and values.
    pub(crate) stored: u64,
    /// The pages that they lie in.
    pub(crate) pages: u64,
}

/// The tables of a store that nobody has open, the largest first.
pub(crate) fn tables(path: &Path) -> io::Result<Vec<Table>> {
    read(path).map_err(io::Error::other)
}

fn read(path: &Path) -> Result<Vec<Table>, redb::Error> {
    let database = Database::open(path)?;
    let transaction = database.begin_read()?;
    let mut tables = Vec::new();
    for handle in transaction.list_tables()? {
        let name = handle.name().to_owned();
        let table = transaction.open_untyped_table(handle)?;
        let stats = table.stats()?;
        let stored = stats.stored_bytes();
        let pages = stored + stats.metadata_bytes() + stats.fragmented_bytes();
        tables.push(Table { name, rows: table.len()?, stored, pages });
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.pages));
    Ok(tables)
}
