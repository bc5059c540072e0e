//! What was decided on requests for approval: of each the first verdict, on the devices of both sides.
//!
//! Kept as long as the messages are, one for each request that was decided.

use colloquy_protocol::ids::{DeviceAddress, MessageId};
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::messages::{MessageContent, MessageRecord};
use super::table::{RecordKey, Table};
use crate::crypto::{Body, Verdict};

/// The verdict that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The message that asked.
    pub request_id: MessageId,
    /// The message that said the verdict.
    pub message_id: MessageId,
    /// What was decided.
    pub verdict: Verdict,
    /// By whom, on which device.
    pub decided_by: DeviceAddress,
    /// The device's signature, unpadded base64.
    pub signature: String,
    /// The public key that it was checked with, unpadded base64: the device may have another one by now.
    pub signing_key: String,
    /// Did it come in time? Nothing before this device was first asked; only an agent's is. Whoever is told of it again
    /// judges it no second time.
    #[serde(default)]
    pub was_in_time: Option<bool>,
}

impl Transaction<'_> {
    fn decision_key(&self, request: MessageId) -> RecordKey {
        RecordKey::table(Table::Decisions).id(self.sealer(), request.0.as_bytes())
    }

    /// What was decided on a request.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn decision(&self, request: MessageId) -> Result<Option<DecisionRecord>, StoreError> {
        self.get(&self.decision_key(request))
    }

    /// What was decided on this message, if it is a request; or by it, if it is the verdict that counts.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn verdict_on(&self, message: &MessageRecord) -> Result<Option<Verdict>, StoreError> {
        match message.content {
            MessageContent::Known(Body::ApprovalRequest(_)) => {
                Ok(self.decision(message.message_id)?.map(|decision| decision.verdict))
            }
            MessageContent::Known(Body::Verdict(ref said)) => {
                let decision = self.decision(said.request_id)?;
                let counts = |decision: &DecisionRecord| decision.message_id == message.message_id;
                Ok(decision.filter(counts).map(|decision| decision.verdict))
            }
            _ => Ok(None),
        }
    }

    /// Stages a decision, or that it was judged. The first one stands: whoever stages another has looked for it.
    pub fn put_decision(&mut self, decision: &DecisionRecord) {
        let key = self.decision_key(decision.request_id);
        self.put(key, decision);
    }
}
