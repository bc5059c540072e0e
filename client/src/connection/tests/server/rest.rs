//! What the server answers over REST.

use std::collections::BTreeMap;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, DeviceId, LoginId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Refresh, Register, Tokens, UserCard};
use colloquy_protocol::rest::conversations::{Conversation, ConversationKind, Conversations};
use colloquy_protocol::rest::devices::{
    ClaimKeys, ClaimedKey, ClaimedKeys, Device, DeviceList, KeyCount, PublishKeys, RegisterDevice,
};
use serde_json::json;

use super::{Registered, State, Stored, TOKENS_LAST_MS, is_participant};

const LIST_PAGE: usize = 2;

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

impl State {
    pub(super) fn rest(
        &mut self,
        method: &str,
        target: &str,
        bearer: Option<UserId>,
        body: &[u8],
    ) -> Result<serde_json::Value, ErrorCode> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let answer = match (method, &path[..]) {
            ("POST", ["v1", "accounts"]) => {
                let register: Register = read(body);
                let user = UserId(self.next_id());
                self.users.push((user, register.email.unwrap(), register.name));
                json!(self.tokens(user))
            }
            ("POST", ["v1", "logins"]) => {
                let email = read::<LogIn>(body).email.unwrap();
                let user = self.users.iter().find(|(_, known, _)| *known == email);
                let user = user.ok_or(ErrorCode::InvalidCredentials)?.0;
                json!(self.tokens(user))
            }
            ("POST", ["v1", "logins", "refresh"]) => {
                let refresh_token = read::<Refresh>(body).refresh_token;
                let (user, spent) = refresh_token.split_once('/').unwrap();
                let user = user.parse().unwrap();
                if spent != self.refreshes.to_string() {
                    return Err(ErrorCode::RefreshTokenReused);
                }
                self.refreshes += 1;
                json!(self.tokens(user))
            }
            ("DELETE", ["v1", "logins", "current"]) => json!({}),
            ("PUT", ["v1", "devices", device]) => {
                let body: RegisterDevice = read(body);
                let device_id = DeviceId::new(device).unwrap();
                let count = body.one_time_keys.len();
                let registered = Registered {
                    device: Device {
                        device_id: device_id.clone(),
                        platform: body.platform,
                        identity_key: body.identity_key,
                        signing_key: body.signing_key,
                        identity_signature: body.identity_signature,
                        registered_at: 1,
                    },
                    one_time_keys: body.one_time_keys,
                    fallback_key: body.fallback_key,
                };
                self.devices.entry(bearer.unwrap()).or_default().insert(device_id, registered);
                json!(KeyCount { one_time_key_count: count as u64 })
            }
            ("POST", ["v1", "devices", device, "keys"]) => {
                if let Some(left) = self.refused_keys.checked_sub(1) {
                    self.refused_keys = left;
                    return Err(ErrorCode::Busy);
                }
                let body: PublishKeys = read(body);
                let devices = self.devices.get_mut(&bearer.unwrap()).unwrap();
                let device = devices.get_mut(&DeviceId::new(device).unwrap()).unwrap();
                for key in body.one_time_keys {
                    if device.one_time_keys.iter().all(|known| known.key_id != key.key_id) {
                        device.one_time_keys.push(key);
                    }
                }
                device.fallback_key = body.fallback_key.unwrap_or(device.fallback_key.clone());
                json!(KeyCount { one_time_key_count: device.one_time_keys.len() as u64 })
            }
            ("GET", ["v1", "users"]) => {
                let email = query.strip_prefix("email=").unwrap().replace("%40", "@");
                let user = self.users.iter().find(|(_, known, _)| *known == email);
                let (user_id, _, name) = user.ok_or(ErrorCode::UnknownUser)?.clone();
                json!(UserCard { user_id, name, avatar_url: None })
            }
            ("GET", ["v1", "users", user, "devices"]) => {
                let user_id = user.parse().unwrap();
                self.devices_asked.push((bearer.unwrap(), user_id));
                let devices = self.devices.get(&user_id).ok_or(ErrorCode::UnknownUser)?;
                let devices: Vec<Device> = devices.values().map(|device| device.device.clone()).collect();
                json!(DeviceList { user_id, version: devices.len() as u64, devices, former: Vec::new() })
            }
            ("GET", ["v1", "conversations"]) => {
                let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
                json!(self.list(bearer.unwrap(), cursor.map_or(0, |cursor| cursor.parse().unwrap())))
            }
            ("POST", ["v1", "users", user, "keys", "claim"]) => {
                let devices = self.devices.get_mut(&user.parse().unwrap()).unwrap();
                let mut keys = Vec::new();
                for device_id in read::<ClaimKeys>(body).device_ids {
                    let Some(device) = devices.get_mut(&device_id) else { continue };
                    let key = device.one_time_keys.pop();
                    let fallback = key.is_none();
                    let key = key.unwrap_or_else(|| device.fallback_key.clone());
                    keys.push(ClaimedKey { device_id, key, fallback });
                }
                json!(ClaimedKeys { keys })
            }
            _ => return Err(ErrorCode::NotFound),
        };
        Ok(answer)
    }

    fn list(&mut self, own: UserId, skipped: usize) -> Conversations {
        self.lists += 1;
        let mut logs: Vec<_> =
            self.log.iter().filter(|(_, log)| log.iter().any(|stored| is_participant(stored, own))).collect();
        logs.sort_by_key(|(_, log)| std::cmp::Reverse(log.last().unwrap().id));
        let more = logs.len() > skipped + LIST_PAGE;
        let view = |(id, log): (&ConversationId, &Vec<Stored>)| {
            let (sender, receiver) = (log[0].sender.user_id, log[0].sent.payload.receiver_id);
            let other = if sender == own { receiver } else { sender };
            let mark = |marks: &BTreeMap<_, u64>, user| marks.get(&(user, *id)).copied().unwrap_or(0);
            Conversation {
                conversation_id: *id,
                r#type: ConversationKind::Pair,
                participants: vec![sender, receiver],
                last_sequence_number: log.len() as u64,
                last_message_at: Some(log.len() as u64),
                unread_count: 0,
                own_read_through: mark(&self.reads, own),
                read_through: mark(&self.reads, other),
                delivered_through: mark(&self.acks, other),
                created_at: 1,
                last_message: None,
                given_up: self.given_up.get(id).cloned().unwrap_or_default(),
            }
        };
        let conversations = logs.into_iter().skip(skipped).take(LIST_PAGE).map(view).collect();
        let next_cursor = more.then(|| (skipped + LIST_PAGE).to_string());
        Conversations { conversations, next_cursor }
    }

    fn tokens(&mut self, user_id: UserId) -> Tokens {
        Tokens {
            user_id,
            login_id: LoginId(self.next_id()),
            access_token: user_id.to_string(),
            access_token_expires_at: crate::ambient::Clock::System.now() + TOKENS_LAST_MS,
            refresh_token: format!("{user_id}/{}", self.refreshes),
        }
    }
}
