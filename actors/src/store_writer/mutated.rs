//! The append with the defect that it answers too early, when that is made.

use std::sync::Arc;

use colloquy_mutations::{self as mutations, Mutation};
use colloquy_storage::ports::message_log::{Append, Appended, Placed};
use colloquy_storage::ports::{MessageLog, StoreResult};

use crate::supervision::answered;

/// Appends; with [`Mutation::AckBeforeWrite`] it says that it has before it does.
pub(super) async fn append(log: &Arc<dyn MessageLog>, appends: Vec<Append>) -> StoreResult<Vec<Appended>> {
    if !mutations::is(Mutation::AckBeforeWrite) {
        return answered(log.append(appends)).await;
    }
    let answer = appends.iter().map(as_if_placed).collect();
    let log = Arc::clone(log);
    // As many at once as there are commits within the time that one takes.
    tokio::spawn(async move { answered(log.append(appends)).await });
    Ok(answer)
}

fn as_if_placed(append: &Append) -> Appended {
    let numbered = (append.after_sequence + 1..).zip(append.messages.clone());
    let placed = numbered.map(|(sequence_number, mut message)| {
        message.sequence_number = sequence_number;
        Placed::New(Arc::new(message))
    });
    Appended::Placed(placed.collect())
}
