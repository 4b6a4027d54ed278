//! An operator's word about the store while it serves, and what there is to say about it.

use std::{collections::BTreeMap, sync::Arc};

use redb::{Key, ReadTransaction, ReadableTableMetadata, TableDefinition, TableHandle, Value};
use tokio::sync::oneshot;

use super::{
    Acceptance, EmbeddedStore, Options, Summary,
    start::{Start, prepare},
    tables::{Happened, META, SCHEMA, Visitor, decode, each_table, encode, failed},
    verbs::table,
    witness::Witness,
    writer::{Life, Request, Writer, head_of},
};
use crate::{
    clock::Random,
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome},
        family::Standing,
    },
    store::{Report, StoreError},
};

/// Where [`META`] holds what the last backup amounted to.
const LAST_BACKUP: &str = "backup";

/// That the store was restored, or that what it lost is lost.
pub(super) struct Declaration {
    acceptance: Acceptance,
    random: Arc<dyn Random>,
    audit: Draft,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl EmbeddedStore {
    /// Declares that what the store holds is what there is, whatever its witness remembers. It is another store from
    /// here on: no record is healed, and what lay ahead of the copy closes. Durable once it returns.
    ///
    /// # Errors
    /// [`StoreError`]. With [`Acceptance::Wait`] nothing is declared.
    pub async fn declare(
        &self,
        acceptance: Acceptance,
        random: Arc<dyn Random>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let declaration = Box::new(Declaration { acceptance, random, audit, answer });
        self.send(Request::Declare(declaration))?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Failed("the store could not write".into())))
    }

    /// What can be said of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn report(&self) -> Result<Report, StoreError> {
        let transaction = self.read()?;
        let mut counted = Counted { transaction: &transaction, rows: BTreeMap::new() };
        each_table(&mut counted)?;
        let rows = counted.rows;
        Ok(Report {
            standing: self.shared.standing(),
            schema: SCHEMA,
            incarnation: self.shared.character().incarnation,
            bytes: Some(self.size().map_err(|e| StoreError::Failed(e.to_string()))?),
            rows,
            queue: self.queue_depth(),
            last_backup: last_backup(&transaction)?,
            why: None,
            nodes: Vec::new(),
        })
    }

    /// Remembers that a backup was sent to its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn backed_up(&self, summary: Summary, audit: Draft) -> Result<(), StoreError> {
        self.whole()?;
        self.step(move |step| {
            let row = encode(&summary);
            let cause = format!("{} rows, {} bytes, sha256 {}", summary.rows, summary.bytes, summary.sha256);
            step.meta.insert(LAST_BACKUP, &row[..]).map_err(failed)?;
            let (event, outcome) = (Event::BackupFinished, Outcome::Done);
            step.note(audit, Happened { event, outcome, session: None, generation: None, cause: Some(cause.into()) })
        })
        .await
    }

    /// When the last backup was taken that was sent to its end.
    #[must_use]
    pub fn last_backup_at(&self) -> Option<Timestamp> {
        let transaction = self.read().ok()?;
        last_backup(&transaction).ok().flatten().map(|summary| summary.taken_at)
    }
}

fn last_backup(transaction: &ReadTransaction) -> Result<Option<Summary>, StoreError> {
    let Some(meta) = table(transaction, META)? else { return Ok(None) };
    let row = meta.get(LAST_BACKUP).map_err(failed)?;
    row.map(|bytes| decode(bytes.value(), "backup")).transpose()
}

struct Counted<'t> {
    transaction: &'t ReadTransaction,
    rows: BTreeMap<String, u64>,
}

impl Visitor for Counted<'_> {
    fn visit<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        // Kept by the tree: nothing is gone through.
        let rows = table(self.transaction, definition)?.map_or(Ok(0), |t| t.len()).map_err(failed)?;
        self.rows.insert(definition.name().to_owned(), rows);
        Ok(())
    }
}

impl Writer {
    /// Carries out a declaration, as a start with that word would.
    pub(super) fn declare(&mut self, declaration: Declaration) {
        let Declaration { acceptance, random, audit, answer } = declaration;
        let outcome = self.accept(acceptance, &*random, &audit);
        if let Err(error) = &outcome {
            tracing::error!(%error, "the store could not be declared as restored");
        }
        // Whoever asked may be gone; the word stands.
        let _ = answer.send(outcome);
    }

    fn accept(&mut self, acceptance: Acceptance, random: &dyn Random, audit: &Draft) -> Result<(), StoreError> {
        let database = self.shared.database.load_full();
        let database = database.ok_or_else(|| StoreError::Failed("the store is being reopened".into()))?;
        let options = Options { acceptance, declared: true, ..self.options.clone() };
        let prepared = prepare(&database, &options, &*self.shared.clock, random, audit, &mut self.clerk);
        let Start { character, progress, standing } = prepared.map_err(|e| {
            // The word may be in the store and not with the witness: until it is given again, nothing is sure.
            self.clerk.chain = None;
            let Life { character, .. } = **self.shared.life.load();
            self.shared.life.store(Arc::new(Life { character, standing: Standing::NotWhole }));
            StoreError::Failed(e.to_string())
        })?;
        // Durable, and the witness has been told. Time in which nobody could be answered does not count.
        self.progress = progress;
        self.witness = self.options.witness.clone().filter(|_| standing == Standing::Whole).map(Witness::new);
        self.shared.start_serving_from(progress.served);
        self.shared.life.store(Arc::new(Life { character, standing }));
        // Followers of the log hear of it last: they find the new life there.
        self.shared.head.send_replace(head_of(&database)?);
        tracing::warn!(incarnation = character.incarnation, ?acceptance, "an operator has declared the store");
        Ok(())
    }
}
