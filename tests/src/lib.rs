//! The harness of the black-box tests: it starts the real server and talks to it over real sockets.
//!
//! | module | noun |
//! |---|---|
//! | [`server`] | the server process: start, kill -9, restart, terminate, and its log |
//! | [`cluster`] | pods over one MongoDB and one Redis: killed, frozen, cut off, restarted |
//! | [`proxy`] | a TCP proxy that can be cut |
//! | [`options`] | the configuration a test's server runs with |
//! | [`secrets`] | what must never stand in a log (PRIVATE) |
//! | [`rest`] | the REST interface: accounts, devices, conversations, history |
//! | [`operator`] | whoever runs the server, at the command line |
//! | [`device`] | a registered device with real keys, and the envelopes it makes |
//! | [`raw_client`] | one WebSocket, frame by frame |
//! | [`courier`] | a client that sends much, loses its socket often, goes elsewhere, and resends by idempotency key |
//! | [`lane`] | which of its messages are on their way over one connection |
//! | [`ledger`] | what it has sent, been answered, been shown and holds |
//! | [`dialogue`] | two couriers that send each other so many messages |
//! | [`fleet`] | couriers in pairs over several pods, and whether they have got everything |
//! | [`checker`] | ORDER, ONCE and NOLOSS over a record of what was sent, acked and shown |
//! | [`account`] | what they have done and had to wait for, added up |
//! | [`forgery`] | access tokens that must not be believed |
//! | [`broker`] | passes events on as a broker does, and brings no token along |
//! | [`feed`] | whoever is told of all messages, and whether each came in its turn and stayed what it was |
//! | [`http_server`], [`manner`] | what sinks and brokers listen with, and how a sink answers |
//! | [`event`] | an event as it stands in a request |
//! | [`talk`] | somebody who writes to an agent whose messages the test reads and answers |
//! | [`pair`] | two registered people on a fresh server |
//! | [`metrics`] | the text a scrape gives |
//! | [`kosoku`] | Autobahn's WebSocket cases and their report |
//! | [`edges`], [`habits`] | what `tidy` holds: dependency directions and habits of the source |
//! | [`ambient`] | the wall clock and randomness, in one place |
//!
//! Nothing here waits by sleeping: a test waits for a frame, a line or an exit, and a deadline is a failure.

pub mod account;
pub mod agent;
pub mod ambient;
pub mod broker;
pub mod checker;
pub mod cloudevents;
pub mod cluster;
pub mod courier;
pub mod device;
pub mod dialogue;
pub mod edges;
pub mod event;
pub mod feed;
pub mod fleet;
pub mod forgery;
pub mod habits;
pub mod http_server;
pub mod kosoku;
pub mod lane;
pub mod ledger;
pub mod manner;
pub mod metrics;
pub mod operator;
pub mod options;
pub mod pair;
pub mod proxy;
pub mod raw_client;
pub mod rest;
pub mod sdk;
pub mod secrets;
pub mod server;
pub mod sidecar;
pub mod sink;
pub mod talk;

/// How long a test waits for something that must happen. Reaching it is a failure, never a way to pass time.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
