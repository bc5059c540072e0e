//! The client: how an operation is run, repeated and given up.

use std::future::IntoFuture;
use std::time::Duration;

use colloquy_storage::ports::StoreResult;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, WriteConcernError, WriteError, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Cursor, Database};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{deadline_elapsed, is_transient, unavailable};
use super::log_ends::LogEnds;
use super::options::MongoOptions;
use super::{OpenError, error};

/// How long one operation may take, with everything that is repeated of it: a server that is frozen holds nobody up for
/// longer.
pub(in crate::mongo) const OPERATION_DEADLINE: Duration = Duration::from_secs(10);
/// How long the server waits for a majority to have what was written, before it says that it does not know: less than
/// the operation's own deadline, so that nothing waits on at a server whose majority is away.
pub(in crate::mongo) const MAJORITY_WITHIN: Duration = Duration::from_secs(9);
/// How often an operation is tried. Each try is two: the driver repeats what it may once, by itself.
const ATTEMPTS_MAX: u32 = 4;
/// An operation that has failed after this long is not tried again: whoever waits for it is told that the store is away.
pub(in crate::mongo) const REPEAT_WITHIN: Duration = Duration::from_secs(1);
/// Before the second try; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// Statements of one `update` command.
const STATEMENTS_MAX: usize = 1000;

/// What every adapter works on.
pub(in crate::mongo) struct Engine {
    pub(in crate::mongo) db: Database,
    pub(in crate::mongo) log_ends: LogEnds,
}

impl Engine {
    pub(in crate::mongo) async fn connect(options: &MongoOptions) -> Result<Self, OpenError> {
        Self::with_client(client_options(options).await?, options).await
    }

    pub(in crate::mongo) async fn with_client(
        client: ClientOptions,
        options: &MongoOptions,
    ) -> Result<Self, OpenError> {
        let client = Client::with_options(client).map_err(|error| unusable(&error))?;
        let engine = Self { db: client.database(&options.database), log_ends: LogEnds::default() };
        engine.ping().await?;
        Ok(engine)
    }

    pub(in crate::mongo) async fn ping(&self) -> StoreResult<()> {
        let pong = self.run(|| self.db.run_command(doc! { "ping": 1 })).await;
        pong.map(drop).map_err(|error| unavailable(&error))
    }

    pub(in crate::mongo) fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.db.collection(name)
    }

    /// Runs an operation that may be repeated, within [`OPERATION_DEADLINE`].
    pub(in crate::mongo) async fn run<T, A>(&self, operation: impl Fn() -> A + Send) -> Result<T, Error>
    where
        A: IntoFuture<Output = Result<T, Error>>,
        A::IntoFuture: Send,
    {
        self.run_within(OPERATION_DEADLINE, operation).await
    }

    /// [`Self::run`] for an operation that may take longer, or not as long.
    pub(in crate::mongo) async fn run_within<T, A>(
        &self,
        deadline: Duration,
        operation: impl Fn() -> A + Send,
    ) -> Result<T, Error>
    where
        A: IntoFuture<Output = Result<T, Error>>,
        A::IntoFuture: Send,
    {
        let started = Instant::now();
        let mut pause = PAUSE;
        for attempt in 1.. {
            let outcome = timeout_at(started + deadline, operation().into_future()).await;
            let error = match outcome {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(deadline_elapsed()),
            };
            if attempt >= ATTEMPTS_MAX || started.elapsed() >= REPEAT_WITHIN || !is_transient(&error) {
                return Err(error);
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(deadline_elapsed())
    }

    /// [`Self::run`] for an operation that no unique index is in the way of.
    pub(in crate::mongo) async fn ask<T, A>(&self, operation: impl Fn() -> A + Send) -> StoreResult<T>
    where
        A: IntoFuture<Output = Result<T, Error>>,
        A::IntoFuture: Send,
    {
        self.run(operation).await.map_err(|error| unavailable(&error))
    }

    /// Every document that `find` finds.
    pub(in crate::mongo) async fn all<'a>(
        &self,
        find: impl Fn() -> mongodb::action::Find<'a, RawDocumentBuf> + Send + Sync,
    ) -> StoreResult<Vec<RawDocumentBuf>> {
        let gather = || {
            let find = find();
            async move {
                let mut cursor = find.await?;
                gathered(&mut cursor).await
            }
        };
        self.ask(gather).await
    }

    /// Every document that an aggregation makes of a collection.
    pub(in crate::mongo) async fn all_of(
        &self,
        collection: &Collection<RawDocumentBuf>,
        stages: &[Document],
    ) -> StoreResult<Vec<RawDocumentBuf>> {
        let gather = || async {
            let mut cursor = collection.aggregate(stages.to_vec()).with_type::<RawDocumentBuf>().await?;
            gathered(&mut cursor).await
        };
        self.ask(gather).await
    }

    /// Runs many updates, in no order. Each may be repeated; one that meets another's upsert is.
    pub(in crate::mongo) async fn update_many(
        &self,
        collection: &str,
        statements: Vec<Document>,
        concern: Document,
    ) -> StoreResult<()> {
        for statements in statements.chunks(STATEMENTS_MAX) {
            let command = doc! {
                "update": collection,
                "updates": statements.to_vec(),
                "ordered": false,
                "writeConcern": concern.clone(),
            };
            // An upsert that meets another finds its document the second time.
            let mut outcome = self.update_once(&command).await;
            if outcome.as_ref().is_err_and(error::is_duplicate) {
                outcome = self.update_once(&command).await;
            }
            outcome.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }

    async fn update_once(&self, command: &Document) -> Result<(), Error> {
        let run = || async {
            let answer = self.db.run_command(command.clone()).await?;
            refusal(answer)
        };
        self.run(run).await
    }
}

/// Every document that a cursor leads to.
async fn gathered(cursor: &mut Cursor<RawDocumentBuf>) -> Result<Vec<RawDocumentBuf>, Error> {
    let mut rows = Vec::new();
    while cursor.advance().await? {
        rows.push(cursor.current().to_owned());
    }
    Ok(rows)
}

/// What an address says, and how the database is used, whatever it says. An address may have to be looked up.
pub(in crate::mongo) async fn client_options(options: &MongoOptions) -> Result<ClientOptions, OpenError> {
    let parsing = timeout(OPERATION_DEADLINE, ClientOptions::parse(&options.uri)).await;
    let parsed = parsing.unwrap_or_else(|_| Err(deadline_elapsed()));
    let mut client = parsed.map_err(|error| unusable(&error))?;
    client.app_name.get_or_insert_with(|| "colloquy".to_owned());
    client.max_pool_size = Some(options.pool_max);
    client.server_selection_timeout = Some(options.server_selection_timeout);
    client.connect_timeout = Some(options.connect_timeout);
    client.retry_reads = Some(true);
    client.retry_writes = Some(true);
    client.read_concern = Some(ReadConcern::majority());
    client.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true);
    client.write_concern = Some(concern.w_timeout(MAJORITY_WITHIN).build());
    Ok(client)
}

/// Why a database cannot be used at an address: it is none, or what stands behind it is not there.
fn unusable(error: &Error) -> OpenError {
    match *error.kind {
        ErrorKind::InvalidArgument { .. } => OpenError::Address,
        _ => OpenError::Unavailable(unavailable(error)),
    }
}

/// Written to the journals of a majority, as the client's own writes are.
pub(in crate::mongo) fn majority() -> Document {
    let within = i64::try_from(MAJORITY_WITHIN.as_millis()).unwrap_or(i64::MAX);
    doc! { "w": "majority", "j": true, "wtimeout": within }
}

/// What a command that succeeds as such says of the writes in it.
fn refusal(mut answer: Document) -> Result<(), Error> {
    let first = answer.remove("writeErrors").and_then(|errors| match errors {
        Bson::Array(errors) => errors.into_iter().next(),
        _ => None,
    });
    let failure = match (first, answer.remove("writeConcernError")) {
        (Some(Bson::Document(error)), _) => {
            mongodb::bson::deserialize_from_document::<WriteError>(error).map(WriteFailure::WriteError)
        }
        (_, Some(Bson::Document(error))) => {
            mongodb::bson::deserialize_from_document::<WriteConcernError>(error)
                .map(WriteFailure::WriteConcernError)
        }
        _ => return Ok(()),
    };
    match failure {
        Ok(failure) => Err(ErrorKind::Write(failure).into()),
        Err(error) => Err(error.into()),
    }
}
