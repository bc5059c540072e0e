//! Keeping a connection good: keys, device lists, tokens, heartbeats, and noticing a server that is gone.

use colloquy_protocol::frame::client::{ClientFrame, Heartbeat, PresenceSubscribe, TokenRefresh};
use colloquy_protocol::limits::ONE_TIME_KEYS_LOW;
use colloquy_protocol::rest::conversations::Conversations;
use colloquy_protocol::rest::devices::{KeyCount, PublishKeys};

use super::credentials::CredentialError;
use super::dispatch;
use super::engine::{Ended, Engine};
use super::errand::{Done, Errand};
use super::live::{Link, sent};
use super::mending;
use super::resync::{self, Resync};
use super::sending::Answer;
use crate::store::{StoreError, Transaction};
use crate::sync::Need;

/// A server from which nothing came for this long beyond two heartbeats is gone, ms.
const SILENCE_GRACE_MS: u64 = 10_000;
/// After an errand that failed, its like waits this long, ms.
pub(super) const ERRAND_RETRY_MS: u64 = 2_000;
/// After keys were refused for good, they are offered again this late, ms.
const KEYS_REFUSED_MS: u64 = 60_000;
/// How often messages that could not be decrypted are looked through for those to be asked for, ms.
const REPAIRS_LOOK_MS: u64 = 60_000;
/// The fallback key is renewed this often, ms: thirty days.
const FALLBACK_KEY_LIFETIME_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Are keys being published?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publishing {
    /// No, and not before this time.
    NotBefore(u64),
    /// Yes. No others are made until the answer has come.
    UnderWay,
}

impl Engine {
    /// What the server must be told anew on each connection.
    pub(super) async fn greet(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.refill_keys()?;
        if !self.watched.is_empty() {
            let user_ids = self.watched.iter().copied().collect();
            sent(link.socket.feed(&ClientFrame::PresenceSubscribe(PresenceSubscribe { user_ids })).await)?;
        }
        let conversations = self.shared.store.read(|tx| tx.conversations())?;
        for conversation in conversations.iter().filter(|c| c.own_read_through > c.own_read_told) {
            self.tell_read(link, conversation.conversation_id).await?;
        }
        self.resync = Resync::begin(&conversations);
        self.read_on();
        sent(link.socket.flush().await)
    }

    /// Another version of the own device list means that another device came or went: it has to be read again. So
    /// does no list at all: without it, the next device that comes would pass for one that was always there.
    pub(super) async fn check_own_devices(&mut self, version: u64) -> Result<(), StoreError> {
        let own = self.own.user_id;
        match self.shared.store.read(|tx| tx.device_list(own))? {
            Some(list) if list.version == version && !list.stale => return Ok(()),
            Some(list) if !list.stale => {
                self.shared.store.update_off_thread(move |tx| tx.mark_device_list_stale(own)).await?;
            }
            _ => {}
        }
        self.errands.start(Errand::FetchDevices(own));
        Ok(())
    }

    /// Fetches the next page of the list of conversations, if one is needed.
    pub(super) fn read_on(&mut self) {
        let now = self.now();
        if let Some(cursor) = self.resync.as_ref().and_then(|resync| resync.due(now)) {
            self.errands.start(Errand::ListConversations(self.own.device_id.clone(), cursor));
        }
    }

    /// A page of the list of conversations has come, or has not.
    fn listed(
        &mut self,
        cursor: Option<&str>,
        outcome: Result<Conversations, CredentialError>,
    ) -> Result<(), Ended> {
        let may_come_later = !self.settled_errand(&outcome)?;
        match outcome {
            Ok(page) => {
                self.marks.extend(resync::marks(&page));
                self.given_up.extend(resync::given_up(&page));
                self.resync = self.resync.take().and_then(|resync| resync.answered(cursor, &page));
                self.read_on();
            }
            Err(_) if may_come_later => {
                let until = self.now() + ERRAND_RETRY_MS;
                self.resync.iter_mut().for_each(|resync| resync.rest(until));
            }
            Err(_) => self.resync = None,
        }
        Ok(())
    }

    /// An errand is done.
    pub(super) async fn done(&mut self, link: &mut Link, done: Done) -> Result<(), Ended> {
        let now = self.now();
        self.outbound.wake(Need::Room, now);
        match done {
            Done::Devices(user, outcome) => {
                let answered = self.settled_errand(&outcome)?;
                if let Ok(list) = outcome {
                    self.shared.learn_devices(list).await?;
                }
                if self.blocked_on == Some(user) {
                    self.blocked_on = None;
                    self.refetched = answered.then_some(user);
                    self.blocked_until = if answered { 0 } else { now + ERRAND_RETRY_MS };
                }
                self.fetched(Need::Devices(user), if answered { Answer::Given } else { Answer::None });
            }
            Done::Claimed(conversation, user, outcome) => {
                let mut answer = if self.settled_errand(&outcome)? { Answer::Given } else { Answer::None };
                if let Ok(claimed) = outcome {
                    let learn = move |tx: &mut Transaction<'_>| {
                        dispatch::learn_keys(tx, conversation, user, &claimed)
                    };
                    if !self.shared.store.update_off_thread(learn).await? {
                        answer = Answer::Untrusted;
                    }
                }
                self.fetched(Need::Keys(conversation, user), answer);
            }
            Done::Published(keys, outcome) => self.published(*keys, outcome).await?,
            Done::Listed(cursor, outcome) => self.listed(cursor.as_deref(), outcome)?,
            Done::Refreshed(Ok(fresh)) => {
                link.token.clone_from(&fresh.access_token);
                link.token_expires_at = fresh.access_token_expires_at;
                let refresh = TokenRefresh { auth_token: fresh.access_token };
                sent(link.socket.send(&ClientFrame::TokenRefresh(refresh)).await)?;
            }
            Done::Refreshed(Err(error)) => {
                link.refresh_not_before = now + ERRAND_RETRY_MS;
                self.settled_errand::<()>(&Err(error))?;
            }
        }
        Ok(())
    }

    /// Did the server answer, be it with a refusal for good? A lost log-in or a broken store ends the connection.
    fn settled_errand<T>(&mut self, outcome: &Result<T, CredentialError>) -> Result<bool, Ended> {
        match outcome {
            Ok(_) => Ok(true),
            Err(CredentialError::LoggedOut) => Err(Ended::Credentials(CredentialError::LoggedOut)),
            Err(CredentialError::Store(_)) => Err(Ended::Store(StoreError::Interrupted)),
            Err(CredentialError::Api(error)) => {
                tracing::debug!(%error, "an errand failed");
                Ok(!error.is_retryable())
            }
        }
    }

    /// Publishes more one-time keys when few are left, and a new fallback key when the last one is old.
    pub(super) fn refill_keys(&mut self) -> Result<(), Ended> {
        let is_due = matches!(self.publishing, Publishing::NotBefore(time) if self.now() >= time);
        if !is_due {
            return Ok(());
        }
        let left = usize::try_from(self.one_time_keys_left).unwrap_or(usize::MAX);
        let now = self.shared.clock.now();
        let is_old = |rotated_at: u64| now.saturating_sub(rotated_at) >= FALLBACK_KEY_LIFETIME_MS;
        let rotated_at =
            self.shared.store.read(|tx| tx.profile())?.map_or(now, |profile| profile.fallback_rotated_at);
        if left >= ONE_TIME_KEYS_LOW && !is_old(rotated_at) {
            return Ok(());
        }
        let keys = self.shared.store.update(|tx| {
            let mut account = tx.account()?.ok_or(StoreError::Damaged("the account is missing"))?;
            account.refill(left);
            if let Some(mut profile) = tx.profile()?
                && is_old(profile.fallback_rotated_at)
            {
                account.rotate_fallback_key();
                profile.fallback_rotated_at = now;
                tx.put_profile(&profile);
            }
            tx.put_account(&account);
            Ok::<_, StoreError>(account.unpublished())
        })?;
        if self.errands.start(Errand::PublishKeys(self.own.device_id.clone(), Box::new(keys))) {
            self.publishing = Publishing::UnderWay;
        } else {
            self.publishing = Publishing::NotBefore(self.now() + ERRAND_RETRY_MS);
        }
        Ok(())
    }

    async fn published(
        &mut self,
        keys: PublishKeys,
        outcome: Result<KeyCount, CredentialError>,
    ) -> Result<(), Ended> {
        let is_refused = self.settled_errand(&outcome)?;
        let pause = match outcome {
            Ok(count) => {
                self.one_time_keys_left = count.one_time_key_count;
                self.shared.store.update_off_thread(move |tx| mark_published(tx, &keys)).await?;
                ERRAND_RETRY_MS
            }
            Err(_) if is_refused => KEYS_REFUSED_MS,
            Err(_) => ERRAND_RETRY_MS,
        };
        self.publishing = Publishing::NotBefore(self.now() + pause);
        Ok(())
    }

    /// Asks for messages that could not be decrypted, where that is due.
    async fn ask_again(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = self.now();
        if now < link.repairs_looked_at_next {
            return Ok(());
        }
        link.repairs_looked_at_next = now + REPAIRS_LOOK_MS;
        let at = self.shared.clock.now();
        if !self.shared.store.read(|tx| mending::has_due(tx, at))? {
            return Ok(());
        }
        let asked = self.shared.store.update_off_thread(move |tx| mending::ask_again(tx, at)).await?;
        self.ingested(link, asked).await
    }

    /// Looks at the clock.
    pub(super) async fn tick(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = self.now();
        let silent = now.saturating_sub(link.heard_at);
        if silent > 2 * link.heartbeat_interval_ms + SILENCE_GRACE_MS
            || self.outbound.is_overdue(now)
            || self.inbound.is_stuck(now)
        {
            return Err(Ended::Unresponsive);
        }
        if now.saturating_sub(link.heartbeat_at) >= link.heartbeat_interval_ms {
            link.heartbeat_at = now;
            sent(
                link.socket
                    .send(&ClientFrame::Heartbeat(Heartbeat { timestamp: self.shared.clock.now() }))
                    .await,
            )?;
        }
        if let Some(user) = self.blocked_on {
            // Changes nothing while it runs; it may not have been started because too many others were running.
            self.errands.start(Errand::FetchDevices(user));
        }
        for event in self.streams.given_up(now) {
            self.shared.tell(event);
        }
        self.refill_keys()?;
        self.read_on();
        self.ask_again(link).await?;
        if now >= link.refresh_not_before && self.shared.credentials.is_due(link.token_expires_at) {
            self.errands.start(Errand::RefreshTokens(link.token.clone()));
        }
        Ok(())
    }
}

fn mark_published(tx: &mut Transaction<'_>, keys: &PublishKeys) -> Result<(), StoreError> {
    if let Some(mut account) = tx.account()? {
        account.mark_published(keys);
        tx.put_account(&account);
    }
    Ok(())
}
