//! Who users are: registering, logging in, tokens, profiles and devices, over the ports of `colloquy-storage`.
//!
//! No HTTP and no sockets here: the REST routes and the WebSocket ask the same services.
//!
//! | module | noun |
//! |---|---|
//! | [`contact`] | the form of phone numbers and email addresses |
//! | [`password`] | hashing and checking passwords, at a bounded rate |
//! | [`signing_key`] | the Ed25519 key that signs every token, and its file |
//! | [`access_token`] | short-lived JWTs that other services can verify |
//! | [`refresh_token`] | long-lived JWTs that only the log-in service reads |
//! | [`logins`] | log-ins: opening, refreshing, revoking |
//! | [`authenticate`] | from an access token to who is asking (AUTHZ) |
//! | [`registration`] | new accounts |
//! | [`profile`] | what an account says of its user |
//! | [`devices`] | devices and the keys they publish (E2EE) |
//! | [`signed_key`] | a public key with its device's signature |
//! | [`signed_event`] | an event with its device's signature |
//! | [`hooks`] | telling the open sockets that a log-in or a device is gone |
//! | [`agents`] | users who are programs |
//! | [`agent_profile`] | the form of what an agent says of itself |
//! | [`sink`] | where an agent's messages may be posted |
//! | [`admin_token`] | who may administer the installation |
//! | [`invalid_field`] | a value out of its documented bounds |

pub mod access_token;
pub mod admin_token;
pub mod agent_profile;
pub mod agents;
pub mod authenticate;
pub mod contact;
pub mod devices;
pub mod hooks;
pub mod invalid_field;
pub mod logins;
pub mod password;
pub mod profile;
pub mod refresh_token;
pub mod registration;
pub mod signed_event;
pub mod signed_key;
pub mod signing_key;
pub mod sink;

#[cfg(test)]
mod test_store;
