//! What is read of a segment: what it says of itself, and its rows.

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::{
    FORMAT, FORMAT_OLDEST, Found, Head, Part, Segment, guarded,
    tables::{CURSORS, GAPS, IDS, JOURNAL_EPOCH, JOURNAL_OPEN, META, PENDING, PENDING_EACH, ROWS, SEEN},
};
use crate::store::{
    disk::home::{Home, MARKS},
    error::StoreError,
    record::{epochs::Epochs, pending::Pending, row::Block},
};

type Rows = ReadOnlyTable<u64, &'static [u8]>;

impl Segment {
    /// What it says of itself.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Format`] where a newer program wrote it.
    pub fn head(&self) -> Result<Head, StoreError> {
        let head = guarded(&self.path, || head(&self.begin_read()?).map_err(|error| self.fail(error)))?;
        if !(FORMAT_OLDEST..=FORMAT).contains(&head.format) {
            return Err(StoreError::Format { path: self.path.clone(), format: head.format });
        }
        Ok(head)
    }

    /// What it began with and what was changed since, without the rows.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Format`] where a newer program wrote it.
    pub fn found(&self) -> Result<Found, StoreError> {
        let head = self.head()?;
        guarded(&self.path, || found(head, &self.begin_read()?).map_err(|error| self.fail(error)))
    }

    /// Visits every row, in order.
    ///
    /// # Errors
    /// [`StoreError`], from the segment or from the visitor.
    pub fn for_each_row(
        &self,
        mut visit: impl FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        guarded(&self.path, || {
            for entry in self.rows()?.range::<u64>(..).map_err(|error| self.fail(error.into()))? {
                let (key, row) = entry.map_err(|error| self.fail(error.into()))?;
                visit(self.block(key.value(), row.value())?)?;
            }
            Ok(())
        })
    }

    /// Rows from the one that holds `offset` on, at least one where there is one, at most about
    /// `bytes_max`.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is read.
    pub fn read(&self, offset: u64, bytes_max: usize) -> Result<Vec<Block>, StoreError> {
        guarded(&self.path, || {
            let table = self.rows()?;
            let holding = table.range(..=offset).map_err(|error| self.fail(error.into()))?.next_back();
            let from = match holding {
                Some(entry) => entry.map_err(|error| self.fail(error.into()))?.0.value(),
                None => offset,
            };
            let (mut blocks, mut bytes) = (Vec::new(), 0);
            for entry in table.range(from..).map_err(|error| self.fail(error.into()))? {
                let (key, row) = entry.map_err(|error| self.fail(error.into()))?;
                let block = self.block(key.value(), row.value())?;
                if block.end() <= offset {
                    continue;
                }
                bytes += block.row().len();
                blocks.push(block);
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(blocks)
        })
    }

    /// The last row, if there is any.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn last(&self) -> Result<Option<Block>, StoreError> {
        guarded(&self.path, || {
            let rows = self.rows()?;
            let last = rows.last().map_err(|error| self.fail(error.into()))?;
            last.map(|(key, row)| self.block(key.value(), row.value())).transpose()
        })
    }

    fn rows(&self) -> Result<Rows, StoreError> {
        self.begin_read()?.open_table(ROWS).map_err(|error| self.fail(error.into()))
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.db.get().and_then(|db| Ok(db.begin_read()?)).map_err(|error| self.fail(error))
    }

    fn block(&self, key: u64, row: &[u8]) -> Result<Block, StoreError> {
        Block::new(key, row.to_vec()).map_err(|cause| StoreError::Row { path: self.path.clone(), cause })
    }

    fn fail(&self, error: redb::Error) -> StoreError {
        StoreError::disk(&self.path, error)
    }
}

fn head(transaction: &ReadTransaction) -> Result<Head, redb::Error> {
    let meta = transaction.open_table(META)?;
    let number = |name: &str| -> Result<u64, redb::Error> {
        Ok(meta.get(name)?.map(|value| value.value()).unwrap_or_default())
    };
    let mut home = Home::default();
    for ((name, _), mark) in MARKS.iter().zip(&mut home.0) {
        *mark = number(name)?;
    }
    Ok(Head {
        home,
        epochs: Epochs { over: number(JOURNAL_EPOCH)?, open: number(JOURNAL_OPEN)? },
        format: number("format")?,
        store: number("store")? as u32,
        first: number("first")?,
        events_before: number("events_before")?,
        bytes_before: number("bytes_before")?,
        part: match number("part")? {
            0 => Part::Whole,
            1 => Part::Salvaged,
            _ => Part::Urgent,
        },
    })
}

fn pending(transaction: &ReadTransaction) -> Result<Pending, redb::Error> {
    let mut pending = Pending::default();
    match transaction.open_table(PENDING) {
        Ok(table) => {
            for entry in table.iter()? {
                let (client, ids) = entry?;
                for id in ids.value().as_chunks().0 {
                    pending.add(client.value(), u16::from_le_bytes(*id));
                }
            }
        }
        // Up to format 2.
        Err(TableError::TableDoesNotExist(_)) => {
            for entry in transaction.open_table(PENDING_EACH)?.iter()? {
                let (key, _) = entry?;
                let (client, packet_id) = key.value();
                pending.add(client, packet_id);
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(pending)
}

fn found(head: Head, transaction: &ReadTransaction) -> Result<Found, redb::Error> {
    let mut found = Found { head, ..Found::default() };
    for entry in transaction.open_table(CURSORS)?.iter()? {
        let (name, offset) = entry?;
        found.cursors.push((name.value().to_owned(), offset.value()));
    }
    found.pending = pending(transaction)?;
    for entry in transaction.open_table(SEEN)?.iter()? {
        found.seen.push(entry?.1.value().to_owned());
    }
    match transaction.open_table(IDS) {
        Ok(ids) => {
            for entry in ids.iter()? {
                let (from, id) = entry?;
                found.ids.push((from.value(), id.value()));
            }
        }
        // Formats 1 and 2 had none.
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match transaction.open_table(GAPS) {
        Ok(gaps) => {
            for entry in gaps.iter()? {
                let (from, to) = entry?;
                found.gaps.add(from.value()..to.value());
            }
        }
        // Format 1 had none.
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(found)
}
