//! A world: several pods with their clients in one process, on one thread and on virtual time. One seed, one run.
//!
//! What runs is the production code: the actor tree, the gateway, the bridges between pods, the embedded store, and the
//! client SDK with its encryption. Simulated are the clock, the randomness, the network, and a layer of faults over the
//! store and the bus.
//!
//! | file | noun |
//! |---|---|
//! | [`plan`] | what a seed stands for: sizes, delays and every fault, drawn before anything runs |
//! | [`time`], [`host`] | one time for all; processes that can be frozen and killed |
//! | [`network`], [`wires`] | connections that can be held up and cut, and how pods and devices use them |
//! | [`weather`], [`store`], [`bus`] | what goes wrong with calls to the store and the bus |
//! | [`pod`], [`people`] | the server on a host of its own; people with devices, who write to each other |
//! | [`agents`] | people that answer when it is their turn, and how they fail to |
//! | [`archive`] | whoever is told of every message, and how reliably |
//! | [`forgery`] | answers to turns by those whose turns they are not |
//! | [`operator`] | whoever has agents, and the archive, take once more what was given up |
//! | [`ills`] | what is broken now, and when it is made whole |
//! | [`course`] | the run: set-up, faults, healing, silence |
//! | [`stories`] | worlds that have found something, kept |
//! | [`strike`] | what each fault does, and how it is made whole |
//! | [`check`], [`evidence`], [`verdict`] | the invariants, over the full record |
//! | [`trace`] | the record's hash, and the notable part of it |

pub(crate) mod agents;
pub(crate) mod archive;
pub(crate) mod bus;
pub(crate) mod check;
pub(crate) mod course;
pub(crate) mod evidence;
pub(crate) mod forgery;
pub(crate) mod host;
pub(crate) mod ills;
pub(crate) mod network;
pub(crate) mod operator;
pub(crate) mod people;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod store;
pub(crate) mod stories;
pub(crate) mod strike;
pub(crate) mod time;
pub(crate) mod trace;
pub(crate) mod verdict;
pub(crate) mod weather;
pub(crate) mod wires;
