//! A message as a document, written and read by hand: every message that is sent or shown goes this way.

use std::sync::Arc;

use colloquy_protocol::envelope::Envelope;
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{StoreError, StoreResult};
use mongodb::bson::raw::{RawBinaryRef, RawBsonRef, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{RawDocument, RawDocumentBuf};
use uuid::Uuid;

use super::row::{Fields, date, malformed, number};

fn id(id: &Uuid) -> RawBinaryRef<'_> {
    RawBinaryRef { subtype: BinarySubtype::Uuid, bytes: id.as_bytes() }
}

/// The document of a message under `sequence_number`.
pub(in crate::mongo) fn write(message: &Message, sequence_number: u64) -> StoreResult<RawDocumentBuf> {
    let content = rmp_serde::to_vec(&message.content).map_err(StoreError::corrupt)?;
    let key = message.idempotency_key.uuid();
    let mut row = RawDocumentBuf::new();
    row.append(cstr!("_id"), id(&message.message_id.0));
    row.append(cstr!("conversation_id"), id(&message.conversation_id.0));
    row.append(cstr!("sequence_number"), number(sequence_number));
    row.append(cstr!("sender_id"), id(&message.sender_id.0));
    row.append(cstr!("sender_device_id"), message.sender_device_id.as_str());
    row.append(cstr!("receiver_id"), id(&message.receiver_id.0));
    row.append(cstr!("idempotency_key"), id(&key));
    row.append(cstr!("type"), name_of(message.r#type));
    row.append(cstr!("content"), RawBinaryRef { subtype: BinarySubtype::Generic, bytes: &content });
    if let Some(url) = &message.media_url {
        row.append(cstr!("media_url"), url.as_str());
    }
    if let Some(answered) = &message.reply_to_message_id {
        row.append(cstr!("reply_to_message_id"), id(&answered.0));
    }
    row.append(cstr!("timestamp"), RawBsonRef::DateTime(date(message.sent_at)));
    row.append(cstr!("created_at"), RawBsonRef::DateTime(date(message.created_at)));
    Ok(row)
}

/// Reads it back.
pub(in crate::mongo) fn read(row: &RawDocument) -> StoreResult<Arc<Message>> {
    let content = row.value("content")?.and_then(|value| value.as_binary());
    let content = content.ok_or_else(|| malformed("content"))?;
    let content: Envelope = rmp_serde::from_slice(content.bytes).map_err(|_| malformed("content"))?;
    Ok(Arc::new(Message {
        message_id: MessageId(row.uuid("_id")?),
        sequence_number: row.number("sequence_number")?,
        conversation_id: ConversationId(row.uuid("conversation_id")?),
        sender_id: UserId(row.uuid("sender_id")?),
        sender_device_id: DeviceId::new(row.text("sender_device_id")?)
            .map_err(|_| malformed("sender_device_id"))?,
        receiver_id: UserId(row.uuid("receiver_id")?),
        idempotency_key: IdempotencyKey::new(row.uuid("idempotency_key")?)
            .map_err(|_| malformed("idempotency_key"))?,
        r#type: message_type(row.text("type")?)?,
        content,
        media_url: row.optional_text("media_url")?.map(str::to_owned),
        reply_to_message_id: row.optional_uuid("reply_to_message_id")?.map(MessageId),
        sent_at: row.date("timestamp")?,
        created_at: row.date("created_at")?,
    }))
}

fn name_of(kind: MessageType) -> &'static str {
    match kind {
        MessageType::Text => "text",
        MessageType::Image => "image",
        MessageType::Video => "video",
        MessageType::Audio => "audio",
        MessageType::Document => "document",
        MessageType::Location => "location",
    }
}

fn message_type(name: &str) -> StoreResult<MessageType> {
    use MessageType::{Audio, Document, Image, Location, Text, Video};
    let mut all = [Text, Image, Video, Audio, Document, Location].into_iter();
    all.find(|kind| name_of(*kind) == name).ok_or_else(|| malformed("type"))
}
